"""The log of the application: one JSON line for each event, whatever people have typed (R16)."""

import io
import json
import logging

import anyio
import pytest
from starlette.responses import Response

from axons.app.gate import Gate
from axons.app.jobs.dispatcher import Dispatcher
from axons.app.logs import set_up_logs
from axons.app.services import sign_in
from axons.app.tables import User
from tests.app.browser import ADDRESS
from tests.app.serving import client_of
from tests.app.trainings import ThreadCluster

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


async def log_in_a_thread(scope, receive, send):
    """An application as most of our routes are."""
    await anyio.to_thread.run_sync(logging.getLogger("axons.test").warning, "opened")
    await Response()(scope, receive, send)


def test_a_line_says_which_request_it_is_of_and_who_asked(lines, platform, ana):
    opened = platform.database.write(
        lambda session: sign_in.open_session(session, session.get_one(User, ana.user_id), platform.settings)
    )
    client = client_of(Gate(log_in_a_thread, platform))
    headers = {"host": ADDRESS.removeprefix("http://"), "cookie": f"axons={opened.cookie}"}
    client.get("/", headers=headers | {"x-request-id": 'a-1\n{"level": "ERROR"}' + "x" * 100})
    client.get("/healthz", headers={"host": "localhost", "x-request-id": "a-2"})
    first, second, _end = lines()
    known = {"request_id": ('a-1\n{"level": "ERROR"}' + "x" * 100)[:64], "user_id": ana.user_id}
    assert {name: json.loads(first)[name] for name in known} == known
    assert (json.loads(second)["request_id"], "user_id" in json.loads(second)) == ("a-2", False)


def test_a_line_says_which_job_it_is_about(lines, platform):
    def step():
        logging.getLogger("axons.test").warning("it begins")

    Dispatcher(platform, ThreadCluster())._guard("job-1", step)
    logging.getLogger("axons.test").warning("and it is over")
    first, second, _end = lines()
    assert (json.loads(first)["job_id"], "job_id" in json.loads(second)) == ("job-1", False)
