"""Commands about projects and what is in them: project, images, annotations, export."""

from typing import Annotated, Any

import typer

from axons.cli import output, server
from axons.cli.output import JSON

projects = typer.Typer(no_args_is_help=True, help="Projects: make, list, rename, archive, delete, take along.")
Project = Annotated[str, typer.Argument(metavar="PROJECT", help="Name or id.")]
_HEADS = ("id", "name", "owner_name", "num_images", "archived_at")


@projects.command("create")
def create_project(
    name: Annotated[str, typer.Argument()],
    classes: Annotated[str, typer.Option(help="Names with commas, background first.")] = "background,object",
    tile: Annotated[int, typer.Option(min=64, max=2048, help="Side of the annotation tiles, px.")] = 256,
    description: Annotated[str, typer.Option()] = "",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Make a project.

    Example:

      axons project create nerve --classes background,axon,myelin --tile 256
    """
    names = [part.strip() for part in classes.split(",")]
    with server.connected() as client:
        form = {"name": name, "classes": names, "tile": tile, "description": description}
        project = client.create("projects", form)
    output.show(project, [f"project {project['name']}: {project['id']}"], as_json=as_json)


@projects.command("list")
def list_projects(
    archived: Annotated[bool, typer.Option("--archived", help="Those in the archive.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """The projects that you see, by name."""
    with server.connected() as client:
        rows = list(client.pages("projects", is_archived=archived))
    output.show(rows, output.table([[row.get(head) for head in _HEADS] for row in rows], _HEADS), as_json=as_json)


@projects.command("show")
def show_project(project: Project, as_json: Annotated[bool, JSON] = False) -> None:
    """A project, its classes, and how far it has come."""
    with server.connected() as client:
        found = client.get(f"projects/{server.find_project(client, project)['id']}")
    classes = ", ".join(f"{row['index']} {row['name']}" for row in found["classes"] if not row["is_deleted"])
    stages = [f"{stage['name']:14} {stage['text']}" for stage in found["stages"]]
    lines = [
        *output.fields(found, ("id", "name", "description", "tile", "threshold")),
        f"classes      {classes}",
        *stages,
    ]
    output.show(found, lines, as_json=as_json)


@projects.command("rename")
def rename_project(
    project: Project, name: Annotated[str, typer.Argument(metavar="NEW-NAME")], as_json: Annotated[bool, JSON] = False
) -> None:
    """Give a project another name."""
    _change(project, {"name": name}, as_json, f"is called {name} now")


@projects.command("archive")
def archive_project(
    project: Project,
    undo: Annotated[bool, typer.Option("--undo", help="Take it out of the archive.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Put a project aside: it can be looked at, not changed."""
    _change(project, {"is_archived": not undo}, as_json, "is out of the archive" if undo else "is in the archive")


@projects.command("delete")
def delete_project(project: Project, as_json: Annotated[bool, JSON] = False) -> None:
    """Put a project into the trash, from where it can be restored for 30 days."""
    with server.connected() as client:
        found = server.find_project(client, project)
        client.delete(f"projects/{found['id']}")
    output.show({"id": found["id"]}, [f"project {found['name']} is in the trash"], as_json=as_json)


def _change(project: str, changes: dict[str, Any], as_json: bool, words: str) -> None:
    with server.connected() as client:
        found = client.change(f"projects/{server.find_project(client, project)['id']}", changes)
    output.show(found, [f"project {project} {words}"], as_json=as_json)
