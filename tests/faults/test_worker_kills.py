"""The process that trains is killed ten times in the middle of an epoch, on a whole platform (R8)."""

import random
import re
import time
from functools import partial

import pytest

from axons.client import Client
from axons.train.run import RunFolder
from tests.app.installation import Installation
from tests.faults.on_platform import add_training_set, replica
from tests.train.runs import kill, title, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

KILLS = 10  # as many failures as Ray Train forgives a run
EPOCHS = 2 * KILLS
CONFIG = {"epochs": EPOCHS, "crop": 64, "batch": 8, "encoder": "mobilenet_v2", "device": "cpu", "patience": 0}
FREE_S = 60


def test_ten_kills_in_the_middle_of_an_epoch_cost_an_epoch_each_and_nothing_else(
    up, administrator, tmp_path, record_property
):
    training_set = add_training_set(administrator, tmp_path)
    replica(up, "segmenter")  # its CPUs are taken before they are counted
    before = used_cpus(administrator)
    undisturbed = administrator.start_run(training_set, **CONFIG)
    administrator.wait_for(undisturbed["job_id"], timeout_s=600)
    run = administrator.start_run(training_set, **CONFIG)
    folder = RunFolder(str(up.data / f"storage/models/{run['id']}"))
    rng, repeated = random.Random(8), []
    for number in range(1, KILLS + 1):
        wait_until(partial(is_on, folder, number), timeout_s=240, what=f"a checkpoint of start {number}")
        time.sleep(rng.uniform(0.1, 0.9) * seconds_of_an_epoch(folder))
        kill_trainer(up)
        finished = len(folder.metrics().epochs)
        wait_until(partial(has_begun, folder, number + 1), timeout_s=240, what=f"start {number + 1}")
        repeated.append(finished - beginnings(folder)[-1])
    job = administrator.wait_for(run["job_id"], timeout_s=600)
    over = time.monotonic()
    wait_until(lambda: used_cpus(administrator) <= before, timeout_s=FREE_S, what="the CPUs are free again")
    record_property("kills", KILLS)
    record_property("epochs of the run", EPOCHS)
    record_property("whole epochs repeated", sum(repeated))
    record_property("after one kill", f"at most {max(repeated)}")
    record_property("mean IoU", round(mean_iou(administrator, run), 4))
    record_property("undisturbed", round(mean_iou(administrator, undisturbed), 4))
    record_property("CPUs free after", f"{time.monotonic() - over:.1f} s")
    assert job["attempt"] == 1
    assert max(repeated) <= 1
    assert [model["run_id"] for model in administrator.pages("models")].count(run["id"]) == 1
    epochs = administrator.get(f"runs/{run['id']}/metrics")["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, EPOCHS + 1))
    assert mean_iou(administrator, run) == pytest.approx(mean_iou(administrator, undisturbed), abs=0.02)


def used_cpus(administrator: Client) -> float:
    return sum(node["cpus"]["used"] for node in administrator.get("cluster/nodes")["nodes"])


def beginnings(folder: RunFolder) -> list[int]:
    """After which epoch each start of the training process has gone on, in order."""
    starts = folder.storage.list_objects("attempts/1/starts")
    return sorted(int(re.search(r"epoch-(\d+)-", stored.key)[1]) for stored in starts)


def has_begun(folder: RunFolder, starts: int) -> bool:
    return len(beginnings(folder)) == starts


def is_on(folder: RunFolder, starts: int) -> bool:
    """Whether it has been started so many times, and has since written a checkpoint."""
    kept = [
        re.search(r"/epoch-(\d+)-\d+/sha256\.json", stored.key)
        for stored in folder.storage.list_objects("attempts/1/ray")
    ]
    epochs = [int(found[1]) for found in kept if found]
    return has_begun(folder, starts) and max(epochs, default=0) > beginnings(folder)[-1]


def seconds_of_an_epoch(folder: RunFolder) -> float:
    """On average, of those told so far."""
    epochs = folder.metrics().epochs
    return epochs[-1].seconds / len(epochs)


def kill_trainer(up: Installation) -> None:
    workers = [process for process in up.processes() if "RayTrainWorker" in title(process)]
    assert workers
    for worker in workers:
        kill(worker)


def mean_iou(administrator: Client, run: dict) -> float:
    return float(administrator.get(f"runs/{run['id']}")["evaluation"]["splits"]["test"]["mean_iou"])
