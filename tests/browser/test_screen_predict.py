"""New images become masks, areas and files; the lines for pasting work."""

import csv
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from playwright.sync_api import expect

from axons.app.tables import ProjectMember
from tests.app.images import png
from tests.app.test_predictions import segment_here
from tests.app.trainings import add_model
from tests.drawing import draw_disks
from tests.serve.models import make_model

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(site, ana):
    site.scope["axons.segment"] = segment_here
    return site.project(ana, name="nerve")


@pytest.fixture
def model(site, ana, project):
    make_model(site.platform.uri("models/random"))
    return add_model(site.platform, ana, project, "models/random", is_promoted=True)


@pytest.fixture
def pixels():
    return draw_disks(100, 150, channels=1).image


def opened(page, address):
    page.goto(address)
    page.locator("axons-screen[data-ready]").wait_for()
    return page


def test_new_images_become_masks_whose_areas_are_counted(site, ana, project, model, pixels, new_page):
    name = "<img src=x onerror=alert(1)>.png"
    page = opened(new_page(ana, allowed=["422"]), f"/predict?project={project.id}")
    files = [{"name": found, "mimeType": "image/png", "buffer": png(pixels)} for found in ("a.png", name)]
    page.get_by_label("New images: drop").set_input_files(
        [*files, {**files[0], "name": "bad.png", "buffer": b"no image"}]
    )
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible(timeout=30_000)
    expect(page.get_by_text("bad.png:")).to_be_visible()
    shown = [int(text.replace(",", "")) for text in page.locator("table.numbers td:nth-child(2)").all_inner_texts()]
    prediction = re.search("prediction=([^&]+)", page.url).group(1)
    mask = site.rest(ana).get(f"predictions/{prediction}/mask").content
    counts = np.bincount(np.asarray(Picture.open(io.BytesIO(mask))).reshape(-1), minlength=3).tolist()
    with page.expect_download() as download:
        page.get_by_role("link", name="Areas (CSV)").click()
    rows = csv.DictReader(download.value.path().read_text().splitlines())
    assert counts == shown == [int(row["pixels"]) for row in rows]
    expect(page.get_by_role("link", name="Download as ZIP: 2")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def test_the_mask_is_compared_and_its_opacity_set_by_keys(site, ana, project, model, pixels, new_page):
    image = site.image(ana, project, pixels)
    made = site.rest(ana).post(f"models/{model.id}/predict", json={"image_ids": [image.id]}).json()["predictions"][0]
    page = opened(new_page(ana), f"/predict?project={project.id}&prediction={made['id']}")
    above = page.get_by_alt_text("the mask of its classes")
    page.get_by_label("Opacity of the mask").press("End")
    page.get_by_label("Before ↔ after").press("End")
    assert above.evaluate("found => [found.style.opacity, found.style.clipPath, found.naturalWidth]") == [
        "1",
        "inset(0px 0px 0px 100%)",
        150,
    ]


def test_images_of_the_project_are_a_job_that_can_be_stopped(site, ana, project, model, pixels, new_page):
    for name in ("a.png", "b.png"):
        site.image(ana, project, pixels if name == "a.png" else pixels[:, ::-1], name=name)
    page = opened(new_page(ana), f"/predict?project={project.id}")
    page.get_by_text("Images of the project: 2").click()
    page.get_by_label("a.png").check()
    page.get_by_label("b.png").check()
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".job")).to_contain_text("waiting")
    page.reload()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".job")).to_contain_text("stopped")
    expect(page.get_by_text("failed: ").first).to_be_visible()


def test_the_shown_curl_line_runs(site, ana, project, model, pixels, tmp_path, new_page):
    page = opened(new_page(ana), f"/predict?project={project.id}&scale=0.5")
    page.get_by_text("Predict from your own programs").click()
    line = page.locator("pre", has_text="curl").inner_text()
    token = site.rest(ana).post("auth/tokens", json={"name": "lines"}).json()["token"]
    (tmp_path / "image.png").write_bytes(png(pixels))
    subprocess.run(shlex.split(line.replace("TOKEN", token)), cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with Picture.open(tmp_path / "mask.png") as mask:
        assert (mask.size, mask.mode) == ((150, 100), "P")


def test_the_shown_python_lines_run(site, ana, project, model, pixels, tmp_path, new_page):
    page = opened(new_page(ana), f"/predict?project={project.id}")
    page.get_by_text("Predict from your own programs").click()
    lines = page.locator("pre", has_text="axons.client").inner_text()
    token = site.rest(ana).post("auth/tokens", json={"name": "lines"}).json()["token"]
    (tmp_path / "image.png").write_bytes(png(pixels))
    program = [sys.executable, "-c", lines.replace("TOKEN", token)]
    subprocess.run(program, cwd=tmp_path, check=True, capture_output=True, timeout=60, env={"PYTHONPATH": str(ROOT)})
    with Picture.open(tmp_path / "mask.png") as mask:
        assert mask.size == (150, 100)


def test_who_only_looks_sees_results_and_no_run(site, ana, ben, project, model, pixels, new_page):
    image = site.image(ana, project, pixels)
    site.rest(ana).post(f"models/{model.id}/predict", json={"image_ids": [image.id]})
    member = ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer")
    site.platform.database.write(lambda session: session.add(member))
    page = opened(new_page(ben), f"/predict?project={project.id}&whose=all")
    page.get_by_role("link", name="a.png").click()
    expect(page.get_by_alt_text("a.png, the image")).to_be_visible()
    expect(page.get_by_role("button", name="Run")).to_have_count(0)
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)


def test_a_prediction_becomes_labels_and_is_looked_at_closely(site, ana, project, model, pixels, new_page):
    image = site.image(ana, project, pixels)
    made = site.rest(ana).post(f"models/{model.id}/predict", json={"image_ids": [image.id]}).json()["predictions"][0]
    page = opened(new_page(ana), f"/predict?project={project.id}&prediction={made['id']}")
    page.get_by_role("button", name="Use as labels").click()
    page.get_by_role("dialog").get_by_role("button", name="Use as labels").click()
    tiles = site.tiles(image)
    expect(page.get_by_text(f"Tiles that have these labels now: {len(tiles)}.")).to_be_visible()
    predicted = np.asarray(Picture.open(io.BytesIO(site.rest(ana).get(f"predictions/{made['id']}/mask").content)))
    first = tiles[0]
    assert np.array_equal(site.plane(ana, first), predicted[: first.height, : first.width])
    with page.expect_response(lambda answer: f"/images/{image.id}/pyramid/" in answer.url and answer.ok):
        page.get_by_role("button", name="Look closely").click()
    viewer = page.get_by_role("dialog", name="a.png")
    viewer.get_by_label("Prediction").press("End")
    viewer.get_by_role("button", name="Zoom in").click()
    viewer.get_by_role("button", name="Close").click()
    expect(viewer).to_have_count(0)
