"""Commands for administrators: admin."""

from typing import Annotated, Any

import typer

from axons.cli import output, server
from axons.cli.account import find_user
from axons.cli.output import JSON

admin = typer.Typer(no_args_is_help=True, help="Machines, storage, what was done; for administrators.")
_GIB = 1 << 30


@admin.command("nodes")
def list_nodes(as_json: Annotated[bool, JSON] = False) -> None:
    """The machines of the cluster, and what is used of them."""
    with server.connected() as client:
        cluster = client.get("cluster/nodes")
    heads = ("name", "address", "alive", "cpus", "gpus", "memory, GiB", "work")
    rows = [
        [
            node["name"],
            node["address"],
            node["is_alive"],
            _used(node["cpus"]),
            _used(node["gpus"]),
            _used(node["memory"], _GIB),
            ", ".join(node["work"]),
        ]
        for node in cluster["nodes"]
    ]
    output.show(cluster, [cluster["sentence"], *(output.table(rows, heads) if rows else ())], as_json=as_json)


@admin.command("storage")
def show_storage(as_json: Annotated[bool, JSON] = False) -> None:
    """Whose images take how much, the largest first."""
    with server.connected() as client:
        storage = client.get("cluster/storage")
    rows = [[row["user_name"], row["num_projects"], row["num_bytes"] / _GIB] for row in storage["people"]]
    first = f"images: {storage['num_bytes'] / _GIB:.3f} GiB; free on the disk: {storage['free_bytes'] / _GIB:.3f} GiB"
    lines = [first, *output.table(rows, ("name", "projects", "GiB")), *_cleanup(storage["cleanup"])]
    output.show(storage, lines, as_json=as_json)


@admin.command("clean")
def clean_storage(
    all_orphans: Annotated[
        bool, typer.Option("--all-orphans", help="Delete objects without a row even if they are most of the storage.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Clean the storage up now, which otherwise happens every hour."""
    with server.connected() as client, output.progress("cleaning") as progress:
        started = client.act("cluster/storage/clean", {"deletes_all_orphans": all_orphans})
        job = client.wait_for(started["id"], progress=progress)
    output.show(job, [job["reason"]], as_json=as_json)


@admin.command("audit")
def list_audit(
    person: Annotated[str | None, typer.Option(help="Only what this account did: its sign-in name or id.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, as user.role.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=500, help="So many of the newest.")] = 50,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """What was done by whom, the newest first."""
    with server.connected() as client:
        actor_id = find_user(client, person) if person else None
        rows = client.get("audit", actor_id=actor_id, action=action, limit=count)["items"]
    heads = ("at", "actor_name", "action", "object_kind", "object_id", "detail")
    output.show(rows, output.table([[row[head] for head in heads] for row in rows], heads), as_json=as_json)


def _cleanup(cleanup: dict[str, Any] | None) -> list[str]:
    if cleanup is None:
        return ["the storage has not been cleaned up yet"]
    areas = ", ".join(f"{area} {size / _GIB:.3f} GiB" for area, size in cleanup["num_bytes"].items())
    lines = [f"in storage: {areas}", f"last cleanup, {cleanup['finished_at']}: {cleanup['reason']}"]
    lines += [cleanup["problem"]] if cleanup["problem"] else []
    return lines + [f"not in storage: {missing}" for missing in cleanup["missing"]]


def _used(use: dict[str, Any] | None, unit: int = 1) -> str:
    return f"{use['used'] / unit:.4g} of {use['total'] / unit:.4g}" if use else "–"
