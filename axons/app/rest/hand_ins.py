"""What was handed in, and marks; marks are added, never changed."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from sqlmodel import Session

from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.rest.downloads import log_download
from axons.app.services import assignments
from axons.app.services.assignments import HandInPublic, MarkCreate, MarkPublic
from axons.errors import NotFound

router = APIRouter(tags=["hand-ins"])

ClassroomFilter = Annotated[str | None, Query(max_length=64, pattern="^[A-Za-z0-9_-]+$")]

# A report is one page with everything in it, and needs nothing of the person who reads it.
_ALONE = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'"


@router.get("/hand-ins/{hand_in_id}", operation_id="get_hand_in")
def get_hand_in(platform: PlatformOf, actor: ActorOf, hand_in_id: Id) -> HandInPublic:
    """What you handed in, or a student of your class."""

    def answer(session: Session) -> HandInPublic:
        return assignments.hand_in_public(session, assignments.get_hand_in(session, actor, hand_in_id))

    return platform.database.read(answer)


@router.get("/hand-ins/{hand_in_id}/report", operation_id="get_hand_in_report", response_class=HTMLResponse)
def get_report(platform: PlatformOf, actor: ActorOf, hand_in_id: Id) -> HTMLResponse:
    """The report as it was when it was handed in."""
    row = platform.database.read(lambda session: assignments.get_hand_in(session, actor, hand_in_id))
    if row.report_key is None:
        raise NotFound("nothing but a project was handed in; there is no report")
    page = platform.storage.read(row.report_key)
    log_download(platform, actor, "hand_in", row.id, "report.html")
    return HTMLResponse(page, headers={"Content-Security-Policy": _ALONE})


@router.post("/hand-ins/{hand_in_id}/return", operation_id="return_hand_in")
def return_hand_in(platform: PlatformOf, actor: ActorOf, hand_in_id: Id) -> HandInPublic:
    """Give it back to the student; the educators of the class may."""

    def give_back(session: Session) -> HandInPublic:
        return assignments.hand_in_public(session, assignments.return_hand_in(session, actor, hand_in_id))

    return platform.database.write(give_back)


@router.post("/hand-ins/{hand_in_id}/marks", status_code=201, operation_id="create_mark")
def create_mark(platform: PlatformOf, actor: ActorOf, hand_in_id: Id, form: MarkCreate) -> MarkPublic:
    """Mark it; the newest mark counts, those before stay. The educators of the class may."""
    return platform.database.write(
        lambda session: assignments.mark_public(assignments.add_mark(session, actor, hand_in_id, form))
    )


@router.get("/hand-ins/{hand_in_id}/marks", operation_id="list_marks_of_hand_in")
def list_marks_of_hand_in(platform: PlatformOf, actor: ActorOf, hand_in_id: Id) -> list[MarkPublic]:
    """Every mark it got, the newest first."""

    def answer(session: Session) -> list[MarkPublic]:
        row = assignments.get_hand_in(session, actor, hand_in_id)
        return [assignments.mark_public(mark) for mark in assignments.list_marks(session, row)]

    return platform.database.read(answer)


@router.get("/marks", operation_id="list_marks")
def list_marks(
    platform: PlatformOf,
    actor: ActorOf,
    classroom_id: ClassroomFilter = None,
    cursor: Cursor = None,
    limit: Limit = PAGE,
) -> Page[MarkPublic]:
    """Marks of your own work and of the classes you teach, the newest first."""

    def answer(session: Session) -> Page[MarkPublic]:
        rows, following = assignments.list_marks_for(session, actor, classroom_id, cursor=cursor, limit=limit)
        return Page(items=[assignments.mark_public(mark) for mark in rows], next=following)

    return platform.database.read(answer)
