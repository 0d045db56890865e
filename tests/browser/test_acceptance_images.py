"""Acceptance checks 3 to 7: from files on a desktop to tiles, by as many clicks as promised, on a real Ray."""

import io
import re
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image as Picture
from playwright.sync_api import Page, expect
from sqlmodel import select

from axons.app.jobs.dispatcher import Dispatcher
from axons.app.tables import Image, Job
from axons.data.images import WorkingImage
from tests.app.images import png
from tests.app.trainings import ThreadCluster
from tests.browser.clicks import Clicks
from tests.drawing import draw_disks

ARRIVED_MS = 120_000  # a busy machine is not a wrong answer


@pytest.fixture
def at_work(local_ray, site) -> Iterator[None]:
    """Jobs are done while one waits."""
    dispatcher = Dispatcher(site.platform, ThreadCluster(), every_s=0.1)
    dispatcher.start()
    yield
    dispatcher.stop()


@pytest.fixture
def project(site, ana):
    return site.project(ana, tile=64)


@pytest.fixture
def desktop(tmp_path):
    """Puts files into a folder, by their names; returns where they are."""
    folder = tmp_path / "desktop"
    folder.mkdir()

    def put(**files: bytes):
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return [folder / name for name in files]

    return put


def opened(page: Page, path: str) -> Page:
    page.goto(path)
    page.locator("axons-screen[data-ready]").wait_for()
    return page


def drawn(seed, height=100, width=150):
    return png(draw_disks(height, width, seed=seed, channels=3).image)


def rows_of(site, table):
    return site.platform.database.read(lambda session: list(session.exec(select(table))))


def is_imported(page: Page, count: int) -> None:
    said = "1 image was imported." if count == 1 else f"{count} images were imported."
    expect(page.get_by_text(said)).to_be_visible(timeout=ARRIVED_MS)


@pytest.mark.usefixtures("at_work")
def test_twenty_files_that_are_dropped_on_a_new_project_are_tiles_within_5_clicks(site, ana, new_page, desktop):
    page = new_page(ana)
    clicks = Clicks(page)
    opened(page, "/")
    page.get_by_role("button", name="New project").click()
    page.get_by_label("Name", exact=True).fill("nerve")
    page.get_by_role("button", name="Create the project").click()
    page.wait_for_url("**/images?project=*")
    files = desktop(**{f"{number}.png": drawn(number) for number in range(20)})
    clicks.drop(page.locator(".drop"), files)
    is_imported(page, 20)
    page.get_by_role("link", name="Annotate these images").click()
    tile = page.locator(".tile img")
    expect(tile).to_have_count(20)  # of 256 px each image is one
    expect(tile.first).to_have_js_property("complete", True)
    assert tile.first.evaluate("found => found.naturalWidth") > 0
    assert clicks.count == 4


@pytest.mark.usefixtures("at_work")
def test_a_16_bit_tiff_is_seen_and_kept_bit_by_bit_within_4_clicks(site, ana, new_page, project, desktop):
    pixels = np.random.default_rng(7).integers(900, 1100, (2048, 2048), np.uint16)  # dark, were it shown as it is
    buffer = io.BytesIO()
    Picture.fromarray(pixels).save(buffer, "TIFF")
    page = new_page(ana)
    clicks = Clicks(page)
    opened(page, f"/images?project={project.id}")
    clicks.drop(page.locator(".drop"), desktop(**{"deep.tif": buffer.getvalue()}))
    is_imported(page, 1)
    with page.expect_response("**/pyramid/**") as answer:
        page.get_by_role("button", name="Look at deep.tif").click()
    seen = np.asarray(Picture.open(io.BytesIO(answer.value.body())))
    (image,) = rows_of(site, Image)
    stored = WorkingImage(site.platform.storage.local_path(image.working_key)).read_all()
    assert (stored.dtype, np.array_equal(stored[..., 0], pixels)) == (np.uint16, True)
    assert seen.dtype == np.uint8
    assert 64 < seen.mean() < 192
    assert clicks.count == 2


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize("num_images", [9, pytest.param(200, marks=pytest.mark.long)])
def test_a_zip_whose_connection_is_cut_at_half_goes_on_by_itself(site, ana, new_page, project, desktop, num_images):
    rng = np.random.default_rng(num_images)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(num_images):
            archive.writestr(f"{number:03}.png", png(rng.integers(0, 256, (580, 580, 3), np.uint8)))
    page = new_page(ana, allowed=["net::ERR"])
    parts, sent = -(-len(buffer.getvalue()) // (8 << 20)), []

    def part(route) -> None:
        number = int(re.search(r"parts/(\d+)", route.request.url).group(1))
        sent.append(number)
        route.abort() if number == parts // 2 and sent.count(number) == 1 else route.continue_()

    page.route("**/parts/*", part)
    clicks = Clicks(page)
    opened(page, f"/images?project={project.id}")
    clicks.drop(page.locator(".drop"), desktop(**{"all.zip": buffer.getvalue()}))
    is_imported(page, num_images)
    assert sorted(sent) == sorted([*range(parts), parts // 2])  # what had arrived was not sent again
    images = rows_of(site, Image)
    assert [(image.height, image.width) for image in images] == [(580, 580)] * num_images
    assert {len(site.tiles(image)) for image in images} == {100}
    assert clicks.count == 1


@pytest.mark.usefixtures("at_work")
def test_bad_files_are_named_one_by_one_and_the_rest_is_imported(site, ana, new_page, project, desktop):
    bad = {"text.png": b"no image, but text", "nothing.png": b"", "cut.png": drawn(3)[:400]}
    page = new_page(ana)
    clicks = Clicks(page)
    opened(page, f"/images?project={project.id}")
    clicks.drop(page.locator(".drop"), desktop(**{"good.png": drawn(1), "point.png": drawn(2, 1, 1), **bad}))
    expect(page.get_by_role("listitem").filter(has_text="nothing.png")).to_contain_text("The file is empty (0 bytes)")
    is_imported(page, 2)
    for name in ("text.png", "cut.png"):
        expect(page.get_by_role("row", name=name)).to_contain_text(re.compile("image|damaged|cut"))
    assert {image.name for image in rows_of(site, Image)} == {"good.png", "point.png"}
    assert len([job for job in rows_of(site, Job) if job.kind == "import"]) == 1
    assert clicks.count == 1


@pytest.mark.usefixtures("at_work")
def test_the_preview_says_how_many_tiles_are_then_made(site, ana, new_page, project):
    image = site.image(ana, project, draw_disks(200, 300, channels=3).image)
    page = new_page(ana)
    clicks = Clicks(page)
    opened(page, f"/images?project={project.id}")
    page.get_by_label("Tile size, px").fill("90")
    expect(page.get_by_text("Tiles in this image: 12. In all images of the project: 12;")).to_be_visible()
    page.get_by_role("button", name="Make these tiles").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("20 tiles of 64 px become 12 tiles of 90 px. Every label stays")
    dialog.get_by_role("button", name="Make tiles").click()
    expect(page.get_by_text("now there are 12 of 90 px")).to_be_visible(timeout=ARRIVED_MS)
    (job,) = [job for job in rows_of(site, Job) if job.kind == "tile"]
    assert (len(site.tiles(image)) - 20, job.state) == (12, "done")  # the 20 of before are kept beside them
    assert clicks.count == 2
