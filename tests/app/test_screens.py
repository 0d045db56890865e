"""Gradio behind our door: nothing open that we do not use, and no file of the server in anybody's hands."""

import json
import re
import uuid

import gradio as gr
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from axons.app.pages import bundle
from axons.app.screens import mounting
from axons.app.screens.mounting import mount_screens
from axons.app.screens.pages import SCREENS, build_screens
from tests.app.browser import open_browser, signed_in

CANARY = b"what no answer may hold"
SCRIPT = f"/static/{bundle('screens').version}/screens/shell.js"
# Components, and how a file is named to each of them.
COMPONENTS = [
    (gr.File, lambda file: file),
    (gr.Gallery, lambda file: [{"image": file, "caption": None}]),
    (gr.Image, lambda file: file),
    (gr.JSON, lambda file: [file]),
    (gr.MultimodalTextbox, lambda file: {"text": "", "files": [file]}),
    (gr.Textbox, lambda file: file),
]
CLOSED = [
    ("POST", "/gradio_api/upload"),
    ("GET", "/gradio_api/upload_progress"),
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("GET", "/gradio_api/file/etc/passwd"),
    ("GET", "/gradio_api/proxy=http://127.0.0.1:1/"),
    ("GET", "/gradio_api/deep_link"),
    ("GET", "/gradio_api/runs"),
    ("POST", "/gradio_api/run/predict"),
    ("POST", "/gradio_api/call/predict"),
    ("POST", "/gradio_api/call/v2/predict"),
    ("POST", "/gradio_api/component_server"),
    ("POST", "/gradio_api/process_recording"),
    ("POST", "/gradio_api/vibe-edit"),
    ("POST", "/gradio_api/queue/join"),
    ("GET", "/gradio_api/queue/data"),
    ("GET", "/gradio_api/heartbeat/x"),
    ("GET", "/gradio_api/dev/reload"),
    ("GET", "/gradio_api/token"),
    ("GET", "/monitoring"),
    ("GET", "/monitoring/summary"),
    ("POST", "/login"),
    ("GET", "/svelte/x"),
    ("GET", "/no/such/page"),
]


@pytest.fixture(scope="module")
def screens():
    screens = build_screens()
    mount_screens(FastAPI(), screens)
    return screens


def test_this_is_the_release_of_gradio_that_was_looked_through():
    assert gr.__version__ == "6.31.0", "read again what RELIABILITY.md says of Gradio (G1 to G15), then raise this"


def test_everything_is_off_that_we_do_not_use(screens):
    config = screens.config
    values = {
        "show_error": screens.show_error,
        "run_history": screens.run_history,
        "enable_monitoring": screens.enable_monitoring,
        "analytics_enabled": screens.analytics_enabled,
        "api_open": screens.api_open,
        "ssr_mode": screens.ssr_mode,
        "pwa": screens.pwa,
        "mcp": screens.mcp_server_obj is not None,
    }
    assert {name for name, value in values.items() if value} == set()
    assert (screens.allowed_paths, screens.footer_links) == ([], [])
    assert (screens._queue.max_size, screens._queue.default_concurrency_limit) == (1000, 32)
    assert config["dependencies"] == [], "an event: `api_visibility='private'`, and rights checked inside"


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_what_our_pages_do_not_need_is_not_there(platform, ana, method, path):
    answer = signed_in(platform, ana).request(method, path)
    assert (answer.status_code in (404, 405), "content-security-policy" in answer.headers) == (True, True)


@pytest.mark.parametrize("path", ["/", *SCREENS, "/config", "/theme.css", "/gradio_api/info", SCRIPT])
def test_what_our_pages_need_is_there_for_who_is_signed_in(platform, ana, path):
    assert signed_in(platform, ana).get(path).status_code == 200
    assert open_browser(platform).get(path).status_code == 401


@pytest.mark.parametrize("path", ["/", *SCREENS])
def test_a_page_names_the_modules_it_will_need(platform, ana, path):
    links = signed_in(platform, ana).get(path).headers["link"]
    found = bundle("screens")
    named = re.findall(rf"</static/{found.version}/screens/([\w.-]+)>; rel=(preload; as=style|modulepreload)", links)
    assert {name for name, _ in named} <= set(found.files)
    assert {f"{path[1:] or 'home'}.js", "shell.js", "base.js", "words.js", "screens.css"} <= {name for name, _ in named}
    assert len(named) == links.count(",") + 1


@pytest.mark.parametrize("path", ["/", *SCREENS])
def test_a_page_begins_with_the_script_that_draws_it(platform, ana, path):
    page = signed_in(platform, ana).get(path).text
    assert f'<script type="module" src="{SCRIPT}"></script>' in page.split("<meta")[0]
    assert '<template id="gradio"><script type="module" crossorigin' in page
    assert page.count('type="module" crossorigin') == 1


def test_browsers_keep_the_files_of_gradio_and_nothing_else(platform, ana):
    client = signed_in(platform, ana)
    assert "immutable" in client.get(SCRIPT).headers["cache-control"]
    assert "immutable" in client.get("/theme.css").headers["cache-control"]
    for path in ["/", "/config", "/gradio_api/info", "/assets/none-12345678.js"]:
        assert client.get(path).headers["cache-control"] == "private, no-store"


def test_no_page_names_another_server(platform, ana):
    page = signed_in(platform, ana).get("/annotate").text
    fetched = re.findall(r'(?:src|href)="(https?://[^"]+)"', page)
    assert [address for address in fetched if not address.startswith("http://127.0.0.1:8000")] == []


def probe(monkeypatch) -> tuple[gr.Blocks, FastAPI]:
    """Events of all kinds of components, mounted as our screens are but without the door in front."""

    async def open_door(self, scope, receive, send) -> None:
        scope["axons.actor"] = None
        await self._app(scope, receive, send)

    async def anybody(request) -> str:
        return "somebody"

    monkeypatch.setattr(mounting.OnlyWhatPagesNeed, "__call__", open_door)
    monkeypatch.setattr(mounting, "_who_asks", anybody)
    with gr.Blocks(analytics_enabled=False) as blocks:
        for component, _ in COMPONENTS:
            shown, button = component(), gr.Button()
            button.click(lambda value: value, shown, shown, api_visibility="private")
    site = FastAPI()
    mount_screens(site, blocks)
    return blocks, site


def answers(client: TestClient, path: str) -> list[bytes]:
    """All that comes of naming a file of the server as the input of each event."""
    file = {"path": path, "orig_name": "x.txt", "meta": {"_type": "gradio.FileData"}}
    heard = []
    for number, (_, named) in enumerate(COMPONENTS):
        asked = {"fn_index": number, "data": [named(file)], "session_hash": uuid.uuid4().hex}
        client.post("/gradio_api/queue/join", json=asked)
        told = client.get("/gradio_api/queue/data", params={"session_hash": asked["session_hash"]}).text
        paths = set(re.findall(r'"path": ?("(?:[^"\\]|\\.)+")', told))
        files = [client.get(f"/gradio_api/file={json.loads(path)}").content for path in paths]
        heard += [told.encode(), *files]
    return heard


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # Gradio counts its events in an older way
@pytest.mark.parametrize("has_launched", [True, False])
def test_no_event_hands_out_a_file_of_the_server(tmp_path, monkeypatch, has_launched):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    (tmp_path / "secret.txt").write_bytes(CANARY)
    blocks, site = probe(monkeypatch)
    assert (blocks.has_launched, blocks.blocked_paths) == (True, ["/"])
    blocks.blocked_paths = []
    blocks.has_launched = has_launched  # without it the canary is had: that is what the flag is for
    with TestClient(site) as client:
        heard = answers(client, str(tmp_path / "secret.txt"))
    assert any(CANARY in answer for answer in heard) is not has_launched
