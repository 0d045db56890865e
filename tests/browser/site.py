"""The real application on a port of this machine, with a fresh database and storage folder per test."""

import io
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import uvicorn
from PIL import Image as Picture
from playwright.sync_api import BrowserContext
from starlette.types import ASGIApp

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services.jobs import add_job, end_job
from axons.app.settings import Settings
from axons.app.tables import Image, Job, Project, Tile
from axons.data.decoding import Decoder
from tests.app.browser import PASSWORD, give_password
from tests.app.conftest import add_user
from tests.app.images import add_project, commit, document_of, imported_row, png, tiles_of
from tests.app.serving import the_app, the_site, with_scope
from tests.drawing import draw_disks

STATIC = Path(__file__).parents[2] / "axons/app/static"
LOOPBACK = "127.0.0.1"


def network_address() -> str | None:
    """An IPv4 address of this machine that browsers do not trust as they trust loopback."""
    found = (entry for entries in psutil.net_if_addrs().values() for entry in entries)
    return next((e.address for e in found if e.family == socket.AF_INET and not e.address.startswith("127.")), None)


class Server:
    """One server for all tests of a process, on loopback and on the network; `app` changes from test to test.

    The screens of Gradio keep the event loop in which they were started, so the server lives as long as they do.
    """

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        sockets = [socket.create_server((LOOPBACK, 0))]
        self.port: int = sockets[0].getsockname()[1]
        self.hosts = [LOOPBACK]
        if address := network_address():
            sockets.append(socket.create_server((address, self.port)))
            self.hosts.append(address)
        config = uvicorn.Config(
            self._answer, interface="asgi3", lifespan="on", log_level="error", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": sockets})
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            time.sleep(0.01)

    async def _answer(self, scope, receive, send) -> None:
        """The site's own start and end concern the process; a request concerns the test that runs."""
        app = the_site() if scope["type"] == "lifespan" else self.app
        if app is None:  # a page of a test that is over
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app(scope, receive, send)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


@dataclass
class Site:
    """The platform of one test, as it is reached at `url`."""

    platform: Platform
    url: str
    folder: Path
    decoder: Decoder
    scope: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _clients: dict[str, httpx.Client] = field(default_factory=dict)

    async def __call__(self, scope, receive, send) -> None:
        """Pass a request to the application; what a test puts into `scope` works instead of Ray ("axons.segment")."""

        async def watched(message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 500:
                self.failures.append(f"{message['status']} {scope['method']} {scope['path']}")
            await send(message)

        app = the_app(self.platform)
        await with_scope(app, self.scope)(scope, receive, watched)

    def user(self, name: str, role: str = "student") -> Actor:
        """An account with the password of the tests."""
        actor = add_user(self.platform, name, role)
        give_password(self.platform, actor)
        return actor

    def project(self, owner: Actor, **fields: Any) -> Project:
        return add_project(self.platform, owner, **fields)

    def image(self, owner: Actor, project: Project, pixels: np.ndarray, *, name: str = "a.png") -> Image:
        """Add an (H, W, 1 or 3) uint8 image through the steps of an import."""
        (self.folder / name).write_bytes(png(pixels))
        write = self.platform.database.write
        job = write(lambda session: add_job(session, owner, "import", project, request={"uploads": []}))
        row = imported_row(self.platform, self.decoder, job, project, self.folder / name)
        write(lambda session: commit(session, job.id, [row]))
        write(lambda session: end_job(session, session.get_one(Job, job.id), "done", ""))
        return self.platform.database.read(lambda session: session.get_one(Image, row["image"]["image_id"]))

    def tiles(self, image: Image) -> list[Tile]:
        """Tiles of an image, row by row."""
        return tiles_of(self.platform, image)

    def tile(
        self,
        owner: Actor,
        pixels: np.ndarray | None = None,
        *,
        height: int = 128,
        width: int = 128,
        classes: Sequence[str] = ("background", "ring", "core", "other"),
        **fields: Any,
    ) -> Tile:
        """The one tile of a new project whose one image has these pixels, else disks in three channels."""
        if pixels is None:
            pixels = draw_disks(height, width, channels=3).image
        project = self.project(owner, classes=list(classes), tile=_tile_for(*pixels.shape[:2]), **fields)
        (tile,) = self.tiles(self.image(owner, project, pixels))
        return tile

    def rest(self, actor: Actor) -> httpx.Client:
        """REST as one person, over the network: `site.rest(ana).get(f"tiles/{tile.id}/annotation")`."""
        if actor.name not in self._clients:
            client = httpx.Client(base_url=f"{self.url}/api/v1/", headers={"origin": self.url}, timeout=30)
            answer = client.post("auth/login", json={"name": actor.name, "password": PASSWORD})
            assert answer.status_code == 200, answer.text
            self._clients[actor.name] = client
        return self._clients[actor.name]

    def annotation(self, actor: Actor, tile: Tile) -> dict[str, Any]:
        """The saved labels of a tile as REST answers them, and `rev`, their revision."""
        answer = self.rest(actor).get(f"tiles/{tile.id}/annotation")
        assert answer.status_code == 200, answer.text
        return answer.json() | {"rev": int(answer.headers["etag"].strip('"'))}

    def plane(self, actor: Actor, tile: Tile) -> np.ndarray:
        """The saved labels of a tile as the (height, width) values that the server renders."""
        answer = self.rest(actor).get(f"tiles/{tile.id}/mask")
        assert answer.status_code == 200, answer.text
        return np.asarray(Picture.open(io.BytesIO(answer.content)))

    def save(self, actor: Actor, tile: Tile, plane: np.ndarray) -> int:
        """Save a plane of values as the newest labels of a tile; returns their revision."""
        base = self.annotation(actor, tile)["rev"]
        answer = self.rest(actor).put(
            f"tiles/{tile.id}/annotation",
            json=document_of(plane),
            params={"save_id": uuid.uuid4().hex},
            headers={"if-match": f'"{base}"'},
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["revision"]

    def sign_in(self, context: BrowserContext, actor: Actor) -> None:
        """Let a browser keep a session of this person."""
        answer = context.request.post(
            f"{self.url}/api/v1/auth/login",
            data={"name": actor.name, "password": PASSWORD},
            headers={"origin": self.url},
        )
        assert answer.ok, answer.text()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@contextmanager
def open_site(server: Server, host: str, folder: Path, empty_sqlite: Path, decoder: Decoder) -> Iterator[Site]:
    """Answer at `host` with a platform that has nothing in it."""
    url = f"http://{host}:{server.port}"
    settings = Settings(data=folder / "data", public_url=url)
    settings.data.mkdir()
    shutil.copy(empty_sqlite, settings.data / "axons.db")
    platform = Platform.open(settings)
    with closing(platform.database), closing(Site(platform=platform, url=url, folder=folder, decoder=decoder)) as site:
        server.app = site
        try:
            yield site
        finally:
            server.app = None


def _tile_for(height: int, width: int) -> int:
    """The smallest tile size that holds an image of this size whole."""
    return max(height, width, 64)


class _StaticFiles(SimpleHTTPRequestHandler):
    """The files of `axons/app/static` under /static/, and an empty page at /."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}

    def do_GET(self) -> None:
        if self.path == "/":
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>modules</title><link rel=icon href='data:,'>")
        else:
            super().do_GET()

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/static"))

    def end_headers(self) -> None:
        self.send_header("cache-control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextmanager
def static_server() -> Iterator[str]:
    """The address of a server of our static files, for tests of modules without the application."""
    server = ThreadingHTTPServer((LOOPBACK, 0), partial(_StaticFiles, directory=str(STATIC)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{LOOPBACK}:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
