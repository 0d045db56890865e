"""Drawing in the annotator gives exactly the pixels that geometry says, and the server renders the same."""

import zlib

import numpy as np
import pytest

from axons.data.layers import PolygonLayer, render
from tests.browser.annotating import Annotator
from tests.browser.conftest import both_addresses

SIDE = 128
RADIUS = 10  # of the brush, unless it is changed
HEXAGON = [(20, 40), (20, 88), (64, 108), (108, 88), (108, 40), (64, 20)]
SQUARE = [(32, 32), (32, 96), (96, 96), (96, 32)]


def near_segment(start, end, *, radius=RADIUS, side=SIDE):
    """Pixels whose centre lies within `radius` of a segment; ends are (row, column) and may be halves."""
    rows, cols = np.mgrid[:side, :side] * 2 + 1
    (row0, col0), (row1, col1) = [[round(2 * place) for place in end] for end in (start, end)]
    down, right = row1 - row0, col1 - col0
    along = (rows - row0) * down + (cols - col0) * right
    length = down**2 + right**2
    near_start = (rows - row0) ** 2 + (cols - col0) ** 2 <= (2 * radius) ** 2
    near_end = (rows - row1) ** 2 + (cols - col1) ** 2 <= (2 * radius) ** 2
    across = ((rows - row0) * right - (cols - col0) * down) ** 2 <= (2 * radius) ** 2 * length
    return near_start | near_end | (across & (along > 0) & (along < length))


def inside(*rings, side=SIDE):
    """Pixels inside rings of (row, column), by rule R1."""
    layer = PolygonLayer(value=1, rings=tuple(np.array(ring, int) * 16 for ring in rings))
    return render([layer], side, side) == 1


def painted(*steps, side=SIDE):
    """The plane after painting (pixels, value) one after another."""
    plane = np.full((side, side), 255, np.uint8)
    for pixels, value in steps:
        plane[pixels] = value
    return plane


def checksum(plane):
    return zlib.crc32(plane.tobytes())


def counts(plane):
    return {str(value): int(np.sum(plane == value)) for value in np.unique(plane)}


@pytest.fixture
def tile(site, ana):
    return site.tile(ana, height=SIDE, width=SIDE)


@pytest.fixture
def annotator(new_page, ana, tile):
    return Annotator.open(new_page(ana), tile)


def check_saved(annotator, site, ana, tile, plane):
    """What one sees, what REST tells and the mask of the server are this plane."""
    state = annotator.saved()
    assert (state["crc32"], state["counts"]) == (checksum(plane), counts(plane))
    assert site.annotation(ana, tile)["crc32"] == checksum(plane)
    assert np.array_equal(site.plane(ana, tile), plane)


@both_addresses
@pytest.mark.parametrize("open_tile", [Annotator.open, Annotator.open_in_frame], ids=["page", "frame"])
def test_a_straight_stroke_covers_the_pixels_that_geometry_says(site, ana, new_page, tile, open_tile):
    annotator = open_tile(new_page(ana), tile)
    annotator.drag((40, 30), (72, 94))
    check_saved(annotator, site, ana, tile, painted((near_segment((40, 30), (72, 94)), 1)))


@pytest.mark.parametrize("scale", [1, 2])
def test_a_stroke_is_the_same_at_every_zoom_and_device_ratio(site, ana, new_page, scale):
    annotator = Annotator.open(new_page(ana, scale=scale), site.tile(ana, height=256, width=256))
    ends, seen = ((112, 104), (144, 152)), {}
    for zoom in (0.5, 1, 4):
        zoom_to(annotator, zoom)
        annotator.drag(*ends)
        seen[round(annotator.state()["zoom"], 2)] = annotator.state()["crc32"]
        annotator.keys("Control+z")
    golden = checksum(painted((near_segment(*ends, side=256), 1), side=256))
    assert seen == {0.5: golden, 1: golden, 4: golden}


def zoom_to(annotator, zoom):
    """By the wheel, at the middle of the tile."""
    annotator.move(128, 128)
    while abs((left := zoom / annotator.state()["zoom"]) - 1) > 0.002:
        annotator.page.mouse.wheel(0, -np.clip(np.log(left) / np.log(1.0015), -300, 300))
        annotator.page.wait_for_timeout(20)


@pytest.mark.parametrize("is_by_alt", [True, False])
def test_erased_pixels_are_unlabelled(annotator, site, ana, tile, is_by_alt):
    annotator.drag((40, 30), (40, 94))
    annotator.keys("2")
    annotator.drag((80, 30), (80, 94))
    keyboard = annotator.page.keyboard
    if is_by_alt:
        keyboard.down("Alt")
    else:
        annotator.keys("e")
    annotator.drag((20, 60), (100, 60))
    keyboard.up("Alt")
    rubbed = near_segment((20, 60), (100, 60))
    drawn = (near_segment((40, 30), (40, 94)), 1), (near_segment((80, 30), (80, 94)), 2)
    check_saved(annotator, site, ana, tile, painted(*drawn, (rubbed, 255)))


def test_ignored_on_purpose_is_painted_like_a_class(annotator, site, ana, tile):
    annotator.keys("n")
    annotator.drag((40, 30), (40, 94))
    check_saved(annotator, site, ana, tile, painted((near_segment((40, 30), (40, 94)), 254)))


@both_addresses
def test_a_polygon_covers_the_pixels_that_geometry_says(annotator, site, ana, tile):
    annotator.polygon(*HEXAGON)
    check_saved(annotator, site, ana, tile, painted((inside(HEXAGON), 1)))


def test_backspace_drops_the_last_vertex(annotator):
    annotator.keys("p")
    annotator.click(*HEXAGON, (64, 64))
    annotator.keys("Backspace", "Enter")
    assert annotator.state()["crc32"] == checksum(painted((inside(HEXAGON), 1)))


def test_escape_gives_a_polygon_up(annotator):
    annotator.keys("p")
    annotator.click(*HEXAGON)
    annotator.keys("Escape", "Enter")
    state = annotator.state()
    assert (state["crc32"], state["undo"], state["dirty"]) == (checksum(painted()), 0, False)


def test_vertices_can_be_moved_inserted_and_removed_after_a_reload(annotator, tile, site, ana):
    annotator.polygon(*SQUARE)
    annotator.saved()
    annotator.page.reload()
    annotator.wait(lambda state: state["ready"])
    annotator.keys("v")
    annotator.click((64, 64))
    annotator.drag((32, 32), (20, 20))
    moved = [(20, 20), *SQUARE[1:]]
    assert annotator.state()["crc32"] == checksum(painted((inside(moved), 1)))
    annotator.drag((96, 64), (112, 64))  # the middle of the lower edge
    inserted = [*moved[:3], (112, 64), moved[3]]
    assert annotator.state()["crc32"] == checksum(painted((inside(inserted), 1)))
    annotator.page.keyboard.down("Alt")
    annotator.click((32, 96))
    annotator.page.keyboard.up("Alt")
    removed = [inserted[0], *inserted[2:]]
    check_saved(annotator, site, ana, tile, painted((inside(removed), 1)))
    annotator.keys("Control+z", "Control+z", "Control+z")
    assert annotator.state()["crc32"] == checksum(painted((inside(SQUARE), 1)))


def test_a_hole_shows_what_was_there_before(annotator, site, ana, tile):
    annotator.keys("2")
    annotator.drag((64, 20), (64, 108))
    annotator.keys("1")
    annotator.polygon(*SQUARE)
    annotator.keys("/", "/")  # subtract
    hole = [(48, 48), (48, 80), (80, 80), (80, 48)]
    annotator.polygon(*hole)
    below = (near_segment((64, 20), (64, 108)), 2)
    check_saved(annotator, site, ana, tile, painted(below, (inside(SQUARE, hole), 1)))


@pytest.mark.parametrize("is_brush_last", [True, False])
def test_what_is_drawn_last_wins_before_and_after_a_reload(annotator, site, ana, tile, is_brush_last):
    def brush():
        annotator.keys("b", "2")
        annotator.drag((64, 20), (64, 108))

    def polygon():
        annotator.keys("1")
        annotator.polygon(*SQUARE)

    steps = {brush: (near_segment((64, 20), (64, 108)), 2), polygon: (inside(SQUARE), 1)}
    order = [polygon, brush] if is_brush_last else [brush, polygon]
    for draw in order:
        draw()
    plane = painted(*[steps[draw] for draw in order])
    check_saved(annotator, site, ana, tile, plane)
    annotator.page.reload()
    annotator.wait(lambda state: state["ready"])
    assert annotator.state()["crc32"] == checksum(plane)


def test_nothing_paints_over_a_protected_class(annotator, site, ana, tile):
    annotator.keys("3")
    annotator.drag((64, 20), (64, 108))
    annotator.keys("l", "1")
    annotator.drag((20, 64), (108, 64))
    annotator.polygon(*SQUARE)
    annotator.keys("e")
    annotator.drag((64, 40), (64, 90))
    kept = near_segment((64, 20), (64, 108))
    others = near_segment((20, 64), (108, 64)) | inside(SQUARE)
    rubbed = near_segment((64, 40), (64, 90))
    plane = painted((others, 1), (rubbed, 255), (kept, 3))
    check_saved(annotator, site, ana, tile, plane)
    annotator.page.reload()
    annotator.wait(lambda state: state["ready"])
    assert annotator.state()["counts"] == counts(plane)


def test_200_steps_are_undone_and_redone(annotator):
    start = annotator.state()["crc32"]
    rng = np.random.default_rng(7)
    corner, far = np.array(annotator.at(0, 0)), np.array(annotator.at(SIDE, SIDE))
    mouse, keyboard = annotator.page.mouse, annotator.page.keyboard
    for number in range(200):
        keyboard.press(str(number % 4))
        ends = corner + rng.uniform(size=(2, 2)) * (far - corner)
        mouse.move(*ends[0])
        mouse.down()
        mouse.move(*ends[1])
        mouse.up()
    end = annotator.state()
    press_often(annotator, "z", 200)
    undone = annotator.state()
    press_often(annotator, "y", 200)
    redone = annotator.state()
    assert (end["undo"], undone["undo"], undone["redo"], redone["undo"]) == (200, 0, 200, 200)
    assert (undone["crc32"], redone["crc32"]) == (start, end["crc32"])
    assert start != end["crc32"]


def press_often(annotator, key, times):
    """With Ctrl; one by one through Playwright this takes a minute."""
    annotator.page.evaluate(
        """([key, times]) => {
            const pressed = new KeyboardEvent("keydown", { key, ctrlKey: true, bubbles: true });
            for (let i = 0; i < times; i++) document.body.dispatchEvent(pressed);
        }""",
        [key, times],
    )


def test_a_click_is_one_step_and_a_new_stroke_forgets_what_was_undone(annotator):
    annotator.click((64, 64))
    annotator.click((64, 64))  # paints what is painted already: no step
    assert annotator.state()["undo"] == 1
    annotator.drag((20, 20), (20, 60))
    annotator.keys("Control+z")
    assert annotator.state()["redo"] == 1
    annotator.drag((100, 20), (100, 60))
    assert (annotator.state()["undo"], annotator.state()["redo"]) == (2, 0)


def test_labels_never_come_from_a_canvas(site, ana, new_page, tile):
    page = new_page(ana)
    page.add_init_script(
        """const read = CanvasRenderingContext2D.prototype.getImageData;
        CanvasRenderingContext2D.prototype.getImageData = function (...where) {
          const image = read.apply(this, where);
          for (let i = 0; i < image.data.length; i++) image.data[i] ^= i % 7;
          return image;
        };"""
    )
    annotator = Annotator.open(page, tile)
    annotator.drag((40, 30), (72, 94))
    annotator.keys("2")
    annotator.polygon(*SQUARE)
    annotator.saved()
    page.reload()
    annotator.wait(lambda state: state["ready"])
    annotator.keys("3")
    annotator.drag((100, 30), (100, 94))
    drawn = (near_segment((40, 30), (72, 94)), 1), (inside(SQUARE), 2), (near_segment((100, 30), (100, 94)), 3)
    check_saved(annotator, site, ana, tile, painted(*drawn))
