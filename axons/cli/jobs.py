"""Commands about the queue: jobs."""

from pathlib import Path
from typing import Annotated

import typer

from axons.cli import output, server
from axons.cli.output import JSON

jobs = typer.Typer(no_args_is_help=True, help="The queue: what waits, runs and has ended.")
_HEADS = ("id", "kind", "state", "progress", "ahead", "reason")


@jobs.command("list")
def list_jobs(
    project: Annotated[str | None, typer.Option(help="Only those of this project.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Those of everybody you look after.")] = False,
    running: Annotated[bool, typer.Option("--running", help="Only those that are not over.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Jobs with their place in the queue, the newest first; none is ever forgotten."""
    with server.connected() as client:
        project_id = server.find_project(client, project)["id"] if project else None
        query = {"all": everybody or None, "is_over": False if running else None, "project_id": project_id}
        rows = list(client.pages("jobs", **query))
    output.show(rows, output.table([[row[head] for head in _HEADS] for row in rows], _HEADS), as_json=as_json)


@jobs.command("show")
def show_job(job_id: Annotated[str, typer.Argument(metavar="JOB")], as_json: Annotated[bool, JSON] = False) -> None:
    """A job with its log."""
    with server.connected() as client:
        job = {**client.job(job_id), "log": client.get(f"jobs/{job_id}/log")["log"]}
    names = ("id", "kind", "state", "progress", "ahead", "reason", "created_at", "started_at", "finished_at")
    output.show(job, [*output.fields(job, names), str(job["log"]).rstrip()], as_json=as_json)


@jobs.command("cancel")
def cancel_job(job_id: Annotated[str, typer.Argument(metavar="JOB")], as_json: Annotated[bool, JSON] = False) -> None:
    """Stop a job; one that runs ends within seconds."""
    with server.connected() as client:
        job = client.act(f"jobs/{job_id}/cancel")
    output.show(job, [f"{job['kind']} {job['state']}: {job['reason'] or 'cancelling'}"], as_json=as_json)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="Where to write it.")],
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write everything the server keeps to one file; for administrators.

    Example:

      axons backup axons-monday.zip
    """
    with server.connected() as client, output.progress("packing") as progress:
        client.download("backups/now", file, progress=progress)
    output.show({"file": str(file)}, [str(file)], as_json=as_json)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Data folder to make of it; must not exist yet.")],
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Make a data folder of a backup, for `axons up --data DIR`.

    Example:

      axons restore axons-monday.zip --data axons-restored
    """
    from axons.app.services.backup import restore as unpack

    unpack(file, data)
    output.show({"data": str(data)}, [f"start it with: axons up --data {data}"], as_json=as_json)
