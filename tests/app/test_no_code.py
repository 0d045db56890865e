"""Nothing that people send is ever run: hostile names, settings and models (R5)."""

import ast
import io
import os
import pickle
import subprocess
import zipfile
from pathlib import Path

import pytest

import axons
from axons.app.jobs.ray_work import submit_line
from axons.app.jobs.train import run_request
from axons.app.tables import Run
from axons.train.config import TrainConfig
from tests.app.images import add_images, add_project, run_job
from tests.app.trainings import add_training_set
from tests.app.uploads import send

TEXTS = [
    "$(touch TRIPWIRE)",
    "`touch TRIPWIRE`",
    "; touch TRIPWIRE #",
    "| touch TRIPWIRE",
    "&& touch TRIPWIRE",
    "'; touch TRIPWIRE; '",
    '"; touch TRIPWIRE; "',
    "${IFS}touch${IFS}TRIPWIRE",
    "-exec touch TRIPWIRE ;",
    "--config=TRIPWIRE",
    "{{ cycler.__init__.__globals__.os.system('touch TRIPWIRE') }}",
    "{% import os %}{{ os.system('touch TRIPWIRE') }}",
    "${__import__('os').system('touch TRIPWIRE')}",
    "{0.__class__.__mro__}",
    "%(touch TRIPWIRE)s",
    "__import__('os').system('touch TRIPWIRE')",
    "!!python/object/apply:os.system ['touch TRIPWIRE']",
    "@py:os.system('touch TRIPWIRE')",
    "file://TRIPWIRE",
    "../../TRIPWIRE",
]
SETTINGS = ["architecture", "encoder", "init_model", "device"]


class Bomb:
    """Unpickling it makes the tripwire."""

    def __init__(self, tripwire: Path) -> None:
        self._tripwire = tripwire

    def __reduce__(self):
        return os.mkdir, (str(self._tripwire),)


@pytest.fixture
def tripwire(tmp_path, monkeypatch) -> Path:
    """Where a file lies if something was run; the working folder is that of nobody else."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "TRIPWIRE"


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


def test_the_tripwire_would_tell(tripwire):
    pickle.loads(pickle.dumps(Bomb(tripwire)))  # noqa: S301
    assert tripwire.exists()


def test_no_hostile_name_is_run(platform, ana, client, project, tripwire, tmp_path):
    row = add_training_set(platform, project, tmp_path)
    [image] = add_images(platform, ana, project, tmp_path)
    for text in TEXTS:
        client.patch(f"/v1/projects/{project.id}", json={"name": text, "description": text})
        client.post(f"/v1/projects/{project.id}/classes", json={"name": text})
        client.patch(f"/v1/images/{image.id}", json={"name": text, "group": text})
        client.post("/v1/auth/tokens", json={"name": text})
        run = client.post("/v1/runs", json={"training_set_id": row.id, "name": text, "prepare": True})
        assert run.status_code == 202, run.text
        subprocess.run(f": {run.json()['submit']}", shell=True, check=True)  # noqa: S602
    job = client.post(f"/v1/projects/{project.id}/export", json={"format": "coco"}).json()
    run_job(platform, job["id"])
    assert not tripwire.exists()


def test_a_submitted_run_holds_a_hostile_name_as_data_only(platform, client, project, tripwire, tmp_path):
    row = add_training_set(platform, project, tmp_path)
    form = {"training_set_id": row.id, "name": TEXTS[0], "prepare": True}
    run_id = client.post("/v1/runs", json=form).json()["id"]
    request = platform.database.read(lambda session: run_request(session, platform, session.get_one(Run, run_id)))
    assert request.name == TEXTS[0]
    assert "touch" not in submit_line("job-1", platform.uri(f"models/{run_id}"))


@pytest.mark.parametrize("name", SETTINGS)
def test_no_hostile_setting_gets_as_far_as_a_job(platform, client, project, tripwire, tmp_path, name):
    row = add_training_set(platform, project, tmp_path)
    forms = [{"training_set_id": row.id, "config": {name: text}} for text in TEXTS]
    assert {client.post("/v1/runs", json=form).status_code for form in forms} <= {404, 422}
    assert not tripwire.exists()
    assert TrainConfig.model_fields.keys() >= {*SETTINGS}


def zipped(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


def models(tripwire: Path) -> list[bytes]:
    """What passes for a model elsewhere, and runs code there."""
    bombs = [pickle.dumps(Bomb(tripwire), protocol=protocol) for protocol in range(6)]
    script = f"import os; os.mkdir({str(tripwire)!r})".encode()
    return [
        *bombs,
        *(zipped("archive/data.pkl", bomb) for bomb in bombs),  # as torch.save
        zipped("code/__torch__.py", script),
        zipped("../axons/model.py", script),
        script,
        b"#!/bin/sh\ntouch TRIPWIRE\n",
        b"\x7fELF" + bytes(100),
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        f"!!python/object/apply:os.mkdir [{tripwire}]".encode(),
        header(b'{"__metadata__": {"code": "' + script.replace(b"'", b"") + b'"}}'),
        header(b'{"a": {"dtype": "' + script.replace(b"'", b"") + b'", "shape": [1], "data_offsets": [0, 1]}}') + b"0",
        header(b'{"a": {"dtype": "F32", "shape": [9999999999, 9999999999], "data_offsets": [0, 4]}}') + bytes(4),
        (1 << 63).to_bytes(8, "little") + b"{}",
        b"",
    ]


def test_no_hostile_model_is_run_or_taken(platform, client, project, tripwire, record_property):
    form = {
        "project_id": project.id,
        "name": "brought",
        "architecture": "unet",
        "encoder": "resnet18",
        "classes": [{"name": "bg", "colour": "#000000"}, {"name": "axon", "colour": "#ff0000"}],
    }
    statuses = []
    found = [model for model in models(tripwire) if model]
    for model in found:
        upload = send(client, model, name="model.safetensors", purpose="model")
        statuses.append(client.post("/v1/models:import", json={**form, "upload_id": upload}).status_code)
    record_property("hostile names, settings and models", len(TEXTS) + len(SETTINGS) * len(TEXTS) + len(found))
    assert set(statuses) == {422}
    assert not tripwire.exists()
    assert client.get("/v1/models").json()["items"] == []


FORBIDDEN_IMPORTS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "code", "runpy"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "torch.load",
    "torch.jit.load",
    "torch.export.load",
    "yaml.load",
    "yaml.unsafe_load",
    "pickle.loads",
}


@pytest.mark.parametrize("path", sorted(Path(axons.__file__).parent.rglob("*.py")), ids=lambda path: path.name)
def test_no_module_of_ours_has_the_means_to_run_what_it_reads(path):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    imported = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {(node.module or "").split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    assert imported & FORBIDDEN_IMPORTS == set()
    assert {ast.unparse(call.func) for call in calls} & FORBIDDEN_CALLS == set()
    words = {ast.unparse(word) for call in calls for word in call.keywords if word.arg}
    assert words & {"shell=True", "allow_pickle=True"} == set()
