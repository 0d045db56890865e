import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from axons.data.storage import open_storage, sha256_of
from axons.errors import AxonsError, ChecksumMismatch, ModelRefused
from axons.model.files import (
    ModelCard,
    Origin,
    import_weights,
    load_card,
    load_encoder_weights,
    load_model,
    start_from,
    write_model,
)
from axons.model.network import NetworkSpec, build_network
from axons.model.normalisation import Normalisation
from tests.drawing import CLASSES

CPU = torch.device("cpu")
ENCODER = "timm-mobilenetv3_small_100"
NORMALISATION = Normalisation(kind="image", mean=[0.5], std=[0.2])


def _spec(**changes):
    return NetworkSpec(**{"architecture": "unet", "encoder": ENCODER, "channels": 1, "num_classes": 3, **changes})


def _card(spec):
    return ModelCard(
        architecture=spec.architecture,
        encoder=spec.encoder,
        channels=spec.channels,
        classes=CLASSES,
        normalisation=NORMALISATION,
        crop=64,
        window=64,
        overlap=16,
        origin=Origin(run="run-1"),
        sha256="",
    )


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(_spec()).eval()


@pytest.fixture
def model_uri(network, tmp_path):
    uri = str(tmp_path / "model")
    write_model(network, _card(_spec()), torch.randn(2, 1, 64, 64), target_uri=uri)
    return uri


def test_a_model_predicts_the_same_after_it_was_written_and_loaded(network, model_uri):
    loaded = load_model(model_uri, device=CPU)
    with torch.inference_mode():
        assert torch.equal(loaded.network(loaded.crops), network(loaded.crops))


def test_the_card_says_all_that_loading_needs(model_uri):
    card = load_card(model_uri)
    assert card.spec == _spec()
    assert card.sha256 == sha256_of(open_storage(model_uri).local_path("model.safetensors"))
    assert [label_class.colour for label_class in card.classes] == ["#000000", "#E69F00", "#56B4E9"]


def test_the_weights_are_readable_by_safetensors_alone(network, model_uri):
    tensors = load_file(open_storage(model_uri).local_path("model.safetensors"))
    assert tensors.keys() == network.state_dict().keys()


def test_a_model_works_from_an_s3_address(network, s3_uri):
    write_model(network, _card(_spec()), None, target_uri=f"{s3_uri}/model")
    assert load_model(f"{s3_uri}/model", device=CPU).crops is None


def test_an_interrupted_writing_is_made_good_by_the_next(network, tmp_path):
    storage = open_storage(tmp_path / "model")
    storage.write("model.safetensors", b"half")
    write_model(network, _card(_spec()), None, target_uri=storage.uri)
    assert load_model(storage.uri, device=CPU).card.origin.run == "run-1"


def test_a_folder_without_a_card_is_no_model(tmp_path):
    with pytest.raises(ModelRefused, match="no model at .*: it has no model.json; check the address"):
        load_model(str(tmp_path), device=CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 0}, "window: Input should be greater than 0"),
        ({"window": 65}, "window: Input should be a multiple of 32"),
        ({"overlap": 64}, "overlap is 64 px for tiles of 64 px; choose an overlap from 0 to 63"),
        ({"scale": 0}, "scale: Input should be greater than or equal to 0.05"),
        ({"normalisation": {"kind": "image", "mean": [0.5, 0.5], "std": [0.2]}}, "normalisation.mean has 2 values"),
        ({"normalisation": {"kind": "image", "mean": [7.0], "std": [0.2]}}, "normalisation.mean.0: Input should be"),
        ({"encoder": "resnet19"}, "no unet with encoder 'resnet19' can be built here"),
        ({"architecture": "transformer"}, "architecture: Input should be"),
    ],
)
def test_a_card_that_cannot_be_right_is_refused_with_the_reason(model_uri, changes, message):
    storage = open_storage(model_uri)
    card = {**json.loads(storage.read("model.json")), **changes}
    storage.replace("model.json", json.dumps(card).encode())
    with pytest.raises(ModelRefused, match=message):
        load_model(model_uri, device=CPU)


def test_missing_weights_are_told(model_uri):
    open_storage(model_uri).delete_prefix("model.safetensors")
    with pytest.raises(ModelRefused, match="is incomplete"):
        load_model(model_uri, device=CPU)


def test_a_flipped_byte_is_found(model_uri):
    path = open_storage(model_uri).local_path("model.safetensors")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChecksumMismatch, match="'model.safetensors'.*another sha256"):
        load_model(model_uri, device=CPU)


def _corrupt(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, flip, swap, blow up the header, or replace."""
    kind = rng.integers(5)
    if kind == 0:
        return data[: rng.integers(0, len(data))]
    if kind == 1:
        changed = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            changed[position] ^= 1 << int(rng.integers(8))
        return bytes(changed)
    if kind == 2:
        middle = int(rng.integers(1, len(data) - 1))
        return data[middle:] + data[:middle]
    if kind == 3:
        return int(rng.integers(1 << 40, 1 << 62)).to_bytes(8, "little") + data[8:]
    return rng.bytes(int(rng.integers(0, 5000)))


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_no_damaged_model_is_ever_loaded(model_uri, name, seed):
    path = open_storage(model_uri).local_path(name)
    original = path.read_bytes()
    damaged = _corrupt(original, np.random.default_rng(seed))
    path.write_bytes(damaged)
    try:
        card = load_model(model_uri, device=CPU).card
    except AxonsError:
        return
    # Damage that is a card all the same, say in a comment about the run, must not touch what is loaded.
    assert name == "model.json"
    assert card.sha256 == json.loads(original)["sha256"]


def test_weights_that_are_not_finite_are_refused_whatever_their_hash(network, tmp_path):
    broken = build_network(_spec())
    torch.nn.init.constant_(broken.segmentation_head[0].bias, float("inf"))
    write_model(broken, _card(_spec()), None, target_uri=str(tmp_path))
    with pytest.raises(ModelRefused, match=r"weight 'segmentation_head.0.bias' holds values that are not finite"):
        load_model(str(tmp_path), device=CPU)


def test_plain_weights_become_a_model(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    import_weights(
        tmp_path / "mine.safetensors",
        spec=_spec(),
        classes=CLASSES,
        normalisation=NORMALISATION,
        crop=64,
        target_uri=str(tmp_path / "model"),
        name="mine.safetensors",
    )
    loaded = load_model(str(tmp_path / "model"), device=CPU)
    assert loaded.card.origin.imported_from == "mine.safetensors"
    assert loaded.card.window == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "fpn"}, "the weights are not those of fpn .*choose the architecture"),
        ({"channels": 3}, "weight 'encoder.*' is .* but unet with .* has"),
        ({"num_classes": 4}, "3 classes for weights with 4; name each class, background first"),
    ],
)
def test_plain_weights_of_another_network_are_refused(network, tmp_path, changes, message):
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    spec = _spec(**changes)
    with pytest.raises(ModelRefused, match=message):
        import_weights(
            tmp_path / "mine.safetensors",
            spec=spec,
            classes=CLASSES,
            normalisation=Normalisation(kind="image", mean=[0.5] * spec.channels, std=[0.2] * spec.channels),
            crop=64,
            target_uri=str(tmp_path / "model"),
            name="mine.safetensors",
        )
    assert not (tmp_path / "model").exists()


def test_a_pickle_is_refused_as_weights(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "mine.safetensors")
    with pytest.raises(ModelRefused, match="mine.safetensors is not a safetensors file"):
        import_weights(
            tmp_path / "mine.safetensors",
            spec=_spec(),
            classes=CLASSES,
            normalisation=NORMALISATION,
            crop=64,
            target_uri=str(tmp_path / "model"),
            name="mine",
        )


def test_starting_from_an_earlier_model_copies_its_weights(model_uri):
    fresh = build_network(_spec())
    earlier = load_model(model_uri, device=CPU)
    assert start_from(fresh, earlier) == []
    assert all(
        torch.equal(a, b)
        for a, b in zip(fresh.state_dict().values(), earlier.network.state_dict().values(), strict=True)
    )


def test_starting_with_other_classes_leaves_the_last_layer_at_random_and_says_so(model_uri):
    fresh = build_network(_spec(num_classes=5))
    assert start_from(fresh, load_model(model_uri, device=CPU)) == [
        "the earlier model knows 3 classes: the last layer begins at random"
    ]


def test_starting_from_another_network_is_refused(model_uri):
    with pytest.raises(ModelRefused, match="the earlier model is unet with .*; choose the same network"):
        start_from(build_network(_spec(encoder="resnet18")), load_model(model_uri, device=CPU))


def test_pretrained_colour_weights_serve_a_grey_network(tmp_path):
    colour = build_network(_spec(channels=3))
    save_file(colour.encoder.state_dict(), tmp_path / f"{ENCODER}.safetensors")
    grey = build_network(_spec())
    load_encoder_weights(grey, ENCODER, folder_uri=str(tmp_path))
    pixels = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        expected = colour.encoder.eval()(pixels.expand(1, 3, 64, 64))[-1]
        assert torch.allclose(grey.encoder.eval()(pixels)[-1], expected, atol=1e-4)


def test_pretrained_weights_that_are_not_there_are_told(tmp_path):
    with pytest.raises(ModelRefused, match=f"no weights for encoder '{ENCODER}'"):
        load_encoder_weights(build_network(_spec()), ENCODER, folder_uri=str(tmp_path))
