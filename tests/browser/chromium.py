"""The Chromium of the tests: found on this machine, or installed by `python -m tests.browser.chromium`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """The system's own, else the one that Playwright has installed, else None."""
    if found := next((path for path in map(shutil.which, NAMES) if path), None):
        return found
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


@contextmanager
def running_chromium(*arguments: str) -> Iterator[Browser]:
    """The one that is found, until the end of the block; Playwright runs an event loop in this thread meanwhile."""
    path = find_chromium()
    assert path, "there is no Chromium; run `python -m tests.browser.chromium`"
    ours = ["--disable-dev-shm-usage"]  # small in containers
    if os.geteuid() == 0:
        ours.append("--no-sandbox")  # Chromium refuses its sandbox to root
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=[*ours, *arguments]) as it,
    ):
        yield it


def install_chromium() -> None:
    """Install it in the way that this machine allows.

    Raises:
        subprocess.CalledProcessError: what was tried has failed.
    """
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _do("apt-get", "update", "--quiet")
        _do("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "chromium")
    else:
        _do(sys.executable, "-m", "playwright", "install", "chromium")


def main() -> None:
    """Do nothing where one is found."""
    if find_chromium():
        return
    _tell(f"The tests in a browser need Chromium; none of {', '.join(NAMES)} is in PATH. Installing it ...")
    try:
        install_chromium()
    except subprocess.CalledProcessError as error:
        _tell(f"Chromium is missing: `{' '.join(error.cmd)}` has failed. Install it by hand, then run this again.")
        sys.exit(1)
    if not find_chromium():
        _tell("Chromium is still missing after its installation; install it by hand, then run this again.")
        sys.exit(1)


def _do(*command: str) -> None:
    _tell("  " + " ".join(command))
    subprocess.run(command, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def _tell(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")


if __name__ == "__main__":
    main()
