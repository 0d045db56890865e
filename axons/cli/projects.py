"""Commands about projects and what is in them: project, images, annotations, export."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from axons.cli import output, server
from axons.cli.output import JSON
from axons.data.formats import ExportFormat, ImportFormat
from axons.errors import AxonsError

images = typer.Typer(no_args_is_help=True, help="Images of a project.")
annotations = typer.Typer(no_args_is_help=True, help="Labels that were not drawn here.")
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


@projects.command("add-classes")
def add_classes(
    project: Project,
    schema: Annotated[Path, typer.Argument(metavar="SCHEMA.json", exists=True, dir_okay=False)],
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Add the classes of a Django Labeller schema that the project lacks.

    Example:

      axons project add-classes nerve schema.json
    """
    try:
        document = json.loads(schema.read_bytes())
    except ValueError as error:
        raise AxonsError(f"{str(schema)!r} is not JSON ({error}); export the schema again") from error
    with server.connected() as client:
        added = client.create(f"projects/{server.find_project(client, project)['id']}/classes:import", document)
    names = ", ".join(f"{row['index']} {row['name']}" for row in added) or "none: the project has them all"
    output.show(added, [f"classes added: {names}"], as_json=as_json)


@images.command("add")
def add_images(
    project: Project,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="PATH|s3://…|manifest.csv", help="Files, folders, or a bucket."),
    ],
    wait: Annotated[bool, typer.Option(help="Wait until they are imported.")] = True,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Import images: files and folders of this machine, or a bucket or manifest that the server reads itself.

    Examples:

      axons images add nerve slides/ more.zip

      axons images add nerve s3://bucket/slides

      axons images add nerve s3://bucket/manifest.csv
    """
    with server.connected() as client, output.progress("sending") as progress:
        found = server.find_project(client, project)
        jobs = [client.import_source(found["id"], source) for source in sources if "://" in source]
        if files := _files([source for source in sources if "://" not in source]):
            jobs.append(client.import_images(found["id"], files, progress=progress))
        ended = [client.wait_for(job["id"], progress=progress) if wait else job for job in jobs]
    _show_imports(ended, ended, as_json)


@images.command("list")
def list_images(project: Project, as_json: Annotated[bool, JSON] = False) -> None:
    """The images of a project, by name."""
    with server.connected() as client:
        rows = list(client.pages(f"projects/{server.find_project(client, project)['id']}/images"))
    heads = ("id", "name", "height", "width", "channels", "split", "group")
    output.show(rows, output.table([[row.get(head) for head in heads] for row in rows], heads), as_json=as_json)


@annotations.command("import")
def import_annotations(
    project: Project,
    folder: Annotated[Path, typer.Argument(metavar="DIR", exists=True, help="Files named like the images.")],
    kind: Annotated[ImportFormat, typer.Option("--format", help="What the files are.")] = "png",
    fill_background: Annotated[
        bool, typer.Option("--fill-background", help="What the labels leave open becomes background.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until they are imported.")] = True,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Import labels that were made elsewhere.

    Examples:

      axons annotations import nerve masks/ --format png

      axons annotations import nerve cvat/ --format cvat --fill-background
    """
    with server.connected() as client, output.progress("sending") as progress:
        found = server.find_project(client, project)
        files = _files([str(folder)])
        job = client.import_annotations(
            found["id"], files, kind=kind, fills_background=fill_background, progress=progress
        )
        ended = client.wait_for(job["id"], progress=progress) if wait else job
    _show_imports(ended, [ended], as_json)


@annotations.command("accept")
def accept_prediction(
    prediction: Annotated[str, typer.Argument(metavar="PREDICTION", help="Id of a prediction of an image.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where people have labelled; their labels stay in the history.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Make what a model predicted the labels of the image's tiles, where no person has labelled.

    Example:

      axons annotations accept 3f6c2a1e-5d8b-4f0e-9a37-6a1c1f0b7d42
    """
    with server.connected() as client:
        found = client.create(f"predictions/{prediction}/accept", {"replaces_labels": replace})
    counts = "{written} written, {unchanged} as before, {kept} labelled by people and kept, {refused} done or open"
    output.show(found, [f"tiles: {counts.format(**found)}", *found["notices"]], as_json=as_json)


def export(
    project: Project,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.zip", help="Where to write it.")],
    kind: Annotated[ExportFormat, typer.Option("--format", help="For which tools.")] = "png",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write the labels of a project for other tools; `axons project export` takes all of it along.

    Example:

      axons export nerve --format coco -o nerve.zip
    """
    _export(project, kind, out, as_json)


@projects.command("export")
def export_project(
    project: Project,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.zip", help="Where to write it.")],
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Take a project along: images, newest labels, training sets and models in one file.

    Example:

      axons project export nerve -o nerve.zip
    """
    _export(project, "project", out, as_json)


@projects.command("import")
def import_project(
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", exists=True, dir_okay=False)],
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Unpack a project that was taken along; it is yours then, and its training sets keep their hashes.

    Example:

      AXONS_URL=https://axons.example.org axons project import nerve.zip
    """
    with server.connected() as client, output.progress("sending") as progress:
        job = client.wait_for(client.import_project(file, progress=progress)["id"], progress=progress)
    output.show(job, [job["reason"]], as_json=as_json)


def _show_imports(value: Any, jobs: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """What became of the files; as with other commands that take many, it ends with 1 if one was refused."""
    refused = [found for job in jobs for found in job["result"].get("refused", [])]
    lines = [job["reason"] or f"{job['kind']} job {job['id']}" for job in jobs]
    output.show(value, [*lines, *(f"  {found['name']}: {found['reason']}" for found in refused)], as_json=as_json)
    if refused:
        raise typer.Exit(1)


def _export(project: str, kind: str, out: Path, as_json: bool) -> None:
    with server.connected() as client, output.progress("packing") as progress:
        found = server.find_project(client, project)
        client.export_project(found["id"], out, kind=kind, progress=progress)
    output.show({"id": found["id"], "file": str(out)}, [str(out)], as_json=as_json)


def _files(sources: list[str]) -> list[Path]:
    """The files that paths of this machine mean; hidden ones in folders are left out."""
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            found += sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
        elif source.is_file():
            found.append(source)
        else:
            raise AxonsError(f"there is no file or folder {str(source)!r}; check the path")
    if sources and not found:
        raise AxonsError(f"there are no files in {', '.join(sources)}; check the path")
    return found


def _change(project: str, changes: dict[str, Any], as_json: bool, words: str) -> None:
    with server.connected() as client:
        found = client.change(f"projects/{server.find_project(client, project)['id']}", changes)
    output.show(found, [f"project {project} {words}"], as_json=as_json)
