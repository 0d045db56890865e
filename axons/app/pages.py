"""Pages of our own that need nothing from elsewhere: signing in, annotating, and the description of REST."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import Response

from axons.app.rest.context import Id
from axons.errors import NotFound

router = APIRouter(include_in_schema=False)
front = APIRouter(include_in_schema=False)

_STATIC = files("axons.app") / "static"
_PARTS = ("annotator", "screens")
_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
}


def _static(name: str, media_type: str) -> Response:
    return Response((_STATIC / name).read_bytes(), media_type=media_type)


@router.get("/docs")
def show_docs() -> Response:
    """The routes of REST, to read and to try."""
    return _static("docs.html", "text/html; charset=utf-8")


@router.get("/docs.js")
def send_docs_script() -> Response:
    """What draws the page from `openapi.json`."""
    return _static("docs.js", "text/javascript; charset=utf-8")


@router.get("/docs.css")
def send_docs_style() -> Response:
    """How the page looks."""
    return _static("docs.css", "text/css; charset=utf-8")


@front.get("/login")
def show_login() -> Response:
    """Where one signs in; open to everybody."""
    return _static("login.html", "text/html; charset=utf-8")


@front.get("/annotate/{tile_id}")
async def show_annotator(tile_id: Id) -> Response:
    """Where a tile is labelled; the page itself asks REST who may."""
    return Response(_annotator(), media_type="text/html; charset=utf-8")


@front.get("/static/{version}/annotator/{name}")
async def send_annotator_file(version: str, name: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
    """A file of the annotator."""
    return _file_of("annotator", version, name, accept_encoding)


@front.get("/static/{version}/screens/{name}")
async def send_screens_file(version: str, name: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
    """A file of the screens."""
    return _file_of("screens", version, name, accept_encoding)


def _file_of(part: str, version: str, name: str, accept_encoding: str) -> Response:
    """A file whose address changes with any file beside it, so that browsers may keep it."""
    found = bundle(part)
    if version != found.version or name not in found.files:
        raise NotFound(f"there is no file {name!r} of the {part}; load the page again")
    headers = {"Cache-Control": "private, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    content, media_type = found.files[name]
    if "gzip" in accept_encoding:
        return Response(content, media_type=media_type, headers=headers | {"Content-Encoding": "gzip"})
    return Response(gzip.decompress(content), media_type=media_type, headers=headers)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """The files of a folder of `static`, gzipped, with their media types; `version` says what is in them."""

    version: str
    files: dict[str, tuple[bytes, str]]


@cache
def bundle(part: str) -> Bundle:
    """What a folder of `static` holds. The version is that of all folders, as their modules use each other's."""
    files = {name: (gzip.compress(content), _media_type(name)) for name, content in _contents(part).items()}
    return Bundle(version=_version(), files=files)


@cache
def _version() -> str:
    parts = [_contents(part) for part in _PARTS]
    everything = b"".join(contents[name] for contents in parts for name in sorted(contents))
    return hashlib.sha256(everything).hexdigest()[:16]


def _contents(part: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (_STATIC / part).iterdir() if file.is_file()}


@cache
def _annotator() -> str:
    found = bundle("annotator")
    # All modules at once: found one by one in each other they take as many round trips as they are deep.
    own = [
        f"annotator/{name}"
        for name in sorted(found.files)
        if name.endswith(".js") and not name.startswith("superpixel")  # a worker's, when they are asked for
    ]
    modules = "\n".join(
        f'<link rel="modulepreload" href="/static/{found.version}/{name}">' for name in [*own, "screens/words.js"]
    )
    page = (_STATIC / "annotator" / "index.html").read_text()
    return page.replace("<!-- modules -->", modules).replace("{{version}}", found.version)


def _media_type(name: str) -> str:
    return _MEDIA_TYPES[name.rpartition(".")[2]]
