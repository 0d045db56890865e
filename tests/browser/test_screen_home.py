"""My projects, the account, the menu: what a student does first."""

import re

from playwright.sync_api import expect

from axons.app.services import audit, samples
from axons.app.tables import TrainingSet
from tests.app.browser import PASSWORD


def opened(page, path="/"):
    page.goto(path)
    page.locator("axons-screen[data-ready]").wait_for()
    return page


def test_a_new_project_is_made_and_leads_to_its_images(site, ana, new_page):
    page = opened(new_page(ana))
    page.get_by_role("button", name="New project").click()
    page.get_by_label("Name", exact=True).fill("nerve")
    page.get_by_label("Classes to find").fill("axon, myelin")
    page.get_by_role("button", name="Create the project").click()
    page.wait_for_url("**/images?project=*")
    (project,) = site.rest(ana).get("projects").json()["items"]
    classes = site.rest(ana).get(f"projects/{project['id']}").json()["classes"]
    assert [row["name"] for row in classes] == ["background", "axon", "myelin"]


def test_a_student_tries_the_sample_with_one_press(site, ana, teacher, new_page):
    sample = site.project(teacher, name="Sample")
    frozen = TrainingSet(project_id=sample.id, name="a", number=1, key="x", created_by=teacher.user_id)

    def install(session) -> None:
        session.add(frozen)
        audit.record(session, teacher, samples.INSTALLED, "project", sample.id)

    site.platform.database.write(install)
    page = opened(new_page(ana))
    page.get_by_role("button", name="Try the sample").click()
    page.wait_for_url(re.compile("project="))
    assert [row["name"] for row in site.rest(ana).get("projects").json()["items"]] == ["Sample"]


def test_a_deleted_project_comes_back_from_the_trash(site, ana, new_page):
    site.project(ana, name="<b>nerve</b>")
    page = opened(new_page(ana))
    page.get_by_text("Change", exact=True).click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Put it into the trash?").click()
    expect(page.get_by_role("link", name="<b>nerve</b>", exact=True)).to_have_count(0)
    page.get_by_text("Trash (1)").click()
    page.get_by_role("button", name="Restore <b>nerve</b>").click()
    expect(page.get_by_role("link", name="<b>nerve</b>", exact=True)).to_be_visible()


def test_a_link_invites_to_a_project(site, ana, ben, new_page):
    project = site.project(ana, name="nerve")
    code = site.rest(ana).post(f"projects/{project.id}/invitations", json={"role": "viewer"}).json()["code"]
    page = opened(new_page(ben), f"/?invitation={code}")
    page.get_by_role("button", name="Join the project").click()
    page.wait_for_url(f"**/images?project={project.id}")
    assert site.rest(ben).get(f"projects/{project.id}").json()["role"] == "viewer"


def test_a_token_is_shown_once_and_ended(site, ana, new_page):
    page = opened(new_page(ana), "/account")
    page.get_by_label("What the token is for").fill("laptop")
    page.get_by_role("button", name="Make a token").click()
    expect(page.get_by_text("shown this once")).to_be_visible()
    page.get_by_role("button", name="End the token laptop").click()
    page.get_by_role("button", name="End the token laptop").click()
    expect(page.get_by_text("You have no token.")).to_be_visible()


def test_who_was_added_signs_in_with_the_first_password_and_chooses_another(site, teacher, new_page):
    classroom = site.rest(teacher).post("classrooms", json={"name": "4b"}).json()
    path = f"classrooms/{classroom['id']}/students"
    [account] = site.rest(teacher).post(path, json={"students": [{"name": "cleo"}]}).json()
    page = new_page()
    page.goto("/models")
    page.get_by_label("Name").fill("cleo")
    page.get_by_label("Password", exact=True).fill(account["password"])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_role("button", name="Change it").click()
    page.locator("axons-screen[data-ready]").wait_for()
    assert page.request.get("/api/v1/auth/me").json()["user"]["name"] == "cleo"


def test_the_menu_closes_by_escape_and_signs_out(ana, new_page):
    page = opened(new_page(ana, allowed=["Clear-Site-Data"]))  # over plain http the browser says that it ignores it
    menu = page.get_by_role("button", name="Menu")
    menu.click()
    expect(menu).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(menu).to_have_attribute("aria-expanded", "false")
    menu.click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login")
