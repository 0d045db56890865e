"""Model files: `model.safetensors`, `model.json` and a few validation crops; never pickle."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from axons import __version__
from axons.data.rows import Row
from axons.data.storage import open_storage, sha256_of
from axons.data.tiles import TileGrid
from axons.data.training_set import MAX_SCALE, MIN_SCALE, LabelClass
from axons.errors import ModelRefused, ObjectNotFound
from axons.model.network import STRIDE, Architecture, NetworkSpec, build_network
from axons.model.normalisation import Normalisation

WEIGHTS = "model.safetensors"
CARD = "model.json"
CROPS = "crops.safetensors"
ONNX = "model.onnx"  # made by the first export


class Origin(Row):
    """Where a model comes from: a training run, or weights that somebody brought."""

    run: str | None = None
    training_set: str | None = None
    training_set_sha256: str | None = None
    init_model: str | None = None
    imported_from: str | None = None
    trained_at: str | None = None
    epochs: int | None = None
    steps: int | None = None
    seconds: float | None = None
    device: str | None = None
    notices: list[str] = []


class ModelCard(Row):
    """All that using a model needs, and all that trusting it needs.

    Args:
        crop: side of the training crops in px; inference windows have at least this side.
        window, overlap: of inference, px.
        scale, pixel_size_um: at which the network has seen images; the pixel size is that after scaling, if known.
        scores: of the splits it was evaluated on, as `evaluation.json` has them in short.
        sha256, crops_sha256: of the weights and of the validation crops.
    """

    version: Literal[1] = 1
    architecture: Architecture
    encoder: str
    channels: Literal[1, 3]
    classes: list[LabelClass] = Field(min_length=2)
    normalisation: Normalisation
    crop: int = Field(gt=0, multiple_of=STRIDE)
    window: int = Field(gt=0, multiple_of=STRIDE)
    overlap: int = Field(ge=0)
    scale: float = Field(1.0, ge=MIN_SCALE, le=MAX_SCALE)
    pixel_size_um: float | None = Field(None, gt=0, allow_inf_nan=False)
    scores: dict[str, dict[str, Any]] = {}
    origin: Origin
    sha256: str
    crops_sha256: str | None = None
    code_version: str = __version__

    @model_validator(mode="after")
    def _check(self) -> Self:
        TileGrid(tile=self.window, overlap=self.overlap)
        for name, values in (("mean", self.normalisation.mean), ("std", self.normalisation.std)):
            if len(values) != self.channels:
                raise ValueError(f"normalisation.{name} has {len(values)} values for {self.channels} channels")
        return self

    @property
    def spec(self) -> NetworkSpec:
        """The network to build."""
        return NetworkSpec(
            architecture=self.architecture, encoder=self.encoder, channels=self.channels, num_classes=len(self.classes)
        )


@dataclass(frozen=True, kw_only=True)
class Model:
    """A loaded model: its card, its network in evaluation mode, and its validation crops (N, C, H, W) normalised."""

    card: ModelCard
    network: nn.Module
    crops: torch.Tensor | None


def write_weights(network: nn.Module, path: Path) -> str:
    """Save a network's weights on the CPU as float32 safetensors; returns their sha256."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, path)
    return sha256_of(path)


def write_model(network: nn.Module, card: ModelCard, crops: torch.Tensor | None, *, target_uri: str) -> ModelCard:
    """Write a model into `target_uri`, the card last: a folder without a card is not a model.

    What an interrupted writer has left there is written again. Returns the card with the hashes filled in.
    """
    target = open_storage(target_uri)
    with tempfile.TemporaryDirectory() as folder:
        weights, crops_file = Path(folder, WEIGHTS), Path(folder, CROPS)
        update: dict[str, Any] = {"sha256": write_weights(network, weights)}
        if not target.exists(CARD):
            target.delete_prefix(WEIGHTS)
            target.delete_prefix(CROPS)
        target.write(WEIGHTS, weights)
        if crops is not None:
            save_file({"crops": crops.float().cpu().contiguous()}, crops_file)
            update["crops_sha256"] = sha256_of(crops_file)
            target.write(CROPS, crops_file)
        finished = card.model_copy(update=update)
        target.write(CARD, finished.packed())
    return finished


def load_card(uri: str) -> ModelCard:
    """The card of the model in folder `uri`.

    Raises:
        ModelRefused: there is none, or it cannot be read.
    """
    try:
        return ModelCard.unpacked(open_storage(uri).read(CARD), name=f"model card {uri}/{CARD}", error=ModelRefused)
    except ObjectNotFound as error:
        raise ModelRefused(f"no model at {uri}: it has no {CARD}; check the address") from error


def load_model(uri: str, *, device: torch.device) -> Model:
    """The model in folder `uri`, through the node's cache, in evaluation mode.

    Raises:
        ModelRefused: a file is missing or damaged, or the weights are not those of the card's network.
        ChecksumMismatch: the bytes are not those the card promises.
    """
    card, target = load_card(uri), open_storage(uri)
    try:
        weights = target.local_path(WEIGHTS, sha256=card.sha256)
        network = load_weights(card.spec, weights)
        crops = None
        if card.crops_sha256:
            crops = load_file(target.local_path(CROPS, sha256=card.crops_sha256))["crops"]
    except ObjectNotFound as error:
        raise ModelRefused(f"model {uri} is incomplete ({error})") from error
    return Model(card=card, network=network.to(device).eval(), crops=crops)


def load_weights(spec: NetworkSpec, path: Path) -> nn.Module:
    """The network `spec` with the weights of a safetensors file: every name, shape and type must agree.

    Raises:
        ModelRefused: the first difference, or damage.
    """
    tensors = read_tensors(path)
    try:
        network = build_network(spec)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ModelRefused(
            f"no {spec.architecture} with encoder {spec.encoder!r} can be built here ({error}); "
            "update axons, or choose another encoder"
        ) from error
    check_tensors(tensors, network.state_dict(), what=f"{spec.architecture} with {spec.encoder}")
    network.load_state_dict(tensors)
    return network


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, all finite.

    Raises:
        ModelRefused: it is damaged, or has values that are not numbers.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelRefused(f"{path.name} is not a safetensors file ({error}); restore it or export it again") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelRefused(
                f"weight {name!r} holds values that are not finite; the model is useless, train it again"
            )
    return tensors


def check_tensors(tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], *, what: str) -> None:
    """Raises `ModelRefused` unless both have the same names, shapes and types."""
    missing, strange = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or strange:
        example = f"{missing[0]!r} is missing" if missing else f"{strange[0]!r} is unknown"
        raise ModelRefused(
            f"the weights are not those of {what}: {len(missing)} names are missing and {len(strange)} unknown "
            f"({example}); choose the architecture, encoder and classes they were trained with"
        )
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape or tensors[name].dtype != tensor.dtype:
            raise ModelRefused(
                f"weight {name!r} is {tuple(tensors[name].shape)} {tensors[name].dtype}, but {what} has "
                f"{tuple(tensor.shape)} {tensor.dtype}; choose the channels and classes it was trained with"
            )


def import_weights(
    path: Path,
    *,
    spec: NetworkSpec,
    classes: list[LabelClass],
    normalisation: Normalisation,
    crop: int,
    target_uri: str,
    name: str,
) -> ModelCard:
    """Make a model of plain safetensors weights that somebody trained elsewhere.

    Raises:
        ModelRefused: the weights do not fit the network, or the classes do not fit the weights.
        ValueError: `crop` is no multiple of 32, or the normalisation has another number of channels.
    """
    if len(classes) != spec.num_classes:
        raise ModelRefused(
            f"{len(classes)} classes for weights with {spec.num_classes}; name each class, background first"
        )
    card = ModelCard(
        architecture=spec.architecture,
        encoder=spec.encoder,
        channels=spec.channels,
        classes=classes,
        normalisation=normalisation,
        crop=crop,
        window=crop,
        overlap=crop // 4,
        origin=Origin(imported_from=name),
        sha256="",
    )
    return write_model(load_weights(spec, path), card, None, target_uri=target_uri)


def start_from(network: nn.Module, source: Model) -> list[str]:
    """Copy an earlier model's weights into a network of the same architecture and encoder; returns notices.

    The last layer stays random where the classes differ in number.

    Raises:
        ModelRefused: another architecture, encoder or number of channels.
    """
    own, theirs = network.state_dict(), source.network.state_dict()
    fitting = {name: tensor for name, tensor in theirs.items() if name in own and own[name].shape == tensor.shape}
    left = [name for name in own if name not in fitting]
    if any(not name.startswith("segmentation_head") for name in left) or own.keys() != theirs.keys():
        raise ModelRefused(
            f"the earlier model is {source.card.architecture} with {source.card.encoder} for "
            f"{source.card.channels} channels; choose the same network to start from it"
        )
    network.load_state_dict(fitting, strict=False)
    if left:
        return [f"the earlier model knows {len(source.card.classes)} classes: the last layer begins at random"]
    return []


def load_encoder_weights(network: nn.Module, encoder: str, *, folder_uri: str) -> None:
    """Copy the weights of a pretrained encoder, `folder_uri/<encoder>.safetensors`, into a network.

    Where the network has one channel and the weights have three, the first layer takes their sum.

    Raises:
        ModelRefused: there is no such file, or it is not this encoder.
    """
    try:
        path = open_storage(folder_uri).local_path(f"{encoder}.safetensors")
    except ObjectNotFound as error:
        raise ModelRefused(
            f"no weights for encoder {encoder!r} in {folder_uri}; put {encoder}.safetensors there"
        ) from error
    encoder_network = network.get_submodule("encoder")
    wanted = encoder_network.state_dict()
    tensors = {
        name: tensor.sum(dim=1, keepdim=True) if _is_colour_for_grey(tensor, wanted.get(name)) else tensor
        for name, tensor in read_tensors(path).items()
    }
    check_tensors(tensors, wanted, what=f"encoder {encoder}")
    encoder_network.load_state_dict(tensors)


def _is_colour_for_grey(tensor: torch.Tensor, wanted: torch.Tensor | None) -> bool:
    return wanted is not None and tensor.ndim == 4 and tensor.shape[1] == 3 and wanted.shape[1] == 1
