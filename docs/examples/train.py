"""A training of one's own: `python train.py SET OUT [STEPS]`.

SET is a training set that was downloaded and unpacked, OUT a folder (or s3://…) that gets model.safetensors and
model.json. It is what `axons models import` takes.
"""

import sys

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from axons.data.layers import IGNORE_INDEX
from axons.data.shards import ShardReader
from axons.data.storage import open_storage
from axons.data.tiles import Window
from axons.data.training_set import load_training_set
from axons.model.files import ModelCard, Origin, write_model
from axons.model.network import NetworkSpec, build_network
from axons.model.normalisation import Normalisation, normalise

CROP, BATCH = 128, 4


def train(set_uri: str, out_uri: str, steps: int) -> None:
    training_set = load_training_set(set_uri)
    reader = ShardReader(open_storage(set_uri), training_set)
    records = training_set.records_of("train")
    normalisation = Normalisation(kind="training set", mean=training_set.mean, std=training_set.std)
    mean, std = normalisation.of_image(training_set.mean, training_set.std)
    spec = NetworkSpec(
        architecture="unet",
        encoder="resnet18",
        channels=training_set.channels,
        num_classes=training_set.num_classes,
    )
    network = build_network(spec).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    for step in range(1, steps + 1):
        crops = [random_crop(reader, records[rng.integers(len(records))], rng) for _ in range(BATCH)]
        images = torch.from_numpy(np.stack([normalise(image, mean, std) for image, _ in crops])).movedim(3, 1)
        masks = torch.from_numpy(np.stack([mask for _, mask in crops])).long()
        loss = cross_entropy(network(images), masks, ignore_index=IGNORE_INDEX)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        print(f"step {step}: loss {loss.item():.3f}")  # noqa: T201 (the log of the Ray job)
    card = ModelCard(
        **spec.model_dump(exclude={"num_classes"}),
        classes=training_set.classes,
        normalisation=normalisation,
        crop=CROP,
        window=256,
        overlap=64,
        scale=training_set.scale,
        pixel_size_um=training_set.pixel_size_um,
        origin=Origin(training_set=training_set.name, training_set_sha256=training_set.sha256(), steps=steps),
        sha256="",
    )
    write_model(network, card, None, target_uri=out_uri)


def random_crop(reader, record, rng):
    """Image (CROP, CROP, C) and mask of a window that begins anywhere in the record."""
    row0, col0 = (int(rng.integers(max(1, side - CROP + 1))) for side in (record.height, record.width))
    return reader.crop(record, Window(row0, col0, CROP, CROP))


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 500)
