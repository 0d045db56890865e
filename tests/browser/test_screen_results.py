"""Results: what a run is worth, runs compared, and from the worst tiles of validation to the annotator and back."""

import pytest
from playwright.sync_api import Page, expect
from sqlmodel import SQLModel

from axons.app.tables import Image, Project, ProjectMember, Run, Tile
from tests.app.images import images_of
from tests.app.results import add_evaluation, add_result
from tests.app.trainings import add_training_set
from tests.browser.annotating import Annotator
from tests.browser.clicks import Clicks
from tests.browser.conftest import Pages
from tests.browser.site import Site
from tests.drawing import draw_disks

THRESHOLDS = """async (counts) => {
  const {atThresholds} = await import("/static/screens/results-threshold.js");
  return atThresholds(counts);
}"""
HOSTILE = "${7*6} <img src=x onerror=alert(1)>"


@pytest.fixture
def project(site, ana) -> Project:
    """An image that the set knows as its validation image, and one that it knows as its test image."""
    project = site.project(ana, name=HOSTILE, classes=["background", "ring", "core"], tile=96)
    for name, known_as in (("val.png", "disks-2"), ("test.png", "disks-3")):
        image = site.image(ana, project, draw_disks(96, 96).image, name=name)
        change(site, Image, image.id, source_id=known_as)
    return project


@pytest.fixture
def training_set(site, project, tmp_path):
    return add_training_set(site.platform, project, tmp_path)


@pytest.fixture
def run(site, ana, training_set):
    return add_result(site.platform, ana, training_set)


@pytest.fixture
def validation_tile(site, project) -> Tile:
    _, image = site.platform.database.read(lambda session: images_of(session, project))  # test.png, val.png
    (tile,) = site.tiles(image)
    return tile


def change(site: Site, table: type[SQLModel], row_id: str, **fields) -> None:
    site.platform.database.write(lambda session: session.get_one(table, row_id).sqlmodel_update(fields))


def open_results(new_page: Pages, actor, project: Project, query: str = "", **options) -> Page:
    page = new_page(actor, **options)
    page.goto(f"/results?project={project.id}{query}")
    expect(page.locator("axons-screen[data-ready]")).to_be_visible(timeout=30_000)
    return page


def test_a_run_is_judged_with_its_matrix_and_its_worst_tiles(new_page, ana, project, run):
    page = open_results(new_page, ana, project)
    expect(page.locator(".verdict")).to_contain_text("on test, 1 image; the project asks for 0.600")
    matrix = page.get_by_role("table", name="Confusion matrix on validation, 1 image")
    expect(matrix.get_by_role("columnheader", name="Prediction")).to_be_visible()
    expect(matrix.get_by_role("rowheader", name="Truth")).to_be_visible()
    expect(matrix.get_by_role("rowheader", name="ring")).to_be_visible()
    for kind in ("Truth", "Prediction", "Difference"):
        picture = page.get_by_role("img", name=f"{kind} of disks-2.png")
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("naturalWidth", 96)
    expect(page.get_by_role("heading", name="Model card")).to_be_visible()
    assert "undefined" not in page.locator("#main").inner_text()


def test_the_worst_tile_is_corrected_in_the_annotator_and_a_new_version_offered(
    site, new_page, ana, project, run, validation_tile
):
    page = new_page(ana)
    clicks = Clicks(page)
    page.goto(f"/results?project={project.id}")
    fix = page.get_by_role("link", name="Fix the worst tiles")
    expect(fix).to_have_class("primary")
    fix.click()
    page.wait_for_url(f"**/annotate?project={project.id}&tile={validation_tile.id}*")
    annotator = Annotator(page, page.locator("iframe").element_handle().content_frame())
    annotator.wait(lambda state: state["ready"])
    annotator.drag((30, 30), (30, 60))
    annotator.wait(lambda state: state["rev"] == 1 and state["save"] == "saved")
    page.get_by_role("link", name="Back to the results").click()
    expect(page.get_by_text("1 of the 1 worst validation tiles have new labels.")).to_be_visible()
    expect(page.get_by_text("✓ has new labels")).to_be_visible()
    expect(fix).to_have_count(0)
    page.get_by_role("link", name="Freeze a new version").click()
    page.wait_for_url(f"**/dataset?project={project.id}")
    assert clicks.count == 3


def test_thresholds_give_the_scores_of_the_pixels_above_them(modules):
    ours = [1 if place in (20, 60, 80) else 0 for place in range(101)]
    others = [1 if place in (10, 70) else 0 for place in range(101)]
    rows = modules.evaluate(THRESHOLDS, {"of_class": ours, "of_others": others})
    assert len(rows) == 101
    assert rows[61] == {"percent": 61, "precision": 1 / 2, "recall": 1 / 3, "iou": 1 / 4, "dice": 2 / 5}
    assert rows[60] == {"percent": 60, "precision": 2 / 3, "recall": 2 / 3, "iou": 2 / 4, "dice": 4 / 6}
    assert rows[81] == {"percent": 81, "precision": None, "recall": 0, "iou": 0, "dice": 0}


def test_a_threshold_is_tried_on_validation_and_never_on_the_test(new_page, ana, project, run):
    ring = run.evaluation["splits"]["val"]["classes"][1]
    page = open_results(new_page, ana, project, "&class=1")
    page.get_by_label("Threshold", exact=True).fill("70")
    said = page.get_by_text(f"70 %: precision {ring['precision']:.3f}, recall {ring['recall']:.3f}")
    expect(said).to_be_visible()
    expect(page.get_by_role("table", name="ring at three thresholds, on validation, 1 image")).to_be_visible()
    page.reload()
    expect(said).to_be_visible()
    page.get_by_label("Judged on").select_option("test")
    expect(page.get_by_text("nothing is chosen")).to_be_visible()
    expect(page.get_by_label("Threshold", exact=True)).to_have_count(0)


def test_older_scores_have_no_thresholds_and_say_how_to_get_them(site, new_page, ana, project, run):
    evaluation = run.evaluation
    for found in evaluation["splits"]["val"]["classes"]:
        del found["probabilities"]
    change(site, Run, run.id, evaluation=evaluation)
    page = open_results(new_page, ana, project)
    expect(page.get_by_text("Judge the model again below")).to_be_visible()


def test_tiles_of_the_test_are_shown_and_not_opened(new_page, ana, project, run):
    page = open_results(new_page, ana, project, "&scores=test")
    expect(page.get_by_role("img", name="Truth of disks-3.png")).to_be_visible()
    expect(page.get_by_text("These tiles are only shown.")).to_be_visible()
    expect(page.locator(".worst").get_by_role("link")).to_have_count(0)


def test_compared_runs_show_only_what_differs_and_stand_in_the_address(site, new_page, ana, project, training_set, run):
    other = add_result(site.platform, ana, training_set, seed=7)
    page = open_results(new_page, ana, project)
    differing = page.get_by_role("table", name="Sets and settings that differ")
    expect(differing.get_by_role("row")).to_have_count(2)
    expect(differing.get_by_role("row", name="Seed 7 0")).to_be_visible()
    page.get_by_role("checkbox", name=f"Run {run.number} ·").uncheck()
    expect(differing).to_have_count(0)
    page.reload()
    expect(page.get_by_role("checkbox", name=f"Run {other.number} ·")).to_be_checked()
    expect(page.get_by_role("checkbox", name=f"Run {run.number} ·")).not_to_be_checked()


def test_a_student_may_not_promote_below_the_threshold_and_an_educator_may(
    site, new_page, ana, teacher, training_set, project
):
    member = ProjectMember(project_id=project.id, user_id=teacher.user_id, role="editor")
    site.platform.database.write(lambda session: session.add(member))
    change(site, Project, project.id, threshold=0.99)
    add_result(site.platform, ana, training_set)
    page = open_results(new_page, ana, project)
    expect(page.get_by_text("△ Needs improvement")).to_be_visible()
    expect(page.get_by_role("button", name="Promote")).to_be_disabled()
    page = open_results(new_page, teacher, project)
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_text(f"Version 1 of {HOSTILE} is in use.")).to_be_visible()


def test_a_viewer_sees_all_and_changes_nothing(site, new_page, ben, project, run):
    member = ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer")
    site.platform.database.write(lambda session: session.add(member))
    page = open_results(new_page, ben, project)
    expect(page.get_by_role("heading", name="Model card")).to_be_visible()
    for role, name in (
        ("link", "Fix the worst tiles"),
        ("button", "Evaluate"),
        ("button", "Promote"),
        ("button", "Roll back"),
    ):
        expect(page.get_by_role(role, name=name)).to_have_count(0)


def test_the_report_is_printed_and_downloaded(new_page, ana, project, run):
    page = new_page(ana)
    page.add_init_script("window.print = () => { parent.isPrinted = true; }")
    page.goto(f"/results?project={project.id}")
    page.get_by_role("button", name="Print or save as PDF").click()
    expect(page.frame_locator("iframe.report").get_by_role("heading", name="Model card")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    assert page.evaluate("isPrinted")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the report (HTML)").click()
    assert download.value.suggested_filename.endswith("report.html")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the report (PDF)").click()
    assert download.value.suggested_filename.endswith("report.pdf")


def test_a_model_is_judged_again_and_its_scores_chosen(site, new_page, ana, project, run):
    evaluation_id = add_evaluation(site.platform, ana, run, "val")
    page = open_results(new_page, ana, project)
    page.get_by_role("button", name="Show these scores").click()
    page.wait_for_url(f"**&scores={evaluation_id}")
    expect(page.get_by_label("Judged on")).to_have_value(evaluation_id)
    page.locator("select[name=split]").select_option("test")
    page.get_by_role("button", name="Evaluate").click()
    expect(page.get_by_role("cell", name="waiting")).to_be_visible()
