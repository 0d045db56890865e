"""The screens of Gradio: they work behind our door, offline, with our own elements in them."""

from playwright.sync_api import expect

from tests.browser.conftest import both_addresses


@both_addresses
def test_from_the_projects_one_gets_to_a_tile_in_its_frame(site, ana, new_page):
    tile = site.tile(ana, name="nerve")
    page = new_page(ana)
    page.goto("/")
    page.get_by_role("link", name="nerve").click()
    page.get_by_role("link", name="row 0, column 0").click()
    page.wait_for_url(f"**/annotate?tile={tile.id}")
    expect(page.get_by_title("Annotator")).to_have_attribute("src", f"/annotate/{tile.id}")
    expect(page.get_by_role("link", name="Full window")).to_have_attribute("href", f"/annotate/{tile.id}")


def test_names_of_projects_are_text(site, ana, new_page):
    name = "${7*6} <img src=x onerror=alert(1)>"
    site.tile(ana, name=name)
    page = new_page(ana)
    page.goto("/")
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def test_without_a_tile_one_is_told(new_page, ana):
    page = new_page(ana)
    page.goto("/annotate")
    expect(page.get_by_text("No tile is chosen")).to_be_visible()
