"""Rows of imported labels, as the imports of images and of annotations yield and commit them."""

from collections.abc import Iterator
from typing import Any

from sqlmodel import Session

from axons.app.services.annotation_files import accept_done, accept_labels
from axons.app.tables import Job
from axons.data.importing import ImportedLabels, TileLabels


def label_rows(labels: ImportedLabels) -> Iterator[dict[str, Any]]:
    """`{"labels": ..., "image_id": ...}`, one a tile, `{"notice": ...}`, and `{"done": image_id}` at the end."""
    for notice in labels.notices:
        yield {"notice": f"{labels.name}: {notice}"}
    for tile in labels.tiles:
        yield {"labels": tile.model_dump(mode="json"), "image_id": labels.image_id}
    if labels.is_done:
        yield {"done": labels.image_id}


def commit_labels(session: Session, job: Job, row: dict[str, Any], *, keeps_existing: bool = False) -> None:
    """Put a row of `label_rows` into the tables; other rows change nothing."""
    if "labels" in row:
        labels = TileLabels.model_validate(row["labels"])
        accept_labels(session, job, row["image_id"], labels, keeps_existing=keeps_existing)
    elif "done" in row:
        accept_done(session, job, row["done"])
    elif "notice" in row:
        notices = {*job.result.get("notices", []), row["notice"]}
        job.result = {**job.result, "notices": sorted(notices)}


def labels_sentence(job: Job) -> str:
    """How many labels a job has imported."""
    num_tiles, num_replaced = job.result.get("num_tiles", 0), job.result.get("num_replaced", 0)
    sentence = f"labels of {num_tiles} tile{'' if num_tiles == 1 else 's'} imported"
    if num_replaced:
        sentence += f", {num_replaced} of them had others before, which are in their history"
    if kept_in := job.result.get("kept_in"):
        sentence += f"; in {len(kept_in)} images tiles that were labelled or done were left alone"
    return sentence
