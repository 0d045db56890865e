"""Pages of our own that need nothing from elsewhere: signing in, and the description of REST at `/api/docs`."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

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
