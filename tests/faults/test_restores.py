"""The drill for a lost machine (R24): all of an installation is backed up and restored elsewhere, and works there."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from axons.app.settings import Settings
from axons.client import Client
from axons.data.storage import open_storage, sha256_of
from tests.app.images import document_of, mask_of
from tests.app.installation import Installation, command
from tests.faults.annotators import draw_files, new_project
from tests.faults.on_platform import import_model
from tests.faults.test_upgrades import rows_of
from tests.serve.models import make_model

LESSON_BREAK_S = 30 * 60
PASSING = ("lease", "upload")
AREAS = ("projects", "training-sets", "models")

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_sqlite_and_a_folder_are_restored_by_the_command(start, tmp_path, record_property):
    up, token = start()
    project_id = fill(Client(up.url, token), tmp_path)
    began, file, elsewhere = time.monotonic(), tmp_path / "backup.zip", tmp_path / "elsewhere"
    command(up, "backup", str(file), AXONS_TOKEN=token)
    up.stop()
    command(up, "restore", str(file), "--data", str(elsewhere / "data"))
    compare(Settings(data=up.data), Settings(data=elsewhere / "data"), record_property)
    works_there(*start(elsewhere), project_id, tmp_path)
    seconds = time.monotonic() - began
    record_property("megabytes", round(file.stat().st_size / 1e6, 1))
    record_property("seconds until it works elsewhere", f"{seconds:.0f}")
    assert seconds < LESSON_BREAK_S


def test_postgresql_and_s3_are_restored_from_a_dump_and_copied_objects(
    start, postgres, s3_uri, tmp_path, record_property
):
    url = postgres.fresh_database()
    up, token = start(AXONS_DATABASE_URL=url, AXONS_STORAGE_URL=f"{s3_uri}/here")
    project_id = fill(Client(up.url, token), tmp_path)
    began, elsewhere = time.monotonic(), tmp_path / "elsewhere"
    restored_url = postgres.dumped_and_restored(url)
    copy_objects(f"{s3_uri}/here", f"{s3_uri}/there")
    up.stop()
    here = Settings(data=up.data, database_url=url, storage_url=f"{s3_uri}/here")
    there = Settings(data=elsewhere / "data", database_url=restored_url, storage_url=f"{s3_uri}/there")
    compare(here, there, record_property)
    settings = {"AXONS_DATABASE_URL": restored_url, "AXONS_STORAGE_URL": f"{s3_uri}/there"}
    works_there(*start(elsewhere, **settings), project_id, tmp_path)
    seconds = time.monotonic() - began
    record_property("seconds until it works elsewhere", f"{seconds:.0f}")
    assert seconds < LESSON_BREAK_S


def fill(client: Client, folder: Path) -> str:
    """Images, labels, a training set, a model and a prediction; returns the project."""
    names = [f"{number}.png" for number in range(4)]
    project_id, tiles = new_project(client, draw_files(folder / "images", names))
    numbers = {image["id"]: int(image["name"][0]) for image in client.pages(f"projects/{project_id}/images")}
    for tile in tiles:
        rows = slice(tile["row0"], tile["row0"] + tile["height"])
        cols = slice(tile["col0"], tile["col0"] + tile["width"])
        client.annotate(tile["id"], document_of(mask_of(numbers[tile["image_id"]])[rows, cols]))
    client.wait_for(client.freeze(project_id)[1]["id"], timeout_s=120)
    model = import_model(client, Path(make_model(folder / "model")), project_id)
    [picture] = draw_files(folder / "images", ["predict.png"], seed=5, channels=1)
    client.predict(model["id"], picture, project_id=project_id)
    return project_id


def compare(here: Settings, there: Settings, record_property: Any) -> None:
    """Every row, but for those that pass by themselves meanwhile, and every object that lasts."""
    rows = [
        {name: len(found) for name, found in rows_of(each.database).items() if name not in PASSING}
        for each in (here, there)
    ]
    objects = [shas(each.storage) for each in (here, there)]
    record_property("rows restored", sum(rows[1].values()))
    record_property("objects restored", len(objects[1]))
    assert rows[0] == rows[1]
    assert rows[1]["revision"] > 0 and rows[1]["training_set"] == rows[1]["model"] == rows[1]["prediction"] == 1
    assert objects[0] == objects[1]
    assert len(objects[1]) > 10


def shas(uri: str) -> dict[str, str]:
    storage = open_storage(uri)
    found = [stored.key for area in AREAS for stored in storage.list_objects(area)]
    return {key: sha256_of(storage.read(key)) for key in found}


def copy_objects(source_uri: str, target_uri: str) -> None:
    """What the tools of an object store do: copy everything that lasts to another place."""
    source, target = open_storage(source_uri), open_storage(target_uri)
    for area in AREAS:
        for stored in source.list_objects(area):
            target.write(stored.key, source.read(stored.key))


def works_there(up: Installation, token: str, project_id: str, folder: Path) -> None:
    """People go on: labels are read and saved, and the model predicts."""
    client = Client(up.url, token)
    [tile, *_] = client.pages(f"projects/{project_id}/tiles")
    kept = json.loads(client.text(f"tiles/{tile['id']}/annotation"))
    assert client.annotate(tile["id"], kept, base=tile["revision"])["revision"] == tile["revision"] + 1
    [model] = client.pages("models", project_id=project_id)
    [picture] = draw_files(folder / "images", ["again.png"], seed=6, channels=1)
    assert client.predict(model["id"], picture, project_id=project_id)["state"] == "done"
