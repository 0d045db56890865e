"""How fast the annotator is, and what it costs the browser; figures are for a machine of its own."""

import time
import uuid

import numpy as np
import pytest

from axons.data.layers import Annotation, PolygonLayer, to_json
from tests.browser.annotating import Annotator
from tests.drawing import draw_disks

NUM_POLYGONS = 1000
OPEN_S = 2
FRAME_MS = 33
DAB_MS = 20
GROWTH_BYTES = 50 << 20


def many_polygons(side):
    """Twelve-sided shapes of about 15 px all over a tile."""
    rng = np.random.default_rng(5)
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    rings = [
        rng.uniform(16, side - 16, 2) + rng.uniform(5, 10, 12)[:, None] * np.stack([np.sin(angles), np.cos(angles)], 1)
        for _ in range(NUM_POLYGONS)
    ]
    layers = tuple(
        PolygonLayer(value=1 + i % 3, rings=(np.rint(16 * ring).astype(int),)) for i, ring in enumerate(rings)
    )
    return Annotation(height=side, width=side, layers=layers)


@pytest.fixture
def full_tile(site, ana):
    """1024 x 1024 px with 1,000 polygons."""
    tile = site.tile(ana, draw_disks(1024, 1024, channels=3).image)
    answer = site.rest(ana).put(
        f"tiles/{tile.id}/annotation",
        json=to_json(many_polygons(1024)),
        params={"save_id": uuid.uuid4().hex},
        headers={"if-match": '"0"'},
    )
    assert answer.status_code == 200, answer.text
    return tile


def test_a_tile_with_1000_polygons_can_be_labelled_and_moved(site, new_page, ana, full_tile):
    annotator = Annotator.open(new_page(ana), full_tile)
    before = annotator.state()
    annotator.drag((500, 400), (500, 600))
    pan(annotator, 5)
    after = annotator.saved()
    assert (before["layers"], after["layers"], after["undo"]) == (NUM_POLYGONS, NUM_POLYGONS + 1, 1)
    assert site.annotation(ana, full_tile)["crc32"] == after["crc32"] != before["crc32"]


@pytest.mark.long
def test_a_tile_with_1000_polygons_is_labelled_and_moved_fluently(new_page, ana, full_tile, record_property):
    page = new_page(ana)
    Annotator.open(page, full_tile)
    start = time.perf_counter()
    annotator = Annotator.open(page, full_tile)
    opened_s = time.perf_counter() - start
    annotator.keys("v")  # outlines of all polygons
    page.evaluate(
        """() => {
            window.times = [];
            const note = (time) => { window.times.push(time); requestAnimationFrame(note); };
            requestAnimationFrame(note);
        }"""
    )
    pan(annotator, 120)
    frames = np.diff(page.evaluate("window.times"))
    annotator.keys("b")
    for row in range(100, 900, 100):
        annotator.drag((row, 100), (row, 900), steps=20)
    dabs = annotator.state()["dabTimes"]
    figures = {
        "opened, s": round(opened_s, 2),
        "pan frame p95, ms": round(float(np.percentile(frames, 95)), 1),
        "dab to paint p95, ms": round(float(np.percentile(dabs, 95)), 1),
    }
    for name, figure in figures.items():
        record_property(name, figure)
    assert np.all(np.array([*figures.values()]) < [OPEN_S, FRAME_MS, DAB_MS]), figures


def pan(annotator, num_moves):
    """To and fro with the middle button."""
    x, y = annotator.at(512, 512)
    mouse = annotator.page.mouse
    mouse.move(x, y)
    mouse.down(button="middle")
    for move in range(num_moves):
        mouse.move(x + 60 * np.sin(move / 5), y + 40 * np.cos(move / 5))
    mouse.up(button="middle")


@pytest.mark.parametrize("num_tiles", [12, pytest.param(50, marks=pytest.mark.long)])
def test_going_through_many_tiles_leaves_nothing_behind(site, new_page, ana, num_tiles, record_property):
    project = site.project(ana, tile=128)
    tiles = site.tiles(site.image(ana, project, draw_disks(128, 128 * (num_tiles + 3), channels=3).image))
    page = new_page(ana)
    annotator = Annotator.open(page, tiles[0])
    browser = page.context.new_cdp_session(page)
    browser.send("Performance.enable")
    for tile in tiles[1:3]:
        go_on(annotator, tile)
    before = measure(browser)
    for tile in tiles[3:]:
        go_on(annotator, tile)
    after = measure(browser)
    record_property(f"heap after {num_tiles} tiles, MB more", round((after["heap"] - before["heap"]) / 2**20, 1))
    assert after["heap"] - before["heap"] < GROWTH_BYTES
    assert (after["listeners"], after["documents"]) == (before["listeners"], before["documents"])


def go_on(annotator, tile):
    """Draw a little, and open the next tile, which saves."""
    annotator.drag((30, 30), (90, 90))
    annotator.keys(".")
    annotator.wait(lambda state: state["ready"] and state["tile"] == tile.id)


def measure(browser):
    """What is there once nothing more can be collected."""
    seen = None
    while seen != (seen := collected(browser)):
        pass
    return seen


def collected(browser):
    browser.send("HeapProfiler.collectGarbage")
    told = {row["name"]: row["value"] for row in browser.send("Performance.getMetrics")["metrics"]}
    return {
        "heap": told["JSHeapUsedSize"] >> 20 << 20,
        "listeners": told["JSEventListeners"],
        "documents": told["Documents"],
    }
