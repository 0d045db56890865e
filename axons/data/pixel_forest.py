"""A random forest that learns the classes of pixels from a few strokes, before there is any network (as in ilastik).

Source of the idea: Berg et al., Nature Methods 16, 2019, doi:10.1038/s41592-019-0582-9.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from axons.data.images import WorkingImage
from axons.data.layers import MAX_CLASS_INDEX, UNLABELLED, unpack
from axons.data.node_cache import NodeCache
from axons.data.rows import Row
from axons.data.storage import default_cache, local_file
from axons.data.tiles import Window

_VERSION = 1  # of the features, in the cache
_SIGMAS = (1.0, 8.0)  # px, and the powers of two between them
_MARGIN = 36  # px: the widest Gaussian, cut off at four sigmas, and its derivatives
_MAX_PIXELS = 6_000  # that a forest learns from
_MAX_OF_OTHERS = 3_000
_TREES = 40
_MAX_DEPTH = 12
_ROWS_AT_ONCE = 1 << 16
_SMALLEST_STD = 1 / 255  # a blank image must not become amplified noise


class StrokedTile(Row):
    """A tile with labels.

    Args:
        mean, std: of the whole image, per channel, 0 to 1 of the data type's range.
        labels: packed, see `axons.data.layers.pack`.
    """

    working_uri: str
    row0: int
    col0: int
    height: int
    width: int
    mean: list[float]
    std: list[float]
    labels: bytes

    @property
    def window(self) -> Window:
        """Where it lies in the image."""
        return Window(self.row0, self.col0, self.height, self.width)


class ForestRequest(Row):
    """A tile to fill, and others of as many channels whose labels help; two classes are labelled in all of them."""

    tile: StrokedTile
    others: list[StrokedTile] = []


@dataclass(frozen=True, kw_only=True)
class ForestAnswer:
    """What a forest makes of a tile.

    Args:
        values: (H, W) uint8; where the tile has labels, these.
        confidence: (H, W) uint8, share of the trees' votes, 255 for certain.
    """

    values: np.ndarray
    confidence: np.ndarray


def fill_by_forest(request: ForestRequest, *, cache: NodeCache | None = None) -> ForestAnswer:
    """Learn from the labels of the tile, and of the others, and predict what the tile has no labels for.

    The same request has the same answer. Features are computed once for each tile and node.
    """
    cache = cache or default_cache()
    labels = unpack(request.tile.labels).plane()
    features = _cached_features(request.tile, cache)
    learnt, classes = _examples(request, labels, features, cache)
    from sklearn.ensemble import RandomForestClassifier  # seconds: whoever only asks for a forest does without

    forest = RandomForestClassifier(_TREES, max_depth=_MAX_DEPTH, min_samples_leaf=2, random_state=0, n_jobs=1)
    forest.fit(learnt, classes)
    values, confidence = labels.copy(), np.full(labels.shape, 255, np.uint8)
    is_open = labels == UNLABELLED
    answers = list(_predict(forest, features[is_open]))
    if answers:
        values[is_open] = np.concatenate([found for found, _ in answers])
        confidence[is_open] = np.concatenate([votes for _, votes in answers])
    return ForestAnswer(values=values, confidence=confidence)


def pixel_features(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Intensity, gradient and the eigenvalues of the Hessian at several scales, channel by channel.

    Args:
        pixels: (H, W, C) uint8 or uint16, at least 2 px on each side.
        mean, std: per channel, 0 to 1 of the data type's range.
    Returns:
        (H, W, F) float16; F is 16 for each channel.
    """
    from skimage.feature import multiscale_basic_features  # as above

    scaled = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    scaled = (scaled - np.asarray(mean, np.float32)) / np.maximum(np.asarray(std, np.float32), _SMALLEST_STD)
    low, high = _SIGMAS
    channels = (
        multiscale_basic_features(scaled[..., c], sigma_min=low, sigma_max=high, workers=1).astype(np.float16)
        for c in range(scaled.shape[2])
    )
    return np.concatenate(list(channels), axis=2)


def _cached_features(tile: StrokedTile, cache: NodeCache) -> np.ndarray:
    """(H, W, F) float16 of a tile, mapped from the node's cache."""

    def write(target: Path) -> None:
        with target.open("wb") as file:
            np.save(file, _tile_features(tile), allow_pickle=False)

    # Working images are never changed: the address says all.
    path = cache.path(f"forest features {_VERSION} {tile.working_uri} {tile.window}", write)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _tile_features(tile: StrokedTile) -> np.ndarray:
    """With the surroundings of the tile, so that its edges are as good as its middle."""
    image = WorkingImage(local_file(tile.working_uri))
    window = tile.window.grown(_MARGIN, image.height, image.width)
    pixels = image.read(window)
    missing = [(0, max(0, 2 - side)) for side in pixels.shape[:2]]  # an image that is a line has no gradient across
    features = pixel_features(np.pad(pixels, [*missing, (0, 0)], mode="edge"), tile.mean, tile.std)
    return np.ascontiguousarray(features[tile.window.seen_from(window).slices])


def _examples(
    request: ForestRequest, labels: np.ndarray, features: np.ndarray, cache: NodeCache
) -> tuple[np.ndarray, np.ndarray]:
    """(N, F) features and (N,) classes to learn from, about as many of each class; the tile's own labels come first."""
    rng = np.random.default_rng(0)
    planes = [labels, *(unpack(other.labels).plane() for other in request.others)]
    classes = sorted({int(value) for plane in planes for value in np.unique(plane) if value <= MAX_CLASS_INDEX})
    share = _MAX_PIXELS // len(classes)
    taken = [_drawn(labels, features, classes, share, rng)]
    counts = {value: int((taken[0][1] == value).sum()) for value in classes}
    for other, plane in zip(request.others, planes[1:], strict=True):
        most = _MAX_OF_OTHERS // len(classes) // len(request.others)
        wanted = [value for value in classes if counts[value] + most <= share]
        taken.append(_drawn(plane, _cached_features(other, cache), wanted, most, rng))
    return np.concatenate([x for x, _ in taken]).astype(np.float32), np.concatenate([y for _, y in taken])


def _drawn(
    plane: np.ndarray, features: np.ndarray, classes: Sequence[int], most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Features and classes of up to `most` pixels of each class."""
    picked = []
    for value in classes:
        places = np.flatnonzero(plane == value)
        picked.append(rng.choice(places, min(most, len(places)), replace=False) if len(places) else places)
    chosen = np.concatenate(picked) if picked else np.zeros(0, np.int64)
    return features.reshape(-1, features.shape[2])[chosen], plane.reshape(-1)[chosen]


def _predict(forest: Any, features: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Classes and votes, part by part."""
    for start in range(0, len(features), _ROWS_AT_ONCE):
        votes = forest.predict_proba(features[start : start + _ROWS_AT_ONCE].astype(np.float32))
        best = votes.argmax(axis=1)
        yield forest.classes_[best], np.rint(255 * votes.max(axis=1)).astype(np.uint8)
