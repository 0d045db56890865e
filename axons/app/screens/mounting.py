"""Gradio behind our door: everything off that we do not use, and every route closed that our pages do not need."""

import os
import re
import warnings

import gradio as gr
from fastapi import FastAPI, Request
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from axons.app.rest.problems import problem
from axons.app.screens.pages import SCREENS, files_of, head

# One waiting event of each kind at a time would let one person hold up a class; a full queue refuses, it does not grow.
_EVENTS_AT_ONCE = 32
_MAX_QUEUE = 1000

# Script files and what they show; no uploads, no files, no proxy, no state of other people's pages.
_NEEDED = re.compile(
    rf"/|{'|'.join(SCREENS)}|/(assets|static)/[^?]+|/theme\.css|/config|/gradio_api/(info|startup-events|app_id)"
)
# Their names or queries change with what is in them.
_KEPT = re.compile(r"/assets/[^?]+-[\w-]{8}\.(js|css)|/theme\.css|/static/fonts/[^?]+")

_HEAD = b"<head>"
# What starts Gradio in the browser; `shell.js` takes it out of the template when the screen is there.
_START = re.compile(
    rb'<script type="module" crossorigin src="[^"]+"></script>\s*<link rel="stylesheet" crossorigin href="[^"]+">'
)
_LATER = rb'<template id="gradio">\g<0></template>'


def mount_screens(site: FastAPI, screens: gr.Blocks) -> None:
    """Show the screens at every address of the site that is not taken yet."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    screens.queue(api_open=False, max_size=_MAX_QUEUE, default_concurrency_limit=_EVENTS_AT_ONCE)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SSR mode is not supported")  # nor asked for
        gr.mount_gradio_app(
            site,
            screens,
            path="/",
            footer_links=[],
            run_history=False,
            app_kwargs={"middleware": [Middleware(OnlyWhatPagesNeed)], "docs_url": None, "redoc_url": None},
            auth_dependency=_who_asks,
            allowed_paths=[],
            blocked_paths=["/"],
            show_error=False,
            max_file_size=0,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=gr.themes.Soft(text_size=gr.themes.sizes.text_lg),
        )
    # Only `launch()` sets it, and without it whoever is signed in could have any file of the server copied to where it
    # is sent from: see tests/app/test_screens.py.
    screens.has_launched = True


class OnlyWhatPagesNeed:
    """An ASGI middleware in front of Gradio's routes; deny by default."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer that there is no such page."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif not (scope["method"] in ("GET", "HEAD") and _NEEDED.fullmatch(scope["path"])):
            await problem(404, "page-not-found", "there is no such page")(scope, receive, send)
        elif scope["path"] == "/" or scope["path"] in SCREENS:
            await self._app(scope, receive, _drawn_first(scope, send))
        else:
            await self._app(scope, receive, _kept(send) if _KEPT.fullmatch(scope["path"]) else send)


def _kept(send: Send) -> Send:
    """Browsers keep the file."""

    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            MutableHeaders(scope=message)["Cache-Control"] = "private, max-age=31536000, immutable"
        await send(message)

    return send_on


def _drawn_first(scope: Scope, send: Send) -> Send:
    """A page of Gradio begins with our script and names our files; Gradio's own long start comes after the screen."""
    begun: list[Message] = []
    body = bytearray()

    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            begun.append(message)
            return
        if begun and message["type"] == "http.response.body":
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            page = _START.sub(_LATER, body, count=1).replace(_HEAD, _HEAD + head().encode(), 1)
            start = begun.pop()
            headers = MutableHeaders(scope=start)
            headers["Link"] = files_of(scope["path"])
            if scope["method"] == "GET":
                headers["Content-Length"] = str(len(page))
            await send(start)
            message = {"type": "http.response.body", "body": page}
        await send(message)

    return send_on


async def _who_asks(request: Request) -> str | None:
    """Whom the gate has let in."""
    actor = request.scope["axons.actor"]
    return actor.user_id if actor else None
