"""A 2048² image predicted by windows of 256 with a quarter overlap, against MONAI and ONNX Runtime.

Peers, with the same weights, windows and Gaussian blending: MONAI's `sliding_window_inference` with torch fp32, and
with ONNX Runtime fp32 as its network. All of them from uint8 image to uint8 mask. Target: 4 × MONAI, 3 × ONNX Runtime,
the same Dice within 0.002 and an output of the input's size.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from monai.inferers import sliding_window_inference

from axons.model.devices import num_cores
from axons.model.files import load_model
from axons.model.normalisation import normalise, statistics
from axons.serve.predictor import load_predictor, segment
from axons.train.metrics import class_scores, confusion_matrix
from benchmarks.drawn import CPU, WINDOW, draw_field, trained_model
from benchmarks.measuring import Figure, Result, alternate, at_most, medians, seconds

_ROI_BATCH = 4
_CLASSES = 3


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    model_uri = trained_model(scratch, steps=10 if is_small else 60)
    field = draw_field(512 if is_small else 2048, seed=1_000)
    predictor, network = load_predictor(model_uri, device=CPU), load_model(model_uri, device=CPU).network
    torch.set_num_threads(num_cores())
    session = _onnx(network, scratch / "model.onnx")
    mean, std = predictor.card.normalisation.of_image(*statistics(field.image))
    masks: dict[str, np.ndarray] = {}

    def ours() -> None:
        masks["ours"] = segment(field.image, predictor).mask

    def by_monai(name: str, forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        pixels = torch.from_numpy(normalise(field.image, mean, std)).permute(2, 0, 1)[None].contiguous()
        with torch.inference_mode():
            logits = sliding_window_inference(
                pixels, (WINDOW, WINDOW), _ROI_BATCH, forward, overlap=0.25, mode="gaussian"
            )
        masks[name] = logits.argmax(dim=1)[0].to(torch.uint8).numpy()

    took = medians(
        alternate(
            1 if is_small else 3,
            ours=ours,
            monai=lambda: by_monai("monai", network),
            onnx=lambda: by_monai("onnx", lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])),
        )
    )
    dice = {name: _dice(mask, field.mask) for name, mask in masks.items()}
    has_its_size = masks["ours"].shape == field.mask.shape
    return Result(
        figures=[
            seconds("MONAI, torch fp32", took["ours"], took["monai"], at_least=4),
            seconds("ONNX Runtime fp32", took["ours"], took["onnx"], at_least=3),
            at_most("difference in mean Dice from MONAI", abs(dice["ours"] - dice["monai"]), 0.002, unit=""),
            Figure(
                what="output has the size of the input",
                ours=float(has_its_size),
                unit="",
                target="1",
                reached=has_its_size,
            ),
        ],
        notes=[
            f"our backend is {predictor.backend}; mean Dice of the foreground: "
            + ", ".join(f"{name} {value:.4f}" for name, value in dice.items())
        ],
    )


def _onnx(network: torch.nn.Module, path: Path) -> onnxruntime.InferenceSession:
    example = torch.zeros(_ROI_BATCH, 1, WINDOW, WINDOW)
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(
        network, (example,), str(path), input_names=["x"], dynamic_shapes=({0: batch},), dynamo=True, verbose=False
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_cores()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(
        np.nanmean([scores.dice for scores in class_scores(confusion_matrix(prediction, truth, _CLASSES))[1:]])
    )
