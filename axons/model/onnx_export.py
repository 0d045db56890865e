"""A model's network as an ONNX file, compared with torch before anybody gets it."""

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException
from torch import nn

from axons.errors import ModelRefused
from axons.model.devices import num_cores
from axons.model.files import Model, ModelCard
from axons.model.network import STRIDE

INPUT, OUTPUT = "image", "logits"
MAX_DIFFERENCE = 1e-4  # of a probability

_OPSET = 17
_BATCH = 4


def write_onnx(model: Model, path: Path) -> None:
    """Write the network: normalised (N, C, H, W) float32 to (N, K, H, W) logits, with what its card says inside.

    N, H and W are open, H and W in steps of 32; where a network does not allow that, H and W are those of its crops.

    Raises:
        ModelRefused: it cannot be converted, or a probability differs from torch's by more than 1e-4.
    """
    card = model.card
    difference = math.inf
    for is_open in (True, False):
        _convert(model.network, card, path, is_open=is_open)
        difference = largest_difference(path, model.network, _examples(model, is_open=is_open))
        if difference <= MAX_DIFFERENCE:
            describe_onnx(path, _properties(card))
            return
    raise ModelRefused(
        f"the ONNX file differs from torch by {difference:.2g} in a probability, more than {MAX_DIFFERENCE:g}; "
        "take the safetensors instead"
    )


def describe_onnx(path: Path, properties: dict[str, str]) -> None:
    """Write properties into an ONNX file, beside those that it has."""
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, {**properties_of(proto), **properties})
    onnx.save(proto, path)


def properties_of(proto: onnx.ModelProto) -> dict[str, str]:
    """What an ONNX file says about itself."""
    return {row.key: row.value for row in proto.metadata_props}


def has_open_size(path: Path) -> bool:
    """Whether height and width of the input are open."""
    shape = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape
    return not any(shape.dim[axis].dim_value for axis in (2, 3))


def largest_difference(path: Path, network: nn.Module, inputs: Sequence[torch.Tensor]) -> float:
    """The largest difference between the probabilities of ONNX Runtime and torch.

    Infinite where the file does not run on an input or changes its size, NaN where a result is no number.
    """
    session = open_session(path)
    differences = []
    for windows in inputs:
        with torch.inference_mode():
            expected = torch.softmax(network(windows), dim=1)
        try:
            logits = session.run([OUTPUT], {INPUT: windows.numpy()})[0]
        except (Fail, InvalidArgument, RuntimeException):
            return math.inf
        if logits.shape != expected.shape:  # the conversion has fixed a size somewhere inside
            return math.inf
        differences.append((torch.softmax(torch.from_numpy(logits), dim=1) - expected).abs().max())
    return float(torch.stack(differences).max())


def open_session(path: Path) -> Any:
    """The file in ONNX Runtime, on the CPU; its calls take and give arrays."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_cores()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _convert(network: nn.Module, card: ModelCard, path: Path, *, is_open: bool) -> None:
    """By tracing: torch's newer exporter takes ten times as long, and what tracing may fix is compared afterwards."""
    names = {0: "batch", 2: "height", 3: "width"} if is_open else {0: "batch"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about branches that depend on the size
        try:
            torch.onnx.export(
                network,
                (torch.zeros(2, card.channels, card.crop, card.crop),),
                str(path),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=_OPSET,
                dynamic_axes={INPUT: names, OUTPUT: names},
                dynamo=False,
            )
        except RuntimeError as error:
            raise ModelRefused(
                f"{card.architecture} with {card.encoder} cannot be written as ONNX ({_first_line(error)}); "
                "take the safetensors instead"
            ) from error


def _examples(model: Model, *, is_open: bool) -> list[torch.Tensor]:
    card, random = model.card, torch.Generator().manual_seed(0)
    sizes = [(card.crop, card.crop), (card.crop + STRIDE, card.crop + 2 * STRIDE)] if is_open else [(card.crop,) * 2]
    examples = [torch.randn(1, card.channels, *size, generator=random) for size in sizes]
    return examples if model.crops is None else [*examples, model.crops[:_BATCH]]


def _properties(card: ModelCard) -> dict[str, str]:
    return {
        "input": f"float32 (N, C, H, W), normalised; H and W are multiples of {STRIDE}",
        "output": "float32 (N, K, H, W), logits; the softmax over K gives probabilities",
        "classes": json.dumps([row.model_dump() for row in card.classes]),
        "channels": str(card.channels),
        "normalisation": card.normalisation.model_dump_json(),
        "scale": f"{card.scale:g}",
        "weights_sha256": card.sha256,
        "made_with": f"axons {card.code_version}",
        **({"pixel_size_um": f"{card.pixel_size_um:g}"} if card.pixel_size_um else {}),
    }


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
