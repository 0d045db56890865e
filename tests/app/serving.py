"""The application without a server, built once: what differs from test to test is in the scope of each request."""

from functools import cache

from starlette.testclient import TestClient
from starlette.types import ASGIApp

from axons.app.build import build_api, build_site
from axons.app.gate import Gate
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.v2 import build_v2

the_api, the_site, the_v2 = cache(build_api), cache(build_site), cache(build_v2)


def the_app(platform: Platform) -> Gate:
    """What `build_app` makes, sooner."""
    return Gate(the_site(), platform)


def past_the_gate(app: ASGIApp, platform: Platform, actor: Actor | None, segment=None) -> ASGIApp:
    """An application to which somebody was let in; `segment` predicts instead of Ray Serve."""
    return with_scope(app, {"axons.platform": platform, "axons.actor": actor}, segment)


def with_scope(app: ASGIApp, values: dict[str, object], segment=None) -> ASGIApp:
    """An application whose requests have more in their scope."""
    more = values if segment is None else values | {"axons.segment": segment}

    async def asked(scope, receive, send) -> None:
        await app({**scope, **more}, receive, send)

    return asked


def client_of(app: ASGIApp) -> TestClient:
    """Asks it; what goes wrong in a route is an answer."""
    return TestClient(app, raise_server_exceptions=False)
