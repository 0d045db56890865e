"""OpenVINO instead of torch on a CPU: the same classes, a cache that heals, failures that stay with their caller."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from axons.data.node_cache import NodeCache
from axons.data.storage import sha256_of
from axons.model.files import Model, load_model
from axons.model.windows import torch_forward
from axons.serve.openvino_backend import MIN_AGREEMENT, agreement, openvino_forward
from axons.serve.predictor import load_predictor, segment
from tests.drawing import draw_disks
from tests.serve.models import CPU, make_card, make_model, make_network

NO_OPENVINO = "OpenVINO is not installed: torch predicts, about three times slower"


@pytest.fixture(scope="module")
def model_uri(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(model_uri):
    return load_model(model_uri, device=CPU)


@pytest.fixture(scope="module")
def compiled(model, tmp_path_factory):
    """The cache's folder after one load, and the forward pass that came of it."""
    folder = tmp_path_factory.mktemp("cache")
    return folder, openvino_forward(model, cache=NodeCache(folder, limit_bytes=10**9), threads=2)


@pytest.fixture
def cache(compiled, tmp_path):
    """A cache of one's own that holds the compiled network, and the file it lies in."""
    (entry,) = compiled[0].glob("*.data*")
    (tmp_path / entry.name).write_bytes(entry.read_bytes())
    return NodeCache(tmp_path, limit_bytes=10**9), tmp_path / entry.name


@pytest.fixture
def _without_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "axons.serve.openvino_backend")


def _windows(count, seed=0):
    return torch.randn(count, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


def test_openvino_chooses_the_classes_that_torch_chooses_where_the_choice_is_clear(model, compiled):
    windows = _windows(12)
    with torch.inference_mode():
        expected = model.network(windows)
    first, second = expected.softmax(dim=1).topk(2, dim=1).values.unbind(dim=1)
    is_clear = first - second > 0.02
    same = compiled[1](windows).argmax(dim=1) == expected.argmax(dim=1)
    assert is_clear.float().mean() > 0.5
    assert same[is_clear].float().mean() >= MIN_AGREEMENT


def test_a_cpu_predicts_by_openvino(model_uri, cache):
    predictor = load_predictor(model_uri, device=CPU, cache=cache[0])
    assert (predictor.backend, predictor.notices) == ("openvino", [])


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_windows_come_back_in_their_order(compiled, count):
    windows = _windows(count, seed=count)
    one_by_one = torch.cat([compiled[1](windows[i : i + 1]) for i in range(count)])
    assert torch.equal(compiled[1](windows), one_by_one)


def test_a_result_is_not_changed_by_the_next_call(compiled):
    first = compiled[1](_windows(4))
    before = first.clone()
    compiled[1](_windows(4, seed=1))
    assert torch.equal(first, before)


def test_callers_at_the_same_time_get_their_own_results(compiled):
    batches = [_windows(1 + seed % 4, seed=seed) for seed in range(24)]
    expected = [compiled[1](batch) for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(compiled[1], batches))
    assert all(torch.equal(*pair) for pair in zip(answers, expected, strict=True))


def test_a_call_that_fails_is_told_each_time_and_harms_no_other(compiled):
    good = _windows(5)
    expected = compiled[1](good)
    with ThreadPoolExecutor(6) as pool:
        failing = [pool.submit(compiled[1], torch.zeros(3, 1, 32, 32)) for _ in range(8)]
        fitting = [pool.submit(compiled[1], good) for _ in range(8)]
    assert all(isinstance(future.exception(), RuntimeError) for future in failing)
    assert all(torch.equal(future.result(), expected) for future in fitting)


def test_the_compiled_network_is_kept_in_the_cache(model, cache):
    kept, entry = cache
    written = entry.stat().st_ino
    openvino_forward(model, cache=kept, threads=2)
    assert entry.stat().st_ino == written


DAMAGES = {
    "cut": lambda data: data[: len(data) // 2],
    "with a flipped weight": lambda data: data[:-100] + bytes([data[-100] ^ 0x40]) + data[-99:],
    "with a flipped header": lambda data: data[:70] + bytes([data[70] ^ 0xFF]) + data[71:],
    "of another OpenVINO": lambda data: sha256_of(b"blob").encode() + b"blob",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_cached_network_is_compiled_again(model, compiled, cache, damage):
    kept, entry = cache
    entry.write_bytes(damage(entry.read_bytes()))
    forward = openvino_forward(model, cache=kept, threads=2)
    assert torch.equal(forward(_windows(2)), compiled[1](_windows(2)))
    assert sha256_of(entry.read_bytes()[64:]).encode() == entry.read_bytes()[:64]


def test_agreement_of_torch_with_itself_is_whole(model):
    assert agreement(torch_forward(model.network.float(), CPU), model) > MIN_AGREEMENT


def test_agreement_falls_with_every_wrong_clear_pixel(model):
    def inverted(windows):
        with torch.inference_mode():
            return -model.network(windows)

    assert agreement(inverted, model) < 0.5


def test_a_network_that_another_one_stands_for_in_the_cache_is_not_used(model, cache):
    other = Model(card=model.card, network=make_network(make_card(), seed=5), crops=None)
    assert openvino_forward(other, cache=cache[0], threads=2) is None


@pytest.mark.usefixtures("_without_openvino")
def test_without_openvino_torch_predicts_and_the_result_says_so(model_uri):
    predictor = load_predictor(model_uri, device=CPU)
    assert predictor.backend == "torch"
    assert segment(draw_disks(70, 80).image, predictor).notices == [NO_OPENVINO]


@pytest.mark.usefixtures("_without_openvino")
def test_torch_predicts_what_openvino_predicts(model_uri, cache, monkeypatch):
    image = draw_disks(130, 150).image
    by_torch = segment(image, load_predictor(model_uri, device=CPU))
    monkeypatch.undo()
    by_openvino = segment(image, load_predictor(model_uri, device=CPU, cache=cache[0]))
    assert (by_torch.mask == by_openvino.mask).mean() > 0.98
