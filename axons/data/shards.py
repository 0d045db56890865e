"""Shards: safetensors files of records, written once, memory-mapped on the node that trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from axons.data.layers import IGNORE_INDEX
from axons.data.storage import Storage
from axons.data.tiles import Window
from axons.data.training_set import Record, TrainingSet
from axons.errors import ChecksumMismatch

POINTS_PER_CLASS = 512


@dataclass(frozen=True, kw_only=True)
class RecordData:
    """A record's arrays.

    Args:
        image: (H, W, C) in the data's own depth.
        mask: (H, W) uint8 of class indices and `IGNORE_INDEX`.
        points: (P, 3) int32 of class index, row, column: labelled pixels drawn at random, up to 512 of each class.
    """

    image: np.ndarray
    mask: np.ndarray
    points: np.ndarray


def write_shard(path: Path, records: Sequence[RecordData]) -> None:
    """Write the records to a file, in their order."""
    tensors = {}
    for index, record in enumerate(records):
        tensors[f"image.{index}"] = np.ascontiguousarray(record.image)
        tensors[f"mask.{index}"] = np.ascontiguousarray(record.mask)
        tensors[f"points.{index}"] = record.points
    save_file(tensors, path)


def draw_points(mask: np.ndarray, num_classes: int, *, rng: np.random.Generator) -> np.ndarray:
    """Labelled pixels of an (H, W) mask, up to `POINTS_PER_CLASS` of each class: (P, 3) int32 of class, row, column."""
    found = []
    for class_index in range(num_classes):
        pixels = np.flatnonzero(mask == class_index)
        if len(pixels) > POINTS_PER_CLASS:
            pixels = pixels[rng.integers(0, len(pixels), POINTS_PER_CLASS)]
        rows, cols = np.divmod(pixels, mask.shape[1])
        found.append(np.column_stack([np.full(len(pixels), class_index), rows, cols]))
    return np.concatenate(found).astype(np.int32)


class ShardReader:
    """The records of a training set, through the node's cache."""

    def __init__(self, storage: Storage, training_set: TrainingSet) -> None:
        self._storage = storage
        self._training_set = training_set

    def fetch(self) -> None:
        """Bring every shard to this node and check its sha256.

        Raises:
            ChecksumMismatch: a shard is not the one that was frozen.
        """
        for shard in self._training_set.shards:
            self._storage.local_path(shard.key, sha256=shard.sha256)

    def points(self, record: Record) -> np.ndarray:
        """See `RecordData.points`."""
        return self._tensor(record, "points")[:]

    def read(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, C) and mask (H, W) of a whole record."""
        return self._tensor(record, "image")[:], self._tensor(record, "mask")[:]

    def crop(self, record: Record, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Image and mask of a window that may reach beyond the record: reflected there, and `IGNORE_INDEX`."""
        inside = window.intersection(Window(0, 0, record.height, record.width))
        assert inside is not None
        rows, cols = inside.slices
        image, mask = self._tensor(record, "image")[rows, cols], self._tensor(record, "mask")[rows, cols]
        if inside == window:
            return image, mask
        above, left = inside.row0 - window.row0, inside.col0 - window.col0
        margins = ((above, window.height - inside.height - above), (left, window.width - inside.width - left))
        return np.pad(image, (*margins, (0, 0)), mode="symmetric"), np.pad(mask, margins, constant_values=IGNORE_INDEX)

    def _tensor(self, record: Record, name: str) -> Any:
        path = self._storage.local_path(self._training_set.shards[record.shard].key)
        return _opened(path).get_slice(f"{name}.{record.index}")


@lru_cache(maxsize=256)
def _opened(path: Path) -> Any:
    """A memory-mapped shard; mapping it again for every crop would cost more than the crop."""
    try:
        return safe_open(path, framework="numpy")
    except Exception as error:  # safetensors raises its own type, which it does not export from one stable place
        raise ChecksumMismatch(
            f"shard {path.name} is not a safetensors file ({error}); restore the training set"
        ) from error
