"""The screens of Gradio: they work behind our door, offline, with our own elements in them."""

import numpy as np
import pytest
from playwright.sync_api import expect

from axons.app.screens.pages import SCREENS
from axons.app.tables import ProjectMember
from tests.browser.annotating import Annotator
from tests.browser.conftest import both_addresses


@both_addresses
def test_a_tile_is_in_its_frame(site, ana, new_page):
    tile = site.tile(ana, name="nerve")
    page = new_page(ana)
    page.goto(f"/annotate?tile={tile.id}")
    expect(page.locator("iframe")).to_have_attribute("src", f"/annotate/{tile.id}")


@pytest.mark.parametrize("path", ["/", *SCREENS])
def test_a_student_opens_each_screen_without_a_complaint(site, ana, new_page, path):
    project = site.project(ana, name="nerve")
    page = new_page(ana)
    page.goto(f"{path}?project={project.id}")
    page.locator("axons-screen[data-ready]").wait_for()
    expect(page.locator("main h1")).to_have_count(1)


def test_what_is_drawn_in_the_frame_is_saved_by_itself_and_once(site, ana, new_page):
    tile = site.tile(ana)
    page = new_page(ana)
    saves = []
    page.on("request", lambda request: saves.append(request) if request.method == "PUT" else None)
    annotator = Annotator.open_in_frame(page, tile)
    annotator.drag((30, 30), (30, 90))
    drawn = annotator.wait(lambda state: state["save"] == "saved" and state["rev"] == 1)
    page.wait_for_timeout(2000)
    assert (len(saves), site.annotation(ana, tile)["crc32"]) == (1, drawn["crc32"])


def test_two_people_in_two_frames_see_each_other_and_keep_all_labels(site, ana, ben, new_page):
    tile = site.tile(ana)
    member = ProjectMember(project_id=tile.project_id, user_id=ben.user_id, role="editor")
    site.platform.database.write(lambda session: session.add(member))
    first = Annotator.open_in_frame(new_page(ana), tile)
    first.wait(lambda state: state["lease"] and state["lease"]["isMine"])
    second = Annotator.open_in_frame(new_page(ben, allowed=["412"]), tile)
    second.frame.get_by_role("button", name="Work anyway").click()
    second.wait(lambda state: state["lease"] and state["lease"]["isMine"])
    first.drag((20, 20), (20, 90))
    first.saved()
    second.keys("2")
    second.drag((80, 20), (80, 90))
    both = second.wait(lambda state: state["rev"] == 2 and state["save"] == "saved")
    assert set(both["counts"]) == set(map(str, np.unique(site.plane(ana, tile)))) == {"1", "2", "255"}
