"""A real Chromium, pages in it that may reach our own server only, and that server."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route

from axons.app.policy import Actor
from axons.data.decoding import Decoder
from tests.app.conftest import empty_sqlite  # noqa: F401 (a fixture)
from tests.browser.chromium import running_chromium
from tests.browser.site import LOOPBACK, Server, Site, open_site, static_server


# Of the package, not of the session: Playwright runs an event loop in the thread of the tests, and others start theirs.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One Chromium for all tests in a browser."""
    with running_chromium() as browser:
        yield browser


@dataclass
class Pages:
    """Opens pages, each in a context of its own; what they complain of and whom else they ask is written down.

    Attributes:
        foreign: addresses of other servers that a page asked for, in vain.
        errors: errors on the console, and exceptions that nobody caught.
        allowed: parts of errors that the test expects.
    """

    chromium: Browser
    url: str
    sign_in: Callable[[BrowserContext, Actor], None]
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    _contexts: list[BrowserContext] = field(default_factory=list)

    def __call__(
        self,
        actor: Actor | None = None,
        *,
        scale: float = 1,
        viewport: tuple[int, int] = (1280, 800),
        allowed: Sequence[str] = (),
        **options: Any,
    ) -> Page:
        """A page of somebody who is signed in; `scale` device pixels to a pixel of the page."""
        context = self.chromium.new_context(
            base_url=self.url,
            device_scale_factor=scale,
            viewport={"width": viewport[0], "height": viewport[1]},
            **options,
        )
        context.set_default_timeout(30_000)  # a busy machine is not a wrong answer
        self._contexts.append(context)
        self.allowed += allowed
        context.route(self._is_foreign, self._refuse)
        context.on("console", self._hear)
        context.on("weberror", lambda error: self._note(str(error.error)))
        if actor is not None:
            self.sign_in(context, actor)
        return context.new_page()

    def _is_foreign(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(self.url).netloc

    def _refuse(self, route: Route) -> None:
        self.foreign.append(route.request.url)
        route.abort()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note(f"{message.text} ({message.location['url']})")

    def _note(self, text: str) -> None:
        if not any(part in text for part in self.allowed):
            self.errors.append(text)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture(scope="package")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def decoder() -> Iterator[Decoder]:
    """Its child takes a second to start."""
    with Decoder() as decoder:
        yield decoder


# A test with `both_addresses` runs on loopback, which browsers trust, and on the network, where they offer less.
both_addresses = pytest.mark.parametrize("site", ["loopback", "network"], indirect=True)


@pytest.fixture
def site(request, server, tmp_path, empty_sqlite, decoder) -> Iterator[Site]:  # noqa: F811
    """The application with nothing in it, on the network; see `both_addresses`."""
    if getattr(request, "param", "network") == "loopback":
        host = LOOPBACK
    else:
        host = server.hosts[-1]
        if host == LOOPBACK:
            pytest.skip("this machine has no address but loopback")
    with open_site(server, host, tmp_path, empty_sqlite, decoder) as site:
        yield site
        assert site.failures == []


@pytest.fixture
def new_page(chromium, site) -> Iterator[Pages]:
    """Opens pages of the site: `new_page(ana, scale=2)`; at the end nothing may have gone wrong in them."""
    pages = Pages(chromium, site.url, site.sign_in)
    yield pages
    pages.close()
    assert pages.foreign == []
    assert pages.errors == []


@pytest.fixture
def ana(site) -> Actor:
    return site.user("ana")


@pytest.fixture
def ben(site) -> Actor:
    return site.user("ben")


@pytest.fixture
def teacher(site) -> Actor:
    return site.user("teacher", "educator")


@pytest.fixture(scope="package")
def static_url() -> Iterator[str]:
    with static_server() as url:
        yield url


@pytest.fixture
def modules(chromium, static_url) -> Iterator[Page]:
    """An empty page that can `await import('/static/annotator/r1.js')`; nothing may go wrong in it."""
    pages = Pages(chromium, static_url, lambda context, actor: None)
    page = pages()
    page.goto("/")
    yield page
    pages.close()
    assert pages.errors == []
