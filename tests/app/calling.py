"""The `axons` command in this process, as one person calls it."""

import sys
from collections.abc import Callable
from datetime import timedelta

import pytest

from axons import cli
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services import sign_in
from axons.app.tables import now


def caller(
    platform: Platform, actor: Actor, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """The command with arguments; it gives the standard output, once it has ended well."""
    until = now() + timedelta(days=1)
    token = platform.database.write(lambda session: sign_in.make_token(session, actor, "test", until)[1])
    monkeypatch.setenv("AXONS_URL", url)
    monkeypatch.setenv("AXONS_TOKEN", token)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["axons", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out

    return run
