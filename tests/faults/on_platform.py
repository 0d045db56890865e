"""What the tests need that break `axons up`: people, a training set, a model, and its processes by their names."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from axons.app import local_ray
from axons.client import Client
from axons.model.files import CARD, WEIGHTS
from tests.app.images import mask_of, png
from tests.app.installation import Installation, first_sign_in, install
from tests.drawing import CLASSES
from tests.faults.annotators import draw_files, new_project
from tests.train.runs import title

NUM_IMAGES = 4


@contextmanager
def running_platform(folder: Path, **settings: str) -> Iterator[Installation]:
    """A platform without the sample project, ready; ended with all that belongs to it."""
    installation = install(folder, **settings)
    try:
        installation.start("--no-sample")
        yield installation
    finally:
        assert installation.process is not None
        if installation.process.poll() is None:
            installation.stop()
        session = local_ray.session_folder(installation.data)
        local_ray.end_leftovers(session)
        shutil.rmtree(session, ignore_errors=True)


def add_person(url: str, teacher: Client, name: str) -> str:
    """An account with the password of the tests; returns a personal token."""
    [account] = teacher.create("users/import", {"users": [{"name": name}]})
    return first_sign_in(url, account)


def add_training_set(client: Client, folder: Path) -> str:
    """A frozen set of `NUM_IMAGES` drawn and labelled images, in a project of its own; its id."""
    files = draw_files(folder / "images", [f"{number}.png" for number in range(NUM_IMAGES)])
    project_id, _ = new_project(client, files)
    (folder / "masks").mkdir()
    masks = [folder / "masks" / file.name for file in files]
    for number, mask in enumerate(masks):
        mask.write_bytes(png(mask_of(number)))
    client.wait_for(client.import_annotations(project_id, masks, kind="png")["id"], timeout_s=120)
    training_set, job = client.freeze(project_id, fractions=[0.5, 0.25, 0.25])
    client.wait_for(job["id"], timeout_s=120)
    return str(training_set["id"])


def import_model(client: Client, folder: Path, project_id: str, *, name: str = "disks") -> dict[str, Any]:
    """A model of a folder, in a project."""
    upload_id = client.upload(folder / WEIGHTS, purpose="model")
    card = json.loads((folder / CARD).read_text())
    form = {"upload_id": upload_id, "project_id": project_id, "name": name, "card": card}
    made: dict[str, Any] = client.create("models:import", form)
    return made


def share_model(client: Client, folder: Path, name: str) -> str:
    """A small model of a folder that everybody may use, in a project of its own; returns its name."""
    project_id = client.create_project(name.title(), [found.name for found in CLASSES])["id"]
    made = import_model(client, folder, project_id, name=name)
    client.create(f"models/{made['id']}/share", {"visibility": "everyone"})
    return str(made["name"])


def replica(up: Installation, application: str, *, timeout_s: float = 60) -> psutil.Process:
    """The process of an application's one replica, which may be just about to start."""
    until = time.monotonic() + timeout_s
    while True:
        for process in up.processes():
            if f"ServeReplica:{application}" in title(process):
                return process
        assert time.monotonic() < until, f"no replica of {application!r} within {timeout_s} s"
        time.sleep(0.2)
