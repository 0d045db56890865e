"""The browser of the tests: it reaches our server, and nothing else, and tells what goes wrong."""

import numpy as np
import pytest
from playwright.sync_api import Error

from tests.browser.conftest import both_addresses


@both_addresses
def test_who_is_signed_in_sees_a_page_and_reads_a_tile(site, ana, new_page):
    tile = site.tile(ana, height=100, width=150)
    page = new_page(ana)
    page.goto("/api/docs")
    read = page.evaluate("id => fetch(`/api/v1/tiles/${id}`).then(answer => answer.json())", tile.id)
    assert (read["height"], read["width"]) == (100, 150)


def test_what_is_saved_can_be_read_back(site, ana):
    tile = site.tile(ana, height=100, width=150)
    plane = np.full((100, 150), 255, np.uint8)
    plane[10:20, 30:60] = 2
    assert site.save(ana, tile, plane) == site.annotation(ana, tile)["rev"] == 1
    assert np.array_equal(site.plane(ana, tile), plane)


def test_a_stranger_is_sent_to_the_sign_in(site, new_page):
    page = new_page()
    page.goto("/")
    assert page.url.startswith(f"{site.url}/login")


def test_no_other_server_is_reached(new_page):
    page = new_page(allowed=["net::ERR_FAILED", "Content Security Policy"])
    page.goto("/login")
    with pytest.raises(Error, match="ERR_FAILED"):
        page.goto("http://example.org/")
    assert new_page.foreign == ["http://example.org/"]
    new_page.foreign.clear()


def test_what_goes_wrong_in_a_page_is_noted(new_page):
    page = new_page()
    page.goto("/login")
    page.evaluate("setTimeout(() => { throw new Error('a trap'); }); console.error('a fault')")
    page.wait_for_timeout(50)
    assert sorted(new_page.errors) == ["a fault ()", "a trap"]
    new_page.errors.clear()


def test_the_static_files_are_served_as_scripts(modules):
    kind = modules.evaluate("fetch('/static/docs.js').then(answer => answer.headers.get('content-type'))")
    assert kind == "text/javascript"
