"""Networks of segmentation-models-pytorch, checked before anything is spent on them."""

import warnings
from difflib import get_close_matches
from functools import lru_cache
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from axons.data.rows import Row
from axons.errors import ConfigurationRefused

Architecture = Literal["unet", "unetplusplus", "fpn", "deeplabv3plus", "segformer"]

STRIDE = 32  # the deepest encoders halve the input five times


class NetworkSpec(Row):
    """Which network: architecture and encoder as segmentation-models-pytorch names them, channels in, classes out."""

    architecture: Architecture
    encoder: str
    channels: Literal[1, 3]
    num_classes: int = Field(ge=2, le=253)


def encoders() -> list[str]:
    """Every encoder that may be asked for."""
    import segmentation_models_pytorch as smp

    return sorted(smp.encoders.get_encoder_names())


def build_network(spec: NetworkSpec, *, seed: int = 0) -> nn.Module:
    """The network with random weights: (N, C, H, W) float32 to (N, K, H, W) logits, H and W multiples of 32."""
    # Three seconds of import, which command lines and the server's other parts do not pay.
    import segmentation_models_pytorch as smp

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # initialisers have no other source of chance
        warnings.simplefilter("ignore")  # timm and torchvision warn about each other's names
        network: nn.Module = smp.create_model(
            spec.architecture,
            encoder_name=spec.encoder,
            encoder_weights=None,
            in_channels=spec.channels,
            classes=spec.num_classes,
        )
    return network


@lru_cache(maxsize=256)
def check_network(spec: NetworkSpec, *, crop: int, batch: int) -> None:
    """Run the network's shapes without memory or arithmetic, as training would.

    Args:
        batch: crops in one forward pass of one worker.
    Raises:
        ConfigurationRefused: `encoder`, `architecture`, `crop` or `batch` cannot work, and why.
    """
    if spec.encoder not in encoders():
        near = get_close_matches(spec.encoder, encoders(), n=3, cutoff=0.0)
        raise ConfigurationRefused("encoder", f"{spec.encoder!r} is unknown; did you mean {', '.join(near)}?")
    if crop % STRIDE:
        raise ConfigurationRefused(
            "crop", f"{crop} px is not a multiple of {STRIDE}; choose {crop - crop % STRIDE or STRIDE}"
        )
    try:
        network = _skeleton(spec)
    except (ValueError, NotImplementedError, KeyError, TypeError) as error:
        raise ConfigurationRefused(
            "encoder", f"{spec.encoder!r} does not fit {spec.architecture} ({error}); choose another encoder"
        ) from error
    try:
        logits = network.train()(torch.empty(batch, spec.channels, crop, crop, device="meta"))
    except (ValueError, RuntimeError) as error:
        field = "batch" if "more than 1 value per channel" in str(error) else "crop"
        remedy = "2 or more crops for each worker" if field == "batch" else "a larger crop or another encoder"
        raise ConfigurationRefused(
            field,
            f"{spec.architecture} with {spec.encoder} cannot train on {batch} x {crop} px ({error}); choose {remedy}",
        ) from error
    if logits.shape != (batch, spec.num_classes, crop, crop):
        raise ConfigurationRefused("encoder", f"{spec.encoder!r} does not fit {spec.architecture}: it changes the size")


def _skeleton(spec: NetworkSpec) -> nn.Module:
    try:
        with torch.device("meta"):
            return build_network(spec)
    except RuntimeError:  # Mix Transformers compute with numbers while they are built
        return build_network(spec).to("meta")
