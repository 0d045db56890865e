"""`axons up` on an empty folder: until it is ready, its memory when nobody asks anything, and `axons --help`.

No peer. Target: ready within 25 s of the start of the process, all processes together 3 GB at most (summed PSS, 20 s
later), and the help within 0.7 s.
"""

import statistics
import subprocess
import time
from pathlib import Path

from benchmarks.measuring import MemoryWatch, Result, at_most
from benchmarks.platform_up import running
from tests.app.installation import AXONS

_REST_S = 20


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    ready = []
    for _ in range(1 if is_small else 3):
        began = time.monotonic()
        with running() as up:
            ready.append(time.monotonic() - began)
            time.sleep(_REST_S)
            assert up.process is not None
            with MemoryWatch(up.process.pid) as memory:
                time.sleep(2)
    helped = [_help_seconds() for _ in range(5)]
    largest = "; ".join(f"{peak.title} {peak.pss / 1e9:.2f}" for peak in memory.largest(6))
    return Result(
        figures=[
            at_most("until it is ready", statistics.median(ready), 25, unit="s"),
            at_most("memory when idle", memory.total / 1e9, 3, unit="GB"),
            at_most("axons --help", statistics.median(helped), 0.7, unit="s"),
        ],
        notes=[
            f"starts: {', '.join(f'{seconds:.1f}' for seconds in ready)} s",
            f"largest processes, GB of PSS: {largest}",
        ],
    )


def _help_seconds() -> float:
    began = time.monotonic()
    subprocess.run([*AXONS, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began
