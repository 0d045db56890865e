"""`axons up` for the rows that measure the platform: started, filled, looked at, and stopped again."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from axons.app import local_ray
from axons.client import Client
from tests.app.installation import Installation, install

REPLICA, PROXY = "ray::ServeReplica:axons", "ray::ProxyActor"


@contextmanager
def running(**settings: str) -> Iterator[Installation]:
    """The platform with these settings in its environment, ready, without the sample project."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Not below the row's own folder: Ray's sockets lie deep, and a socket's path has at most 107 bytes.
        installation = install(Path(folder), TMPDIR="/tmp", **settings)
        try:
            installation.start("--no-sample")
            yield installation
        finally:
            installation.stop()
            shutil.rmtree(Path("/tmp", local_ray.session_folder(installation.data).name), ignore_errors=True)


def process_of(installation: Installation, title: str) -> psutil.Process:
    """The process of the platform whose title begins so."""
    assert installation.process is not None
    everything = psutil.Process(installation.process.pid).children(recursive=True)
    return next(process for process in everything if "".join(process.cmdline()).startswith(title))


def pss(process: psutil.Process) -> int:
    """Bytes: the fair share of its resident pages."""
    return int(process.memory_full_info().pss)


def write_pictures(folder: Path, pictures: Sequence[np.ndarray]) -> list[Path]:
    """Arrays as numbered PNG files."""
    folder.mkdir(parents=True)
    files = [folder / f"{number}.png" for number in range(len(pictures))]
    for file, picture in zip(files, pictures, strict=True):
        Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture).save(file)
    return files


def project_with(client: Client, files: Sequence[Path], *, classes: Sequence[str], tile: int = 256) -> str:
    """A project with these images imported; its id."""
    project_id = str(client.create_project("Nerve", classes, tile=tile)["id"])
    client.wait_for(client.import_images(project_id, files)["id"])
    return project_id


def percentile(seconds: Sequence[float], share: float) -> float:
    """Milliseconds below which this share of the answers came."""
    return float(np.quantile(seconds, share)) * 1000
