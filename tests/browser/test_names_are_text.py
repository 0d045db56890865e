"""R16: whatever people type as a name is text on every screen, and nothing of it is run."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page
from sqlmodel import SQLModel, select

from axons.app.screens.pages import SCREENS
from axons.app.tables import (
    Assignment,
    Classroom,
    Image,
    LabelClass,
    Membership,
    Model,
    Prediction,
    Project,
    Run,
    Tile,
    Token,
    TrainingSet,
    User,
    new_id,
)
from tests.app.results import add_result
from tests.app.trainings import add_training_set
from tests.drawing import draw_disks

DO = "alert(1)"
PAYLOADS = (
    f"<script>{DO}</script>",
    f"<img src=x onerror={DO}>",
    f"<IMG SRC=x OnErRoR={DO}>",
    f"<svg onload={DO}>",
    f"<svg/onload={DO}>",
    f"<svg><animate onbegin={DO} attributeName=x dur=1s>",
    f"<body onload={DO}>",
    f"<iframe src=javascript:{DO}>",
    f"<iframe srcdoc='<script>{DO}</script>'>",
    f"<a href=javascript:{DO}>x</a>",
    f"javascript:{DO}",
    f"data:text/html,<script>{DO}</script>",
    f'"><script>{DO}</script>',
    f"'><script>{DO}</script>",
    f'" onmouseover={DO} x="',
    f"' autofocus onfocus={DO} x='",
    f"</title><script>{DO}</script>",
    f"</script><script>{DO}</script>",
    f"</textarea><script>{DO}</script>",
    f"</style><script>{DO}</script>",
    f"--><script>{DO}</script>",
    f"]]><script>{DO}</script>",
    f"<!--<img src=x onerror={DO}>-->",
    f"${{{DO}}}",
    f"`${{{DO}}}`",
    f"{{{{{DO}}}}}",
    f"{{{{constructor.constructor('{DO}')()}}}}",
    f"#{{{DO}}}",
    f"<%= {DO} %>",
    f"';{DO};//",
    f'";{DO};//',
    f"\\';{DO};//",
    f"<details open ontoggle={DO}>",
    f"<video><source onerror={DO}></video>",
    f"<math><mtext></p><img src=x onerror={DO}>",
    f"<input autofocus onfocus={DO}>",
    f"<object data=javascript:{DO}></object>",
    "<base href=//elsewhere.example/>",
    "<link rel=stylesheet href=//elsewhere.example/a.css>",
    f"[[iou|{DO}]](javascript:{DO})",
)


def copied(session: Any, row: SQLModel, change: Callable[[int, str], dict[str, Any]]) -> None:
    """Rows like this one, one for each payload."""
    for number, payload in enumerate(PAYLOADS, start=1):
        session.add(type(row)(**{**row.model_dump(), "id": new_id(), **change(number, payload)}))


def renamed(document: Any, payload: str) -> Any:
    """The same document with the payload for the name of each class and image in it."""
    if isinstance(document, dict):
        return {key: renamed(value, payload) for key, value in document.items()}
    if isinstance(document, list):
        return [renamed(value, payload) for value in document]
    is_name = isinstance(document, str) and document in ("background", "ring", "core", "disks-2.png", "disks-3.png")
    return payload if is_name else document


@pytest.fixture
def project(site, ana, teacher, tmp_path) -> Project:
    """Forty of everything that people name, and a class of forty with forty tasks."""
    project = site.project(ana, name=PAYLOADS[1], classes=["background", "ring", "core"], tile=96)
    image = site.image(ana, project, draw_disks(96, 96).image)
    run = add_result(site.platform, ana, add_training_set(site.platform, project, tmp_path))

    def add(session) -> None:
        only = {table: session.exec(select(table)).first() for table in (TrainingSet, Model, LabelClass, Tile)}
        found = session.get_one(Run, run.id)
        found.status = {**found.status, "notices": list(PAYLOADS)}
        found.name, found.evaluation = PAYLOADS[1], renamed(found.evaluation, PAYLOADS[1])
        session.get_one(Image, image.id).sqlmodel_update({"group": PAYLOADS[2], "notices": list(PAYLOADS)})
        session.add(only[TrainingSet].sqlmodel_update({"summary": renamed(only[TrainingSet].summary, PAYLOADS[3])}))
        copied(session, project, lambda _, payload: {"name": payload, "description": payload})
        copied(session, image, lambda _, payload: {"name": payload, "group": payload})
        copied(session, only[LabelClass], lambda number, payload: {"index": number + 2, "name": payload})
        copied(session, only[TrainingSet], lambda number, payload: {"number": number + 1, "name": payload})
        copied(session, found, lambda number, payload: {"number": number + 1, "name": payload, "job_id": run.job_id})
        copied(
            session,
            only[Model],
            lambda number, payload: {
                "name": payload,
                "version": number + 1,
                "run_id": None,
                "card": renamed(only[Model].card, payload),
            },
        )
        prediction = Prediction(
            project_id=project.id, model_id=only[Model].id, name="", key="projects/p", created_by=ana.user_id
        )
        copied(session, prediction, lambda _, payload: {"name": payload, "state": "failed", "reason": payload})
        token = Token(user_id=ana.user_id, name="", token_hash="")
        copied(session, token, lambda number, payload: {"name": payload, "token_hash": str(number)})
        _add_class(session, ana, teacher)

    site.platform.database.write(add)
    return project


def _add_class(session, ana, teacher) -> None:
    classroom = Classroom(name=PAYLOADS[1], created_by=teacher.user_id)
    session.add(classroom)
    session.flush()
    for actor, role in ((ana, "student"), (teacher, "educator")):
        session.add(Membership(classroom_id=classroom.id, user_id=actor.user_id, role=role))
    for number, payload in enumerate(PAYLOADS):
        student = User(name=f"s{number}", folded_name=f"s{number}", role="student", display_name=payload)
        session.add(student)
        session.flush()
        session.add(Membership(classroom_id=classroom.id, user_id=student.id))
        session.add(Assignment(classroom_id=classroom.id, title=payload, text=payload, created_by=teacher.user_id))


def read(page: Page, path: str) -> str:
    """What a screen says, once it is there."""
    page.goto(path)
    page.locator("axons-screen[data-ready]").wait_for()
    page.wait_for_load_state("networkidle")
    return page.locator("body").inner_text() + page.evaluate(
        "[...document.querySelectorAll('option, summary')].map((found) => found.textContent).join('\\n')"
    )


@pytest.mark.timeout(180)
def test_no_name_is_run_on_any_screen(site, ana, teacher, project, new_page):
    """Whatever were run, refused by the policy of the page, or fetched from elsewhere, is an error of `new_page`."""
    page = new_page(ana, allowed=["404"])
    page.add_init_script(f"window.alert = () => console.error('a name was run: {DO}')")
    said = {path: read(page, f"{path}?project={project.id}") for path in SCREENS}
    said["/"] = read(page, "/")
    said["/annotate classes"] = read(page, f"/annotate?project={project.id}&part=classes")
    theirs = new_page(teacher)
    said["/class of the educator"] = read(theirs, "/class")
    lists = ("/images", "/annotate", "/train", "/results", "/models", "/predict", "/class of the educator", "/account")
    missing = {(path, payload) for path in lists for payload in PAYLOADS if payload not in said[path]}
    assert missing == set()
    assert PAYLOADS[1] in said["/"]
