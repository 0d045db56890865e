"""REST for one person in a process of its own, to be killed: `python -m tests.faults.save_server DATA PORT USER`."""

import sys
from pathlib import Path

import uvicorn
from sqlmodel import Session
from starlette.types import ASGIApp

from axons.app.build import build_api
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.settings import Settings
from axons.app.tables import User
from tests.app.serving import past_the_gate


def app(data: Path, user_id: str) -> ASGIApp:
    platform = Platform.open(Settings(data=data))

    def read(session: Session) -> Actor:
        return Actor.of(session.get_one(User, user_id))

    actor = platform.database.read(read)
    return past_the_gate(build_api(), platform, actor)


if __name__ == "__main__":
    folder, port, user = sys.argv[1:]
    uvicorn.run(app(Path(folder), user), host="127.0.0.1", port=int(port), log_level="error")
