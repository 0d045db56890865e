"""The one thread that starts jobs, follows them and writes down what became of them; every step may run twice."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from axons.app import logs, metrics
from axons.app.jobs import cleanup, queue, train
from axons.app.jobs.kinds import Kind, kind_name, kind_of, load_kinds
from axons.app.jobs.outcomes import end_with_news, interrupt, put_off
from axons.app.jobs.work import Cluster, Interrupted, Row, Work
from axons.app.platform import Platform
from axons.app.services.uploads import expire_uploads
from axons.app.tables import Job, Lease, UtcDateTime, new_id
from axons.errors import AxonsError, DatabaseBusy, ServerUnavailable, StorageFull, StorageRefused, StorageUnavailable

_LOG = logging.getLogger("axons.jobs")

_LEASE = "dispatcher"
_LEASE_S = 20.0
_BATCH = 200
_FORCE_AFTER_S = 6.0
_TIDY_EVERY_S = 60.0
_MEASURE_EVERY_S = 15.0
_STOP_WAIT_S = 10.0
_REST_S = 10.0
_CLEANUP_EVERY = timedelta(hours=1)
_RAY_IS_AWAY = "Ray does not answer at the moment; this starts as soon as it does"
_PASSING = (DatabaseBusy, StorageFull, StorageUnavailable, ServerUnavailable)  # the same step may succeed in a moment


@dataclass(kw_only=True)
class _Started:
    """A job whose rows come in: `batch` is what has been taken and not been committed yet."""

    job_id: str
    attempt: int
    kind_name: str
    work: Work
    batch: list[Row] = field(default_factory=list)
    cancelled_at: float | None = None

    @property
    def kind(self) -> Kind:
        return kind_of(self.kind_name)


class Dispatcher:
    """Empties the queue of a platform on a cluster; of several, the one that holds the lease works.

    The database is the queue and the truth: whatever this object remembers can be lost at any moment.

    Args:
        every_s: pause between two rounds.
    """

    def __init__(self, platform: Platform, cluster: Cluster, *, every_s: float = 1.0) -> None:
        self._platform = platform
        self._cluster = cluster
        self._every_s = every_s
        self._holder = new_id()
        self._works: dict[str, _Started] = {}
        self._rests: dict[str, float] = {}  # until when jobs are left alone that could not be begun
        self._is_ray_away = True  # until it has answered: another dispatcher may have told people so
        self._tidy_at = 0.0
        self._measure_at = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Work in a thread until `stop`."""
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop working; trainings go on, other work begins again under the next dispatcher."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_WAIT_S)
        for started in list(self._works.values()):
            self._platform.database.write(partial(_put_back, started=started))
        self._give_up_all()
        self._platform.database.write(self._release)

    def step(self) -> None:
        """One round: follow what runs, then start what waits.

        Raises:
            DatabaseBusy: the database does not answer.
        """
        if not self._platform.database.write(self._lead):
            self._give_up_all()
            return
        for job_id in self._platform.database.read(self._lost):
            self._guard(job_id, partial(self._interrupt, job_id, "its process is gone"))
        for started in list(self._works.values()):
            self._guard(started.job_id, partial(self._follow, started))
        for job_id in self._platform.database.read(train.followed):
            self._guard(job_id, partial(train.follow, self._platform, self._cluster, job_id))
        try:
            places = self._cluster.training_places()
        except ServerUnavailable as error:
            _LOG.warning("no job starts: %s", error)
            self._platform.database.write(_tell_ray_is_away)
            self._is_ray_away = True
            return
        if self._is_ray_away:
            self._platform.database.write(_tell_ray_is_back)
            self._is_ray_away = False
        self._start_trainings(self._platform.settings.max_trainings or places)
        self._start_works()
        self._tidy()

    def _tidy(self) -> None:
        """Forget uploads that are over, and ask for a cleanup now and then."""
        if time.monotonic() < self._tidy_at:
            return
        self._tidy_at = time.monotonic() + _TIDY_EVERY_S
        self._platform.database.write(lambda session: cleanup.ask_for_cleanup(session, every=_CLEANUP_EVERY))
        try:
            expire_uploads(self._platform)
        except StorageUnavailable as error:
            _LOG.warning("uploads stay for now: %s", error)

    def _run(self) -> None:
        try:
            load_kinds()
        except ImportError:  # jobs of that kind will fail and say so; the others go on
            _LOG.exception("a kind of job cannot be loaded")
        while not self._stopping.wait(self._every_s):
            self._measure()
            try:
                self.step()
            except (DatabaseBusy, StorageFull) as error:
                _LOG.warning("the dispatcher waits: %s", error)
            except Exception:  # the edge of the thread, without which no job would ever start again
                _LOG.exception("a round of the dispatcher failed")

    def _measure(self) -> None:
        if time.monotonic() >= self._measure_at:
            self._measure_at = time.monotonic() + _MEASURE_EVERY_S
            metrics.measure(self._platform)

    def _lead(self, session: Session) -> bool:
        """Take or renew the lease; only the database's clock counts, so clocks of machines may differ."""
        moment = session.exec(select(func.now(type_=UtcDateTime))).one()
        lease = session.exec(select(Lease).where(col(Lease.name) == _LEASE).with_for_update()).first()
        if lease is not None and lease.holder != self._holder and lease.expires_at > moment:
            return False
        lease = lease or Lease(name=_LEASE, holder=self._holder, expires_at=moment)
        if lease.holder == self._holder and lease.expires_at > moment + timedelta(seconds=_LEASE_S / 2):
            return True
        lease.holder = self._holder
        lease.expires_at = moment + timedelta(seconds=_LEASE_S)
        session.add(lease)
        return True

    def _release(self, session: Session) -> None:
        lease = session.get(Lease, _LEASE)
        if lease is not None and lease.holder == self._holder:
            session.delete(lease)

    def _lost(self, session: Session) -> Sequence[str]:
        """Started jobs that another dispatcher, or this one before a restart, has followed."""
        active = select(Job).where(col(Job.state).in_(queue.ACTIVE_STATES), col(Job.kind).in_(queue.DATASETS))
        return [
            job.id
            for job in session.exec(active).all()
            if job.id not in self._works or self._works[job.id].attempt != job.attempt
        ]

    def _start_trainings(self, places: int) -> None:
        for job_id in self._next(queue.TRAININGS, places):
            self._guard(job_id, partial(train.start, self._platform, self._cluster, job_id))

    def _start_works(self) -> None:
        for job_id in self._next(queue.DATASETS, self._platform.settings.max_datasets):
            self._guard(job_id, partial(self._start, job_id))

    def _next(self, kinds: Sequence[str], places: int) -> list[str]:
        def choose(session: Session) -> list[str]:
            free = max(0, places - queue.num_active(session, kinds))
            return [job_id for job_id in queue.waiting_in_order(session, kinds) if job_id not in self._rests][:free]

        self._rests = {job_id: until for job_id, until in self._rests.items() if until > time.monotonic()}
        return self._platform.database.read(choose)

    def _start(self, job_id: str) -> None:
        job = self._platform.database.write(lambda session: queue.claim(session, job_id))
        if job is None:
            return
        metrics.count_start(job)
        name = kind_name(job)
        request = self._platform.database.read(
            lambda session: kind_of(name).prepare(self._platform, session, session.get_one(Job, job_id))
        )
        work = self._cluster.begin(name, request, name=f"{job.kind} {job_id}")
        self._works[job_id] = _Started(job_id=job_id, attempt=job.attempt, kind_name=name, work=work)

        def run(session: Session) -> None:
            current = _current(session, job_id, job.attempt)
            if current is not None:
                current.state = "running"

        self._platform.database.write(run)

    def _follow(self, started: _Started) -> None:
        """Commit the rows that have come; end the job when there are no more."""
        started.batch = started.batch or started.work.take(_BATCH)
        is_over = started.work.is_over and started.work.is_empty and not started.batch
        job = self._platform.database.write(lambda session: _commit(session, started))
        if job is None:  # a newer attempt, or a person, has ended this one
            self._give_up(started)
            return
        metrics.count_tiles(job.kind, sum(len(row["image"]["tiles"]) for row in started.batch if "image" in row))
        started.batch = []
        if job.cancel_requested_at is not None:
            self._cancel(started, is_over=is_over)
        elif is_over:
            self._end(started)

    def _cancel(self, started: _Started, *, is_over: bool) -> None:
        began = started.cancelled_at
        if began is None:
            started.cancelled_at = time.monotonic()
            started.work.cancel()
            return
        is_late = time.monotonic() - began > _FORCE_AFTER_S
        if is_late and not started.work.is_over:
            started.work.cancel(force=True)
        if is_over or is_late:
            self._finish(started, lambda session, job: end_with_news(session, job, "cancelled", "cancelled"))

    def _end(self, started: _Started) -> None:
        error = started.work.error
        if isinstance(error, Interrupted):
            self._works.pop(started.job_id, None)
            self._interrupt(started.job_id, f"its process was interrupted ({_first_line(error)})")
        elif isinstance(error, StorageUnavailable) and not isinstance(error, StorageRefused):
            self._works.pop(started.job_id, None)
            self._put_off(started.job_id, error)
        elif error is not None:
            reason = _reason(started.job_id, error)
            self._finish(started, lambda session, job: end_with_news(session, job, "failed", reason))
        else:
            kind = started.kind
            self._finish(started, lambda session, job: end_with_news(session, job, "done", kind.finish(session, job)))

    def _finish(self, started: _Started, end: Callable[[Session, Job], None]) -> None:
        def write(session: Session) -> None:
            job = _current(session, started.job_id, started.attempt)
            if job is not None:
                end(session, job)

        self._platform.database.write(write)
        self._works.pop(started.job_id, None)
        self._platform.storage.delete_prefix(f"tmp/{started.job_id}")

    def _interrupt(self, job_id: str, why: str) -> None:
        self._platform.database.write(lambda session: interrupt(session, session.get_one(Job, job_id), why))

    def _put_off(self, job_id: str, error: StorageUnavailable) -> None:
        """The storage may answer again after a while."""
        _LOG.warning("job %s is put off: %s", job_id, error)
        self._rests[job_id] = time.monotonic() + _REST_S
        self._platform.database.write(lambda session: put_off(session, session.get_one(Job, job_id)))

    def _guard(self, job_id: str, step: Callable[[], None]) -> None:
        """Run a step of one job so that its failure is not that of the others."""
        told = logs.JOB.set(job_id)
        try:
            step()
        except _PASSING as error:
            _LOG.warning("job %s waits: %s", job_id, error)
            if isinstance(error, StorageUnavailable | StorageFull):
                self._rests[job_id] = time.monotonic() + _REST_S
            self._take_back(job_id, str(error))
        except Exception as error:  # whatever is wrong with this job, the next one must not suffer
            self._fail(job_id, _reason(job_id, error))
        finally:
            logs.JOB.reset(told)

    def _take_back(self, job_id: str, why: str) -> None:
        """A job that was claimed but could not be begun goes back into the queue; others are looked at again."""
        if job_id in self._works:
            return

        def back(session: Session) -> None:
            job = session.get_one(Job, job_id)
            if job.finished_at is None:
                job.reason = why
            if job.state == "preparing" and job.kind != "train":
                job.state = "queued"

        self._platform.database.write(back)

    def _fail(self, job_id: str, reason: str) -> None:
        started = self._works.pop(job_id, None)
        if started is not None:
            started.work.cancel()

        def fail(session: Session) -> None:
            job = session.get_one(Job, job_id)
            if job.state in queue.ACTIVE_STATES:
                end_with_news(session, job, "failed", reason)

        self._platform.database.write(fail)
        job = self._platform.database.read(lambda session: session.get_one(Job, job_id))
        if job.kind == "train":
            self._guard_stop(train.submission_id(job))
        self._platform.storage.delete_prefix(f"tmp/{job_id}")

    def _guard_stop(self, submission_id: str) -> None:
        try:
            self._cluster.stop(submission_id)
        except ServerUnavailable as error:
            _LOG.warning("the training %s may still run: %s", submission_id, error)

    def _give_up(self, started: _Started) -> None:
        self._works.pop(started.job_id, None)
        if not started.work.is_over:
            started.work.cancel()

    def _give_up_all(self) -> None:
        for started in list(self._works.values()):
            self._give_up(started)


def _tell_ray_is_away(session: Session) -> None:
    for job in session.exec(select(Job).where(col(Job.state) == "queued")):
        if not job.request.get("is_prepared"):
            job.reason = _RAY_IS_AWAY


def _tell_ray_is_back(session: Session) -> None:
    session.exec(update(Job).where(col(Job.state) == "queued", col(Job.reason) == _RAY_IS_AWAY).values(reason=""))


def _put_back(session: Session, started: _Started) -> None:
    """Back into the queue, without counting a crash: the server is stopped by a person."""
    job = _current(session, started.job_id, started.attempt)
    if job is not None:
        job.state = "queued"
        job.reason = "the server was stopped; it starts again"
        job.log += queue.log_line(job.reason)


def _current(session: Session, job_id: str, attempt: int) -> Job | None:
    """The job, if this is its attempt and it has not ended: what comes late is refused here."""
    job = session.exec(select(Job).where(col(Job.id) == job_id).with_for_update()).one()
    return job if job.attempt == attempt and job.state in queue.ACTIVE_STATES else None


def _commit(session: Session, started: _Started) -> Job | None:
    job = _current(session, started.job_id, started.attempt)
    if job is None:
        return None
    rows = [row for row in started.batch if row.keys() != {"progress"}]
    if rows:
        started.kind.commit(session, job, rows)
    if shares := [float(row["progress"]) for row in started.batch if row.keys() == {"progress"}]:
        job.progress = max(job.progress, min(1.0, shares[-1]))
    return job


def _reason(job_id: str, error: BaseException) -> str:
    if isinstance(error, AxonsError):
        return str(error)
    _LOG.error("job %s failed", job_id, exc_info=error)
    return f"something went wrong on our side ({type(error).__name__}); tell the administrator the job {job_id}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
