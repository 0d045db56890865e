"""What a command prints: one JSON value or lines for people on standard output, progress on standard error."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

JSON = typer.Option("--json", help="Print one JSON value on standard output and nothing else.")

Progress = Callable[[float, str], None]


def show(value: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Print the value as JSON, or the lines."""
    if as_json:
        typer.echo(json.dumps(value, ensure_ascii=False))
        return
    for line in lines:
        typer.echo(line)


def table(rows: Sequence[Sequence[object]], heads: Sequence[str]) -> Iterator[str]:
    """Lines of aligned columns; only the heads where there are no rows."""
    cells = [list(heads), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def fields(value: dict[str, Any], names: Sequence[str]) -> Iterator[str]:
    """One line for each field that is there."""
    width = max(map(len, names))
    for name in names:
        if value.get(name) not in (None, "", []):
            yield f"{name.replace('_', ' '):{width}}  {_cell(value[name])}"


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """A bar on standard error while it is a terminal; nothing else is written there."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=1.0)

        def move(share: float, text: str) -> None:
            bar.update(task, completed=share, description=text or title)

        yield move


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)
