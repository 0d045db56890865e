"""Two pages to label on, ours and Django Labeller's, with the same pictures, and what a person does in each."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Protocol

import httpx
import numpy as np
from playwright.sync_api import BrowserContext, Page

from axons.app.migrate import migrate
from axons.app.policy import Actor
from axons.data.decoding import Decoder
from axons.data.layers import SUBPIXEL, Annotation, PolygonLayer, to_json
from axons.data.sample import SAMPLE_CLASSES
from benchmarks.platform_up import write_pictures
from tests.browser.site import LOOPBACK, STATIC, Server, Site, open_site
from tests.conftest import free_port

_TILE = 256


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is labelled.

    Args:
        plain: (S, S, 3) picture of one tile without labels.
        busy: (S, S, 3) picture of one tile with many polygons.
        rings: the polygons, each (V, 2) of row and column in px.
        many: (H, W, 3) picture that is cut into many tiles.
    """

    plain: np.ndarray
    busy: np.ndarray
    rings: Sequence[np.ndarray]
    many: np.ndarray


class AnnotationPage(Protocol):
    """A page to label on.

    Attributes:
        urls: where it shows "plain", "busy" and the first of "many".
        tile: JavaScript: what is open, false until one can draw on it.
        place: JavaScript: [x, y, zoom] of the picture in the window.
    """

    urls: Mapping[str, str]
    tile: str
    place: str

    def enter(self, context: BrowserContext) -> None:
        """Sign in."""

    def show_whole(self, page: Page) -> None:
        """See all of the picture."""

    def take_brush(self, page: Page) -> None:
        """Be ready to paint with a radius of 10 px."""

    def go_on(self, page: Page) -> None:
        """Open the next tile."""

    def scripts(self) -> list[bytes]:
        """Its JavaScript."""


class Ours:
    """The annotation page."""

    tile = "window.axons?.state().ready && axons.state().tile"
    place = """(() => {
        const { x, y } = document.getElementById("frame").getBoundingClientRect();
        const { offset, zoom } = axons.state();
        return [x + offset[1], y + offset[0], zoom];
    })()"""

    def __init__(self, site: Site, work: Work) -> None:
        self._site = site
        self._ana: Actor = site.user("ana")
        plain, busy = (site.tile(self._ana, pixels, classes=SAMPLE_CLASSES) for pixels in (work.plain, work.busy))
        project = site.project(self._ana, name="many", classes=list(SAMPLE_CLASSES), tile=_TILE)
        first, *_ = site.tiles(site.image(self._ana, project, work.many, name="many.png"))
        self.urls: Mapping[str, str] = {
            name: f"{site.url}/annotate/{tile.id}" for name, tile in (("plain", plain), ("busy", busy), ("many", first))
        }
        self._save_polygons(busy.id, work)

    def _save_polygons(self, tile_id: str, work: Work) -> None:
        layers = tuple(
            PolygonLayer(value=value, rings=(np.round(ring * SUBPIXEL).astype(int),))
            for ring, value in zip(work.rings, _values(work.rings), strict=True)
        )
        height, width = work.busy.shape[:2]
        document = to_json(Annotation(height=height, width=width, layers=layers))
        self._site.rest(self._ana).put(
            f"tiles/{tile_id}/annotation",
            json=document,
            params={"save_id": "polygons"},
            headers={"if-match": '"0"'},
        ).raise_for_status()

    def enter(self, context: BrowserContext) -> None:
        """By the session of a browser."""
        self._site.sign_in(context, self._ana)

    def show_whole(self, page: Page) -> None:
        """It opens like this."""

    def take_brush(self, page: Page) -> None:
        """Its radius is 10 px at first."""
        page.keyboard.press("b")

    def go_on(self, page: Page) -> None:
        """By key."""
        page.keyboard.press(".")

    def scripts(self) -> list[bytes]:
        """The modules of the page."""
        return [file.read_bytes() for file in sorted((STATIC / "annotator").glob("*.js"))]


class Peer:
    """Django Labeller."""

    tile = "window.tool?._image_loaded && tool._labels_loaded && tool.root_view.get_current_image_id()"
    place = """(() => {
        const { x, y } = document.getElementById("anno_canvas").getBoundingClientRect();
        return [x + tool._zoom_xlat[0], y + tool._zoom_xlat[1], tool._zoom_scale];
    })()"""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.urls = urls

    def enter(self, context: BrowserContext) -> None:
        """It knows no users."""

    def show_whole(self, page: Page) -> None:
        """It opens at its full size; the wheel makes it smaller, around the corner that is seen first."""
        x, y, _ = page.evaluate(self.place)
        page.mouse.move(x + 1, y + 1)
        page.mouse.wheel(0, 200)

    def take_brush(self, page: Page) -> None:
        """Its radius is 10 px at first."""
        page.click("#draw_poly_button")
        page.click("label:has(#multi_poly_draw_brush)")

    def go_on(self, page: Page) -> None:
        """By mouse: it has no key."""
        page.click("#btn_next_image")

    def scripts(self) -> list[bytes]:
        """The files that its page asks for."""
        package = Path(str(distribution("django-labeller").locate_file("image_labelling_tool")))
        page = (package / "templates/inline/image_labeller_scripts.html").read_text()
        names = [part.split('"')[0] for part in page.split('src="/static/')[1:]]
        return [(package / "static" / name).read_bytes() for name in names]


@contextmanager
def our_page(folder: Path, work: Work) -> Iterator[Ours]:
    """The real application with its own database and storage, served by uvicorn in this process."""
    folder.mkdir()
    empty = folder / "empty.db"
    migrate(f"sqlite:///{empty}")
    server = Server()
    try:
        with Decoder() as decoder, open_site(server, LOOPBACK, folder, empty, decoder) as site:
            yield Ours(site, work)
            assert site.failures == []
    finally:
        server.stop()


@contextmanager
def peer_page(folder: Path, work: Work) -> Iterator[Peer]:
    """One process of its own application for each kind of work."""
    rows, cols = (range(0, side, _TILE) for side in work.many.shape[:2])
    tiles = [work.many[row : row + _TILE, col : col + _TILE] for row in rows for col in cols]
    folders = {name: folder / name for name in ("plain", "busy", "many")}
    for name, pictures in (("plain", [work.plain]), ("busy", [work.busy]), ("many", tiles)):
        write_pictures(folders[name], pictures)
    _write_labels(folders["busy"] / "0.png", work.rings)
    with ExitStack() as stack:
        yield Peer({name: stack.enter_context(_labeller(place)) for name, place in folders.items()})


def _write_labels(picture: Path, rings: Sequence[np.ndarray]) -> None:
    labels = [
        {
            "label_type": "polygon",
            "label_class": SAMPLE_CLASSES[value],
            "source": "manual",
            "anno_data": {},
            "object_id": f"benchmark__{number}",
            "regions": [[{"x": float(col), "y": float(row)} for row, col in ring]],
        }
        for number, (ring, value) in enumerate(zip(rings, _values(rings), strict=True))
    ]
    document = {"image_filename": picture.name, "completed_tasks": [], "labels": labels}
    picture.with_name(f"{picture.stem}__labels.json").write_text(json.dumps(document))


@contextmanager
def _labeller(folder: Path) -> Iterator[str]:
    """Its address."""
    url = f"http://{LOOPBACK}:{free_port()}"
    command = [sys.executable, "-m", "benchmarks.labeller_peer", str(folder), url.rpartition(":")[2], *SAMPLE_CLASSES]
    process = subprocess.Popen(command)
    try:
        while not _answers(url):
            assert process.poll() is None, "Django Labeller has ended"
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def _values(rings: Sequence[np.ndarray]) -> list[int]:
    """One class after another."""
    return [number % len(SAMPLE_CLASSES) for number in range(len(rings))]
