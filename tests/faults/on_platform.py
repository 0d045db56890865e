"""What the tests need that break `axons up`: people, a training set, and its processes by their names."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from axons.app import local_ray
from axons.client import Client
from tests.app.browser import PASSWORD
from tests.app.images import png
from tests.app.installation import Installation, install
from tests.drawing import CLASSES, draw_disks
from tests.train.runs import title

NUM_IMAGES = 4
SIZE = 128


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
    with httpx.Client(base_url=f"{url}/api/v1/auth/", headers={"Origin": url}, timeout=60) as http:
        first = account["password"]
        http.post("login", json={"name": name, "password": first}).raise_for_status()
        http.post("password", json={"current": first, "new": PASSWORD}).raise_for_status()
        return str(http.post("tokens", json={"name": "tests"}).raise_for_status().json()["token"])


def draw_pictures(folder: Path) -> list[Path]:
    """Images of disks as PNG."""
    return [_written(folder / f"{n}.png", draw_disks(SIZE, SIZE, seed=n).image) for n in range(NUM_IMAGES)]


def add_project(teacher: Client, folder: Path) -> str:
    """A project with labelled images of disks; its id."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    project_id = str(teacher.create_project("Disks", [found.name for found in CLASSES], tile=SIZE)["id"])
    teacher.wait_for(teacher.import_images(project_id, draw_pictures(folder / "images"))["id"], timeout_s=120)
    masks = [_written(folder / f"masks/{n}.png", draw_disks(SIZE, SIZE, seed=n).mask) for n in range(NUM_IMAGES)]
    teacher.wait_for(teacher.import_annotations(project_id, masks, kind="png")["id"], timeout_s=120)
    return project_id


def add_training_set(teacher: Client, project_id: str) -> str:
    """A frozen set of the project's labels; its id."""
    training_set, job = teacher.freeze(project_id, fractions=[0.5, 0.25, 0.25])
    teacher.wait_for(job["id"], timeout_s=120)
    return str(training_set["id"])


def replica(up: Installation, application: str, *, timeout_s: float = 60) -> psutil.Process:
    """The process of an application's one replica, which may be just about to start."""
    until = time.monotonic() + timeout_s
    while True:
        for process in up.processes():
            if f"ServeReplica:{application}" in title(process):
                return process
        assert time.monotonic() < until, f"no replica of {application!r} within {timeout_s} s"
        time.sleep(0.2)


def _written(path: Path, pixels) -> Path:
    path.write_bytes(png(pixels))
    return path
