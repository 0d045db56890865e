"""Administration: people, everybody's jobs, machines, and what was done; for administrators alone."""

import pytest
from playwright.sync_api import expect

from axons.app.policy import Actor
from axons.app.services.jobs import add_job


@pytest.fixture
def boss(site) -> Actor:
    return site.user("boss", "administrator")


def opened(page, path="/admin"):
    page.goto(path)
    page.locator("axons-screen[data-ready]").wait_for()
    return page


def test_others_are_told_and_their_menu_does_not_show_it(site, ana, new_page):
    page = opened(new_page(ana))
    expect(page.get_by_text("This page is for administrators")).to_be_visible()
    page.get_by_role("button", name="Menu").click()
    expect(page.get_by_role("link", name="Account", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Administration")).to_have_count(0)
    assert site.rest(ana).get("cluster/nodes").status_code == 403


def test_the_overview_says_plainly_that_ray_is_away(monkeypatch, boss, new_page):
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests of this process have one
    page = opened(new_page(boss))
    expect(page.locator("[data-well=false]")).to_contain_text("not connected to Ray")
    expect(page.get_by_role("link", name="Download a backup")).to_be_visible()
    page.get_by_role("button", name="Menu").click()
    expect(page.get_by_role("link", name="Administration")).to_be_visible()


def test_an_account_is_added_found_promoted_and_disabled_and_the_audit_shows_it(site, boss, new_page):
    page = opened(new_page(boss), "/admin?part=people")
    page.get_by_label("Sign-in name").fill("zoe")
    page.get_by_label("Shown as").fill("<b>Zoe</b>")
    page.get_by_role("button", name="Add the account").click()
    expect(page.get_by_text("First password of zoe")).to_be_visible()
    page.get_by_label("Part of the name").fill("b>z")
    page.get_by_role("button", name="Find").click()
    card = page.locator("[data-user=zoe]")
    expect(card.get_by_text("<b>Zoe</b>")).to_be_visible()
    expect(page.locator("[data-user]")).to_have_count(1)
    expect(card).not_to_contain_text("null")
    card.get_by_label("Role of zoe").select_option("educator")
    page.get_by_role("button", name="Change the role").click()
    expect(card.get_by_label("Role of zoe")).to_have_value("educator")
    card.get_by_role("button", name="Disable").click()
    card.get_by_role("button", name="Keep zoe out?").click()
    expect(card.get_by_text("cannot sign in")).to_be_visible()
    found = site.rest(boss).get("users", params={"search": "zoe"}).json()["items"]
    assert [(row["role"], row["is_active"]) for row in found] == [("educator", False)]
    opened(page, "/admin?part=audit")
    page.get_by_label("Person").fill("boss")
    page.get_by_label("Action").fill("user.role")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("[data-action]")).to_have_count(1)
    expect(page.locator("[data-action='user.role']")).to_contain_text("after: educator")


def test_several_jobs_of_others_are_cancelled_in_one_go(site, ana, ben, boss, new_page):
    write = site.platform.database.write
    jobs = [
        write(lambda session, who=who: add_job(session, who, "export", None, request={})) for who in (ana, ben, ben)
    ]
    page = opened(new_page(boss), "/admin?part=jobs")
    for job in jobs[:2]:
        page.locator(f"[data-job='{job.id}'] input").check()
    page.get_by_role("button", name="Cancel 2 jobs").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel 2 jobs").click()
    expect(page.locator("[data-job]")).to_have_count(1)
    found = site.rest(boss).get("jobs", params={"all": True}).json()["items"]
    assert {job["id"]: job["state"] for job in found} == {
        jobs[0].id: "cancelled",
        jobs[1].id: "cancelled",
        jobs[2].id: "queued",
    }
