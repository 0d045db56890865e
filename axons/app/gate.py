"""The one door in front of everything mounted: who asks, from where, how much; deny by default."""

import logging
import time
from http.cookies import CookieError
from urllib.parse import quote, urlsplit

import anyio
from anyio import CapacityLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from axons.app import logs, metrics
from axons.app.platform import Platform
from axons.app.rest.problems import problem, problem_of
from axons.app.services import sign_in
from axons.app.services.sign_in import Visitor
from axons.app.settings import Settings
from axons.app.visitors import RecentVisitors
from axons.errors import AxonsError, DatabaseBusy

_LOG = logging.getLogger("axons.gate")

PUBLIC = frozenset(
    {
        "/healthz",
        "/login",
        "/api/v1/auth/login",
        "/api/v1/auth/code",
        "/api/v1/auth/methods",
        "/api/v1/auth/oidc/start",
        "/api/v1/auth/oidc/callback",
    }
)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_ACCOUNT = "/api/v1/auth/"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_LOOKUPS_AT_ONCE = 16
_SAVE = "save_annotation"
_REQUEST_ID_LENGTH = 64

_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "private, no-store",
    # Gradio's page has inline scripts, so this is no defence against scripts; it keeps them from calling elsewhere.
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
        "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    ),
}
_HTTPS_HEADERS = {"strict-transport-security": "max-age=31536000"}
# On plain http from elsewhere browsers ignore it, and write an error into the console of every page.
_TRUSTED_HEADERS = {"cross-origin-opener-policy": "same-origin"}


def cookie_name(settings: Settings) -> str:
    """The session cookie; over https browsers bind a `__Host-` cookie to exactly this host."""
    return "__Host-axons" if _is_https(settings) else "axons"


def set_cookie(response: Response, settings: Settings, cookie: str) -> None:
    """Let the browser keep a session."""
    response.set_cookie(
        cookie_name(settings),
        cookie,
        max_age=settings.session_hours * 3600,
        httponly=True,
        samesite="lax",
        secure=_is_https(settings),
    )


def cookie_of(headers: Headers, settings: Settings) -> str | None:
    """What the browser keeps as its session."""
    try:
        return cookie_parser(headers.get("cookie", "")).get(cookie_name(settings))
    except CookieError:
        return None


class Gate:
    """An ASGI middleware that lets in signed-in people, and everybody to the few `PUBLIC` addresses."""

    def __init__(self, app: ASGIApp, platform: Platform) -> None:
        self._app = app
        self._platform = platform
        self._settings = platform.settings
        self._recent = RecentVisitors(platform.database, is_alone=platform.settings.api_replicas == 0)
        self._public_origin = "{0.scheme}://{0.netloc}".format(urlsplit(platform.settings.public_url))
        self._lookups: CapacityLimiter | None = None
        self._headers = _headers(platform.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            began = time.perf_counter()
            scope["axons.platform"] = self._platform
            body = _CountedBody(receive, self._settings.max_body_bytes)
            answer = _Answer(send, body, self._headers)
            await self._pass(scope, body, answer)
            if answer.status == 200 and getattr(scope.get("route"), "operation_id", None) == _SAVE:
                metrics.count_save(time.perf_counter() - began)
        else:  # nothing behind the gate speaks over web sockets
            await send({"type": "websocket.close", "code": 1008, "reason": "not allowed"})

    async def _pass(self, scope: Scope, body: "_CountedBody", answer: "_Answer") -> None:
        refusal = await self._refusal(scope)
        if refusal is not None:
            await refusal(scope, body, answer)
            return
        try:
            await self._app(scope, body, answer)
        except Exception:
            if not body.is_too_large:  # else it stumbled over the end that we made
                raise
        if body.is_too_large and not answer.is_started:
            await answer.refuse()

    async def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that may not pass; else the scope says who asks."""
        headers, path = Headers(scope=scope), scope["path"]
        scope["axons.actor"] = None
        logs.REQUEST.set(headers.get("x-request-id", "")[:_REQUEST_ID_LENGTH])
        logs.USER.set("")
        if path != "/healthz" and not self._is_our_host(headers):
            return problem(400, "wrong-host", f"this server is {self._settings.public_url}; use that address")
        if too_large := self._refuse_length(headers):
            return too_large
        has_token = "authorization" in headers
        if scope["method"] not in _SAFE and not has_token and not self._is_same_site(headers):
            return problem(403, "wrong-origin", "the request comes from another site; use this server's own pages")
        try:
            visitor = await self._visitor(headers, has_token=has_token)
        except DatabaseBusy as error:
            return problem_of(error)
        if visitor is not None:
            scope["axons.actor"] = visitor.actor
            logs.USER.set(visitor.actor.user_id)
        if path in PUBLIC:
            return None
        if visitor is None:
            return self._ask_to_sign_in(scope, headers)
        if visitor.must_change_password and not path.startswith(_OWN_ACCOUNT):
            return self._ask_for_password(scope, headers)
        return None

    async def _visitor(self, headers: Headers, *, has_token: bool) -> Visitor | None:
        if has_token:
            scheme, _, token = headers["authorization"].partition(" ")
            return await self._look_up(token.strip(), is_token=True) if scheme.lower() == "bearer" else None
        cookie = cookie_of(headers, self._settings)
        return await self._look_up(cookie, is_token=False) if cookie else None

    async def _look_up(self, secret: str, *, is_token: bool) -> Visitor | None:
        visitor = self._recent.get(secret, is_token=is_token)
        if visitor is not None and sign_in.is_seen_lately(visitor):
            return visitor
        if self._lookups is None:
            self._lookups = CapacityLimiter(_LOOKUPS_AT_ONCE)  # so that slow routes do not keep others at the door
        return await anyio.to_thread.run_sync(self._find, secret, is_token, limiter=self._lookups)

    def _find(self, secret: str, is_token: bool) -> Visitor | None:
        database, state = self._platform.database, self._recent.state()
        if is_token:
            visitor = database.read(lambda session: sign_in.visitor_of_token(session, secret))
        else:
            visitor = database.read(lambda session: sign_in.visitor_of_cookie(session, secret, self._settings))
        if visitor is None:
            return None
        if sign_in.is_seen_lately(visitor):
            self._recent.put(secret, visitor, state, is_token=is_token)
        else:
            try:
                database.write(lambda session: sign_in.write_seen(session, visitor.actor))
            except AxonsError as error:  # who reads may go on reading
                _LOG.warning("cannot write when a session was last used: %s", error)
        return visitor

    def _is_our_host(self, headers: Headers) -> bool:
        hosts = headers.getlist("host")
        name = _host_name(f"//{hosts[0]}") if len(hosts) == 1 else None
        return name is not None and (name in _LOOPBACK or name == _host_name(self._settings.public_url))

    def _is_same_site(self, headers: Headers) -> bool:
        """Whether one of our own pages asks; browsers say so, and without a cookie nobody's rights are used."""
        if site := headers.get("sec-fetch-site"):
            return site in ("same-origin", "none")
        origin = headers.get("origin")
        if origin is None:
            return "cookie" not in headers
        return origin in (self._public_origin, f"http://{headers['host']}", f"https://{headers['host']}")

    def _refuse_length(self, headers: Headers) -> Response | None:
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return problem(400, "bad-length", f"Content-Length is {length[:20]!r}; send the number of bytes")
        return _too_large(self._settings.max_body_bytes) if int(length) > self._settings.max_body_bytes else None

    def _ask_to_sign_in(self, scope: Scope, headers: Headers) -> Response:
        if _wants_page(scope, headers):
            return _to_login(scope)
        return problem(
            401,
            "sign-in-required",
            "nobody is signed in; sign in, or send a token in the Authorization header",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _ask_for_password(self, scope: Scope, headers: Headers) -> Response:
        if _wants_page(scope, headers):
            return _to_login(scope)
        return problem(403, "password-change-required", "this is your first password; choose one of your own first")


class _CountedBody:
    """The request's body as it streams past; ends it early where it is too large."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._left = limit
        self.limit = limit
        self.is_too_large = False

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self.is_too_large = self._left < 0
        return {"type": "http.disconnect"} if self.is_too_large else message


class _Answer:
    """The answer on its way out, with the headers of every answer; 413 instead of what a cut body led to."""

    def __init__(self, send: Send, body: _CountedBody, headers: dict[str, str]) -> None:
        self._send = send
        self._body = body
        self._headers = headers
        self._is_replaced = False
        self.is_started = False
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self._body.is_too_large:
                await self.refuse()
                return
            self._start(message)
        if not self._is_replaced:
            await self._send(message)

    async def refuse(self) -> None:
        """Answer that the body is too large."""
        self._is_replaced = self.is_started = True
        answer = _too_large(self._body.limit)
        start: Message = {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
        self._start(start)
        await self._send(start)
        await self._send({"type": "http.response.body", "body": answer.body})

    def _start(self, message: Message) -> None:
        self.is_started = True
        self.status = message["status"]
        headers = MutableHeaders(raw=list(message.get("headers", ())))
        for name in [name for name in headers if name.lower().startswith("access-control-")]:
            del headers[name]  # no other site may read what is mounted here, whatever it says itself
        for name, value in self._headers.items():
            headers.setdefault(name, value)
        message["headers"] = headers.raw


def _too_large(limit: int) -> Response:
    return problem(
        413, "too-large", f"the body has more than {limit} bytes; send files in parts (POST /api/v1/uploads)"
    )


def _wants_page(scope: Scope, headers: Headers) -> bool:
    return scope["method"] in ("GET", "HEAD") and "text/html" in headers.get("accept", "")


def _to_login(scope: Scope) -> Response:
    query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
    return RedirectResponse(f"/login?next={quote(scope['path'] + query, safe='')}", 303)


def _headers(settings: Settings) -> dict[str, str]:
    """The headers of every answer."""
    is_https = _is_https(settings)
    is_trusted = is_https or _host_name(settings.public_url) in _LOOPBACK
    return _HEADERS | (_TRUSTED_HEADERS if is_trusted else {}) | (_HTTPS_HEADERS if is_https else {})


def _is_https(settings: Settings) -> bool:
    return settings.public_url.startswith("https://")


def _host_name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
