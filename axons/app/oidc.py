"""Signing in at the school's OpenID Connect provider: who somebody is comes from there, the role never."""

import re
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from fastapi import Request
from fastapi.responses import Response
from itsdangerous import BadSignature, URLSafeTimedSerializer
from joserfc.errors import JoseError
from sqlmodel import Session, col, select

from axons.app.platform import Platform
from axons.app.services.users import UserCreate, add_user, fold_name
from axons.app.settings import Settings
from axons.app.tables import User
from axons.errors import NotFound, ServerUnavailable, SignInRefused

_COOKIE = "axons-oidc"
_PATH = "/api/v1/auth/oidc"
_MINUTES = 10


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whom the provider vouches for.

    Args:
        subject: `issuer|sub`, which is theirs for ever.
        name: a wish for the sign-in name.
    """

    subject: str
    name: str
    display_name: str


async def start(request: Request, platform: Platform, target: str) -> Response:
    """Send the browser to the provider; what we must remember until it is back is in a signed cookie.

    Raises:
        NotFound: no provider is configured.
        ServerUnavailable: the provider does not answer.
    """
    provider = _provider(platform.settings)
    request.scope["session"] = {}
    try:
        response: Response = await provider.authorize_redirect(request, _callback(platform.settings))
    except httpx2.HTTPError as error:
        raise _unavailable(platform.settings) from error
    remembered = {"session": request.session, "target": _own_page(target)}
    response.set_cookie(
        _COOKIE,
        _signer(platform.settings).dumps(remembered),
        max_age=_MINUTES * 60,
        path=_PATH,
        httponly=True,
        samesite="lax",
        secure=platform.settings.public_url.startswith("https://"),
    )
    return response


async def finish(request: Request, platform: Platform) -> tuple[Identity, str]:
    """Who came back from the provider, and the page to go to.

    Raises:
        NotFound: no provider is configured.
        ServerUnavailable: the provider does not answer.
        SignInRefused: the provider says no, or what came back is not an answer to our question.
    """
    settings = platform.settings
    provider = _provider(settings)
    try:
        remembered = _signer(settings).loads(request.cookies.get(_COOKIE, ""), max_age=_MINUTES * 60)
        request.scope["session"] = remembered["session"]
        token = await provider.authorize_access_token(request, claims_options=_expected(settings))
    except httpx2.HTTPError as error:
        raise _unavailable(settings) from error
    except (BadSignature, AuthlibBaseError, JoseError, KeyError, ValueError) as error:
        raise SignInRefused(
            "the sign-in at your school was not completed; start again from our sign-in page"
        ) from error
    claims = token.get("userinfo")
    if not claims:
        raise SignInRefused("your school's server did not say who you are; tell the administrator")
    return _identity(settings, claims), remembered["target"]


def forget(response: Response) -> None:
    """The hand-shake is over."""
    response.delete_cookie(_COOKIE, path=_PATH)


def account_of(session: Session, identity: Identity) -> User:
    """The account of somebody the provider vouches for; a new student where there is none.

    An account of the same name is never taken over: it may belong to somebody else.

    Raises:
        SignInRefused: the account is disabled.
    """
    user = session.exec(select(User).where(col(User.subject) == identity.subject)).first()
    if user is None:
        form = UserCreate(name=_free_name(session, identity.name), display_name=identity.display_name)
        user = add_user(session, None, form, None)
        user.subject = identity.subject
    if not user.is_active:
        raise SignInRefused(f"the account {user.name!r} is disabled; ask your educator or the administrator")
    return user


def _provider(settings: Settings) -> Any:
    if settings.oidc_issuer is None or settings.oidc_client_id is None:
        raise NotFound("this server has no sign-in by the school; use name and password")
    secret = settings.oidc_client_secret
    return OAuth().register(
        "school",
        client_id=settings.oidc_client_id,
        client_secret=secret.get_secret_value() if secret else None,
        server_metadata_url=f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={"scope": "openid profile", "code_challenge_method": "S256", "timeout": 10},
    )


def _expected(settings: Settings) -> dict[str, Any]:
    """Only tokens of this provider for us; Authlib checks signature, times and nonce by itself."""
    assert settings.oidc_issuer is not None
    issuers = [settings.oidc_issuer, f"{settings.oidc_issuer.rstrip('/')}/", settings.oidc_issuer.rstrip("/")]
    return {
        "iss": {"essential": True, "values": issuers},
        "aud": {"essential": True, "value": settings.oidc_client_id},
        "nonce": {"essential": True},
    }


def _identity(settings: Settings, claims: dict[str, Any]) -> Identity:
    wish = str(claims.get("preferred_username") or claims.get("nickname") or "student").partition("@")[0]
    name = re.sub(r"[^\w.-]", "", wish)[:40].lstrip(".-") or "student"
    display_name = "".join(letter for letter in str(claims.get("name", "")) if letter.isprintable())[:120].strip()
    return Identity(subject=f"{claims['iss']}|{claims['sub']}", name=name, display_name=display_name)


def _free_name(session: Session, wish: str) -> str:
    name = wish
    while session.exec(select(User.id).where(col(User.folded_name) == fold_name(name))).first() is not None:
        name = f"{wish}-{secrets.token_hex(2)}"
    return name


def _callback(settings: Settings) -> str:
    return f"{settings.public_url.rstrip('/')}{_PATH}/callback"


def _own_page(target: str) -> str:
    """Only a page of this server: `//host` and `/\\host` are addresses of others."""
    parts = urlsplit(target)
    is_own = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return target if is_own and target.isprintable() else "/"


def _signer(settings: Settings) -> URLSafeTimedSerializer:
    assert settings.secret is not None, "`axons up` makes one"
    return URLSafeTimedSerializer(settings.secret.get_secret_value(), salt="oidc")


def _unavailable(settings: Settings) -> ServerUnavailable:
    return ServerUnavailable(
        f"the sign-in server {settings.oidc_issuer} does not answer; try again later, or use name and password"
    )
