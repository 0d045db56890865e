"""Acceptance checks 1, 2 and 15 on a fresh `axons up`: from the first page to a model, through a killed worker."""

import re
import shutil
import time

import pytest
from playwright.sync_api import Page, expect

from axons.app import local_ray
from tests.app.installation import install
from tests.browser.clicks import Clicks
from tests.browser.conftest import Pages
from tests.train.runs import kill, title

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

TRAINED_MS = 400_000  # a minute of training behind the one of the sample, on a busy machine


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """The platform as it is after its first start, with the sample project."""
    installation = install(tmp_path_factory.mktemp("up"))
    installation.start()
    yield installation
    installation.stop()
    shutil.rmtree(local_ray.session_folder(installation.data), ignore_errors=True)


@pytest.fixture(scope="module")
def new_page(chromium, up):
    """Opens pages of it; in none may anything go wrong."""
    pages = Pages(chromium, up.url, lambda context, actor: None)
    yield pages
    pages.close()
    assert pages.foreign == []
    assert pages.errors == []


@pytest.fixture(scope="module")
def page(up, new_page) -> Page:
    """One browser for both tests, at the first page, whose main button answers; the code of the start opens it once."""
    page: Page = new_page()
    page.goto(up.told["sign_in_link"])
    page.get_by_role("button", name="New project").click(timeout=30_000)
    expect(page.get_by_role("button", name="Create the project")).to_be_visible()
    return page


def asked(page: Page, path: str):
    answer = page.context.request.get(f"/api/v1/{path}")
    assert answer.ok, answer.text()
    return answer.json()


def start_training(page: Page) -> None:
    page.get_by_role("navigation", name="Steps of the project").get_by_role("link", name=re.compile("Train$")).click()
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**run=*")


def test_from_the_first_page_to_a_trained_model_within_6_clicks(up, page):
    clicks = Clicks(page)
    until = time.monotonic() + 300
    while asked(page, "projects:sample")["state"] != "ready":
        assert time.monotonic() < until, "the sample project is not ready"
        time.sleep(1)
    page.goto("/")
    page.get_by_role("link", name="Open my sample project").click()
    start_training(page)
    expect(page.get_by_role("img", name="Prediction after epoch")).to_be_visible(timeout=TRAINED_MS)
    page.get_by_role("link", name="See the results").click(timeout=TRAINED_MS)
    expect(page.get_by_text("Mean IoU").first).to_be_visible(timeout=30_000)
    picture = page.get_by_role("img", name="Prediction of").first
    picture.scroll_into_view_if_needed()
    expect(picture).not_to_have_js_property("naturalWidth", 0)
    run = max(asked(page, "runs")["items"], key=lambda run: run["number"])
    assert run["evaluation"]["splits"]["val"]["mean_iou"] >= 0.6
    assert 0 < clicks.count <= 6


def test_a_killed_worker_is_told_and_the_training_ends_by_itself(up, page):
    page.goto("/")
    page.get_by_role("link", name="Open my sample project").click()
    start_training(page)
    expect(page.get_by_role("img", name="Prediction after epoch")).to_be_visible(timeout=TRAINED_MS)
    for worker in [found for found in up.processes() if "RayTrainWorker" in title(found)]:
        kill(worker)
    expect(page.get_by_text("Restarted from epoch").first).to_be_visible(timeout=120_000)
    expect(page.get_by_role("link", name="See the results")).to_be_visible(timeout=TRAINED_MS)
