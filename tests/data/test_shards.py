"""Shards come back exactly, and what is damaged or not ours is noticed before it is used."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axons.data.layers import IGNORE_INDEX
from axons.data.shards import POINTS_PER_CLASS, RecordData, ShardReader, draw_points, write_shard
from axons.data.storage import open_storage
from axons.data.tiles import Window
from axons.data.training_set import Record, Shard
from axons.errors import ChecksumMismatch, ObjectNotFound
from tests.drawing import freeze_disks


def record_data(height, width, channels=1, dtype=np.uint8):
    rng = np.random.default_rng(2)
    image = rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width))
    return RecordData(image=image, mask=mask, points=draw_points(mask, 3, rng=rng))


RECORDS = [record_data(1, 1), record_data(7, 90), record_data(40, 30, 3), record_data(33, 20, 1, np.uint16)]


@pytest.fixture
def reader(tmp_path):
    """Write records into one shard; a reader of it, and where each record is."""

    def write(records):
        _, training_set = freeze_disks(tmp_path)
        write_shard(tmp_path / "shard", records)
        shard = Shard(key="shard", sha256="unchecked", num_bytes=0)
        rows = [
            Record(
                image=0,
                shard=0,
                index=i,
                row0=0,
                col0=0,
                height=r.mask.shape[0],
                width=r.mask.shape[1],
                class_pixels=[0, 0, 0],
            )
            for i, r in enumerate(records)
        ]
        return ShardReader(open_storage(tmp_path), training_set.model_copy(update={"shards": [shard]})), rows

    return write


@pytest.mark.parametrize("index", range(len(RECORDS)))
def test_a_record_comes_back_exactly(reader, index):
    opened, rows = reader(RECORDS)
    image, mask = opened.read(rows[index])
    assert image.dtype == RECORDS[index].image.dtype
    assert np.array_equal(image, RECORDS[index].image)
    assert np.array_equal(mask, RECORDS[index].mask)
    assert np.array_equal(opened.points(rows[index]), RECORDS[index].points)


@pytest.mark.parametrize("window", [Window(0, 0, 40, 30), Window(3, 5, 10, 20), Window(39, 29, 1, 1)])
def test_a_crop_inside_a_record_is_cut_from_it(reader, window):
    opened, rows = reader(RECORDS)
    image, mask = opened.crop(rows[2], window)
    assert np.array_equal(image, RECORDS[2].image[window.slices])
    assert np.array_equal(mask, RECORDS[2].mask[window.slices])


@pytest.mark.parametrize("window", [Window(-5, -5, 50, 40), Window(30, 20, 18, 19), Window(-200, 3, 400, 10)])
def test_a_crop_that_reaches_beyond_is_reflected_there_and_not_learnt_from(reader, window):
    opened, rows = reader(RECORDS)
    image, mask = opened.crop(rows[2], window)
    inside = window.intersection(Window(0, 0, 40, 30)).seen_from(window)
    expected = np.full((window.height, window.width), IGNORE_INDEX, np.uint8)
    expected[inside.slices] = mask[inside.slices]
    assert image.shape == (window.height, window.width, 3)
    assert np.array_equal(mask, expected)
    reflected = np.pad(RECORDS[2].image, ((400, 400), (400, 400), (0, 0)), mode="symmetric")
    there = Window(window.row0 + 400, window.col0 + 400, window.height, window.width)
    assert np.array_equal(image, reflected[there.slices])


@given(seed=st.integers(0, 1000), height=st.integers(1, 60), width=st.integers(1, 60))
def test_points_lie_on_pixels_of_their_class(seed, height, width):
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width))
    points = draw_points(mask, 3, rng=rng)
    assert np.array_equal(mask[points[:, 1], points[:, 2]], points[:, 0])
    counted = np.bincount(mask.reshape(-1), minlength=256)[:3]
    assert np.bincount(points[:, 0], minlength=3).tolist() == np.minimum(counted, POINTS_PER_CLASS).tolist()


def test_a_mask_without_labels_has_no_points():
    unlabelled = np.full((5, 5), IGNORE_INDEX, np.uint8)
    assert draw_points(unlabelled, 3, rng=np.random.default_rng(0)).shape == (0, 3)


def test_the_same_seed_draws_the_same_points():
    mask = np.ones((100, 100), np.uint8)
    first, second = (draw_points(mask, 2, rng=np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.fixture
def frozen(tmp_path):
    uri, training_set = freeze_disks(tmp_path)
    return Path(uri, training_set.shards[0].key), ShardReader(open_storage(uri), training_set), training_set


def test_shards_that_were_frozen_pass_their_check(frozen):
    _, opened, _ = frozen
    opened.fetch()


@pytest.mark.parametrize("at", [0.0, 0.01, 0.5, 0.999])
def test_one_flipped_byte_anywhere_is_noticed(frozen, at):
    path, opened, _ = frozen
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChecksumMismatch, match="have another sha256 than was recorded; restore the file"):
        opened.fetch()


def test_a_shard_that_is_gone_is_noticed(frozen):
    path, opened, _ = frozen
    path.unlink()
    with pytest.raises(ObjectNotFound, match="shards/00000.safetensors"):
        opened.fetch()


def test_a_shard_that_was_damaged_in_a_bucket_is_noticed(tmp_path, s3_uri):
    _, training_set = freeze_disks(tmp_path, target_uri=s3_uri)
    storage = open_storage(s3_uri)
    key = training_set.shards[0].key
    storage.replace(key, storage.read(key)[:-1] + b"?")
    with pytest.raises(ChecksumMismatch, match="have another sha256 than was recorded"):
        ShardReader(storage, training_set).fetch()


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_shard_is_data_and_never_run(frozen, tmp_path):
    path, opened, training_set = frozen
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(ChecksumMismatch, match=r"shard 00000\.safetensors is not a safetensors file"):
        opened.read(training_set.records[0])
    assert not (tmp_path / "ran").exists()


def test_a_shard_is_a_header_of_json_and_plain_arrays(frozen):
    path, _, training_set = frozen
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    own = [record.index for record in training_set.records if record.shard == 0]
    assert set(header) - {"__metadata__"} == {f"{kind}.{i}" for kind in ("image", "mask", "points") for i in own}
    assert {header[name]["dtype"] for name in header} == {"U8", "I32"}
