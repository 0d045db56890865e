"""A model made ready to predict on a device, and `segment(array)`."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from axons.data.node_cache import NodeCache
from axons.data.resizing import resize_image, resize_mask
from axons.data.storage import default_cache
from axons.data.tiles import TileGrid
from axons.data.training_set import MAX_SCALE, MIN_SCALE
from axons.errors import PredictionRefused
from axons.model.devices import num_cores
from axons.model.files import Model, ModelCard, load_model
from axons.model.normalisation import Statistics, statistics
from axons.model.windows import Forward, ImageSource, predict_image, torch_forward

MAX_PIXELS_AT_ONCE = 16 * 10**6


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A model on a device: its card, the way its network runs, and what a person should know about it."""

    card: ModelCard
    forward: Forward
    device: torch.device
    backend: Literal["torch", "openvino"]
    notices: list[str]

    @property
    def grid(self) -> TileGrid:
        """The windows of its predictions."""
        return TileGrid(tile=self.card.window, overlap=self.card.overlap)

    def notices_for(self, channels: int) -> list[str]:
        """What a person should know about its prediction of an image with so many channels."""
        if channels == self.card.channels:
            return self.notices
        if channels == 1:
            return ["the model expects colour: the grey image was given to it as colour", *self.notices]
        return ["the model expects grey images: the mean of the three colours was taken", *self.notices]


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """The prediction for one image.

    Args:
        mask: (H, W) uint8 class indices, exactly of the input's size.
        confidence: (H, W) uint8, probability of the predicted class, 255 for certain.
        class_pixels: pixels of each class.
        notices: what was done to the image on the way, and what a person should know about the predictor.
    """

    mask: np.ndarray
    confidence: np.ndarray
    class_pixels: list[int]
    notices: list[str]


def load_predictor(
    model_uri: str, *, device: torch.device, cache: NodeCache | None = None, threads: int | None = None
) -> Predictor:
    """The model in folder `model_uri`, ready on `device`.

    On a CPU OpenVINO runs it if it is installed and agrees with torch; else, and on a GPU, torch does.

    Raises:
        ModelRefused, ChecksumMismatch: see `load_model`.
    """
    model = load_model(model_uri, device=device)
    if device.type == "cpu":
        forward, notice = _try_openvino(model, cache or default_cache(), threads or num_cores())
        if forward is not None:
            return Predictor(card=model.card, forward=forward, device=device, backend="openvino", notices=[])
        torch.set_num_threads(threads or num_cores())
        notices = [notice]
    else:
        notices = []
    network = model.network.to(memory_format=torch.channels_last)
    return Predictor(
        card=model.card, forward=torch_forward(network, device), device=device, backend="torch", notices=notices
    )


def segment(
    image: np.ndarray, predictor: Predictor, *, scale: float | None = None, of_whole: Statistics | None = None
) -> Segmentation:
    """Predict the class of every pixel of an image of up to 16 Mpx.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3), uint8 or uint16.
        scale: at which the network sees it, 0.05 to 4; by default as in training.
        of_whole: mean and std of the image of which this is a part, 0 to 1 of the data type's range.
    Raises:
        PredictionRefused: another shape or type, too large, also at that scale, or a result that is not usable.
    """
    given = check_image(image)
    pixels = fit_channels(given, predictor.card)
    height, width = pixels.shape[:2]
    seen_height, seen_width = scaled_size(height, width, predictor.card.scale if scale is None else scale)
    _check_pixels(seen_height * seen_width, "image, at the scale of the prediction,")
    seen = resize_image(pixels, seen_height, seen_width)
    # Statistics of the pixels as they came, as in training: averaging lowers the std.
    found = statistics(pixels) if of_whole is None else fit_statistics(of_whole, predictor.card)
    source = ImageSource.of_array(seen, *predictor.card.normalisation.of_image(*found))
    try:
        prediction = predict_image(
            source,
            grid=predictor.grid,
            num_classes=len(predictor.card.classes),
            forward=predictor.forward,
            device=predictor.device,
        )
    except FloatingPointError as error:
        raise PredictionRefused(f"{error}; the model is not usable on this image") from error
    mask = resize_mask(prediction.mask, height, width)
    return Segmentation(
        mask=mask,
        confidence=resize_mask(prediction.confidence, height, width),
        class_pixels=check_mask(mask, (height, width), len(predictor.card.classes)),
        notices=predictor.notices_for(given.shape[2]),
    )


def check_image(image: np.ndarray) -> np.ndarray:
    """An image as (H, W, C).

    Raises:
        PredictionRefused: it is not uint8 or uint16 with 1 or 3 channels, is empty, or has more than 16 Mpx.
    """
    pixels = image[..., None] if image.ndim == 2 else image
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise PredictionRefused(f"image has shape {image.shape}; give (H, W), (H, W, 1) or (H, W, 3)")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise PredictionRefused(f"image has type {image.dtype}; give uint8 or uint16")
    _check_pixels(pixels.shape[0] * pixels.shape[1], "image")
    return pixels


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """The size of an image as the network sees it.

    Raises:
        PredictionRefused: the scale is not from 0.05 to 4.
    """
    if not MIN_SCALE <= scale <= MAX_SCALE:
        raise PredictionRefused(f"scale is {scale}; choose one from {MIN_SCALE} to {MAX_SCALE:g}")
    return max(1, round(height * scale)), max(1, round(width * scale))


def fit_channels(pixels: np.ndarray, card: ModelCard) -> np.ndarray:
    """(H, W, C) with the channels the network expects; `Predictor.notices_for` says how."""
    if pixels.shape[2] == card.channels:
        return pixels
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.rint(pixels.mean(axis=2, keepdims=True)).astype(pixels.dtype)


def fit_statistics(found: Statistics, card: ModelCard) -> Statistics:
    """Mean and std of an image with the channels the network expects; those of an average of colours only nearly."""
    mean, std = found
    if len(mean) == card.channels:
        return mean, std
    return [float(np.mean(mean))] * card.channels, [float(np.mean(std))] * card.channels


def check_mask(mask: np.ndarray, shape: tuple[int, int], num_classes: int) -> list[int]:
    """Pixels of each class of a finished mask.

    Raises:
        PredictionRefused: the mask has another size, or values that are no class.
    """
    counts = np.bincount(mask.reshape(-1), minlength=num_classes)
    if mask.shape != shape or len(counts) > num_classes:
        raise PredictionRefused(
            f"the prediction is {mask.shape} with values up to {len(counts) - 1} for an image of {shape} and "
            f"{num_classes} classes; this is a fault of the platform, report it"
        )
    return counts.tolist()


def _check_pixels(count: int, what: str) -> None:
    if count > MAX_PIXELS_AT_ONCE:
        raise PredictionRefused(
            f"{what} has {count / 1e6:.1f} Mpx; up to {MAX_PIXELS_AT_ONCE / 1e6:.0f} Mpx are answered at once: "
            "start a prediction job instead"
        )


def _try_openvino(model: Model, cache: NodeCache, threads: int) -> tuple[Forward | None, str]:
    try:
        from axons.serve.openvino_backend import openvino_forward
    except ImportError:
        return None, "OpenVINO is not installed: torch predicts, about three times slower"
    return openvino_forward(model, cache=cache, threads=threads), (
        "OpenVINO does not agree with torch on this model: torch predicts, about three times slower"
    )
