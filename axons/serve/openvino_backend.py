"""A network run by OpenVINO's request queue: the fast way on a CPU."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from axons.data.node_cache import NodeCache
from axons.data.storage import sha256_of
from axons.model.devices import cpu_computes_bf16
from axons.model.files import Model
from axons.model.windows import Forward

MIN_AGREEMENT = 0.999

_DIGEST = 64  # characters of a sha256 before the network in a cached file
_CLEAR_MARGIN = 0.02  # between the two most probable classes; below it, rounding may decide

# OpenVINO prepares its arrays at the first look into a tensor; two threads that both come first stand still for ever.
_FIRST_LOOK = openvino.Tensor(openvino.Type.f32, openvino.Shape([1])).data


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
        exported = _compiled(core, model, settings).export_model().getvalue()
        target.write_bytes(sha256_of(exported).encode() + exported)

    try:
        compiled = core.import_model(_checked(cache.path(name, fetch)), "CPU", settings)
    except RuntimeError:  # compiled for another processor, or damaged: make it again
        cache.drop(name)
        compiled = core.import_model(_checked(cache.path(name, fetch)), "CPU", settings)
    forward = _Requests(compiled)
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


class _Requests:
    """Runs windows one by one in as many requests as keep the cores busy; callers share them.

    Not openvino.AsyncInferQueue: once one of its requests has failed, its next call ends the process.
    """

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="openvino")
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        for _ in range(count):
            self._idle.put(compiled.create_infer_request())

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(list(self._threads.map(self._infer, windows.numpy()[:, None]))))

    def _infer(self, window: np.ndarray) -> np.ndarray:
        request = self._idle.get()
        try:
            return request.infer({0: window})[0]
        finally:
            self._idle.put(request)


def _checked(path: Path) -> io.BytesIO:
    """The compiled network of a cached file.

    Raises:
        RuntimeError: it is damaged; OpenVINO itself would read flipped weights without a word.
    """
    data = path.read_bytes()
    digest, exported = data[:_DIGEST], data[_DIGEST:]
    if sha256_of(exported).encode() != digest:
        raise RuntimeError(f"the cached network {path} is damaged")
    return io.BytesIO(exported)


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
