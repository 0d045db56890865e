"""A network run by OpenVINO's request queue: the fast way on a CPU."""

import io
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from axons.data.node_cache import NodeCache
from axons.model.devices import cpu_computes_bf16
from axons.model.files import Model
from axons.model.windows import Forward

MIN_AGREEMENT = 0.999

_CLEAR_MARGIN = 0.02  # between the two most probable classes; below it, rounding may decide


def openvino_forward(model: Model, *, cache: NodeCache, threads: int) -> Forward | None:
    """The model's network on OpenVINO, for windows of its card's size; None if it does not agree with torch.

    Converting takes seconds and happens once per node: the compiled network is kept in the cache.
    """
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if cpu_computes_bf16() else "f32",
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_NUM_THREADS": threads,
    }
    name = f"openvino {openvino.get_version()} {sorted(settings.items())} {model.card.window} {model.card.sha256}"
    core = openvino.Core()

    def fetch(target: Path) -> None:
        target.write_bytes(_compiled(core, model, settings).export_model().getvalue())

    try:
        blob = cache.path(name, fetch).read_bytes()
        compiled = core.import_model(io.BytesIO(blob), "CPU", settings)
    except RuntimeError:  # compiled for another processor, or damaged: make it again
        cache.drop(name)
        compiled = core.import_model(io.BytesIO(cache.path(name, fetch).read_bytes()), "CPU", settings)
    forward = _Queue(compiled)
    return forward if agreement(forward, model) >= MIN_AGREEMENT else None


def agreement(forward: Forward, model: Model) -> float:
    """Share of pixels on which `forward` and torch in fp32 choose the same class, where the choice is clear."""
    card = model.card
    crops = model.crops
    if crops is None:
        crops = torch.randn(2, card.channels, card.window, card.window, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model.network(crops)
    first, second = torch.softmax(expected, dim=1).topk(2, dim=1).values.unbind(dim=1)
    is_clear = first - second > _CLEAR_MARGIN
    same = forward(crops).argmax(dim=1) == expected.argmax(dim=1)
    return float(same[is_clear].float().mean()) if is_clear.any() else 1.0


class _Queue:
    """Runs windows one by one through as many requests as keep the cores busy; callers take turns."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._queue = openvino.AsyncInferQueue(compiled)
        self._queue.set_callback(self._keep)
        self._logits: np.ndarray = np.empty(0, np.float32)
        self._lock = threading.Lock()
        self._shape = tuple(compiled.output(0).shape)

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        pixels = windows.numpy()
        with self._lock:
            self._logits = np.empty((len(pixels), *self._shape[1:]), np.float32)
            for i in range(len(pixels)):
                self._queue.start_async({0: pixels[i : i + 1]}, i)
            self._queue.wait_all()
            return torch.from_numpy(self._logits)

    def _keep(self, request: openvino.InferRequest, i: int) -> None:
        self._logits[i] = request.get_output_tensor(0).data[0]


def _compiled(core: openvino.Core, model: Model, settings: dict[str, Any]) -> openvino.CompiledModel:
    # Through the frontend itself: openvino.convert_model would report its use over the network.
    example = torch.zeros(1, model.card.channels, model.card.window, model.card.window)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about branches that depend on the fixed size
        decoder = TorchScriptPythonDecoder(model.network, example_input=example)
        frontend = FrontEndManager().load_by_framework("pytorch")
        network = frontend.convert(frontend.load(decoder))
    network.reshape(list(example.shape))
    return core.compile_model(network, "CPU", settings)
