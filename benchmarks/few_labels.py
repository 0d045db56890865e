"""What one and three training images are worth against all of them, after the same 60 s each.

Real micrographs, one animal held out; with three there is a fourth for validation. Which images are labelled is drawn
twice. Target: mean Dice of axon and myelin 0.97 × with three and 0.93 × with one, of that with all.
"""

import shutil
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from benchmarks.measuring import REAL_IMAGES, Figure, Result
from benchmarks.real_images import ABSENT, TEST, are_here, mean_dice, run_demo

_LEAST = {1: 0.93, 3: 0.97}
_NUM_LABELLED = {1: 1, 3: 4}  # with one there is no validation


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    if not are_here():
        return ABSENT
    minutes, draws = (0.1, 1) if is_small else (1.0, 2)
    names = sorted(path.name for path in (REAL_IMAGES / "images").iterdir())
    others = [name for name in names if not fnmatch(name, TEST)]
    everything = mean_dice(run_demo(_labelled(scratch / "all", others), scratch / "all-out", minutes=minutes))
    rng = np.random.default_rng(0)
    found: dict[int, list[float]] = {
        count: [
            _dice_with(scratch, [str(name) for name in rng.choice(others, _NUM_LABELLED[count], False)], minutes)
            for _ in range(draws)
        ]
        for count in _LEAST
    }
    return Result(
        figures=[
            Figure(
                what=f"mean Dice with {count} training image{'s' if count > 1 else ''}, all {len(others)} labelled",
                ours=float(np.mean(values)),
                peer=everything,
                unit="",
                ratio=float(np.mean(values)) / everything,
                target=f"≥ {_LEAST[count]:g}×",
                reached=bool(np.mean(values) >= _LEAST[count] * everything),
            )
            for count, values in found.items()
        ],
        notes=[
            f"with {count}: {', '.join(f'{value:.3f}' for value in values)}; {_NUM_LABELLED[count]} labelled"
            for count, values in found.items()
        ],
    )


def _dice_with(scratch: Path, names: list[str], minutes: float) -> float:
    folder = _labelled(scratch / "few", names)
    dice = mean_dice(run_demo(folder, scratch / "few-out", minutes=minutes))
    shutil.rmtree(folder)
    shutil.rmtree(scratch / "few-out")
    return dice


def _labelled(folder: Path, names: list[str]) -> Path:
    """The named images and the held-out ones, with their masks."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
        for path in (REAL_IMAGES / part).iterdir():
            if path.name in names or fnmatch(path.name, TEST):
                shutil.copy(path, folder / part)
    return folder
