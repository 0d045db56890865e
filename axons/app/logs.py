"""Log lines as JSON, one line for each event: what a person typed cannot pass for a line of its own."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

# What is being done, as far as it is known: each thread and each request has its own.
REQUEST, USER, JOB = ContextVar("request", default=""), ContextVar("user", default=""), ContextVar("job", default="")


class JsonLines(logging.Formatter):
    """time, level, logger, message; ids of the request, its account and the job; the trace where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON; line ends inside are escaped."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        known = {"request_id": REQUEST.get(), "user_id": USER.get(), "job_id": JOB.get()}
        line |= {name: value for name, value in known.items() if value}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def set_up_logs(level: str, stream: TextIO | None = None) -> None:
    """Let everything below the logger `axons` write to standard error, or to `stream`."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("axons")
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False
