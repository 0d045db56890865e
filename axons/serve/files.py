"""Image files predicted on this machine with a model file, without a server or a cluster."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from axons.data.decoding import Decoder
from axons.data.images import ContrastLimits, WorkingImage
from axons.data.measuring import measure
from axons.data.pictures import as_colour, encode_mask, encode_picture, overlay
from axons.data.tiles import TileGrid
from axons.errors import AxonsError, ImageRefused, ModelRefused, PredictionRefused
from axons.model.files import CARD, WEIGHTS, ModelCard
from axons.serve.objects import measure_objects, objects_csv
from axons.serve.predictor import Predictor, Segmentation, load_predictor, segment

_MASK, _OVERLAY, _OBJECTS = "mask.png", "overlay.png", "objects.csv"


@dataclass(frozen=True, kw_only=True)
class PredictedFile:
    """What became of an image file: the files made for it, or why there are none."""

    image: str
    mask: str | None = None
    overlay: str | None = None
    objects: str | None = None
    class_pixels: dict[str, int] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    refusal: str | None = None


def predict_files(
    weights: Path,
    images: Sequence[Path],
    out: Path,
    *,
    with_overlay: bool = False,
    scale: float | None = None,
    objects_of: str | None = None,
) -> list[PredictedFile]:
    """Predict each image into `out/<name>.mask.png`, and the pixels of all into `out/classes.csv`.

    One image that cannot be read does not stop the others.

    Args:
        scale: at which the network sees the images; by default as in training, by pixel size where that is known.
    Raises:
        ModelRefused, ChecksumMismatch: the model file is not usable.
        AxonsError: there is no such class, or a file would be written over an image or over that of another image.
    """
    if weights.name != WEIGHTS or not (weights.parent / CARD).is_file():
        raise ModelRefused(
            f"{str(weights)!r} is not a model: give {WEIGHTS} with {CARD} beside it, as training writes them"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predictor = load_predictor(str(weights.parent), device=device)
    names = [label_class.name for label_class in predictor.card.classes]
    if objects_of is not None and objects_of not in names:
        raise AxonsError(f"the model has no class {objects_of!r}; choose one of {', '.join(names)}")
    _check_targets(images, out)
    with Decoder() as decoder:
        results = [
            _predict_file(path, out, predictor, decoder, with_overlay=with_overlay, scale=scale, objects_of=objects_of)
            for path in images
        ]
    _write(out / "classes.csv", _classes_csv(results, names).encode())
    return results


def _check_targets(images: Sequence[Path], out: Path) -> None:
    """Make the folder `out`; nothing that is there may be lost."""
    name, count = Counter(path.name for path in images).most_common(1)[0] if images else ("", 0)
    if count > 1:
        raise AxonsError(f"{count} of the images are called {name!r} and would share one mask; predict them one by one")
    ours = {_target(out, path, kind).resolve() for path in images for kind in (_MASK, _OVERLAY, _OBJECTS)}
    if taken := [path for path in images if path.resolve() in ours]:
        raise AxonsError(
            f"the image {str(taken[0])!r} would be overwritten by a result; choose another folder with --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise AxonsError(f"{str(out)!r} is a file; choose a folder for the masks") from error


def _predict_file(
    path: Path,
    out: Path,
    predictor: Predictor,
    decoder: Decoder,
    *,
    with_overlay: bool,
    scale: float | None,
    objects_of: str | None,
) -> PredictedFile:
    try:
        pixels, view, pixel_size_um, notices = _read(path, decoder)
        if scale is None and predictor.card.pixel_size_um:
            scale, notice = _scale_by_pixel_size(predictor.card, pixel_size_um)
            notices = [*notices, notice]
        segmentation = segment(pixels, predictor, scale=scale)
    except (ImageRefused, PredictionRefused) as error:
        return PredictedFile(image=str(path), refusal=str(error))
    classes = predictor.card.classes
    colours = [label_class.colour for label_class in classes]
    written = {"mask": _write(_target(out, path, _MASK), encode_mask(segmentation.mask, colours))}
    if with_overlay:
        picture = encode_picture(overlay(view, segmentation.mask, colours))
        written["overlay"] = _write(_target(out, path, _OVERLAY), picture)
    if objects_of is not None:
        class_index = [label_class.name for label_class in classes].index(objects_of)
        measured = measure_objects(segmentation.mask, class_index=class_index, pixel_size_um=pixel_size_um)
        written["objects"] = _write(_target(out, path, _OBJECTS), objects_csv(measured).encode())
    return PredictedFile(
        image=str(path),
        class_pixels=_by_name(segmentation, predictor),
        notices=notices + segmentation.notices,
        **written,
    )


def _read(path: Path, decoder: Decoder) -> tuple[np.ndarray, np.ndarray, float | None, list[str]]:
    """Pixels, the 8-bit colour view, the pixel size and notices of an untrusted file."""
    if not path.is_file():
        raise ImageRefused(f"{str(path)!r} is not there; check the name")
    with tempfile.TemporaryDirectory() as folder:
        working = Path(folder, "working.tif")
        facts = decoder.normalise(path, working, name=path.name)
        image = WorkingImage(working)
        if image.height * image.width > 16 * 10**6:
            raise ImageRefused(
                f"{path.name!r} has {image.height * image.width / 1e6:.0f} Mpx, up to 16 Mpx are predicted here; "
                "send it to a server as a prediction job"
            )
        pixels = image.read_all()
        limits: ContrastLimits = measure(image, TileGrid(tile=1024)).contrast_limits
        return pixels, as_colour(limits.view(pixels)), facts.pixel_size_um, facts.notices


def _scale_by_pixel_size(card: ModelCard, pixel_size_um: float | None) -> tuple[float | None, str]:
    """The scale that brings an image to the pixel size of a model's training, if known, and what to say about it."""
    assert card.pixel_size_um is not None
    if pixel_size_um is None:
        return None, (
            f"the model was trained at {card.pixel_size_um:g} µm per px and the image does not state its pixel size; "
            "choose a scale if its own is another"
        )
    scale = pixel_size_um / card.pixel_size_um
    sizes = f"{pixel_size_um:g} µm per px where the model expects {card.pixel_size_um:g}"
    return scale, f"the image has {sizes}: it was predicted at scale {scale:.3g}"


def _target(out: Path, image: Path, kind: str) -> Path:
    return out / f"{image.name}.{kind}"


def _by_name(segmentation: Segmentation, predictor: Predictor) -> dict[str, int]:
    names = [label_class.name for label_class in predictor.card.classes]
    return dict(zip(names, segmentation.class_pixels, strict=True))


def _write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def _classes_csv(results: Sequence[PredictedFile], names: Sequence[str]) -> str:
    lines = [",".join(["image", *(_cell(name) for name in names)])]
    for result in results:
        if result.refusal is None:
            counts = [str(result.class_pixels[name]) for name in names]
            lines.append(",".join([_cell(Path(result.image).name), *counts]))
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """A text as a CSV cell that no spreadsheet takes for a formula."""
    guarded = f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
    return '"' + guarded.replace('"', '""') + '"'
