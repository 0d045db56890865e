"""Signing in and out, one's own account, and personal tokens."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import anyio
from anyio import CapacityLimiter
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from axons.app import oidc, passwords
from axons.app.gate import cookie_name, cookie_of, set_cookie
from axons.app.platform import Platform
from axons.app.policy import Actor, require
from axons.app.rest.context import ActorOf, Id, PlatformOf
from axons.app.rest.problems import documented
from axons.app.services import sign_in
from axons.app.services.sign_in import Opened
from axons.app.services.users import UserPublic, public
from axons.app.tables import User, now
from axons.app.texts import Identifier, ShortLine
from axons.errors import SignInRefused

router = APIRouter(prefix="/auth", tags=["auth"])

_SIGN_INS_AT_ONCE = 4
_TOKEN_DAYS = 3650

Password = Annotated[str, Field(min_length=1, max_length=passwords.MAX_LENGTH)]
TokenName = Annotated[ShortLine, Field(min_length=1, max_length=80, description="What the token is for.")]
Next = Annotated[str, Query(max_length=2000, description="Page to go to afterwards, on this server.")]


class Login(BaseModel):
    """Name and password; with `token_name` a personal token is made instead of a browser session."""

    model_config = ConfigDict(extra="forbid")

    name: ShortLine
    password: Password
    token_name: TokenName | None = None


class CodeLogin(BaseModel):
    """A one-time code, as `axons up` prints it."""

    model_config = ConfigDict(extra="forbid")

    code: Identifier
    token_name: TokenName | None = None


class SignedIn(BaseModel):
    """Who is signed in now; `token` only where one was asked for, and only this once."""

    user: UserPublic
    must_change_password: bool
    token: str | None = None


class Me(BaseModel):
    """One's own account, and how this request is signed in."""

    user: UserPublic
    language: str
    must_change_password: bool
    has_password: bool
    signed_in_by: Literal["session", "token"]


class PasswordChange(BaseModel):
    """`current` may be left out where the account has no password yet."""

    model_config = ConfigDict(extra="forbid")

    current: Password | None = None
    new: Password


class TokenCreate(BaseModel):
    """A new personal token."""

    model_config = ConfigDict(extra="forbid")

    name: TokenName
    days: int | None = Field(None, ge=1, le=_TOKEN_DAYS, description="It ends after so many days; else never.")


class TokenPublic(BaseModel):
    """A personal token, without its secret."""

    id: str
    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class TokenCreated(TokenPublic):
    """A new token with its secret, which is shown this once."""

    token: str


class Methods(BaseModel):
    """How one can sign in here."""

    password: bool = True
    oidc: bool


@router.get("/methods", operation_id="list_sign_in_methods")
def list_methods(platform: PlatformOf) -> Methods:
    """How one can sign in here; open to everybody."""
    return Methods(oidc=platform.settings.oidc_issuer is not None)


@router.post("/login", operation_id="log_in", responses=documented(429))
async def log_in(request: Request, response: Response, platform: PlatformOf, form: Login) -> SignedIn:
    """Sign in by name and password; an account with many misses answers 429 until its delay is over."""
    # In threads of their own: a class that signs in at once does not keep others from working.
    return await _in_seat(request, lambda: _log_in(request, response, platform, form))


@router.post("/code", operation_id="log_in_by_code", responses=documented(429))
def log_in_by_code(request: Request, response: Response, platform: PlatformOf, form: CodeLogin) -> SignedIn:
    """Sign in by a one-time code."""

    def sign(session: Session) -> tuple[SignedIn, str | None]:
        user = sign_in.use_code(session, form.code)
        return _welcome(session, request, platform, user, form.token_name)

    return _remember(response, platform, *platform.database.write(sign))


@router.post("/logout", status_code=204, operation_id="log_out")
def log_out(platform: PlatformOf, actor: ActorOf) -> Response:
    """End this session, or the token that this request was made with, at once."""

    def end(session: Session) -> None:
        if actor.sign_in_id is not None:
            sign_in.revoke_session(session, actor.sign_in_id)
        elif actor.token_id is not None:
            sign_in.revoke_token(session, actor, actor.token_id)

    platform.database.write(end)
    response = Response(status_code=204, headers={"Clear-Site-Data": '"cache"'})
    response.delete_cookie(cookie_name(platform.settings), secure=platform.settings.public_url.startswith("https"))
    return response


@router.get("/me", operation_id="get_me")
def get_me(platform: PlatformOf, actor: ActorOf) -> Me:
    """Your own account."""

    def answer(session: Session) -> Me:
        user = session.get_one(User, actor.user_id)
        return Me(
            user=public(user),
            language=user.language,
            must_change_password=user.must_change_password,
            has_password=user.password_hash is not None,
            signed_in_by="session" if actor.sign_in_id is not None else "token",
        )

    return platform.database.read(answer)


@router.get("/administrator", status_code=204, operation_id="check_administrator")
def check_administrator(actor: ActorOf) -> Response:
    """Answers administrators with 204, and others with 403: a proxy asks before it shows pages of Ray or Grafana."""
    require(actor, "cluster.read")
    return Response(status_code=204)


@router.post("/password", status_code=204, operation_id="change_password", responses=documented(429))
async def change_password(request: Request, platform: PlatformOf, actor: ActorOf, form: PasswordChange) -> Response:
    """Change your own password; all your other sessions and tokens end."""
    await _in_seat(request, lambda: _change_password(platform, actor, form))
    return Response(status_code=204)


@router.get("/tokens", operation_id="list_tokens")
def list_tokens(platform: PlatformOf, actor: ActorOf) -> list[TokenPublic]:
    """Your personal tokens that still work, the newest first."""
    return platform.database.read(
        lambda session: [TokenPublic(**token.model_dump()) for token in sign_in.list_tokens(session, actor)]
    )


@router.post("/tokens", status_code=201, operation_id="create_token")
def create_token(platform: PlatformOf, actor: ActorOf, form: TokenCreate) -> TokenCreated:
    """Make a personal token for REST and the command; its secret is shown this once."""
    expires_at = now() + timedelta(days=form.days) if form.days is not None else None
    token, secret = platform.database.write(lambda session: sign_in.make_token(session, actor, form.name, expires_at))
    return TokenCreated(**token.model_dump(), token=secret)


@router.delete("/tokens/{token_id}", status_code=204, operation_id="revoke_token")
def revoke_token(platform: PlatformOf, actor: ActorOf, token_id: Id) -> Response:
    """End one of your tokens."""
    platform.database.write(lambda session: sign_in.revoke_token(session, actor, token_id))
    return Response(status_code=204)


@router.get("/oidc/start", operation_id="start_oidc", status_code=303, response_class=RedirectResponse)
async def start_oidc(request: Request, platform: PlatformOf, next: Next = "/") -> Response:
    """Go to the school's sign-in page."""
    return await oidc.start(request, platform, next)


@router.get("/oidc/callback", operation_id="finish_oidc", status_code=303, response_class=RedirectResponse)
async def finish_oidc(request: Request, platform: PlatformOf) -> Response:
    """Come back from the school's sign-in page."""
    identity, target = await oidc.finish(request, platform)

    def sign(session: Session) -> Opened:
        user = oidc.account_of(session, identity)
        previous = cookie_of(request.headers, platform.settings)
        return sign_in.open_session(session, user, platform.settings, previous=previous)

    opened = await anyio.to_thread.run_sync(platform.database.write, sign)
    response = RedirectResponse(target, 303)
    set_cookie(response, platform.settings, opened.cookie)
    oidc.forget(response)
    return response


async def _in_seat(request: Request, function: Callable[[], Any]) -> Any:
    state = request.app.state
    if not hasattr(state, "sign_in_seats"):
        state.sign_in_seats = CapacityLimiter(_SIGN_INS_AT_ONCE)
    return await anyio.to_thread.run_sync(function, limiter=state.sign_in_seats)


def _log_in(request: Request, response: Response, platform: Platform, form: Login) -> SignedIn:
    user = sign_in.check_password(platform, form.name, form.password)
    welcome = platform.database.write(lambda session: _welcome(session, request, platform, user, form.token_name))
    return _remember(response, platform, *welcome)


def _welcome(
    session: Session, request: Request, platform: Platform, user: User, token_name: str | None
) -> tuple[SignedIn, str | None]:
    """The answer to a sign-in, and the cookie."""
    signed_in = SignedIn(user=public(user), must_change_password=user.must_change_password)
    if token_name is None:
        previous = cookie_of(request.headers, platform.settings)
        return signed_in, sign_in.open_session(session, user, platform.settings, previous=previous).cookie
    if user.must_change_password:
        raise SignInRefused("this is your first password; sign in with a browser and choose one of your own first")
    _, signed_in.token = sign_in.make_token(session, Actor.of(user), token_name, None)
    return signed_in, None


def _remember(response: Response, platform: Platform, signed_in: SignedIn, cookie: str | None) -> SignedIn:
    if cookie is not None:
        set_cookie(response, platform.settings, cookie)
    return signed_in


def _change_password(platform: Platform, actor: Actor, form: PasswordChange) -> None:
    user = platform.database.read(lambda session: session.get_one(User, actor.user_id))
    if user.password_hash is not None:
        sign_in.check_password(platform, actor.name, form.current or "")
    passwords.check_new_password(form.new, actor.name)
    hashed = passwords.hash_password(form.new)
    platform.database.write(lambda session: sign_in.set_own_password(session, actor, hashed))
