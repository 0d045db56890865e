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


@front.get("/static/screens.js")
def send_screens_script() -> Response:
    """Our own elements on the screens."""
    return _static("screens.js", "text/javascript; charset=utf-8")


@front.get("/annotate/{tile_id}")
async def show_annotator(tile_id: Id) -> Response:
    """Where a tile is labelled; the page itself asks REST who may."""
    return Response(_annotator().page, media_type="text/html; charset=utf-8")


@front.get("/static/{version}/annotator/{name}")
async def send_annotator_file(version: str, name: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
    """A file of the annotator; its address changes with what is in any of them, so browsers may keep it."""
    found = _annotator()
    if version != found.version or name not in found.files:
        raise NotFound(f"there is no file {name!r} of the annotator; load the page again")
    headers = {"Cache-Control": "private, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    content, media_type = found.files[name]
    if "gzip" in accept_encoding:
        return Response(content, media_type=media_type, headers=headers | {"Content-Encoding": "gzip"})
    return Response(gzip.decompress(content), media_type=media_type, headers=headers)


@dataclass(frozen=True, kw_only=True)
class _Annotator:
    """The annotator's page and its other files, gzipped, with their media types; `version` says what is in them."""

    version: str
    page: str
    files: dict[str, tuple[bytes, str]]


@cache
def _annotator() -> _Annotator:
    contents = {file.name: file.read_bytes() for file in (_STATIC / "annotator").iterdir()}
    page = contents.pop("index.html").decode()
    version = hashlib.sha256(b"".join(contents[name] for name in sorted(contents))).hexdigest()[:16]
    # All modules at once: found one by one in each other they take as many round trips as they are deep.
    modules = "\n".join(
        f'<link rel="modulepreload" href="/static/{version}/annotator/{name}">'
        for name in sorted(contents)
        if name.endswith(".js") and not name.startswith("superpixel")  # a worker's, when they are asked for
    )
    return _Annotator(
        version=version,
        page=page.replace("<!-- modules -->", modules).replace("{{version}}", version),
        files={name: (gzip.compress(content), _media_type(name)) for name, content in contents.items()},
    )


def _media_type(name: str) -> str:
    return "text/css; charset=utf-8" if name.endswith(".css") else "text/javascript; charset=utf-8"
