"""The whole loop on the sample, `axons demo`: images to report with a minute of training.

No peer. Target: under 180 s, mean IoU on held-out images 0.60 at least, and less than 6 GB in all its processes
together, Ray's included (summed PSS, sampled each second).
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measuring import MemoryWatch, Result, at_least, at_most


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    command = [sys.executable, "-m", "axons", "demo", "--out", str(scratch / "demo"), "--json"]
    began = time.monotonic()
    process = subprocess.Popen(command + (["--epochs", "1"] if is_small else []), stdout=subprocess.PIPE)
    with MemoryWatch(process.pid, every_s=1.0) as memory:
        answer, _ = process.communicate()
    took = time.monotonic() - began
    if process.returncode:
        raise RuntimeError(f"axons demo ended with exit code {process.returncode}")
    *strays, last = answer.splitlines()
    found = json.loads(last)
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in found["seconds"].items())
    largest = "; ".join(f"{peak.title} {peak.pss / 1e9:.2f}" for peak in memory.largest())
    return Result(
        figures=[
            at_most("from start to report", took, 180, unit="s"),
            at_least("mean IoU on held-out images", found["mean_iou"], 0.60, unit=""),
            at_most("peak memory of all processes", memory.total / 1e9, 6, unit="GB"),
        ],
        notes=[f"seconds by stage: {stages}; {found['steps']} steps", f"largest processes, GB of PSS: {largest}"]
        + [f"standard output also held: {line.decode(errors='replace')[:200]}" for line in strays[:1]],
    )
