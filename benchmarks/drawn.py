"""What the rows work on: fields of disks drawn in code, sets frozen from them, and a model trained on them."""

from pathlib import Path

import numpy as np
import torch

from axons.data.shards import ShardReader
from axons.data.storage import open_storage
from axons.data.training_set import FreezeRequest, Split, TrainingSet
from axons.model.files import ModelCard, Origin, write_model
from axons.model.network import NetworkSpec, build_network
from axons.model.normalisation import Normalisation, normalise, statistics
from axons.train.config import ResolvedConfig, TrainConfig
from axons.train.loop import TrainingLoop
from tests.drawing import CLASSES, Drawing, choose, draw_disks, freeze_here

WINDOW = 256
OVERLAP = 64
CPU = torch.device("cpu")

_PATCH = 256


def draw_field(side: int, *, seed: int, channels: int = 1) -> Drawing:
    """`side` px square of patches with a few disks each, so that disks have one size whatever the side."""
    across = -(-side // _PATCH)
    patches = [
        [
            draw_disks(_PATCH, _PATCH, seed=seed * 10_000 + row * across + col, channels=channels)
            for col in range(across)
        ]
        for row in range(across)
    ]
    image = np.concatenate([np.concatenate([patch.image for patch in row], axis=1) for row in patches])
    mask = np.concatenate([np.concatenate([patch.mask for patch in row], axis=1) for row in patches])
    return Drawing(image=image[:side, :side], mask=mask[:side, :side])


def freeze_fields(folder: Path, *, count: int, side: int, channels: int = 1) -> tuple[str, TrainingSet]:
    """A frozen training set of so many fields, all for training: its address and manifest."""
    split: Split = "train"
    images = [
        choose(folder / "images", f"field-{i}", draw_field(side, seed=i, channels=channels), tile=256, split=split)
        for i in range(count)
    ]
    uri = str(folder / "training-set")
    return uri, freeze_here(FreezeRequest(name="fields", classes=CLASSES, images=images), target_uri=uri)


def make_loop(uri: str, training_set: TrainingSet, *, crop: int, steps: int, encoder: str = "resnet18") -> TrainingLoop:
    """Our training loop on the CPU with batches of 8 and epochs of `steps`; it never ends by itself."""
    spec = NetworkSpec(
        architecture="unet", encoder=encoder, channels=3 if training_set.channels == 3 else 1, num_classes=len(CLASSES)
    )
    resolved = ResolvedConfig(
        config=TrainConfig(patience=0),
        minutes=None,
        epochs=10_000,
        network=spec,
        crop=crop,
        batch=8,
        learning_rate=1e-3,
        normalisation=Normalisation(kind="image", mean=training_set.mean, std=training_set.std),
        steps_per_epoch=steps,
    )
    reader = ShardReader(open_storage(uri), training_set)
    return TrainingLoop(build_network(spec), reader, training_set, resolved, device=CPU)


def trained_model(folder: Path, *, channels: int = 1, steps: int = 60) -> str:
    """A U-Net with resnet18, trained on fields for a few seconds; the address of its model file."""
    loop = make_loop(*freeze_fields(folder / "fields", count=4, side=512, channels=channels), crop=128, steps=steps)
    loop.train_epoch()
    card = ModelCard(
        architecture="unet",
        encoder="resnet18",
        channels=3 if channels == 3 else 1,
        classes=CLASSES,
        normalisation=Normalisation(kind="image", mean=[0.5] * channels, std=[0.2] * channels),
        crop=128,
        window=WINDOW,
        overlap=OVERLAP,
        origin=Origin(),
        sha256="",
    )
    field = draw_field(2 * WINDOW, seed=99, channels=channels).image
    seen = normalise(field, *card.normalisation.of_image(*statistics(field)))
    crops = np.stack([seen[:WINDOW, :WINDOW], seen[WINDOW:, WINDOW:]])
    uri = str(folder / "model")
    write_model(loop.network, card, torch.from_numpy(crops).permute(0, 3, 1, 2), target_uri=uri)
    return uri
