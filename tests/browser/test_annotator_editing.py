"""What one does to labels in the annotator, beyond ANNOTATOR's checks: shapes, selections, classes, tiles, keys."""

import numpy as np
import pytest

from axons.data.layers import from_json
from tests.browser.annotating import Annotator
from tests.drawing import draw_disks


@pytest.fixture
def annotator(site, new_page, ana) -> Annotator:
    """An empty tile of 128 x 128 px, with classes 0 to 3."""
    return Annotator.open(new_page(ana), site.tile(ana))


def saved_layers(annotator: Annotator, site, ana) -> list[dict]:
    tile = annotator.saved()["tile"]
    answer = site.rest(ana).get(f"tiles/{tile}/annotation")
    from_json(answer.json())
    return answer.json()["layers"]


SQUARE = [(20, 20), (20, 60), (60, 60), (60, 20)]


def test_a_polygon_takes_a_click_a_vertex_and_enter(annotator, site, ana):
    annotator.polygon(*SQUARE)
    assert annotator.state()["counts"]["1"] == 1600
    (layer,) = saved_layers(annotator, site, ana)
    assert (layer["t"], layer["value"], len(layer["rings"][0])) == ("poly", 1, 8)


def test_a_brush_object_takes_one_drag_and_a_class_change_one_key(annotator):
    annotator.keys("2")
    annotator.drag((40, 40), (40, 80))
    state = annotator.state()
    assert (state["undo"], set(state["counts"])) == (1, {"2", "255"})


def test_a_click_near_the_first_vertex_finishes_the_polygon(annotator):
    annotator.keys("p")
    annotator.click(*SQUARE, (20.4, 20.4))
    assert annotator.state()["counts"]["1"] == 1600


def test_a_drag_with_shift_draws_free_hand_and_is_simplified(annotator, site, ana):
    annotator.keys("p")
    annotator.page.keyboard.down("Shift")
    angles = np.linspace(0, 1.9 * np.pi, 40)
    annotator.drag(*[(64 + 30 * np.sin(angle), 64 + 30 * np.cos(angle)) for angle in angles], steps=2)
    annotator.page.keyboard.up("Shift")
    annotator.keys("Enter")
    (layer,) = saved_layers(annotator, site, ana)
    assert 12 <= len(layer["rings"][0]) // 2 <= 60
    assert abs(annotator.state()["counts"]["1"] - np.pi * 30**2) < 150


def test_brackets_and_the_wheel_with_alt_change_the_brush(annotator):
    annotator.keys("]")
    larger = annotator.state()["brush"]
    annotator.keys("[", "[")
    smaller = annotator.state()["brush"]
    annotator.move(64, 64)
    annotator.page.keyboard.down("Alt")
    annotator.page.mouse.wheel(0, -100)
    annotator.page.keyboard.up("Alt")
    assert smaller < 10 < larger
    assert annotator.state()["brush"] > smaller


def test_a_ring_can_be_added_to_a_polygon(annotator):
    annotator.polygon(*SQUARE)
    annotator.keys("/")  # add
    annotator.polygon((40, 40), (40, 100), (60, 100), (60, 40))
    state = annotator.state()
    assert (state["layers"], state["counts"]["1"]) == (1, 1600 + 20 * 40)


def test_a_ring_inside_becomes_a_hole(annotator, site, ana):
    annotator.polygon(*SQUARE)
    annotator.keys("/", "/")  # subtract
    annotator.polygon((30, 30), (30, 40), (40, 40), (40, 30))
    (layer,) = saved_layers(annotator, site, ana)
    assert (annotator.state()["counts"]["1"], len(layer["rings"])) == (1500, 2)


def test_a_line_splits_a_polygon_and_no_pixel_is_lost(annotator):
    annotator.polygon(*SQUARE)
    annotator.keys("/", "/", "/")  # split
    annotator.polygon((10, 40), (70, 40))
    state = annotator.state()
    assert (state["layers"], state["counts"]["1"], len(state["selection"])) == (2, 1600, 2)


def test_selected_polygons_are_merged(annotator):
    annotator.polygon(*SQUARE)
    annotator.polygon((40, 40), (40, 90), (60, 90), (60, 40))
    annotator.keys("Control+a", "m")
    state = annotator.state()
    assert (state["layers"], state["counts"]["1"]) == (1, 1600 + 20 * 30)


@pytest.mark.parametrize("is_dragged", [True, False])
def test_a_box_takes_a_drag_or_two_clicks(annotator, is_dragged):
    annotator.keys("r")
    draw = annotator.drag if is_dragged else annotator.click
    draw((10, 20), (50, 80))
    assert annotator.state()["counts"]["1"] == 40 * 60


def test_shift_selects_one_more_and_a_key_goes_to_the_one_beneath(annotator):
    annotator.polygon(*SQUARE)
    annotator.keys("2")
    annotator.polygon((30, 30), (30, 90), (50, 90), (50, 30))
    annotator.keys("v", "Escape")
    annotator.click((40, 40))
    (top,) = annotator.state()["selection"]
    annotator.keys("]")
    (beneath,) = annotator.state()["selection"]
    annotator.page.keyboard.down("Shift")
    annotator.click((40, 80))
    annotator.page.keyboard.up("Shift")
    assert beneath != top
    assert set(annotator.state()["selection"]) == {top, beneath}


def test_a_digit_gives_the_selected_polygon_another_class(annotator):
    annotator.polygon(*SQUARE)
    annotator.keys("v", "3")
    assert annotator.state()["counts"] == {"3": 1600, "255": 128 * 128 - 1600}


def test_delete_asks_and_undo_brings_the_polygon_back(annotator):
    annotator.polygon(*SQUARE)
    annotator.keys("Delete")
    annotator.page.get_by_role("button", name="Delete", exact=True).last.click()
    gone = annotator.wait(lambda state: state["layers"] == 0)
    annotator.keys("Control+z")
    assert "1" not in gone["counts"]
    assert annotator.state()["counts"]["1"] == 1600


def test_a_polygon_is_moved_whole(annotator):
    annotator.polygon(*SQUARE)
    annotator.keys("v")
    annotator.drag((40, 40), (50, 70))
    state = annotator.state()
    assert (state["counts"]["1"], state["undo"]) == (1600, 2)
    annotator.click((45, 45))
    annotator.keys("Escape")
    annotator.click((60, 85))
    assert len(annotator.state()["selection"]) == 1


def test_a_hidden_class_is_not_selected(annotator):
    annotator.polygon(*SQUARE)
    annotator.keys("v", "Escape")
    annotator.page.get_by_role("button", name="Hide").nth(1).click()
    annotator.click((40, 40))
    assert (annotator.state()["selection"], annotator.state()["hidden"]) == ([], [1])


def test_h_hides_the_labels_while_it_is_held(annotator):
    annotator.page.keyboard.down("h")
    is_hidden = annotator.state()["isHidden"]
    annotator.page.keyboard.up("h")
    assert (is_hidden, annotator.state()["isHidden"]) == (True, False)


def test_a_new_class_is_ready_to_paint_and_its_name_is_taken_from_then_on(annotator, new_page):
    new_page.allowed.append("409 (Conflict)")
    field = annotator.page.get_by_label("New class")
    field.fill("vessel")
    field.press("Enter")
    annotator.wait(lambda state: state["class"] == 4)
    field.fill("Vessel")
    field.press("Enter")
    annotator.page.get_by_text("has a class 'Vessel' already").wait_for()


def test_fill_paints_what_is_connected(annotator):
    annotator.polygon(*SQUARE)
    annotator.keys("f", "3")
    annotator.click((40, 40))
    assert annotator.state()["counts"]["3"] == 1600


def test_the_class_below_the_pointer_is_picked(annotator):
    annotator.keys("3")
    annotator.polygon(*SQUARE)
    annotator.keys("1")
    annotator.move(40, 40)
    annotator.keys("i")
    assert annotator.state()["class"] == 3


def test_x_swaps_the_last_two_classes(annotator):
    annotator.keys("3", "2", "x")
    assert annotator.state()["class"] == 3


def test_the_keyboard_alone_can_draw(annotator):
    annotator.frame.locator("#frame").focus()
    annotator.keys("D")  # a click in the middle
    once = annotator.state()["counts"]["1"]
    annotator.keys("Shift+D", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+D")
    assert once > 250
    assert annotator.state()["counts"]["1"] > once + 300


def test_a_pen_draws_and_two_fingers_move_the_picture(annotator):
    before = annotator.state()
    send = """([type, kind, id, x, y]) => document.getElementById("frame").dispatchEvent(new PointerEvent(type,
      { pointerType: kind, pointerId: id, clientX: x, clientY: y, button: 0, buttons: 1, bubbles: true }))"""
    x, y = annotator.at(64, 64)
    for event in ("pointerdown", "pointermove", "pointerup"):
        annotator.frame.evaluate(send, [event, "pen", 7, x, y])
    drawn = annotator.state()
    for kind, finger, dx in [
        ("pointerdown", 8, 0),
        ("pointerdown", 9, 100),
        ("pointermove", 8, 40),
        ("pointermove", 9, 140),
        ("pointerup", 8, 40),
        ("pointerup", 9, 140),
    ]:
        annotator.frame.evaluate(send, [kind, "touch", finger, x + dx, y])
    moved = annotator.state()
    assert drawn["counts"]["1"] > before["counts"].get("1", 0)
    assert moved["counts"] == drawn["counts"]
    assert moved["offset"][1] == pytest.approx(drawn["offset"][1] + 40, abs=1)


@pytest.fixture
def many_tiles(site, ana):
    """Six tiles of 64 px, two rows of three."""
    project = site.project(ana, classes=["background", "ring"], tile=64, instructions="Paint <b>rings</b> only.")
    return site.tiles(site.image(ana, project, draw_disks(128, 192, channels=3).image))


def test_dot_and_comma_go_from_tile_to_tile_and_save_on_the_way(many_tiles, site, new_page, ana):
    annotator = Annotator.open(new_page(ana), many_tiles[0])
    annotator.drag((30, 30), (30, 40))
    annotator.keys(".")
    annotator.wait(lambda state: state["ready"] and state["tile"] == many_tiles[1].id)
    assert site.annotation(ana, many_tiles[0])["rev"] == 1
    annotator.keys(",")
    assert annotator.wait(lambda state: state["ready"] and state["tile"] == many_tiles[0].id)["counts"]["1"] > 0


def test_a_tile_is_opened_by_its_number(many_tiles, new_page, ana):
    annotator = Annotator.open(new_page(ana), many_tiles[0])
    field = annotator.page.get_by_label("Tile number")
    field.fill("5")
    field.press("Enter")
    annotator.wait(lambda state: state["ready"] and state["tile"] == many_tiles[4].id)


def test_a_click_on_the_map_opens_the_tile_there(many_tiles, new_page, ana):
    annotator = Annotator.open(new_page(ana), many_tiles[0])
    whole = annotator.page.get_by_alt_text("The whole image")
    box = whole.bounding_box()
    whole.click(position={"x": box["width"] * 0.9, "y": box["height"] * 0.9})
    annotator.wait(lambda state: state["ready"] and state["tile"] == many_tiles[5].id)


def test_labels_are_copied_from_the_previous_tile(many_tiles, new_page, ana):
    annotator = Annotator.open(new_page(ana), many_tiles[0])
    annotator.drag((30, 30), (30, 40))
    painted = annotator.state()["crc32"]
    annotator.keys(".")
    annotator.wait(lambda state: state["ready"] and state["tile"] == many_tiles[1].id)
    annotator.keys("Control+d")
    assert annotator.wait(lambda state: state["undo"] == 1)["crc32"] == painted


def test_done_opens_the_next_tile_and_says_why(many_tiles, site, new_page, ana):
    annotator = Annotator.open(new_page(ana), many_tiles[0])
    annotator.drag((30, 30), (30, 40))
    annotator.keys("Control+Enter")
    annotator.page.get_by_role("button", name="The rest is background").click()
    state = annotator.wait(lambda state: state["ready"] and state["tile"] == many_tiles[1].id)
    tile = site.rest(ana).get(f"tiles/{many_tiles[0].id}").json()
    assert (tile["status"], set(tile["counts"]), state["reason"]) == ("done", {"0", "1"}, "it has no labels yet")


def test_instructions_stand_beside_the_picture_as_text(many_tiles, new_page, ana):
    annotator = Annotator.open(new_page(ana), many_tiles[0])
    assert annotator.page.locator("#instructions").inner_text() == "Paint <b>rings</b> only."


def test_only_active_time_is_recorded(many_tiles, site, new_page, ana):
    annotator = Annotator.open(new_page(ana), many_tiles[0])
    annotator.drag((30, 30), (30, 40))
    annotator.page.wait_for_timeout(500)
    annotator.drag((40, 30), (40, 40))
    annotator.keys("Control+s")
    annotator.saved()
    revisions = site.rest(ana).get(f"tiles/{many_tiles[0].id}/revisions").json()
    assert 0.4 < sum(row["seconds"] for row in revisions) < 10


def test_two_windows_of_the_same_person_show_what_was_saved_in_either(many_tiles, new_page, ana):
    page = new_page(ana)
    first = Annotator.open(page, many_tiles[0])
    second = Annotator.open(page.context.new_page(), many_tiles[0])
    first.page.bring_to_front()
    first.drag((30, 30), (30, 40))
    first.keys("Control+s")
    saved = first.saved()
    assert second.wait(lambda state: state["rev"] == saved["rev"])["crc32"] == saved["crc32"]
