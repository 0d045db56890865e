"""The platform and people of the tests of the application, for faults too; and installations that run."""

import shutil
from collections.abc import Iterator

import pytest

from axons.app import local_ray
from axons.client import Client
from tests.app.conftest import ana, database_url, empty_sqlite, platform, postgres, teacher  # noqa: F401 (fixtures)
from tests.app.installation import Installation, install
from tests.faults.on_platform import running_platform


@pytest.fixture
def start(tmp_path):
    """Starts `axons up` with the settings given, in a folder, and returns it with a token; ends it after the test."""
    started = []

    def start(folder=tmp_path, **settings):
        folder.mkdir(exist_ok=True)
        up = install(folder, **settings)
        started.append(up)
        up.start("--no-sample")
        return up, up.token()

    yield start
    for up in started:
        if up.process.poll() is None:
            up.stop()
        shutil.rmtree(local_ray.session_folder(up.data), ignore_errors=True)


@pytest.fixture(scope="module")
def up(tmp_path_factory) -> Iterator[Installation]:
    """One `axons up` for all tests of a file."""
    with running_platform(tmp_path_factory.mktemp("up")) as installation:
        yield installation


@pytest.fixture(scope="module")
def administrator(up) -> Iterator[Client]:
    with up.client() as client:
        yield client
