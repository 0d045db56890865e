"""The log of the application: one JSON line for each event, whatever people have typed (R16)."""

import io
import json
import logging

import pytest

from axons.app.logs import set_up_logs

PAYLOADS = [
    "name\nERROR axons.gate: forged",
    'name\r\n{"level": "ERROR"}',
    "name\r",
    "\n\n\n",
    "\u2028line",
    "\u2029paragraph",
    "\x85next line",
    "\x0bvertical",
    "\x0cform",
    "\x1b[31mred",
    "\x00nul",
    "\x7f",
    '"}, {"level": "ERROR"',
    "\\n",
    "\\",
    "%s %d %(name)s",
    "{0} {name}",
    "\ud800",
    "\u202egnp.exe",
    "x" * 100_000,
]


@pytest.fixture
def lines():
    """The lines that were written since."""
    logger = logging.getLogger("axons")
    before = logger.handlers, logger.level, logger.propagate
    stream = io.StringIO()
    set_up_logs("INFO", stream)
    yield lambda: stream.getvalue().split("\n")
    logger.handlers, logger.level, logger.propagate = before


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_what_a_person_typed_is_one_line_of_json(lines, payload):
    logging.getLogger("axons.test").error("project %s", payload)
    line, end = lines()
    assert (json.loads(line)["message"], end) == (f"project {payload}", "")
    assert line.isascii()
    assert line.isprintable()


def test_a_trace_stays_in_its_line(lines):
    try:
        raise ValueError("a\nb")
    except ValueError:
        logging.getLogger("axons.test").exception("failed")
    line, _end = lines()
    assert "ValueError: a\nb" in json.loads(line)["trace"]
