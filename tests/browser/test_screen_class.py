"""My class: from a pasted list of names to a mark that a student reads, and how far everybody is."""

import pytest
from playwright.sync_api import Page, expect

from axons.app.policy import Actor
from axons.app.tables import Membership, Model, Project
from tests.app.classroom import FAILED, add_run
from tests.app.trainings import add_project, add_training_set
from tests.serve.models import make_card


def opened(page: Page, path: str) -> Page:
    page.goto(path)
    page.locator("axons-screen[data-ready]").wait_for()
    return page


@pytest.fixture
def classroom(site, teacher, ana) -> dict:
    """Class 4b of the teacher with ana in it."""
    classroom = site.rest(teacher).post("classrooms", json={"name": "4b"}).json()
    joined(site, classroom, ana, "student")
    return classroom


def joined(site, classroom: dict, actor: Actor, role: str) -> None:
    member = Membership(classroom_id=classroom["id"], user_id=actor.user_id, role=role)
    site.platform.database.write(lambda session: session.add(member))


def row_of(page: Page, table: str, name: str):
    return page.get_by_role("region", name=table).locator(f'[data-row="{name}"]')


def test_an_educator_makes_a_class_of_thirty_and_its_code(site, teacher, new_page):
    page = opened(new_page(teacher), "/class")
    page.get_by_label("Name of the class").fill("4b")
    page.get_by_role("button", name="Make a class").click()
    page.get_by_label("Add students").fill("\n".join(f"Ana Müller {number}" for number in range(30)))
    page.get_by_role("button", name="Make the accounts").click()
    expect(page.get_by_role("region", name="First passwords").locator("tbody tr")).to_have_count(30)
    expect(page.get_by_text("ana.muller.29", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Make a new code").click()
    expect(page.get_by_text("30 students")).to_be_visible()
    (classroom,) = site.rest(teacher).get("classrooms").json()["items"]
    expect(page.get_by_text(classroom["join_code"])).to_be_visible()


def test_a_task_is_handed_out_and_started_and_seen_by_its_class_only(site, teacher, ana, ben, new_page):
    name = "<img src=x onerror=alert(1)>"
    classroom = site.rest(teacher).post("classrooms", json={"name": name}).json()
    joined(site, classroom, ana, "student")
    template = site.project(teacher, name="template")
    page = opened(new_page(teacher), "/class")
    page.get_by_label("Title").fill("Find the axons")
    page.get_by_label("Template project").select_option(template.id)
    page.get_by_role("button", name="Assign").click()
    expect(page.get_by_role("heading", name="Find the axons")).to_be_visible()
    theirs = opened(new_page(ana), "/class")
    expect(theirs.get_by_text(name)).to_be_visible()
    theirs.get_by_role("button", name="Start", exact=True).click()
    theirs.wait_for_url("**/images?project=*")
    expect(opened(new_page(ben), "/class").get_by_text("You are in no class yet.")).to_be_visible()


def test_the_grid_shows_who_is_stuck_first_and_follows_what_happens(site, teacher, ana, ben, classroom, new_page):
    joined(site, classroom, ben, "student")
    page = opened(new_page(teacher), "/class?stuck=60")
    grid = page.get_by_role("region", name="How far each one has come")
    expect(grid.locator("tbody tr").first).to_contain_text("ana")
    expect(page.get_by_text("0 of 2 are stuck")).to_be_visible()
    project = site.project(ben, name="<b>nerve</b>", classroom_id=classroom["id"])
    add_run(site.platform, classroom, ben, project.id, "failed")
    first = grid.locator("tbody tr").first
    expect(first).to_contain_text(f"the last training failed – {FAILED}", timeout=30_000)  # looked at every 10 s
    expect(page.get_by_text("1 of 2 are stuck")).to_be_visible()
    expect(page.get_by_label("Without a change for so long")).to_have_value("60")
    grid.get_by_role("link", name="Project <b>nerve</b> of ben").click()
    page.wait_for_url(f"**/images?project={project.id}")


def test_a_student_is_kept_out_let_in_again_and_gets_a_new_password(site, teacher, ana, classroom, new_page):
    page = opened(new_page(teacher), "/class")
    row = row_of(page, "1 student", "ana")
    row.get_by_role("button", name="Disable").click()
    row.get_by_role("button", name="Keep ana out?").click()
    row.get_by_role("button", name="Enable").click()
    expect(row.get_by_role("button", name="Disable")).to_be_visible()
    row.get_by_role("button", name="New password").click()
    row.get_by_role("button", name="End the old one of ana?").click()
    password = page.get_by_role("region", name="First passwords").locator("tbody tr code").last.inner_text()
    login = {"name": "ana", "password": password}
    assert page.request.post("/api/v1/auth/login", data=login, headers={"origin": site.url}).ok


def test_limits_a_task_and_who_teaches_are_changed(site, teacher, classroom, new_page):
    site.user("second", "educator")
    rest = site.rest(teacher)
    rest.post("assignments", json={"classroom_id": classroom["id"], "title": "Find the axons"})
    page = opened(new_page(teacher), "/class")
    page.get_by_label("Trainings of a student at a time").fill("3")
    page.get_by_label("Storage of a project, GiB").fill("1.5")
    page.get_by_role("button", name="Save the limits").click()
    expect(page.get_by_text("The limits hold from the next training")).to_be_visible()
    limits = rest.get(f"classrooms/{classroom['id']}").json()["limits"]
    assert (limits["max_active_trainings"], limits["max_project_bytes"]) == (3, 3 << 29)
    page.get_by_role("button", name="Change the task").click()
    page.get_by_role("dialog").get_by_label("Title").fill("Find all axons")
    page.get_by_role("dialog").get_by_label("Due").fill("2030-05-01T12:00")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name="Find all axons")).to_be_visible()
    page.get_by_label("Sign-in name of an educator").fill("second")
    page.get_by_role("button", name="Add to the class").click()
    expect(row_of(page, "Who teaches the class", "second")).to_be_visible()


def test_a_student_shares_a_model_once_the_class_may(site, teacher, ana, classroom, new_page):
    project = site.project(ana, name="nerve", classroom_id=classroom["id"])
    site.platform.database.write(lambda session: session.add(model_of(project)))
    student = new_page(ana)
    expect(opened(student, "/class").get_by_text("Students of this class do not share models")).to_be_visible()
    change = {"switches": {"may_share_models": True}}
    site.rest(teacher).patch(f"classrooms/{classroom['id']}", json=change)
    opened(student, "/class").get_by_role("button", name="Share with the class").click()
    expect(row_of(student, "What everybody in the class may use", "scorer")).to_be_visible()
    page = opened(new_page(teacher), "/class")
    page.get_by_role("button", name="Stop sharing scorer").click()
    expect(page.get_by_text("No model is shared with the class.")).to_be_visible()


def model_of(project: Project) -> Model:
    card = make_card().model_dump(mode="json")
    made = {"created_by": project.owner_id, "sha256": "0" * 64, "key": "models/x", "card": card}
    return Model(project_id=project.id, name="scorer", version=1, **made)


def test_whose_gpu_minutes_are_used_up_sees_it_and_is_told_in_french(site, teacher, ana, classroom, new_page, tmp_path):
    project = add_project(site.platform, ana, classroom_id=classroom["id"])
    training_set = add_training_set(site.platform, project, tmp_path)
    earlier = add_project(site.platform, ana, classroom_id=classroom["id"])
    add_run(site.platform, classroom, ana, earlier.id, "done", device="Tesla T4", seconds=3600.0)
    page = opened(new_page(teacher), "/class")
    row = row_of(page, "1 student", "ana")
    row.get_by_text("Limits of ana").first.click()
    row.get_by_label("GPU minutes in all").fill("60")
    row.get_by_role("button", name="Save the limits of ana").click()
    progress = row_of(page, "How far each one has come", "ana")
    expect(progress).to_contain_text("⚠ 60 of 60 min", timeout=30_000)  # looked at every 10 s
    theirs = new_page(ana, locale="fr-FR", allowed=["409"])
    opened(theirs, f"/train?project={project.id}&set={training_set.id}")
    expect(theirs.get_by_text("60 sur 60 min. Elles sont épuisées")).to_be_visible()
    theirs.get_by_role("button", name="Lancer l’entraînement").click()
    expect(theirs.get_by_role("alert")).to_contain_text("vous avez utilisé 60 de vos 60 minutes de GPU")
