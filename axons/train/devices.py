"""Which device a run gets, and how busy it is."""

from dataclasses import dataclass

import psutil
import torch

from axons.errors import ConfigurationRefused
from axons.model.devices import num_cores
from axons.train.config import Device


def chooses_gpu(wanted: Device, *, cluster_gpus: float) -> bool:
    """Whether a run trains on a GPU.

    Args:
        cluster_gpus: how many the cluster can have, machines included that are not up at the moment.
    Raises:
        ConfigurationRefused: a GPU is wanted and the cluster has no kind of machine with one.
    """
    if wanted == "gpu" and cluster_gpus <= 0:
        raise ConfigurationRefused(
            "device", "'gpu' is asked for but no machine of the cluster has a GPU; choose 'auto' or 'cpu'"
        )
    return wanted != "cpu" and cluster_gpus > 0


def device_name(device: torch.device) -> str:
    """What a person calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


@dataclass(frozen=True, kw_only=True)
class Load:
    """Shares are 0 to 1, None where they cannot be measured."""

    cpu_share: float
    memory_bytes: int
    gpu_share: float | None
    gpu_memory_bytes: int | None


class LoadMeter:
    """The load of this process since the last look."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._process.cpu_percent()

    def read(self) -> Load:
        """The load now."""
        on_gpu = self._device.type == "cuda"
        return Load(
            cpu_share=min(1.0, self._process.cpu_percent() / 100 / num_cores()),
            memory_bytes=self._process.memory_info().rss,
            gpu_share=_gpu_share(self._device) if on_gpu else None,
            gpu_memory_bytes=torch.cuda.memory_reserved(self._device) if on_gpu else None,
        )


def _gpu_share(device: torch.device) -> float | None:
    try:
        return torch.cuda.utilization(device) / 100
    except (ModuleNotFoundError, RuntimeError):  # needs the nvidia-ml-py package and a driver that answers
        return None
