"""The platform on several nodes of one machine, as `make several` starts it: behind Caddy, on PostgreSQL and S3."""

import re
import shlex
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from axons.client import Client
from tests.app import postgres
from tests.app.browser import PASSWORD
from tests.app.images import png
from tests.browser.annotating import Annotator
from tests.browser.chromium import running_chromium
from tests.browser.conftest import Pages
from tests.cluster.several import HEAD, V100S, Node, Several, running_several
from tests.conftest import free_port
from tests.drawing import CLASSES, draw_disks
from tests.train.runs import wait_until

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not installed"),
    pytest.mark.skipif(not postgres.is_installed(), reason="PostgreSQL is not installed"),
]

SIZE = 128
PATIENCE_S = 600  # of a crowded machine
soon = partial(wait_until, timeout_s=PATIENCE_S, every_s=1)  # each look costs the platform something
TINY = {"crop": 32, "batch": 4, "encoder": "mobilenet_v2"}


@pytest.fixture(scope="module")
def several() -> Iterator[Several]:
    """A head and a CPU worker; machines with a V100S come when a test asks for them."""
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


@pytest.fixture(scope="module")
def training_set_id(client, tmp_path_factory) -> str:
    """A frozen set of labelled images."""
    return import_tile_and_freeze(client, tmp_path_factory.mktemp("disks"), count=12)


@pytest.fixture(scope="module")
def v100s(several) -> Callable[[int], set[str]]:
    """Lets at least so many machines with a V100S run; tells Ray's ids of all of them."""

    def run(count: int) -> set[str]:
        while len(v100s_nodes(several)) < count:
            several.add_node(f"v100s-{len(several.nodes)}", v100s=1)
        return {id_of(several, node) for node in v100s_nodes(several)}

    return run


def v100s_nodes(several: Several) -> list[Node]:
    """Those that run."""
    return [node for node in several.nodes.values() if node.name.startswith("v100s") and node.process.poll() is None]


def id_of(several: Several, node: Node) -> str:
    return several.alive()[node.address]


def cpu_nodes(several: Several) -> set[str]:
    """Ray's ids of the nodes without a V100S."""
    return {id_of(several, several.nodes[name]) for name in (HEAD, "cpu-1")}


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


def import_tile_and_freeze(client: Client, folder: Path, *, count: int) -> str:
    """Each to its end, in a project of its own; returns the id of the training set."""
    project_id = client.create_project(folder.name, [found.name for found in CLASSES], tile=SIZE)["id"]
    images, masks = write_pictures(folder, count)
    client.wait_for(client.import_images(project_id, images)["id"], timeout_s=PATIENCE_S)
    client.wait_for(client.import_annotations(project_id, masks, kind="png")["id"], timeout_s=PATIENCE_S)
    client.wait_for(client.create(f"projects/{project_id}/tilings", {"tile": 64})["id"], timeout_s=PATIENCE_S)
    training_set, job = client.freeze(project_id, fractions=[0.5, 0.25, 0.25])
    client.wait_for(job["id"], timeout_s=PATIENCE_S)
    return str(training_set["id"])


def data_tasks(several: Several) -> dict[str, dict[str, Any]]:
    """The tasks of Ray Data so far, by their ids."""
    return {task["task_id"]: task for task in several.ask_ray("tasks") if "_call" in (task["name"] or "")}


def training_nodes(several: Several) -> set[str]:
    """Ray's ids of the nodes on which training processes live."""
    actors = several.ask_ray("actors", filter_keys="state", filter_predicates="=", filter_values="ALIVE")
    return {actor["node_id"] for actor in actors if "RayTrainWorker" in actor["class_name"]}


def run_of(client: Client, run: dict[str, Any]) -> dict[str, Any]:
    """The run as it is now."""
    found: dict[str, Any] = client.get(f"runs/{run['id']}")
    return found


def epochs_of(client: Client, run: dict[str, Any]) -> list[int]:
    return [row["epoch"] for row in client.get(f"runs/{run['id']}/metrics")["epochs"]]


def finished(client: Client, run: dict[str, Any]) -> dict[str, Any]:
    """The run's model, once it is done."""
    client.wait_for(run["job_id"], timeout_s=PATIENCE_S)
    found: dict[str, Any] = client.get(f"models/{run_of(client, run)['model_id']}")
    return found


def test_import_tiling_and_freezing_run_on_both_cpu_nodes_and_ask_for_nothing_else(several, client, tmp_path):
    import_tile_and_freeze(client, tmp_path / "stages", count=24)
    tasks = data_tasks(several).values()
    asked = {name for task in tasks for name in task["required_resources"] or {}}
    assert {task["node_id"] for task in tasks} == cpu_nodes(several)
    assert asked <= {"CPU", "memory"}


def test_a_machine_with_a_v100s_offers_ray_that_and_no_cpu(several, v100s):
    nodes = v100s(1)
    totals = [row["resources_total"] for row in several.ask_ray("nodes") if row["node_id"] in nodes]
    assert [total.get(V100S) for total in totals] == [1] * len(nodes)
    assert all("CPU" not in total for total in totals)


def test_a_training_runs_on_the_v100s_while_import_tiling_and_freezing_run_on_the_cpu_nodes(
    several, client, training_set_id, v100s, tmp_path
):
    nodes = v100s(1)
    run = client.start_run(training_set_id, epochs=10_000, patience=0, **TINY)
    soon(lambda: bool(epochs_of(client, run)), what="the first epoch is learnt")
    before, learnt = data_tasks(several), len(epochs_of(client, run))
    import_tile_and_freeze(client, tmp_path / "beside", count=12)
    tasks = [task for task_id, task in data_tasks(several).items() if task_id not in before]
    assert training_nodes(several) <= nodes
    assert {task["node_id"] for task in tasks} == cpu_nodes(several)
    soon(lambda: len(epochs_of(client, run)) > learnt, what="it has learnt meanwhile")
    client.act(f"runs/{run['id']}/stop")
    assert finished(client, run)["run_id"] == run["id"]


def test_a_run_whose_node_dies_in_the_middle_of_an_epoch_goes_on_elsewhere_and_misses_no_epoch(
    several, client, training_set_id, v100s, record_property
):
    v100s(2)
    run = client.start_run(training_set_id, epochs=4, **TINY)

    def is_in_an_epoch() -> bool:
        learnt = client.get(f"runs/{run['id']}/metrics")["epochs"]
        return bool(learnt) and run_of(client, run)["status"]["step"] > learnt[-1]["step"]

    soon(is_in_an_epoch, what="an epoch is learnt and the next one has begun")
    known = epochs_of(client, run)
    [place] = training_nodes(several)
    [victim] = [node for node in v100s_nodes(several) if id_of(several, node) == place]
    victim.kill()
    killed = time.monotonic()
    soon(lambda: training_nodes(several) - {place}, what="it goes on elsewhere")
    record_property("elsewhere after s", round(time.monotonic() - killed, 1))
    soon(lambda: len(epochs_of(client, run)) > len(known), what="one more epoch is learnt")
    record_property("next epoch after s", round(time.monotonic() - killed, 1))
    model = finished(client, run)
    assert epochs_of(client, run) == [1, 2, 3, 4]
    assert model["mean_iou"] > 0.3


def test_a_run_that_is_submitted_from_outside_appears_with_its_curve(several, client, training_set_id, v100s, tmp_path):
    v100s(1)
    run = client.start_run(training_set_id, prepare=True, epochs=2, **TINY)
    outside = {
        "PATH": several.environment["PATH"],
        "HOME": str(tmp_path),
        "RAY_API_SERVER_ADDRESS": several.dashboard_url,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": several.ray_token,
    }
    done = subprocess.run(shlex.split(run["submit"]), env=outside, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    model = finished(client, run)
    assert epochs_of(client, run) == [1, 2]
    assert model["card"]["origin"]["run"] == run["id"]


def test_two_workers_on_two_nodes_learn_as_well_as_one(several, client, training_set_id, v100s, record_property):
    nodes = v100s(2)
    how = {**TINY, "epochs": 12, "crop": 64, "batch": 16}  # half of it is still enough for a normalisation by batch
    alone = finished(client, client.start_run(training_set_id, **how))
    run = client.start_run(training_set_id, num_workers=2, **how)
    soon(lambda: len(training_nodes(several)) == 2, what="two nodes have a worker")
    assert training_nodes(several) <= nodes
    together = finished(client, run)
    record_property("mean IoU of one worker", round(alone["mean_iou"], 3))
    record_property("mean IoU of two workers", round(together["mean_iou"], 3))
    assert run_of(client, run)["status"]["num_workers"] == 2
    assert together["mean_iou"] == pytest.approx(alone["mean_iou"], abs=0.02)


@pytest.fixture
def pages(several) -> Iterator[Pages]:
    """Opens pages, in which nothing may go wrong."""
    with running_chromium() as chromium:
        pages = Pages(chromium, several.url, lambda context, actor: None)
        yield pages
        pages.close()
    assert pages.foreign == []
    assert pages.errors == []


def sign_in(pages: Pages, client: Client) -> Page:
    """The administrator's browser."""
    client.act("auth/password", {"new": PASSWORD})
    page = pages(ignore_https_errors=True)  # Caddy's own authority, which `client` does check
    page.goto("/login")
    page.get_by_label("Name", exact=True).fill(client.get("auth/me")["user"]["name"])
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    return page


def opened(page: Page, screen: str, project_id: str) -> None:
    page.goto(f"/{screen}?project={project_id}")
    page.locator("axons-screen[data-ready]").wait_for()


def test_the_loop_passes_by_https_in_a_browser(client, v100s, pages, tmp_path):
    v100s(1)
    images, masks = write_pictures(tmp_path / "loop", 6)
    long_ms = PATIENCE_S * 1000

    page = sign_in(pages, client)
    page.get_by_role("button", name="New project").click()
    page.get_by_label("Name", exact=True).fill("loop")
    page.get_by_label("Classes to find").fill("ring, core")
    page.get_by_role("button", name="Create the project").click()
    page.wait_for_url("**/images?project=*")
    page.locator("axons-screen[data-ready]").wait_for()
    project_id = re.search("project=([^&]+)", page.url)[1]
    page.get_by_label("Images or ZIP files").set_input_files(images)
    expect(page.get_by_text("6 images were imported.")).to_be_visible(timeout=long_ms)

    opened(page, "annotate", project_id)
    page.get_by_role("link", name="Annotate the next tile").click()
    annotator = Annotator.in_frame(page)
    annotator.keys("2")
    annotator.drag((40, 30), (40, 90))
    assert annotator.saved()["counts"]["2"] > 0

    opened(page, "annotate", project_id)
    page.get_by_role("button", name="Label files").click()
    page.get_by_label("Files, or a ZIP of them").set_input_files(masks)
    page.get_by_label("Leave tiles alone that have labels").check()
    page.get_by_role("button", name="Import the labels").click()
    expect(page.get_by_text("labels of 5 tiles imported")).to_be_visible(timeout=long_ms)

    opened(page, "dataset", project_id)
    page.get_by_role("button", name="Freeze version").click()
    page.get_by_role("link", name="Train with it").click(timeout=long_ms)
    page.locator("axons-screen[data-ready]").wait_for()
    page.get_by_text("Advanced settings").click()
    for name, value in {**TINY, "epochs": 2}.items():
        page.locator(f"[name={name}]").fill(str(value))
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**run=*")
    curve = page.get_by_role("slider", name="Loss: values along Epoch")
    expect(curve).to_have_attribute("aria-valuemax", "2", timeout=long_ms)
    page.get_by_role("link", name="See the results").click(timeout=long_ms)
    expect(page.get_by_text("Mean IoU").first).to_be_visible(timeout=long_ms)

    opened(page, "predict", project_id)
    page.get_by_label("New images: drop").set_input_files(images[0])
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("heading", name="0.png")).to_be_visible(timeout=long_ms)
    pixels = page.locator("table.numbers td:nth-child(2)").all_inner_texts()
    assert sum(int(text.replace(",", "")) for text in pixels) == SIZE * SIZE
