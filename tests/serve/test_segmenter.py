"""The Serve application: answers as `segment` gives them, errors that a caller can act on, life after deaths."""

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydantic import ValidationError
from ray import serve

from axons.errors import ChecksumMismatch, ModelRefused, PredictionRefused, SegmenterBusy
from axons.model.files import load_model
from axons.model.windows import torch_forward
from axons.serve.predictor import Predictor, load_predictor, segment
from axons.serve.segmenter import RETRY_AFTER_S, Segmenter, SegmenterSettings, ask_segmenter, deploy_segmenter
from tests.drawing import draw_disks
from tests.serve.models import CPU, make_model, make_useless_model

DISKS = draw_disks(150, 170).image
SLOW = draw_disks(900, 1000).image
LONG = np.zeros((2000, 2000), np.uint8)
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def model_uris(tmp_path_factory):
    """Two models that differ in their weights."""
    return [make_model(tmp_path_factory.mktemp("model"), seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def handle(local_ray):
    """The application with room for two requests at work and two that wait."""
    yield deploy_segmenter(SegmenterSettings(num_cpus=0.1, max_ongoing=2, max_queued=2))
    serve.shutdown()


def ask(handle, image, model_uri, **options):
    return ask_segmenter(handle, image, model_uri=model_uri, **options)(TIMEOUT_S)


def agreement(first, second):
    return (first.mask == second.mask).mean()


def replicas(name):
    """The process numbers of this application's replicas."""
    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if f"ServeReplica:{name}" in " ".join(child.cmdline())]


def outcome(answer, timeout_s=TIMEOUT_S):
    try:
        return answer(timeout_s)
    except (SegmenterBusy, TimeoutError) as error:
        return error


@pytest.mark.parametrize("options", [{}, {"scale": 0.5}])
def test_the_answer_is_that_of_segment_in_this_process(handle, model_uris, options):
    answer = ask(handle, DISKS, model_uris[0], **options)
    here = segment(DISKS, load_predictor(model_uris[0], device=CPU), **options)
    assert agreement(answer, here) >= 0.999
    assert sum(answer.class_pixels) == answer.mask.size == 150 * 170
    assert answer.notices == here.notices


def test_two_models_answer_at_once_each_for_itself(handle, model_uris):
    expected = [segment(DISKS, load_predictor(uri, device=CPU)) for uri in model_uris]
    waiting = [ask_segmenter(handle, DISKS, model_uri=uri) for uri in model_uris]
    answers = [answer(TIMEOUT_S) for answer in waiting]
    assert [agreement(*pair) >= 0.999 for pair in zip(answers, expected, strict=True)] == [True, True]
    assert agreement(*answers) < 0.9


def test_a_warm_model_answers_without_its_files(handle, tmp_path):
    uri = make_model(tmp_path / "model", seed=2)
    first = ask(handle, DISKS, uri)
    shutil.rmtree(uri)
    assert np.array_equal(ask(handle, DISKS, uri).mask, first.mask)


def test_a_replica_is_ready_only_when_its_models_are_warm(local_ray, handle, tmp_path):
    uri = make_model(tmp_path / "model", seed=4)
    settings = SegmenterSettings(warm=[str(tmp_path / "nothing"), uri])
    deployment = Segmenter.options(ray_actor_options={"num_cpus": 0.1})
    warm = serve.run(deployment.bind(settings), name="warm", route_prefix=None)
    shutil.rmtree(uri)
    assert ask(warm, DISKS, uri).mask.shape == (150, 170)
    serve.delete("warm")


def test_what_was_done_to_the_image_is_told(handle, model_uris):
    answer = ask(handle, np.repeat(DISKS, 3, axis=2), model_uris[0])
    assert answer.notices == ["the model expects grey images: the mean of the three colours was taken"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 4), np.uint8), r"^image has shape \(8, 8, 4\)"),
        (np.zeros((8, 8), np.float32), "^image has type float32; give uint8 or uint16$"),
        (np.zeros((4001, 4000), np.uint8), "^image has 16.0 Mpx; up to 16 Mpx are answered at once"),
    ],
)
def test_an_image_that_cannot_be_predicted_is_refused_in_one_sentence(handle, model_uris, image, message):
    with pytest.raises(PredictionRefused, match=message) as refused:
        ask(handle, image, model_uris[0])
    assert type(refused.value) is PredictionRefused
    assert "\n" not in str(refused.value)


def test_a_scale_that_cannot_be_is_refused(handle, model_uris):
    with pytest.raises(PredictionRefused, match="^scale is nan; choose one from 0.05 to 4$"):
        ask(handle, DISKS, model_uris[0], scale=float("nan"))


def test_a_useless_model_is_refused(handle, tmp_path):
    with pytest.raises(PredictionRefused, match="^the network's output is not finite"):
        ask(handle, DISKS, make_useless_model(tmp_path))


def test_an_unknown_model_is_refused(handle, tmp_path):
    with pytest.raises(ModelRefused, match="^no model at .*; check the address$") as refused:
        ask(handle, DISKS, str(tmp_path / "nothing"))
    assert type(refused.value) is ModelRefused


def test_a_damaged_model_is_refused_and_answers_once_it_is_mended(handle, tmp_path):
    weights = Path(make_model(tmp_path, seed=3), "model.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    with pytest.raises(ChecksumMismatch, match="^the stored bytes of 'model.safetensors'"):
        ask(handle, DISKS, str(tmp_path))
    weights.write_bytes(whole)
    assert ask(handle, DISKS, str(tmp_path)).mask.shape == (150, 170)


def test_no_answer_in_time_is_a_timeout(handle, model_uris):
    with pytest.raises(TimeoutError, match=r"^no prediction within 0.01 s; try again later or with a smaller image$"):
        ask_segmenter(handle, SLOW, model_uri=model_uris[0])(0.01)


def test_a_request_that_is_given_up_while_it_waits_makes_room_for_another(handle, model_uris):
    ask(handle, DISKS, model_uris[0])
    running = [ask_segmenter(handle, LONG, model_uri=model_uris[0]) for _ in range(2)]
    time.sleep(0.3)
    given_up = [outcome(ask_segmenter(handle, DISKS, model_uri=model_uris[0]), timeout_s=0.1) for _ in range(6)]
    assert {type(result) for result in given_up} == {TimeoutError}
    assert ask(handle, DISKS, model_uris[0]).mask.shape == (150, 170)
    assert [answer(TIMEOUT_S).mask.shape for answer in running] == [LONG.shape] * 2


def test_more_requests_than_may_wait_are_turned_away_and_the_others_are_answered(handle, model_uris):
    ask(handle, DISKS, model_uris[0])
    waiting = [ask_segmenter(handle, SLOW, model_uri=model_uris[0]) for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(outcome, waiting))
    busy = [result for result in outcomes if isinstance(result, SegmenterBusy)]
    assert 1 <= len(busy) <= 8
    assert {error.retry_after_s for error in busy} == {RETRY_AFTER_S}
    assert str(busy[0]) == "too many images are waiting for prediction; try again in 5 seconds"
    assert [answer.mask.shape for answer in outcomes if answer not in busy] == [(900, 1000)] * (10 - len(busy))


@pytest.fixture(scope="module")
def killed(handle, model_uris):
    """What became of a request whose replica was killed with SIGKILL, and of the next one."""
    ask(handle, DISKS, model_uris[0])
    in_flight = ask_segmenter(handle, LONG, model_uri=model_uris[0])
    time.sleep(0.3)
    before = replicas("segmenter")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    return before, outcome(in_flight), ask(handle, DISKS, model_uris[0])


def test_a_request_whose_process_dies_may_be_sent_again(killed):
    _, lost, _ = killed
    assert str(lost) == "the prediction broke off and its process starts again; try again in 5 seconds"
    assert lost.retry_after_s == RETRY_AFTER_S


def test_after_the_death_of_its_process_the_application_answers_again(killed, model_uris):
    before, _, answer = killed
    assert agreement(answer, segment(DISKS, load_predictor(model_uris[0], device=CPU))) >= 0.999
    assert len(before) == 1
    assert replicas("segmenter") != before


@pytest.fixture(scope="module")
def torch_handle(local_ray, handle, tmp_path_factory):
    """The application where OpenVINO is not installed: forward passes of several requests are joined, as on a GPU."""
    folder = tmp_path_factory.mktemp("without-openvino")
    (folder / "openvino.py").write_text("raise ImportError")
    environment = {"env_vars": {"PYTHONPATH": str(folder)}}
    deployment = Segmenter.options(
        max_ongoing_requests=8, ray_actor_options={"num_cpus": 0.1, "runtime_env": environment}
    )
    return serve.run(deployment.bind(SegmenterSettings()), name="torch", route_prefix=None)


def by_torch(model_uri):
    model = load_model(model_uri, device=CPU)
    return Predictor(
        card=model.card, forward=torch_forward(model.network, CPU), device=CPU, backend="torch", notices=[]
    )


def test_forward_passes_joined_over_requests_and_models_give_each_its_own_answer(torch_handle, model_uris):
    images = [draw_disks(150, 170, seed=seed).image for seed in range(8)]
    predictors = [by_torch(uri) for uri in model_uris]
    waiting = [ask_segmenter(torch_handle, image, model_uri=model_uris[i % 2]) for i, image in enumerate(images)]
    answers = [answer(TIMEOUT_S) for answer in waiting]
    expected = [segment(image, predictors[i % 2]) for i, image in enumerate(images)]
    # Not bit for bit: rounding to bf16 depends on the size of the batch.
    assert min(agreement(*pair) for pair in zip(answers, expected, strict=True)) >= 0.98


def test_without_openvino_every_answer_says_so(torch_handle, model_uris):
    notices = ask(torch_handle, DISKS, model_uris[0]).notices
    assert notices == ["OpenVINO is not installed: torch predicts, about three times slower"]


def test_a_useless_model_is_refused_also_where_passes_are_joined(torch_handle, tmp_path):
    with pytest.raises(PredictionRefused, match="^the network's output is not finite"):
        ask(torch_handle, DISKS, make_useless_model(tmp_path))


@pytest.mark.parametrize("changes", [{"max_queued": 0}, {"max_ongoing": 0}, {"num_replicas": 0}, {"gpu_share": 1.5}])
def test_settings_that_serve_would_not_take_are_refused(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        SegmenterSettings(**changes)
