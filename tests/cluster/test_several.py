"""The platform on several nodes of one machine, as `make several` starts it: behind Caddy, on PostgreSQL and S3."""

import shutil
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from axons.client import Client
from tests.app import postgres
from tests.app.images import png
from tests.cluster.several import Several, running_several
from tests.conftest import free_port
from tests.drawing import CLASSES, draw_disks

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not installed"),
    pytest.mark.skipif(not postgres.is_installed(), reason="PostgreSQL is not installed"),
]

SIZE = 128
PATIENCE_S = 240


@pytest.fixture(scope="module")
def several() -> Iterator[Several]:
    """A head and a CPU worker, and no machine with a V100S."""
    folder = Path(tempfile.mkdtemp(prefix="several-", dir="/tmp"))
    with running_several(folder, port=free_port(), v100s_workers=0) as several:
        yield several
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def client(several) -> Iterator[Client]:
    """The administrator's, by HTTPS, with the certificate checked."""
    trust = ssl.create_default_context(cafile=several.authority)
    with Client(several.url, transport=httpx.HTTPTransport(verify=trust)) as stranger:
        token = stranger.act("auth/code", {"code": several.told["code"], "token_name": "tests"})["token"]
    with Client(several.url, token, transport=httpx.HTTPTransport(verify=trust)) as client:
        yield client


def write_pictures(folder: Path, count: int) -> tuple[list[Path], list[Path]]:
    """Files of images and of their masks."""
    drawn = [draw_disks(SIZE, SIZE, seed=number) for number in range(count)]
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    images, masks = ([folder / kind / f"{n}.png" for n in range(count)] for kind in ("images", "masks"))
    for image, mask, drawing in zip(images, masks, drawn, strict=True):
        image.write_bytes(png(drawing.image))
        mask.write_bytes(png(drawing.mask))
    return images, masks


def import_tile_and_freeze(client: Client, folder: Path, *, count: int) -> None:
    """Each to its end, in a project of its own."""
    project_id = client.create_project(folder.name, [found.name for found in CLASSES], tile=SIZE)["id"]
    images, masks = write_pictures(folder, count)
    client.wait_for(client.import_images(project_id, images)["id"], timeout_s=PATIENCE_S)
    client.wait_for(client.import_annotations(project_id, masks, kind="png")["id"], timeout_s=PATIENCE_S)
    client.wait_for(client.create(f"projects/{project_id}/tilings", {"tile": 64})["id"], timeout_s=PATIENCE_S)
    client.wait_for(client.freeze(project_id, fractions=[0.5, 0.25, 0.25])[1]["id"], timeout_s=PATIENCE_S)


def data_tasks(several: Several) -> list[dict[str, Any]]:
    """The tasks of Ray Data so far."""
    return [task for task in several.ask_ray("tasks") if "_call" in (task["name"] or "")]


def test_import_tiling_and_freezing_run_on_both_cpu_nodes_and_ask_for_nothing_else(several, client, tmp_path):
    import_tile_and_freeze(client, tmp_path / "stages", count=24)
    tasks = data_tasks(several)
    asked = {name for task in tasks for name in task["required_resources"] or {}}
    assert {task["node_id"] for task in tasks} == set(several.alive().values())
    assert asked <= {"CPU", "memory"}
