"""Does the application grow? `python -m tests.faults.soak MINUTES`: twelve people label and watch meanwhile (R26)."""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.class_load import School
from benchmarks.platform_up import PROXY, REPLICA, process_of, running

NUM_PEOPLE = 12
_LOOK_EVERY_S = 5.0
_WARM_SHARE = 0.3  # of the time, in which caches fill


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How a process was after the warm-up and at the end: medians of several looks.

    Args:
        memory: resident bytes; handles: open files and connections.
    """

    memory: tuple[float, float]
    handles: tuple[float, float]

    @property
    def memory_share(self) -> float:
        return self.memory[1] / self.memory[0] - 1

    def told(self) -> str:
        memory = " to ".join(f"{value / 1e6:.0f}" for value in self.memory)
        handles = " to ".join(f"{value:.0f}" for value in self.handles)
        return f"{memory} MB ({100 * self.memory_share:+.1f} %), {handles} handles"


@dataclass(frozen=True, kw_only=True)
class Soaked:
    """What a soak has found."""

    application: Growth
    proxy: Growth
    num_broken: float
    num_lost: float
    told: str


def soak(minutes: float) -> Soaked:
    """Let twelve people work for so long on a platform of its own."""
    with tempfile.TemporaryDirectory() as folder, running() as up:
        school = School(up, Path(folder), num_students=NUM_PEOPLE)
        processes = [process_of(up, REPLICA), process_of(up, PROXY)]
        looks = asyncio.run(_work(school, processes, 60 * minutes))
    _, broken, lost = school.figures("soak")
    application, proxy = (_growth(found) for found in zip(*looks, strict=True))
    return Soaked(application=application, proxy=proxy, num_broken=broken.ours, num_lost=lost.ours, told=school.told())


async def _work(school: School, processes: Sequence[psutil.Process], seconds: float) -> list[list[tuple[int, int]]]:
    until = time.monotonic() + seconds
    working = asyncio.create_task(school.work(seconds))
    looks = []
    while time.monotonic() < until:
        await asyncio.sleep(_LOOK_EVERY_S)
        looks.append([(process.memory_info().rss, process.num_fds()) for process in processes])
    await working
    return looks


def _growth(looks: Sequence[tuple[int, int]]) -> Growth:
    first = round(_WARM_SHARE * len(looks))
    few = max(3, len(looks) // 8)
    before, after = looks[first : first + few], looks[-few:]
    memory, handles = ((_median(before, i), _median(after, i)) for i in range(2))
    return Growth(memory=memory, handles=handles)


def _median(looks: Sequence[tuple[int, int]], index: int) -> float:
    return statistics.median(look[index] for look in looks)


if __name__ == "__main__":
    found = soak(float(sys.argv[1]))
    sys.stdout.write(f"application: {found.application.told()}\nproxy: {found.proxy.told()}\n")
    sys.stdout.write(f"answers 5xx or none: {found.num_broken:g}; updates lost: {found.num_lost:g}; {found.told}\n")
