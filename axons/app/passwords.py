"""Passwords: Argon2id as the OWASP sheet says, a few at a time so that a class cannot fill the memory."""

import hashlib
import secrets
import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from axons.errors import InvalidRequest

MIN_LENGTH, MAX_LENGTH = 8, 256

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
AT_ONCE = 4
_SEATS = threading.BoundedSemaphore(AT_ONCE)
# Of a password that nobody knows: a name that nobody has takes as long as a wrong password.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$Ura+sMlmogr5m63OLvBQIw$gVomgXbTlKKqd0GNoXvXE3LqeRrIHFBF7HrVot9NAj8"
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that look alike on paper


def hash_password(password: str) -> str:
    """The text to keep instead of the password."""
    with _SEATS:
        return _HASHER.hash(password)


def verify(password_hash: str | None, password: str) -> bool:
    """Whether this is the password; as slow without a hash as with one."""
    with _SEATS:
        try:
            return _HASHER.verify(password_hash or _NOBODY, password) and password_hash is not None
        except (VerificationError, InvalidHashError):
            return False


def is_outdated(password_hash: str) -> bool:
    """Whether it was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(password_hash)


def digest(secret: str) -> str:
    """What is kept of a random cookie, token or code."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_password() -> str:
    """A first password to hand out on paper: 59 bits, as `kf7m-29xq-t8wp`."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(3))


def check_new_password(password: str, name: str) -> None:
    """Refuse what is guessed first.

    Raises:
        InvalidRequest: with what a password needs.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise InvalidRequest(
            "password",
            f"it has {len(password)} characters; take {MIN_LENGTH} to {MAX_LENGTH}, a short sentence is good",
        )
    if name.casefold() in password.casefold() or len(set(password)) < 5:
        raise InvalidRequest(
            "password", "it holds your name or fewer than 5 different characters; take one that nobody guesses"
        )
