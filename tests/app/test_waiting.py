"""While predictions wait, as for a Segmenter that starts again, everything else is answered (R19)."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from axons.app.rest import waiting
from axons.serve.predictor import Segmentation
from tests.app.classroom import add_pupils
from tests.app.images import add_project
from tests.app.serving import client_of, past_the_gate, the_api

PEOPLE, EACH = 21, 2  # together more than FastAPI has threads, and each no more than one person may
THREADS = 40


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def people(platform, project):
    return add_pupils(platform, project, PEOPLE)


class Away:
    """A Segmenter that answers nobody until it is `back`."""

    def __init__(self) -> None:
        self.back = threading.Event()

    def __call__(self, image, _model_uri, _scale, of_whole=None) -> Segmentation:
        assert self.back.wait(60)
        mask = np.zeros(image.shape[:2], np.uint8)
        return Segmentation(mask=mask, confidence=mask, class_pixels=[mask.size, 0, 0], notices=[])


@pytest.fixture
def away():
    return Away()


@pytest.fixture
def client(platform, people, away):
    """REST as several people in one event loop, as a server has; a header says who asks."""

    async def asked(scope, receive, send) -> None:
        number = int(dict(scope.get("headers", [])).get(b"x-person", 0))
        await past_the_gate(the_api(), platform, people[number], away)(scope, receive, send)

    with client_of(asked) as client:
        yield client


def wait_for_waiting(number: int) -> None:
    until = time.monotonic() + 60
    while num_waiting() != number:
        assert time.monotonic() < until
        time.sleep(0.02)


def num_waiting() -> int:
    turns = getattr(the_api().state, "prediction_turns", None)
    return turns.statistics().tasks_waiting if turns else 0


def ask_all(client, threads, model, image):
    form = {"image_ids": [image.id]}
    return [
        threads.submit(client.post, f"/v1/models/{model.id}/predict", json=form, headers={"x-person": f"{n % PEOPLE}"})
        for n in range(PEOPLE * EACH)
    ]


def test_while_predictions_wait_other_requests_are_answered(client, away, model, image):
    with ThreadPoolExecutor(PEOPLE * EACH) as threads:
        answers = ask_all(client, threads, model, image)
        wait_for_waiting(PEOPLE * EACH - waiting._AT_ONCE)
        status = client.get("/v1/projects").status_code
        away.back.set()
    assert PEOPLE * EACH > THREADS
    assert status == 200
    assert {answer.result().status_code for answer in answers} == {200}


def test_when_too_many_predictions_wait_further_ones_are_turned_away(client, away, model, image, monkeypatch):
    monkeypatch.setattr(waiting, "_MOST_WAITING", PEOPLE * EACH - waiting._AT_ONCE)
    with ThreadPoolExecutor(PEOPLE * EACH) as threads:
        answers = ask_all(client, threads, model, image)
        wait_for_waiting(PEOPLE * EACH - waiting._AT_ONCE)
        refused = client.post(f"/v1/models/{model.id}/predict", json={"image_ids": [image.id]})
        away.back.set()
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "5"
    assert {answer.result().status_code for answer in answers} == {200}
