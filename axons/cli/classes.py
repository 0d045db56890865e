"""Commands about school classes: class."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from axons.cli import output, server
from axons.cli.output import JSON

if TYPE_CHECKING:
    from axons.client import Client

classes = typer.Typer(no_args_is_help=True, help="School classes: join one, or look after yours.")

ClassName = Annotated[str, typer.Argument(metavar="CLASS", help="Name or id of the class.")]


@classes.command("list")
def list_classes(as_json: Annotated[bool, JSON] = False) -> None:
    """The classes that you are in."""
    with server.connected() as client:
        rows = list(client.pages("classrooms"))
    heads = ("id", "name", "your_role", "num_students", "join_code")
    output.show(rows, output.table([[row[head] for head in heads] for row in rows], heads), as_json=as_json)


@classes.command("create")
def create_class(name: Annotated[str, typer.Argument()], as_json: Annotated[bool, JSON] = False) -> None:
    """Make a class that you teach, and print its join code."""
    with server.connected() as client:
        made = client.create("classrooms", {"name": name})
    output.show(made, [f"{made['name']}; join code: {made['join_code']}"], as_json=as_json)


@classes.command("join")
def join_class(code: Annotated[str, typer.Argument()], as_json: Annotated[bool, JSON] = False) -> None:
    """Become a student of the class with this join code."""
    with server.connected() as client:
        joined = client.act("classrooms/join", {"code": code})
    output.show(joined, [f"{joined['your_role']} of {joined['name']}"], as_json=as_json)


@classes.command("add-students")
def add_students(
    name: ClassName,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="One sign-in name a line.")],
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Make accounts in a class and print their first passwords, this once.

    Example:

      axons class add-students 4b names.txt
    """
    names = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    with server.connected() as client:
        students = [{"name": student} for student in names]
        rows = client.create(f"classrooms/{_find(client, name)['id']}/students", {"students": students})
    heads = ("name", "password")
    output.show(rows, output.table([[row[head] for head in heads] for row in rows], heads), as_json=as_json)


@classes.command("progress")
def show_progress(
    name: ClassName,
    stuck_minutes: Annotated[
        float | None, typer.Option(min=1, help="Without a change for so long one counts as stuck; else 30.")
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """How far every student of a class has come, who is stuck first.

    Example:

      axons class progress 4b --stuck-minutes 15
    """
    with server.connected() as client:
        rows = client.get(f"classrooms/{_find(client, name)['id']}/progress", stuck_minutes=stuck_minutes)
    heads = ("name", "images", "tiles done", "sets", "trained", "failed", "models", "handed in", "GPU min", "queue", "")
    output.show(rows, output.table([_progress_cells(row) for row in rows], heads), as_json=as_json)


@classes.command("limits")
def set_limits(
    name: ClassName,
    trainings: Annotated[int | None, typer.Option(min=0, help="Trainings of a student at a time.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Longest training.")] = None,
    gpu_minutes: Annotated[float | None, typer.Option(min=0, help="Minutes on GPUs of a student, in all.")] = None,
    megapixels: Annotated[float | None, typer.Option(help="Larger images are predicted as a job.")] = None,
    project_gib: Annotated[float | None, typer.Option(help="Storage of one project.")] = None,
    person_gib: Annotated[float | None, typer.Option(help="Storage of all projects of one student.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show what the students of a class may use, and change what is given.

    Example:

      axons class limits 4b --trainings 2 --minutes 10
    """
    wanted = {
        "max_active_trainings": trainings,
        "max_training_minutes": minutes,
        "max_gpu_minutes": gpu_minutes,
        "max_prediction_pixels": _scaled(megapixels, 1e6),
        "max_project_bytes": _scaled(project_gib, 2**30),
        "max_user_bytes": _scaled(person_gib, 2**30),
    }
    changes = {limit: value for limit, value in wanted.items() if value is not None}
    with server.connected() as client:
        found = _find(client, name)
        if changes:
            found = client.change(f"classrooms/{found['id']}", {"limits": changes})
    limits = {
        limit: default if found["limits"][limit] is None else found["limits"][limit]
        for limit, default in (found["default_limits"] or {}).items()
    }
    output.show(limits, output.fields(limits, list(wanted)), as_json=as_json)


def _progress_cells(row: dict[str, Any]) -> list[object]:
    tiles, trainings, job = row["num_tiles_by_status"], row["num_trainings_by_state"], row["job"]
    return [
        row["name"],
        row["num_images"],
        f"{tiles['done']}/{sum(tiles.values())}",
        row["num_training_sets"],
        trainings["done"],
        trainings["failed"],
        row["num_models"],
        row["num_hand_ins"],
        f"{row['gpu_minutes']:.0f}",
        f"{job['kind']}: {job['reason'] or job['state']}" if job else "",
        f"stuck: {row['reason']}" if row["is_stuck"] else "",
    ]


def _scaled(value: float | None, unit: float) -> int | None:
    return None if value is None else round(value * unit)


def _find(client: "Client", name: str) -> dict[str, Any]:
    return server.only("class", name, [row for row in client.pages("classrooms") if name in (row["id"], row["name"])])
