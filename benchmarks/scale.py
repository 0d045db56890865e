"""Classes of 60, 600 and 6,000 students on 1 to 64 GPUs: how long they wait, what it costs, and what runs out first.

Measures what each step takes on a real platform here (answers, freezing, what a training takes beside its minutes, the
memory of its driver), then simulates lessons on the cluster of `cluster/cluster.yaml` with SimPy and writes the table
of docs/scale.md. No peer, no target: a model of what we would build next, not a promise.
"""

import itertools
import math
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import simpy

from axons.client import Client
from axons.data.sample import SAMPLE_CLASSES, draw_micrograph
from benchmarks.class_load import draw_labels
from benchmarks.measuring import Figure, Result
from benchmarks.platform_up import REPLICA, process_of, project_with, running, write_pictures
from tests.app.installation import Installation

STUDENTS = (60, 600, 6000)
GPUS = (1, 2, 4, 8, 16, 32, 64)
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"

_MINUTE = 60.0
_DAY_S = 8 * 60 * _MINUTE
_LESSON_S = 5 * _MINUTE  # within which a class that begins together comes in
_LABELLING_S, _LOOKING_S = 10 * _MINUTE, 3 * _MINUTE  # medians; people differ by a factor of about two
_TRAININGS_S = (1 * _MINUTE, 5 * _MINUTE)  # Quick, then Better with more labels
_SAVE_EVERY_S, _ASK_EVERY_S = 5.0, 3.0  # as the pages do
_TRIED_S = 30.0  # of training, to find what it takes beside
_HEAD_BYTES = 8 << 30
_FULL = 0.6  # share of a processor from which answers begin to wait noticeably

SCENARIOS = (  # how students come in, within how many seconds, and the room for drivers
    ("all at once", _LESSON_S, _HEAD_BYTES),
    ("over a day", _DAY_S, _HEAD_BYTES),
    ("over a day, drivers on CPU machines", _DAY_S, math.inf),
)


@dataclass(frozen=True, kw_only=True)
class Times:
    """What was measured here; seconds, and bytes.

    Args:
        save, look, ask: processor time of the application for a save, for opening a tile, and for the state of a run.
        freeze: from the request until the set is there.
        beside: what a training takes beside its minutes, from its start to its model.
        driver: memory of a training's driver and controller, which stand on the head.
    """

    save: float
    look: float
    ask: float
    freeze: float
    beside: float
    driver: int


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The cluster of cluster/cluster.yaml; prices in EUR are assumptions, change them to yours.

    Args:
        head_bytes: what the head of 16 GB has left for drivers beside application, predictions and Ray; infinite if
            machines of type `cpu` take them.
        boot_s: until a GPU machine with our image on its disk takes work.
        idle_s: without work for so long, a machine is deleted.
        datasets: freezings and imports at a time.
    """

    gpus: int
    head_bytes: float = _HEAD_BYTES
    boot_s: float = 180
    idle_s: float = 600
    datasets: int = 10
    gpu_eur_per_hour: float = 2.0
    head_eur_per_hour: float = 0.5


@dataclass
class Outcome:
    """What a simulated day has seen: seconds of waiting for a training, of GPUs at work and of machines paid for."""

    waits: list[float] = field(default_factory=list)
    freezes: list[float] = field(default_factory=list)
    busy_s: float = 0.0
    paid_s: float = 0.0
    ends_s: float = 0.0
    waited_for_driver_s: float = 0.0
    waited_for_gpu_s: float = 0.0
    labelling_s: float = 0.0
    most_labelling: int = 0


class _Machines:
    """GPU machines that are started when somebody waits and deleted when nobody does."""

    def __init__(self, env: simpy.Environment, cluster: Cluster, outcome: Outcome) -> None:
        self._env, self._cluster, self._outcome = env, cluster, outcome
        self._idle = simpy.FilterStore(env)
        self._count = self._num_waiting = self._num_booting = 0
        self._names = itertools.count()

    def take(self) -> Iterator[Any]:
        """A machine, as soon as there is one."""
        self._num_waiting += 1
        needed = self._num_waiting - len(self._idle.items) - self._num_booting
        if needed > 0 and self._count < self._cluster.gpus:
            self._count += 1
            self._num_booting += 1
            self._env.process(self._boot())
        machine = yield self._idle.get(lambda _: True)
        self._num_waiting -= 1
        return machine

    def give_back(self, machine: tuple[int, float]) -> None:
        """It is idle now, and deleted if it stays so; a machine is a name and the time it was asked for."""
        again = (next(self._names), machine[1])
        self._idle.put(again)
        self._env.process(self._delete_if_idle(again))

    def _boot(self) -> Iterator[Any]:
        since = self._env.now
        yield self._env.timeout(self._cluster.boot_s)
        self._num_booting -= 1
        self.give_back((0, since))

    def _delete_if_idle(self, machine: tuple[int, float]) -> Iterator[Any]:
        yield self._env.timeout(self._cluster.idle_s)
        if machine in self._idle.items:
            yield self._idle.get(lambda found: found == machine)
            self._count -= 1
            self._outcome.paid_s += self._env.now - machine[1]


def simulate(cluster: Cluster, times: Times, *, students: int, arrive_within_s: float, seed: int = 0) -> Outcome:
    """Each student labels, freezes, trains Quick, looks, labels more, freezes, and trains Better."""
    env, rng, outcome = simpy.Environment(), random.Random(seed), Outcome()
    machines = _Machines(env, cluster, outcome)
    drivers = simpy.PriorityResource(env, capacity=max(1, min(cluster.gpus, num_drivers(cluster, times))))
    datasets = simpy.Resource(env, capacity=cluster.datasets)
    labelling = 0

    def student() -> Iterator[Any]:
        nonlocal labelling
        yield env.timeout(rng.uniform(0, arrive_within_s))
        for number, minutes_s in enumerate(_TRAININGS_S):
            labelling += 1
            outcome.most_labelling = max(outcome.most_labelling, labelling)
            yield env.timeout(took := rng.lognormvariate(math.log(_LABELLING_S), 0.5))
            labelling -= 1
            outcome.labelling_s += took
            began = env.now
            with datasets.request() as place:
                yield place
                yield env.timeout(times.freeze)
            outcome.freezes.append(env.now - began)
            began = env.now
            with drivers.request(priority=number) as place:  # fair: whoever had fewer trainings comes first
                yield place
                outcome.waited_for_driver_s += env.now - began
                asked = env.now
                machine = yield from machines.take()
                outcome.waited_for_gpu_s += env.now - asked
                outcome.waits.append(env.now - began)
                yield env.timeout(minutes_s + times.beside)
                outcome.busy_s += minutes_s + times.beside
                outcome.ends_s = env.now
                machines.give_back(machine)
            yield env.timeout(rng.lognormvariate(math.log(_LOOKING_S), 0.5))

    for _ in range(students):
        env.process(student())
    env.run()
    return outcome


def num_drivers(cluster: Cluster, times: Times) -> int:
    """Trainings whose drivers find room, on the head or beside it."""
    return cluster.gpus if math.isinf(cluster.head_bytes) else max(1, int(cluster.head_bytes // times.driver))


def replicas(times: Times, outcome: Outcome, students: int) -> float:
    """Processors of the application that answers need when most people are at work."""
    labelling = outcome.most_labelling * (times.save + times.look / 6) / _SAVE_EVERY_S  # a tile is six saves
    return labelling + (students - outcome.most_labelling) * times.ask / _ASK_EVERY_S


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    with running() as up:
        times = _measure_times(up, scratch, count=20 if is_small else 200)
    rows = [
        _row(times, students, Cluster(gpus=gpus, head_bytes=head_bytes), name, arrive)
        for name, arrive, head_bytes in SCENARIOS
        for students in (STUDENTS[:1] if is_small else STUDENTS)
        for gpus in (GPUS[:3] if is_small else GPUS)
    ]
    if not is_small:
        _write(times, rows)
    return Result(
        figures=[
            Figure(what="processor time of a save", ours=times.save * 1000, unit="ms"),
            Figure(what="processor time to open a tile", ours=times.look * 1000, unit="ms"),
            Figure(what="processor time to ask for a run", ours=times.ask * 1000, unit="ms"),
            Figure(what="a freezing, from request to set", ours=times.freeze, unit="s"),
            Figure(what="a training beside its minutes", ours=times.beside, unit="s"),
            Figure(what="memory of a driver and its controller", ours=times.driver / 1e9, unit="GB"),
        ],
        notes=["what follows from them for classes of 60, 600 and 6,000 students stands in docs/scale.md"],
    )


def _measure_times(up: Installation, scratch: Path, *, count: int) -> Times:
    drawn = [draw_micrograph(np.random.default_rng(seed), size=512) for seed in range(4)]
    token = up.token()
    with Client(up.url, token) as client:
        project_id = project_with(
            client, write_pictures(scratch / "images", [found.image for found in drawn]), classes=SAMPLE_CLASSES
        )
        masks = write_pictures(scratch / "masks", [found.mask for found in drawn])
        client.wait_for(client.import_annotations(project_id, masks, kind="png")["id"])
        began = time.monotonic()
        training_set, job = client.freeze(project_id, fractions=[0.5, 0.25, 0.25])
        client.wait_for(job["id"])
        freeze = time.monotonic() - began
        run = client.start_run(training_set["id"], minutes=_TRIED_S / _MINUTE, crop=128, batch=4)
        driver = _largest_driver(up, client, run["job_id"])
        trained = _seconds_of(client, run["job_id"])
        tiles = [tile["id"] for tile in client.pages(f"projects/{project_id}/tiles")]
        run_id = str(run["id"])
    labels = draw_labels(np.random.default_rng(0))
    with httpx.Client(base_url=f"{up.url}/api/v1/", headers={"Authorization": f"Bearer {token}"}) as http:

        def save(number: int) -> None:
            tile = tiles[number % len(tiles)]
            etag = http.get(f"tiles/{tile}/annotation").headers["etag"]
            path, query = f"tiles/{tile}/annotation", {"save_id": f"scale-{number}"}
            http.put(path, params=query, content=labels, headers={"If-Match": etag}).raise_for_status()

        def look(number: int) -> None:
            for part in ("editor", "image"):
                http.get(f"tiles/{tiles[number % len(tiles)]}/{part}").raise_for_status()

        def ask(number: int) -> None:
            http.get(f"runs/{run_id}").raise_for_status()

        replica = process_of(up, REPLICA)
        save_s, look_s, ask_s = (_processor_time(replica, what, count) for what in (save, look, ask))
    return Times(save=save_s, look=look_s, ask=ask_s, freeze=freeze, beside=trained - _TRIED_S, driver=driver)


def _processor_time(process: psutil.Process, act: Any, count: int) -> float:
    """Seconds of the process for one act, after a few that are not counted."""
    for number in range(5):
        act(number)
    before = sum(process.cpu_times()[:2])
    for number in range(5, 5 + count):
        act(number)
    return float(sum(process.cpu_times()[:2]) - before) / count


def _largest_driver(up: Installation, client: Client, job_id: str) -> int:
    """Peak of what a training keeps on the head: its driver and Ray Train's controller; returns when it is over."""
    assert up.process is not None
    most = 0
    while client.get(f"jobs/{job_id}")["state"] not in ("done", "failed", "cancelled"):
        found = 0
        for process in psutil.Process(up.process.pid).children(recursive=True):
            try:
                line = " ".join(process.cmdline())
                if "axons.train" in line or "ray::TrainController" in line:
                    found += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        most = max(most, found)
        time.sleep(1)
    return most


def _seconds_of(client: Client, job_id: str) -> float:
    job = client.get(f"jobs/{job_id}")
    if job["state"] != "done":
        raise RuntimeError(f"the training ended as {job['state']}: {job['reason']}")
    began, ended = (np.datetime64(job[name].rstrip("Z")) for name in ("started_at", "finished_at"))
    return float((ended - began) / np.timedelta64(1, "s"))


def _row(times: Times, students: int, cluster: Cluster, name: str, arrive_within_s: float) -> list[str]:
    outcome = simulate(cluster, times, students=students, arrive_within_s=arrive_within_s)
    middle, most = np.quantile(outcome.waits, [0.5, 0.95]) / _MINUTE
    paid = outcome.paid_s / 3600 * cluster.gpu_eur_per_hour
    cost = (paid + outcome.ends_s / 3600 * cluster.head_eur_per_hour) / students
    return [
        name,
        f"{students:,}",
        str(cluster.gpus),
        f"{middle:.0f}",
        f"{most:.0f}",
        f"{100 * outcome.busy_s / outcome.paid_s:.0f} %",
        f"{outcome.ends_s / 3600:.1f}",
        f"{cost:.2f}",
        f"{replicas(times, outcome, students):.1f}",
        _bottleneck(cluster, times, outcome, students),
    ]


def _bottleneck(cluster: Cluster, times: Times, outcome: Outcome, students: int) -> str:
    """What one would add first: what most of the waiting is for, or processors for answers."""
    drivers = num_drivers(cluster, times)
    if replicas(times, outcome, students) > _FULL:
        return "the application's processor"
    if outcome.waited_for_driver_s > outcome.waited_for_gpu_s and drivers < cluster.gpus:
        return f"memory of the head: {drivers} drivers"
    if np.quantile(outcome.waits, 0.95) > cluster.boot_s + _MINUTE:
        return "GPUs"
    return "start of a machine" if np.quantile(outcome.waits, 0.95) > _MINUTE else "none"


def _write(times: Times, rows: list[list[str]]) -> None:
    head = "students come in, students, GPUs, wait: half (min), wait: 95 of 100 (min), GPU use, over after (h)"
    names = [*head.split(", "), "EUR a student", "processors for answers", "first bottleneck"]
    table = [f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *rows)]
    found = (
        f"Measured: a save with the reading before it {1000 * times.save:.1f} ms, opening a tile "
        f"{1000 * times.look:.1f} ms and asking for a run {1000 * times.ask:.1f} ms of processor time; a freezing "
        f"{times.freeze:.1f} s; a training {times.beside:.0f} s beside its minutes; its driver "
        f"{times.driver / 1e9:.2f} GB on the head."
    )
    text = "\n".join(["<!-- table -->", found, "", *table, "<!-- end -->"])
    PAGE.write_text(re.sub(r"<!-- table -->.*<!-- end -->", lambda _: text, PAGE.read_text(), flags=re.DOTALL))
