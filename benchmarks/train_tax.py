"""Twenty training steps through `python -m axons.train`, against a bare TorchTrainer.

Peer: bare_trainer.py, the same network on one ready batch: it cuts no crops, augments nothing and writes no status.
Target: to the first step, from the start of the process, at most 3 s more; step time 0.95 × the bare one.
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from axons.model.devices import num_cores
from axons.train.config import TrainConfig
from axons.train.run import REQUEST, RunFolder, RunRequest
from benchmarks.drawn import freeze_fields
from benchmarks.measuring import Figure, Result, median_ratio

_STEPS = 20  # of an epoch, the least there is
_MORE_S = 3.0


@dataclass(frozen=True)
class _Run:
    """Seconds from the start of the process to the end of its first step, and of a step after that."""

    first_step_s: float
    step_s: float


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    uri, training_set = freeze_fields(scratch, count=1, side=512)
    ours: list[_Run] = []
    bare: list[_Run] = []
    for i in range(1 if is_small else 3):
        request = RunRequest(
            run_id=f"run-{i}",
            training_set=uri,
            training_set_sha256=training_set.sha256(),
            config=TrainConfig(epochs=1, device="cpu"),
        )
        ours.append(_ours(RunFolder(str(scratch / request.run_id)), request))
        bare.append(_bare(scratch / f"bare-{i}.json"))
    starts = [statistics.median(run.first_step_s for run in runs) for runs in (ours, bare)]
    steps = [[run.step_s for run in runs] for runs in (ours, bare)]
    ratio = median_ratio(*steps)
    return Result(
        figures=[
            Figure(
                what="process start to first step, bare TorchTrainer",
                ours=starts[0],
                peer=starts[1],
                unit="s",
                ratio=starts[1] / starts[0],
                target=f"≤ bare + {_MORE_S:g} s",
                reached=starts[0] <= starts[1] + _MORE_S,
            ),
            Figure(
                what="one step, bare TorchTrainer",
                ours=statistics.median(steps[0]),
                peer=statistics.median(steps[1]),
                unit="s",
                ratio=ratio,
                target="≥ 0.95×",
                reached=ratio >= 0.95,
            ),
        ],
        notes=[
            f"to the first step: {starts[0] - starts[1]:+.1f} s; our steps cut and augment crops, the bare ones do not"
        ],
    )


def _ours(run: RunFolder, request: RunRequest) -> _Run:
    run.storage.write(REQUEST, request.packed())
    began = time.time()
    process = subprocess.Popen([sys.executable, "-m", "axons.train", run.uri, "--address", "local"])
    seen = {}  # step: seconds of the loop
    while process.poll() is None:
        status = run.status()
        if status.step:
            seen.setdefault(status.step, status.seconds)
        time.sleep(0.2)
    status = run.status()
    assert status.state == "done" and status.start_seconds is not None, status.reason
    # The status counts from the beginning of the attempt; its file tells when that was.
    attempt = Path(run.uri, "attempts", "1", "attempt.json").stat().st_mtime - began
    first, last = min(seen), max(seen)
    return _Run(attempt + status.start_seconds, (seen[last] - seen[first]) / (last - first))


def _bare(out: Path) -> _Run:
    began = time.time()
    command = [sys.executable, "-m", "benchmarks.bare_trainer", str(out), str(_STEPS), str(num_cores())]
    subprocess.run(command, check=True)
    ended = json.loads(out.read_text())["steps"]
    return _Run(ended[0] - began, (ended[-1] - ended[0]) / (len(ended) - 1))
