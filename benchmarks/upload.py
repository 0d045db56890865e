"""A TIFF of 500 MB sent in parts through `axons up`, with the memory of the application and of Serve's proxy.

No peer. Target: each grows by less than 100 MB (PSS, sampled ten times a second), after a small upload.
"""

import time
from pathlib import Path

import numpy as np
import tifffile

from axons.client import Client
from benchmarks.measuring import Figure, MemoryWatch, Result, at_most
from benchmarks.platform_up import PROXY, REPLICA, process_of, project_with, pss, running, write_pictures

_CLASSES = ["background", "nerve"]


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    large = _write_tiff(scratch / "large.tif", num_bytes=50_000_000 if is_small else 500_000_000)
    small = write_pictures(scratch / "small", [np.zeros((64, 64), np.uint8)])
    with running() as up, up.client() as client:
        project_id = project_with(client, small, classes=_CLASSES)
        processes = {name: process_of(up, title) for name, title in (("application", REPLICA), ("proxy", PROXY))}
        before = {name: pss(process) for name, process in processes.items()}
        watches = {name: MemoryWatch(process.pid, every_s=0.1) for name, process in processes.items()}
        with watches["application"], watches["proxy"]:
            seconds = _send(client, large, project_id)
    megabytes = large.stat().st_size / 1e6
    grown = {name: (watch.total - before[name]) / 1e6 for name, watch in watches.items()}
    return Result(
        figures=[
            *(at_most(f"growth of the {name}", grew, 100, unit="MB") for name, grew in grown.items()),
            Figure(what=f"time to send {megabytes:.0f} MB", ours=seconds, unit="s"),
        ],
        notes=[
            f"{megabytes / seconds:.0f} MB/s, each part with its sha256 and synced; before: "
            + ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in before.items())
        ],
    )


def _send(client: Client, file: Path, project_id: str) -> float:
    began = time.monotonic()
    upload_id = client.upload(file, purpose="images", project_id=project_id)
    took = time.monotonic() - began
    client.delete(f"uploads/{upload_id}")
    return took


def _write_tiff(path: Path, *, num_bytes: int) -> Path:
    """A tiled RGB TIFF without compression, of noise."""
    side = int((num_bytes / 3) ** 0.5) // 256 * 256
    strip = np.random.default_rng(0).integers(0, 256, (256, side, 3), dtype=np.uint8)
    tiles = (strip[:, col : col + 256] for _ in range(0, side, 256) for col in range(0, side, 256))
    tifffile.imwrite(path, tiles, shape=(side, side, 3), dtype=np.uint8, tile=(256, 256), photometric="rgb")
    return path
