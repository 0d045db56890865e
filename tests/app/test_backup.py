"""Everything in one file, and back."""

import stat
import zipfile

import pytest

from axons.app.platform import Platform
from axons.app.services.backup import restore
from axons.app.settings import Settings
from axons.errors import ArchiveRefused, Conflict
from tests.app.conftest import As


@pytest.fixture
def backup(platform, admin, tmp_path):
    As(platform, admin).post("/v1/projects", json={"name": "kept"})
    platform.storage.write("models/7f/model/weights", b"weights")
    platform.storage.write("tmp/8a/part", b"passing")
    answer = As(platform, admin).get("/v1/backups/now")
    assert answer.status_code == 200, answer.text
    file = tmp_path / "backup.zip"
    file.write_bytes(answer.content)
    return file


def test_what_was_backed_up_is_there_after_a_restore(backup, admin, tmp_path):
    restore(backup, tmp_path / "restored")
    there = Platform.open(Settings(data=tmp_path / "restored"))
    projects = As(there, admin).get("/v1/projects").json()["items"]
    assert [project["name"] for project in projects] == ["kept"]
    assert there.storage.read("models/7f/model/weights") == b"weights"
    assert not there.storage.exists("tmp/8a/part")
    assert stat.S_IMODE((tmp_path / "restored").stat().st_mode) == 0o700
    there.database.close()


def test_a_backup_leaves_nothing_behind_on_the_server(backup, platform):
    assert list(platform.settings.data.glob("backup-*")) == []


def test_a_backup_is_for_administrators(platform, ana):
    assert As(platform, ana).get("/v1/backups/now").status_code == 403
    assert list(platform.settings.data.glob("backup-*")) == []


def test_a_backup_is_not_restored_over_something(backup, tmp_path):
    with pytest.raises(Conflict, match="is not empty"):
        restore(backup, tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "storage/tmp/x/y", "other.db", "storage\\models\\x"])
def test_a_file_that_holds_something_else_is_no_backup(backup, tmp_path, name):
    with zipfile.ZipFile(backup, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(ArchiveRefused, match="is no backup of axons"):
        restore(backup, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
