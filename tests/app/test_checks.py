"""What the server says about images before anybody works on them, and the tiles of a viewer that zooms."""

import io

import numpy as np
import pytest
from PIL import Image as Picture

from axons.app.services.jobs import add_job, end_job
from axons.app.tables import Job
from axons.data.decoding import Decoder
from tests.app.images import add_project, commit, images_of, imported_row, png
from tests.drawing import draw_disks


def disks(seed, height=100, width=150):
    return draw_disks(height, width, seed=seed, channels=3).image


@pytest.fixture
def add(platform, ana, tmp_path):
    """Add images with these pixels to a new project; gives the project and the images by name."""

    def add(pixels_by_name):
        project = add_project(platform, ana)
        [(tmp_path / name).write_bytes(png(pixels)) for name, pixels in pixels_by_name.items()]
        write = platform.database.write
        job = write(lambda session: add_job(session, ana, "import", project, request={"uploads": []}))
        with Decoder() as decoder:
            rows = [imported_row(platform, decoder, job, project, tmp_path / name) for name in pixels_by_name]
        write(lambda session: commit(session, job.id, rows))
        write(lambda session: end_job(session, session.get_one(Job, job.id), "done", ""))
        return project, {row.name: row for row in platform.database.read(lambda s: images_of(s, project))}

    return add


def checks(client, project):
    answer = client.get(f"/v1/projects/{project.id}/checks")
    assert answer.status_code == 200, answer.text
    return answer.json()


def found(answer):
    return {(row["kind"], row["name"], row["other_name"]) for row in answer["findings"]}


def test_copies_are_found_as_files_and_by_their_look(client, add):
    pixels = disks(0)
    project, _images = add({"a.png": pixels, "b.png": pixels, "turned.png": pixels[:, ::-1], "other.png": disks(1)})
    assert found(checks(client, project)) == {
        ("duplicate", "b.png", "a.png"),
        ("near-duplicate", "turned.png", "a.png"),
    }


def test_an_image_unlike_most_in_size_is_found_and_sizes_are_counted(client, add):
    project, _images = add({"a.png": disks(0), "b.png": disks(1), "small.png": disks(2, 90, 90)})
    answer = checks(client, project)
    assert found(answer) == {("size", "small.png", None)}
    assert [(row["height"], row["width"], row["num_images"]) for row in answer["sizes"]] == [(100, 150, 2), (90, 90, 1)]


def test_blur_emptiness_and_exposure_are_found(client, add):
    noise = np.random.default_rng(5).integers(40, 200, (100, 150, 3))
    blurred = 128 + 100 * np.sin(np.add.outer(np.arange(100), np.arange(150)) / 20)[..., None]
    dark = np.where(noise < 120, 0, noise)
    images = {"blurred.png": blurred, "dark.png": dark, "bright.png": 255 - dark, "paper.png": np.full_like(noise, 200)}
    project, _images = add({name: pixels.astype(np.uint8) for name, pixels in images.items()})
    assert {(kind, name) for kind, name, _other in found(checks(client, project))} >= {
        ("blur", "blurred.png"),
        ("dark", "dark.png"),
        ("bright", "bright.png"),
        ("blank", "paper.png"),
    }


def test_an_excluded_image_is_still_told_of_so_that_one_can_undo_it(client, add):
    project, images = add({"a.png": disks(0), "b.png": disks(0)})
    client.patch(f"/v1/images/{images['b.png'].id}", json={"is_excluded": True})
    assert [row["is_excluded"] for row in checks(client, project)["findings"]] == [True]


def tile(client, image, level, col, row):
    answer = client.get(f"/v1/images/{image.id}/pyramid/{level}/{col}/{row}")
    assert answer.status_code == 200, answer.text
    return np.asarray(Picture.open(io.BytesIO(answer.content)).convert("L")).astype(int)


def test_tiles_of_every_level_of_detail_put_together_are_the_image(client, add):
    ramp = np.add.outer(np.linspace(0, 120, 515), np.linspace(0, 120, 601)).astype(np.uint8)[..., None]
    _project, images = add({"ramp.png": ramp})
    image = images["ramp.png"]
    whole = np.block([[tile(client, image, 0, col, row) for col in range(3)] for row in range(3)])
    assert whole.shape == (515, 601)
    assert np.abs(whole - ramp[..., 0]).max() <= 6
    half = np.block([[tile(client, image, 1, col, row) for col in range(2)] for row in range(2)])
    assert half.shape == (258, 301)
    assert np.abs(half[:-1, :-1] - ramp[:514:2, :600:2, 0]).max() <= 6
    assert tile(client, image, 2, 0, 0).shape == (129, 151)


@pytest.mark.parametrize(("level", "col", "row"), [(0, 1, 0), (0, 0, 1), (1, 0, 0)])
def test_what_the_pyramid_does_not_have_is_not_found(client, add, level, col, row):
    _project, images = add({"a.png": disks(0)})
    answer = client.get(f"/v1/images/{images['a.png'].id}/pyramid/{level}/{col}/{row}")
    assert answer.status_code == 404
    assert "open the image again" in answer.json()["detail"]
