"""Cores, threads and precision of the device at hand."""

import os
from functools import lru_cache

import torch


def use_all_cores(local_workers: int) -> int:
    """Let torch compute on this node's cores, shared by its workers; returns the threads of one.

    Ray sets OMP_NUM_THREADS to the logical CPUs of the worker, which is 1.
    """
    threads = max(1, num_cores() // local_workers)
    torch.set_num_threads(threads)
    return threads


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """bf16 where the device computes in it, fp16 on older GPUs, None (plain fp32) on older processors."""
    if device.type == "cuda":
        # is_bf16_supported() also says yes where bf16 is emulated, as on V100S: ask for the hardware.
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return torch.bfloat16 if cpu_computes_bf16() else None


@lru_cache(maxsize=1)
def cpu_computes_bf16() -> bool:
    """Whether this processor multiplies bf16 matrices in hardware (AMX or AVX-512 BF16)."""
    # torch.cpu.get_capabilities() says the same in words, but not yet in torch 2.7.
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
