"""Commands about learning: training-set, train, runs, evaluate, report."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from axons.cli import output, server
from axons.cli.output import JSON
from axons.errors import AxonsError

if TYPE_CHECKING:
    from axons.client import Client

training_sets = typer.Typer(no_args_is_help=True, help="Training sets: frozen images with their labels and split.")
runs = typer.Typer(no_args_is_help=True, help="Runs: what trains, has trained, and how it went.")

TrainingSet = Annotated[str, typer.Argument(metavar="TRAINING-SET", help="Id, or PROJECT/NUMBER.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Id, or PROJECT/NUMBER.")]
_SET_HEADS = ("id", "number", "name", "state", "sha256")
_RUN_HEADS = ("id", "number", "name", "state", "progress", "ahead", "reason", "model_id")


@training_sets.command("create")
def create_training_set(
    project: Annotated[str, typer.Argument(metavar="PROJECT")],
    images: Annotated[str | None, typer.Option(metavar="GLOB", help="Names to take, as 'rat*'.")] = None,
    exclude: Annotated[str | None, typer.Option(metavar="GLOB", help="Names to leave out.")] = None,
    split: Annotated[str, typer.Option(metavar="A/B/C", help="Percent for train, val and test.")] = "70/15/15",
    group: Annotated[str | None, typer.Option(metavar="REGEX", help="What images that belong together share.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    scale: Annotated[float, typer.Option(help="Size at which the network will see the images.")] = 1.0,
    name: Annotated[str | None, typer.Option()] = None,
    only_done: Annotated[bool, typer.Option("--only-done", help="Only tiles that are marked as done.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until it is frozen.")] = True,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Freeze labelled images into a training set.

    Example:

      axons training-set create nerve --images 'rat*' --split 70/15/15 --group 'rat\\d+'
    """
    form = {
        "name": name,
        "images": images,
        "exclude": exclude,
        "fractions": _fractions(split),
        "group": group,
        "seed": seed,
        "scale": scale,
        "only_done": only_done,
    }
    with server.connected() as client, output.progress("freezing") as progress:
        made = client.create(f"projects/{server.find_project(client, project)['id']}/training-sets", form)
        found = made["training_set"]
        if wait:
            client.wait_for(made["job"]["id"], progress=progress)
            found = client.get(f"training-sets/{found['id']}")
    output.show(found, _describe_set(found), as_json=as_json)


@training_sets.command("list")
def list_training_sets(
    project: Annotated[str, typer.Argument(metavar="PROJECT")], as_json: Annotated[bool, JSON] = False
) -> None:
    """The training sets of a project, the newest first."""
    with server.connected() as client:
        rows = list(client.pages(f"projects/{server.find_project(client, project)['id']}/training-sets"))
    output.show(rows, output.table([[row[head] for head in _SET_HEADS] for row in rows], _SET_HEADS), as_json=as_json)


@training_sets.command("show")
def show_training_set(training_set: TrainingSet, as_json: Annotated[bool, JSON] = False) -> None:
    """A training set with its balance and warnings."""
    with server.connected() as client:
        found = server.find_numbered(client, "training-sets", training_set)
    output.show(found, _describe_set(found), as_json=as_json)


@training_sets.command("download")
def download_training_set(
    training_set: TrainingSet,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE.zip", help="Where to write it.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Fetch a training set as a ZIP of images, masks and its manifest."""
    with server.connected() as client, output.progress("packing") as progress:
        found = server.find_numbered(client, "training-sets", training_set)
        target = out or Path(f"training-set-{found['number']}.zip")
        client.fetch_export(client.create(f"training-sets/{found['id']}/export")["id"], target, progress=progress)
    output.show({"id": found["id"], "file": str(target)}, [str(target)], as_json=as_json)


def train(
    training_set: TrainingSet,
    minutes: Annotated[float | None, typer.Option(min=0.05, help="Train for so long.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Train so many epochs instead.")] = None,
    architecture: Annotated[str | None, typer.Option("--arch", help="unet, …; see GET /api/v1/schemas/train.")] = None,
    encoder: Annotated[str | None, typer.Option(help="resnet18, …")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of the crops, px.")] = None,
    batch: Annotated[int | None, typer.Option(help="Crops in one step.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--lr", help="Step size at the start.")] = None,
    init_model: Annotated[str | None, typer.Option(metavar="MODEL", help="Model to start from.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, gpu or cpu.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Beginning of all chance.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the run and its model.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="YAML or JSON with any of the settings; options go before it."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is done; exit code 1 if it fails.")] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Start nothing: print the run's address and the line for Ray.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Train a model.

    Examples:

      axons train nerve/1 --minutes 5 --wait

      axons train nerve/1 --config settings.yaml --name wide

      axons train nerve/1 --epochs 20 --prepare
    """
    if wait and prepare:
        raise typer.BadParameter("give --wait or --prepare, not both: a prepared run waits for you")
    given = {
        "minutes": minutes,
        "epochs": epochs,
        "architecture": architecture,
        "encoder": encoder,
        "crop": crop,
        "batch": batch,
        "learning_rate": learning_rate,
        "device": device,
        "seed": seed,
    }
    settings = {**_settings(config), **{field: value for field, value in given.items() if value is not None}}
    with server.connected() as client, output.progress("training") as progress:
        if init_model is not None:
            settings["init_model"] = server.find_model(client, init_model)["id"]
        chosen = server.find_numbered(client, "training-sets", training_set)
        form = {"training_set_id": chosen["id"], "name": name, "config": settings, "prepare": prepare}
        run = client.create("runs", form)
        if wait:
            run = _wait_for_run(client, run, progress)
    if prepare:
        output.show(run, [run["run_uri"], run["submit"]], as_json=as_json)
    else:
        output.show(run, _describe_run(run), as_json=as_json)


@runs.command("list")
def list_runs(
    project: Annotated[str | None, typer.Argument(help="Only those of this project.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Runs, the newest first; none is ever forgotten."""
    with server.connected() as client:
        project_id = server.find_project(client, project)["id"] if project else None
        rows = list(client.pages("runs", project_id=project_id))
    output.show(rows, output.table([[row[head] for head in _RUN_HEADS] for row in rows], _RUN_HEADS), as_json=as_json)


@runs.command("show")
def show_run(run: Run, as_json: Annotated[bool, JSON] = False) -> None:
    """A run as it is now."""
    with server.connected() as client:
        found = server.find_numbered(client, "runs", run)
    output.show(found, _describe_run(found), as_json=as_json)


@runs.command("cancel")
def cancel_run(run: Run, as_json: Annotated[bool, JSON] = False) -> None:
    """End a run within seconds without a model; it can be resumed."""
    with server.connected() as client:
        found = client.act(f"runs/{server.find_numbered(client, 'runs', run)['id']}/cancel")
    output.show(found, _describe_run(found), as_json=as_json)


@runs.command("stop")
def stop_run(
    run: Run,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until its model is there.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """End a run within seconds with a model of its best epoch; it can be resumed."""
    _act_on_run(run, "stop", wait=wait, as_json=as_json)


@runs.command("resume")
def resume_run(
    run: Run,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is done.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Go on with a run that failed, was cancelled or was stopped."""
    _act_on_run(run, "resume", wait=wait, as_json=as_json)


@runs.command("metrics")
def show_metrics(run: Run, as_json: Annotated[bool, JSON] = False) -> None:
    """The epochs of a run."""
    with server.connected() as client:
        found = client.get(f"runs/{server.find_numbered(client, 'runs', run)['id']}/metrics")
    heads = ("epoch", "step", "seconds", "train_loss", "val_loss", "val_mean_iou")
    rows = [[epoch.get(head) for head in heads] for epoch in found["epochs"]]
    output.show(found, output.table(rows, heads), as_json=as_json)


@runs.command("log")
def show_log(run: Run, as_json: Annotated[bool, JSON] = False) -> None:
    """What a run wrote."""
    with server.connected() as client:
        text = client.text(f"runs/{server.find_numbered(client, 'runs', run)['id']}/log")
    output.show({"log": text}, [text.rstrip()], as_json=as_json)


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Id, or PROJECT/NAME.")],
    training_set: Annotated[
        str | None, typer.Argument(metavar="[TRAINING-SET]", help="Id, or PROJECT/NUMBER: its held-out images.")
    ] = None,
    images: Annotated[Path | None, typer.Option(metavar="DIR", exists=True, file_okay=False)] = None,
    masks: Annotated[Path | None, typer.Option(metavar="DIR", exists=True, file_okay=False)] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Score a model: on the held-out images of a training set, or on images and masks of your own.

    Examples:

      axons evaluate nerve/nerve nerve/2

      axons evaluate nerve/nerve --images new/images --masks new/masks
    """
    if (training_set is None) == (images is None) or (images is None) != (masks is None):
        raise typer.BadParameter("give a training set, or --images and --masks")
    with server.connected() as client, output.progress("evaluating") as progress:
        found = server.find_model(client, model)
        if images is not None and masks is not None:
            from axons.cli.scoring import score_folder

            scored: dict[str, Any] = score_folder(client, found, images, masks, progress)
        else:
            chosen = server.find_numbered(client, "training-sets", str(training_set))
            scored = client.evaluate(found["id"], chosen["id"], split=split, progress=progress)
    output.show(scored, _scores({"splits": {split: scored["scores"]}}), as_json=as_json)


def report(
    run: Run,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.html|FILE.pdf", help="Where to write it.")],
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write the report of a run: one HTML page that opens offline, or a PDF.

    Examples:

      axons report nerve/1 -o report.html

      axons report nerve/1 -o report.pdf
    """
    kind = "report.pdf" if out.suffix == ".pdf" else "report"
    with server.connected() as client:
        found = server.find_numbered(client, "runs", run)
        client.download(f"runs/{found['id']}/{kind}", out)
    output.show({"id": found["id"], "file": str(out)}, [str(out)], as_json=as_json)


def _act_on_run(run: str, action: str, *, wait: bool, as_json: bool) -> None:
    """Ask for it, wait for what comes of it if that is wanted, and show the run."""
    with server.connected() as client, output.progress("training") as progress:
        found = client.act(f"runs/{server.find_numbered(client, 'runs', run)['id']}/{action}")
        if wait:
            found = _wait_for_run(client, found, progress)
    output.show(found, _describe_run(found), as_json=as_json)


def _wait_for_run(client: "Client", run: dict[str, Any], progress: output.Progress) -> dict[str, Any]:
    """Until its job has ended well, and its model has a row."""
    client.wait_for(run["job_id"], progress=progress)
    found: dict[str, Any] = client.get(f"runs/{run['id']}")
    return found


def _fractions(split: str) -> list[float]:
    try:
        shares = [float(part) for part in split.split("/")]
    except ValueError:
        shares = []
    if len(shares) != 3 or min(shares) < 0 or sum(shares) <= 0:
        raise typer.BadParameter(f"--split is {split!r}; give percent for train, val and test, as 70/15/15")
    return [share / sum(shares) for share in shares]


def _settings(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    try:
        found = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise AxonsError(f"{str(path)!r} is neither YAML nor JSON ({error}); correct it") from error
    if not isinstance(found, dict):
        raise AxonsError(f"{str(path)!r} holds no settings; write lines as `minutes: 5`")
    return found


def _describe_set(found: dict[str, Any]) -> list[str]:
    warnings = [f"! {warning}" for warning in found["summary"].get("warnings", [])]
    return [*output.fields(found, _SET_HEADS), *warnings]


def _describe_run(found: dict[str, Any]) -> list[str]:
    return [*output.fields(found, _RUN_HEADS), *_scores(found.get("evaluation") or {})]


def _scores(evaluation: dict[str, Any]) -> list[str]:
    return [
        f"{split}: mean IoU {scores['mean_iou']:.3f}"
        for split, scores in evaluation.get("splits", {}).items()
        if scores.get("mean_iou") is not None
    ] or ([json.dumps(evaluation)] if evaluation and "splits" not in evaluation else [])
