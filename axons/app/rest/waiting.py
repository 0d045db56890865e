"""Answers that may take long wait in threads of their own, so that everything else is answered meanwhile."""

from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Request

from axons.errors import SegmenterBusy
from axons.serve.segmenter import RETRY_AFTER_S

_T = TypeVar("_T")

_AT_ONCE = 24  # fewer than the segmenter lets wait
_MOST_WAITING = 400  # a class that has asked during the seconds in which the segmenter starts again


async def predict_in_turn(request: Request, predict: Callable[[], _T]) -> _T:
    """Run what predicts once a thread for predictions is free. Those of all other requests stay free for them.

    Raises:
        SegmenterBusy: too many wait already.
    """
    state = request.app.state
    if not hasattr(state, "prediction_turns"):
        state.prediction_turns = CapacityLimiter(_AT_ONCE)
    turns: CapacityLimiter = state.prediction_turns
    if turns.statistics().tasks_waiting >= _MOST_WAITING:
        raise SegmenterBusy(
            f"too many images are waiting for prediction; try again in {RETRY_AFTER_S} seconds", RETRY_AFTER_S
        )
    return await anyio.to_thread.run_sync(predict, limiter=turns)
