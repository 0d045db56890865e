"""The groups of images, found in their names by a pattern that a person has written."""

import json
import subprocess
import sys
from collections.abc import Sequence

from axons.errors import TrainingSetRefused

_TIMEOUT_S = 5.0
_PROGRAM = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = [re.search(pattern, name) for name in names]
json.dump([each and (each[1] if each.groups() else each[0]) for each in found], sys.stdout)
"""


def groups_of(names: Sequence[str], pattern: str) -> list[str]:
    """What the pattern finds in each name: its first group, else all that fits.

    In a process of its own, for some patterns take for ever, and meanwhile `re` lets no other thread work.

    Raises:
        TrainingSetRefused: nothing is found in a name, or not in time.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            input=json.dumps([pattern, list(names)]),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise TrainingSetRefused(f"the group {pattern!r} takes too long on the names; write it simpler") from error
    groups: list[str | None] = json.loads(done.stdout)
    for name, group in zip(names, groups, strict=True):
        if group is None:
            raise TrainingSetRefused(f"the group {pattern!r} is not in the name {name!r}; each image needs one")
    return [group for group in groups if group is not None]
