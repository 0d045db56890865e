"""Tasks of a class, and handing in."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel
from sqlmodel import Session

from axons.app.policy import Actor
from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.services import assignments
from axons.app.services.assignments import (
    AssignmentCreate,
    AssignmentPublic,
    AssignmentUpdate,
    HandInCreate,
    HandInPublic,
)
from axons.data.storage import new_key
from axons.report import render_report

router = APIRouter(prefix="/assignments", tags=["assignments"])

ClassroomFilter = Annotated[str | None, Query(max_length=64, pattern="^[A-Za-z0-9_-]+$")]


class HandedOut(BaseModel):
    """How many copies were made now."""

    num_copies: int


class Started(BaseModel):
    """The copy to work on."""

    project_id: str


@router.post("", status_code=201, operation_id="create_assignment")
def create_assignment(platform: PlatformOf, actor: ActorOf, form: AssignmentCreate) -> AssignmentPublic:
    """Set a task for a class; its educators may."""

    def create(session: Session) -> AssignmentPublic:
        return assignments.public(session, actor, assignments.create_assignment(session, actor, form))

    return platform.database.write(create)


@router.get("", operation_id="list_assignments")
def list_assignments(
    platform: PlatformOf,
    actor: ActorOf,
    classroom_id: ClassroomFilter = None,
    cursor: Cursor = None,
    limit: Limit = PAGE,
) -> Page[AssignmentPublic]:
    """The tasks of your classes, the newest first."""

    def answer(session: Session) -> Page[AssignmentPublic]:
        rows, following = assignments.list_assignments(session, actor, classroom_id, cursor=cursor, limit=limit)
        return Page(items=[assignments.public(session, actor, row) for row in rows], next=following)

    return platform.database.read(answer)


@router.get("/{assignment_id}", operation_id="get_assignment")
def get_assignment(platform: PlatformOf, actor: ActorOf, assignment_id: Id) -> AssignmentPublic:
    """A task of a class that you are in."""

    def answer(session: Session) -> AssignmentPublic:
        return assignments.public(session, actor, assignments.get_assignment(session, actor, assignment_id))

    return platform.database.read(answer)


@router.patch("/{assignment_id}", operation_id="update_assignment")
def update_assignment(
    platform: PlatformOf, actor: ActorOf, assignment_id: Id, form: AssignmentUpdate
) -> AssignmentPublic:
    """Change a task; the educators of its class may."""

    def update(session: Session) -> AssignmentPublic:
        return assignments.public(session, actor, assignments.update_assignment(session, actor, assignment_id, form))

    return platform.database.write(update)


@router.delete("/{assignment_id}", status_code=204, operation_id="delete_assignment")
def delete_assignment(platform: PlatformOf, actor: ActorOf, assignment_id: Id) -> Response:
    """Withdraw a task; projects, hand-ins and marks stay. The educators of its class may."""
    platform.database.write(lambda session: assignments.delete_assignment(session, actor, assignment_id))
    return Response(status_code=204)


@router.post("/{assignment_id}/hand-out", operation_id="hand_out")
def hand_out(platform: PlatformOf, actor: ActorOf, assignment_id: Id) -> HandedOut:
    """Make a copy of the template for every student of the class who has none; its educators may."""
    students = platform.database.read(lambda session: assignments.waiting_students(session, actor, assignment_id))
    for user_id in students:  # one transaction each, so that others can write in between
        platform.database.write(partial(_hand_out, actor=actor, assignment_id=assignment_id, user_id=user_id))
    return HandedOut(num_copies=len(students))


@router.post("/{assignment_id}/start", operation_id="start_assignment")
def start_assignment(platform: PlatformOf, actor: ActorOf, assignment_id: Id) -> Started:
    """Get your copy of the template; it is made if you have none."""
    start = partial(_hand_out, actor=actor, assignment_id=assignment_id, user_id=actor.user_id)
    return Started(project_id=platform.database.write(start))


@router.post("/{assignment_id}/hand-ins", status_code=201, operation_id="hand_in")
def hand_in(platform: PlatformOf, actor: ActorOf, assignment_id: Id, form: HandInCreate) -> HandInPublic:
    """Hand in a training set and a run with its report, as they are now; you may do it again."""
    run = platform.database.read(lambda session: assignments.check_hand_in(session, actor, assignment_id, form))
    report_key = None
    if run is not None:
        report_key = f"{new_key('models')}/report.html"
        platform.storage.write(report_key, render_report(platform.uri(run.key)).encode())

    def keep(session: Session) -> HandInPublic:
        row = assignments.hand_in(session, actor, assignment_id, form, report_key)
        return assignments.hand_in_public(session, row)

    return platform.database.write(keep)


@router.get("/{assignment_id}/hand-ins", operation_id="list_hand_ins")
def list_hand_ins(
    platform: PlatformOf, actor: ActorOf, assignment_id: Id, cursor: Cursor = None, limit: Limit = PAGE
) -> Page[HandInPublic]:
    """What was handed in, the newest first; students see their own."""

    def answer(session: Session) -> Page[HandInPublic]:
        rows, following = assignments.list_hand_ins(session, actor, assignment_id, cursor=cursor, limit=limit)
        return Page(items=[assignments.hand_in_public(session, row) for row in rows], next=following)

    return platform.database.read(answer)


def _hand_out(session: Session, *, actor: Actor, assignment_id: str, user_id: str) -> str:
    return assignments.hand_out(session, actor, assignment_id, user_id).id
