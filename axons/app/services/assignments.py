"""Tasks for a class: handing out copies of a template, handing in, marking."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid5

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from axons.app.policy import Actor
from axons.app.services import audit
from axons.app.services.access import get_project, teaches
from axons.app.services.classrooms import get_classroom
from axons.app.services.copying import copy_project
from axons.app.services.paging import page_of
from axons.app.tables import (
    Assignment,
    Classroom,
    HandIn,
    Job,
    Mark,
    Membership,
    Project,
    Run,
    TrainingSet,
    User,
    now,
)
from axons.app.texts import Identifier, LongText, Name, ShortLine
from axons.errors import Conflict, InvalidRequest, NotAllowed, NotFound


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("it is outside the calendar; take a date of this century") from error


Title = Annotated[Name, Field(max_length=200)]
Moment = Annotated[AwareDatetime, AfterValidator(_utc)]


class AssignmentCreate(BaseModel):
    """A task for a class; with a template each student gets a copy of it."""

    model_config = ConfigDict(extra="forbid")

    classroom_id: Identifier
    title: Title
    text: LongText = ""
    template_project_id: Identifier | None = None
    due_at: Moment | None = None


class AssignmentUpdate(BaseModel):
    """What changes in a task; what is left out stays. Copies that were handed out stay as they are."""

    model_config = ConfigDict(extra="forbid")

    title: Title | None = None
    text: LongText | None = None
    due_at: Moment | None = None


class AssignmentPublic(BaseModel):
    """A task as the one who asks may see it.

    Args:
        template_project_id: for educators.
        your_project_id, your_hand_in_id: of a student: the copy, and the newest of what was handed in.
        num_students, num_started, num_handed_in: for educators.
    """

    id: str
    classroom_id: str
    title: str
    text: str
    due_at: datetime | None
    created_by: str
    created_at: datetime
    template_project_id: str | None = None
    your_project_id: str | None = None
    your_hand_in_id: str | None = None
    num_students: int | None = None
    num_started: int | None = None
    num_handed_in: int | None = None


class HandInCreate(BaseModel):
    """What a student hands in; the project is the copy of the template unless given."""

    model_config = ConfigDict(extra="forbid")

    project_id: Identifier | None = None
    training_set_id: Identifier | None = None
    run_id: Identifier | None = None
    comment: LongText = ""


class MarkCreate(BaseModel):
    """A mark, in whatever way the school marks."""

    model_config = ConfigDict(extra="forbid")

    value: Annotated[ShortLine, Field(min_length=1, max_length=40)]
    comment: LongText = ""


class MarkPublic(BaseModel):
    """A mark; the newest counts."""

    id: str
    hand_in_id: str
    value: str
    comment: str
    by_user_id: str
    created_at: datetime


class HandInPublic(BaseModel):
    """What was handed in, with its newest mark."""

    id: str
    assignment_id: str
    user_id: str
    user_name: str
    project_id: str
    training_set_id: str | None
    run_id: str | None
    has_report: bool
    comment: str
    created_at: datetime
    is_late: bool
    returned_at: datetime | None
    mark: MarkPublic | None


def create_assignment(session: Session, actor: Actor, form: AssignmentCreate) -> Assignment:
    """A task for a class.

    Raises:
        NotFound: there is no class or template for the actor.
        NotAllowed: the actor does not teach the class, or does not own the template.
    """
    get_classroom(session, actor, form.classroom_id, teaching=True)
    if form.template_project_id is not None:
        get_project(session, actor, form.template_project_id, "manage")
    assignment = Assignment(**form.model_dump(), created_by=actor.user_id)
    session.add(assignment)
    session.flush()
    detail = {"classroom_id": form.classroom_id, "title": form.title}
    audit.record(session, actor, "assignment.create", "assignment", assignment.id, **detail)
    return assignment


def list_assignments(
    session: Session, actor: Actor, classroom_id: str | None, *, cursor: str | None, limit: int
) -> tuple[list[Assignment], str | None]:
    """A page of the tasks of the actor's classes, the newest first.

    Raises:
        NotFound: there is no class of this id for the actor.
    """
    statement = select(Assignment).where(col(Assignment.deleted_at).is_(None))
    if classroom_id is not None:
        get_classroom(session, actor, classroom_id)
        statement = statement.where(col(Assignment.classroom_id) == classroom_id)
    elif not actor.is_administrator:
        mine = select(Membership.classroom_id).where(col(Membership.user_id) == actor.user_id)
        statement = statement.where(col(Assignment.classroom_id).in_(mine))
    keys = [col(Assignment.created_at), col(Assignment.id)]
    return page_of(session, statement, keys, cursor=cursor, limit=limit, newest_first=True)


def get_assignment(session: Session, actor: Actor, assignment_id: str, *, teaching: bool = False) -> Assignment:
    """A task of a class that the actor is in.

    Args:
        teaching: the actor must be an educator of the class.
    Raises:
        NotFound: there is none, or the actor is not in the class.
        NotAllowed: the actor is a student of the class.
    """
    assignment = session.get(Assignment, assignment_id)
    if assignment is None or assignment.deleted_at is not None:
        raise _no_assignment(assignment_id)
    try:
        get_classroom(session, actor, assignment.classroom_id, teaching=teaching)
    except NotFound as error:
        raise _no_assignment(assignment_id) from error
    return assignment


def public(session: Session, actor: Actor, assignment: Assignment) -> AssignmentPublic:
    """The task as the actor may see it."""
    answer = AssignmentPublic(**assignment.model_dump(exclude={"template_project_id", "deleted_at"}))
    if not teaches(session, actor, assignment.classroom_id):
        copy = _copy_of(session, assignment, actor.user_id)
        newest = _hand_ins(session, assignment, actor.user_id)
        answer.your_project_id = copy.id if copy is not None and copy.deleted_at is None else None
        answer.your_hand_in_id = newest[0].id if newest else None
        return answer
    started = select(Project.owner_id).where(
        col(Project.assignment_id) == assignment.id, col(Project.deleted_at).is_(None)
    )
    answer.template_project_id = assignment.template_project_id
    answer.num_students = len(_students(session, assignment))
    answer.num_started = len(session.exec(started.distinct()).all())
    answer.num_handed_in = len({row.user_id for row in _hand_ins(session, assignment)})
    return answer


def update_assignment(session: Session, actor: Actor, assignment_id: str, form: AssignmentUpdate) -> Assignment:
    """Change a task; the educators of its class may.

    Raises:
        NotFound, NotAllowed: see `get_assignment`.
    """
    assignment = get_assignment(session, actor, assignment_id, teaching=True)
    changes = form.model_dump(exclude_unset=True)
    assignment.title = changes.get("title") or assignment.title
    assignment.text = assignment.text if changes.get("text") is None else changes["text"]
    assignment.due_at = changes.get("due_at", assignment.due_at)
    detail = form.model_dump(mode="json", exclude_unset=True, exclude={"text"})
    audit.record(session, actor, "assignment.update", "assignment", assignment.id, **detail)
    return assignment


def delete_assignment(session: Session, actor: Actor, assignment_id: str) -> None:
    """Withdraw a task; projects, hand-ins and marks stay.

    Raises:
        NotFound, NotAllowed: see `get_assignment`.
    """
    assignment = get_assignment(session, actor, assignment_id, teaching=True)
    assignment.deleted_at = now()
    audit.record(session, actor, "assignment.delete", "assignment", assignment.id, title=assignment.title)


def waiting_students(session: Session, actor: Actor, assignment_id: str) -> list[str]:
    """Students of the class who have no copy of the template yet.

    Raises:
        NotFound, NotAllowed: see `get_assignment`.
        Conflict: there is no template.
    """
    assignment = get_assignment(session, actor, assignment_id, teaching=True)
    _template(session, assignment)
    return [user_id for user_id in _students(session, assignment) if _copy_of(session, assignment, user_id) is None]


def hand_out(session: Session, actor: Actor, assignment_id: str, user_id: str) -> Project:
    """The student's copy of the template, made if there is none; students may for themselves.

    The id of the copy follows from task and student, so that two requests at once make one copy.

    Raises:
        NotFound, NotAllowed: see `get_assignment`.
        Conflict: there is no template, or the copy is in the trash.
    """
    assignment = get_assignment(session, actor, assignment_id, teaching=user_id != actor.user_id)
    copy = _copy_of(session, assignment, user_id)
    if copy is not None:
        if copy.deleted_at is not None:
            raise Conflict("the copy of this task is in the trash; restore it from there")
        return copy
    template = _template(session, assignment)
    copied = template.model_dump(
        include={"name", "description", "instructions", "tile", "threshold", "keeps_originals"}
    )
    copy = Project(
        **copied,
        id=_copy_id(assignment, user_id),
        owner_id=user_id,
        classroom_id=assignment.classroom_id,
        assignment_id=assignment.id,
        copied_from=template.id,
    )
    copy_project(session, template, copy)
    audit.record(session, actor, "assignment.hand_out", "project", copy.id, assignment_id=assignment.id)
    return copy


def check_hand_in(session: Session, actor: Actor, assignment_id: str, form: HandInCreate) -> Run | None:
    """The run whose report is to be handed in, once all that is named fits together.

    Raises:
        NotFound: see `get_assignment`; or there is no such project for the actor.
        NotAllowed: the actor may not change the project.
        Conflict: the project is not of the class, or the run is not done.
        InvalidRequest: training set or run are not of the project.
    """
    assignment = get_assignment(session, actor, assignment_id)
    project = _handed_project(session, actor, assignment, form)
    if form.training_set_id is not None:
        training_set = session.get(TrainingSet, form.training_set_id)
        if training_set is None or training_set.project_id != project.id or training_set.deleted_at is not None:
            raise InvalidRequest("training_set_id", f"project {project.name!r} has none of this id; choose one of it")
    if form.run_id is None:
        return None
    run = session.get(Run, form.run_id)
    if run is None or run.project_id != project.id or run.deleted_at is not None:
        raise InvalidRequest("run_id", f"project {project.name!r} has no such run; choose one of it")
    job = session.get(Job, run.job_id) if run.job_id is not None else None
    if job is None or job.state != "done":
        raise Conflict(f"run {run.number} is {job.state if job else 'prepared'}; hand in one that is done")
    return run


def hand_in(session: Session, actor: Actor, assignment_id: str, form: HandInCreate, report_key: str | None) -> HandIn:
    """Hand in; what is handed in again counts instead.

    Raises:
        as `check_hand_in`, which is asked again.
    """
    run = check_hand_in(session, actor, assignment_id, form)
    assignment = get_assignment(session, actor, assignment_id)
    row = HandIn(
        assignment_id=assignment.id,
        user_id=actor.user_id,
        project_id=_handed_project(session, actor, assignment, form).id,
        training_set_id=form.training_set_id or (run.training_set_id if run else None),
        run_id=run.id if run else None,
        report_key=report_key,
        comment=form.comment,
    )
    session.add(row)
    session.flush()
    audit.record(session, actor, "hand_in.create", "hand_in", row.id, assignment_id=assignment.id)
    return row


def list_hand_ins(
    session: Session, actor: Actor, assignment_id: str, *, cursor: str | None, limit: int
) -> tuple[list[HandIn], str | None]:
    """A page of what was handed in, the newest first: all for educators, one's own for students.

    Raises:
        NotFound: see `get_assignment`.
    """
    assignment = get_assignment(session, actor, assignment_id)
    statement = select(HandIn).where(col(HandIn.assignment_id) == assignment.id)
    if not teaches(session, actor, assignment.classroom_id):
        statement = statement.where(col(HandIn.user_id) == actor.user_id)
    keys = [col(HandIn.created_at), col(HandIn.id)]
    return page_of(session, statement, keys, cursor=cursor, limit=limit, newest_first=True)


def get_hand_in(session: Session, actor: Actor, hand_in_id: str, *, teaching: bool = False) -> HandIn:
    """What the actor handed in, or a student of the actor's class.

    Raises:
        NotFound: there is none, or it is somebody else's.
        NotAllowed: it is the actor's own, and this is for educators.
    """
    row = session.get(HandIn, hand_in_id)
    assignment = session.get_one(Assignment, row.assignment_id) if row is not None else None
    is_teaching = assignment is not None and teaches(session, actor, assignment.classroom_id)
    if row is None or not (is_teaching or row.user_id == actor.user_id):
        raise NotFound(f"there is no hand-in {hand_in_id!r} for you; look at the list of the task")
    if teaching and not is_teaching:
        raise NotAllowed("this is for the educators of the class; ask one of them")
    return row


def hand_in_public(session: Session, row: HandIn) -> HandInPublic:
    """What was handed in, with its newest mark."""
    marks = list_marks(session, row)
    assignment = session.get_one(Assignment, row.assignment_id)
    return HandInPublic(
        **row.model_dump(exclude={"report_key"}),
        user_name=session.get_one(User, row.user_id).name,
        has_report=row.report_key is not None,
        is_late=assignment.due_at is not None and row.created_at > assignment.due_at,
        mark=mark_public(marks[0]) if marks else None,
    )


def return_hand_in(session: Session, actor: Actor, hand_in_id: str) -> HandIn:
    """Give it back to the student, who sees that it was looked at.

    Raises:
        NotFound, NotAllowed: see `get_hand_in`.
    """
    row = get_hand_in(session, actor, hand_in_id, teaching=True)
    row.returned_at = now()
    audit.record(session, actor, "hand_in.return", "hand_in", row.id)
    return row


def add_mark(session: Session, actor: Actor, hand_in_id: str, form: MarkCreate) -> Mark:
    """Mark it; a mark before stays to be seen.

    Raises:
        NotFound, NotAllowed: see `get_hand_in`.
    """
    row = get_hand_in(session, actor, hand_in_id, teaching=True)
    mark = Mark(hand_in_id=row.id, **form.model_dump(), by_user_id=actor.user_id)
    session.add(mark)
    session.flush()
    audit.record(session, actor, "mark.create", "mark", mark.id, hand_in_id=row.id, value=mark.value)
    return mark


def list_marks(session: Session, row: HandIn) -> Sequence[Mark]:
    """Every mark of what was handed in, the newest first."""
    newest_first = (col(Mark.created_at).desc(), col(Mark.id))
    return session.exec(select(Mark).where(col(Mark.hand_in_id) == row.id).order_by(*newest_first)).all()


def list_marks_for(
    session: Session, actor: Actor, classroom_id: str | None, *, cursor: str | None, limit: int
) -> tuple[list[Mark], str | None]:
    """A page of marks, the newest first: of one's own work, and of the classes one teaches."""
    taught = select(Membership.classroom_id).where(
        col(Membership.user_id) == actor.user_id, col(Membership.role) == "educator"
    )
    seen = select(HandIn.id).join(Assignment, col(Assignment.id) == col(HandIn.assignment_id))
    if not actor.is_administrator:
        seen = seen.where((col(HandIn.user_id) == actor.user_id) | col(Assignment.classroom_id).in_(taught))
    if classroom_id is not None:
        get_classroom(session, actor, classroom_id)
        seen = seen.where(col(Assignment.classroom_id) == classroom_id)
    statement = select(Mark).where(col(Mark.hand_in_id).in_(seen))
    keys = [col(Mark.created_at), col(Mark.id)]
    return page_of(session, statement, keys, cursor=cursor, limit=limit, newest_first=True)


def mark_public(mark: Mark) -> MarkPublic:
    """The mark as both sides see it."""
    return MarkPublic.model_validate(mark, from_attributes=True)


def _no_assignment(assignment_id: str) -> NotFound:
    return NotFound(f"there is no task {assignment_id!r} in your classes; look at the list of tasks")


def _template(session: Session, assignment: Assignment) -> Project:
    template = session.get(Project, assignment.template_project_id) if assignment.template_project_id else None
    if template is None or template.deleted_at is not None:
        raise Conflict(f"task {assignment.title!r} has no template to copy; start with a project of your own")
    return template


def _copy_id(assignment: Assignment, user_id: str) -> str:
    return str(uuid5(UUID(assignment.id), user_id))


def _copy_of(session: Session, assignment: Assignment, user_id: str) -> Project | None:
    return session.get(Project, _copy_id(assignment, user_id))


def _students(session: Session, assignment: Assignment) -> Sequence[str]:
    students = select(Membership.user_id).where(
        col(Membership.classroom_id) == assignment.classroom_id, col(Membership.role) == "student"
    )
    return session.exec(students.order_by(col(Membership.user_id))).all()


def _hand_ins(session: Session, assignment: Assignment, user_id: str | None = None) -> Sequence[HandIn]:
    statement = select(HandIn).where(col(HandIn.assignment_id) == assignment.id)
    if user_id is not None:
        statement = statement.where(col(HandIn.user_id) == user_id)
    return session.exec(statement.order_by(col(HandIn.created_at).desc())).all()


def _handed_project(session: Session, actor: Actor, assignment: Assignment, form: HandInCreate) -> Project:
    project_id = form.project_id or _copy_id(assignment, actor.user_id)
    if form.project_id is None and session.get(Project, project_id) is None:
        raise InvalidRequest("project_id", "you have no copy of this task; say which project you hand in")
    project = get_project(session, actor, project_id, "edit")
    if project.classroom_id != assignment.classroom_id:
        classroom = session.get_one(Classroom, assignment.classroom_id)
        raise Conflict(f"project {project.name!r} is not of class {classroom.name!r}; its educators could not see it")
    return project
