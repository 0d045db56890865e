"""How fast the CPU at hand trains a network, tried before a training that has only so many minutes."""

import time

import torch

from axons.model.devices import autocast_dtype, use_all_cores
from axons.model.network import NetworkSpec, build_network
from axons.train.losses import loss_of

_CROP = 128
_BATCH = 4
_MAX_STEPS = 4  # the first one warms up, and another process may be in the way of one
_ENOUGH_S = 4.0


def cpu_pace(spec: NetworkSpec) -> float:
    """Pixels of crops that one process on this machine trains on in a second, by the quickest of a few small steps.

    The driver asks it of its own machine: the CPU machines of a cluster are taken to be alike.
    """
    use_all_cores(1)
    network = build_network(spec, seed=0).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)
    images = torch.zeros(_BATCH, spec.channels, _CROP, _CROP).contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(_BATCH, _CROP, _CROP, dtype=torch.int64)
    dtype = autocast_dtype(images.device)
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < _MAX_STEPS and sum(seconds) < _ENOUGH_S):
        began = time.perf_counter()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            logits = network(images)
        optimiser.zero_grad(set_to_none=True)
        loss_of(logits.float(), targets, "cross-entropy + dice").backward()
        optimiser.step()
        seconds.append(time.perf_counter() - began)
    return _BATCH * _CROP**2 / min(seconds)
