"""The annotator's page: its keys and its view, alone and in the frame; names are text; when a tile is done."""

import json
import re

import numpy as np
import pytest
from playwright.sync_api import expect

from axons.data.layers import training_mask
from tests.browser.annotating import Annotator
from tests.browser.conftest import both_addresses
from tests.browser.site import STATIC

OPENED = pytest.mark.parametrize("open_tile", [Annotator.open, Annotator.open_in_frame], ids=["page", "frame"])
# Keys of section 1.2 of the annotator's design, as the sheet writes them.
PROMISED = {
    *"BEPFWSXILHOGYU",
    *"0[]+-,.?",
    *("Alt", "Space", "Wheel", "Home", "Enter", "Esc", "Backspace", "Delete", "Shift+click", "Shift+drag", "Shift+Y"),
    *("Ctrl+Z", "Ctrl+Shift+Z", "Ctrl+Y", "Ctrl+S", "Ctrl+D", "Ctrl+Enter"),
}
FRENCH = json.loads((STATIC / "screens/french.json").read_text())
ENGLISH = set(FRENCH) - set(FRENCH.values())
SAID = """() => {
  const said = [...document.querySelectorAll("[title], [aria-label], [alt], [placeholder]")].flatMap(
    (element) => ["title", "aria-label", "alt", "placeholder"].map((name) => element.getAttribute(name)));
  const texts = document.createTreeWalker(document, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) if (!texts.currentNode.parentElement.closest("kbd")) said.push(texts.currentNode.data);
  return said.map((text) => text?.trim()).filter(Boolean);
}"""
HOSTILE = [
    "${7*6}",
    "{{7*6}}",
    "<img src=x onerror='window.hacked = true'>",
    "<script>window.hacked = true</script>",
    "\"><svg onload='window.hacked = true'>",
    "javascript:window.hacked=true",
    "&lt;b&gt;",
]


@pytest.fixture
def tile(site, ana):
    return site.tile(ana)


def image_place(annotator, x, y):
    """Where in the image a place of the window is: (row, column)."""
    state, box = annotator.state(), annotator.frame.locator("#frame").bounding_box()
    row, col = (y - box["y"] - state["offset"][0]) / state["zoom"], (x - box["x"] - state["offset"][1]) / state["zoom"]
    return np.array([row, col])


def scrolled(annotator):
    """How far the page and the page around it have scrolled."""
    ask = "[scrollX, scrollY, document.scrollingElement.scrollTop]"
    return annotator.frame.evaluate(ask) + annotator.page.evaluate(ask)


@both_addresses
def test_the_keys_work_in_the_frame_before_anybody_clicks_in_it(new_page, ana, tile):
    annotator = Annotator.open_in_frame(new_page(ana), tile)
    annotator.keys("e", "3")
    assert annotator.wait(lambda state: state["tool"] == "eraser")["class"] == 3
    assert annotator.page.title() == "Annotate · Axons"


def test_the_frame_follows_from_tile_to_tile(site, new_page, ana):
    project = site.project(ana, tile=64)
    first, second = site.tiles(site.image(ana, project, np.zeros((64, 128, 3), np.uint8)))
    annotator = Annotator.open_in_frame(new_page(ana), first)
    annotator.keys(".")
    annotator.wait(lambda state: state["ready"] and state["tile"] == second.id)
    annotator.page.wait_for_url(f"**/annotate?tile={second.id}")
    whole = annotator.page.get_by_role("link", name="Full window")
    expect(whole).to_have_attribute("href", f"/annotate/{second.id}")
    whole.click()
    annotator.page.wait_for_url(f"**/annotate/{second.id}")


@OPENED
def test_the_wheel_zooms_at_the_pointer(new_page, ana, tile, open_tile):
    annotator = open_tile(new_page(ana), tile)
    check_zoom(annotator)


def test_the_wheel_zooms_at_the_pointer_where_something_stands_above_the_page(new_page, ana, tile):
    annotator = Annotator.open(new_page(ana), tile)
    annotator.page.evaluate("document.body.style.cssText = 'margin-top: 120px; height: calc(100% - 120px)'")
    annotator.page.wait_for_timeout(100)
    check_zoom(annotator)


def check_zoom(annotator):
    x, y = np.rint(annotator.at(40, 90))  # what the wheel tells of its place is whole
    before, zoom = image_place(annotator, x, y), annotator.state()["zoom"]
    annotator.page.mouse.move(x, y)
    for _ in range(10):
        annotator.page.mouse.wheel(0, -60)
    after = annotator.wait(lambda state: state["zoom"] > 2 * zoom)
    assert np.abs(image_place(annotator, x, y) - before).max() * after["zoom"] < 0.5
    assert scrolled(annotator) == [0] * 6


@OPENED
@pytest.mark.parametrize("by", ["space", "middle"])
def test_the_picture_is_moved_with_space_or_the_middle_button(new_page, ana, tile, open_tile, by):
    annotator = open_tile(new_page(ana), tile)
    before, (x, y) = annotator.state(), annotator.at(64, 64)
    mouse, keyboard = annotator.page.mouse, annotator.page.keyboard
    button = "middle" if by == "middle" else "left"
    if by == "space":
        keyboard.down(" ")
    mouse.move(x, y)
    mouse.down(button=button)
    mouse.move(x + 50, y + 30, steps=3)
    mouse.up(button=button)
    keyboard.up(" ")
    after = annotator.state()
    assert np.allclose(np.subtract(after["offset"], before["offset"]), [30, 50], atol=0.01)
    assert (after["undo"], scrolled(annotator)) == (0, [0] * 6)


@OPENED
def test_keys_are_letters_while_one_types_and_tools_after_a_click_on_the_picture(new_page, ana, tile, open_tile):
    annotator = open_tile(new_page(ana), tile)
    annotator.keys("e", "2")
    field = annotator.frame.get_by_label("New class")
    field.click()
    field.press_sequentially("b e p 1")
    typed = annotator.state()
    assert (field.input_value(), typed["tool"], typed["class"]) == ("b e p 1", "eraser", 2)
    annotator.click((64, 64))
    annotator.keys("b", "e", "p", "1")
    clicked = annotator.state()
    assert (clicked["tool"], clicked["class"]) == ("polygon", 1)


def test_the_sheet_tells_every_key_and_can_be_searched(new_page, ana, tile):
    annotator = Annotator.open(new_page(ana), tile)
    annotator.keys("?")
    sheet = annotator.page.get_by_role("dialog", name="Keys")
    expect(sheet).to_be_visible()
    bound = annotator.page.evaluate(
        """() => import(document.querySelector("link[href$='/keys.js']").href)
        .then(({ KEYS, HELD }) => [...KEYS, ...HELD].map(([, keys]) => keys))"""
    )
    shown = sheet.locator("kbd").all_inner_texts()
    assert shown == bound
    told = {word for keys in shown for word in keys.split()} | set(shown)
    assert told >= PROMISED
    sheet.get_by_label("Search the keys").fill("protect")
    expect(sheet.locator("tr:visible")).to_have_count(1)


def test_names_are_text_wherever_the_annotator_shows_them(site, new_page, ana):
    project = site.project(
        ana, name=HOSTILE[2], classes=["background", *HOSTILE], tile=128, instructions="\n".join(HOSTILE)
    )
    (tile,) = site.tiles(site.image(ana, project, np.zeros((128, 128, 3), np.uint8), name="img onerror=1.png"))
    annotator = Annotator.open(new_page(ana), tile)
    for number in range(1, len(HOSTILE) + 1):
        annotator.keys(str(number))
        annotator.drag((16 * number, 20), (16 * number, 60))
    annotator.keys("?")
    shown = annotator.page.locator(".class .name").all_inner_texts()
    assert shown[:-1] == ["background", *HOSTILE]  # the last is what is ignored
    assert annotator.page.locator("#title").inner_text().startswith(HOSTILE[2])
    assert annotator.page.locator("#fill-value option").all_inner_texts()[1:-1] == HOSTILE
    assert annotator.page.locator("#instructions").inner_text().splitlines() == HOSTILE
    assert annotator.page.evaluate("window.hacked") is None
    assert annotator.page.locator("img[src=x], svg, body script").count() == 0


def test_filling_what_is_unlabelled_is_one_step(new_page, ana, tile):
    annotator = Annotator.open(new_page(ana), tile)
    annotator.drag((40, 30), (72, 94))
    drawn = annotator.state()
    annotator.page.get_by_label("Fill unlabelled").select_option("background")
    annotator.page.get_by_role("button", name="Fill", exact=True).click()
    filled = annotator.state()
    assert filled["counts"] == {"0": drawn["counts"]["255"], "1": drawn["counts"]["1"]}
    annotator.keys("Control+z")
    assert annotator.state()["crc32"] == drawn["crc32"]


def test_training_sees_ignored_and_unlabelled_pixels_as_the_same(site, new_page, ana, tile):
    annotator = Annotator.open(new_page(ana), tile)
    annotator.keys("2")
    annotator.drag((40, 30), (40, 94))
    annotator.keys("n")
    annotator.drag((90, 30), (90, 94))
    state = annotator.saved()
    mask = training_mask(site.plane(ana, tile))
    assert set(np.unique(mask)) == {2, 255}
    assert np.sum(mask == 255) == state["counts"]["254"] + state["counts"]["255"]


def test_a_tile_is_done_once_one_has_said_what_the_rest_is_and_then_only_read(site, new_page, ana, teacher, tile):
    annotator = Annotator.open(new_page(ana), tile)
    page = annotator.page
    annotator.drag((40, 30), (72, 94))
    page.get_by_role("button", name="Done, next").click()
    asked = page.get_by_role("dialog", name=re.compile("of the tile is unlabelled"))
    asked.get_by_role("button", name="Go on labelling").click()
    assert annotator.state()["status"] != "done"
    annotator.keys("Control+Enter")
    page.get_by_role("button", name="Leave it unlabelled").click()
    done = annotator.wait(lambda state: state["status"] == "done")
    annotator.drag((90, 30), (90, 94))
    annotator.keys("Control+z")
    assert (annotator.state()["crc32"], annotator.state()["readOnly"]) == (done["crc32"], True)
    page.get_by_role("button", name="Reopen").first.click()
    annotator.wait(lambda state: not state["readOnly"])
    annotator.drag((90, 30), (90, 94))
    assert annotator.saved()["crc32"] == site.annotation(ana, tile)["crc32"] != done["crc32"]
    assert "tile.reopen" in audited(site)


def audited(site):
    admin = site.user("admin", "administrator")
    return [row["action"] for row in site.rest(admin).get("audit").json()["items"]]


def test_who_speaks_french_sees_no_english(new_page, ana, tile):
    annotator = Annotator.open_in_frame(new_page(ana, locale="fr-FR"), tile)
    said = annotator.frame.evaluate(SAID)
    annotator.drag((20, 20), (60, 60))
    annotator.saved()
    expect(annotator.frame.locator("#save")).to_contain_text("Enregistré à ")
    for name in ("Touches", "Historique"):
        annotator.frame.get_by_role("button", name=name).click()
        sheet = annotator.frame.get_by_role("dialog", name=name)
        expect(sheet.locator("tbody")).to_contain_text({"Touches": "Gomme", "Historique": "à la main"}[name])
        said += annotator.frame.evaluate(SAID)
        annotator.keys("Escape")
    names_of_classes = {"background"}
    assert ENGLISH.intersection(said) - names_of_classes == set()
    assert {"Pinceau", "Suggérer", "sur 1"} <= set(said)
