"""Files out of a ZIP that somebody sent, under rules that protect the platform."""

import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from axons.errors import ArchiveRefused

_END_RECORD = struct.Struct("<4s4H2LH")
_MAX_TAIL = (1 << 17) + _END_RECORD.size  # the end record, a comment of up to 64 KB after it, ZIP64's records before it
_MAX_DIRECTORY_BYTES = 4 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 1 << 20
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")
_NOISE = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """What one archive may hold; `max_ratio` is unpacked over packed size of a file."""

    max_files: int = 2000
    max_ratio: int = 100
    max_unpacked_bytes: int = 10**9


@dataclass(frozen=True, kw_only=True)
class ArchivedFile:
    """A file of the archive: where it was unpacked, or why it was turned down."""

    name: str
    path: Path | None = None
    refusal: str | None = None


def unpack_archive(
    source: Path, folder: Path, *, name: str, limits: ArchiveLimits = ArchiveLimits()
) -> Iterator[ArchivedFile]:
    """Unpack the files of a ZIP one by one into `folder`, under numbers: their names are only text.

    Folders, and what operating systems add (`__MACOSX/`, `.DS_Store`, `Thumbs.db`), are passed over.

    Raises:
        ArchiveRefused: the archive as a whole breaks a rule; a fault of one file is told in its `refusal`.
    """
    try:
        _check_directory(source, name)
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OSError) as error:
        raise ArchiveRefused(f"{name!r} is not a ZIP we can read ({error}); make it again") from error
    with archive:
        files = [info for info in archive.infolist() if not _is_passed_over(info.filename)]
        _check_files(files, source, name, limits)
        for number, info in enumerate(files):
            yield _unpack(archive, info, folder / str(number), name, limits)


def _check_directory(source: Path, name: str) -> None:
    """Look at the end records before zipfile reads a directory of any length into memory."""
    with source.open("rb") as file:
        file.seek(max(0, source.stat().st_size - _MAX_TAIL))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise ArchiveRefused(f"{name!r} is not a ZIP or is cut off at its end; make it again")
    directory_bytes = _END_RECORD.unpack_from(tail, at)[5]
    record64, locator64 = tail[max(0, at - 76) : max(0, at - 20)], tail[max(0, at - 20) : at]
    if locator64.startswith(b"PK\x06\x07") and record64.startswith(b"PK\x06\x06"):  # then zipfile believes ZIP64
        directory_bytes = int.from_bytes(record64[40:48], "little")
    if directory_bytes > _MAX_DIRECTORY_BYTES:
        table = f"a table of contents of {directory_bytes >> 20} MB"
        raise ArchiveRefused(f"{name!r} has {table}, the limit is {_MAX_DIRECTORY_BYTES >> 20} MB; split it")


def _check_files(files: list[zipfile.ZipInfo], source: Path, name: str, limits: ArchiveLimits) -> None:
    if not files:
        raise ArchiveRefused(f"{name!r} holds no files; choose another archive")
    if len(files) > limits.max_files:
        raise ArchiveRefused(f"{name!r} holds {len(files)} files, the limit is {limits.max_files}; split it")
    unpacked = sum(info.file_size for info in files)
    if unpacked > limits.max_unpacked_bytes:
        limit = f"{limits.max_unpacked_bytes / 1e9:.1f} GB"
        raise ArchiveRefused(f"{name!r} unpacks to {unpacked / 1e9:.1f} GB, the limit is {limit}; split it")
    if any(info.header_offset < 0 for info in files):
        raise ArchiveRefused(f"{name!r} says that a file lies before its beginning; make it again")
    # Files that share bytes unpack to far more than the archive could hold: each must end before the next begins.
    spans = sorted((info.header_offset, info.header_offset + info.compress_size) for info in files)
    size = source.stat().st_size
    if any(end > start for (_, end), (start, _) in pairwise([*spans, (size, size)])):
        raise ArchiveRefused(f"{name!r} has files that overlap each other; make it again")


def _unpack(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, name: str, limits: ArchiveLimits
) -> ArchivedFile:
    shown = info.filename[:300]
    if reason := _objection(info, limits):
        return ArchivedFile(name=shown, refusal=f"{shown!r} in {name!r} {reason}")
    try:
        with archive.open(info) as packed, target.open("wb") as unpacked:
            head = packed.read(8)
            is_archive = head.startswith(_ARCHIVES)
            if not is_archive:
                unpacked.write(head)
                shutil.copyfileobj(packed, unpacked, _CHUNK)  # zipfile stops at the length in the table of contents
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError) as error:
        target.unlink(missing_ok=True)
        detail = str(error)[:160] or type(error).__name__
        return ArchivedFile(name=shown, refusal=f"{shown!r} in {name!r} is damaged ({detail}); make the archive again")
    if is_archive:
        target.unlink()
        return ArchivedFile(
            name=shown, refusal=f"{shown!r} in {name!r} is itself an archive; put its files here instead"
        )
    return ArchivedFile(name=shown, path=target)


def _objection(info: zipfile.ZipInfo, limits: ArchiveLimits) -> str | None:
    if not info.filename:
        return "has no name; give it one"
    parts = info.filename.replace("\\", "/").split("/")
    if info.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        return "has a name that leads out of the archive; rename it"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link; put the file itself here"
    if info.flag_bits & 0x1:
        return "is encrypted; make the archive without a password"
    if info.compress_type not in _METHODS:  # zipfile unpacks bzip2 and LZMA without a limit on memory
        return "is packed in an unusual way; make the archive with the usual method (deflate)"
    ratio = info.file_size // max(1, info.compress_size)
    if ratio > limits.max_ratio:
        return f"unpacks to {ratio} times its size, the limit is {limits.max_ratio}; save it in another format"
    return None


def _is_passed_over(filename: str) -> bool:
    return filename.endswith("/") or filename.startswith(_NOISE[0]) or filename.rsplit("/", 1)[-1] in _NOISE[1:]
