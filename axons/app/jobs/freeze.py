"""Freezing: chosen images with their newest annotations become a training set in storage."""

import fnmatch
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sqlmodel import Session, col, select

from axons.app.jobs.grouping import groups_of
from axons.app.platform import Platform
from axons.app.services.training_sets import TrainingSetCreate, hold_out
from axons.app.tables import Image, Job, LabelClass, Revision, Tile, Tiling, TrainingSet
from axons.data import training_set as engine
from axons.data.freezing import finish_freeze, plan_freeze, write_shards
from axons.data.layers import IGNORED, MAX_CLASS_INDEX, annotation_of, count_values, crc32, pack, unpack
from axons.data.storage import local_file
from axons.data.training_set import ChosenImage, ChosenTile, FreezeRequest
from axons.errors import TrainingSetRefused

_CHUNK = 500  # parameters in one question to the database


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """The choices as a manifest in `tmp/`, with the labels as they are now; each attempt freezes to its own address."""
    row = session.get_one(TrainingSet, job.target_id)
    request = freeze_request(platform, session, row)
    key = f"tmp/{job.id}/request-{job.attempt}.json"
    platform.storage.replace(key, request.packed())
    target = f"training-sets/{row.id}-{job.attempt}"
    return {"request": platform.uri(key), "target": platform.uri(target), "key": target}


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Freeze on the cluster, shard by shard."""
    wanted = FreezeRequest.model_validate_json(local_file(request["request"]).read_bytes())
    plan = plan_freeze(wanted)
    frozen = []
    for shard in write_shards(plan, target_uri=request["target"]):
        frozen.append(shard)
        yield {"progress": 0.95 * len(frozen) / len(plan.shards)}
    training_set = finish_freeze(plan, frozen, target_uri=request["target"])
    yield {"key": request["key"], "sha256": training_set.sha256(), "summary": summary_of(training_set)}


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """Point the row at what was frozen."""
    row = session.get_one(TrainingSet, job.target_id)
    for frozen in rows:
        row.key, row.sha256, row.summary = frozen["key"], frozen["sha256"], frozen["summary"]


def finish(session: Session, job: Job) -> str:
    """The set is ready."""
    row = session.get_one(TrainingSet, job.target_id)
    row.state = "ready"
    hold_out(session, row)
    images = row.summary["num_images"]
    counts = ", ".join(f"{images[split]} {split}" for split in engine.SPLITS)
    warnings = len(row.summary["warnings"])
    told = f"; {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    return f"{row.name!r} is frozen: {counts}{told}"


def fail(session: Session, job: Job) -> None:
    """The set cannot be used."""
    session.get_one(TrainingSet, job.target_id).state = "failed"


def summary_of(training_set: engine.TrainingSet) -> dict[str, Any]:
    """What lists and comparisons show of a manifest."""
    return {
        "num_images": {split: len(training_set.images_of(split)) for split in engine.SPLITS},
        "num_records": len(training_set.records),
        "num_bytes": sum(shard.num_bytes for shard in training_set.shards),
        "channels": training_set.channels,
        "scale": training_set.scale,
        "pixel_size_um": training_set.pixel_size_um,
        "seed": training_set.seed,
        "classes": [label_class.model_dump() for label_class in training_set.classes],
        "balance": training_set.balance.model_dump(mode="json"),
        "diversity": training_set.diversity.model_dump(mode="json"),
        "warnings": training_set.warnings,
        "images": [
            {
                "image_id": image.image_id,
                "name": image.name,
                "split": image.split,
                "group": image.group,
                "num_tiles": len(image.revisions),
            }
            for image in training_set.images
        ],
    }


def freeze_request(platform: Platform, session: Session, row: TrainingSet) -> FreezeRequest:
    """Everything that freezing needs, from rows alone.

    Raises:
        TrainingSetRefused: nothing is chosen, or a group cannot be told.
    """
    form = TrainingSetCreate.model_validate(row.request)
    classes = _classes(session, row.project_id, form)
    images = _images(session, row.project_id, form)
    if not images:
        raise TrainingSetRefused("no image fits the choices; look at the names, and at what is left out")
    tiles = _tiles(session, row.project_id, [image.id for image in images], form)
    mapping = _mapping(classes)
    groups = _groups(images, form)
    return FreezeRequest(
        name=row.name,
        classes=[engine.LabelClass(name=found.name, colour=found.colour) for found in classes],
        images=[_chosen(platform, image, tiles[image.id], groups[image.id], mapping) for image in images],
        fractions=form.fractions,
        seed=form.seed,
        scale=form.scale,
        pixel_size_um=form.pixel_size_um,
    )


def _classes(session: Session, project_id: str, form: TrainingSetCreate) -> list[LabelClass]:
    living = select(LabelClass).where(col(LabelClass.project_id) == project_id, col(LabelClass.deleted_at).is_(None))
    rows = session.exec(living.order_by(col(LabelClass.index))).all()
    if form.classes is None:
        return list(rows)
    if unknown := set(form.classes) - {row.name for row in rows}:
        raise TrainingSetRefused(f"the project has no class {min(unknown)!r}; choose among its classes")
    return [row for row in rows if row.index == 0 or row.name in form.classes]


def _images(session: Session, project_id: str, form: TrainingSetCreate) -> list[Image]:
    statement = select(Image).where(
        col(Image.project_id) == project_id, col(Image.deleted_at).is_(None), col(Image.is_excluded).is_(False)
    )
    # Sorted here, for databases differ in the order of names: the same choices are the same set on every platform.
    rows = sorted(session.exec(statement).all(), key=lambda row: (row.name, row.known_as))
    wanted = set(form.image_ids) if form.image_ids is not None else None
    return [row for row in rows if _is_chosen(row, form, wanted)]


def _is_chosen(image: Image, form: TrainingSetCreate, wanted: set[str] | None) -> bool:
    if wanted is not None and image.id not in wanted:
        return False
    if form.images is not None and not fnmatch.fnmatch(image.name, form.images):
        return False
    return form.exclude is None or not fnmatch.fnmatch(image.name, form.exclude)


def _tiles(
    session: Session, project_id: str, image_ids: Sequence[str], form: TrainingSetCreate
) -> dict[str, list[tuple[Tile, Revision]]]:
    """The labelled tiles of each image with their newest revisions."""
    current = select(Tiling.id).where(col(Tiling.project_id) == project_id, col(Tiling.is_current))
    found: dict[str, list[tuple[Tile, Revision]]] = defaultdict(list)
    for start in range(0, len(image_ids), _CHUNK):
        statement = (
            select(Tile, Revision)
            .join(Revision, (col(Revision.tile_id) == Tile.id) & (col(Revision.number) == Tile.revision))
            .where(col(Tile.tiling_id).in_(current), col(Tile.image_id).in_(image_ids[start : start + _CHUNK]))
            .order_by(col(Tile.image_id), col(Tile.row0), col(Tile.col0))
        )
        if form.only_done:
            statement = statement.where(col(Tile.status) == "done")
        for tile, revision in session.exec(statement).all():
            if form.tile_ids is None or tile.id in form.tile_ids:
                found[tile.image_id].append((tile, revision))
    return found


def _mapping(classes: Sequence[LabelClass]) -> np.ndarray | None:
    """New values by old ones, where classes were deleted or left out: their pixels are ignored."""
    if [found.index for found in classes] == list(range(len(classes))):
        return None
    mapping = np.full(256, IGNORED, np.uint8)
    mapping[MAX_CLASS_INDEX + 1 :] = np.arange(MAX_CLASS_INDEX + 1, 256)
    for new, found in enumerate(classes):
        mapping[found.index] = new
    return mapping


def _chosen(
    platform: Platform,
    image: Image,
    tiles: Sequence[tuple[Tile, Revision]],
    group: str | None,
    mapping: np.ndarray | None,
) -> ChosenImage:
    fields = image.model_dump(
        include={"name", "height", "width", "channels", "dtype", "mean", "std", "pixel_size_um", "hashes", "split"}
    )
    return ChosenImage.model_validate(
        {
            **fields,
            "image_id": image.known_as,
            "working_uri": platform.uri(image.working_key),
            "group": group,
            "tiles": [_chosen_tile(tile, revision, mapping) for tile, revision in tiles],
        }
    )


def _chosen_tile(tile: Tile, revision: Revision, mapping: np.ndarray | None) -> ChosenTile:
    annotation, checksum, counts = revision.layers, revision.crc32, {int(k): n for k, n in revision.counts.items()}
    if mapping is not None:
        plane = mapping[unpack(revision.layers).plane()]
        annotation, checksum, counts = pack(annotation_of(plane)), crc32(plane), count_values(plane)
    return ChosenTile(
        row0=tile.row0,
        col0=tile.col0,
        height=tile.height,
        width=tile.width,
        annotation=annotation,
        crc32=checksum,
        counts=counts,
        revision=revision.number,
    )


def _groups(images: Sequence[Image], form: TrainingSetCreate) -> dict[str, str | None]:
    """The group of each image by its id."""
    if form.group is None:
        return {image.id: image.group for image in images}
    found = groups_of([image.name for image in images], form.group)
    return {image.id: group for image, group in zip(images, found, strict=True)}
