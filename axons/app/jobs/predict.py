"""Predictions as a job: images that are too large to be answered at once, or many."""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from sqlmodel import Session, col, select

from axons.app.platform import Platform
from axons.app.services.predictions import MASK_PNG, MASK_TIFF, WORKING
from axons.app.services.uploads import release_uploads
from axons.app.tables import Image, Job, Model, Prediction
from axons.data.geotiff import add_geotiff
from axons.data.images import WorkingImage
from axons.data.importing import ImportedImage, Upload, import_images
from axons.data.pictures import encode_mask
from axons.data.pipelines import stream
from axons.data.storage import local_file, open_storage
from axons.data.tiles import TileGrid
from axons.errors import AxonsError, StorageFull, StorageUnavailable
from axons.model.devices import num_cores
from axons.model.files import ModelCard, load_card
from axons.serve.large import LargeRequest, join_blocks, predict_blocks
from axons.serve.predictor import MAX_PIXELS_AT_ONCE, Predictor, load_predictor, segment
from axons.train.driver import cluster_gpus

THREADS = 2

_NOT_THE_IMAGES_FAULT = (StorageFull, StorageUnavailable)
_MEASURED = {"height", "width", "mean", "std", "pixel_size_um", "geo", "notices"}


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """Addresses and measures of every image that has no mask yet."""
    rows = session.exec(
        select(Prediction).where(col(Prediction.id).in_(job.request["prediction_ids"]), col(Prediction.state) != "done")
    ).all()
    return {
        "images": [_image(platform, session, job, row) for row in sorted(rows, key=lambda row: row.name)],
        "gpu_share": platform.settings.segmenter_gpu_share,
    }


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Predict small images beside each other and large ones block by block; one that is refused stops no other."""
    share = float(request["gpu_share"]) if cluster_gpus() > 0 else 0.0
    images = [image for task in request["images"] for image in _imported(task)]
    yield from (image for image in images if "refusal" in image)
    usable = [image for image in images if "refusal" not in image]
    small = [image for image in usable if _seen_pixels(image) <= MAX_PIXELS_AT_ONCE]
    large = [image for image in usable if _seen_pixels(image) > MAX_PIXELS_AT_ONCE]
    done = len(images) - len(usable)
    rows = [json.dumps(image).encode() for image in small]
    for answer in stream(rows, _predict_small, num_cpus=0 if share else THREADS, num_gpus=share, on_gpu=share > 0):
        done += 1
        yield json.loads(answer)
        yield {"progress": done / len(images)}
    for image in large:
        done += 1
        yield _predict_large(image, share)
        yield {"progress": done / len(images)}


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """A mask lies in storage, or never will: the row says so."""
    for found in rows:
        row = session.get_one(Prediction, found["prediction_id"])
        if "refusal" in found:
            row.state, row.reason = "failed", found["refusal"]
            continue
        row.state, row.reason = "done", ""
        row.height, row.width = found["height"], found["width"]
        row.class_pixels = found["class_pixels"]
        row.notices = found["notices"]
        row.pixel_size_um = found["pixel_size_um"]


def finish(session: Session, job: Job) -> str:
    """How many."""
    _release(session, job)
    rows = _rows(session, job)
    failed = [row for row in rows if row.state == "failed"]
    if failed and len(failed) == len(rows):
        return f"no image could be predicted; {failed[0].name!r}: {failed[0].reason}"[:400]
    told = f", {len(failed)} could not be" if failed else ""
    return f"{len(rows) - len(failed)} of {len(rows)} images predicted{told}"


def fail(session: Session, job: Job) -> None:
    """What has no mask will have none."""
    _release(session, job)
    for row in _rows(session, job):
        if row.state != "done":
            row.state, row.reason = "failed", row.reason or job.reason


def _image(platform: Platform, session: Session, job: Job, row: Prediction) -> dict[str, Any]:
    task: dict[str, Any] = {
        "prediction_id": row.id,
        "name": row.name,
        "model": platform.uri(session.get_one(Model, row.model_id).key),
        "target": platform.uri(row.key),
        "scale": row.scale,
    }
    if row.image_id is None:
        return {**task, "upload": platform.uri(job.request["upload_key"])}
    image = session.get_one(Image, row.image_id)
    return {
        **task,
        **image.model_dump(include=_MEASURED),
        "notices": row.notices,
        "working": platform.uri(image.working_key),
    }


def _imported(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """An upload as a working image beside its mask; others are that already."""
    if "upload" not in task:
        yield task
        return
    upload = Upload(image_id=WORKING.removesuffix(".tif"), uri=task["upload"], name=task["name"])
    for found in import_images([upload], target_uri=task["target"], grid=TileGrid(tile=1024)):
        if isinstance(found, ImportedImage):
            measured = found.model_dump(include=_MEASURED)
            yield {**task, **measured, "working": found.working_uri}
        else:
            yield {"prediction_id": task["prediction_id"], "refusal": found.reason}


def _seen_pixels(image: dict[str, Any]) -> float:
    return float(image["height"] * image["width"] * max(1.0, image["scale"]) ** 2)


def _predict_small(row: bytes, *, on_gpu: bool) -> Iterator[bytes]:
    task = json.loads(row)
    try:
        predictor = predictor_of(task["model"], on_gpu)
        found = segment(WorkingImage(local_file(task["working"])).read_all(), predictor, scale=task["scale"])
    except _NOT_THE_IMAGES_FAULT:
        raise
    except AxonsError as error:
        yield json.dumps({"prediction_id": task["prediction_id"], "refusal": str(error)}).encode()
        return
    colours = [label_class.colour for label_class in predictor.card.classes]
    open_storage(task["target"]).write(MASK_PNG, encode_mask(found.mask, colours))
    told = [*found.notices, *_geotiff(task, MASK_PNG, predictor.card)]
    yield json.dumps(_done(task, found.class_pixels, told)).encode()


def _predict_large(task: dict[str, Any], gpu_share: float) -> dict[str, Any]:
    request = LargeRequest(
        working_uri=task["working"],
        height=task["height"],
        width=task["width"],
        mean=task["mean"],
        std=task["std"],
        model_uri=task["model"],
        target_uri=task["target"],
        scale=task["scale"],
        threads=THREADS,
        gpu_share=gpu_share,
    )
    try:
        found = join_blocks(request, list(predict_blocks(request)))
    except _NOT_THE_IMAGES_FAULT:
        raise
    except AxonsError as error:
        return {"prediction_id": task["prediction_id"], "refusal": str(error)}
    assert found.mask_uri.endswith(MASK_TIFF)
    return _done(task, found.class_pixels, [*found.notices, *_geotiff(task, MASK_TIFF, load_card(task["model"]))])


def _geotiff(task: dict[str, Any], mask_key: str, card: ModelCard) -> list[str]:
    if not task["geo"]:
        return []
    classes = [(label_class.name, label_class.colour) for label_class in card.classes]
    return add_geotiff(task["target"], mask_key, task["geo"], classes)


def _done(task: dict[str, Any], class_pixels: list[int], notices: list[str]) -> dict[str, Any]:
    known = {name: task[name] for name in ("prediction_id", "height", "width", "pixel_size_um")}
    return {**known, "class_pixels": class_pixels, "notices": [*task["notices"], *notices]}


def _rows(session: Session, job: Job) -> Sequence[Prediction]:
    wanted = col(Prediction.id).in_(job.request["prediction_ids"])
    return session.exec(select(Prediction).where(wanted)).all()


def _release(session: Session, job: Job) -> None:
    if upload_id := job.request.get("upload_id"):
        release_uploads(session, [upload_id])


@lru_cache(maxsize=2)
def predictor_of(model_uri: str, on_gpu: bool) -> Predictor:
    """One per worker process, kept from image to image."""
    device = torch.device("cuda" if on_gpu else "cpu")
    return load_predictor(model_uri, device=device, threads=min(THREADS, num_cores()))
