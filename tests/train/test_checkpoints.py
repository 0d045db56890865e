import hashlib
import json

import pytest

from axons.data.storage import open_storage
from axons.train.checkpoints import newest_checkpoint


def _write_checkpoint(run, name: str, *, weights: bytes = b"weights") -> str:
    """A checkpoint as `save_checkpoint` writes it, with contents of a few bytes."""
    folder = run.at(f"attempts/{name}")
    files = {"weights.safetensors": weights, "optimiser.safetensors": b"moments", "state.json": b"{}"}
    for key, content in files.items():
        folder.write(key, content)
    folder.write("sha256.json", json.dumps({k: hashlib.sha256(v).hexdigest() for k, v in files.items()}).encode())
    return f"attempts/{name}"


@pytest.fixture
def run(tmp_path):
    return open_storage(str(tmp_path / "run"))


def _newest(run, tmp_path):
    (tmp_path / "scratch").mkdir()
    return newest_checkpoint(run, tmp_path / "scratch")


def test_a_run_without_a_checkpoint_has_none(run, tmp_path):
    assert _newest(run, tmp_path) is None


@pytest.mark.parametrize(
    "names",
    [
        ["1/ray/epoch-00002-100", "1/ray/epoch-00003-100"],
        ["1/ray/epoch-00002-100", "2/ray/epoch-00003-50"],
        ["2/ray/epoch-00002-100", "1/ray/epoch-00003-100"],
    ],
)
def test_the_checkpoint_of_the_latest_epoch_is_taken_whatever_attempt_wrote_it(run, tmp_path, names):
    for name in names:
        _write_checkpoint(run, name)
    _write_checkpoint(run, "1/ray/epoch-00001-100")
    assert "epoch-00003" in _newest(run, tmp_path).name


def _tear(run, checkpoint):
    run.delete_prefix(f"{checkpoint}/optimiser.safetensors")


def _leave_no_hashes(run, checkpoint):
    run.delete_prefix(f"{checkpoint}/sha256.json")


def _flip_a_byte(run, checkpoint):
    run.replace(f"{checkpoint}/weights.safetensors", b"weightt")


def _spoil_the_hashes(run, checkpoint):
    run.replace(f"{checkpoint}/sha256.json", b'{"weights.safetensors": ')


def _list_too_little(run, checkpoint):
    run.replace(f"{checkpoint}/sha256.json", b"{}")


@pytest.mark.parametrize("damage", [_tear, _leave_no_hashes, _flip_a_byte, _spoil_the_hashes, _list_too_little])
def test_a_torn_or_damaged_checkpoint_is_passed_over_for_the_one_before_it(run, tmp_path, damage):
    _write_checkpoint(run, "1/ray/epoch-00002-100", weights=b"earlier")
    damage(run, _write_checkpoint(run, "1/ray/epoch-00003-100"))
    found = _newest(run, tmp_path)
    assert (found / "weights.safetensors").read_bytes() == b"earlier"


@pytest.mark.parametrize("damage", [_tear, _leave_no_hashes, _flip_a_byte])
def test_with_no_whole_checkpoint_training_begins_anew(run, tmp_path, damage):
    damage(run, _write_checkpoint(run, "1/ray/epoch-00001-100"))
    assert _newest(run, tmp_path) is None
    assert not list((tmp_path / "scratch").iterdir())
