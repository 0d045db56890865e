"""Labels from files of other tools, and back."""

import io
import json
import zipfile

import numpy as np
import pytest
from sqlmodel import select

from axons.app.services.annotation_files import file_stem
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


def checksums(platform, images):
    return [[tile.crc32 for tile in tiles_of(platform, image)] for image in images]


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

    def test_an_export_has_a_mask_for_each_image_and_the_classes(self, platform, client, project, images):
        imported(platform, client, project, {name: png(mask) for name, mask in masks().items()})
        archive, sentence, file = exported(platform, client, project, format="png")
        assert sentence == "labels of 2 images exported"
        assert sorted(archive.namelist()) == ["classes.json", "masks/a.png", "masks/b.png"]
        assert 'filename="nerve-png.zip"' in file.headers["content-disposition"]

    @pytest.mark.parametrize("kind", ["png", "coco", "cvat", "labelme", "labeller"])
    def test_an_export_can_be_imported_again_as_it_is(self, platform, ana, client, project, images, tmp_path, kind):
        imported(platform, client, project, {name: png(mask) for name, mask in masks().items()})
        _archive, sentence, file = exported(platform, client, project, format=kind)
        assert sentence == "labels of 2 images exported"
        again = add_project(platform, ana, name="again")
        copies = add_images(platform, ana, again, tmp_path, names=NAMES)
        _rows, _sentence, result = imported(platform, client, again, {"labels.zip": file.content}, format=kind)
        assert "refused" not in result
        assert [np.array_equal(plane_of(platform, image), masks()[image.name]) for image in copies] == [True, True]
        assert checksums(platform, copies) == checksums(platform, images)

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
        [whole] = read_coco(tmp_path / "a.json", {"bg": 0, "ring": 1, "core": 2}, name="a.json")
        assert np.array_equal(plane_of(platform, images[0]), whole.plane())

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
        assert "label 'fat' is no class" in reasons["b.png"]
        assert "has the name of no image" in reasons["nowhere.png"]
        assert "'b.json' is not JSON" in reasons["b.json"]

    @pytest.mark.parametrize(
        ("kind", "files"),
        [
            ("coco", ["annotations.json"]),
            ("cvat", ["annotations.xml"]),
            ("labelme", ["labels/a.json", "labels/b.json"]),
            ("labeller", ["labels/a__labels.json", "labels/b__labels.json", "schema.json"]),
            ("labelstudio", ["labelling-interface.xml", "tasks.json"]),
        ],
    )
    def test_an_export_holds_the_files_of_its_format_and_the_classes(
        self, platform, client, project, images, kind, files
    ):
        imported(platform, client, project, {name: png(mask) for name, mask in masks().items()})
        archive, _sentence, file = exported(platform, client, project, format=kind)
        assert sorted(archive.namelist()) == sorted(["classes.json", *files])
        assert [row["name"] for row in json.loads(archive.read("classes.json"))] == ["bg", "ring", "core"]
        assert f'filename="nerve-{kind}.zip"' in file.headers["content-disposition"]

    @pytest.mark.parametrize(("with_images", "path"), [(False, "a.png"), (True, "../images/a.tif")])
    def test_labelme_files_say_where_their_image_lies(self, platform, client, project, images, with_images, path):
        imported(platform, client, project, {"a.png": png(mask_of(0))})
        archive, _sentence, _file = exported(platform, client, project, format="labelme", with_images=with_images)
        assert json.loads(archive.read("labels/a.json"))["imagePath"] == path

    def test_tasks_of_label_studio_name_their_images(self, platform, client, project, images):
        imported(platform, client, project, {name: png(mask) for name, mask in masks().items()})
        archive, _sentence, _file = exported(platform, client, project, format="labelstudio")
        assert [task["data"]["image"] for task in json.loads(archive.read("tasks.json"))] == ["a.png", "b.png"]
        assert b'<Label value="__ignored__"' in archive.read("labelling-interface.xml")

    def test_a_class_that_was_deleted_is_told_apart_from_a_new_one_of_its_name(self, platform, client, project, images):
        assert client.delete(f"/v1/projects/{project.id}/classes/1").status_code == 204
        assert client.post(f"/v1/projects/{project.id}/classes", json={"name": "ring"}).status_code == 201
        imported(platform, client, project, {"a.png": png(np.where(mask_of(0) == 1, 3, mask_of(0)).astype(np.uint8))})
        archive, _sentence, _file = exported(platform, client, project, format="coco")
        names = [row["name"] for row in json.loads(archive.read("annotations.json"))["categories"]]
        assert names == ["bg", "ring (deleted, 1)", "core", "ring"]

    def test_django_labeller_files_are_imported_as_polygons(self, platform, client, project, images):
        ring = [{"x": 10, "y": 10}, {"x": 120.5, "y": 10}, {"x": 60, "y": 90}]
        labels = [{"label_type": "polygon", "label_class": "ring", "object_id": "x__1", "regions": [ring]}]
        document = {"image_filename": "a.png", "completed_tasks": [], "labels": labels}
        imported(platform, client, project, {"a__labels.json": json.dumps(document).encode()}, format="labeller")
        layers = client.get(f"/v1/tiles/{tiles_of(platform, images[0])[0].id}/annotation").json()["layers"]
        assert [(layer["t"], layer["src"]) for layer in layers] == [("poly", "import:a__labels.json")]
        assert layers[0]["id"]

    def test_a_finished_image_of_django_labeller_is_done_and_told_when_exported(
        self, platform, client, project, images
    ):
        document = {"completed_tasks": ["finished"], "labels": [point(20, 30, "core")]}
        form = {"format": "labeller", "fills_background": True}
        imported(platform, client, project, {"a__labels.json": json.dumps(document).encode()}, **form)
        assert {tile.status for tile in tiles_of(platform, images[0])} == {"done"}
        assert {tile.status for tile in tiles_of(platform, images[1])} == {"unlabelled"}
        archive, _sentence, _file = exported(platform, client, project, format="labeller")
        assert json.loads(archive.read("labels/a__labels.json"))["completed_tasks"] == ["finished"]

    def test_what_labels_leave_open_can_become_background(self, platform, client, project, images):
        data = json.dumps({"completed_tasks": [], "labels": [point(20, 30, "core")]}).encode()
        imported(platform, client, project, {"a__labels.json": data}, format="labeller")
        open_plane = plane_of(platform, images[0])
        imported(platform, client, project, {"a__labels.json": data}, format="labeller", fills_background=True)
        filled = plane_of(platform, images[0])
        assert set(np.unique(open_plane)) == {2, 255}
        assert np.array_equal(filled, np.where(open_plane == 2, 2, 0))

    def test_what_a_format_says_and_we_cannot_hold_is_told(self, platform, client, project, images):
        labels = [point(20, 30, None), point(20, 30, "core") | {"anno_data": {"quality": "good"}}]
        data = json.dumps(labels).encode()
        _rows, _sentence, result = imported(platform, client, project, {"a__labels.json": data}, format="labeller")
        assert result["notices"] == [
            "a__labels.json: 1 extra fields of labels were left out",
            "a__labels.json: 1 labels without a class were left out",
        ]

    def test_two_files_about_one_image_are_not_both_taken(self, platform, client, project, images):
        data = json.dumps([point(20, 30, "core")]).encode()
        files = {"a__labels.json": data, "a.json": data}
        _rows, _sentence, result = imported(platform, client, project, files, format="labeller")
        [refused] = result["refused"]
        assert refused["reason"] == "'a.json' is for 'a.png' as 'a__labels.json' is; choose one of the two"

    def test_an_image_that_two_coco_files_annotate_is_told(self, platform, client, project, images):
        document = {
            "images": [{"id": 7, "file_name": "a.png", "height": 100, "width": 150}],
            "categories": [{"id": 1, "name": "ring"}],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "segmentation": [[10, 10, 120, 10, 60, 90]]}],
        }
        files = {"a.json": json.dumps(document).encode(), "b.json": json.dumps(document).encode()}
        _rows, _sentence, result = imported(platform, client, project, files, format="coco")
        assert [row["reason"] for row in result["refused"]] == ["'a.png' has labels in two places; choose one of them"]

    @pytest.mark.parametrize("kind", ["coco", "cvat", "labelme", "labeller"])
    def test_hostile_files_are_refused_one_by_one(self, platform, client, project, images, kind):
        good = {
            "coco": "{}",
            "cvat": "<annotations/>",
            "labelme": "{}",
            "labeller": json.dumps([point(20, 30, "core")]),
        }
        entities = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>'
        files = {"a.json": entities.encode(), "b.json": good[kind].encode()}
        _rows, sentence, result = imported(platform, client, project, files, format=kind)
        reasons = {row["name"]: row["reason"] for row in result["refused"]}
        assert "'a.json'" in reasons["a.json"]
        assert "root:" not in sentence

    def test_an_export_may_bring_the_images(self, platform, client, project, images):
        imported(platform, client, project, {"a.png": png(mask_of(0))})
        archive, _sentence, _file = exported(platform, client, project, with_images=True)
        assert sorted(archive.namelist()) == ["classes.json", "images/a.tif", "masks/a.png"]
        assert archive.read("images/a.tif") == platform.storage.read(images[0].working_key)

    def test_an_export_without_labels_says_so(self, platform, client, project, images):
        archive, sentence, _file = exported(platform, client, project)
        assert (archive.namelist(), sentence) == (["classes.json"], "labels of 0 images exported")


def point(x, y, label_class):
    """A point as Django Labeller writes it."""
    return {"label_type": "point", "label_class": label_class, "object_id": None, "position": {"x": x, "y": y}}


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
        ({"fills_background": True}, "fills_background"),
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
