"""A fresh database and storage folder per test, people in it, and clients that are signed in as them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import SQLModel
from starlette.testclient import TestClient

from axons.app.database import Database
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.settings import Settings
from axons.app.tables import Image, Model, User
from tests.app.images import add_images
from tests.app.postgres import postgres  # noqa: F401 (a fixture)
from tests.app.serving import client_of, past_the_gate, the_api
from tests.app.trainings import add_model
from tests.serve.models import make_model


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is marked `both_databases` runs on SQLite and, with `make faults`, on PostgreSQL; the rest on SQLite."""
    if "database_url" in metafunc.fixturenames and metafunc.definition.get_closest_marker("both_databases"):
        databases = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
        metafunc.parametrize("database_url", databases, indirect=True)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str | None:
    """The address of a fresh PostgreSQL database; None is SQLite in the data folder."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return None
    return request.getfixturevalue("postgres").fresh_database()


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory) -> Path:
    """Making the tables takes longer than most tests."""
    path: Path = tmp_path_factory.mktemp("empty") / "axons.db"
    database = Database(f"sqlite:///{path}")
    SQLModel.metadata.create_all(database._writer)
    database.close()
    return path


@pytest.fixture
def platform(tmp_path, database_url, empty_sqlite) -> Iterator[Platform]:
    settings = Settings(data=tmp_path / "data", database_url=database_url)
    settings.data.mkdir()
    if database_url is None:
        shutil.copy(empty_sqlite, settings.data / "axons.db")
    platform = Platform.open(settings)
    yield platform
    platform.database.close()


def add_user(platform: Platform, name: str, role: str = "student") -> Actor:
    """An account without a password, and its actor."""
    user = User(name=name, folded_name=name.casefold(), role=role)

    def add(session) -> Actor:
        session.add(user)
        return Actor.of(user)

    return platform.database.write(add)


@pytest.fixture
def ana(platform) -> Actor:
    return add_user(platform, "ana")


@pytest.fixture
def ben(platform) -> Actor:
    return add_user(platform, "ben")


@pytest.fixture
def teacher(platform) -> Actor:
    return add_user(platform, "teacher", "educator")


@pytest.fixture
def admin(platform) -> Actor:
    return add_user(platform, "admin", "administrator")


class As:
    """REST as one person, past the gate: `As(platform, ana).get("/v1/projects")`."""

    def __new__(cls, platform: Platform, actor: Actor | None) -> TestClient:
        return client_of(past_the_gate(the_api(), platform, actor))


@pytest.fixture
def client(platform, ana) -> TestClient:
    """REST as ana."""
    return As(platform, ana)


@pytest.fixture
def image(platform, ana, project, tmp_path) -> Image:
    """An image of the project that the tests of a module have as a fixture."""
    [image] = add_images(platform, ana, project, tmp_path)
    return image


@pytest.fixture
def model(platform, ana, project) -> Model:
    """A model with random weights in that project."""
    make_model(platform.uri("models/random"))
    return add_model(platform, ana, project, "models/random")
