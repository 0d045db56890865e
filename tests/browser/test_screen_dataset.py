"""The screen of the training set: choose, split, repair what leaks, freeze, compare."""

import pytest
from playwright.sync_api import expect
from sqlmodel import select

from axons.app.services.jobs import end_job
from axons.app.tables import Image, Job, ProjectMember, TrainingSet
from tests.app.images import mask_of
from tests.app.trainings import add_training_set
from tests.drawing import draw_disks

NAMES = ("a.png", "b.png", "c.png", "d.png", "<b>e.png")


@pytest.fixture
def project(site, ana):
    """Five labelled images; no two look the same."""
    project = site.project(ana, tile=256)
    images = [
        site.image(ana, project, draw_disks(100, 150, seed=number, channels=3).image, name=name)
        for number, name in enumerate(NAMES)
    ]
    for number, image in enumerate(images):
        (tile,) = site.tiles(image)
        site.save(ana, tile, mask_of(number))
    write = site.platform.database.write
    write(lambda session: [session.get_one(Image, image.id).sqlmodel_update({"hashes": []}) for image in images])
    return project


def images_of(site, ana, project):
    found = site.rest(ana).get(f"projects/{project.id}/images").json()["items"]
    return {image["name"]: image for image in found}


def opened(page, project, query=""):
    page.goto(f"/dataset?project={project.id}{query}")
    page.locator("axons-screen[data-ready]").wait_for()
    return page


def leaking(site, ana, project):
    """Let two images look the same, one in train and one in test."""
    found = images_of(site, ana, project)
    chosen = {found["a.png"]["id"]: "train", found["b.png"]["id"]: "test"}

    def change(session):
        for image_id, split in chosen.items():
            session.get_one(Image, image_id).sqlmodel_update({"hashes": ["00ff00ff00ff00ff"], "split": split})

    site.platform.database.write(change)


def play_freezing(site, ana, project, folder):
    """What a cluster does for the one set that waits."""
    like = add_training_set(site.platform, site.project(ana, name="elsewhere"), folder)

    def change(session):
        row = session.exec(select(TrainingSet).where(TrainingSet.project_id == project.id)).one()
        row.sqlmodel_update({"state": "ready", "key": like.key, "sha256": like.sha256, "summary": like.summary})
        job = session.exec(select(Job).where(Job.kind == "freeze")).one()
        end_job(session, job, "done", "'first' is frozen: 2 train, 1 val, 1 test")

    site.platform.database.write(change)


def test_without_labels_the_next_step_is_to_label(site, ana, new_page):
    tile = site.tile(ana)
    page = new_page(ana)
    page.goto(f"/dataset?project={tile.project_id}")
    expect(page.get_by_role("link", name="Annotate tiles", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Freeze version")).to_have_count(0)


def test_a_set_is_chosen_frozen_and_listed(site, ana, project, new_page, tmp_path):
    page = opened(new_page(ana), project, "&scale=0.5")
    expect(page.get_by_text("As the network sees it – 75 × 50 px")).to_be_visible()
    page.get_by_role("checkbox", name="d.png").uncheck()
    expect(page.get_by_role("combobox", name="Split of d.png")).to_have_count(0)
    expect(page.get_by_role("combobox", name="Split of <b>e.png")).to_be_visible()
    page.get_by_label("Name of the version").fill("first")
    page.get_by_role("button", name="Freeze version").click()
    expect(page.get_by_role("heading", name="1. first")).to_be_visible()
    expect(page.get_by_text("is being frozen")).to_be_visible()
    play_freezing(site, ana, project, tmp_path)
    expect(page.get_by_text("is frozen: 2 train")).to_be_visible()
    expect(page.get_by_role("link", name="Train with it")).to_be_visible()
    [made] = site.rest(ana).get(f"projects/{project.id}/training-sets").json()["items"]
    without = images_of(site, ana, project)["d.png"]["id"]
    assert (made["request"]["scale"], len(made["request"]["image_ids"])) == (0.5, 4)
    assert without not in made["request"]["image_ids"]


def test_another_resolution_is_shown_on_a_tile_beside_the_balance(site, ana, project, new_page):
    page = opened(new_page(ana), project)
    table = page.get_by_role("table", name="Labelled pixels of each class")
    expect(table).to_be_visible()
    bars = table.locator(".bar > span")
    shares = [float(bar.get_attribute("style").split("width: ")[1].rstrip("%;")) for bar in bars.all()]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    page.get_by_label("Images are shown to the network").select_option("scaled by a factor")
    page.get_by_role("spinbutton", name="Factor").fill("0.25")
    page.get_by_role("spinbutton", name="Factor").blur()
    expect(page.get_by_text("As the network sees it – 38 × 25 px")).to_be_visible()
    assert "scale=0.25" in page.url


def test_a_leak_is_told_with_pictures_and_repaired_by_one_click(site, ana, project, new_page):
    leaking(site, ana, project)
    page = opened(new_page(ana), project)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("look alike in two splits: 1")
    expect(alert.get_by_role("img")).to_have_count(0)  # their names are beside them
    expect(alert.locator("img")).to_have_count(2)
    page.get_by_role("button", name="Repair").click()
    expect(page.get_by_text("Nothing leaks")).to_be_visible()
    found = images_of(site, ana, project)
    assert found["a.png"]["split"] == found["b.png"]["split"] == "train"


def test_a_split_that_is_changed_is_kept(site, ana, project, new_page):
    page = opened(new_page(ana), project)
    page.get_by_role("combobox", name="Split of c.png").select_option("test")
    expect(page.locator("[data-split=test]")).to_contain_text("c.png")
    assert images_of(site, ana, project)["c.png"]["split"] == "test"


def test_two_versions_are_compared_in_an_address_that_can_be_sent(site, ana, project, new_page, tmp_path):
    second = add_training_set(site.platform, project, tmp_path, splits=("train", "val", "train", "test"))
    site.platform.database.write(
        lambda session: session.get_one(TrainingSet, second.id).sqlmodel_update({"number": 2, "name": "more"})
    )
    first = add_training_set(site.platform, project, tmp_path)
    page = opened(new_page(ana), project, f"&first={first.id}&second={second.id}&show={first.id}")
    expect(page.get_by_role("region", name="What differs")).to_contain_text("Number of the draw")
    expect(page.get_by_text("disks-1.png (train → val), disks-2.png (val → train)")).to_be_visible()
    expect(page.get_by_role("heading", name="Version disks")).to_be_visible()
    expect(page.get_by_role("link", name="Train with it").first).to_have_attribute(
        "href", f"/train?project={project.id}&set={second.id}"
    )


def test_a_viewer_sees_the_plan_and_can_change_nothing(site, ana, ben, project, new_page):
    member = ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer")
    site.platform.database.write(lambda session: session.add(member))
    page = opened(new_page(ben), project)
    expect(page.get_by_role("combobox", name="Split of a.png")).to_be_disabled()
    expect(page.get_by_role("checkbox", name="a.png")).to_be_disabled()
    expect(page.get_by_role("button", name="Freeze version")).to_have_count(0)
