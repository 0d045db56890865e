"""A second node takes its share of import, tiling and freezing, and changes nothing in what they make."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What two_nodes.py tells, from a process of its own: this one may be connected to another Ray."""
    folder = tmp_path_factory.mktemp("nodes")
    done = subprocess.run(
        [sys.executable, "-m", "tests.data.two_nodes", str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "answer.json").read_text())


@pytest.mark.parametrize("stage", ["import", "tile", "freeze"])
def test_the_work_of_a_stage_runs_on_both_nodes(answers, stage):
    assert (answers["one"]["nodes"][stage], answers["two"]["nodes"][stage]) == (1, 2)


def test_a_second_node_changes_no_row(answers):
    assert answers["two"]["rows"] == answers["one"]["rows"]


def test_a_second_node_changes_no_file(answers):
    assert answers["two"]["files"] == answers["one"]["files"]
    assert len(answers["one"]["files"]) > 2 * 10


def test_a_second_node_freezes_the_same_training_set(answers):
    assert answers["two"]["training_set"] == answers["one"]["training_set"]
