"""What the rows share: figures beside their targets, alternating rounds, and the memory of processes."""

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

REAL_IMAGES = Path(__file__).parents[2] / "shared" / "data" / "axon-sem"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table.

    Args:
        what: what is compared, and with whom.
        ours, peer: in `unit`; `peer` is None where the target is a limit.
        ratio: how many times better than the peer we are; None without a peer.
        target: in words; empty for a figure that has none.
        reached: None without a target.
    """

    what: str
    ours: float
    unit: str
    peer: float | None = None
    ratio: float | None = None
    target: str = ""
    reached: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a row has found; no figures if it could not be measured, and `notes` says why."""

    figures: list[Figure]
    notes: list[str] = field(default_factory=list)


def seconds(what: str, ours: float, peer: float, *, at_least: float | None = None) -> Figure:
    """Ours took so many seconds and the peer so many; the ratio is how many times faster we are."""
    return _ratio(what, ours, peer, "s", peer / ours, at_least)


def rate(
    what: str, ours: float, peer: float, *, unit: str, at_least: float | None = None, ratio: float | None = None
) -> Figure:
    """Ours is so much and the peer so much, more is better; `ratio` where it was not computed from these two."""
    return _ratio(what, ours, peer, unit, ours / peer if ratio is None else ratio, at_least)


def at_most(what: str, ours: float, limit: float, *, unit: str, peer: float | None = None) -> Figure:
    """A figure that must stay at or below a limit, whatever the peer's is."""
    ratio = peer / ours if peer and peer > 0 and ours > 0 else None
    target = f"≤ {limit:g} {unit}".rstrip()
    return Figure(what=what, ours=ours, peer=peer, unit=unit, ratio=ratio, target=target, reached=ours <= limit)


def at_least(what: str, ours: float, limit: float, *, unit: str, peer: float | None = None) -> Figure:
    """A figure that must reach a limit, whatever the peer's is."""
    ratio = ours / peer if peer and peer > 0 else None
    target = f"≥ {limit:g} {unit}".rstrip()
    return Figure(what=what, ours=ours, peer=peer, unit=unit, ratio=ratio, target=target, reached=ours >= limit)


def alternate(rounds: int, **methods: Callable[[], object]) -> dict[str, list[float]]:
    """The seconds of each method in each round; who goes first changes from round to round."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    names = list(methods)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            began = time.perf_counter()
            methods[name]()
            times[name].append(time.perf_counter() - began)
    return times


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """The median of each method."""
    return {name: statistics.median(values) for name, values in times.items()}


def median_ratio(ours: list[float], peer: list[float]) -> float:
    """The median over rounds of the peer's seconds over ours."""
    return statistics.median(theirs / mine for mine, theirs in zip(ours, peer, strict=True))


@dataclass
class ProcessPeak:
    """The most memory a process has had: its fair share of resident pages (PSS), and all of them (VmHWM)."""

    title: str
    pss: int = 0
    resident: int = 0


class MemoryWatch:
    """Samples a process and everything below it while in a `with` block; `total` is the peak of the summed PSS."""

    def __init__(self, pid: int | None = None, *, every_s: float = 0.5) -> None:
        self.total = 0
        self._root = psutil.Process(pid)
        self._every_s = every_s
        self._peaks: dict[tuple[int, float], ProcessPeak] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def largest(self, count: int = 5) -> list[ProcessPeak]:
        """The processes with the highest peak of PSS."""
        return sorted(self._peaks.values(), key=lambda peak: -peak.pss)[:count]

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            with suppress(psutil.NoSuchProcess):
                self._sample([self._root, *self._root.children(recursive=True)])

    def _sample(self, processes: list[psutil.Process]) -> None:
        total = 0
        for process in processes:
            with suppress(psutil.Error, OSError):  # it may end while we look
                pss, resident = process.memory_full_info().pss, peak_resident(process.pid)
                peak = self._peaks.setdefault((process.pid, process.create_time()), ProcessPeak(title=""))
                peak.title = _title(process)
                peak.pss, peak.resident = max(peak.pss, pss), max(peak.resident, resident)
                total += pss
        self.total = max(self.total, total)


def peak_resident(pid: int) -> int:
    """The most bytes a living process has had resident (VmHWM), mapped files included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    return 0


def _title(process: psutil.Process) -> str:
    """A short name: Ray's workers say what they do, Python its module or script."""
    command = process.cmdline() or [process.name()]
    if command[0].startswith("ray::"):
        return command[0]
    for i, word in enumerate(command[1:], start=1):
        if word == "-m":
            return f"python -m {command[i + 1]}"
        if word.endswith(".py"):
            return Path(word).name
    return Path(command[0]).name


def _ratio(what: str, ours: float, peer: float, unit: str, ratio: float, least: float | None) -> Figure:
    return Figure(
        what=what,
        ours=ours,
        peer=peer,
        unit=unit,
        ratio=ratio,
        target="" if least is None else f"≥ {least:g}×",
        reached=None if least is None else ratio >= least,
    )
