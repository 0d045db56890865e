"""What comes out of a ZIP, under which names, and what is said of the rest; bombs are in test_hostile_images.py."""

import os
import random
import struct
import zipfile
from pathlib import Path

import pytest

from axons.data.archives import ArchiveLimits, unpack_archive
from axons.errors import ArchiveRefused


@pytest.fixture
def archive(tmp_path):
    """Write a ZIP of {name: bytes}; its path."""

    def write(files, method=zipfile.ZIP_DEFLATED, comment=b""):
        with zipfile.ZipFile(tmp_path / "upload.zip", "w", method) as opened:
            opened.comment = comment
            for name, data in files.items():
                opened.writestr(name, data)
        return tmp_path / "upload.zip"

    return write


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def unpack(source, folder, **limits):
    return list(unpack_archive(source, folder, name="upload.zip", limits=ArchiveLimits(**limits)))


def contents(files):
    return {file.name: file.path.read_bytes() for file in files if file.path}


def incompressible(num_bytes):
    return os.urandom(num_bytes)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_come_out_as_they_went_in(archive, folder, method):
    files = {"a.png": incompressible(3_000_000), "some/folder/b.png": b"b", "empty.png": b"", "ä ö.png": b"c" * 50}
    assert contents(unpack(archive(files, method), folder)) == files


def test_files_lie_under_numbers_whatever_their_names(archive, folder):
    files = unpack(archive({"a.png": b"1", "b\nc.png": b"2", "x" * 1000: b"3"}), folder)
    assert [file.path.name for file in files] == ["0", "1", "2"]
    assert [len(file.name) for file in files] == [5, 7, 300]


def test_files_come_one_by_one(archive, folder):
    files = unpack_archive(archive({"a.png": b"1", "b.png": b"2"}), folder, name="upload.zip")
    next(files)
    assert [path.name for path in folder.iterdir()] == ["0"]


def test_folders_and_what_systems_add_are_passed_over(archive, folder):
    noise = ["folder/", "__MACOSX/._a.png", "folder/.DS_Store", "Thumbs.db", "folder/desktop.ini"]
    files = unpack(archive(dict.fromkeys(noise, b"") | {"folder/a.png": b"1"}), folder)
    assert [file.name for file in files] == ["folder/a.png"]


def test_what_systems_add_does_not_count_as_files(archive, folder):
    files = {f"{number}.png": b"1" for number in range(3)} | {f"__MACOSX/._{number}.png": b"1" for number in range(3)}
    assert len(unpack(archive(files), folder, max_files=3)) == 3


def test_a_comment_at_the_end_does_no_harm(archive, folder):
    assert contents(unpack(archive({"a.png": b"1"}, comment=b"c" * 65_535), folder)) == {"a.png": b"1"}


def test_an_archive_behind_other_bytes_is_read(archive, folder):
    source = archive({"a.png": b"1"})
    source.write_bytes(b"#!/bin/sh\n" + source.read_bytes())
    assert contents(unpack(source, folder)) == {"a.png": b"1"}


def test_an_archive_that_uses_zip64_is_read(tmp_path, folder):
    with zipfile.ZipFile(tmp_path / "upload.zip", "w") as opened, opened.open("a.png", "w", force_zip64=True) as file:
        file.write(b"1")
    assert contents(unpack(tmp_path / "upload.zip", folder)) == {"a.png": b"1"}


def test_a_refused_file_leaves_the_others(archive, folder):
    files = unpack(archive({"a.png": b"1", "../b.png": b"2", "inner.zip": b"PK\x03\x04", "c.png": b"3"}), folder)
    assert contents(files) == {"a.png": b"1", "c.png": b"3"}
    assert [file.refusal for file in files] == [
        None,
        "'../b.png' in 'upload.zip' has a name that leads out of the archive; rename it",
        "'inner.zip' in 'upload.zip' is itself an archive; put its files here instead",
        None,
    ]
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("name", ["../a", "a/../../b", "..\\a", "/etc/passwd", "\\\\server\\a", "C:\\a", "C:a", ".."])
def test_a_name_that_leads_out_is_refused(archive, folder, name):
    [file] = unpack(archive({name: b"1"}), folder)
    assert file.refusal.endswith("has a name that leads out of the archive; rename it")
    assert list(folder.parent.rglob("*")) == [folder, folder.parent / "upload.zip"] or not file.path


@pytest.mark.parametrize(
    "head", [b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!\x1a"]
)
def test_an_archive_inside_is_refused_by_its_content(archive, folder, head):
    [file] = unpack(archive({"a.png": head + bytes(20)}), folder)
    assert file.refusal == "'a.png' in 'upload.zip' is itself an archive; put its files here instead"
    assert list(folder.iterdir()) == []


def test_a_file_without_a_name_is_refused(archive, folder):
    source = archive({"a": b"1"})
    source.write_bytes(source.read_bytes().replace(b"a", b"\0"))
    [file] = unpack(source, folder)
    assert file.refusal == "'' in 'upload.zip' has no name; give it one"


def test_a_damaged_file_is_refused_and_leaves_nothing(archive, folder):
    source = archive({"a.png": incompressible(1000), "b.png": b"2"})
    data = bytearray(source.read_bytes())
    data[200] ^= 0xFF
    source.write_bytes(data)
    files = unpack(source, folder)
    assert files[0].refusal.startswith("'a.png' in 'upload.zip' is damaged (")
    assert contents(files) == {"b.png": b"2"}
    assert [path.name for path in folder.iterdir()] == ["1"]


@pytest.mark.parametrize("at", range(0, 30, 3))
def test_a_damaged_local_header_costs_one_file_at_most(archive, folder, at):
    source = archive({"a.png": b"1", "b.png": b"2"})
    data = bytearray(source.read_bytes())
    data[at] ^= 0xFF
    source.write_bytes(data)
    assert contents(unpack(source, folder))["b.png"] == b"2"


def test_a_ratio_at_the_limit_is_allowed(archive, folder):
    source = archive({"zeros.bmp": bytes(100_000)})
    [allowed] = unpack(source, folder, max_ratio=1000)
    [refused] = unpack(source, folder, max_ratio=500)
    assert allowed.path.stat().st_size == 100_000
    assert refused.refusal.endswith("times its size, the limit is 500; save it in another format")


@pytest.mark.parametrize(
    ("files", "limits", "message"),
    [
        ({"a": b"1", "b": b"2"}, {"max_files": 1}, "'upload.zip' holds 2 files, the limit is 1; split it"),
        ({"a": b"12"}, {"max_unpacked_bytes": 1}, "'upload.zip' unpacks to 0.0 GB, the limit is 0.0 GB; split it"),
        ({}, {}, "'upload.zip' holds no files; choose another archive"),
        ({"folder/": b""}, {}, "'upload.zip' holds no files; choose another archive"),
    ],
)
def test_an_archive_that_breaks_a_rule_is_refused_as_a_whole(archive, folder, files, limits, message):
    with pytest.raises(ArchiveRefused) as refusal:
        unpack(archive(files), folder, **limits)
    assert str(refusal.value) == message
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x05\x06", bytes(100_000), b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_archive_is_refused(tmp_path, folder, data):
    (tmp_path / "upload.zip").write_bytes(data)
    with pytest.raises(ArchiveRefused, match=r"^'upload.zip' .+; (make it again|split it)$"):
        unpack(tmp_path / "upload.zip", folder)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_an_archive_that_is_cut_off_is_refused(archive, folder, share):
    source = archive({f"{number}.png": incompressible(500) for number in range(10)})
    source.write_bytes(source.read_bytes()[: int(share * source.stat().st_size)])
    with pytest.raises(ArchiveRefused, match="^'upload.zip' is not a ZIP or is cut off at its end; make it again$"):
        unpack(source, folder)


@pytest.mark.parametrize("seed", range(60))
def test_a_mutated_archive_is_refused_or_unpacked(archive, folder, seed):
    source = archive({f"{number}.png": b"%d" % number * 300 for number in range(5)})
    source.write_bytes(mutated(source.read_bytes(), seed))
    assert whole_refusal(source, folder) or len(list(folder.iterdir())) <= 6
    assert {path.name for path in folder.parent.iterdir()} == {"upload.zip", "files"}


def mutated(data, seed):
    """Bytes flipped where ZIP keeps its tables: in the last two thirds."""
    dice, changed = random.Random(seed), bytearray(data)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(data) // 3, len(data) - 4)
        changed[at : at + 4] = struct.pack("<I", dice.choice([0, 1, 0xFFFF, 0xFFFFFFFF, dice.getrandbits(32)]))
    return bytes(changed)


def whole_refusal(source, folder):
    try:
        unpack(source, folder)
    except ArchiveRefused as refusal:
        return str(refusal)
    return ""


def test_a_missing_folder_is_our_own_mistake(archive, tmp_path):
    with pytest.raises(FileNotFoundError):
        unpack(archive({"a.png": b"1"}), Path(tmp_path, "missing"))
