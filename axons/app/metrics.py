"""Figures for Prometheus: they leave through the ports on which Ray tells its own, each with `ray_` before its name.

Labels are few and closed: kinds and states of jobs. Only GPU seconds carry the id of an account, never its name:
whoever reads the figures need not know who it is, and an account that is deleted leaves an id that says nothing.

A figure never fails the work that it counts, and costs it some microseconds. How many requests there were, how long
they took and what was answered Ray Serve counts itself.
"""

import logging
from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import ParamSpec, get_args

from ray.util.metrics import Counter, Gauge, Histogram, Metric
from sqlalchemy import func, or_
from sqlmodel import Session, col, select

from axons.app.platform import Platform
from axons.app.services.uploads import free_bytes
from axons.app.tables import Image, Job, JobKind, JobState, Run

_LOG = logging.getLogger("axons.metrics")

_WAIT_S = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0]
_SAVE_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]

_P = ParamSpec("_P")


class Figures:
    """The figures of this process; Ray adds up those of several."""

    def __init__(self) -> None:
        self.jobs = Gauge("axons_jobs", "Jobs in the database, by kind and state.", ("kind", "state"))
        self.queue_wait = Histogram(
            "axons_queue_wait_seconds", "From the order to the first start of a job.", _WAIT_S, ("kind",)
        )
        self.tiles = Counter("axons_tiles", "Tiles cut and measured.", ("kind",))
        self.save = Histogram("axons_save_seconds", "From a save's arrival to its answer, once it is on disk.", _SAVE_S)
        self.gpu_seconds = Counter(
            "axons_gpu_seconds", "Seconds of training times the share of a GPU, by the id of the account.", ("user",)
        )
        self.sign_in_failures = Counter("axons_sign_in_failures", "Refused passwords, codes and other sign-ins.")
        self.storage = Gauge("axons_storage_bytes", "Images in storage, as limits count them.")
        self.free = Gauge("axons_free_bytes", "Left on the disk of the data folder.")

    def names(self) -> dict[str, type[Metric]]:
        """What kind of metric each is, by its name in Ray."""
        return {figure.info["name"]: type(figure) for figure in vars(self).values()}


figures = cache(Figures)


def _harmless(count: Callable[_P, None]) -> Callable[_P, None]:
    @wraps(count)
    def counted(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            count(*args, **kwargs)
        except Exception:  # whatever is wrong with a figure, the work must not suffer
            _LOG.exception("a figure could not be told")

    return counted


@_harmless
def measure(platform: Platform) -> None:
    """Tell how many jobs there are and how much is stored, as the database says it now."""
    jobs, num_bytes = platform.database.read(_look)
    for kind in get_args(JobKind):
        for state in get_args(JobState):
            figures().jobs.set(jobs.get((kind, state), 0), {"kind": kind, "state": state})
    figures().storage.set(num_bytes)
    figures().free.set(free_bytes(platform.settings))


@_harmless
def count_start(job: Job) -> None:
    """A job leaves the queue; one that was interrupted has waited already."""
    if job.attempt == 1 and job.started_at is not None:
        figures().queue_wait.observe((job.started_at - job.created_at).total_seconds(), {"kind": job.kind})


@_harmless
def count_tiles(kind: str, count: int) -> None:
    """Tiles are in the database."""
    if count:
        figures().tiles.inc(count, {"kind": kind})


@_harmless
def count_save(seconds: float) -> None:
    """Labels are on disk, and it was said so."""
    figures().save.observe(seconds)


@_harmless
def count_gpu_seconds(user_id: str, seconds: float, gpus: Callable[[], float]) -> None:
    """A training of this account has gone on for so long; steps that it repeats after a crash do not count twice.

    Args:
        gpus: looks up how many it has, in parts of one; asked for only if there is something to count.
    """
    if seconds > 0:
        figures().gpu_seconds.inc(seconds * gpus(), {"user": user_id})


@_harmless
def count_sign_in_failure() -> None:
    """Somebody could not sign in."""
    figures().sign_in_failures.inc()


def _look(session: Session) -> tuple[Mapping[tuple[str, str], int], int]:
    # Those that somebody prepares wait for a person, not for us.
    prepared = select(Run.job_id).where(Run.is_prepared, col(Run.job_id).is_not(None))
    counting = select(Job.kind, Job.state, func.count()).group_by(col(Job.kind), col(Job.state))
    counted = session.exec(counting.where(or_(col(Job.state) != "queued", col(Job.id).not_in(prepared))))
    jobs = {(kind, state): count for kind, state, count in counted}
    return jobs, int(session.exec(select(func.coalesce(func.sum(Image.stored_bytes), 0))).one())
