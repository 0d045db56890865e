"""The demo as a person runs it, on real images of nerves: shared by the rows on quality and on few labels."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.measuring import REAL_IMAGES, Result

TEST = "sub-rat8*"  # the animal left out
CLASSES = ("background", "myelin", "axon")
ABSENT = Result(figures=[], notes=["the real images of shared/data/axon-sem are not here; not measured"])


def are_here() -> bool:
    """Whether the real images lie beside the project."""
    return REAL_IMAGES.is_dir()


def run_demo(folder: Path, out: Path, *, minutes: float) -> dict[str, Any]:
    """`axons demo` with one animal held out; its answer."""
    command = [sys.executable, "-m", "axons", "demo", str(folder), "--minutes", str(minutes), "--test", TEST]
    command += ["--classes", ",".join(CLASSES), "--out", str(out), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


def mean_dice(answer: dict[str, Any]) -> float:
    """Of the foreground classes."""
    return sum(answer["classes"][name]["dice"] for name in CLASSES[1:]) / (len(CLASSES) - 1)
