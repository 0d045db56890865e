"""The one door in front of everything mounted: who asks, from where, how much; deny by default."""

from starlette.types import ASGIApp, Receive, Scope, Send

from axons.app.platform import Platform


class Gate:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, platform: Platform) -> None:
        self._app = app
        self._platform = platform

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        await self._app(scope, receive, send)
