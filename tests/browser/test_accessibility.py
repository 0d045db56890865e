"""Whether everybody can use the screens: axe-core finds nothing grave, and the keyboard alone is enough."""

from collections.abc import Iterable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from axons.app.tables import Membership, Project
from tests.app.results import add_result
from tests.app.trainings import add_training_set
from tests.browser.annotating import Annotator, wait_until_ready
from tests.drawing import draw_disks

WIDTHS = (1440, 390)
GRAVE = ("serious", "critical")
UNFOLD = "for (const details of document.querySelectorAll('details')) details.open = true"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# What has the keyboard, also inside the frame.
FOCUSED = """() => {
  let found = document.activeElement;
  while (found?.contentDocument) found = found.contentDocument.activeElement;
  return found.innerText.trim();
}"""


@pytest.fixture
def project(site, ana, tmp_path) -> Project:
    """A project with an image, a frozen set and a model."""
    project = site.project(ana, name="nerve", classes=["background", "ring", "core"], tile=96)
    site.image(ana, project, draw_disks(96, 96, channels=3).image)
    add_result(site.platform, ana, add_training_set(site.platform, project, tmp_path))
    return project


@pytest.fixture
def classroom(site, teacher, ana) -> str:
    """A class with a task, and ana in it."""
    rest = site.rest(teacher)
    classroom_id = rest.post("classrooms", json={"name": "4b"}).json()["id"]
    member = Membership(classroom_id=classroom_id, user_id=ana.user_id, role="student")
    site.platform.database.write(lambda session: session.add(member))
    rest.post("assignments", json={"classroom_id": classroom_id, "title": "Find the axons"})
    return classroom_id


@pytest.fixture
def open_page(new_page):
    """A page into which axe-core may be put, which the headers of our pages forbid."""

    def open_page(actor=None, **options) -> Page:
        return new_page(actor, bypass_csp=True, viewport=(WIDTHS[0], 900), **options)

    return open_page


def findings(page: Page, paths: Iterable[str], *, rules: str | None = None) -> list[str]:
    """What keeps people from using pages, wide and narrow, with all details shown; `rules` is a tag of axe-core's."""
    options = {"resultTypes": ["violations"]} | ({"runOnly": [rules]} if rules else {})
    found = []
    for path in paths:
        open_path(page, path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            where = f"{path} at {width} px"
            found += [
                f"{where}: {violation['impact']}: {violation['help']}: {node['html'][:200]}"
                for violation in Axe().run(page, options=options).response["violations"]
                if violation["impact"] in GRAVE
                for node in violation["nodes"]
            ]
            if wider := page.evaluate(WIDER):
                found.append(f"{where}: {wider} px wider than the window")
    return found


def open_path(page: Page, path: str) -> None:
    page.goto(path)
    if path.startswith("/annotate/"):
        wait_until_ready(page)
    elif not path.startswith("/login"):
        page.locator("axons-screen[data-ready]").wait_for()
    page.evaluate(UNFOLD)


def the_tile(site, actor, project: Project) -> str:
    (tile,) = site.rest(actor).get(f"projects/{project.id}/tiles").json()["items"]
    return tile["id"]


def the_run(site, actor, project: Project) -> str:
    (run,) = site.rest(actor).get("runs", params={"project_id": project.id}).json()["items"]
    return run["id"]


def test_no_screen_of_a_project_keeps_anybody_out(site, ana, project, open_page):
    names = ("images", "annotate", "dataset", "train", "results", "predict")
    screens = [f"/{name}?project={project.id}" for name in names]
    run = f"/train?project={project.id}&run={the_run(site, ana, project)}"
    assert findings(open_page(ana), [*screens, run, f"/annotate/{the_tile(site, ana, project)}"]) == []


def test_no_screen_of_a_student_keeps_anybody_out(ana, project, classroom, open_page):
    assert findings(open_page(ana), ["/", "/models", "/class", "/account"]) == []


def test_no_screen_of_who_teaches_keeps_anybody_out(teacher, classroom, open_page):
    assert findings(open_page(teacher), ["/class"]) == []


def test_no_screen_of_an_administrator_keeps_anybody_out(site, open_page):
    assert findings(open_page(site.user("boss", "administrator")), ["/admin"]) == []


def test_no_page_keeps_anybody_from_signing_in(open_page):
    assert findings(open_page(), ["/login"]) == []


def test_all_can_be_read_on_a_dark_ground_in_french(site, ana, project, open_page):
    page = open_page(ana, color_scheme="dark", locale="fr-FR")
    paths = [f"/annotate/{the_tile(site, ana, project)}", f"/results?project={project.id}"]
    assert findings(page, paths, rules="cat.color") == []
    expect(page.locator("html")).to_have_attribute("lang", "fr")


def go_to(page: Page, text: str, *, key: str = "Tab") -> None:
    """Press a key until what ends with this text has the keyboard, and enter it."""
    seen = []
    while not (seen and seen[-1].endswith(text)):
        assert len(seen) < 80, f"the keyboard does not come to {text!r}, only to {seen}"
        page.keyboard.press(key)
        seen.append(page.evaluate(FOCUSED))
    page.keyboard.press("Enter")


def test_the_keyboard_leads_from_the_first_page_to_a_saved_polygon_and_a_training(site, ana, project, new_page):
    page = new_page(ana)
    page.goto("/")
    ready = page.locator("axons-screen[data-ready]")
    ready.wait_for()
    go_to(page, "nerve")
    page.wait_for_url("**/images?*")
    ready.wait_for()
    go_to(page, "Annotate")
    page.wait_for_url("**/annotate?*")
    ready.wait_for()
    go_to(page, "Annotate the next tile")
    page.wait_for_url("**tile=*")
    annotator = Annotator(page, page.locator("iframe").element_handle().content_frame())
    annotator.wait(lambda state: state["ready"])
    annotator.keys("p", "d", *["Shift+ArrowRight"] * 3, "d", *["Shift+ArrowDown"] * 3, "d", "Enter")
    annotator.wait(lambda state: state["rev"] == 1 and state["save"] == "saved")
    go_to(page, "Train", key="Shift+Tab")
    page.wait_for_url("**/train?*")
    ready.wait_for()
    go_to(page, "Start training")
    page.wait_for_url("**run=*")
    labels = site.rest(ana).get(f"tiles/{the_tile(site, ana, project)}/annotation").json()
    (run, _) = site.rest(ana).get("runs", params={"project_id": project.id}).json()["items"]
    assert labels["counts"]["1"] > 300
    assert run["state"] == "queued"
