"""The report of a run as PDF: the contents of the HTML page, set by Typst."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from axons.errors import NotInstalled
from axons.report import Figure, format_count, format_duration, format_score, report_contents
from axons.train.evaluation import Evaluation, SplitEvaluation

_TEMPLATE = "report.typ"
_NAMES = {"test": "test", "val": "validation", "train": "training"}


def render_pdf(run_uri: str) -> bytes:
    """The pages, tagged for screen readers; nothing is fetched from anywhere.

    Raises:
        RunRefused: the run is not done.
        NotInstalled: Typst is missing.
    """
    try:
        import typst
    except ImportError as error:
        raise NotInstalled(
            "this server cannot write PDF: typst is not installed; ask the administrator to install axons[export], "
            "or print the HTML report"
        ) from error
    contents = report_contents(run_uri)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        template = folder / _TEMPLATE
        template.write_bytes(files("axons").joinpath(_TEMPLATE).read_bytes())
        (folder / "report.json").write_text(json.dumps(_document(contents, _Pictures(folder))), encoding="utf-8")
        pdf: bytes = typst.compile(template, root=folder, format="pdf")
    return pdf


class _Pictures:
    """Pictures written beside the template, whose compiler reads nothing outside that folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def placed(self, figures: Sequence[Figure]) -> list[dict[str, str]]:
        """The figures as the template knows them."""
        rows = []
        for figure in figures:
            self._count += 1
            file = f"{self._count}.{figure.kind}"
            (self._folder / file).write_bytes(figure.data)
            rows.append({"file": file, "caption": figure.caption})
        return rows


def _document(contents: dict[str, Any], pictures: _Pictures) -> dict[str, Any]:
    """All that the template shows, as text that is ready to be set."""
    request, status, card = contents["request"], contents["status"], contents["card"]
    evaluation, training_set = contents["evaluation"], contents["training_set"]
    main_split = contents["main_split"]
    colours = [label_class.colour for label_class in training_set.classes]
    notes = [*training_set.warnings, *card.origin.notices]
    if main_split not in evaluation.splits:
        notes.append("no image was held out: there are no scores; add images and train again")
    title = request.name or request.run_id
    return {
        "title": title,
        "author": f"axons {contents['code_version']}",
        "subtitle": f"Training report · {card.origin.trained_at} · training set “{training_set.name}”, "
        f"{len(training_set.images)} images, {len(training_set.classes)} classes",
        "figures": [
            *_main_figures(evaluation.splits.get(main_split), _NAMES[main_split]),
            (
                format_duration(status.seconds),
                f"training, {len(contents['metrics'].epochs)} epochs, {status.device}",
            ),
        ],
        "notes": notes,
        "charts": [{**asdict(chart), "alt": f"{chart.title} by {chart.x_label}"} for chart in contents["charts"]],
        "samples": pictures.placed(contents["samples"]),
        "splits": [
            {
                **_split(evaluation, split, colours),
                "worst": [
                    {
                        "title": f"{tile.name}, row {tile.row0}, column {tile.col0}: "
                        f"{100 * tile.error_rate:.1f} % of the pixels are wrong",
                        "pictures": pictures.placed(figures),
                    }
                    for tile, figures in contents["worst"][split]
                ],
            }
            for split in ("test", "val")
            if split in evaluation.splits
        ],
        **_data(training_set, contents["splits"]),
        "card": _card(contents),
        "settings": list(contents["settings"].items()),
    }


def _main_figures(scored: SplitEvaluation | None, name: str) -> list[tuple[str, str]]:
    if scored is None:
        return []
    return [
        (format_score(scored.mean_iou), f"mean IoU, {name} images: {scored.num_images}"),
        (format_score(scored.pixel_accuracy), "of their pixels have the right class"),
        *((format_score(row.dice), f"Dice of {row.name}") for row in scored.classes[1:5]),
    ]


def _split(evaluation: Evaluation, split: str, colours: Sequence[str]) -> dict[str, Any]:
    scored = evaluation.splits[split]  # type: ignore[index]
    names = [row.name for row in scored.classes]
    summary = (
        f"Images: {scored.num_images}, pooled into one confusion matrix; error rate {format_score(scored.error_rate)}; "
        f"{scored.ms_per_tile:.1f} ms for a window of {evaluation.window} px, "
        f"{scored.images_per_minute:.0f} images a minute."
    )
    if scored.mean_iou_interval:
        low, high = map(format_score, scored.mean_iou_interval)
        summary += f" Mean IoU of an image: {format_score(scored.mean_iou_per_image)}, 95 % interval {low} to {high}."
    if split == "val":
        summary += " These images chose the best epoch, so their scores are a little too good."
    return {
        "title": f"Scores on the {_NAMES[split]} images",
        "summary": summary,
        "heads": [
            *("class", "IoU", "Dice", "precision", "recall"),
            f"boundary F ({evaluation.boundary_tolerance} px)",
            "pixels",
        ],
        "classes": [
            {
                "name": row.name,
                "colour": colour,
                "values": [
                    *map(format_score, (row.iou, row.dice, row.precision, row.recall, row.boundary_f)),
                    format_count(row.pixels),
                ],
            }
            for row, colour in zip(scored.classes, colours, strict=True)
        ],
        "names": names,
        "confusion_title": f"Confusion matrix, {_NAMES[split]} images: rows are the truth, columns the prediction",
        "confusion": [[_cell(count, sum(row)) for count in row] for row in scored.confusion],
        "image_heads": ["image", "mean IoU", "pixel accuracy", *(f"IoU {name}" for name in names)],
        "images": [
            [row.name, *map(format_score, (row.mean_iou, row.pixel_accuracy, *row.iou))] for row in scored.images
        ],
    }


def _cell(count: int, total: int) -> dict[str, Any]:
    share = count / total if total else 0.0
    return {"share": share, "percent": f"{100 * share:.1f} %", "pixels": format_count(count)}


def _data(training_set: Any, splits: Sequence[str]) -> dict[str, Any]:
    names, found = [row.name for row in training_set.classes], training_set.diversity
    diversity = (
        f"{found.num_images} images from {found.num_groups} sources; their mean brightness goes from "
        f"{found.brightness_min:.2f} to {found.brightness_max:.2f} (0 black, 1 white)."
    )
    if found.pixel_sizes_um:
        diversity += f" Pixel sizes: {', '.join(map(str, found.pixel_sizes_um))} µm."
    return {
        "data_heads": [
            *("split", "images"),
            *(f"{name}, px" for name in names),
            *(f"{name}, objects" for name in names[1:]),
        ],
        "data": [
            [
                split,
                str(len(training_set.images_of(split))),
                *map(format_count, training_set.balance.pixels[split]),
                *map(format_count, training_set.balance.objects[split][1:]),
            ]
            for split in splits
            if training_set.images_of(split)
        ],
        "diversity": diversity,
    }


def _card(contents: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines of the model card; what is not known has none."""
    card, request, training_set = contents["card"], contents["request"], contents["training_set"]
    origin = card.origin
    size = (
        f"about {card.pixel_size_um} µm per pixel" if card.pixel_size_um else f"{card.scale:g} times their pixel size"
    )
    by = "each image" if card.normalisation.kind == "image" else "the training set"
    lines = [
        ("network", f"{card.architecture} with {card.encoder}, channels: {card.channels}"),
        ("classes", ", ".join(row.name for row in card.classes)),
        (
            "good for",
            f"images like those of the training set, at {size}; look at a few predictions before you trust others",
        ),
        ("normalisation", f"by the mean and spread of {by}"),
        ("prediction", f"windows of {card.window} px that share {card.overlap} px, blended"),
        (
            "trained",
            f"{origin.trained_at}, {origin.epochs} epochs, {origin.steps} steps, {format_duration(origin.seconds)} on "
            f"{origin.device}",
        ),
        ("began from", origin.init_model),
        ("run", request.run_id),
        ("training set", f"{training_set.name}, sha256 {origin.training_set_sha256}"),
        ("weights", f"sha256 {card.sha256}"),
        ("made with", f"axons {card.code_version}"),
        *((name, str(value)) for name, value in request.metadata.items()),
    ]
    return [(name, text) for name, text in lines if text]
