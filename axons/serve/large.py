"""Images of any size, predicted block by block on Ray Data and joined to a tiled TIFF."""

import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import ceil, floor
from pathlib import Path

import numpy as np
import pyvips
import torch
from PIL import Image

from axons.data.images import WorkingImage, encode_png
from axons.data.pipelines import stream
from axons.data.rows import Row
from axons.data.storage import local_file, open_storage
from axons.data.tiles import Window
from axons.errors import PredictionRefused
from axons.model.files import ModelCard, load_card
from axons.model.windows import ImageSource, blocks, predict_region
from axons.serve.predictor import Predictor, check_mask, fit_channels, fit_statistics, load_predictor, scaled_size

MASK = "mask.tif"

_BLOCKS = "blocks"
_TIE = 1e-6  # px
_REACH = 2  # px around a window that a bicubic kernel sees

_MASK_TIFF = {
    "tile": True,
    "tile_width": 256,  # libvips does not read an image of up to 128 px back from tiles of 512
    "tile_height": 256,
    "compression": "deflate",
    "pyramid": True,
    "region_shrink": "nearest",
    "bigtiff": True,
}


class LargeRequest(Row):
    """A working image to predict.

    Args:
        mean, std: of the image, per channel, as its import has measured them.
        scale: at which the network sees it, 0.05 to 4; None as in training.
        target_uri: where `mask.tif` goes; blocks on the way lie below `blocks/` and are deleted.
        threads: of one prediction on a CPU.
        gpu_share: of one GPU for each task; 0 predicts on the CPU.
    """

    working_uri: str
    height: int
    width: int
    mean: list[float]
    std: list[float]
    model_uri: str
    target_uri: str
    scale: float | None = None
    threads: int = 2
    gpu_share: float = 0.0


class _BlockTask(Row):
    request: LargeRequest
    scale: float
    row0: int
    col0: int
    height: int
    width: int

    @property
    def window(self) -> Window:
        return Window(self.row0, self.col0, self.height, self.width)


class PredictedBlock(Row):
    """A block whose mask lies in storage; `refusal` says why it does not."""

    row0: int
    col0: int
    height: int
    width: int
    class_pixels: list[int] = []
    notices: list[str] = []
    refusal: str | None = None


class LargePrediction(Row):
    """The finished mask, a tiled TIFF of class indices of the image's size, its pixels by class, and notices."""

    mask_uri: str
    class_pixels: list[int]
    notices: list[str]


def predict_large(request: LargeRequest) -> LargePrediction:
    """Predict a working image of any size on the connected cluster.

    Raises:
        PredictionRefused: the network's output is not usable; ModelRefused, ChecksumMismatch: the model is not.
    """
    try:
        return join_blocks(request, list(predict_blocks(request)))
    finally:
        open_storage(request.target_uri).delete_prefix(_BLOCKS)


def predict_blocks(request: LargeRequest) -> Iterator[PredictedBlock]:
    """Predict each block and write its mask; yields them as they are done. Running it twice changes nothing."""
    card = load_card(request.model_uri)
    scale = card.scale if request.scale is None else request.scale
    height, width = scaled_size(request.height, request.width, scale)
    tasks = [
        _BlockTask(request=request, scale=scale, row0=w.row0, col0=w.col0, height=w.height, width=w.width).packed()
        for w in blocks(height, width, len(card.classes))
    ]
    # As many logical CPUs as threads: blocks share a node's cores instead of fighting for them.
    cpus = 0 if request.gpu_share else request.threads
    for answer in stream(tasks, _predict_block, num_cpus=cpus, num_gpus=request.gpu_share):
        yield PredictedBlock.model_validate_json(answer)


def join_blocks(request: LargeRequest, predicted: Sequence[PredictedBlock]) -> LargePrediction:
    """Join the blocks' masks into one tiled TIFF of the image's size, and delete them.

    Raises:
        PredictionRefused: a block was refused.
    """
    target = open_storage(request.target_uri)
    for block in predicted:
        if block.refusal:
            target.delete_prefix(_BLOCKS)
            raise PredictionRefused(block.refusal)
    ordered = sorted(predicted, key=lambda block: (block.row0, block.col0))
    across = sum(block.row0 == 0 for block in ordered)
    parts = [
        pyvips.Image.new_from_file(str(target.local_path(_key(block))), access="sequential", revalidate=True)
        for block in ordered
    ]
    size = _size(ordered)
    mask = pyvips.Image.arrayjoin(parts, across=across).crop(0, 0, size[1], size[0])
    if size != (request.height, request.width):
        mask = _resized(mask, request.height, request.width)
    with tempfile.TemporaryDirectory() as folder:
        joined = Path(folder, MASK)
        mask.tiffsave(str(joined), **_MASK_TIFF)
        target.write(MASK, joined)
        counts = _count(joined, len(ordered[0].class_pixels))
    target.delete_prefix(_BLOCKS)
    return LargePrediction(mask_uri=f"{target.uri}/{MASK}", class_pixels=counts, notices=ordered[0].notices)


def _predict_block(row: bytes) -> Iterator[bytes]:
    task = _BlockTask.model_validate_json(row)
    request = task.request
    predictor = _predictor(request.model_uri, request.threads, request.gpu_share > 0)
    place = {"row0": task.row0, "col0": task.col0, "height": task.height, "width": task.width}
    try:
        prediction = predict_region(
            _source(task, predictor),
            task.window,
            grid=predictor.grid,
            num_classes=len(predictor.card.classes),
            forward=predictor.forward,
            device=predictor.device,
        )
    except FloatingPointError as error:
        yield PredictedBlock(**place, refusal=f"{error}; the model is not usable on this image").packed()
        return
    pixels = check_mask(prediction.mask, (task.height, task.width), len(predictor.card.classes))
    block = PredictedBlock(**place, class_pixels=pixels, notices=predictor.notices_for(len(request.mean)))
    open_storage(request.target_uri).write(_key(block), encode_png(prediction.mask))
    yield block.packed()


def _source(task: _BlockTask, predictor: Predictor) -> ImageSource:
    """The working image as the network shall see it: scaled window by window, with the channels it expects."""
    request, scale = task.request, task.scale
    image = WorkingImage(local_file(request.working_uri))
    height, width = scaled_size(request.height, request.width, scale)

    def read(window: Window) -> np.ndarray:
        if (height, width) == (image.height, image.width):
            return fit_channels(image.read(window), predictor.card)
        return _read_scaled(image, window, (height, width), predictor.card)

    found = fit_statistics((request.mean, request.std), predictor.card)
    centre, spread = predictor.card.normalisation.of_image(*found)
    return ImageSource(height=height, width=width, read=read, mean=centre, std=spread)


def _read_scaled(image: WorkingImage, window: Window, scaled: tuple[int, int], card: ModelCard) -> np.ndarray:
    """A window of the scaled image, from the image's own pixels, as if the whole had been resized."""
    down, across = image.height / scaled[0], image.width / scaled[1]
    top, bottom = window.row0 * down, (window.row0 + window.height) * down
    left, right = window.col0 * across, (window.col0 + window.width) * across
    row0, row1 = max(0, floor(top) - _REACH), min(image.height, ceil(bottom) + _REACH)
    col0, col1 = max(0, floor(left) - _REACH), min(image.width, ceil(right) + _REACH)
    pixels = fit_channels(image.read(Window(row0, col0, row1 - row0, col1 - col0)), card)
    # The window's edges fall between pixels: rounding them, as resizing a window alone would, shifts what is seen.
    box = (left - col0, top - row0, right - col0, bottom - row0)
    return _resampled(pixels, window.height, window.width, box)


def _resampled(pixels: np.ndarray, height: int, width: int, box: tuple[float, float, float, float]) -> np.ndarray:
    """A box (left, top, right, bottom) of an (H, W, C) image at another size, as `resize_image` makes of the whole."""
    left, top, right, bottom = box
    is_smaller = height * width < (bottom - top) * (right - left)
    resample = Image.Resampling.BOX if is_smaller else Image.Resampling.BICUBIC
    channels = [
        np.asarray(Image.fromarray(pixels[..., c].astype(np.float32)).resize((width, height), resample, box=box))
        for c in range(pixels.shape[2])
    ]
    return np.clip(np.rint(np.stack(channels, axis=-1)), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def _resized(mask: pyvips.Image, height: int, width: int) -> pyvips.Image:
    """As `resize_mask`, in bounded memory: pyvips's own `resize` would shift the classes by up to a pixel."""
    down, across = mask.height / height, mask.width / width
    return mask.affine(
        [1 / across, 0, 0, 1 / down],
        interpolate=pyvips.Interpolate.new("nearest"),
        # The centre of a pixel decides; where it falls between two classes, not rounding but the later one.
        idx=-across / 2 - _TIE,
        idy=-down / 2 - _TIE,
        oarea=[0, 0, width, height],
        extend="copy",
    )


def _size(ordered: Sequence[PredictedBlock]) -> tuple[int, int]:
    last = ordered[-1]
    return last.row0 + last.height, last.col0 + last.width


def _count(path: Path, num_classes: int) -> list[int]:
    histogram = pyvips.Image.new_from_file(str(path), access="sequential", revalidate=True).hist_find()
    return np.asarray(histogram.numpy()).reshape(-1)[:num_classes].astype(int).tolist()


def _key(block: PredictedBlock) -> str:
    return f"{_BLOCKS}/{block.row0:08d}-{block.col0:08d}.png"


@lru_cache(maxsize=2)
def _predictor(model_uri: str, threads: int, on_gpu: bool) -> Predictor:
    """One per worker process, kept from block to block."""
    return load_predictor(model_uri, device=torch.device("cuda" if on_gpu else "cpu"), threads=threads)
