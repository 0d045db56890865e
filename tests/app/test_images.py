"""Importing images as a job, and looking at them."""

import hashlib
import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import s3fs
from PIL import ExifTags
from PIL import Image as Picture
from sqlmodel import select

from axons.app.jobs import import_images
from axons.app.services.imports import is_inside_own
from axons.app.services.uploads import expire_uploads
from axons.app.tables import Image, Job, ProjectMember, Tile, Upload
from axons.data.images import WorkingImage
from axons.errors import AxonsError
from tests.app.conftest import As
from tests.app.images import add_images, add_project, commit, images_of, png, run_job, tiles_of
from tests.app.uploads import send
from tests.drawing import draw_disks


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def image(platform, ana, project, tmp_path) -> Image:
    return add_images(platform, ana, project, tmp_path)[0]


def drawn(seed=0, height=100, width=150):
    return png(draw_disks(height, width, seed=seed, channels=3).image)


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        [archive.writestr(name, data) for name, data in files.items()]
    return buffer.getvalue()


def start(client, project, **form):
    answer = client.post(f"/v1/projects/{project.id}/images", json=form)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def imported(platform, client, project, files):
    """Upload files, import them; returns the job's rows, its sentence, and the images."""
    uploads = [send(client, data, name=name, project_id=project.id) for name, data in files.items()]
    job_id = start(client, project, uploads=uploads)
    rows, sentence = run_job(platform, job_id)
    images = platform.database.read(lambda session: images_of(session, project))
    job = client.get(f"/v1/jobs/{job_id}").json()
    return rows, sentence, images, job


def files_in(platform):
    return [found.key for found in platform.storage.list_objects()]


@pytest.mark.usefixtures("local_ray")
class TestImport:
    def test_files_become_images_with_tiles_and_thumbnails(self, platform, client, project):
        files = {f"{n}.png": drawn(seed=n) for n in range(5)}
        rows, sentence, images, _job = imported(platform, client, project, files)
        assert sentence == "5 images imported"
        assert [row["progress"] for row in rows if "progress" in row] == [0.2, 0.4, 0.6, 0.8, 1.0]
        listed = client.get(f"/v1/projects/{project.id}/images").json()["items"]
        assert [row["name"] for row in listed] == sorted(files)
        assert [row["num_tiles"]["unlabelled"] for row in listed] == [6] * 5
        assert [row["sha256"] for row in listed] == [hashlib.sha256(files[row["name"]]).hexdigest() for row in listed]
        pictures = [client.get(f"/v1/images/{image.id}/thumbnail") for image in images]
        assert {(answer.status_code, answer.headers["content-type"]) for answer in pictures} == {(200, "image/jpeg")}
        assert all(image.stored_bytes > 0 for image in images)

    def test_a_zip_with_one_broken_file_gives_the_others_and_a_reason(self, platform, client, project):
        data = zipped({"in/a.png": drawn(1), "in/b.png": drawn(2)[:500], "in/c.png": drawn(3)})
        _rows, sentence, images, job = imported(platform, client, project, {"all.zip": data})
        assert [image.name for image in images] == ["in/a.png", "in/c.png"]
        assert sentence.startswith("2 images imported, 1 refused: 'in/b.png'")
        assert [row["name"] for row in job["result"]["refused"]] == ["in/b.png"]

    def test_what_is_no_image_is_refused_by_its_content(self, platform, client, project):
        _rows, sentence, images, _job = imported(platform, client, project, {"a.png": b"<svg/>", "b.txt": drawn()})
        assert [image.name for image in images] == ["b.txt"]
        assert "1 image imported, 1 refused: 'a.png'" in sentence

    def test_a_16_bit_tiff_keeps_its_depth_and_is_seen_in_8_bit(self, platform, client, project):
        pixels = np.random.default_rng(7).integers(200, 40_000, (80, 90), np.uint16)
        buffer = io.BytesIO()
        Picture.fromarray(pixels).save(buffer, "TIFF")
        _rows, _sentence, [image], _job = imported(platform, client, project, {"deep.tif": buffer.getvalue()})
        working = WorkingImage(platform.storage.local_path(image.working_key)).read_all()
        assert np.array_equal(working[..., 0], pixels)
        assert image.sha256 == hashlib.sha256(buffer.getvalue()).hexdigest()
        view = Picture.open(io.BytesIO(client.get(f"/v1/images/{image.id}/view?format=png").content))
        assert (view.mode, view.size) == ("L", (90, 80))

    def test_palette_and_alpha_become_colours(self, platform, client, project):
        palette, alpha = io.BytesIO(), io.BytesIO()
        picture = Picture.open(io.BytesIO(drawn()))
        picture.quantize(8).save(palette, "PNG")
        picture.convert("RGBA").save(alpha, "PNG")
        files = {"alpha.png": alpha.getvalue(), "palette.png": palette.getvalue()}
        _rows, _sentence, images, _job = imported(platform, client, project, files)
        assert [image.channels for image in images] == [3, 3]

    def test_a_turned_photograph_is_upright_and_says_nothing_of_its_place(self, platform, client, project):
        picture = Picture.open(io.BytesIO(drawn()))
        exif = Picture.Exif()
        exif[ExifTags.Base.Orientation] = 6
        exif[ExifTags.Base.Make] = "secret camera"
        exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "secret place"
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", exif=exif)
        assert b"secret camera" in buffer.getvalue()
        _rows, _sentence, [image], _job = imported(platform, client, project, {"photo.jpg": buffer.getvalue()})
        assert (image.height, image.width) == (150, 100)
        tile = tiles_of(platform, image)[0]
        paths = [
            *(f"/v1/images/{image.id}/{part}" for part in ("view?format=png", "view?format=jpeg", "thumbnail")),
            *(f"/v1/tiles/{tile.id}/{part}" for part in ("image", "image?margin=32", "thumbnail", "mask")),
        ]
        served = [client.get(path) for path in paths]
        assert {answer.status_code for answer in served} == {200}
        expire_uploads(platform)
        stored = [platform.storage.read(key) for key in files_in(platform)]
        everything = [answer.content for answer in served] + stored
        assert [data for data in everything if b"secret" in data or b"Exif" in data] == []
        assert all(not Picture.open(io.BytesIO(answer.content)).getexif() for answer in served)

    def test_uploads_are_gone_once_their_images_are_there(self, platform, client, project):
        _rows, _sentence, [image], _job = imported(platform, client, project, {"a.png": drawn()})
        expire_uploads(platform)
        assert platform.database.read(lambda session: session.exec(select(Upload)).all()) == []
        assert sorted(files_in(platform)) == sorted([image.working_key, image.sheet_key])

    def test_a_project_may_keep_the_files_as_they_came(self, platform, ana, client):
        project = add_project(platform, ana, keeps_originals=True)
        _rows, _sentence, [image], _job = imported(platform, client, project, {"a.png": drawn()})
        expire_uploads(platform)
        assert platform.storage.read(image.original_key) == drawn()

    def test_a_kept_original_goes_to_editors_as_it_came(self, platform, ana, ben, client):
        project = add_project(platform, ana, keeps_originals=True)
        _rows, _sentence, [image], _job = imported(platform, client, project, {"a b.png": drawn()})
        path = f"/v1/images/{image.id}/original"
        answer = client.get(path)
        assert answer.content == drawn()
        assert answer.headers["content-disposition"] == 'attachment; filename="a-b.png"'
        assert answer.headers["content-type"] == "application/octet-stream"
        member = ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer")
        platform.database.write(lambda session: session.add(member))
        assert As(platform, ben).get(path).status_code == 403

    def test_an_original_that_was_not_kept_is_404(self, platform, client, project):
        _rows, _sentence, [image], _job = imported(platform, client, project, {"a.png": drawn()})
        answer = client.get(f"/v1/images/{image.id}/original")
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith("the file of image 'a.png' was not kept")

    def test_an_import_that_runs_twice_changes_nothing(self, platform, client, project):
        upload = send(client, zipped({"a.png": drawn(1), "b.png": b"x"}), name="all.zip", project_id=project.id)
        job_id = start(client, project, uploads=[upload])
        first = work_and_commit(platform, job_id)
        before = state(platform)
        assert work_and_commit(platform, job_id) == first
        assert state(platform) == before
        assert len(before[0]) == 1

    def test_the_same_file_again_is_told(self, platform, client, project):
        imported(platform, client, project, {"a.png": drawn()})
        _rows, _sentence, images, _job = imported(platform, client, project, {"b.png": drawn()})
        assert images[0].notices == []
        assert "is the same file as 'a.png'" in images[1].notices[-1]

    def test_an_upload_that_is_gone_is_a_refusal(self, platform, client, project):
        upload = send(client, drawn(), project_id=project.id)
        job_id = start(client, project, uploads=[upload])
        platform.storage.delete_prefix("tmp")
        _rows, sentence = run_job(platform, job_id)
        assert "is not in storage any more; send it again" in sentence

    def test_a_zip_of_images_brings_their_django_labeller_files(self, platform, client, project):
        ring = [{"x": 10, "y": 10}, {"x": 120, "y": 10}, {"x": 60, "y": 90}]
        labels = [{"label_type": "polygon", "label_class": "core", "regions": [ring]}]
        files = {
            "in/a.png": drawn(1),
            "in/a__labels.json": json.dumps({"completed_tasks": [], "labels": labels}),
            "in/b.png": drawn(2),
            "in/b__labels.json": json.dumps([{"label_type": "polygon", "label_class": "fat", "regions": [ring]}]),
            "in/c__labels.json": json.dumps([]),
        }
        _rows, sentence, images, job = imported(platform, client, project, {"all.zip": zipped(files)})
        assert [image.name for image in images] == ["in/a.png", "in/b.png"]
        assert sentence.startswith("2 images imported, 2 refused:")
        assert sentence.endswith("; labels of 4 tiles imported")
        first, second = ([tile.counts for tile in tiles_of(platform, image)] for image in images)
        pixels = sum(counts.get("2", 0) for counts in first)
        assert pixels == pytest.approx(110 * 80 / 2, rel=0.02)
        assert not any(second)
        reasons = {row["name"]: row["reason"] for row in job["result"]["refused"]}
        assert "label 'fat' is no class of the project" in reasons["in/b__labels.json"]
        assert "has no image of its own beside it" in reasons["in/c__labels.json"]

    def test_committing_images_with_labels_twice_changes_nothing(self, platform, client, project):
        ring = [{"x": 10, "y": 10}, {"x": 120, "y": 10}, {"x": 60, "y": 90}]
        labels = json.dumps([{"label_type": "polygon", "label_class": "core", "regions": [ring]}])
        rows, _, _, job = imported(
            platform, client, project, {"a.zip": zipped({"a.png": drawn(), "a__labels.json": labels})}
        )
        told = [row for row in rows if row.keys() != {"progress"}]
        platform.database.write(lambda session: commit(session, job["id"], told))
        assert client.get(f"/v1/jobs/{job['id']}").json()["result"] == job["result"]

    def test_fifty_files_in_a_zip_are_fifty_images(self, platform, client, project):
        data = zipped({f"{n:02}.png": drawn(n, 40, 40) for n in range(50)})
        _rows, sentence, images, _job = imported(platform, client, project, {"all.zip": data})
        assert sentence == "50 images imported"
        assert len(images) == 50

    def test_a_prefix_of_a_bucket_is_imported(self, platform, teacher, s3_uri):
        project = add_project(platform, teacher)
        put(s3_uri, {"x/a.png": drawn(1), "x/with space.png": drawn(2), "x/.hidden": b"", "y/c.png": drawn(3)})
        job_id = start(As(platform, teacher), project, source=f"{s3_uri}/x")
        _rows, sentence = run_job(platform, job_id)
        images = platform.database.read(lambda session: images_of(session, project))
        assert [image.name for image in images] == ["a.png", "with space.png"]
        assert sentence == "2 images imported"

    def test_a_manifest_names_images_and_says_groups_and_pixel_sizes(self, platform, teacher, s3_uri):
        project = add_project(platform, teacher)
        text = "image,name,group,pixel_size_um\na.png,first,mouse 1,0.25\nz.png,,,\n"
        put(s3_uri, {"m/list.csv": text.encode(), "m/a.png": drawn(1)})
        job_id = start(As(platform, teacher), project, source=f"{s3_uri}/m/list.csv")
        _rows, sentence = run_job(platform, job_id)
        [image] = platform.database.read(lambda session: images_of(session, project))
        assert (image.name, image.group, image.pixel_size_um) == ("first", "mouse 1", 0.25)
        assert "1 refused: 'z.png' is not in storage" in sentence

    def test_a_manifest_never_leads_into_the_server(self, platform, teacher, s3_uri, tmp_path):
        project = add_project(platform, teacher)
        (tmp_path / "b.png").write_bytes(drawn())
        text = f"image\n{tmp_path / 'b.png'}\n/etc/passwd\n"
        put(s3_uri, {"list.csv": text.encode()})
        job_id = start(As(platform, teacher), project, source=f"{s3_uri}/list.csv")
        rows, _sentence = run_job(platform, job_id)
        assert len([row for row in rows if "refusal" in row]) == 2
        assert platform.database.read(lambda session: images_of(session, project)) == []

    def test_an_administrator_imports_a_folder_of_the_server(self, platform, admin, tmp_path):
        project = add_project(platform, admin)
        folder = tmp_path / "scans"
        (folder / "day 1").mkdir(parents=True)
        (folder / "day 1" / "a.png").write_bytes(drawn())
        _rows, sentence = run_job(platform, start(As(platform, admin), project, source=str(folder)))
        [image] = platform.database.read(lambda session: images_of(session, project))
        assert (image.name, sentence) == ("day 1/a.png", "1 image imported")

    def test_a_source_with_nothing_in_it_fails_with_a_reason(self, platform, admin, tmp_path):
        project = add_project(platform, admin)
        job_id = start(As(platform, admin), project, source=str(tmp_path / "nowhere"))
        with pytest.raises(AxonsError, match="there are no files at"):
            run_job(platform, job_id)


def put(s3_uri, files):
    bucket = s3fs.S3FileSystem(use_listings_cache=False)
    [bucket.pipe_file(f"{s3_uri}/{name}", data) for name, data in files.items()]


def work_and_commit(platform, job_id):
    request = platform.database.read(
        lambda session: import_images.prepare(platform, session, session.get_one(Job, job_id))
    )
    rows = list(import_images.work(request))
    platform.database.write(lambda session: commit(session, job_id, rows))
    return rows


def state(platform):
    def read(session):
        images = [image.model_dump() for image in session.exec(select(Image))]
        tiles = sorted(tile.id for tile in session.exec(select(Tile)))
        return images, tiles, [job.result for job in session.exec(select(Job))]

    return platform.database.read(read)


@pytest.mark.parametrize(
    ("who", "source", "status"),
    [
        ("ana", "s3://bucket/x", 403),
        ("ana", "/scans", 403),
        ("teacher", "/scans", 403),
        ("teacher", "s3://bucket/x", 202),
        ("admin", "/scans", 202),
        ("admin", "scans", 422),
        ("admin", "http://example.org/x", 422),
        ("admin", "file:///etc", 422),
        ("admin", "/", 403),
    ],
)
def test_sources_on_the_servers_side_are_for_those_who_may(platform, request, who, source, status):
    actor = request.getfixturevalue(who)
    project = add_project(platform, actor)
    answer = As(platform, actor).post(f"/v1/projects/{project.id}/images", json={"source": source})
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("source", "is_inside"),
    [
        ("s3://bucket/prefix", True),
        ("s3://bucket/prefix/projects/x", True),
        ("s3://bucket/x/../prefix/projects", True),
        ("s3://bucket", True),
        ("s3://bucket/prefix2", False),
        ("s3://other/prefix", False),
        ("//data/axons/storage", True),
        ("/data/axons/../axons/axons.db", True),
        ("/data/axons2", False),
        ("/data", True),
    ],
)
def test_the_platforms_own_places_are_no_source(source, is_inside):
    assert is_inside_own(source, ["s3://bucket/prefix", "/data/axons"]) == is_inside


def test_the_data_folder_is_no_source(platform, admin):
    project = add_project(platform, admin)
    source = str(Path(platform.settings.storage) / "projects")
    answer = As(platform, admin).post(f"/v1/projects/{project.id}/images", json={"source": source})
    assert answer.status_code == 403


@pytest.mark.parametrize("form", [{}, {"uploads": ["a"], "source": "s3://b/x"}, {"uploads": ["a b"]}])
def test_an_import_takes_uploads_or_a_source(client, project, form):
    assert client.post(f"/v1/projects/{project.id}/images", json=form).status_code == 422


def test_an_unfinished_upload_is_not_imported(client, project):
    form = {"name": "a.png", "num_bytes": 10, "project_id": project.id}
    upload = client.post("/v1/uploads", json=form).json()["id"]
    answer = client.post(f"/v1/projects/{project.id}/images", json={"uploads": [upload]})
    assert (answer.status_code, "is not complete" in answer.json()["detail"]) == (409, True)


@pytest.mark.both_databases
def test_images_are_found_paged_and_shown(platform, ana, client, project, tmp_path):
    add_images(platform, ana, project, tmp_path, names=("b.png", "a.png", "c_1.png"))
    path = f"/v1/projects/{project.id}/images"
    first = client.get(path, params={"limit": 2}).json()
    second = client.get(path, params={"limit": 2, "cursor": first["next"]}).json()
    assert [row["name"] for row in first["items"] + second["items"]] == ["a.png", "b.png", "c_1.png"]
    assert [row["name"] for row in client.get(path, params={"search": "C_"}).json()["items"]] == ["c_1.png"]
    assert client.get(f"/v1/images/{first['items'][0]['id']}").json() == first["items"][0]


@pytest.mark.both_databases
def test_people_decide_group_split_pixel_size_and_exclusion(client, image):
    path = f"/v1/images/{image.id}"
    changed = client.patch(path, json={"group": "mouse 1", "split": "test", "pixel_size_um": 0.5, "is_excluded": True})
    assert [changed.json()[name] for name in ("group", "split", "pixel_size_um")] == ["mouse 1", "test", 0.5]
    cleared = client.patch(path, json={"split": None}).json()
    assert (cleared["split"], cleared["group"], cleared["is_excluded"]) == (None, "mouse 1", True)
    assert client.patch(path, json={"split": "all"}).status_code == 422
    assert client.patch(path, json={"pixel_size_um": 0}).status_code == 422
    assert client.patch(path, json={"name": None}).status_code == 422


@pytest.mark.both_databases
def test_a_deleted_image_waits_in_the_trash(platform, client, project, image):
    assert client.delete(f"/v1/images/{image.id}").status_code == 204
    assert client.get(f"/v1/images/{image.id}").status_code == 404
    assert client.get(f"/v1/images/{image.id}/view").status_code == 404
    assert client.get(f"/v1/projects/{project.id}/images").json()["items"] == []
    [lost] = client.get("/v1/trash").json()
    assert (lost["kind"], lost["label"]) == ("image", "a.png")
    client.post(f"/v1/trash/{lost['id']}/restore")
    assert client.get(f"/v1/images/{image.id}").status_code == 200


def test_the_view_is_at_most_so_large_and_never_larger_than_the_image(client, image):
    path = f"/v1/images/{image.id}/view"
    small = Picture.open(io.BytesIO(client.get(path, params={"max_side": 75}).content))
    whole = Picture.open(io.BytesIO(client.get(path, params={"max_side": 4096, "format": "png"}).content))
    assert (small.size, small.format) == ((75, 50), "JPEG")
    assert np.array_equal(np.array(whole), draw_disks(100, 150, channels=3).image)


@pytest.mark.both_databases
def test_images_are_for_members(platform, ben, project, image):
    stranger = As(platform, ben)
    paths = [f"/v1/images/{image.id}{part}" for part in ("", "/view", "/thumbnail")]
    assert [stranger.get(path).status_code for path in paths] == [404] * 3
    assert stranger.get(f"/v1/projects/{project.id}/images").status_code == 404
    assert stranger.delete(f"/v1/images/{image.id}").status_code == 404
    platform.database.write(
        lambda session: session.add(ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer"))
    )
    assert [stranger.get(path).status_code for path in paths] == [200] * 3
    assert stranger.delete(f"/v1/images/{image.id}").status_code == 403
    assert stranger.patch(f"/v1/images/{image.id}", json={"group": "x"}).status_code == 403
    form = {"uploads": ["x"]}
    assert stranger.post(f"/v1/projects/{project.id}/images", json=form).status_code == 403


def test_the_picture_of_a_tile_is_its_pixels(platform, client, image):
    tile = tiles_of(platform, image)[1]
    answer = client.get(f"/v1/tiles/{tile.id}/image")
    pixels = np.array(Picture.open(io.BytesIO(answer.content)))
    truth = draw_disks(100, 150, channels=3).image
    assert np.array_equal(pixels, truth[:64, 64:128])
    assert answer.headers["axons-window"] == "0,64,64,64"


def test_a_tile_can_be_seen_with_its_surroundings_as_far_as_there_are_any(platform, client, image):
    tile = tiles_of(platform, image)[1]
    answer = client.get(f"/v1/tiles/{tile.id}/image?margin=32")
    assert answer.headers["axons-window"] == "0,32,96,118"
    assert Picture.open(io.BytesIO(answer.content)).size == (118, 96)


def test_a_picture_that_the_browser_has_is_not_sent_again(platform, client, image):
    tile = tiles_of(platform, image)[0]
    paths = [f"/v1/tiles/{tile.id}/{part}" for part in ("image", "thumbnail", "mask")]
    etags = [client.get(path).headers["etag"] for path in [*paths, f"/v1/images/{image.id}/view"]]
    again = [
        client.get(path, headers={"If-None-Match": etag})
        for path, etag in zip([*paths, f"/v1/images/{image.id}/view"], etags, strict=True)
    ]
    assert [(answer.status_code, answer.content) for answer in again] == [(304, b"")] * 4
    assert len(set(etags)) == 4


def test_a_tile_is_answered_in_30_ms_once_its_image_is_open(platform, client, image, record_property):
    tile = tiles_of(platform, image)[0]
    client.get(f"/v1/tiles/{tile.id}/image")
    began, began_cpu = time.perf_counter(), time.process_time()
    for _ in range(50):
        client.get(f"/v1/tiles/{tile.id}/image")
    record_property("mean of a tile PNG, ms", round(20 * (time.perf_counter() - began), 1))
    assert time.process_time() - began_cpu < 50 * 0.030  # of the processor: the machine may be busy with others
