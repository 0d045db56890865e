"""Small model folders, predictors without a network, and predictions to compare with."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from axons.model.files import ModelCard, Origin, write_model
from axons.model.network import NetworkSpec, build_network
from axons.model.normalisation import Normalisation
from axons.serve.predictor import Predictor
from tests.drawing import CLASSES

CPU = torch.device("cpu")
ENCODER = "timm-mobilenetv3_small_100"  # OpenVINO compiles it in a second


def make_card(**changes) -> ModelCard:
    """The card of a small grey network with three classes and windows of 64 px."""
    usual = {
        "architecture": "unet",
        "encoder": ENCODER,
        "channels": 1,
        "classes": CLASSES,
        "normalisation": Normalisation(kind="image", mean=[0.5], std=[0.2]),
        "crop": 64,
        "window": 64,
        "overlap": 16,
        "origin": Origin(run="run-1"),
        "sha256": "",
    }
    return ModelCard(**{**usual, **changes})


def make_network(card: ModelCard, *, seed: int = 0) -> nn.Module:
    """The card's network with random weights."""
    spec = NetworkSpec(
        architecture=card.architecture,
        encoder=card.encoder,
        channels=card.channels,
        num_classes=len(card.classes),
    )
    return build_network(spec, seed=seed).eval()


def make_model(folder: Path | str, *, seed: int = 0, **changes) -> str:
    """A model folder with random weights; returns its address."""
    card = make_card(**changes)
    write_model(make_network(card, seed=seed), card, None, target_uri=str(folder))
    return str(folder)


def make_useless_model(folder: Path | str) -> str:
    """A model whose weights are finite and whose output is not: 1e30 times 1e30 is too large for float32."""
    card = make_card()
    network = make_network(card)
    for name, weight in network.named_parameters():
        if name.endswith("segmentation_head.0.weight") or "decoder.blocks.4.conv2.1.weight" in name:
            nn.init.constant_(weight, 1e30)
    write_model(network, card, None, target_uri=str(folder))
    return str(folder)


def by_brightness(windows: torch.Tensor) -> torch.Tensor:
    """Logits that depend on the pixel alone: dark is class 0, middle 1, bright 2."""
    centres = torch.tensor([-1.0, 0.0, 1.0])[:, None, None]
    return -4 * (windows.mean(dim=1, keepdim=True) - centres).abs()


def make_predictor(forward: Callable[[torch.Tensor], torch.Tensor] = by_brightness, **changes) -> Predictor:
    """A predictor that runs a function instead of a network."""
    return Predictor(card=make_card(**changes), forward=forward, device=CPU, backend="torch", notices=[])
