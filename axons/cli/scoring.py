"""Scores of a model on a person's own images and masks, which no training set has."""

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axons.cli.output import Progress
from axons.errors import AnnotationRefused, AxonsError

if TYPE_CHECKING:
    from axons.client import Client


def score_folder(
    client: "Client", model: dict[str, Any], images: Path, masks: Path, progress: Progress
) -> dict[str, Any]:
    """Predict every image that has a mask of the same name, and compare; `scores` as an evaluation has them.

    Raises:
        AxonsError: no image has a mask, or a mask does not fit its image or the classes of the model.
    """
    import numpy as np

    from axons.data.decoding import Decoder
    from axons.data.masks import guess_coding, to_classes
    from axons.train.metrics import class_scores, confusion_matrix, mean_iou, pixel_accuracy

    names = [entry["name"] for entry in model["card"]["classes"]]
    by_stem = {path.stem: path for path in sorted(masks.iterdir()) if path.is_file()}
    pairs = [(path, by_stem[path.stem]) for path in sorted(images.iterdir()) if path.stem in by_stem]
    if not pairs:
        raise AxonsError(f"no image in {str(images)!r} has a mask of the same name in {str(masks)!r}; rename the masks")
    with Decoder() as decoder, tempfile.TemporaryDirectory() as folder:
        raw = {mask: decoder.read_mask(mask, name=mask.name) for _, mask in pairs}
        values = {int(value) for mask in raw.values() for value in np.unique(mask.values)}
        coding = guess_coding(values, len(names))
        confusion: Any = 0
        for number, (image, mask) in enumerate(pairs):
            truth = to_classes(raw[mask], coding, name=mask.name, num_classes=len(names)).values
            prediction = client.predict(model["id"], image, project_id=model["project_id"])
            target = client.download(f"predictions/{prediction['id']}/mask", Path(folder) / f"{number}.png")
            predicted = decoder.read_mask(target, name=image.name).values
            if predicted.shape != truth.shape:
                raise AnnotationRefused(f"mask {mask.name!r} has another size than {image.name!r}; export it again")
            confusion = confusion + confusion_matrix(predicted, truth, len(names))
            progress((number + 1) / len(pairs), f"evaluating {image.name}")
    scores = [
        {"name": name, "iou": _number(row.iou), "dice": _number(row.dice)}
        for name, row in zip(names, class_scores(confusion), strict=True)
    ]
    total = {"mean_iou": _number(mean_iou(confusion)), "pixel_accuracy": _number(pixel_accuracy(confusion))}
    return {"model_id": model["id"], "num_images": len(pairs), "scores": {**total, "classes": scores}}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
