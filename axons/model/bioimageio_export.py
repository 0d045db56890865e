"""A model as a BioImage.IO package: a ZIP that other programs for microscopy open and that tests itself."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bioimageio.spec import save_bioimageio_package
from bioimageio.spec.model import v0_5 as spec

from axons.data.formats import Licence
from axons.data.pictures import as_colour, encode_picture, outlined, side_by_side
from axons.errors import ModelRefused
from axons.model.files import Model, ModelCard
from axons.model.network import STRIDE, Architecture
from axons.model.normalisation import normalise, statistics
from axons.model.onnx_export import INPUT, OUTPUT, has_open_size, open_session

_PAPERS: dict[Architecture, tuple[str, str]] = {
    "unet": ("Ronneberger et al., U-Net, MICCAI 2015", "10.1007/978-3-319-24574-4_28"),
    "unetplusplus": ("Zhou et al., UNet++, DLMIA 2018", "10.1007/978-3-030-00889-5_1"),
    "fpn": ("Lin et al., Feature Pyramid Networks, CVPR 2017", "10.1109/CVPR.2017.106"),
    "deeplabv3plus": ("Chen et al., DeepLabv3+, ECCV 2018", "10.1007/978-3-030-01234-2_49"),
    "segformer": ("Xie et al., SegFormer, NeurIPS 2021", "10.48550/arXiv.2105.15203"),
}
_WHITE = 255
_MIN_NAME, _MAX_NAME = 5, 100


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What people say about a model that they give away; `version` is its number under its name."""

    name: str
    version: int
    authors: Sequence[str]
    licence: Licence
    description: str = ""


def write_package(model: Model, onnx_path: Path, publication: Publication, target: Path) -> None:
    """Write the ZIP: weights as ONNX, a test input with its output, a cover, and documentation from the card.

    Args:
        onnx_path: as `write_onnx` has made it.
        target: a new file beside which the parts are made.
    Raises:
        ModelRefused: BioImage.IO does not accept what would be in it.
    """
    image = sample_image(model)
    probabilities = predict_sample(model.card, onnx_path, image)
    folder = target.parent
    np.save(folder / "test_input.npy", image.transpose(2, 0, 1)[None])
    np.save(folder / "test_output.npy", probabilities)
    (folder / "cover.png").write_bytes(_cover(model.card, image, probabilities))
    (folder / "README.md").write_text(documentation(model.card, publication), encoding="utf-8")
    try:
        described = _describe(model, onnx_path, publication, folder)
        save_bioimageio_package(described, output_path=target)
    except ValueError as error:
        raise ModelRefused(f"BioImage.IO does not accept this model: {error}") from error


def sample_image(model: Model) -> np.ndarray:
    """An image of one crop, (H, W, C) uint8: the first validation crop, or drawn where there is none."""
    card = model.card
    if model.crops is None:
        rows, cols = np.mgrid[: card.crop, : card.crop] / 16
        waves = (np.sin(rows) * np.cos(cols) + 1) * (_WHITE / 2)
        return np.repeat(waves[..., None], card.channels, axis=2).astype(np.uint8)
    crop = model.crops[0].permute(1, 2, 0).numpy()
    if card.normalisation.kind == "image":  # by whichever image it was: black to white says the same
        shares = (crop - crop.min()) / max(float(np.ptp(crop)), 1e-6)
    else:
        shares = crop * np.asarray(card.normalisation.std) + np.asarray(card.normalisation.mean)
    return np.rint(np.clip(shares, 0, 1) * _WHITE).astype(np.uint8)


def predict_sample(card: ModelCard, onnx_path: Path, image: np.ndarray) -> np.ndarray:
    """(1, K, H, W) float32 probabilities that the ONNX file gives for an (H, W, C) image."""
    pixels = normalise(image, *card.normalisation.of_image(*statistics(image))).transpose(2, 0, 1)[None]
    logits = open_session(onnx_path).run([OUTPUT], {INPUT: np.ascontiguousarray(pixels)})[0]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


def documentation(card: ModelCard, publication: Publication) -> str:
    """The card as a page of Markdown."""
    size = f"{card.pixel_size_um:g} µm per pixel" if card.pixel_size_um else f"{card.scale:g} times their size"
    by = "the image itself" if card.normalisation.kind == "image" else "the training set"
    lines = [
        f"# {_plain(publication.name)}, version {publication.version}",
        "",
        _plain(_description(card, publication)),
        "",
        "## Use",
        "",
        f"- Images like those of its training set, at {size}; {_channels(card)}.",
        f"- Normalised by mean and standard deviation of {by}, channel by channel; the package does that by itself.",
        f"- The output has a probability for each class: {', '.join(_plain(row.name) for row in card.classes)}.",
        "- Look at some predictions on images of your own before you trust others.",
        "",
        "## Validation",
        "",
        *(_scores(card) or ["It has not been scored on images that it has not learnt from."]),
        "",
        "## Origin",
        "",
        *(f"- {name}: {_plain(str(value))}" for name, value in _origin(card).items()),
    ]
    return "\n".join(lines) + "\n"


def _describe(model: Model, onnx_path: Path, publication: Publication, folder: Path) -> spec.ModelDescr:
    card = model.card
    size: Any = card.crop
    if has_open_size(onnx_path):
        size = spec.ParameterizedSize(min=card.crop, step=STRIDE)
    text, doi = _PAPERS[card.architecture]
    opset = next(row.version for row in onnx.load(onnx_path, load_external_data=False).opset_import if not row.domain)
    authors = [spec.Author(name=name) for name in publication.authors]
    return spec.ModelDescr(
        name=_name(publication.name),
        description=_description(card, publication),
        version=spec.Version(publication.version),
        authors=authors,
        packaged_by=authors,
        license=spec.LicenseId(publication.licence),
        cite=[spec.CiteEntry(text=text, doi=spec.Doi(doi))],
        tags=["semantic-segmentation", card.architecture, "axons"],
        covers=[spec.FileDescr(source=folder / "cover.png")],
        documentation=spec.FileDescr(source=folder / "README.md"),
        inputs=[_input(card, size, folder / "test_input.npy")],
        outputs=[_output(card, size, folder / "test_output.npy")],
        weights=spec.WeightsDescr(onnx=spec.OnnxWeightsDescr(source=onnx_path, opset_version=opset)),
        config=spec.Config.model_validate({"axons": _told(card)}),
    )


def _input(card: ModelCard, size: Any, test_tensor: Path) -> spec.InputTensorDescr:
    names = ["grey"] if card.channels == 1 else ["red", "green", "blue"]
    return spec.InputTensorDescr(
        id=spec.TensorId("image"),
        description="an image as it comes from the microscope",
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=[spec.Identifier(name) for name in names]),
            *(spec.SpaceInputAxis(id=spec.AxisId(axis), size=size, **_pixel_size(card)) for axis in "yx"),
        ],
        test_tensor=spec.FileDescr(source=test_tensor),
        data=spec.IntervalOrRatioDataDescr(type="uint8", range=(0, _WHITE)),
        preprocessing=[_as_float(), _normalisation(card), _as_float()],
    )


def _output(card: ModelCard, size: Any, test_tensor: Path) -> spec.OutputTensorDescr:
    def size_of(axis: str) -> Any:
        if isinstance(size, int):
            return size
        return spec.SizeReference(tensor_id=spec.TensorId("image"), axis_id=spec.AxisId(axis))

    return spec.OutputTensorDescr(
        id=spec.TensorId("probabilities"),
        description="how probable each class is, 0 to 1; together they are 1",
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=[spec.Identifier(name) for name in _identifiers(card)]),
            *(spec.SpaceOutputAxis(id=spec.AxisId(axis), size=size_of(axis), **_pixel_size(card)) for axis in "yx"),
        ],
        test_tensor=spec.FileDescr(source=test_tensor),
        data=spec.IntervalOrRatioDataDescr(type="float32", range=(0, 1)),
        postprocessing=[spec.SoftmaxDescr(kwargs=spec.SoftmaxKwargs(axis=spec.AxisId("channel"))), _as_float()],
    )


def _as_float() -> spec.EnsureDtypeDescr:
    return spec.EnsureDtypeDescr(kwargs=spec.EnsureDtypeKwargs(dtype="float32"))


def _normalisation(card: ModelCard) -> Any:
    if card.normalisation.kind == "image":
        axes = [spec.AxisId("y"), spec.AxisId("x")]
        return spec.ZeroMeanUnitVarianceDescr(kwargs=spec.ZeroMeanUnitVarianceKwargs(axes=axes))
    mean, std = card.normalisation.of_image([], [])
    return spec.FixedZeroMeanUnitVarianceDescr(
        kwargs=spec.FixedZeroMeanUnitVarianceAlongAxisKwargs(
            mean=[float(value) * _WHITE for value in mean],
            std=[float(value) * _WHITE for value in std],
            axis=spec.AxisId("channel"),
        )
    )


def _pixel_size(card: ModelCard) -> dict[str, Any]:
    return {"unit": "micrometer", "scale": card.pixel_size_um} if card.pixel_size_um else {}


def _cover(card: ModelCard, image: np.ndarray, probabilities: np.ndarray) -> bytes:
    mask = probabilities[0].argmax(axis=0).astype(np.uint8)
    painted = outlined(image, mask, [row.colour for row in card.classes])
    return encode_picture(side_by_side([as_colour(image), painted], gap=0))


def _name(name: str) -> str:
    """The name in the letters that BioImage.IO takes: ASCII, 5 to 100 of them."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9_+()-]+", " ", letters).strip()
    return (words if len(words) >= _MIN_NAME else f"model {words}".strip())[:_MAX_NAME].strip()


def _identifiers(card: ModelCard) -> list[str]:
    """The names of the classes as BioImage.IO takes them: each once, of letters, digits and underscores."""
    names: list[str] = []
    for index, row in enumerate(card.classes):
        name = re.sub(r"\W+", "_", row.name).strip("_").lower()
        names.append(name if name.isidentifier() and name not in names else f"class_{index}")
    return names


def _description(card: ModelCard, publication: Publication) -> str:
    found = ", ".join(row.name for row in card.classes[1:])
    return publication.description.strip() or f"Finds {found} in images, pixel by pixel; {_channels(card)}."


def _channels(card: ModelCard) -> str:
    return "grey images of one channel" if card.channels == 1 else "colour images of three channels"


def _scores(card: ModelCard) -> list[str]:
    names = {"test": "test", "val": "validation", "train": "training"}
    return [
        f"- mean IoU {scores['mean_iou']:.3f} on {scores.get('num_images', 'the')} {names.get(split, split)} images"
        for split, scores in card.scores.items()
        if scores.get("mean_iou") is not None
    ]


def _origin(card: ModelCard) -> dict[str, Any]:
    """What is known of where the model comes from."""
    known = {
        "network": f"{card.architecture} with encoder {card.encoder}",
        "training set": card.origin.training_set,
        "sha256 of the training set": card.origin.training_set_sha256,
        "file": card.origin.imported_from,
        "trained at": card.origin.trained_at,
        "epochs": card.origin.epochs,
        "device": card.origin.device,
        "remarks": "; ".join(card.origin.notices),
        "sha256 of the weights": card.sha256,
        "made with": f"axons {card.code_version}",
    }
    return {name: value for name, value in known.items() if value}


def _told(card: ModelCard) -> dict[str, Any]:
    """The card without what is not known; where its storage is, is nobody's business."""
    told = card.model_dump(mode="json", exclude_none=True, exclude={"origin": {"init_model"}, "crops_sha256": True})
    told["origin"] = {name: value for name, value in told["origin"].items() if value}
    return {name: value for name, value in told.items() if value != {}}


def _plain(text: str) -> str:
    """Text of a person that is no Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(text.split()))
