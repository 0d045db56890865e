"""What a training set would be, over REST, before it is frozen."""

import uuid

import pytest

from tests.app.images import add_images, add_project, document_of, mask_of, run_job, tiles_of

NAMES = ("rat1-a.png", "rat1-b.png", "rat2-a.png", "rat2-b.png", "rat3-a.png", "rat3-b.png")


def label(client, platform, image, number):
    """Label every tile of an image of `add_images` with its truth."""
    mask = mask_of(number)
    for tile in tiles_of(platform, image):
        window = mask[tile.row0 : tile.row0 + tile.height, tile.col0 : tile.col0 + tile.width]
        answer = client.put(
            f"/v1/tiles/{tile.id}/annotation",
            json=document_of(window),
            params={"save_id": uuid.uuid4().hex},
            headers={"if-match": '"0"'},
        )
        assert answer.status_code == 200, answer.text


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def images(platform, client, ana, project, tmp_path):
    """Six labelled images of three animals; no two look the same."""
    images = add_images(platform, ana, project, tmp_path, names=NAMES)
    for number, image in enumerate(images):
        label(client, platform, image, number)
    platform.database.write(lambda session: [session.merge(image).sqlmodel_update({"hashes": []}) for image in images])
    return images


def preview(client, project, **form):
    answer = client.post(f"/v1/projects/{project.id}/training-sets:preview", json=form)
    assert answer.status_code == 200, answer.text
    return answer.json()


def look_alike(platform, *images):
    """Let images look the same, as a copy would."""
    platform.database.write(
        lambda session: [session.merge(image).sqlmodel_update({"hashes": ["00ff00ff00ff00ff"]}) for image in images]
    )


def test_a_preview_says_what_freezing_then_makes(platform, client, project, images):
    form = {"seed": 3, "group": r"rat\d", "fractions": [0.4, 0.3, 0.3]}
    told = preview(client, project, **form)
    created = client.post(f"/v1/projects/{project.id}/training-sets", json=form).json()
    run_job(platform, created["job"]["id"])
    frozen = client.get(f"/v1/training-sets/{created['training_set']['id']}").json()["summary"]
    assert {row["name"]: row["split"] for row in told["images"]} == {r["name"]: r["split"] for r in frozen["images"]}
    assert {split: row["pixels"] for split, row in told["splits"].items()} == frozen["balance"]["pixels"]
    assert sum(row["num_records"] for row in told["splits"].values()) == frozen["num_records"]
    assert (told["warnings"], told["diversity"]) == (frozen["warnings"], frozen["diversity"])


def test_a_preview_makes_nothing(client, project, images):
    preview(client, project)
    assert client.get(f"/v1/projects/{project.id}/training-sets").json()["items"] == []


def test_a_preview_of_nothing_labelled_says_what_to_do(platform, client, ana, project, tmp_path):
    add_images(platform, ana, project, tmp_path)
    answer = client.post(f"/v1/projects/{project.id}/training-sets:preview", json={})
    assert (answer.status_code, "label at least one" in answer.json()["detail"]) == (422, True)


def test_look_alikes_in_two_splits_leak_until_they_are_repaired(platform, client, project, images):
    look_alike(platform, images[0], images[5])
    client.patch(f"/v1/images/{images[0].id}", json={"split": "train"})
    client.patch(f"/v1/images/{images[5].id}", json={"split": "val"})
    told = preview(client, project)
    [leak] = told["leaks"]
    assert (leak["pairs"], leak["split"]) == ([[images[0].id, images[5].id]], "train")
    assert told["repair"] == {images[5].id: "train"}
    client.patch(f"/v1/images/{images[5].id}", json={"split": "train"})
    again = preview(client, project)
    assert (again["leaks"], again["repair"]) == ([], {})
    assert not any("look the same" in warning for warning in again["warnings"])


def test_a_group_in_two_splits_leaks_and_takes_its_look_alikes_along(platform, client, project, images):
    look_alike(platform, images[1], images[2])
    client.patch(f"/v1/images/{images[0].id}", json={"split": "test"})
    client.patch(f"/v1/images/{images[1].id}", json={"split": "val"})
    told = preview(client, project, group=r"rat\d")
    [leak] = told["leaks"]
    assert (leak["groups"], len(leak["image_ids"])) == (["rat1"], 4)
    for image_id, split in told["repair"].items():
        client.patch(f"/v1/images/{image_id}", json={"split": split})
    assert preview(client, project, group=r"rat\d")["leaks"] == []
