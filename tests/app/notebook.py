"""Running a notebook's cells as Jupyter does, without Jupyter: it would bring forty packages for these lines."""

import ast
import json
from pathlib import Path
from typing import Any

from PIL import Image


def run_notebook(path: Path) -> list[Any]:
    """Run the code cells in their order, in one namespace; what each of them shows, None where that is nothing."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = json.loads(path.read_text())["cells"]
    return [_run(cell, f"{path.name}, cell {n}", names) for n, cell in enumerate(cells) if cell["cell_type"] == "code"]


def _run(cell: dict[str, Any], where: str, names: dict[str, Any]) -> Any:
    lines = ast.parse("".join(cell["source"]), where)
    last = lines.body.pop() if isinstance(lines.body[-1], ast.Expr) else None
    exec(compile(lines, where, "exec"), names)  # noqa: S102 (our own)
    shown = eval(compile(ast.Expression(last.value), where, "eval"), names) if last else None  # noqa: S307 (our own)
    if isinstance(shown, Image.Image):
        shown.load()  # drawn at once: a later cell may write its file anew
    return shown
