"""Named shares of a machine that a training may ask for: the administrator names them, the cluster must have them."""

from typing import Any

import ray
from ray.exceptions import RayError

from axons.app.asking import Question
from axons.app.settings import Settings
from axons.errors import ConfigurationRefused, ServerUnavailable
from axons.train.config import TrainConfig
from axons.train.devices import chooses_gpu
from axons.train.driver import check_fits, cluster_gpus, worker_resources
from axons.train.run import RunRequest


def check_preset(settings: Settings, config: TrainConfig) -> None:
    """Refuse a preset that is not there, or that no machine of the cluster could give.

    While Ray does not answer nobody can know; then the training itself looks, before it waits for a machine.

    Raises:
        ConfigurationRefused: names the field.
    """
    if config.preset is None:
        return
    shares = shares_of(settings, config)
    if not ray.is_initialized():
        return
    request = RunRequest(run_id="asked", training_set="", config=config, **shares)
    try:
        _FITS.answer(_FITS.begin(request))
    except ServerUnavailable:
        return


def shares_of(settings: Settings, config: TrainConfig) -> dict[str, Any]:
    """The fields of a run's request that say how much of a machine each of its processes gets.

    Raises:
        ConfigurationRefused: there is no such preset.
    """
    if config.preset is None:
        return {"gpu_share": settings.train_gpu_share}
    preset = settings.presets.get(config.preset)
    if preset is None:
        known = ", ".join(map(repr, settings.presets)) or "none here"
        raise ConfigurationRefused("preset", f"there is no preset {config.preset!r}; there are: {known}")
    memory = None if preset.memory_gb is None else round(preset.memory_gb * 2**30)
    return {"gpu_share": preset.gpu_share, "cpus": preset.cpus, "memory_bytes": memory}


def train_schema(settings: Settings) -> dict[str, Any]:
    """The schema of a training's settings, with the presets of this installation to choose from."""
    schema = TrainConfig.model_json_schema()
    if settings.presets:
        schema["properties"]["preset"]["anyOf"][0] = {"type": "string", "enum": list(settings.presets)}
    else:
        del schema["properties"]["preset"]
    return schema


def _check_fits(request: RunRequest) -> None:
    try:
        on_gpu = chooses_gpu(request.config.device, cluster_gpus=cluster_gpus())
        check_fits(str(request.config.preset), worker_resources(request, on_gpu=on_gpu))
    except (RayError, ConnectionError) as error:
        raise ServerUnavailable(f"Ray does not answer ({error})") from error


_FITS: Question[[RunRequest], None] = Question("Ray", _check_fits)
