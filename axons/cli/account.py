"""Commands about who you are: login, logout, token, user."""

import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer

from axons.cli import output, server
from axons.cli.output import JSON

if TYPE_CHECKING:
    from axons.client import Client

tokens = typer.Typer(no_args_is_help=True, help="Personal tokens, for scripts.")
users = typer.Typer(no_args_is_help=True, help="Accounts; for administrators, and educators for their students.")


def login(
    url: Annotated[str | None, typer.Option(help="Address of the server; else AXONS_URL or this machine.")] = None,
    code: Annotated[str | None, typer.Option(help="One-time code, as `axons up` prints it.")] = None,
    name: Annotated[str | None, typer.Option(help="Sign-in name; asked for if left out.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Sign in, and keep a token in ~/.config/axons/credentials.json.

    Examples:

      axons login --code 3kV…

      axons login --url https://axons.example.org --name ana
    """
    from axons.client import Client

    address = server.server_url(url)
    token_name = f"axons on {socket.gethostname()}"[:80]
    with Client(address) as client:
        if code is not None:
            answer = client.act("auth/code", {"code": code, "token_name": token_name})
        else:
            person = name or typer.prompt("Name", err=True)
            password = typer.prompt("Password", hide_input=True, err=True)
            answer = client.act("auth/login", {"name": person, "password": password, "token_name": token_name})
    path = server.save_credentials(address, answer["token"])
    value = {"url": address, "user": answer["user"], "credentials": str(path)}
    output.show(value, [f"signed in to {address} as {answer['user']['name']}"], as_json=as_json)


def logout(as_json: Annotated[bool, JSON] = False) -> None:
    """End the token of this command at the server, and forget it."""
    with server.connected() as client:
        client.act("auth/logout")
        url = client.url
    server.forget_credentials()
    output.show({"url": url}, [f"signed out of {url}"], as_json=as_json)


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="What it is for.")] = "script",
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="It ends after so many days; else never.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Make a token and print it, this once.

    Example:

      AXONS_TOKEN=$(axons token create nightly --days 90) python my_script.py
    """
    with server.connected() as client:
        token = client.create("auth/tokens", {"name": name, "days": days})
    output.show(token, [token["token"]], as_json=as_json)


@tokens.command("list")
def list_tokens(as_json: Annotated[bool, JSON] = False) -> None:
    """Your tokens that still work."""
    with server.connected() as client:
        rows = client.get("auth/tokens")
    heads = ("id", "name", "expires_at", "last_used_at")
    output.show(rows, output.table([[row[head] for head in heads] for row in rows], heads), as_json=as_json)


@tokens.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID")], as_json: Annotated[bool, JSON] = False
) -> None:
    """End a token at once."""
    with server.connected() as client:
        client.delete(f"auth/tokens/{token_id}")
    output.show({"id": token_id}, [f"token {token_id} has ended"], as_json=as_json)


@users.command("add")
def add_user(
    name: Annotated[str, typer.Argument(help="Sign-in name.")],
    role: Annotated[str, typer.Option(help="student, educator or administrator.")] = "student",
    display_name: Annotated[str, typer.Option(help="Name as others see it.")] = "",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Add an account and print its first password, this once.

    Example:

      axons user add ana --role student
    """
    with server.connected() as client:
        user = client.create("users", {"name": name, "role": role, "display_name": display_name})
    output.show(user, [f"{user['name']}, {user['role']}; first password: {user['password']}"], as_json=as_json)


@users.command("list")
def list_users(as_json: Annotated[bool, JSON] = False) -> None:
    """All accounts by name."""
    with server.connected() as client:
        rows = list(client.pages("users"))
    heads = ("id", "name", "display_name", "role", "is_active", "gpu_minutes")
    output.show(rows, output.table([[row.get(head) for head in heads] for row in rows], heads), as_json=as_json)


@users.command("reset")
def reset_user(name: Annotated[str, typer.Argument()], as_json: Annotated[bool, JSON] = False) -> None:
    """Give an account a new first password; its sessions and tokens end."""
    with server.connected() as client:
        user = client.act(f"users/{find_user(client, name)}/reset")
    output.show(user, [f"{user['name']}; first password: {user['password']}"], as_json=as_json)


@users.command("disable")
def disable_user(name: Annotated[str, typer.Argument()], as_json: Annotated[bool, JSON] = False) -> None:
    """Keep an account and its work, but let nobody sign in to it."""
    _set_active(name, False, as_json)


@users.command("enable")
def enable_user(name: Annotated[str, typer.Argument()], as_json: Annotated[bool, JSON] = False) -> None:
    """Undo `disable`."""
    _set_active(name, True, as_json)


@users.command("limits")
def set_limits(
    name: Annotated[str, typer.Argument()],
    trainings: Annotated[int | None, typer.Option(min=0, help="Trainings at a time.")] = None,
    gpu_minutes: Annotated[float | None, typer.Option(min=0, help="Minutes on GPUs in all.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="First forget what was set for this person.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show what one person may use instead of what the class may, and change what is given.

    Example:

      axons user limits ana --gpu-minutes 60
    """
    wanted: dict[str, float | None] = {"max_active_trainings": trainings, "max_gpu_minutes": gpu_minutes}
    changes = {limit: value for limit, value in wanted.items() if clear or value is not None}
    with server.connected() as client:
        address = f"users/{find_user(client, name)}"
        user = client.change(address, {"limits": changes}) if changes else client.get(address)
    output.show(user["limits"], output.fields(user["limits"], list(wanted)), as_json=as_json)


def _set_active(name: str, is_active: bool, as_json: bool) -> None:
    with server.connected() as client:
        user = client.change(f"users/{find_user(client, name)}", {"is_active": is_active})
    output.show(user, [f"{user['name']} is {'enabled' if is_active else 'disabled'}"], as_json=as_json)


def find_user(client: "Client", name: str) -> str:
    """The id of an account that one looks after, by its sign-in name or id."""
    rows = [row for row in _looked_after(client) if name in (row["id"], row["name"])]
    return str(server.only("account", name, rows)["id"])


def _looked_after(client: "Client") -> list[dict[str, Any]]:
    """Everybody for an administrator, the people of one's classes for an educator."""
    if client.get("auth/me")["user"]["role"] == "administrator":
        return list(client.pages("users"))
    taught = [row["id"] for row in client.pages("classrooms") if row["your_role"] == "educator"]
    members = [member for class_id in taught for member in client.pages(f"classrooms/{class_id}/members")]
    return list({member["user_id"]: {**member, "id": member["user_id"]} for member in members}.values())
