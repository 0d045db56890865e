"""The screen of images: add, check, look, and cut into tiles, as people do it."""

import numpy as np
import pytest
from playwright.sync_api import expect
from sqlmodel import select

from axons.app.tables import Image, Job, ProjectMember, Upload
from tests.app.images import png
from tests.drawing import draw_disks


def disks(seed, height=100, width=150):
    return draw_disks(height, width, seed=seed, channels=3).image


def file(name, content):
    return {"name": name, "mimeType": "image/png", "buffer": content}


def rows_of(site, table):
    return site.platform.database.read(lambda session: list(session.exec(select(table))))


@pytest.fixture
def project(site, ana):
    return site.project(ana, tile=64)


@pytest.fixture
def opened(new_page, ana, project):
    def opened(**options):
        page = new_page(ana, **options)
        page.goto(f"/images?project={project.id}")
        page.locator("axons-screen[data-ready]").wait_for()
        return page

    return opened


def test_a_broken_connection_is_told_and_only_what_is_missing_is_sent_again(site, opened):
    page = opened(allowed=["ERR_FAILED", "net::"])
    is_cut = [True]
    sent = []

    def part(route):
        sent.append(route.request.url[-1])
        route.abort() if is_cut[0] and len(sent) > 1 else route.continue_()

    page.route("**/parts/*", part)
    large = np.random.default_rng(0).integers(0, 256, (2500, 2500, 3), np.uint8)
    page.get_by_label("Images or ZIP files").set_input_files(file("large.png", png(large)))
    expect(page.get_by_text("What has arrived is kept")).to_be_visible(timeout=60_000)  # it tries for 15 s
    assert rows_of(site, Job) == []
    is_cut[0] = False
    sent.clear()
    page.get_by_role("button", name="Retry large.png").click()
    page.wait_for_url("**import=*")
    assert "0" not in sent
    assert len(rows_of(site, Upload)) == 1


def test_what_an_import_refused_is_named_with_the_reason_after_a_reload(site, ana, opened, project):
    name = "<img src=x onerror=alert(1)>.png"
    site.image(ana, project, disks(0))
    (job,) = rows_of(site, Job)

    def refuse(session):
        refused = [{"image_id": "x", "name": name, "reason": "it is text, not an image"}]
        session.get_one(Job, job.id).result = {"num_images": 1, "refused": refused}

    site.platform.database.write(refuse)
    page = opened()
    page.goto(f"/images?project={project.id}&import={job.id}")
    expect(page.get_by_role("row", name=name)).to_contain_text("it is text, not an image")
    expect(page.get_by_text("1 image was imported.")).to_be_visible()


def test_a_copy_is_excluded_with_one_press_and_taken_back_with_another(site, ana, opened, project):
    site.image(ana, project, disks(0), name="a.png")
    site.image(ana, project, disks(0), name="b.png")
    page = opened()
    expect(page.get_by_text("is the same file as a.png").last).to_be_visible()
    page.get_by_role("button", name="Exclude b.png").click()
    page.get_by_role("button", name="Use b.png again").wait_for()
    assert {row.name for row in rows_of(site, Image) if row.is_excluded} == {"b.png"}
    page.get_by_role("button", name="Use b.png again").click()
    page.get_by_role("button", name="Exclude b.png").wait_for()
    assert not any(row.is_excluded for row in rows_of(site, Image))


def test_group_split_pixel_size_and_name_are_edited_and_an_image_comes_back_from_the_trash(site, ana, opened, project):
    site.image(ana, project, disks(0))
    page = opened()
    page.get_by_role("button", name="Edit a.png").click()
    page.get_by_label("Name", exact=True).fill("slide.png")
    page.get_by_label("Group").fill("mouse 3")
    page.get_by_role("dialog").get_by_role("combobox").select_option("test")
    page.get_by_label("Pixel size, µm").fill("0.25")
    page.get_by_role("button", name="Save").click()
    row = page.get_by_role("row", name="slide.png")
    expect(row).to_contain_text("mouse 3")
    (image,) = rows_of(site, Image)
    assert (image.group, image.split, image.pixel_size_um) == ("mouse 3", "test", 0.25)
    row.get_by_role("button", name="Delete").click()
    row.get_by_role("button", name="Press again").click()
    expect(page.get_by_text("No images yet")).to_be_visible()
    page.get_by_role("button", name="Take slide.png back").click()
    expect(page.get_by_role("row", name="slide.png")).to_be_visible()


def test_the_viewer_shows_the_image_from_tiles_of_our_own_server(site, ana, opened, project):
    site.image(ana, project, disks(0, 600, 700))
    page = opened()
    with page.expect_response("**/pyramid/0/**") as seen, page.expect_response("**/labels*") as labels:
        page.get_by_role("button", name="Look at a.png").click()
        expect(page.get_by_role("slider", name="Labels")).to_be_visible()
        expect(page.get_by_role("dialog").get_by_role("list", name="Classes")).to_be_visible()
        page.get_by_role("button", name="Zoom in").click()
        page.get_by_role("button", name="Zoom in").click()
    assert (seen.value.status, seen.value.headers["cache-control"]) == (200, "private, no-store")
    assert labels.value.status == 200
    page.get_by_role("button", name="Close").first.click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_who_may_only_look_is_offered_nothing_else(site, ana, ben, new_page, project):
    site.image(ana, project, disks(0))
    member = ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer")
    site.platform.database.write(lambda session: session.add(member))
    page = new_page(ben)
    page.goto(f"/images?project={project.id}")
    page.locator("axons-screen[data-ready]").wait_for()
    expect(page.get_by_role("button", name="Look at a.png")).to_be_visible()
    expect(page.get_by_role("button", name="Add images")).to_have_count(0)
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
