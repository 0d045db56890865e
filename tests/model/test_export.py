"""Models for other programs: ONNX that says what torch says, and BioImage.IO packages that hold all they need."""

import zipfile

import numpy as np
import onnx
import pytest
import torch
from bioimageio.spec import InvalidDescr, load_description
from ruyaml import YAML
from torch import nn

from axons.data.training_set import LabelClass
from axons.errors import ModelRefused
from axons.model.bioimageio_export import Publication, predict_sample, sample_image, write_package
from axons.model.files import Model, Origin, load_model
from axons.model.normalisation import Normalisation
from axons.model.onnx_export import (
    INPUT,
    OUTPUT,
    describe_onnx,
    has_open_size,
    largest_difference,
    open_session,
    properties_of,
    write_onnx,
)
from tests.serve.models import CPU, make_card, make_model, make_network

PUBLICATION = Publication(name="Né!", version=3, authors=["Ana Silva"], licence="CC-BY-4.0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(make_model(folder / "model", seed=3), device=CPU)


@pytest.fixture(scope="module")
def network(model, folder):
    path = folder / "model.onnx"
    write_onnx(model, path)
    return path


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (3, 1, 96, 160)])
def test_onnx_says_what_torch_says_for_any_number_and_size_of_windows(model, network, shape):
    windows = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    assert largest_difference(network, model.network, [windows]) <= 1e-4


def test_the_file_says_what_its_card_says(model, network):
    told = properties_of(onnx.load(network))
    assert told["weights_sha256"] == model.card.sha256
    assert told["channels"] == "1"
    assert Normalisation.model_validate_json(told["normalisation"]) == model.card.normalisation
    assert "ring" in told["classes"]


def test_properties_are_added_to_those_that_are_there(network, folder):
    copy = folder / "copy.onnx"
    copy.write_bytes(network.read_bytes())
    describe_onnx(copy, {"licence": "MIT"})
    assert properties_of(onnx.load(copy)) == {**properties_of(onnx.load(network)), "licence": "MIT"}


class _Small(nn.Module):
    """One layer for the three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 1)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return self.layer(windows)


class _Otherwise(_Small):
    """Converted, it does something else."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return self.layer(windows) * (2.0 if torch.jit.is_tracing() else 1.0)


class _NoNumbers(_Small):
    """What it gives is useless."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return self.layer(windows) * torch.nan


class _OfOneSize(_Small):
    """Converted, it takes windows of the size with which it was converted."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        height, width = (int(side) for side in windows.shape[2:])
        return self.layer(windows).reshape(-1, 3, height * width).reshape(-1, 3, height, width)


def _model(network: nn.Module) -> Model:
    return Model(card=make_card(), network=network.eval(), crops=None)


def test_what_differs_from_torch_is_refused_with_the_figure(tmp_path):
    with pytest.raises(ModelRefused, match=r"differs from torch by 0\.\d+ in a probability, more than 0\.0001"):
        write_onnx(_model(_Otherwise()), tmp_path / "model.onnx")


def test_what_gives_no_numbers_is_refused(tmp_path):
    with pytest.raises(ModelRefused, match="differs from torch by nan"):
        write_onnx(_model(_NoNumbers()), tmp_path / "model.onnx")


def test_a_network_that_cannot_take_any_size_keeps_that_of_its_crops(tmp_path):
    path = tmp_path / "model.onnx"
    write_onnx(_model(_OfOneSize()), path)
    assert not has_open_size(path)
    assert open_session(path).run([OUTPUT], {INPUT: np.zeros((2, 1, 64, 64), np.float32)})[0].shape == (2, 3, 64, 64)


def _package(model: Model, folder, publication=PUBLICATION):
    network, target = folder / "weights.onnx", folder / "model.zip"
    write_onnx(model, network)
    write_package(model, network, publication, target)
    return target


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Of a colour model with a crop, normalised as its training set, at a known pixel size."""
    card = make_card(
        channels=3,
        normalisation=Normalisation(kind="training set", mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1]),
        pixel_size_um=0.25,
        classes=[
            LabelClass(name=name, colour=colour) for name, colour in [("in between", "#000000"), ("a*b", "#FF0000")]
        ],
        scores={"test": {"mean_iou": 0.712, "num_images": 4}},
        origin=Origin(training_set="nerves", init_model="s3://secret/model"),
        sha256="0" * 64,
    )
    crops = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return _package(Model(card=card, network=make_network(card), crops=crops), tmp_path_factory.mktemp("package"))


def test_bioimageio_accepts_the_package(package):
    described = load_description(package)
    assert not isinstance(described, InvalidDescr), described.validation_summary.format()
    assert described.validation_summary.status != "failed"


def test_the_package_names_licence_authors_papers_and_no_field_is_empty(package):
    described = _rdf(package)
    assert described["name"] == "model Ne"
    assert described["license"] == "CC-BY-4.0"
    assert described["authors"] == [{"name": "Ana Silva"}]
    assert described["outputs"][0]["axes"][1]["channel_names"] == ["in_between", "a_b"]
    assert _empty(described) == []


def test_the_package_tells_nothing_of_our_storage(package):
    assert "secret" not in zipfile.ZipFile(package).read("rdf.yaml").decode()


def test_the_documentation_is_made_from_the_card_and_names_are_no_markdown(package):
    text = zipfile.ZipFile(package).read("README.md").decode()
    assert "mean IoU 0.712 on 4 test images" in text
    assert "training set: nerves" in text
    assert "a\\*b" in text


def test_the_test_output_is_what_onnx_gives_for_the_test_input_prepared_as_the_package_says(package, tmp_path):
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path)
    described = _rdf(package)
    (_, fixed, _) = described["inputs"][0]["preprocessing"]
    pixels = np.load(tmp_path / "test_input.npy").astype(np.float32)
    mean, std = (np.array(fixed["kwargs"][name], np.float32)[None, :, None, None] for name in ("mean", "std"))
    session = open_session(tmp_path / described["weights"]["onnx"]["source"])
    logits = torch.from_numpy(session.run([OUTPUT], {INPUT: (pixels - mean) / std})[0])
    expected = np.load(tmp_path / "test_output.npy")
    assert np.abs(torch.softmax(logits, dim=1).numpy() - expected).max() < 1e-4


def test_an_image_is_normalised_by_itself_where_the_model_was_trained_so(model, network):
    image = sample_image(model)
    pixels = ((image - image.mean()) / image.std()).astype(np.float32)
    logits = torch.from_numpy(open_session(network).run([OUTPUT], {INPUT: pixels.transpose(2, 0, 1)[None]})[0])
    found = predict_sample(model.card, network, image)
    assert np.abs(torch.softmax(logits, dim=1).numpy() - found).max() < 1e-4


def _rdf(package):
    return YAML(typ="safe").load(zipfile.ZipFile(package).read("rdf.yaml"))


def _empty(value, path=""):
    """The paths of fields that hold nothing."""
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if value in (None, "", [], {}):
        return [path]
    return [found for name, each in rows for found in _empty(each, f"{path}/{name}")]
