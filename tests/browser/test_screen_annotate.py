"""The screen Annotate: the gallery, its filter and the way to the next tile and back."""

import numpy as np
from playwright.sync_api import Page, expect

from axons.app.tables import Tile


def opened(page: Page, tile: Tile, **query: str) -> Page:
    """The screen of the tile's project."""
    page.goto(
        "/annotate?" + "&".join(f"{name}={value}" for name, value in {"project": tile.project_id, **query}.items())
    )
    page.locator("axons-screen[data-ready]").wait_for()
    return page


def test_the_next_tile_opens_and_the_way_back_keeps_the_filter(site, ana, new_page):
    tile = site.tile(ana)
    page = opened(new_page(ana), tile, status="unlabelled")
    expect(page.get_by_text("Why this one: it has no labels yet")).to_be_visible()
    page.get_by_role("link", name="Annotate the next tile").click()
    expect(page.get_by_title("Annotator")).to_have_attribute("src", f"/annotate/{tile.id}")
    page.get_by_role("link", name="All tiles").click()
    expect(page.get_by_label("Status")).to_have_value("unlabelled")
    expect(page.get_by_role("link", name="row 0, column 0")).to_be_visible()


def test_the_gallery_says_which_classes_a_tile_has_and_filters(site, ana, new_page):
    tile = site.tile(ana)
    plane = np.zeros((128, 128), np.uint8)
    plane[:32] = 1
    site.save(ana, tile, plane)
    page = opened(new_page(ana), tile)
    expect(page.get_by_role("img", name="background 75 %, ring 25 %")).to_be_visible()
    page.get_by_label("Status").select_option("done")
    expect(page.get_by_text("No tile is like that")).to_be_visible()
