"""Acceptance checks 8, 11 to 14, 17: label a tile; repair what leaks; watch, leave, resume a training; predict."""

import csv
import io
import threading
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image as Picture
from playwright.sync_api import Page, expect

from axons.app.jobs.dispatcher import Dispatcher
from axons.serve.predictor import load_predictor, segment
from axons.train.run import RunFolder, RunMetrics, Status
from tests.app.images import png
from tests.app.trainings import ThreadCluster, add_model, add_project, add_training_set, epoch, write_model
from tests.browser.annotating import Annotator
from tests.browser.clicks import Clicks
from tests.drawing import draw_disks
from tests.serve.models import CPU, make_model

EPOCHS = 8


def opened(page: Page, path: str) -> Page:
    page.goto(path)
    page.locator("axons-screen[data-ready]").wait_for()
    return page


# -- 8: label a tile --------------------------------------------------------------------------------------------------


def test_a_tile_is_labelled_saved_and_reopened_the_same_within_4_clicks(site, ana, new_page):
    project = site.project(ana, tile=128, classes=["background", "ring", "core"])
    first, second = site.tiles(site.image(ana, project, draw_disks(128, 256, channels=3).image))
    page = new_page(ana)
    clicks = Clicks(page)
    opened(page, f"/annotate?project={project.id}")
    page.get_by_role("link", name="Annotate the next tile").click()
    annotator = Annotator(page, page.locator("iframe").element_handle().content_frame())
    annotator.wait(lambda state: state["ready"] and state["tile"] == first.id)
    annotator.keys("2")
    annotator.drag((40, 30), (40, 94))
    brushed = annotator.state()["crc32"]
    annotator.keys("e")
    annotator.drag((20, 60), (60, 60))
    erased = annotator.state()["crc32"]
    annotator.keys("Control+z")
    assert annotator.state()["crc32"] == brushed
    annotator.keys("Control+Shift+z")
    assert annotator.state()["crc32"] == erased
    annotator.keys(".")  # save, and the next
    annotator.wait(lambda state: state["ready"] and state["tile"] == second.id)
    annotator.keys(",")
    reopened = annotator.wait(lambda state: state["ready"] and state["tile"] == first.id)
    assert (reopened["crc32"], set(reopened["counts"])) == (erased, {"2", "255"})
    assert site.annotation(ana, first)["crc32"] == erased
    assert clicks.count == 1


# -- 11: repair what leaks --------------------------------------------------------------------------------------------


def test_a_copy_in_another_split_that_was_recompressed_is_told_and_repaired_within_3_clicks(site, ana, new_page):
    project = site.project(ana, tile=256)
    pixels, other = (draw_disks(200, 240, seed=seed, channels=3).image for seed in (1, 2))
    recompressed = io.BytesIO()
    Picture.fromarray(pixels).save(recompressed, "JPEG", quality=70)
    copy = np.asarray(Picture.open(recompressed))
    rest = site.rest(ana)
    images = {}
    for name, found, split in (("a.png", pixels, "train"), ("copy.png", copy, "val"), ("b.png", other, "test")):
        images[name] = site.image(ana, project, found, name=name)
        rest.patch(f"images/{images[name].id}", json={"split": split}).raise_for_status()
        (tile,) = site.tiles(images[name])
        site.save(ana, tile, draw_disks(200, 240).mask)
    page = new_page(ana)
    clicks = Clicks(page)
    opened(page, f"/dataset?project={project.id}")
    expect(page.get_by_role("alert")).to_contain_text("look alike in two splits: 1")
    page.get_by_role("button", name="Repair").click()
    expect(page.get_by_text("Nothing leaks")).to_be_visible()
    splits = {name: rest.get(f"images/{found.id}").json()["split"] for name, found in images.items()}
    assert splits["a.png"] == splits["copy.png"] != splits["b.png"]
    assert clicks.count == 1


# -- 12 to 14: watch a training ---------------------------------------------------------------------------------------


class Lesson:
    """A training of `EPOCHS` epochs that is played: it learns as many as it is let, and obeys whoever stops it."""

    def __init__(self) -> None:
        self._may_learn = threading.Semaphore(0)

    def go_on(self, epochs: int) -> None:
        self._may_learn.release(epochs)

    def __call__(self, run_uri: str) -> None:
        """What a training does to its folder; a later attempt goes on where the one before has stopped."""
        folder = RunFolder(run_uri)
        attempt, known = folder.begin_attempt(), folder.metrics()
        rows = known.epochs if known else []
        while True:
            told = {"attempt": attempt, "epoch": len(rows), "seconds": float(len(rows)), "device": "CPU, 2 threads"}
            left = {"progress": len(rows) / EPOCHS, "seconds_left": 30.0 * (EPOCHS - len(rows))}
            folder.write_status(Status(state="running", **told, **left))
            while not self._may_learn.acquire(timeout=0.05):
                if folder.stop_requested():
                    stopped = {"is_stopped": True, "best_epoch": len(rows), "model": f"model-epoch-{len(rows):05d}"}
                    write_model(folder, run_id=folder.request().run_id, name=stopped["model"])
                    folder.write_status(Status(state="done", **told, **stopped))
                    return
            sample = f"samples/epoch-{len(rows) + 1}.png"
            folder.storage.replace(sample, png(draw_disks(64, 64, seed=len(rows)).image))
            rows = [*rows, epoch(len(rows) + 1).model_copy(update={"sample": sample, "val_loss": 1.0})]
            folder.write_metrics(RunMetrics(attempt=attempt, classes=["background", "ring", "core"], epochs=rows))


@pytest.fixture
def lesson(site) -> Iterator[Lesson]:
    lesson = Lesson()
    dispatcher = Dispatcher(site.platform, ThreadCluster(train=lesson), every_s=0.1)
    dispatcher.start()
    yield lesson
    dispatcher.stop()


@pytest.fixture
def project(site, ana, tmp_path):
    project = add_project(site.platform, ana)
    add_training_set(site.platform, project, tmp_path)
    return project


def shows_epochs(page: Page, last: int) -> None:
    """The picture of the newest epoch is there, and curves of so many points."""
    picture = page.get_by_role("img", name=f"Prediction after epoch {last}")
    expect(picture).to_have_js_property("naturalWidth", 64, timeout=30_000)
    slider = page.get_by_role("slider", name="Loss: values along Epoch")
    expect(slider).to_have_attribute("aria-valuemax", str(last))


def losses_of(page: Page) -> list[str]:
    """The curve of the loss as numbers."""
    page.get_by_text("The same as numbers").first.click()
    rows = page.locator("figure.chart").first.locator("tbody tr")
    rows.first.wait_for()
    return rows.all_inner_texts()


def test_a_training_is_watched_and_goes_on_in_another_browser(site, ana, project, lesson, new_page):
    page = new_page(ana)
    clicks = Clicks(page)
    opened(page, f"/train?project={project.id}")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**run=*")
    lesson.go_on(3)
    shows_epochs(page, 3)
    expect(page.get_by_text("2.5 min")).to_be_visible()  # time left
    curve = losses_of(page)
    assert (len(curve), clicks.count) == (3, 2)
    page.close()
    other = new_page(ana)
    clicks = Clicks(other)
    opened(other, f"/train?project={project.id}")
    other.get_by_role("table", name="Runs, the newest first").get_by_role("link").click()
    shows_epochs(other, 3)
    assert (losses_of(other), clicks.count) == (curve, 2)
    lesson.go_on(1)
    shows_epochs(other, 4)
    expect(other.get_by_role("button", name="Stop & keep best")).to_be_visible()


def test_a_training_that_was_stopped_has_a_model_and_goes_on_at_the_next_epoch(site, ana, project, lesson, new_page):
    page = new_page(ana)
    opened(page, f"/train?project={project.id}")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**run=*")
    lesson.go_on(2)
    shows_epochs(page, 2)
    clicks = Clicks(page)
    page.reload()
    page.get_by_role("button", name="Stop & keep best").click()
    expect(page.get_by_role("link", name="See the results")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    lesson.go_on(1)
    shows_epochs(page, 3)
    (run,) = site.rest(ana).get("runs", params={"project_id": project.id}).json()["items"]
    epochs = site.rest(ana).get(f"runs/{run['id']}/metrics").json()["epochs"]
    assert ([row["epoch"] for row in epochs], run["attempt"]) == ([1, 2, 3], 2)
    assert clicks.count == 2


# -- 17: predict ------------------------------------------------------------------------------------------------------


def test_ten_images_become_masks_overlays_and_areas_within_4_clicks(site, ana, new_page, tmp_path):
    project = site.project(ana)
    make_model(site.platform.uri("models/random"))
    predictor = load_predictor(site.platform.uri("models/random"), device=CPU)
    site.scope["axons.segment"] = lambda image, model_uri, scale: segment(image, predictor, scale=scale)
    add_model(site.platform, ana, project, "models/random", is_promoted=True)
    files = [tmp_path / f"{number}.png" for number in range(10)]
    for number, file in enumerate(files):
        file.write_bytes(png(draw_disks(60, 80 + number, seed=number).image))
    page = new_page(ana)
    clicks = Clicks(page)
    opened(page, f"/predict?project={project.id}")
    clicks.drop(page.locator(".drop"), files)
    page.get_by_role("button", name="Run").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as ZIP: 10").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        names = archive.namelist()
        masks = [np.asarray(Picture.open(archive.open(name))) for name in names if name.endswith(".mask.png")]
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("areas.csv"))))
    assert sum(name.endswith(".overlay.png") for name in names) == len(masks) == 10
    counted = [np.bincount(mask.reshape(-1), minlength=3).tolist() for mask in masks]
    assert sorted(counted) == sorted([int(row["pixels"]) for row in rows[at : at + 3]] for at in range(0, 30, 3))
    assert clicks.count == 3
