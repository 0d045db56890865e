"""Imports go one way: errors <- data <- model <- train, serve <- report, demo <- app <- cli."""

import ast
from pathlib import Path

import pytest

import axons

PACKAGE = Path(axons.__file__).parent
# What each layer may import, besides itself.
BELOW = {
    "errors": set(),
    "data": {"errors"},
    "model": {"errors", "data"},
    "train": {"errors", "data", "model"},
    "serve": {"errors", "data", "model"},
    "report": {"errors", "data", "model", "train", "serve"},
    "report_pdf": {"errors", "train", "report"},
    "demo": {"errors", "data", "model", "train", "serve", "report"},
    "client": {"errors"},
    "app": {"errors", "data", "model", "train", "serve", "report", "report_pdf", "demo"},
    "cli": {"errors", "data", "model", "train", "serve", "report", "demo", "client", "app"},
    "__main__": {"cli"},
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def _layer(module: str) -> str:
    return module.split(".")[1] if "." in module else "version"


def _modules(path: Path, *, top_level_only: bool = False) -> set[str]:
    """What a module imports of ours."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            names.add(node.module or "")
    return {name for name in names if name.split(".")[0] == "axons"}


def _imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Layers that a module imports; `from axons import __version__` is no layer."""
    return {_layer(name) for name in _modules(path, top_level_only=top_level_only)} - {"version"}


def _layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_layer_and_those_below(path):
    layer = _layer_of(path)
    assert _imports(path) <= BELOW[layer] | {layer}


@pytest.mark.parametrize("path", [path for path in MODULES if _layer_of(path) != "cli"], ids=lambda path: path.name)
def test_no_import_of_ours_hides_in_a_function_to_escape_a_cycle(path):
    hidden = _imports(path) - _imports(path, top_level_only=True)
    assert hidden - {_layer_of(path)} == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda path: path.name)
def test_the_command_imports_nothing_but_errors_and_names_at_its_top(path):
    heavy = _modules(path, top_level_only=True) - {"axons.data.formats"}
    assert {_layer(name) for name in heavy} <= {"errors", "cli", "version"}


def test_the_formats_are_nothing_but_names():
    assert _modules(PACKAGE / "data" / "formats.py") == _modules(PACKAGE / "data" / "__init__.py") == set()


def test_errors_import_nothing():
    assert _imports(PACKAGE / "errors.py") == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_below_the_app_reads_the_environment(path):
    text = path.read_text()
    reads = "os.environ" in text or "os.getenv" in text
    # Encryption is said to every node as the keys are, which S3's own library reads.
    may_read = path.relative_to(PACKAGE).as_posix() in ("train/__main__.py", "data/encryption.py")
    assert not reads or _layer_of(path) in ("app", "cli") or may_read


FORBIDDEN = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_that_can_run_code_from_a_file_is_used(path):
    tree = ast.parse(path.read_text())
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not imported & FORBIDDEN
    assert not calls & {"eval", "exec", "torch.load", "torch.jit.load", "torch.export.load", "yaml.load", "os.system"}
