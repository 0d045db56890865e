"""Labels from PNG and COCO files, and back."""

import io
import json
import zipfile

import numpy as np
import pytest
from sqlmodel import select

from axons.app.services.annotation_files import KnownImage, file_stem, match_image
from axons.app.tables import ProjectMember, Revision, Tile
from axons.data.coco import read_coco
from axons.data.layers import unpack
from tests.app.conftest import As
from tests.app.images import add_images, add_project, commit, document_of, mask_of, png, run_job, tiles_of
from tests.app.uploads import send

NAMES = ("a.png", "b.png")


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def images(platform, ana, project, tmp_path):
    return add_images(platform, ana, project, tmp_path, names=NAMES)


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        [archive.writestr(name, data) for name, data in files.items()]
    return buffer.getvalue()


def start(client, project, files, **form):
    uploads = [send(client, data, name=n, project_id=project.id, purpose="annotations") for n, data in files.items()]
    answer = client.post(f"/v1/projects/{project.id}/annotations:import", json={"uploads": uploads, **form})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def imported(platform, client, project, files, **form):
    job_id = start(client, project, files, **form)
    rows, sentence = run_job(platform, job_id)
    return rows, sentence, client.get(f"/v1/jobs/{job_id}").json()["result"]


def exported(platform, client, project, **form):
    answer = client.post(f"/v1/projects/{project.id}/export", json=form)
    assert answer.status_code == 202, answer.text
    _rows, sentence = run_job(platform, answer.json()["id"])
    file = client.get(f"/v1/jobs/{answer.json()['id']}/file")
    assert file.status_code == 200
    return zipfile.ZipFile(io.BytesIO(file.content)), sentence, file


def plane_of(platform, image):
    plane = np.full((image.height, image.width), 255, np.uint8)

    def read(session):
        layers = {(r.tile_id, r.number): r.layers for r in session.exec(select(Revision))}
        for tile in session.exec(select(Tile).where(Tile.image_id == image.id, Tile.revision > 0)):
            part = unpack(layers[tile.id, tile.revision]).plane()
            plane[tile.row0 : tile.row0 + tile.height, tile.col0 : tile.col0 + tile.width] = part

    platform.database.read(read)
    return plane


def masks():
    truths = {name: mask_of(number) for number, name in enumerate(NAMES)}
    truths["a.png"][5:20, 5:20] = 254
    truths["b.png"][50:, 100:] = 255
    return truths


@pytest.mark.usefixtures("local_ray")
class TestFiles:
    def test_masks_become_labels_of_tiles(self, platform, client, project, images):
        files = {name: png(mask) for name, mask in masks().items()}
        _rows, sentence, result = imported(platform, client, project, files)
        assert [np.array_equal(plane_of(platform, image), masks()[image.name]) for image in images] == [True, True]
        assert sentence == f"labels of {result['num_tiles']} tiles imported"
        assert {tile.status for tile in tiles_of(platform, images[0])} == {"started"}

    def test_a_zip_of_masks_in_grey_is_understood(self, platform, client, project, images):
        grey = {f"masks/{name}": png(np.array([0, 127, 255], np.uint8)[mask_of(n)]) for n, name in enumerate(NAMES)}
        imported(platform, client, project, {"masks.zip": zipped(grey)})
        assert [np.array_equal(plane_of(platform, image), mask_of(n)) for n, image in enumerate(images)] == [True, True]

    def test_masks_in_colour_need_a_table(self, platform, client, project, images):
        colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[mask_of(0)]
        _rows, sentence, _result = imported(platform, client, project, {"a.png": png(colours)})
        assert "1 refused: mask 'a.png' is in colour; give a table" in sentence
        table = {"#000000": 0, "#ff0000": 1, "#00ff00": 2}
        imported(platform, client, project, {"a.png": png(colours)}, colours=table)
        assert np.array_equal(plane_of(platform, images[0]), mask_of(0))

    def test_each_file_that_cannot_be_is_refused_with_a_reason(self, platform, client, project, images):
        files = {"a.png": png(mask_of(0)[:50]), "c.png": png(mask_of(0)), "b.png": b"x"}
        _rows, sentence, result = imported(platform, client, project, files)
        reasons = {row["name"]: row["reason"] for row in result["refused"]}
        assert "150 x 50 px but its image has 150 x 100" in reasons["a.png"]
        assert "has the name of no image" in reasons["c.png"]
        assert set(reasons) == set(files)
        assert sentence.startswith("labels of 0 tiles imported; 3 refused")

    def test_imported_labels_lie_above_what_was_there(self, platform, client, project, images):
        tile = tiles_of(platform, images[0])[0]
        plane = np.full((64, 64), 2, np.uint8)
        save(client, tile, plane)
        _rows, sentence, _result = imported(platform, client, project, {"a.png": png(mask_of(0))})
        assert "1 of them had others before, which are in their history" in sentence
        revisions = client.get(f"/v1/tiles/{tile.id}/revisions").json()
        assert [row["source"] for row in revisions] == ["import", "manual"]
        assert client.get(f"/v1/tiles/{tile.id}/revisions/1").json() == document_of(plane)

    def test_labels_can_be_left_alone(self, platform, client, project, images):
        first, second, *_ = tiles_of(platform, images[0])
        plane = np.full((64, 64), 2, np.uint8)
        save(client, first, plane)
        save(client, second, plane)
        client.post(f"/v1/tiles/{second.id}/done")
        _rows, sentence, _result = imported(platform, client, project, {"a.png": png(mask_of(0))}, keeps_existing=True)
        assert "in 1 images tiles that were labelled or done were left alone" in sentence
        assert np.array_equal(plane_of(platform, images[0])[:64, :128], np.full((64, 128), 2))
        imported(platform, client, project, {"a.png": png(mask_of(0))})
        assert np.array_equal(plane_of(platform, images[0])[:64, :64], mask_of(0)[:64, :64])
        assert (plane_of(platform, images[0])[:64, 64:128] == 2).all()

    @pytest.mark.both_databases
    def test_committing_twice_changes_nothing(self, platform, client, project, images):
        job_id = start(client, project, {"a.png": png(mask_of(0)), "c.png": b"x"})
        rows, _sentence = run_job(platform, job_id)
        before = client.get(f"/v1/jobs/{job_id}").json()["result"]
        platform.database.write(lambda session: commit(session, job_id, rows))
        assert client.get(f"/v1/jobs/{job_id}").json()["result"] == before
        numbers = platform.database.read(lambda session: {r.number for r in session.exec(select(Revision))})
        assert numbers == {1}

    def test_what_is_exported_as_png_can_be_imported_again(self, platform, ana, client, project, images, tmp_path):
        imported(platform, client, project, {name: png(mask) for name, mask in masks().items()})
        archive, sentence, file = exported(platform, client, project, format="png")
        assert sentence == "labels of 2 images exported"
        assert sorted(archive.namelist()) == ["classes.json", "masks/a.png", "masks/b.png"]
        assert 'filename="nerve-png.zip"' in file.headers["content-disposition"]
        again = add_project(platform, ana, name="again")
        copies = add_images(platform, ana, again, tmp_path, names=NAMES)
        inside = {name: archive.read(name) for name in archive.namelist() if name.startswith("masks/")}
        imported(platform, client, again, {"masks.zip": zipped(inside)})
        assert [np.array_equal(plane_of(platform, image), masks()[image.name]) for image in copies] == [True, True]

    def test_what_is_exported_as_coco_can_be_imported_again(self, platform, ana, client, project, images, tmp_path):
        imported(platform, client, project, {name: png(mask) for name, mask in masks().items()})
        archive, sentence, _file = exported(platform, client, project, format="coco")
        assert "'a.png' has 225 px that are ignored on purpose, which COCO cannot hold" in sentence
        again = add_project(platform, ana, name="again")
        copies = add_images(platform, ana, again, tmp_path, names=NAMES)
        imported(platform, client, again, {"a.json": archive.read("annotations.json")}, format="coco")
        expected = {name: np.where(mask == 254, 255, mask) for name, mask in masks().items()}
        assert [np.array_equal(plane_of(platform, image), expected[image.name]) for image in copies] == [True, True]

    def test_coco_polygons_are_edited_further_as_polygons(self, platform, client, project, images, tmp_path):
        document = {
            "images": [{"id": 7, "file_name": "a.png", "height": 100, "width": 150}],
            "categories": [{"id": 1, "name": "ring"}],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "segmentation": [[10, 10, 120.5, 10, 60, 90]]}],
        }
        data = json.dumps(document).encode()
        imported(platform, client, project, {"a.json": data}, format="coco")
        layers = client.get(f"/v1/tiles/{tiles_of(platform, images[0])[0].id}/annotation").json()["layers"]
        assert [layer["t"] for layer in layers] == ["poly"]
        (tmp_path / "a.json").write_bytes(data)
        [whole] = read_coco(tmp_path / "a.json", ["bg", "ring", "core"], name="a.json")
        assert np.array_equal(plane_of(platform, images[0]), whole.annotation.plane())

    def test_coco_that_does_not_fit_is_refused_with_reasons(self, platform, client, project, images):
        shape = {"segmentation": [[1, 1, 9, 1, 9, 9]]}
        document = {
            "images": [
                {"id": 1, "file_name": "a.png", "height": 90, "width": 150},
                {"id": 2, "file_name": "b.png", "height": 100, "width": 150},
                {"id": 3, "file_name": "nowhere.png", "height": 100, "width": 150},
            ],
            "categories": [{"id": 1, "name": "ring"}, {"id": 2, "name": "fat"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, **shape},
                {"id": 2, "image_id": 2, "category_id": 2, **shape},
                {"id": 3, "image_id": 3, "category_id": 1, **shape},
            ],
        }
        files = {"a.json": json.dumps(document).encode(), "b.json": b"{"}
        _rows, _sentence, result = imported(platform, client, project, files, format="coco")
        reasons = {row["name"]: row["reason"] for row in result["refused"]}
        assert "150 x 90 px in 'a.json'" in reasons["a.png"]
        assert "category 'fat' is no class" in reasons["b.png"]
        assert "has the name of no image" in reasons["nowhere.png"]
        assert "'b.json' is not JSON" in reasons["b.json"]

    def test_an_export_may_bring_the_images(self, platform, client, project, images):
        imported(platform, client, project, {"a.png": png(mask_of(0))})
        archive, _sentence, _file = exported(platform, client, project, with_images=True)
        assert sorted(archive.namelist()) == ["classes.json", "images/a.tif", "masks/a.png"]
        assert archive.read("images/a.tif") == platform.storage.read(images[0].working_key)

    def test_an_export_without_labels_says_so(self, platform, client, project, images):
        archive, sentence, _file = exported(platform, client, project)
        assert (archive.namelist(), sentence) == (["classes.json"], "labels of 0 images exported")


def save(client, tile, plane):
    path = f"/v1/tiles/{tile.id}/annotation"
    answer = client.put(path, params={"save_id": "x"}, json=document_of(plane), headers={"If-Match": '"0"'})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"colours": {"#000000": 9}}, "colours"),
        ({"greys": {"0": 9}}, "greys"),
        ({"greys": {"256": 0}}, "greys"),
        ({"greys": {"0": 0}, "colours": {"#000000": 0}}, "greys"),
    ],
)
def test_a_table_that_cannot_be_is_refused(client, project, form, field):
    answer = client.post(f"/v1/projects/{project.id}/annotations:import", json={"uploads": ["x"], **form})
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_label_files_are_for_members(platform, ben, client, project):
    stranger = As(platform, ben)
    form = {"uploads": ["x"]}
    assert stranger.post(f"/v1/projects/{project.id}/annotations:import", json=form).status_code == 404
    assert stranger.post(f"/v1/projects/{project.id}/export", json={}).status_code == 404
    job_id = client.post(f"/v1/projects/{project.id}/export", json={}).json()["id"]
    assert stranger.get(f"/v1/jobs/{job_id}/file").status_code == 404
    assert client.get(f"/v1/jobs/{job_id}/file").status_code == 409
    member = ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer")
    platform.database.write(lambda session: session.add(member))
    assert stranger.post(f"/v1/projects/{project.id}/annotations:import", json=form).status_code == 403
    assert stranger.post(f"/v1/projects/{project.id}/export", json={}).status_code == 202


def known(*names):
    return [KnownImage(image_id=name, name=name, height=1, width=1) for name in names]


@pytest.mark.parametrize(
    ("name", "images", "found"),
    [
        ("a.png", ("a.tif", "b.tif"), "a.tif"),
        ("A.PNG", ("a.tif",), "a.tif"),
        ("masks/a.png", ("a.tif",), "a.tif"),
        ("masks/x/a.png", ("x/a.tif", "y/a.tif", "a.tif"), "x/a.tif"),
        ("a.png", ("x/a.tif",), "x/a.tif"),
        ("a.b.png", ("a.b.tif", "a.tif"), "a.b.tif"),
    ],
)
def test_a_label_file_belongs_to_the_image_of_its_name(name, images, found):
    assert match_image(name, known(*images)).name == found


@pytest.mark.parametrize(
    ("name", "images", "reason"),
    [
        ("ba.png", ("a.tif",), "has the name of no image"),
        ("a.png", ("x/a.tif", "y/a.tif"), "could belong to 2 images"),
        ("a.png", ("a.tif", "a.png"), "could belong to 2 images"),
    ],
)
def test_a_label_file_that_belongs_to_no_one_image_is_told(name, images, reason):
    assert reason in match_image(name, known(*images))


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.png", "a"),
        ("x/my image.v2.tif", "x/my image.v2"),
        ("../../etc/passwd", "etc/passwd"),
        ("/a.png", "a"),
        ("c:\\x.png", "c__x"),
        (".png", ".png"),
    ],
)
def test_names_in_an_archive_never_lead_out_of_it(name, stem):
    assert file_stem(name) == stem
