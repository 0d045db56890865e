"""An HTTP proxy before the S3 server of the tests that fails as networks and storages do."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from aiohttp import web
from yarl import URL

from tests.conftest import free_port

_SLOW_DOWN = "<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your rate.</Message></Error>"
_OWN = ("transfer-encoding", "connection", "keep-alive")


class FaultyS3:
    """What it does to requests may be changed at any time.

    Args:
        target: address of the real server.
    Attributes:
        share_503, share_cut: of the requests; a cut comes before, or in the middle of, or instead of the answer.
        delay_s: before each request.
        is_away: no request gets through.
        counts: of what was done.
    """

    def __init__(self, target: str, *, seed: int = 21) -> None:
        self.share_503 = 0.0
        self.share_cut = 0.0
        self.delay_s = 0.0
        self.is_away = False
        self.counts: Counter[str] = Counter()
        self.port = free_port()
        self._target = target
        self._rng = random.Random(seed)
        self._client: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def be_well(self) -> None:
        self.share_503 = self.share_cut = self.delay_s = 0.0
        self.is_away = False

    async def serve(self, is_ready: threading.Event, stopping: asyncio.Event) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, backlog=512).start()
        async with aiohttp.ClientSession(auto_decompress=False) as self._client:
            is_ready.set()
            await stopping.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if self.is_away:
            return self._cut(request, "away")
        await asyncio.sleep(self.delay_s)
        if self._rng.random() < self.share_503:
            self.counts["503"] += 1
            return web.Response(status=503, text=_SLOW_DOWN, content_type="application/xml")
        how = self._rng.choice(["before", "half", "after"]) if self._rng.random() < self.share_cut else ""
        if how == "before":
            return self._cut(request, "cut")
        status, headers, data = await self._passed(request, body)
        if how == "half" and len(data) > 1:
            response = web.StreamResponse(status=status, headers=headers)
            response.content_length = len(data)
            await response.prepare(request)
            await response.write(data[: len(data) // 2])
            return self._cut(request, "cut", response)
        if how:
            return self._cut(request, "cut")
        self.counts["passed"] += 1
        return web.Response(status=status, headers=headers, body=data if request.method != "HEAD" else None)

    async def _passed(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        assert self._client is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in (*_OWN, "expect")}
        address = URL(f"{self._target}{request.raw_path}", encoded=True)
        async with self._client.request(
            request.method, address, data=body, headers=headers, allow_redirects=False
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN}
            return answer.status, kept, await answer.read()

    def _cut(self, request: web.Request, why: str, response: web.StreamResponse | None = None) -> web.StreamResponse:
        self.counts[why] += 1
        if request.transport is not None:
            request.transport.abort()
        return response or web.Response(status=500)


@contextmanager
def faulty_s3(target: str) -> Iterator[FaultyS3]:
    """A proxy in a thread of its own, well at first."""
    proxy, is_ready = FaultyS3(target), threading.Event()
    loop, stopping = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(proxy.serve(is_ready, stopping),), daemon=True)
    thread.start()
    assert is_ready.wait(20)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(20)
        loop.close()
