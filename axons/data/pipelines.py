"""Rows through a function on the Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any

import ray.data
from ray.data import DataContext
from ray.exceptions import RayTaskError

from axons.data.full_disk import telling_of_full_disks
from axons.data.priority import give_way
from axons.errors import AxonsError

_MAX_BLOCKS = 1000  # more tasks than this only cost scheduling


def stream(
    rows: Sequence[bytes],
    function: Callable[..., Iterator[bytes]],
    *,
    num_cpus: float = 1,
    num_gpus: float = 0,
    **arguments: Any,
) -> Iterator[bytes]:
    """What the generator `function(row, **arguments)` yields for each row, in no set order, as it comes.

    `function` runs on workers as a Ray Data task: it is importable, writes its results to storage itself and yields
    small rows that say what it wrote, so that pixels never fill the object store. It may run more than once for a row.

    Raises:
        AxonsError: what `function` raised, as if it had run here.
    """
    if not rows:
        return
    context = copy(DataContext.get_current())
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    with DataContext.current(context):
        items = ray.data.from_items([{"row": row} for row in rows], override_num_blocks=min(len(rows), _MAX_BLOCKS))
        answers = items.flat_map(_call, fn_args=(function, arguments), num_cpus=num_cpus, num_gpus=num_gpus or None)  # type: ignore[arg-type]
    try:
        for answer in answers.iter_rows():
            yield answer["row"]
    except RayTaskError as error:
        cause = error.cause
        if not isinstance(cause, AxonsError):
            raise
        # Its text is one line for a person, below which Ray Data has written advice for programmers.
        cause.args = (str(cause.args[0]).partition("\n")[0], *cause.args[1:])
        raise cause from error


def _call(
    item: dict[str, bytes], function: Callable[..., Iterator[bytes]], arguments: dict[str, Any]
) -> Iterator[dict[str, bytes]]:
    give_way()
    with telling_of_full_disks():
        for answer in function(item["row"], **arguments):
            yield {"row": answer}
