"""`Idempotency-Key`: a creation that is sent again is answered as the first time and done once."""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

import anyio
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from axons.app.database import Database
from axons.app.policy import Actor
from axons.app.rest.problems import problem_of
from axons.app.tables import IdempotencyKey, now
from axons.errors import AxonsError, Conflict, InvalidRequest, ServerUnavailable

_KEPT = timedelta(days=1)
_LONGEST_ANSWER_S = 120
_MAX_KEY = 120
_MAX_BODY = 1 << 20
# Their answers hold secrets that are shown once and kept nowhere.
_WITH_SECRETS = ("/v1/auth", "/v1/users", "/v1/classrooms")


class Idempotency:
    """An ASGI middleware behind the gate.

    An answer is kept for a day. Where the server died between the deed and its answer, nobody knows whether it was
    done: then a repeated request is refused, and a person looks.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from memory, or pass the request on and remember its answer."""
        key = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        actor: Actor | None = scope.get("axons.actor")
        path = str(scope.get("path", "")).removeprefix(scope.get("root_path", ""))
        if key is None or actor is None or scope["method"] != "POST" or path.startswith(_WITH_SECRETS):
            await self._app(scope, receive, send)
            return
        database: Database = scope["axons.platform"].database
        body = await _read(receive)
        digest = sha256(f"{path}?{scope['query_string'].decode('latin-1')}\n".encode() + body).hexdigest()
        try:
            known = await anyio.to_thread.run_sync(_claim, database, actor, key, digest)
        except AxonsError as error:
            await problem_of(error)(scope, receive, send)
            return
        if known is not None:
            await known(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            await self._app(scope, _Replay(body, receive), answer)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_settle, database, actor, key, answer)


def _claim(database: Database, actor: Actor, key: str, digest: str) -> Response | None:
    """The answer of the first request with this key; None lets this one be the first."""
    if not 1 <= len(key) <= _MAX_KEY or not key.isprintable():
        raise InvalidRequest("Idempotency-Key", f"it has {len(key)} characters; send 1 to {_MAX_KEY} printable ones")

    def claim(session: Session) -> IdempotencyKey | None:
        mine = col(IdempotencyKey.user_id) == actor.user_id
        session.execute(delete(IdempotencyKey).where(mine, col(IdempotencyKey.created_at) < now() - _KEPT))
        found = session.exec(select(IdempotencyKey).where(mine, col(IdempotencyKey.key) == key)).first()
        if found is None:
            session.add(IdempotencyKey(user_id=actor.user_id, key=key, request_hash=digest, status_code=0, body=""))
        return found

    try:
        found = database.write(claim)
    except IntegrityError as error:  # two at once: this is the later one
        raise _still_busy() from error
    return None if found is None else _answer_of(found, digest)


def _settle(database: Database, actor: Actor, key: str, answer: "_Answer") -> None:
    """Keep a good answer; after any other the key is free again, for nothing was done."""

    def settle(session: Session) -> None:
        asked = select(IdempotencyKey).where(
            col(IdempotencyKey.user_id) == actor.user_id, col(IdempotencyKey.key) == key
        )
        row = session.exec(asked).first()
        if row is None:
            return
        if answer.is_good:
            row.status_code, row.body = answer.status, answer.body.decode()
        else:
            session.delete(row)

    database.write(settle)


def _answer_of(found: IdempotencyKey, digest: str) -> Response:
    if found.request_hash != digest:
        raise InvalidRequest("Idempotency-Key", "it was sent with another request before; make a new key")
    if found.status_code:
        kind = "application/json" if found.body else None
        return Response(found.body, found.status_code, headers={"Idempotency-Replayed": "true"}, media_type=kind)
    if found.created_at > now() - timedelta(seconds=_LONGEST_ANSWER_S):
        raise _still_busy()
    raise Conflict("the first request with this key was interrupted; look whether it was done, then use a new key")


def _still_busy() -> ServerUnavailable:
    return ServerUnavailable("the first request with this Idempotency-Key is still being answered; ask again soon")


async def _read(receive: Receive) -> bytes:
    """The whole body; the gate has limited it."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return b"".join(parts)


@dataclass
class _Replay:
    """Gives the body that was read already, then what comes after it."""

    body: bytes
    receive: Receive
    is_given: bool = False

    async def __call__(self) -> Message:
        if self.is_given:
            return await self.receive()
        self.is_given = True
        return {"type": "http.request", "body": self.body, "more_body": False}


class _Answer:
    """The answer as it goes out, remembered if it can be."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_whole = False
        self._is_json = False
        self.status = 0
        self.body = b""

    @property
    def is_good(self) -> bool:
        """Whether something was made, and its answer can be given again."""
        return self._is_whole and 200 <= self.status < 300 and (self._is_json or not self.body)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._is_json = Headers(raw=message["headers"]).get("content-type", "").startswith("application/json")
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")[: _MAX_BODY + 1]
            self._is_whole = not message.get("more_body") and len(self.body) <= _MAX_BODY
        await self._send(message)
