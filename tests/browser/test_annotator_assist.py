"""Help with labelling: what a model or the forest suggests, superpixels, and the wand."""

from itertools import pairwise

import numpy as np
import pytest
from playwright.sync_api import expect

from axons.app.services.jobs import end_job
from axons.app.tables import Image, Job, Project
from axons.data.pixel_forest import fill_by_forest
from axons.serve.predictor import Segmentation
from tests.app.trainings import add_model
from tests.browser.annotating import Annotator
from tests.drawing import draw_disks
from tests.serve.models import make_model

RING, CORE = 1, 2
SURE, UNSURE = 230, 120


def by_channels(image, _model_uri, _scale, of_whole=None):
    """Red says the class, green how sure that is."""
    mask = image[..., 0] // 80
    return Segmentation(mask=mask, confidence=image[..., 1], class_pixels=[], notices=[])


def picture():
    """Two rings apart, of one of which the model is not sure, and a core that touches the other."""
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[..., 1] = SURE
    pixels[10:40, 10:50, 0] = 80
    pixels[70:110, 20:60] = (80, UNSURE, 0)
    pixels[20:60, 50:90, 0] = 160
    return pixels


@pytest.fixture
def tile(site, ana):
    return site.tile(ana, picture(), classes=["background", "ring", "core"])


@pytest.fixture
def model(site, ana, tile):
    make_model(site.platform.uri("models/random"))
    site.scope["axons.segment"] = by_channels
    site.scope["axons.forest"] = fill_by_forest
    project = site.platform.database.read(lambda session: session.get_one(Project, tile.project_id))
    return add_model(site.platform, ana, project, "models/random")


@pytest.fixture
def annotator(new_page, ana, tile, model):
    """With what the model suggests."""
    annotator = Annotator.open(new_page(ana), tile)
    suggest(annotator)
    return annotator


def suggest(annotator, name="random"):
    select = annotator.page.get_by_label("From")
    select.select_option(value=select.locator("option", has_text=name).get_attribute("value"))
    annotator.page.get_by_role("button", name="Suggest", exact=True).click()
    annotator.wait(lambda state: state["prelabel"])


def predicted():
    return by_channels(picture(), "", 1.0).mask


def sources(site, ana, tile):
    return {layer["src"] for layer in site.annotation(ana, tile)["layers"]}


def test_the_part_below_the_pointer_is_accepted(annotator, site, ana, tile, model):
    annotator.move(30, 30)
    annotator.keys("y")
    annotator.saved()
    expected = np.full((128, 128), 255, np.uint8)
    expected[10:40, 10:50] = RING
    assert np.array_equal(site.plane(ana, tile), expected)
    assert sources(site, ana, tile) == {f"model:{model.id}"}


def test_everything_is_accepted_of_which_the_model_is_sure_enough(annotator, site, ana, tile):
    annotator.page.get_by_label("Confidence at least").fill("60")
    annotator.keys("Shift+Y")
    annotator.saved()
    expected = np.where(picture()[..., 1] >= 153, predicted(), 255)
    assert np.array_equal(site.plane(ana, tile), expected)


def test_one_class_is_accepted(annotator, site, ana, tile):
    annotator.keys("2")
    annotator.page.get_by_role("button", name="Accept the class").click()
    annotator.saved()
    assert np.array_equal(site.plane(ana, tile), np.where(predicted() == CORE, CORE, 255))


def test_what_is_labelled_already_is_kept(annotator, site, ana, tile):
    annotator.drag((90, 90), (90, 100))
    annotator.keys("Shift+Y")
    annotator.saved()
    plane = site.plane(ana, tile)
    assert (plane[90, 95], plane[90, 40], plane[5, 5]) == (1, RING, 0)


def test_what_is_rejected_leaves_no_trace(annotator):
    annotator.keys("u")
    state = annotator.state()
    assert (state["counts"], state["undo"], state["prelabel"], state["dirty"]) == ({"255": 128 * 128}, 0, None, False)


def test_what_is_accepted_is_one_step(annotator):
    annotator.keys("Shift+Y", "Control+z")
    assert annotator.state()["counts"] == {"255": 128 * 128}


def test_for_a_tile_of_a_test_image_nothing_is_suggested(site, new_page, ana, tile, model):
    site.platform.database.write(
        lambda session: session.get_one(Image, tile.image_id).sqlmodel_update({"split": "test"})
    )
    annotator = Annotator.open(new_page(ana), tile)
    expect(annotator.page.get_by_role("button", name="Suggest", exact=True)).to_be_disabled()
    expect(annotator.page.get_by_text("This image tests the models")).to_be_visible()


def test_the_forest_suggests_before_there_is_a_model(site, new_page, ana):
    site.scope["axons.forest"] = fill_by_forest
    drawing = draw_disks(128, 128, channels=3)
    tile = site.tile(ana, drawing.image, classes=["background", "ring", "core"])
    annotator = Annotator.open(new_page(ana), tile)
    annotator.keys("[", "[", "[", "[", "[", "[")
    for value in range(3):
        row, col = np.argwhere(drawing.mask == value)[200]
        annotator.keys(str(value))
        annotator.drag((row, col), (row, col + 3))
    suggest(annotator, "Pixel classifier")
    annotator.keys("Shift+Y")
    annotator.saved()
    assert np.mean(site.plane(ana, tile) == drawing.mask) > 0.8
    assert sources(site, ana, tile) == {"manual", "forest"}


def test_superpixels_are_painted_whole(site, new_page, ana):
    tile = site.tile(ana, draw_disks(512, 512, channels=3).image)
    annotator = Annotator.open(new_page(ana), tile)
    annotator.keys("s")
    ready = annotator.wait(lambda state: state["segments"])
    annotator.drag((200, 100), (200, 300), steps=20)
    state = annotator.saved()
    labels = np.array(
        annotator.page.evaluate(
            """async () => {
                const { superpixels } = await import(new URL("superpixels.js", document.querySelector("script").src));
                const answer = await fetch(`/api/v1/tiles/${axons.state().tile}/image`);
                const canvas = new OffscreenCanvas(512, 512);
                const context = canvas.getContext("2d");
                context.drawImage(await createImageBitmap(await answer.blob()), 0, 0);
                return Array.from(superpixels(context.getImageData(0, 0, 512, 512).data, 512, 512, 16));
            }"""
        )
    ).reshape(512, 512)
    painted = site.plane(ana, tile) == 1
    touched = np.unique(labels[200, 100:300])
    assert np.array_equal(painted, np.isin(labels, touched))
    assert state["counts"]["1"] == sum(np.sum(labels == label) for label in touched)
    assert (ready["segments"], state["undo"]) == (labels.max() + 1, 1)


@pytest.mark.long
def test_superpixels_are_ready_within_a_second(site, new_page, ana, record_property):
    annotator = Annotator.open(new_page(ana), site.tile(ana, draw_disks(512, 512, channels=3).image))
    annotator.keys("s")
    took = annotator.wait(lambda state: state["segments"])["segmentsTook"]
    record_property("superpixels of 512², ms", round(took, 1))
    assert took < 1000


def test_the_wand_takes_more_the_further_it_is_drawn(site, new_page, ana):
    shades = np.repeat(np.arange(0, 256, 2, dtype=np.uint8)[None], 128, axis=0)
    tile = site.tile(ana, np.repeat(shades[..., None], 3, axis=2))
    annotator = Annotator.open(new_page(ana), tile)
    annotator.keys("w")
    regions = []
    for far in (4, 12, 30, 50):
        annotator.drag((64, 20), (64, 20 + far))
        annotator.saved()
        regions.append(site.plane(ana, tile) == 1)
        annotator.keys("Control+z")
        annotator.saved()
    sizes = [int(region.sum()) for region in regions]
    assert sizes == sorted(set(sizes))
    assert all(np.all(larger[smaller]) for smaller, larger in pairwise(regions))
    assert sizes[0] % 128 == 0  # whole columns: rows are all the same


def test_a_model_is_asked_to_look_at_all_tiles_and_the_page_says_when_it_has(site, ana, annotator):
    annotator.page.get_by_role("button", name="Let it look at all tiles").click()
    said = annotator.page.locator("#suggestions-said")
    expect(said).to_contain_text("Looking at all tiles: waiting, 0 %.")
    (job,) = (row for row in site.rest(ana).get("jobs").json()["items"] if row["kind"] == "predict")
    site.platform.database.write(lambda session: end_job(session, session.get_one(Job, job["id"]), "done", ""))
    expect(said).to_contain_text("Choose “most useful first” as queue.")
