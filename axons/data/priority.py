"""How processes share the cores of a node."""

import os

_BACKGROUND = 10


def give_way() -> None:
    """Let this process compute where nobody waits for an answer; threads that it has already stay as they are."""
    if hasattr(os, "setpriority") and os.getpriority(os.PRIO_PROCESS, 0) < _BACKGROUND:
        os.setpriority(os.PRIO_PROCESS, 0, _BACKGROUND)
