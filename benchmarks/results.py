"""The file of results and the page made from it: results.json and RESULTS.md."""

import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measuring import Figure, Result

_FOLDER = Path(__file__).parent
_JSON, _PAGE = _FOLDER / "results.json", _FOLDER / "RESULTS.md"

_HEADER = """# Results

Written by `python -m benchmarks`. A ratio is how many times better we are than the peer, measured in the same run;
machines differ, so quote ratios, never bare times. Each row's script says what it does.
"""


def keep(name: str, result: Result, seconds: float, *, order: list[str]) -> None:
    """Replace one row of both files; the others stay as they were measured."""
    rows: dict[str, Any] = json.loads(_JSON.read_text())["rows"] if _JSON.is_file() else {}
    if result.figures or name not in rows:  # what could not be measured now does not delete what was
        rows[name] = {
            **asdict(result),
            "machine": machine(),
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "seconds": round(seconds, 1),
        }
    rows = {key: rows[key] for key in order if key in rows}
    _JSON.write_text(json.dumps({"rows": rows}, indent=1, ensure_ascii=False) + "\n")
    _PAGE.write_text(_page(rows))


def machine() -> str:
    """Processor, cores, memory and versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray"))
    memory = psutil.virtual_memory().total / (1 << 30)
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} cores, {memory:.0f} GiB; Python {platform.python_version()}, {packages}"


def lines_of(name: str, result: Result) -> list[str]:
    """A row for the terminal."""
    told = [f"{name:12} {_cells(figure, ' | ')}" for figure in result.figures]
    return told + [f"{'':12} {note}" for note in result.notes]


def _page(rows: dict[str, Any]) -> str:
    parts = [_HEADER]
    for where in dict.fromkeys((row["machine"], row["date"]) for row in rows.values()):
        names = [name for name, row in rows.items() if (row["machine"], row["date"]) == where]
        parts.append(f"- {where[1]}, {where[0]}: {', '.join(names)}")
    parts.append("\n| row | what | ours | peer | ratio | target | reached |\n|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        parts += [f"| {name} | {_cells(Figure(**figure), ' | ')} |" for figure in row["figures"]]
    parts.append("")
    for name, row in rows.items():
        parts += [f"- **{name}**: {note}" for note in row["notes"]]
    return "\n".join(parts) + "\n"


def _cells(figure: Figure, between: str) -> str:
    return between.join(
        [
            figure.what,
            f"{_number(figure.ours)} {figure.unit}".rstrip(),
            "–" if figure.peer is None else f"{_number(figure.peer)} {figure.unit}".rstrip(),
            "–" if figure.ratio is None else f"{_number(figure.ratio)}×",
            figure.target or "–",
            {True: "yes", False: "**no**", None: "–"}[figure.reached],
        ]
    )


def _number(value: float) -> str:
    """Three digits, and whole numbers whole."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
