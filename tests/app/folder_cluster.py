"""A cluster that is a folder: it outlives the dispatcher's process, as Ray does.

As a program it is that process: `python -m tests.app.folder_cluster DATA PLACES` dispatches until it is killed, as one
of several with `--leads-by-lease`.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from axons.app.jobs.dispatcher import Dispatcher
from axons.app.jobs.work import Submission, Work
from axons.app.platform import Platform
from axons.app.settings import Settings
from tests.app.trainings import play


class FolderCluster:
    """Each submission is a file that is created once; `work_off` plays what was submitted."""

    def __init__(self, folder: Path, places: int) -> None:
        self.folder = folder
        self.places = places
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self, kind: str, request: dict[str, Any], *, name: str) -> Work:
        raise AssertionError("only trainings here")

    def training_places(self) -> int:
        return self.places

    def submit(self, submission_id: str, run_uri: str, metadata: dict[str, str]) -> None:
        written = self.folder / f"{submission_id}.new"
        written.write_text(run_uri)
        try:
            (self.folder / f"{submission_id}.run").hardlink_to(written)
        except FileExistsError:
            with (self.folder / "twice.txt").open("a") as log:
                log.write(f"{submission_id}\n")

    def submission(self, submission_id: str) -> Submission:
        if (self.folder / f"{submission_id}.ended").exists():
            return "ended"
        return "running" if (self.folder / f"{submission_id}.run").exists() else "unknown"

    def last_words(self, submission_id: str) -> str:
        return ""

    def stop(self, submission_id: str) -> None:
        (self.folder / f"{submission_id}.ended").touch()

    def work_off(self) -> int:
        """Play every submission that has not been played; returns how many were submitted in all."""
        submitted = sorted(self.folder.glob("*.run"))
        for path in submitted:
            if not path.with_suffix(".ended").exists():
                play(path.read_text())
                path.with_suffix(".ended").touch()
        return len(submitted)


def start_dispatcher(data: Path, places: int, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    """The process that dispatches; what is given besides is in its environment."""
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(data), str(places), *options]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environment})


def main() -> None:
    data, places = Path(sys.argv[1]), int(sys.argv[2])
    platform = Platform.open(Settings(data=data))
    dispatcher = Dispatcher(platform, FolderCluster(data / "cluster", places), every_s=0.02)
    if "--leads-by-lease" not in sys.argv:  # that of the killed one is still there
        dispatcher._lead = lambda session: True  # type: ignore[method-assign]
    dispatcher.start()
    signal.pause()


if __name__ == "__main__":
    main()
