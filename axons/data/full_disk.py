"""Full disks, told as what they are."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from axons.errors import StorageFull

SENTENCE = "a disk of the server is full, so nothing was written; tell the administrator, and try again later"

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full_disk(error: BaseException | None) -> bool:
    """Whether this is the operating system's word for a full disk, or was made of it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__
    return False


@contextmanager
def telling_of_full_disks() -> Iterator[None]:
    """Raises StorageFull instead of what the operating system says when a disk is full."""
    try:
        yield
    except OSError as error:
        if not is_full_disk(error):
            raise
        raise StorageFull(SENTENCE) from error
