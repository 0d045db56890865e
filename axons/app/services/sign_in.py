"""Signing in: by name and password, by one-time code, by token; each account slows its own guesses."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, or_, update
from sqlmodel import Session, col, select

from axons.app import passwords
from axons.app.database import UNCOUNTED
from axons.app.passwords import digest
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services import audit
from axons.app.services.users import fold_name
from axons.app.settings import Settings
from axons.app.tables import LoginCode, SignIn, Token, User, now
from axons.errors import LimitReached, NotFound, SignInRefused

MAX_TOKENS = 50

_FREE_TRIES = 10
_LONGEST_DELAY_S = 900
_SEEN_EVERY = timedelta(minutes=1)
_WRONG = "name or password is wrong; try again, or ask your educator for a new password"

# Asked at every request: putting such a question together takes longer than its answer.
_OF_COOKIE = (
    select(SignIn, User)
    .join(User, col(User.id) == col(SignIn.user_id))
    .where(
        col(SignIn.id) == bindparam("digest"),
        col(SignIn.revoked_at).is_(None),
        col(SignIn.expires_at) > bindparam("at"),
        col(SignIn.last_seen_at) > bindparam("since"),
        col(User.is_active),
    )
)
_OF_TOKEN = (
    select(Token, User)
    .join(User, col(User.id) == col(Token.user_id))
    .where(
        col(Token.token_hash) == bindparam("digest"),
        col(Token.revoked_at).is_(None),
        or_(col(Token.expires_at).is_(None), col(Token.expires_at) > bindparam("at")),
        col(User.is_active),
    )
)


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Whoever a cookie or token belongs to; one that must change the password may do nothing else.

    Args:
        seen_at: when the session or token was last written down as used.
    """

    actor: Actor
    must_change_password: bool
    seen_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A new session: what goes into the cookie, shown to nobody else."""

    cookie: str
    user: User


def check_password(platform: Platform, name: str, password: str) -> User:
    """The account of this name, if this is its password; a miss is counted before the password is looked at.

    Raises:
        SignInRefused: wrong, too many misses, or the account is disabled.
    """
    user = platform.database.write(lambda session: _count_try(session, name, platform.settings))
    if not passwords.verify(user.password_hash if user else None, password) or user is None:
        raise SignInRefused(_WRONG)
    if not user.is_active:
        raise SignInRefused(f"the account {user.name!r} is disabled; ask your educator or the administrator")
    assert user.password_hash is not None
    newer = passwords.hash_password(password) if passwords.is_outdated(user.password_hash) else None
    return platform.database.write(lambda session: _forget_misses(session, user, newer))


def open_session(session: Session, user: User, settings: Settings, *, previous: str | None = None) -> Opened:
    """A new session of the account; the one in the browser's `previous` cookie ends."""
    if previous is not None:
        revoke_session(session, digest(previous))
    cookie = secrets.token_urlsafe(32)
    session.add(SignIn(id=digest(cookie), user_id=user.id, expires_at=now() + timedelta(hours=settings.session_hours)))
    return Opened(cookie=cookie, user=user)


def use_code(session: Session, code: str) -> User:
    """The account of a one-time code, which is used up.

    Raises:
        SignInRefused: there is none, it was used, or its time is over.
    """
    row = session.get(LoginCode, digest(code), with_for_update=True)
    user = session.get(User, row.user_id) if row is not None else None
    if row is None or row.used_at is not None or row.expires_at <= now() or user is None or not user.is_active:
        raise SignInRefused("this code is unknown, used or too old; ask for a new one, or restart `axons up`")
    row.used_at = now()
    user.failed_logins, user.blocked_until = 0, None
    return user


def revoke_session(session: Session, sign_in_id: str) -> None:
    """End one session, if there is one."""
    row = session.get(SignIn, sign_in_id)
    if row is not None and row.revoked_at is None:
        row.revoked_at = now()


def end_all(session: Session, user_id: str, *, but: str | None = None) -> None:
    """End every session and token of an account, as after a new password.

    Args:
        but: the session that goes on.
    """
    for table in (SignIn, Token):
        session.exec(
            update(table)
            .where(col(table.user_id) == user_id, col(table.revoked_at).is_(None), col(table.id) != (but or ""))
            .values(revoked_at=now())
        )


def visitor_of_cookie(session: Session, cookie: str, settings: Settings) -> Visitor | None:
    """Whose live session this is."""
    at = now()
    since = at - timedelta(minutes=settings.session_idle_minutes)
    found = session.exec(_OF_COOKIE, params={"digest": digest(cookie), "at": at, "since": since}).first()
    if found is None:
        return None
    sign_in, user = found
    return Visitor(
        actor=Actor.of(user, sign_in_id=sign_in.id),
        must_change_password=user.must_change_password,
        seen_at=sign_in.last_seen_at,
    )


def visitor_of_token(session: Session, token: str) -> Visitor | None:
    """Whose live token this is."""
    found = session.exec(_OF_TOKEN, params={"digest": digest(token), "at": now()}).first()
    if found is None:
        return None
    row, user = found
    return Visitor(
        actor=Actor.of(user, token_id=row.id),
        must_change_password=user.must_change_password,
        seen_at=row.last_used_at,
    )


def is_seen_lately(visitor: Visitor) -> bool:
    """Whether a request of the last minute was written down."""
    return visitor.seen_at is not None and visitor.seen_at > now() - _SEEN_EVERY


def write_seen(session: Session, actor: Actor) -> None:
    """Write down that the session or token was used just now, unless a request beside this one did."""
    at = now()
    if actor.sign_in_id is not None:
        mine = col(SignIn.id) == actor.sign_in_id
        seen = update(SignIn).where(mine, col(SignIn.last_seen_at) < at - _SEEN_EVERY).values(last_seen_at=at)
    else:
        is_old = or_(col(Token.last_used_at).is_(None), col(Token.last_used_at) < at - _SEEN_EVERY)
        seen = update(Token).where(col(Token.id) == actor.token_id, is_old).values(last_used_at=at)
    session.exec(seen, execution_options=UNCOUNTED)


def make_token(session: Session, actor: Actor, name: str, expires_at: datetime | None) -> tuple[Token, str]:
    """A personal token, and its text, which is shown this once.

    Raises:
        LimitReached: there are too many already.
    """
    if len(list_tokens(session, actor)) >= MAX_TOKENS:
        raise LimitReached(f"you have {MAX_TOKENS} tokens already; revoke those that you do not use")
    secret = f"axons_{secrets.token_urlsafe(32)}"
    token = Token(user_id=actor.user_id, name=name, token_hash=digest(secret), expires_at=expires_at)
    session.add(token)
    audit.record(session, actor, "token.create", "token", token.id, name=name)
    return token, secret


def list_tokens(session: Session, actor: Actor) -> list[Token]:
    """The actor's own tokens that still work."""
    mine = select(Token).where(col(Token.user_id) == actor.user_id, col(Token.revoked_at).is_(None))
    return list(session.exec(mine.order_by(col(Token.created_at).desc())).all())


def revoke_token(session: Session, actor: Actor, token_id: str) -> None:
    """End one of the actor's tokens.

    Raises:
        NotFound: it is not one of theirs.
    """
    token = session.get(Token, token_id)
    if token is None or token.user_id != actor.user_id:
        raise NotFound(f"you have no token {token_id!r}; look at the list of your tokens")
    if token.revoked_at is None:
        token.revoked_at = now()
        audit.record(session, actor, "token.revoke", "token", token.id, name=token.name)


def set_own_password(session: Session, actor: Actor, password_hash: str) -> None:
    """Give the actor's account a new password; every other session and token of it ends."""
    user = session.get_one(User, actor.user_id)
    user.password_hash = password_hash
    user.must_change_password = False
    user.failed_logins, user.blocked_until = 0, None
    end_all(session, user.id, but=actor.sign_in_id or actor.token_id)
    audit.record(session, actor, "user.password", "user", user.id)


def _count_try(session: Session, name: str, settings: Settings) -> User | None:
    """Count a try as missed until it is known to be right, so that tries beside each other are all counted."""
    user = session.exec(select(User).where(col(User.folded_name) == fold_name(name)).with_for_update()).first()
    if user is None or user.password_hash is None:
        return None
    if user.failed_logins >= settings.max_login_failures:
        raise SignInRefused(
            f"the account is locked after {user.failed_logins} wrong passwords; ask your educator for a new password",
            retry_after_s=_LONGEST_DELAY_S,
        )
    at = now()
    if user.blocked_until is not None and user.blocked_until > at:
        wait_s = int((user.blocked_until - at).total_seconds()) + 1
        raise SignInRefused(f"too many wrong passwords; try again in {wait_s} seconds", retry_after_s=wait_s)
    user.failed_logins += 1
    if user.failed_logins >= _FREE_TRIES:
        delay_s = min(2 ** (user.failed_logins - _FREE_TRIES), _LONGEST_DELAY_S)
        user.blocked_until = at + timedelta(seconds=delay_s)
    return user


def _forget_misses(session: Session, tried: User, newer_hash: str | None) -> User:
    user = session.get_one(User, tried.id)
    if user.password_hash != tried.password_hash:  # a new password was given in between
        raise SignInRefused(_WRONG)
    user.failed_logins, user.blocked_until = 0, None
    user.password_hash = newer_hash or user.password_hash
    return user
