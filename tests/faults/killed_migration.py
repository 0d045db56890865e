"""A migration that is killed: `python -m tests.faults.killed_migration URL N` dies after its Nth statement.

With N of 0 it lives, and prints how many statements it took.
"""

import os
import signal
import sys
from typing import Any

from sqlalchemy import Engine, event

from axons.app.migrate import migrate

_taken = 0


def _count(*_: Any) -> None:
    global _taken
    _taken += 1
    if _taken == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    event.listen(Engine, "after_cursor_execute", _count)
    migrate(sys.argv[1])
    sys.stdout.write(f"{_taken}\n")
