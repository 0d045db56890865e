"""Figures for Prometheus, read from the ports on which Ray tells them."""

import json
import logging
import shutil
import time

import httpx
import numpy as np
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from axons.app import local_ray as own_ray
from axons.app import metrics
from axons.app.jobs.dispatcher import Dispatcher
from axons.app.services.runs import RunCreate, start_run
from axons.app.tables import Job
from axons.errors import RequestFailed
from axons.train.config import TrainConfig
from axons.train.run import RunFolder, Status
from tests.app.images import document_of, png
from tests.app.installation import install
from tests.app.trainings import ThreadCluster, add_project, add_training_set, settle
from tests.drawing import draw_disks

CARD = "Tesla V100S-PCIE-32GB"
PATIENCE_S = 120
LOGIN = {"name": "nobody", "password": "wrong"}


class Scraped(dict[str, list[tuple[dict[str, str], float]]]):
    """Samples by name, each with its labels and its value."""

    @classmethod
    def of(cls, addresses: list[str]) -> "Scraped":
        found = cls()
        for address in addresses:
            try:
                text = httpx.get(f"http://{address}/metrics").text
            except httpx.TransportError:  # the next scrape will tell
                continue
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        return sum(value for told, value in self.get(name, []) if labels.items() <= told.items())


def wait_for(look, is_there):
    """What is scraped once it is there; Ray tells it with a delay."""
    until = time.monotonic() + PATIENCE_S
    while not is_there(scraped := look()):
        assert time.monotonic() < until, {name: scraped[name] for name in scraped if "axons" in name}
        time.sleep(0.3)
    return scraped


def test_a_figure_that_cannot_be_told_is_logged_and_fails_nothing(platform, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("axons"), "propagate", True)
    metrics.count_tiles("import", "many")
    monkeypatch.setattr(platform.database, "read", None)
    metrics.measure(platform)
    assert [record.message for record in caplog.records] == ["a figure could not be told"] * 2


def test_counting_costs_microseconds(record_property):
    began = time.perf_counter()
    for _ in range(10_000):
        metrics.count_save(0.02)
    spent_us = (time.perf_counter() - began) * 100
    record_property("microseconds a figure", round(spent_us, 1))
    assert spent_us < 200


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    installation = install(tmp_path_factory.mktemp("metrics"), RAY_metrics_report_interval_ms="1000")
    installation.start("--no-sample")
    yield installation
    installation.stop()
    shutil.rmtree(own_ray.session_folder(installation.data), ignore_errors=True)


@pytest.fixture(scope="module")
def num_bytes(up):
    """Of the storage, after an import, two saves, one stale save and three wrong passwords."""
    picture = up.data.parent / "a.png"
    picture.write_bytes(png(draw_disks(200, 300, channels=3).image))
    with up.client() as client:
        project = client.create_project("nerve", ["background", "axon"], tile=128)
        client.wait_for(client.import_images(project["id"], [picture])["id"])
        tile = client.get(f"projects/{project['id']}/tiles")["items"][0]
        labels = document_of(np.zeros((tile["height"], tile["width"]), np.uint8))
        for base in (0, 1):
            client.annotate(tile["id"], labels, base=base)
        with pytest.raises(RequestFailed, match="somebody has saved since"):
            client.annotate(tile["id"], labels, base=0)
        for _ in range(3):
            assert httpx.post(f"{up.url}/api/v1/auth/login", json=LOGIN, timeout=60).status_code == 401
        return client.get("cluster/storage")["num_bytes"]


@pytest.fixture(scope="module")
def told(up, num_bytes):
    """What Prometheus reads afterwards, where Ray sends it."""
    token = (up.data / own_ray.TOKEN_FILE).read_text()

    def scrape() -> Scraped:
        found_by = f"{up.told['dashboard']}/api/prometheus/sd"
        (nodes,) = httpx.get(found_by, headers={"Authorization": f"Bearer {token}"}, timeout=30).json()
        return Scraped.of(nodes["targets"])

    return wait_for(
        scrape,
        lambda told: (
            told.total("ray_axons_jobs", kind="import", state="done") == 1
            and told.total("ray_axons_storage_bytes") == num_bytes
            and told.total("ray_axons_sign_in_failures_total") == 3
            and told.total("ray_axons_save_seconds_count") == 2
            and told.total("ray_serve_num_http_requests_total", status_code="412") == 1
        ),
    )


@pytest.mark.slow
def test_a_platform_tells_what_it_has_done(told, num_bytes):
    assert told.total("ray_axons_jobs", kind="import") == 1
    assert told.total("ray_axons_tiles_total", kind="import") == 6
    assert told.total("ray_axons_queue_wait_seconds_count", kind="import") == 1
    assert told.total("ray_axons_queue_wait_seconds_bucket", kind="import", le="60.0") == 1
    assert told.total("ray_axons_save_seconds_bucket", le="10.0") == 2
    assert told.total("ray_axons_storage_bytes") == num_bytes > 0
    assert told.total("ray_axons_free_bytes") > 0
    assert told.total("ray_serve_num_http_requests_total", status_code="401") == 3


@pytest.mark.slow
def test_labels_are_few_and_name_nobody(told):
    ours = {name: samples for name, samples in told.items() if name.startswith("ray_axons_")}
    labels = {label for samples in ours.values() for labels, _ in samples for label in labels}
    assert {label for label in labels if label.islower() and not label.startswith("otel_")} == {"kind", "state", "le"}
    assert len(ours["ray_axons_jobs"]) == 8 * 7


@pytest.mark.slow
@pytest.mark.usefixtures("told")
def test_what_serve_writes_down_is_json_line_by_line(up):
    folder = own_ray.session_folder(up.data) / "ray/session_latest/logs/serve"
    files = [*folder.glob("replica_axons_*.log"), *folder.glob("proxy_*.log"), *folder.glob("controller_*.log")]
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    saves = [line for line in lines if line.get("method") == "PUT" or "PUT" in line["message"]]
    assert len({line["request_id"] for line in saves}) == 4  # a part of the upload, two saves and one that is stale


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_the_seconds_of_a_gpu_count_for_the_account_that_trains(platform, ana, tmp_path):
    def train(run_uri: str) -> None:
        folder = RunFolder(run_uri)
        status = Status(state="running", attempt=folder.begin_attempt(), seconds=40, device=CARD, num_workers=2)
        folder.write_status(status)
        time.sleep(0.5)
        folder.write_status(status.model_copy(update={"state": "failed", "seconds": 120.0, "reason": "no more"}))

    row = add_training_set(platform, add_project(platform, ana), tmp_path)
    run = start_run(platform, ana, RunCreate(training_set_id=row.id, config=TrainConfig(device="cpu", crop=32)))
    settle(
        Dispatcher(platform, ThreadCluster(train=train)),
        lambda: platform.database.read(lambda session: session.get_one(Job, run.job_id)).finished_at,
    )
    (node,) = ray.nodes()
    address = f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
    told = wait_for(
        lambda: Scraped.of([address]),
        lambda told: told.total("ray_axons_gpu_seconds_total", user=ana.user_id) == pytest.approx(120 * 2 * 0.75),
    )
    assert ana.name not in {value for labels, _ in told["ray_axons_gpu_seconds_total"] for value in labels.values()}
