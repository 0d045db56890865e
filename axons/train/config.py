"""What a person may choose about a training, checked before anything is spent on it."""

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from axons.data.rows import Row
from axons.data.training_set import TrainingSet
from axons.errors import ConfigurationRefused
from axons.model.network import STRIDE, Architecture, NetworkSpec, check_network
from axons.model.normalisation import Normalisation, NormalisationKind

Device = Literal["auto", "gpu", "cpu"]
Loss = Literal["cross-entropy + dice", "cross-entropy", "dice"]

DEFAULT_MINUTES = 5.0
MIN_STEPS_PER_EPOCH = 20

_ON_GPU = (512, 16)  # side of the crops, px, and how many are in a step
_ON_CPU = ((256, 8), (256, 4), (128, 8), (128, 4))  # the first with which the minutes are enough for _MIN_STEPS
_MIN_STEPS = 100

_Crop = Annotated[int, Field(ge=STRIDE, le=2048, multiple_of=STRIDE)]


class TrainConfig(Row):
    """The settings of a training; the form, the REST schema and the command are made from this class."""

    minutes: float | None = Field(None, gt=0, le=24 * 60, description="Train for this long. Give minutes or epochs.")
    epochs: int | None = Field(None, ge=1, le=10_000, description="Train for so many epochs. Give minutes or epochs.")
    architecture: Architecture = Field("unet", description="Shape of the network.")
    encoder: str | None = Field(
        None,
        max_length=60,
        description="Half of the network that sees; by default resnet18 on a CPU, resnet34 on a GPU.",
    )
    crop: _Crop | None = Field(
        None,
        description="Side of the training crops, px; by default 512 on a GPU, 256 on a CPU, 128 in few minutes.",
    )
    batch: int | None = Field(
        None,
        ge=1,
        le=512,
        description="Crops in one step, over all workers; by default 16 on a GPU, 8 on a CPU, 4 in few minutes.",
    )
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="Step size at the start; by default 0.001, from an earlier model 0.0003."
    )
    weight_decay: float = Field(1e-4, ge=0, le=1, description="How strongly weights are pulled towards zero.")
    loss: Loss = Field("cross-entropy + dice", description="What the network is told to make small.")
    rare_share: float = Field(1 / 3, ge=0, le=1, description="Share of crops centred on a pixel of a rare class.")
    orientation: Literal["any", "upright"] = Field(
        "any",
        description="any: crops are turned and mirrored; upright: only mirrored left to right, as in street scenes.",
    )
    scale_min: float = Field(0.7, ge=0.25, le=1, description="Crops are shrunk at most to this size.")
    scale_max: float = Field(1.4, ge=1, le=4, description="Crops are enlarged at most to this size.")
    intensity: float = Field(
        1.0, ge=0, le=2, description="Strength of random brightness, contrast, noise and blur; 0 is none."
    )
    normalisation: Literal["auto"] | NormalisationKind = Field(
        "auto",
        description="By each image's own mean and std, or those of the training set; auto: grey images by their own.",
    )
    patience: int = Field(
        30, ge=0, le=10_000, description="Stop after so many epochs without a better validation; 0 is never."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Beginning of all chance.")
    device: Device = Field("auto", description="auto takes a GPU if the cluster has any.")
    preset: str | None = Field(
        None, max_length=60, description="Named share of a machine for each process; by default the server's usual one."
    )
    num_workers: int = Field(1, ge=1, le=64, description="Processes that share the batch.")
    init_model: str | None = Field(None, max_length=1000, description="Model to start from.")
    encoder_weights: str | None = Field(
        None, max_length=1000, description="Folder with pretrained encoders as safetensors."
    )

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.minutes is not None and self.epochs is not None:
            raise ValueError(f"both minutes ({self.minutes:g}) and epochs ({self.epochs}) are given; choose one")
        return self


class ResolvedConfig(Row):
    """A configuration with every default settled: the same in every attempt of a run.

    Args:
        steps_per_epoch: optimiser steps; with a small set the same pixels are seen several times.
        pace: pixels of crops that a CPU trains on in a second, where that was asked to choose crop and batch.
    """

    config: TrainConfig
    minutes: float | None
    epochs: int | None
    network: NetworkSpec
    crop: int
    batch: int
    learning_rate: float
    normalisation: Normalisation
    steps_per_epoch: int
    pace: float | None = None

    @property
    def is_made_smaller(self) -> bool:
        """Whether crop or batch are smaller than usual, for want of time."""
        crop, batch = _ON_CPU[0]
        usual = (self.config.crop or crop, self.config.batch or batch)
        return self.pace is not None and (self.crop, self.batch) != usual


def check(resolved: ResolvedConfig) -> None:
    """Run the shapes of the whole training, without memory or arithmetic, before anything is spent on it.

    Raises:
        ConfigurationRefused: names the field.
    """
    check_network(resolved.network, crop=resolved.crop, batch=resolved.batch // resolved.config.num_workers)


def resolve(
    config: TrainConfig,
    training_set: TrainingSet,
    *,
    on_gpu: bool,
    cpu_pace: Callable[[NetworkSpec], float] | None = None,
) -> ResolvedConfig:
    """Settle the defaults for a training set and a kind of device.

    Args:
        cpu_pace: asked for the pixels of crops that a CPU trains on in a second, if that decides anything: crop and
            batch that nobody has chosen become smaller where the minutes would be over after a few steps.

    Raises:
        ConfigurationRefused: names the field; whether the network itself can work, `check` tells.
    """
    spec = NetworkSpec(
        architecture=config.architecture,
        encoder=config.encoder or ("resnet34" if on_gpu else "resnet18"),
        channels=3 if training_set.channels == 3 else 1,
        num_classes=training_set.num_classes,
    )
    minutes = config.minutes or (None if config.epochs else DEFAULT_MINUTES)
    choices = [_ON_GPU] if on_gpu else list(_ON_CPU)
    choices = list(dict.fromkeys((config.crop or crop, config.batch or batch) for crop, batch in choices))
    choices = [choice for choice in choices if choice[1] % config.num_workers == 0] or choices
    pace = cpu_pace(spec) if cpu_pace and minutes and len(choices) > 1 else None
    crop, batch = _largest_that_fits(choices, pixels=60 * minutes * pace) if minutes and pace else choices[0]
    if batch % config.num_workers:
        raise ConfigurationRefused(
            "batch",
            f"{batch} crops cannot be shared by {config.num_workers} workers; choose a multiple of it",
        )
    if config.init_model and config.encoder_weights:
        raise ConfigurationRefused("encoder_weights", "the earlier model already has an encoder; give one of the two")
    labelled = sum(record.labelled_pixels for record in training_set.records_of("train"))
    kind = config.normalisation
    if kind == "auto":
        kind = "image" if training_set.channels == 1 else "training set"
    return ResolvedConfig(
        config=config,
        minutes=minutes,
        epochs=config.epochs,
        network=spec,
        crop=crop,
        batch=batch,
        learning_rate=config.learning_rate or (3e-4 if config.init_model else 1e-3),
        normalisation=Normalisation(kind=kind, mean=training_set.mean, std=training_set.std),
        steps_per_epoch=max(MIN_STEPS_PER_EPOCH, round(labelled / (crop**2 * batch))),
        pace=pace,
    )


def _largest_that_fits(choices: list[tuple[int, int]], *, pixels: float) -> tuple[int, int]:
    """The first crop and batch that are enough steps for so many pixels; the last if none is."""
    return next((choice for choice in choices if _MIN_STEPS * choice[0] ** 2 * choice[1] <= pixels), choices[-1])
