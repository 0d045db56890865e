"""Trainings as Ray jobs, for real: submitted once, followed to the model, cancelled in time."""

import json
import subprocess
import sys

import pytest

from axons import __version__

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What `ray_jobs` saw: one training to its end, a second that waited for it and was cancelled."""
    folder = tmp_path_factory.mktemp("ray-jobs") / "data"
    command = [sys.executable, "-W", "ignore", "-m", "tests.app.ray_jobs", str(folder)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    return json.loads((folder / "result.json").read_text())


def test_a_training_runs_as_a_ray_job_to_its_model(told):
    assert (told["state"], told["attempt"], told["models"]) == ("done", 1, 1), told["reason"]
    assert told["epochs"] == [1, 2]
    assert told["device"].startswith("CPU, ")


def test_the_states_come_in_their_order(told):
    order = ["preparing", "running", "validating", "done"]
    assert told["chain"] == [state for state in order if state in told["chain"]]


def test_a_second_training_waits_for_the_driver_place(told):
    assert told["waiting"] == "queued"


def test_what_is_submitted_twice_is_one_ray_job(told):
    assert told["ray_jobs"] == 2


@pytest.mark.long
def test_a_cancelled_training_ends_within_ten_seconds_and_frees_its_place(told, record_property):
    record_property("cancelled after s", round(told["cancel_s"], 1))
    record_property("place free after s", round(told["freed_s"], 1))
    assert told["cancelled"] == "cancelled"
    assert told["cancel_s"] < 10
    assert told["freed_s"] < 30


def test_the_report_opens_offline_and_says_where_everything_comes_from(told):
    report = told["report"]
    assert "attachment" in told["report_headers"]["content-disposition"]
    assert told["run_id"] in report
    assert told["set_sha256"][:12] in report
    assert __version__ in report
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert "https://" not in report


def test_the_evaluation_has_every_score_and_the_speed(told):
    evaluation = told["evaluation"]
    assert [found["name"] for found in evaluation["classes"]] == ["background", "ring", "core"]
    assert all(set(found) >= {"iou", "dice", "precision", "recall"} for found in evaluation["classes"])
    assert sum(map(sum, evaluation["confusion"])) == 96 * 96
    assert evaluation["pixel_accuracy"] + evaluation["error_rate"] == pytest.approx(1)
    assert evaluation["ms_per_tile"] > 0
    assert evaluation["images_per_minute"] > 0
    assert {"truth", "prediction", "difference"} <= set(evaluation["worst"][0])


def test_the_model_is_registered_with_its_origin(told):
    origin = told["model"]["card"]["origin"]
    assert (origin["run"], origin["training_set_sha256"]) == (told["run_id"], told["set_sha256"])
    assert told["model"]["mean_iou"] == told["evaluation"]["mean_iou"]


def test_nothing_temporary_is_left_and_nothing_is_pickled(told):
    assert [key for key in told["left"] if told["run_id"] in key or key.startswith("tmp/")] == []
    assert not [key for key in told["keys"] if key.endswith((".pt", ".pth", ".pkl", ".bin"))]


def test_the_entry_point_holds_nothing_but_the_address_of_the_run(told):
    assert told["entrypoint"].split()[1:3] == ["-m", "axons.train"]
    assert set(told["metadata"]) >= {"user", "project", "run"}
