"""What the machines of the cluster have and do, as Ray tells it, and who fills the storage; for administrators."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import ray
import requests
from pydantic import BaseModel, ConfigDict
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray.exceptions import RayError
from ray.job_submission import JobSubmissionClient
from ray.util.state import list_tasks
from sqlalchemy import func
from sqlmodel import Session, col, select

from axons.app.asking import PATIENCE_S, Question
from axons.app.local_ray import token_command
from axons.app.platform import Platform
from axons.app.policy import Actor, require
from axons.app.services import audit
from axons.app.services.jobs import add_job
from axons.app.services.uploads import free_bytes
from axons.app.tables import Image, Job, Project, User
from axons.errors import AxonsError, ServerUnavailable

_ACCELERATOR = "accelerator_type:"
_MAX_TASKS = 1000


class Use(BaseModel):
    """How much there is of something, and how much of it is taken."""

    total: float
    used: float


class NodePublic(BaseModel):
    """A machine of the cluster, or one that was.

    Args:
        cpus, gpus: as Ray hands them out; a small machine may have more CPUs for Ray than cores.
        accelerator: what its GPUs are, as Ray names them.
        memory: bytes of the machine; None where the dashboard does not tell.
        work: actors and tasks that run there, each with how many there are if several.
    """

    id: str
    name: str
    address: str
    is_alive: bool
    is_head: bool
    accelerator: str | None
    cpus: Use
    gpus: Use
    memory: Use | None
    work: list[str]


class ClusterPublic(BaseModel):
    """The machines, those that are there first; where Ray does not answer, `sentence` says so and there are none.

    Args:
        dashboard: Ray's own pages, at the address by which the server reaches them; None if they do not answer.
        token_command: prints, on the server, the token that they ask for.
    """

    is_well: bool
    sentence: str
    nodes: list[NodePublic]
    dashboard: str | None
    token_command: str


class PersonStorage(BaseModel):
    """What the images in somebody's own projects take, trash included, as limits count it."""

    user_id: str
    user_name: str
    num_projects: int
    num_bytes: int


class CleanupPublic(BaseModel):
    """What the last cleanup has found.

    Args:
        reason: in one sentence, with all its figures.
        num_bytes: of everything in storage, by area.
        missing: rows whose objects are not in storage, the first of `num_missing`; only a person can mend that.
        held_back: objects without a row that were not deleted, because they are most of the storage.
    """

    job_id: str
    finished_at: datetime
    reason: str
    num_bytes: dict[str, int] = {}
    num_missing: int = 0
    missing: list[str] = []
    held_back: int = 0
    problem: str = ""


class StorageClean(BaseModel):
    """A cleanup now; with `deletes_all_orphans` also where the objects without a row are most of the storage."""

    model_config = ConfigDict(extra="forbid")

    deletes_all_orphans: bool = False


class StoragePublic(BaseModel):
    """Who has how much, the largest first.

    Args:
        num_bytes: of everybody's images.
        cleanup: the last one; None before the first.
        free_bytes: on the disk of the server's data folder.
        limit_bytes: of each person, unless another one was set.
        can_back_up: whether `backups/now` works; PostgreSQL has tools of its own.
    """

    num_bytes: int
    free_bytes: int
    limit_bytes: int
    can_back_up: bool
    cleanup: CleanupPublic | None
    people: list[PersonStorage]


@dataclass(frozen=True)
class _Dashboard:
    """What only Ray's dashboard knows; memory and tasks by the id of the node."""

    address: str
    memory: dict[str, Use]
    tasks: dict[str, Counter[str]]


def get_cluster(platform: Platform, actor: Actor) -> ClusterPublic:
    """The machines; answers within twice `asking.PATIENCE_S`, whatever Ray does.

    Raises:
        NotAllowed: the actor is no administrator.
    """
    require(actor, "cluster.read")
    nodes, dashboard = _NODES.begin(), _DASHBOARD.begin()
    command = token_command(platform.settings.data)
    try:
        found = _NODES.answer(nodes)
    except AxonsError as error:
        return ClusterPublic(is_well=False, sentence=str(error), nodes=[], dashboard=None, token_command=command)
    try:
        more: _Dashboard | None = _DASHBOARD.answer(dashboard)
    except AxonsError:
        more = None
    return ClusterPublic(
        is_well=True,
        sentence=_sentence(found),
        nodes=[_node(row, more) for row in found],
        dashboard=more.address if more else None,
        token_command=command,
    )


def get_storage(session: Session, platform: Platform, actor: Actor, *, limit: int) -> StoragePublic:
    """Who has how much; `limit` people.

    Raises:
        NotAllowed: the actor is no administrator.
    """
    require(actor, "cluster.read")
    size: Any = func.coalesce(func.sum(Image.stored_bytes), 0)
    rows = session.exec(
        select(User.id, User.name, func.count(func.distinct(Project.id)), size)
        .join(Project, col(Project.owner_id) == User.id)
        .join(Image, col(Image.project_id) == Project.id, isouter=True)
        .group_by(col(User.id), col(User.name))
        .order_by(size.desc(), col(User.name))
        .limit(limit)
    ).all()
    people = [
        PersonStorage(user_id=user_id, user_name=name, num_projects=count, num_bytes=int(num_bytes))
        for user_id, name, count, num_bytes in rows
    ]
    return StoragePublic(
        num_bytes=int(session.exec(select(size)).one()),
        free_bytes=free_bytes(platform.settings),
        limit_bytes=platform.settings.max_user_bytes,
        can_back_up=platform.database.is_sqlite,
        cleanup=_last_cleanup(session),
        people=people,
    )


def clean_storage(session: Session, actor: Actor, form: StorageClean) -> Job:
    """Put a cleanup into the queue, which otherwise happens every hour; one that waits is given instead.

    Raises:
        NotAllowed: the actor is no administrator.
    """
    require(actor, "storage.clean")
    request = form.model_dump()
    waiting = select(Job).where(col(Job.kind) == "cleanup", col(Job.state) == "queued")
    if found := next(
        (job for job in session.exec(waiting).all() if {**StorageClean().model_dump(), **job.request} == request), None
    ):
        return found
    job = add_job(session, actor, "cleanup", None, request=request)
    audit.record(session, actor, "storage.clean", "installation", "all", **request)
    return job


def _last_cleanup(session: Session) -> CleanupPublic | None:
    done = (col(Job.kind) == "cleanup", col(Job.state) == "done")
    job = session.exec(select(Job).where(*done).order_by(col(Job.finished_at).desc()).limit(1)).first()
    if job is None or job.finished_at is None:
        return None
    found = {name: job.result[name] for name in CleanupPublic.model_fields if name in job.result}
    return CleanupPublic(job_id=job.id, finished_at=job.finished_at, reason=job.reason, **found)


def check_connected() -> None:
    """Ray would otherwise start a cluster of its own on this machine, without a word.

    Raises:
        ServerUnavailable: this process is not connected to Ray.
    """
    if not ray.is_initialized():
        raise ServerUnavailable("this process is not connected to Ray; start the platform with `axons up`")


def _ask_nodes() -> list[dict[str, Any]]:
    """The rows of `ray.nodes`, those alive first, each with what is free there and the actors that live there."""
    from ray._private import state  # Ray has no public way to ask for what is free on each node

    check_connected()
    try:
        rows, free = ray.nodes(), state.available_resources_per_node()
        actors = state.actors(actor_state_name="ALIVE").values()
    except (RayError, ConnectionError) as error:
        raise ServerUnavailable(f"Ray does not answer ({error}); look again in a minute") from error
    living: dict[str, Counter[str]] = {}
    for actor in actors:
        living.setdefault(actor["Address"]["NodeID"], Counter())[actor["ActorClassName"]] += 1
    found = [{**row, "Free": free.get(row["NodeID"], {}), "Work": living.get(row["NodeID"], Counter())} for row in rows]
    return sorted(
        found,
        key=lambda row: (not row["Alive"], HEAD_NODE_RESOURCE_NAME not in row["Resources"], row["NodeManagerHostname"]),
    )


def _ask_dashboard() -> _Dashboard:
    check_connected()
    try:
        client = JobSubmissionClient(ray.get_runtime_context().gcs_address)
        # Ray's own pages read it there; nothing public tells what memory a machine has left.
        answer = client._do_request("GET", "/nodes?view=summary", timeout=PATIENCE_S)
        answer.raise_for_status()
        machines = answer.json()["data"]["summary"]
        running = list_tasks(
            filters=[("state", "=", "RUNNING"), ("type", "=", "NORMAL_TASK")],
            limit=_MAX_TASKS,
            timeout=int(PATIENCE_S),
            raise_on_missing_output=False,
        )
    except (RuntimeError, requests.RequestException, ConnectionError) as error:
        raise ServerUnavailable(f"Ray's dashboard does not answer ({error}); look again in a minute") from error
    tasks: dict[str, Counter[str]] = {}
    for task in running:
        if task.node_id:
            tasks.setdefault(task.node_id, Counter())[task.name] += 1
    memory = {
        machine["raylet"]["nodeId"]: Use(total=mem[0], used=mem[3])
        for machine in machines
        if (mem := machine.get("mem"))
    }
    return _Dashboard(address=client.get_address(), memory=memory, tasks=tasks)


_NODES, _DASHBOARD = Question("Ray", _ask_nodes), Question("Ray's dashboard", _ask_dashboard)


def _node(row: dict[str, Any], dashboard: _Dashboard | None) -> NodePublic:
    total, free, node_id = row["Resources"], row["Free"], row["NodeID"]
    work = Counter(row["Work"])
    if dashboard is not None:
        work.update(dashboard.tasks.get(node_id, {}))
    accelerators = [name.removeprefix(_ACCELERATOR) for name in total if name.startswith(_ACCELERATOR)]
    return NodePublic(
        id=node_id,
        name=row["NodeManagerHostname"],
        address=row["NodeManagerAddress"],
        is_alive=row["Alive"],
        is_head=HEAD_NODE_RESOURCE_NAME in total,
        accelerator=", ".join(accelerators) or None,
        cpus=_use(total, free, "CPU"),
        gpus=_use(total, free, "GPU"),
        memory=dashboard.memory.get(node_id) if dashboard and row["Alive"] else None,
        work=[name if count == 1 else f"{name} × {count}" for name, count in sorted(work.items())],
    )


def _use(total: dict[str, float], free: dict[str, float], name: str) -> Use:
    has = total.get(name, 0.0)
    return Use(total=has, used=round(has - free.get(name, 0.0), 4))


def _sentence(rows: list[dict[str, Any]]) -> str:
    num_alive = sum(row["Alive"] for row in rows)
    return f"Ray answers: {num_alive} {'node' if num_alive == 1 else 'nodes'}"
