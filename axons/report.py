"""A run folder as one HTML page that opens offline."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from axons import __version__
from axons.data.storage import Storage
from axons.data.training_set import SPLITS, load_training_set
from axons.errors import ObjectNotFound, RunRefused
from axons.model.files import ModelCard, load_card
from axons.train.evaluation import Evaluation
from axons.train.run import EVALUATION, EpochMetrics, RunFolder, RunRequest, Status

_WIDTH, _HEIGHT = 520, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 30
_LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A7A7A")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture for the report: PNG or JPEG bytes and what it shows."""

    data: bytes
    caption: str

    @property
    def kind(self) -> str:
        """png or jpeg."""
        return "png" if self.data.startswith(b"\x89PNG") else "jpeg"

    @property
    def uri(self) -> str:
        """The picture inside the page."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve of a chart, as SVG coordinates."""

    name: str
    colour: str
    points: str
    last: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A line chart in SVG coordinates: ticks are (position, text)."""

    title: str
    x_label: str
    width: int
    height: int
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]


def write_report(run_uri: str, path: Path, *, figures: Sequence[Figure] = ()) -> None:
    """Write the report of a finished run; `figures` come first, such as an overlay of a held-out image.

    Raises:
        RunRefused: the run is not done.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_report(run_uri, figures=figures), encoding="utf-8")


def render_report(run_uri: str, *, figures: Sequence[Figure] = ()) -> str:
    """The page; see `write_report`."""
    environment = Environment(
        loader=PackageLoader("axons", "."),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=format_score, count=format_count, duration=format_duration)
    template = environment.get_template("report.html.j2")
    return template.render(report_contents(run_uri), figures=figures)


def report_contents(run_uri: str) -> dict[str, Any]:
    """What a report of a finished run says, by the names that the page uses.

    Raises:
        RunRefused: the run is not done.
    """
    folder = RunFolder(run_uri)
    request, status, metrics = folder.request(), folder.status(), folder.metrics()
    if status.state != "done" or metrics is None:
        raise RunRefused(f"run {request.run_id!r} is {status.state}; a report needs a finished training")
    evaluation = Evaluation.unpacked(folder.storage.read(EVALUATION), name=EVALUATION, error=RunRefused)
    training_set = load_training_set(request.training_set, sha256=request.training_set_sha256)
    card = load_card(f"{folder.uri}/{status.model}")
    return {
        "request": request,
        "status": status,
        "metrics": metrics,
        "evaluation": evaluation,
        "main_split": "test" if "test" in evaluation.splits else "val",
        "training_set": training_set,
        "splits": SPLITS,
        "card": card,
        "settings": _settings(request, card, folder),
        "charts": _charts(metrics.epochs, metrics.classes),
        "samples": _samples(folder.storage, metrics.epochs, status),
        "worst": _worst(folder.storage, evaluation),
        "code_version": __version__,
    }


def line_chart(
    title: str, x: Sequence[float], curves: dict[str, Sequence[float | None]], *, x_label: str, top: float | None = None
) -> Chart:
    """Curves over `x`; None leaves a gap out. The y axis begins at 0 and ends at `top`, or above the highest value."""
    known = [value for values in curves.values() for value in values if value is not None]
    high = top if top is not None else _nice(max(known, default=1.0))
    last_x = max(x) if x else 1.0
    first_x = min(0.0, min(x, default=0.0))

    def place(a: float, b: float) -> tuple[float, float]:
        across = (a - first_x) / max(last_x - first_x, 1e-9)
        return (
            round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - min(b / high, 1.0) * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    lines = []
    for colour, (name, values) in zip(_LINE_COLOURS * (1 + len(curves) // 7), curves.items(), strict=False):
        points = [place(a, b) for a, b in zip(x, values, strict=True) if b is not None]
        if points:
            text = " ".join(f"{a},{b}" for a, b in points)
            lines.append(Line(name=name, colour=colour, points=text, last=points[-1]))
    steps = sorted({round(first_x + (last_x - first_x) * i / 4) for i in range(5)})
    return Chart(
        title=title,
        x_label=x_label,
        width=_WIDTH,
        height=_HEIGHT,
        x_ticks=[(place(step, 0)[0], f"{step:g}") for step in steps],
        y_ticks=[(place(first_x, high * i / 4)[1], f"{high * i / 4:.3g}") for i in range(5)],
        lines=lines,
    )


def format_score(value: float | None) -> str:
    """Three decimals, or a dash for what is not defined."""
    return "–" if value is None else f"{value:.3f}"


def format_count(value: int) -> str:
    """Thousands apart by a narrow space."""
    return f"{value:,}".replace(",", "\u202f")


def format_duration(seconds: float) -> str:
    """Hours, minutes and seconds, the two largest that there are."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _charts(epochs: Sequence[EpochMetrics], classes: Sequence[str]) -> list[Chart]:
    x = [float(epoch.epoch) for epoch in epochs]
    loss: dict[str, Sequence[float | None]] = {"training": [epoch.train_loss for epoch in epochs]}
    if any(epoch.val_loss is not None for epoch in epochs):
        loss["validation"] = [epoch.val_loss for epoch in epochs]
    charts = [line_chart("Loss", x, loss, x_label="epoch")]
    if any(epoch.val_mean_iou is not None for epoch in epochs):
        iou: dict[str, Sequence[float | None]] = {"mean": [epoch.val_mean_iou for epoch in epochs]}
        for k, name in enumerate(classes):
            iou[name] = [epoch.val_iou[k] if epoch.val_iou else None for epoch in epochs]
        charts.append(line_chart("IoU on the validation images", x, iou, x_label="epoch", top=1.0))
    return charts


def _samples(storage: Storage, epochs: Sequence[EpochMetrics], status: Status) -> list[Figure]:
    """Fixed crops: the truth, and the predictions after the first, the best and the last epoch."""
    chosen = {
        1: "after the first epoch",
        status.best_epoch or 0: "after the best epoch",
        len(epochs): "after the last epoch",
    }
    if status.best_epoch == len(epochs):
        chosen[len(epochs)] = "after the last epoch, the best one"
    figures = [_figure(storage, "samples/truth.png", "what people have labelled")]
    for epoch in epochs:
        if epoch.sample and epoch.epoch in chosen:
            figures.append(_figure(storage, epoch.sample, f"{chosen[epoch.epoch]} ({epoch.epoch})"))
    return [figure for figure in figures if figure]


def _worst(storage: Storage, evaluation: Evaluation) -> dict[str, list[tuple[Any, list[Figure]]]]:
    return {
        split: [
            (
                tile,
                [
                    figure
                    for key, caption in (
                        (tile.truth, "truth"),
                        (tile.prediction, "prediction"),
                        (tile.difference, "difference"),
                    )
                    if (figure := _figure(storage, key, caption))
                ],
            )
            for tile in scored.worst
        ]
        for split, scored in evaluation.splits.items()
    }


def _figure(storage: Storage, key: str, caption: str) -> Figure | None:
    try:
        return Figure(data=storage.read(key), caption=caption)
    except ObjectNotFound:
        return None


def _settings(request: RunRequest, card: ModelCard, folder: RunFolder) -> dict[str, str]:
    """Every setting as it was used, the defaults settled."""
    resolved = folder.resolved()
    assert resolved is not None  # every attempt writes it first
    settled: dict[str, Any] = {
        "encoder": resolved.network.encoder,
        "crop": f"{resolved.crop} px",
        "batch": resolved.batch,
        "learning_rate": resolved.learning_rate,
        "normalisation": resolved.normalisation.kind,
        "minutes": resolved.minutes,
        "epochs": resolved.epochs,
        "window": f"{card.window} px, overlap {card.overlap} px",
        "steps_per_epoch": resolved.steps_per_epoch,
    }
    chosen = {**request.config.model_dump(), **settled}
    return {name.replace("_", " "): _plain(value) for name, value in chosen.items() if value is not None}


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _nice(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 4, 5, 6, 8, 10 times a power of ten that is not below `value`."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)
