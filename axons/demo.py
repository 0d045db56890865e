"""The whole loop without a server: images and masks -> training set -> model -> scores -> report, on Ray."""

import fnmatch
import logging
import re
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from axons.data.freezing import finish_freeze, plan_freeze, write_shards
from axons.data.images import WorkingImage
from axons.data.importing import (
    ImportedImage,
    ImportedLabels,
    MaskUpload,
    Refusal,
    Upload,
    import_images,
    import_masks,
    survey_masks,
)
from axons.data.masks import guess_coding
from axons.data.pictures import as_colour, class_colours, encode_picture, overlay
from axons.data.sample import SAMPLE_CLASSES, SAMPLE_COLOURS, write_sample
from axons.data.storage import new_key
from axons.data.tiles import TileGrid
from axons.data.training_set import ChosenImage, ChosenTile, FreezeRequest, LabelClass, Split, TrainingSet
from axons.errors import AxonsError, RunFailed
from axons.model.devices import num_cores
from axons.report import Figure, write_report
from axons.serve.segmenter import SegmenterSettings, ask_segmenter, deploy_segmenter
from axons.train.config import TrainConfig
from axons.train.driver import cluster_gpus, train
from axons.train.evaluation import Evaluation, SplitEvaluation
from axons.train.run import MODEL, REQUEST, RunFolder, RunRequest, Status

TILE = 256
DEFAULT_MINUTES = 1.0

_OBJECT_STORE_BYTES = 200 << 20  # only manifest rows and one image on its way to the model
_PREDICTION_TIMEOUT_S = 300
_MAX_INDEX_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What a person asked for.

    Args:
        folder: has `images/` and `masks/` with files of the same name; None draws the sample.
        classes: names, background first; None takes those of the sample, or counts the values in the masks.
        test: pattern of the names of held-out images; None draws them.
        group: regular expression whose match (or first group) in a name says which images belong together.
        out: folder for everything that is made.
    """

    folder: Path | None = None
    minutes: float | None = None
    epochs: int | None = None
    classes: Sequence[str] | None = None
    test: str | None = None
    group: str | None = None
    out: Path = Path("axons-demo")


@dataclass(kw_only=True)
class DemoResult:
    """What came out; scores are of the held-out images, predicted whole."""

    mean_iou: float | None
    pixel_accuracy: float | None
    classes: dict[str, dict[str, float | None]]
    num_images: int
    num_tiles: int
    steps: int
    seconds: dict[str, float]
    model: str
    report: str


@dataclass
class _Loop:
    """The stages share where things lie, how long they took, and where to tell about it."""

    options: DemoOptions
    console: Console
    seconds: dict[str, float] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @property
    def store(self) -> str:
        return str((self.options.out / "store").absolute())

    def tell(self, text: str) -> None:
        """A line for the person."""
        self.console.print(text, highlight=False, markup=False)

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        """Time a stage, with its title while it lasts."""
        began = time.monotonic()
        with self.console.status(title):
            yield
        self.seconds[name] = round(time.monotonic() - began, 2)


def run_demo(options: DemoOptions, console: Console) -> DemoResult:
    """Run the loop on a Ray cluster of its own on this machine; progress goes to `console`.

    Raises:
        AxonsError: what is wrong with the folder, the options or the training.
    """
    loop = _Loop(options, console)
    config = _config(options)
    folder = options.folder or _draw_sample(loop)
    pairs = find_pairs(folder)
    with _local_ray(loop):
        images, labels, classes = _import(loop, pairs)
        training_set_uri, training_set = _freeze(loop, images, labels, classes)
        run = _train(loop, training_set_uri, training_set, config)
        scored = _held_out(run)
        figures = _predict(loop, run, training_set, images)
    report = (options.out / "report.html").absolute()
    write_report(run.uri, report, figures=figures)
    return _result(loop, run, scored, images, report)


@dataclass(frozen=True)
class Pair:
    """An image file and, if there is one, the mask file of the same name."""

    image: Path
    mask: Path | None


def find_pairs(folder: Path) -> list[Pair]:
    """The files of `folder/images`, each with the file of the same stem in `folder/masks`.

    Raises:
        AxonsError: there is no such folder, or no image, or no mask.
    """
    images, masks = folder / "images", folder / "masks"
    if not images.is_dir() or not masks.is_dir():
        raise AxonsError(
            f"{str(folder)!r} has no folder {'images' if not images.is_dir() else 'masks'}; put images and masks there"
        )
    by_stem = {path.stem: path for path in sorted(masks.iterdir()) if _is_visible(path)}
    pairs = [Pair(path, by_stem.get(path.stem)) for path in sorted(images.iterdir()) if _is_visible(path)]
    if not any(pair.mask for pair in pairs):
        raise AxonsError(f"no image in {str(images)!r} has a mask of the same name in {str(masks)!r}; rename the masks")
    return pairs


def _config(options: DemoOptions) -> TrainConfig:
    minutes = options.minutes if options.minutes or options.epochs else DEFAULT_MINUTES
    return TrainConfig(minutes=minutes, epochs=options.epochs)


def _draw_sample(loop: _Loop) -> Path:
    folder = loop.options.out / "sample"
    with loop.console.status("Drawing the sample: eight micrographs of a nerve"):
        write_sample(folder)
    return folder


@contextmanager
def _local_ray(loop: _Loop) -> Iterator[None]:
    """A small Ray for this demo alone, silent unless something is wrong."""
    for part in ("ray", "ray.data", "ray.serve"):
        logging.getLogger(part).setLevel(logging.ERROR)
    with loop.console.status("Starting Ray on this machine"):
        ray.init(
            address="local",
            # More logical CPUs than cores on a small machine: the operating system shares the cores.
            num_cpus=max(4, num_cores()),
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield
    finally:
        ray.shutdown()  # and Ray Serve with it: to shut that down first makes Ray print of lost calls


def _import(
    loop: _Loop, pairs: Sequence[Pair]
) -> tuple[list[ImportedImage], dict[str, ImportedLabels], list[LabelClass]]:
    """Working images and labels of every usable pair, and the classes."""
    with loop.stage("import", f"Importing {len(pairs)} images"):
        names = {str(uuid.uuid5(uuid.NAMESPACE_URL, pair.image.name)): pair for pair in pairs}
        uploads = [
            Upload(image_id=key, uri=str(pair.image.absolute()), name=pair.image.name) for key, pair in names.items()
        ]
        target = f"{loop.store}/projects/demo-{uuid.uuid4()}/images"
        imported = [
            _accept(loop, result) for result in import_images(uploads, target_uri=target, grid=TileGrid(tile=TILE))
        ]
        images = sorted((image for image in imported if image is not None), key=lambda image: image.name)
        masks = [
            MaskUpload(
                image_id=image.image_id,
                uri=str(mask.absolute()),
                name=mask.name,
                height=image.height,
                width=image.width,
            )
            for image in images
            if (mask := names[image.image_id].mask)
        ]
        values = {value for found in survey_masks(masks) if not isinstance(found, Refusal) for value in found.values}
        classes = _classes(loop.options, values)
        coding = guess_coding(values, len(classes))
        labels = [
            _accept(loop, result)
            for result in import_masks(masks, coding=coding, num_classes=len(classes), grid=TileGrid(tile=TILE))
        ]
    loop.tell(f"✓ {len(images)} of {len(pairs)} images imported, {sum(len(image.tiles) for image in images)} tiles")
    return images, {label.image_id: label for label in labels if label is not None}, classes


def _accept(loop: _Loop, result: Any) -> Any:
    """The result, or None after telling why a file was turned down; what was changed is told too."""
    if isinstance(result, Refusal):
        loop.tell(f"! {result.reason}")
        return None
    for notice in result.notices:
        loop.tell(f"  {result.name}: {notice}")
    return result


def _classes(options: DemoOptions, values: set[int]) -> list[LabelClass]:
    names = list(options.classes or ())
    if not names and options.folder is None:
        return [
            LabelClass(name=name, colour=colour) for name, colour in zip(SAMPLE_CLASSES, SAMPLE_COLOURS, strict=True)
        ]
    if not names:
        count = _guess_count(values)
        names = ["background", *(f"class {k}" for k in range(1, count))]
    if len(names) < 2 or len(set(names)) < len(names):
        raise AxonsError(f"classes are {', '.join(names)!r}; give two or more different names, background first")
    return [LabelClass(name=name, colour=colour) for name, colour in zip(names, class_colours(len(names)), strict=True)]


def _guess_count(values: set[int]) -> int:
    labelled = values - {254, 255}
    if labelled and max(labelled) < _MAX_INDEX_CLASSES and max(labelled) > 0:
        return max(labelled) + 1
    if 2 <= len(values) <= _MAX_INDEX_CLASSES:
        return len(values)
    raise AxonsError(
        f"the masks hold {len(values)} different values; name the classes with --classes, background first"
    )


def _freeze(
    loop: _Loop, images: Sequence[ImportedImage], labels: dict[str, ImportedLabels], classes: list[LabelClass]
) -> tuple[str, TrainingSet]:
    """The training set of all labelled images."""
    with loop.stage("freeze", "Freezing the training set"):
        chosen = [_choose(loop.options, image, labels[image.image_id]) for image in images if image.image_id in labels]
        if loop.options.test and not any(image.split == "test" for image in chosen):
            raise AxonsError(
                f"no labelled image is called like --test {loop.options.test!r}; look at the names in images/"
            )
        request = FreezeRequest(
            name=(loop.options.folder or Path("sample")).name, classes=classes, images=chosen, window=TILE
        )
        uri = f"{loop.store}/{new_key('training-sets')}"
        plan = plan_freeze(request)
        training_set = finish_freeze(plan, list(write_shards(plan, target_uri=uri)), target_uri=uri)
    counts = ", ".join(f"{len(training_set.images_of(split))} {split}" for split in ("train", "val", "test"))
    loop.tell(f"✓ training set frozen: {counts}")
    for warning in training_set.warnings:
        loop.tell(f"! {warning}")
    return uri, training_set


def _choose(options: DemoOptions, image: ImportedImage, labels: ImportedLabels) -> ChosenImage:
    windows = {(tile.row0, tile.col0): tile.window for tile in image.tiles}
    tiles = [
        ChosenTile(
            **tile.model_dump(), height=windows[tile.row0, tile.col0].height, width=windows[tile.row0, tile.col0].width
        )
        for tile in labels.tiles
    ]
    split: Split | None = "test" if options.test and fnmatch.fnmatch(image.name, options.test) else None
    return ChosenImage(
        image_id=image.image_id,
        name=image.name,
        working_uri=image.working_uri,
        height=image.height,
        width=image.width,
        channels=image.channels,
        dtype=image.dtype,
        mean=image.mean,
        std=image.std,
        pixel_size_um=image.pixel_size_um,
        hashes=image.hashes,
        group=_group(options.group, image.name),
        split=split,
        tiles=tiles,
    )


def _group(pattern: str | None, name: str) -> str | None:
    if pattern is None:
        return None
    found = re.search(pattern, name)
    if not found:
        raise AxonsError(f"--group {pattern!r} finds nothing in the name {name!r}; each image needs a group")
    return found[1] if found.groups() else found[0]


def _train(loop: _Loop, training_set_uri: str, training_set: TrainingSet, config: TrainConfig) -> RunFolder:
    """Train with a live display."""
    key = new_key("models")
    run = RunFolder(f"{loop.store}/{key}")
    request = RunRequest(
        run_id=key.rsplit("/", 1)[1],
        name=f"Demo: {training_set.name}",
        training_set=training_set_uri,
        training_set_sha256=training_set.sha256(),
        config=config,
    )
    run.storage.write(REQUEST, request.packed())
    with _live(loop.console, run):
        status = train(run.uri)
    if status.state != "done":
        raise RunFailed(f"training {status.state}: {status.reason}")
    loop.seconds["start"] = round(status.start_seconds or 0.0, 2)
    loop.seconds["train"] = round(status.seconds, 2)
    loop.tell(f"✓ trained {status.epoch} epochs, {status.step} steps on {status.device}")
    return run


@contextmanager
def _live(console: Console, run: RunFolder) -> Iterator[None]:
    """Show loss, IoU and time left while a run goes on, from its status file."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
    )
    stop = threading.Event()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Training", total=1.0, numbers="")

        def watch() -> None:
            while not stop.wait(0.5):
                _show(progress, task, run.status())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _show(progress: Progress, task: TaskID, status: Status) -> None:
    words = {"queued": "Starting the worker", "preparing": "Starting the worker", "validating": "Evaluating"}
    parts = [f"epoch {status.epoch + 1}"] if status.state == "running" else []
    if status.loss is not None:
        parts.append(f"loss {status.loss:.3f}")
    if status.mean_iou is not None:
        parts.append(f"IoU {status.mean_iou:.3f}")
    if status.seconds_left is not None:
        parts.append(f"{status.seconds_left:.0f} s left")
    progress.update(
        task, completed=status.progress, description=words.get(status.state, "Training"), numbers=" · ".join(parts)
    )


def _held_out(run: RunFolder) -> SplitEvaluation | None:
    document = run.evaluation()
    assert document is not None  # a run that is done has one
    evaluation = Evaluation.model_validate(document)
    return evaluation.splits.get("test") or evaluation.splits.get("val")


def _predict(loop: _Loop, run: RunFolder, training_set: TrainingSet, images: Sequence[ImportedImage]) -> list[Figure]:
    """A held-out image through Ray Serve, as a person's new image would go."""
    held_out = training_set.images_of("test") or training_set.images_of("val") or [0]
    frozen = training_set.images[held_out[0]]
    image = next(image for image in images if image.image_id == frozen.image_id)
    with loop.stage("predict", f"Predicting {image.name} with Ray Serve"):
        handle = deploy_segmenter(SegmenterSettings(gpu_share=0.25 if cluster_gpus() else 0.0))
        pixels = WorkingImage(Path(image.working_uri)).read_all()
        answer = ask_segmenter(handle, pixels, model_uri=f"{run.uri}/{MODEL}")(_PREDICTION_TIMEOUT_S)
    loop.tell(f"✓ {image.name} predicted through Ray Serve")
    view = as_colour(image.contrast_limits.view(pixels))
    colours = [label_class.colour for label_class in training_set.classes]
    return [
        Figure(data=encode_picture(view), caption=image.name),
        Figure(
            data=encode_picture(overlay(view, answer.mask, colours)), caption=f"{image.name} with its predicted classes"
        ),
    ]


def _result(
    loop: _Loop, run: RunFolder, scored: SplitEvaluation | None, images: Sequence[ImportedImage], report: Path
) -> DemoResult:
    status = run.status()
    loop.seconds["evaluate"] = round(sum(split["seconds"] for split in (run.evaluation() or {})["splits"].values()), 2)
    order = ("import", "freeze", "start", "train", "evaluate", "predict")
    return DemoResult(
        mean_iou=scored.mean_iou if scored else None,
        pixel_accuracy=scored.pixel_accuracy if scored else None,
        classes={row.name: {"iou": row.iou, "dice": row.dice} for row in scored.classes} if scored else {},
        num_images=len(images),
        num_tiles=sum(len(image.tiles) for image in images),
        steps=status.step,
        seconds={name: loop.seconds[name] for name in order},
        model=f"{run.uri}/{MODEL}",
        report=str(report),
    )


def _is_visible(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")
