"""The `segmenter` application of Ray Serve: warm models, joined batches, a bounded queue."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import Field
from ray import serve
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from axons.data.rows import Row
from axons.errors import AxonsError, SegmenterBusy
from axons.model.devices import num_cores
from axons.model.normalisation import Statistics
from axons.serve.listening import listen_inside_cluster
from axons.serve.predictor import Predictor, Segmentation, load_predictor, segment

_LOG = logging.getLogger("axons.segmenter")

APPLICATION = "segmenter"
GPU_APPLICATION = "segmenter-gpu"
RETRY_AFTER_S = 5
LOOK_EVERY_S = 2  # whether a replica lives; with Ray Serve's own 10 s nobody is answered for as long

_MODELS = 4  # kept warm in a replica
# A busy minute is worth a GPU machine, which takes minutes to come; who looks at the answer meanwhile asks again.
_DELAYS = {"upscale_delay_s": 10, "downscale_delay_s": 120, "downscale_to_zero_delay_s": 300}
_NO_CARD = "torch finds no GPU where Ray has given a part of one: the image was predicted on that machine's CPU"


class SegmenterSettings(Row):
    """How the application runs.

    Args:
        num_replicas: always, or with `min_replicas` at most.
        min_replicas: while nobody asks; None does not count who asks.
        gpu_share: of one GPU for each replica; 0 predicts on the CPU.
        num_cpus: logical CPUs that Ray reserves for a replica.
        on_head: run on the head alone, so that no machine is kept up for it.
        threads: of a replica on a CPU; by default all cores.
        max_queued: requests that may wait before further ones are turned away.
        warm: addresses of models that a replica loads and tries before it takes requests.
    """

    num_replicas: int = Field(1, ge=1)
    min_replicas: int | None = Field(None, ge=0)
    gpu_share: float = Field(0.0, ge=0, le=1)
    num_cpus: float = Field(0.5, ge=0)
    on_head: bool = False
    threads: int | None = None
    max_ongoing: int = Field(4, ge=1)
    max_queued: int = Field(64, ge=1)
    warm: list[str] = Field([], max_length=_MODELS)


@serve.deployment(health_check_period_s=LOOK_EVERY_S)
class Segmenter:
    """Predicts images with any model, which the multiplexed model id names by its address."""

    async def __init__(self, settings: SegmenterSettings) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        listen_inside_cluster()
        has_card = settings.gpu_share > 0 and torch.cuda.is_available()
        self._device = torch.device("cuda" if has_card else "cpu")
        self._notices = [_NO_CARD] if settings.gpu_share > 0 and not has_card else []
        self._threads = settings.threads or num_cores()
        # Of its own: in the common pool every thread may hold a request that waits for this very pass.
        self._forwarding = ThreadPoolExecutor(1, thread_name_prefix="forward")
        for model_uri in settings.warm:
            await self._warm(model_uri)

    async def segment(
        self, image: np.ndarray, scale: float | None = None, of_whole: Statistics | None = None
    ) -> Segmentation:
        """See `predictor.segment`."""
        predictor = await self._predictor(serve.get_multiplexed_model_id())
        if predictor.backend == "torch":
            predictor = self._joined(predictor)
        # In a thread, so that health checks and other requests are answered meanwhile.
        found = await asyncio.to_thread(segment, image, predictor, scale=scale, of_whole=of_whole)
        return replace(found, notices=[*self._notices, *found.notices])

    async def warm_up(self) -> None:
        """Load the model of the call and predict once with it."""
        await self._warm(serve.get_multiplexed_model_id())

    async def _warm(self, model_uri: str) -> None:
        """Load a model and predict once; one that cannot be used is no reason to keep the others waiting."""
        try:
            predictor = await self._predictor(model_uri)
            blank = np.zeros((predictor.card.window, predictor.card.window, predictor.card.channels), np.uint8)
            await asyncio.to_thread(segment, blank, predictor)
        except AxonsError as error:
            _LOG.warning("the model %s is not warm: %s", model_uri, error)

    @serve.multiplexed(max_num_models_per_replica=_MODELS)  # type: ignore[untyped-decorator]
    async def _predictor(self, model_uri: str) -> Predictor:
        return await asyncio.to_thread(load_predictor, model_uri, device=self._device, threads=self._threads)

    def _joined(self, predictor: Predictor) -> Predictor:
        """The predictor with its forward passes joined to those of other requests for the same model."""
        loop = asyncio.get_running_loop()

        def forward(windows: torch.Tensor) -> torch.Tensor:
            return asyncio.run_coroutine_threadsafe(self._forward_together((predictor, windows)), loop).result()

        return replace(predictor, forward=forward)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def _forward_together(self, calls: list[tuple[Predictor, torch.Tensor]]) -> list[torch.Tensor]:
        """Ray Serve joins calls of one model only: batches are split by multiplexed model id."""
        predictor = calls[0][0]
        windows = torch.cat([windows for _, windows in calls])
        logits = await asyncio.get_running_loop().run_in_executor(self._forwarding, predictor.forward, windows)
        return list(logits.split([len(windows) for _, windows in calls]))


def build_segmenter(settings: SegmenterSettings) -> serve.Application:
    """The application, to be run; it answers on no HTTP route."""
    replicas: dict[str, Any] = {"num_replicas": settings.num_replicas}
    if settings.min_replicas is not None:
        replicas = {
            "autoscaling_config": {
                "min_replicas": settings.min_replicas,
                "initial_replicas": settings.min_replicas,
                "max_replicas": settings.num_replicas,
                "target_ongoing_requests": settings.max_ongoing,
                **_DELAYS,
            }
        }
    application: serve.Application = Segmenter.options(  # type: ignore[attr-defined]  # a Deployment, by the decorator
        ray_actor_options={
            "num_cpus": settings.num_cpus,
            "num_gpus": settings.gpu_share,
            "resources": {HEAD_NODE_RESOURCE_NAME: 0.001} if settings.on_head else {},
        },
        max_ongoing_requests=settings.max_ongoing,
        max_queued_requests=settings.max_queued,
        **replicas,
    ).bind(settings)
    return application


def deploy_segmenter(
    settings: SegmenterSettings = SegmenterSettings(), *, name: str = APPLICATION
) -> DeploymentHandle[Any]:
    """Start the application on the connected cluster, or change the one that runs."""
    return serve.run(build_segmenter(settings), name=name, route_prefix=None)


def ask_segmenter(
    handle: DeploymentHandle[Any],
    image: np.ndarray,
    *,
    model_uri: str,
    scale: float | None = None,
    of_whole: Statistics | None = None,
) -> Callable[[float | None], Segmentation]:
    """Send an image; returns a function that waits for the answer, so many seconds at most.

    Raises (from that function):
        SegmenterBusy: too many requests are waiting, or the replica that had this one has died.
        PredictionRefused, ModelRefused, ChecksumMismatch: see `predictor.segment` and `load_predictor`.
        TimeoutError: no answer in time; the request is taken back.
    """
    response: Any = handle.options(multiplexed_model_id=model_uri).segment.remote(image, scale, of_whole)

    def answer(timeout_s: float | None = None) -> Segmentation:
        try:
            result: Segmentation = response.result(timeout_s=timeout_s)
        except BackPressureError as error:
            raise SegmenterBusy(
                f"too many images are waiting for prediction; try again in {RETRY_AFTER_S} seconds", RETRY_AFTER_S
            ) from error
        except RayActorError as error:
            raise SegmenterBusy(
                f"the prediction broke off and its process starts again; try again in {RETRY_AFTER_S} seconds",
                RETRY_AFTER_S,
            ) from error
        except RayTaskError as error:
            if isinstance(error.cause, AxonsError):  # its text is for a person; Ray's would be a stack trace
                raise error.cause from error
            raise
        except TimeoutError as error:
            response.cancel()
            raise TimeoutError(
                f"no prediction within {timeout_s} s; try again later or with a smaller image"
            ) from error
        return result

    return answer
