"""My class: from a pasted list of names to a mark that a student reads."""

from playwright.sync_api import Page, expect

from axons.app.tables import Membership


def opened(page: Page, path: str) -> Page:
    page.goto(path)
    page.locator("axons-screen[data-ready]").wait_for()
    return page


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
    member = Membership(classroom_id=classroom["id"], user_id=ana.user_id, role="student")
    site.platform.database.write(lambda session: session.add(member))
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
