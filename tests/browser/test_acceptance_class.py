"""Acceptance check 19 and R27: set up a class; see nothing of another student, and nothing after signing out."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from axons.client import Client
from tests.app.images import document_of
from tests.app.installation import first_sign_in
from tests.browser.clicks import Clicks
from tests.drawing import draw_disks

STUDENTS = 30
NAMES = [f"Student {chr(ord('A') + number % 26)}{number}" for number in range(STUDENTS)]


def opened(page: Page, path: str) -> Page:
    page.goto(path)
    page.locator("axons-screen[data-ready]").wait_for()
    return page


def test_thirty_names_a_code_and_a_task_take_6_clicks(site, teacher, new_page):
    template = site.project(teacher, name="template")
    page = new_page(teacher)
    clicks = Clicks(page)
    opened(page, "/class")
    page.get_by_label("Name of the class").fill("4b")
    page.get_by_role("button", name="Make a class").click()
    page.wait_for_url("**classroom=*")
    page.get_by_label("Add students").fill("\n".join(NAMES))
    page.get_by_role("button", name="Make the accounts").click()
    expect(page.get_by_role("region", name="First passwords").locator("tbody tr")).to_have_count(30)
    page.get_by_label("Title").fill("Find the axons")
    page.get_by_label("Template project").select_option(template.id)
    page.get_by_role("button", name="Assign", exact=True).click()
    expect(page.get_by_role("heading", name="Find the axons")).to_be_visible()
    (classroom,) = site.rest(teacher).get("classrooms").json()["items"]
    expect(page.get_by_text(classroom["join_code"])).to_be_visible()
    assert clicks.count == 5


def test_what_a_student_has_is_not_there_for_another_who_knows_its_address(site, ana, ben, new_page):
    project = site.project(ana, name="nerve")
    image = site.image(ana, project, draw_disks(80, 90, channels=3).image)
    (tile, *_) = site.tiles(image)
    page = new_page(ben, allowed=["404"])
    for path in (f"images/{image.id}/view", f"images/{image.id}/thumbnail", f"tiles/{tile.id}/image"):
        answer = page.goto(f"/api/v1/{path}")
        assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    for path in (f"/images?project={project.id}", f"/annotate?tile={tile.id}"):
        page.goto(path)
        expect(page.get_by_text("there is no")).to_be_visible()
        assert page.locator("img[src*='/api/']").count() == 0


def test_after_signing_out_nothing_of_an_image_is_left_in_the_browser(site, ana, new_page):
    project = site.project(ana, name="nerve")
    site.image(ana, project, draw_disks(80, 90, channels=3).image)
    page = opened(new_page(ana, allowed=["401", "Clear-Site-Data"]), f"/images?project={project.id}")
    picture = page.get_by_role("button", name="Look at a.png").locator("img")
    expect(picture).to_have_js_property("complete", True)
    address = picture.get_attribute("src")
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login")
    page.go_back()
    page.wait_for_url("**/login**")
    assert page.get_by_text("a.png").count() == 0
    kept = "async (address) => [(await self.caches?.keys() ?? []).length, (await fetch(address)).status]"
    assert page.evaluate(kept, address) == [0, 401]


def work(url: str, account: dict[str, str], task_id: str) -> None:
    """A student's hour over REST: another password, start of the task, labels on each tile, hand-in."""
    with Client(url, first_sign_in(url, account)) as client:
        project_id = client.create(f"assignments/{task_id}/start")["project_id"]
        for tile in client.pages(f"projects/{project_id}/tiles"):
            client.annotate(tile["id"], document_of(np.zeros((tile["height"], tile["width"]), np.uint8)))
            client.act(f"tiles/{tile['id']}/done")
        client.create(f"assignments/{task_id}/hand-ins", {"comment": "done"})


@pytest.mark.long
def test_the_grid_follows_thirty_students_who_all_work_at_once(site, teacher, new_page):
    template = site.project(teacher, name="template", tile=64)
    site.image(teacher, template, draw_disks(64, 128, channels=3).image)
    classroom = site.rest(teacher).post("classrooms", json={"name": "4b"}).json()
    students = {"students": [{"name": f"student-{number}"} for number in range(STUDENTS)]}
    accounts = site.rest(teacher).post(f"classrooms/{classroom['id']}/students", json=students).json()
    form = {"classroom_id": classroom["id"], "title": "Find the axons", "template_project_id": template.id}
    task = site.rest(teacher).post("assignments", json=form).json()
    page = opened(new_page(teacher), f"/class?classroom={classroom['id']}")
    grid = page.get_by_role("region", name="How far each one has come")
    expect(grid.locator("tbody tr").filter(has_text="not begun yet")).to_have_count(STUDENTS)
    with ThreadPoolExecutor(STUDENTS) as threads:
        at_work = [threads.submit(work, site.url, account, task["id"]) for account in accounts]
        while not all(each.done() for each in at_work):
            page.wait_for_timeout(500)  # the page asks meanwhile
        for each in at_work:
            each.result()
    told = site.rest(teacher).get(f"classrooms/{classroom['id']}/progress").json()
    assert [(row["num_tiles_by_status"]["done"], row["num_hand_ins"]) for row in told] == [(2, 1)] * STUDENTS
    expect(grid.locator("tbody tr").filter(has_text="at work")).to_have_count(STUDENTS, timeout=30_000)
    expect(grid.locator("tbody tr").filter(has_text="2 of 2")).to_have_count(STUDENTS)
    expect(grid.locator("td[data-head='Handed in']").filter(has_text="1")).to_have_count(STUDENTS)
