"""Training sets: what is chosen, how it is split, and the frozen manifest."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from axons.data.measuring import near_duplicates
from axons.data.rows import Row
from axons.data.storage import open_storage
from axons.data.tiles import Window
from axons.errors import ChecksumMismatch, ObjectNotFound, TrainingSetNotFound, TrainingSetRefused

Share = Annotated[float, Field(ge=0, le=1)]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

MANIFEST = "manifest.json"
FEW_IMAGES = 4
MIN_SCALE, MAX_SCALE = 0.05, 4.0

_SHUFFLES = 200  # tries at a split in which train knows every class
_MODEST = 1.5  # val and test get at most so many times as much of the labelled pixels as of the images, if that can be


class LabelClass(Row):
    """A class as people see it; its index is its place in the list, 0 is background."""

    name: str = Field(min_length=1, max_length=80)
    colour: str = Field(pattern="^#[0-9a-fA-F]{6}$")


class ChosenTile(Row):
    """A labelled tile as it is frozen: `annotation` as `layers.pack` writes it, `counts` its pixels by value."""

    row0: int
    col0: int
    height: int
    width: int
    annotation: bytes
    crc32: int
    counts: dict[int, int]
    revision: int = 1

    @property
    def window(self) -> Window:
        """Where it lies in the image."""
        return Window(self.row0, self.col0, self.height, self.width)


class ChosenImage(Row):
    """An image chosen for a training set, with its labelled tiles.

    Args:
        mean, std: per channel, 0 to 1 of the data type's range.
        hashes: see `measuring.perceptual_hashes`.
        group: images of one group (animal, patient, film) stay in one split; None is a group of its own.
        split: set by a person; None lets the draw decide.
    """

    image_id: str
    name: str
    working_uri: str
    height: int
    width: int
    channels: int
    dtype: Literal["uint8", "uint16"]
    mean: list[float]
    std: list[float]
    pixel_size_um: float | None = None
    hashes: list[str] = []
    group: str | None = None
    split: Split | None = None
    tiles: list[ChosenTile]

    @property
    def counts(self) -> dict[int, int]:
        """Pixels by value over its tiles."""
        total: dict[int, int] = {}
        for tile in self.tiles:
            for value, count in tile.counts.items():
                total[value] = total.get(value, 0) + count
        return total


class FreezeRequest(Row):
    """Everything that freezing needs.

    Args:
        fractions: of the images, for train, val and test.
        scale: size at which the network sees the images, 1.0 as they are.
        pixel_size_um: instead of `scale`, the pixel size to which every image is brought; each must know its own.
        window: side of the inference windows in px at that scale.
    """

    name: str
    classes: list[LabelClass] = Field(min_length=2, max_length=253)
    images: list[ChosenImage]
    fractions: tuple[Share, Share, Share] = (0.7, 0.15, 0.15)
    seed: int = 0
    scale: float = Field(default=1.0, ge=MIN_SCALE, le=MAX_SCALE)
    pixel_size_um: float | None = Field(default=None, gt=0)
    window: int = Field(default=256, ge=32, le=2048)

    def scale_of(self, image: ChosenImage) -> float:
        """Factor from the image's own pixels to those the network sees."""
        if self.pixel_size_um is None:
            return self.scale
        assert image.pixel_size_um is not None
        return image.pixel_size_um / self.pixel_size_um


class FrozenImage(Row):
    """An image in the manifest.

    Args:
        height, width: at the set's scale.
        scale: factor from the image's own pixels to the set's.
        pixel_size_um: at the set's scale.
        revisions: of each frozen tile [row0, col0, revision, crc32].
    """

    image_id: str
    name: str
    split: Split
    group: str | None
    height: int
    width: int
    channels: int
    dtype: Literal["uint8", "uint16"]
    scale: float
    pixel_size_um: float | None
    mean: list[float]
    std: list[float]
    revisions: list[tuple[int, int, int, int]]


class Record(Row):
    """A piece of an image in a shard: where it lies in the image, and its pixels of each class; at the set's scale."""

    image: int
    shard: int
    index: int
    row0: int
    col0: int
    height: int
    width: int
    class_pixels: list[int]

    @property
    def window(self) -> Window:
        """Where it lies in the image."""
        return Window(self.row0, self.col0, self.height, self.width)

    @property
    def labelled_pixels(self) -> int:
        """Pixels of any class."""
        return sum(self.class_pixels)


class Shard(Row):
    """A safetensors file of records; `key` is relative to the training set."""

    key: str
    sha256: str
    num_bytes: int


class Balance(Row):
    """Labelled pixels (at the images' own size) and objects of each class, in the order of the classes, by split."""

    pixels: dict[Split, list[int]]
    objects: dict[Split, list[int]]


class Diversity(Row):
    """How varied the images are: sources, brightness (0 to 1) and pixel size."""

    num_images: int
    num_groups: int
    brightness_min: float
    brightness_median: float
    brightness_max: float
    pixel_sizes_um: list[float]


class TrainingSet(Row):
    """The frozen manifest: with its shards, all that training and evaluation read."""

    version: Literal[1] = 1
    name: str
    classes: list[LabelClass]
    channels: int
    scale: float
    pixel_size_um: float | None
    seed: int
    images: list[FrozenImage]
    records: list[Record]
    shards: list[Shard]
    mean: list[float]
    std: list[float]
    balance: Balance
    diversity: Diversity
    warnings: list[str]
    code_version: str

    @property
    def num_classes(self) -> int:
        """Background counted."""
        return len(self.classes)

    def images_of(self, split: Split) -> list[int]:
        """Indices of the images of a split."""
        return [i for i, image in enumerate(self.images) if image.split == split]

    def records_of(self, split: Split) -> list[Record]:
        """The records of a split, in the manifest's order."""
        return [record for record in self.records if self.images[record.image].split == split]

    def sha256(self) -> str:
        """The hash by which runs and models name the set: labels, pixels, split and all."""
        return hashlib.sha256(self.packed()).hexdigest()


def load_training_set(uri: str, *, sha256: str | None = None) -> TrainingSet:
    """The manifest at `uri`.

    Raises:
        TrainingSetNotFound: there is none.
        ChecksumMismatch: it is not the one its hash, or `sha256`, promises.
    """
    try:
        document = json.loads(open_storage(uri).read(MANIFEST))
        training_set = TrainingSet.unpacked(
            json.dumps(document["training_set"]), name=f"training set {uri}", error=TrainingSetRefused
        )
    except ObjectNotFound as error:
        raise TrainingSetNotFound(f"no training set at {uri}; check the address") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ChecksumMismatch(f"the manifest of training set {uri} is damaged ({error}); restore it") from error
    promised = {document.get("sha256"), sha256} - {None}
    if promised != {training_set.sha256()}:
        raise ChecksumMismatch(
            f"training set {uri} is not the one that was frozen: its sha256 differs; restore it or freeze again"
        )
    return training_set


def manifest_bytes(training_set: TrainingSet) -> bytes:
    """The manifest file."""
    return json.dumps({"sha256": training_set.sha256(), "training_set": training_set.model_dump(mode="json")}).encode()


def check_request(request: FreezeRequest) -> list[ChosenImage]:
    """The images that have labels.

    Raises:
        TrainingSetRefused: nothing is labelled, an image is chosen twice, a class has no pixel, a label has no class,
            or the pixel size of an image is unknown or out of reach.
    """
    num_classes = len(request.classes)
    labelled = [image for image in request.images if any(value < num_classes for value in image.counts)]
    if not labelled:
        raise TrainingSetRefused(
            f"none of the {len(request.images)} chosen images has a labelled tile; label at least one"
        )
    times = Counter(image.image_id for image in labelled)
    for image in labelled:
        if times[image.image_id] > 1:
            raise TrainingSetRefused(f"image {image.name!r} is chosen twice; choose it once")
        if strange := [value for value in image.counts if num_classes <= value < 253]:
            raise TrainingSetRefused(
                f"mask of {image.name!r} has class index {strange[0]} but training set {request.name!r} has "
                f"{num_classes} classes; relabel the mask or add the class"
            )
        _check_scale(image, request)
    for label_class, pixels in zip(request.classes, _class_pixels(labelled, num_classes), strict=True):
        if pixels == 0:
            raise TrainingSetRefused(
                f"class {label_class.name!r} has no labelled pixel; label some or leave the class out"
            )
    return labelled


def assign_splits(images: Sequence[ChosenImage], request: FreezeRequest) -> list[Split]:
    """The split of each image: by group, never by tile; the same seed gives the same split.

    What a person has set stays. Of the rest, train gets at least one, val one from two and test one from three; among
    many draws the first is taken in which train, then val and test, know the most classes, and in which
    val and test do not take the largest images from train.
    """
    groups = _groups(images)
    fixed = {key: split for key, members in groups.items() for i in members if (split := images[i].split)}
    free = [key for key in groups if key not in fixed]
    sizes = _sizes(len(free), request.fractions, taken=set(fixed.values()))
    rng = np.random.default_rng(request.seed)
    pixels = [_class_pixels([images[i] for i in members], len(request.classes)) for members in groups.values()]
    known = dict(zip(groups, pixels, strict=True))

    def draw() -> dict[str, Split]:
        order: list[Split] = [split for split in SPLITS for _ in range(sizes[split])]
        return {**fixed, **dict(zip((free[i] for i in rng.permutation(len(free))), order, strict=True))}

    def classes_known(splits: Mapping[str, Split]) -> tuple[int, ...]:
        return tuple(
            int(np.count_nonzero(sum((known[key] for key in splits if splits[key] == split), np.zeros(1))))
            for split in SPLITS
        )

    total = sum(int(counts.sum()) for counts in known.values())

    def is_modest(splits: Mapping[str, Split]) -> bool:
        for split in ("val", "test"):
            keys = [key for key in splits if splits[key] == split]
            share = sum(len(groups[key]) for key in keys) / len(images)
            if sum(int(known[key].sum()) for key in keys) > _MODEST * share * total:
                return False
        return True

    # The first of equals.
    best = max((draw() for _ in range(_SHUFFLES)), key=lambda splits: (classes_known(splits), is_modest(splits)))
    split_of = {i: best[key] for key, members in groups.items() for i in members}
    return [images[i].split or split_of[i] for i in range(len(images))]


def leakage(images: Sequence[ChosenImage], splits: Sequence[Split]) -> list[str]:
    """Sentences about what train shares with val or test: near-duplicate images, or images of one group."""
    found = [
        f"{images[i].name!r} ({splits[i]}) and {images[j].name!r} ({splits[j]}) look the same; put both in one split"
        for i, j in near_duplicates([image.hashes for image in images])
        if splits[i] != splits[j]
    ]
    for key, members in _groups(images).items():
        places = sorted({splits[i] for i in members})
        if len(places) > 1:
            found.append(f"group {key!r} is in {' and '.join(places)}; put its images in one split")
    return found


def warnings_of(images: Sequence[ChosenImage], splits: Sequence[Split]) -> list[str]:
    """What a person should know before trusting a score on this set."""
    warnings = leakage(images, splits)
    if len(images) == 1:
        warnings.append(
            "with one image there is no validation: training cannot stop early and keeps its last weights; "
            "add a second image"
        )
    elif len(images) < FEW_IMAGES:
        warnings.append(
            f"with {len(images)} images the scores depend on which one is held out; use {FEW_IMAGES} or more"
        )
    if len({image.channels for image in images}) > 1:
        warnings.append("grey and colour images are mixed: the grey ones are shown to the network as colour")
    return warnings


def diversity_of(images: Sequence[ChosenImage]) -> Diversity:
    """Sources, brightness and pixel sizes of the images."""
    brightness = [float(np.mean(image.mean)) for image in images]
    return Diversity(
        num_images=len(images),
        num_groups=len(_groups(images)),
        brightness_min=min(brightness),
        brightness_median=float(np.median(brightness)),
        brightness_max=max(brightness),
        pixel_sizes_um=sorted({image.pixel_size_um for image in images if image.pixel_size_um}),
    )


def _check_scale(image: ChosenImage, request: FreezeRequest) -> None:
    if request.pixel_size_um is not None and image.pixel_size_um is None:
        raise TrainingSetRefused(f"the pixel size of {image.name!r} is unknown; enter it, or choose a scale instead")
    if not MIN_SCALE <= request.scale_of(image) <= MAX_SCALE:
        raise TrainingSetRefused(
            f"{image.name!r} has {image.pixel_size_um} µm per pixel: at {request.pixel_size_um} µm it would be "
            f"{request.scale_of(image):.3g} times its size; choose a pixel size that makes it "
            f"{MIN_SCALE} to {MAX_SCALE} times"
        )


def _groups(images: Sequence[ChosenImage]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(image.group if image.group is not None else f"image {image.image_id}", []).append(i)
    return groups


def _sizes(free: int, fractions: tuple[float, float, float], *, taken: set[Split]) -> dict[Split, int]:
    """How many of `free` groups each split draws; a split that a person has filled draws none, train excepted."""
    wanted = {
        split: 0.0 if split != "train" and split in taken else fraction
        for split, fraction in zip(SPLITS, fractions, strict=True)
    }
    share = {split: fraction / (sum(wanted.values()) or 1) for split, fraction in wanted.items()}
    left = free if "train" in taken else free - 1  # train gets at least one
    sizes: dict[Split, int] = {"train": 0, "val": 0, "test": 0}
    for split in ("val", "test"):
        if share[split] > 0 and left > 0:
            sizes[split] = min(left, max(1, round(share[split] * free)))
            left -= sizes[split]
    sizes["train"] = free - sizes["val"] - sizes["test"]
    return sizes


def _class_pixels(images: Sequence[ChosenImage], num_classes: int) -> np.ndarray:
    totals = np.zeros(num_classes, np.int64)
    for image in images:
        for value, count in image.counts.items():
            if value < num_classes:
                totals[value] += count
    return totals
