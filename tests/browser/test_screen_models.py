"""The gallery of models: to search, try, promote, share, take along and bring."""

from functools import partial

import pytest
from playwright.sync_api import expect

from tests.app.trainings import add_model
from tests.serve.models import make_model


@pytest.fixture
def project(site, ana):
    return site.project(ana, name="nerve")


@pytest.fixture
def models(site, ana, project):
    make_model(site.platform.uri("models/random"))
    scores = (0.8, 0.9, 0.2)
    add = partial(add_model, site.platform, ana, project, "models/random")
    return [add(version=version, mean_iou=score) for version, score in enumerate(scores, 1)]


def opened(page, address="/models"):
    page.goto(address)
    page.locator("axons-screen[data-ready]").wait_for()
    return page


def version(page, number):
    return page.locator(".version").filter(has=page.get_by_role("heading", name=f"random · version {number}"))


def test_a_version_is_promoted_and_rolled_back(ana, models, new_page):
    page = opened(new_page(ana))
    page.get_by_text("Other versions: 2").click()
    version(page, 2).get_by_text("Promote, share, delete").click()
    version(page, 2).get_by_role("button", name="Promote").click()
    expect(page.locator(".version").first).to_contain_text("random · version 2")
    expect(page.locator(".version").first).to_contain_text("promoted")
    version(page, 2).get_by_text("Promote, share, delete").click()
    version(page, 2).get_by_role("button", name="Roll back").click()
    expect(page.locator(".version").first).to_contain_text("random · version 1")


def test_a_student_cannot_promote_below_the_threshold(ana, models, new_page):
    page = opened(new_page(ana))
    version(page, 3).get_by_text("Promote, share, delete").click()
    expect(version(page, 3).get_by_role("button", name="Promote")).to_be_disabled()
    expect(version(page, 3)).to_contain_text("only an educator promotes it")


def test_what_is_shared_is_seen_and_tried_by_others_who_change_nothing(site, ana, ben, models, new_page):
    page = opened(new_page(ana))
    version(page, 3).get_by_text("Promote, share, delete").click()
    page.get_by_label("Who may use it").first.select_option("everyone")
    version(page, 3).get_by_role("button", name="Share").click()
    expect(version(page, 3)).to_contain_text("shared with everyone")
    own = site.project(ben, name="own")
    other = opened(new_page(ben))
    expect(other.locator(".version")).to_have_count(1)
    expect(other.get_by_text("Promote, share, delete")).to_have_count(0)
    other.get_by_role("link", name="Try random, version 3").click()
    other.get_by_role("link", name="own").click()
    other.wait_for_url(f"**/predict?project={own.id}&model={models[2].id}")


def test_the_search_stands_in_the_address_and_no_card_field_is_empty(ana, models, new_page):
    page = opened(new_page(ana), "/models?search=ring")
    expect(page.locator(".models > li")).to_have_count(1)
    page.get_by_text("Model card").first.click()
    assert all(text.strip() for text in page.locator(".facts").first.locator("dd").all_inner_texts())
    page.get_by_label("Search by name").fill("nothing")
    expect(page.get_by_text("No model is called like this.")).to_be_visible()
    assert "search=nothing" in page.url


def test_a_model_is_asked_for_as_onnx_and_a_package_needs_authors_and_a_licence(ana, models, new_page):
    page = opened(new_page(ana))
    card = page.locator(".version").first
    card.get_by_text("Use it in other programs").click()
    expect(card.locator("input[name=authors]")).to_have_value("ana")
    card.locator("select[name=format]").select_option("bioimageio")
    expect(card.locator("input[name=authors]")).to_have_attribute("required", "")
    expect(card.locator("select[name=licence]")).to_have_attribute("required", "")
    card.locator("select[name=format]").select_option("onnx")
    card.get_by_role("button", name="Make the file").click()
    expect(card.locator(".exported")).to_contain_text("waiting")


def test_weights_are_imported_with_their_card(site, ana, project, tmp_path, new_page):
    folder = tmp_path / "own"
    make_model(folder, seed=5)
    name = "<b>brought</b>"
    page = opened(new_page(ana))
    page.get_by_text("Import a file").click()
    page.get_by_label("Weights (.safetensors)").set_input_files(folder / "model.safetensors")
    page.get_by_label("Card (model.json)").set_input_files(folder / "model.json")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("heading", name=f"{name} · version 1")).to_be_visible()
    expect(page.locator(".version").first).to_contain_text("Not scored yet")


def test_a_deleted_version_is_gone(site, ana, models, new_page):
    page = opened(new_page(ana))
    version(page, 3).get_by_text("Promote, share, delete").click()
    version(page, 3).get_by_role("button", name="Delete").click()
    version(page, 3).get_by_role("button", name="Really delete").click()
    expect(page.get_by_text("in the trash")).to_be_visible()
    assert {row["version"] for row in site.rest(ana).get("models").json()["items"]} == {1, 2}
