"""Which server the command talks to, as whom, and what a name on the command line means there."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axons.errors import AxonsError, NotFound, SignInRequired

if TYPE_CHECKING:
    from axons.client import Client

DEFAULT_URL = "http://127.0.0.1:8000"


def credentials_file() -> Path:
    """Where `axons login` keeps the token."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "axons" / "credentials.json"


def save_credentials(url: str, token: str) -> Path:
    """Keep them where only this person can read them."""
    path = credentials_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"url": url, "token": token}, file)
    part.replace(path)
    return path


def forget_credentials() -> None:
    """Remove them, if there are any."""
    credentials_file().unlink(missing_ok=True)


def server_url(given: str | None = None) -> str:
    """The address given, that of AXONS_URL, that of the last sign-in, or this machine."""
    return given or os.environ.get("AXONS_URL") or _saved().get("url") or DEFAULT_URL


@contextmanager
def connected() -> Iterator["Client"]:
    """A client for the server at hand.

    Raises:
        SignInRequired: no token is known for it.
    """
    from axons.client import Client

    url, saved = server_url(), _saved()
    # A saved token goes to the server that gave it and to no other.
    token = os.environ.get("AXONS_TOKEN") or (saved.get("token") if saved.get("url") == url else None)
    if token is None:
        raise SignInRequired(f"you are not signed in to {url}; run `axons login`, or set AXONS_URL and AXONS_TOKEN")
    with Client(url, token) as client:
        yield client


def find_project(client: "Client", name: str) -> dict[str, Any]:
    """The project with this id or name.

    Raises:
        NotFound: there is none.
        AxonsError: several have this name.
    """
    rows = [*client.pages("projects"), *client.pages("projects", is_archived=True)]
    return only("project", name, [row for row in rows if name in (row["id"], row["name"])])


def find_numbered(client: "Client", what: str, name: str) -> dict[str, Any]:
    """A training set or run by its id, or as PROJECT/NUMBER.

    Args:
        what: "training-sets" or "runs".
    Raises:
        NotFound: there is none.
    """
    project_name, slash, number = name.rpartition("/")
    if not slash:
        found: dict[str, Any] = client.get(f"{what}/{name}")
        return found
    project = find_project(client, project_name)
    rows = [row for row in _of_project(client, what, project["id"]) if str(row["number"]) == number]
    return only(what.removesuffix("s").replace("-", " "), name, rows)


def find_model(client: "Client", name: str) -> dict[str, Any]:
    """A model by its id, or as PROJECT/NAME (the promoted version) or PROJECT/NAME/VERSION.

    Raises:
        NotFound: there is none.
    """
    parts = name.split("/")
    if len(parts) == 1:
        found: dict[str, Any] = client.get(f"models/{name}")
        return found
    project = find_project(client, parts[0])
    rows = [row for row in _of_project(client, "models", project["id"]) if row["name"] == parts[1]]
    chosen = [row for row in rows if (str(row["version"]) == parts[2] if len(parts) > 2 else row["is_promoted"])]
    if not chosen:
        raise NotFound(f"there is no model {name!r}; see `axons models list {parts[0]}`")
    return chosen[0]


def _of_project(client: "Client", what: str, project_id: str) -> Iterator[dict[str, Any]]:
    if what == "training-sets":
        return client.pages(f"projects/{project_id}/training-sets")
    return client.pages(what, project_id=project_id)


def only(what: str, name: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The one row that a name means.

    Raises:
        NotFound: there is none.
        AxonsError: there are several.
    """
    if not found:
        raise NotFound(f"there is no {what} {name!r}; look at the list of them")
    if len(found) > 1:
        ids = ", ".join(row["id"] for row in found)
        raise AxonsError(f"{len(found)} {what}s are called {name!r}; give one of the ids {ids}")
    return found[0]


def _saved() -> dict[str, str]:
    try:
        saved: dict[str, str] = json.loads(credentials_file().read_text())
        return saved
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AxonsError(f"{credentials_file()} cannot be read ({error}); remove it and run `axons login`") from error
