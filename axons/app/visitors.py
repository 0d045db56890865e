"""Who asked a moment ago: most requests come from somebody who was let in seconds before."""

import threading

from cachetools import TTLCache

from axons.app.database import Database
from axons.app.passwords import digest
from axons.app.services.sign_in import Visitor
from axons.app.tables import SignIn, Token, User

_REMEMBER_S = 10.0  # a session whose time is over may go on for so long
_MOST = 4096


class RecentVisitors:
    """Visitors by their cookie or token, until any account, session or token is changed.

    Args:
        is_alone: no other process changes them; else nobody is remembered, for a sign-out there is not seen here.
    """

    def __init__(self, database: Database, *, is_alone: bool) -> None:
        self._database = database
        most = _MOST if is_alone else 0
        self._found: TTLCache[tuple[bool, str], tuple[int, Visitor]] = TTLCache(most, _REMEMBER_S)
        self._lock = threading.Lock()

    def state(self) -> int:
        """Another number after each change; take it before looking somebody up."""
        return self._database.num_changes(User, SignIn, Token)

    def get(self, secret: str, *, is_token: bool) -> Visitor | None:
        """Whoever was found for this cookie or token, if that is still true."""
        with self._lock:
            state, visitor = self._found.get((is_token, digest(secret)), (None, None))
        return visitor if state == self.state() else None

    def put(self, secret: str, visitor: Visitor, state: int, *, is_token: bool) -> None:
        """Remember whom somebody was found to be, looked up in this state."""
        if self._found.maxsize:
            with self._lock:
                self._found[is_token, digest(secret)] = (state, visitor)
