"""Where files for an import come from: an upload, a ZIP, a bucket, a folder of the server, a CSV manifest."""

import csv
import io
import posixpath
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from axons.app.services.imports import is_inside_own
from axons.app.texts import is_printable
from axons.data.archives import unpack_archive
from axons.data.importing import Refusal
from axons.data.storage import fsspec_files, local_file, open_storage, split_uri
from axons.errors import ArchiveRefused, AxonsError, ObjectNotFound

_ZIP = b"PK\x03\x04"
_MAX_MANIFEST_BYTES = 10 << 20
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._=-")


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file to import.

    Args:
        place: says which file of its job it is, the same at each attempt.
        uri: where workers read it.
    """

    place: str
    uri: str
    name: str
    group: str | None = None
    pixel_size_um: float | None = None


def unpack_upload(uri: str, *, place: str, name: str, folder: Path, scratch_uri: str) -> Iterator[SourceFile | Refusal]:
    """The upload itself, or the files in it if it is a ZIP.

    Args:
        folder: empty; archives are unpacked here.
        scratch_uri: where workers find what was unpacked.
    """
    try:
        path = local_file(uri)
    except ObjectNotFound:
        yield Refusal(image_id=place, name=name, reason=f"{name!r} is not in storage any more; send it again")
        return
    with path.open("rb") as file:
        is_archive = file.read(len(_ZIP)) == _ZIP
    if not is_archive:
        yield SourceFile(place=place, uri=uri, name=name)
        return
    try:
        yield from _unpacked(path, place=place, name=name, folder=folder, scratch_uri=scratch_uri)
    except ArchiveRefused as error:
        yield Refusal(image_id=place, name=name, reason=str(error))


def list_source(
    source: str, *, own: list[str], may_read_folders: bool, scratch_uri: str
) -> Iterator[SourceFile | Refusal]:
    """The files below a prefix or folder, or those that a CSV manifest names.

    Raises:
        AxonsError: nothing is there, or the manifest cannot be read.
    """
    is_manifest = source.lower().endswith(".csv")
    found = _manifest(source) if is_manifest else _listed(source)
    for number, file in enumerate(found):
        is_folder = "://" not in file.uri
        if (is_folder and not may_read_folders) or is_inside_own(file.uri, own):
            reason = f"{file.uri!r} is not a place that you may import from; leave it out of the manifest"
            yield Refusal(image_id=file.place, name=file.name, reason=reason)
        elif is_folder or set(split_uri(file.uri)[1]) <= _SAFE:
            yield file
        else:
            yield _copied(file, f"{scratch_uri}/source-{number}")


def _unpacked(path: Path, *, place: str, name: str, folder: Path, scratch_uri: str) -> Iterator[SourceFile | Refusal]:
    scratch = open_storage(scratch_uri)
    for number, file in enumerate(unpack_archive(path, folder, name=name)):
        member, shown = f"{place}-{number}", _shown(file.name)
        if file.path is None:
            yield Refusal(image_id=member, name=shown, reason=file.refusal or "")
        else:
            scratch.write(member, file.path)
            file.path.unlink()
            yield SourceFile(place=member, uri=f"{scratch_uri}/{member}", name=shown)


def _listed(source: str) -> Iterator[SourceFile]:
    if "://" in source:
        files, root = fsspec_files(source.rstrip("/"))
        uris = [f"s3://{path}" for path in sorted(files.find(root)) if not path.endswith("/")]
    else:
        root = source.rstrip("/")
        uris = [str(path) for path in sorted(Path(source).rglob("*")) if path.is_file()]
    shown = [uri for uri in uris if not posixpath.basename(uri).startswith(".")]
    if not shown:
        raise AxonsError(f"there are no files at {source!r}; check the address and the server's keys for it")
    for uri in shown:
        yield SourceFile(place=uri, uri=uri, name=_shown(uri.removeprefix("s3://").removeprefix(root).lstrip("/")))


def _manifest(source: str) -> Iterator[SourceFile]:
    rows = csv.DictReader(io.StringIO(_text(source)))
    if "image" not in (rows.fieldnames or []):
        raise AxonsError(f"{source!r} has no column 'image'; name it in the first line, then one image a line")
    base = split_uri(source)[0]
    for number, row in enumerate(rows, start=2):
        uri = (row["image"] or "").strip()
        if uri:
            whole = uri if "://" in uri or uri.startswith("/") else f"{base}/{uri}"
            yield SourceFile(
                place=f"{number}:{whole}",
                uri=_resolved(whole, source, number),
                name=_shown((row.get("name") or "").strip() or uri.rpartition("/")[2]),
                group=_shown((row.get("group") or "").strip())[:120] or None,
                pixel_size_um=_pixel_size(row.get("pixel_size_um"), source, number),
            )


def _resolved(uri: str, source: str, line: int) -> str:
    scheme, separator, path = uri.rpartition("://")
    if scheme not in ("", "s3"):
        raise AxonsError(f"line {line} of {source!r} has the address {uri!r}; use s3:// or a name beside the manifest")
    return f"{scheme}{separator}{posixpath.normpath(path)}"


def _pixel_size(text: str | None, source: str, line: int) -> float | None:
    if not (text or "").strip():
        return None
    try:
        size = float(text or "")
    except ValueError:
        size = 0.0
    if not 0 < size < 1e6:
        raise AxonsError(f"line {line} of {source!r} has pixel_size_um {text!r}; write µm as a number above 0")
    return size


def _text(source: str) -> str:
    try:
        if "://" in source:
            files, path = fsspec_files(source)
            data = files.cat_file(path, start=0, end=_MAX_MANIFEST_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(_MAX_MANIFEST_BYTES + 1)
        if len(data) > _MAX_MANIFEST_BYTES:
            raise AxonsError(f"{source!r} has more than {_MAX_MANIFEST_BYTES >> 20} MB; split it")
        return str(data.decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise AxonsError(f"{source!r} cannot be read ({error}); check the address, and save it as UTF-8") from error


def _copied(file: SourceFile, target_uri: str) -> SourceFile | Refusal:
    """Names that storage does not take get one of ours; only these files travel twice."""
    files, path = fsspec_files(file.uri)
    folder, key = split_uri(target_uri)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "file")
        try:
            files.get_file(path, str(target))
        except OSError as error:
            reason = f"{file.name!r} cannot be read ({error}); check its address"
            return Refusal(image_id=file.place, name=file.name, reason=reason)
        open_storage(folder).write(key, target)
    return SourceFile(
        place=file.place, uri=target_uri, name=file.name, group=file.group, pixel_size_um=file.pixel_size_um
    )


def _shown(name: str) -> str:
    """A name that can be stored and shown: of hostile ones the odd characters become question marks."""
    return "".join(letter if is_printable(letter) else "?" for letter in name)[-255:] or "?"
