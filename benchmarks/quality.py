"""Dice on an animal never seen, after 60 s of training on real micrographs, against a plain PyTorch loop.

Peer: plain_training.py, the same 60 s of the same network in bf16, which may train on every image of the other
animals, while ours keeps one for validation. Target: at most 0.01 Dice less, for axon and for myelin; medians of 3.
"""

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.measuring import REAL_IMAGES, Figure, Result
from benchmarks.real_images import ABSENT, CLASSES, TEST, are_here, run_demo

_MAY_LOSE = 0.01


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    if not are_here():
        return ABSENT
    budget_s, rounds = (6.0, 1) if is_small else (60.0, 3)
    ours, plain = [], []
    for i in range(rounds):
        ours.append(run_demo(REAL_IMAGES, scratch / f"demo-{i}", minutes=budget_s / 60))
        plain.append(_plain(budget_s, seed=i))
        shutil.rmtree(scratch / f"demo-{i}")
    figures = []
    for k, name in enumerate(CLASSES[1:], start=1):
        mine = statistics.median(answer["classes"][name]["dice"] for answer in ours)
        theirs = statistics.median(answer["dice"][k] for answer in plain)
        figures.append(
            Figure(
                what=f"Dice of {name}, plain PyTorch loop",
                ours=mine,
                peer=theirs,
                unit="",
                ratio=mine / theirs,
                target=f"≥ plain - {_MAY_LOSE}",
                reached=mine >= theirs - _MAY_LOSE,
            )
        )
    steps = [statistics.median(answer["steps"] for answer in answers) for answers in (ours, plain)]
    return Result(
        figures=figures,
        notes=[
            f"steps in {budget_s:.0f} s: ours {steps[0]:.0f} (validation included), plain {steps[1]:.0f}; Dice of each "
            f"round (axon): ours {_each([answer['classes']['axon']['dice'] for answer in ours])}, "
            f"plain {_each([answer['dice'][CLASSES.index('axon')] for answer in plain])}"
        ],
    )


def _plain(budget_s: float, *, seed: int) -> dict:
    command = [sys.executable, "-m", "benchmarks.plain_training", str(REAL_IMAGES), "--test", TEST]
    command += ["--seconds", str(budget_s), "--seed", str(seed)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _each(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
