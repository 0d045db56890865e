"""Commands about models: models, predict."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from axons.cli import output, server
from axons.cli.output import JSON
from axons.data.formats import Licence, ModelFormat
from axons.errors import AxonsError

models = typer.Typer(no_args_is_help=True, help="Models: versions, which of them is used, and by whom.")
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Id, PROJECT/NAME (as promoted) or PROJECT/NAME/VERSION.")]
_HEADS = ("id", "name", "version", "mean_iou", "verdict", "is_promoted", "visibility")


@models.command("list")
def list_models(
    project: Annotated[str | None, typer.Argument(help="Only those of this project.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Versions of models, the newest first."""
    with server.connected() as client:
        project_id = server.find_project(client, project)["id"] if project else None
        rows = list(client.pages("models", project_id=project_id))
    output.show(rows, output.table([[row[head] for head in _HEADS] for row in rows], _HEADS), as_json=as_json)


@models.command("show")
def show_model(model: Model, as_json: Annotated[bool, JSON] = False) -> None:
    """A version with its card."""
    with server.connected() as client:
        found = server.find_model(client, model)
    names = (*_HEADS, "threshold", "sha256", "run_id")
    output.show(found, [*output.fields(found, names), json.dumps(found["card"], indent=2)], as_json=as_json)


@models.command("download")
def download_model(
    model: Model,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE.zip", help="Where to write it.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Fetch a model as a ZIP, for `axons predict --local` and for other tools."""
    with server.connected() as client, output.progress("downloading") as progress:
        found = server.find_model(client, model)
        target = out or Path(f"{found['name']}-v{found['version']}.zip")
        client.download(f"models/{found['id']}/download", target, progress=progress)
    output.show({"id": found["id"], "file": str(target)}, [str(target)], as_json=as_json)


@models.command("export")
def export_model(
    model: Model,
    kind: Annotated[ModelFormat, typer.Option("--format", help="onnx, or a package for bioimage.io.")] = "onnx",
    licence: Annotated[Licence | None, typer.Option(help="Under which others may use it.")] = None,
    author: Annotated[list[str] | None, typer.Option(help="Who made it; may be given several times.")] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write it.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write a model for other programs; `axons models download` has it as safetensors.

    Examples:

      axons models export nerve/nerve --format onnx

      axons models export nerve/nerve --format bioimageio --author "Ana Silva" --licence CC-BY-4.0
    """
    form = {"format": kind, "licence": licence, "authors": author or [], "description": description}
    with server.connected() as client, output.progress("exporting") as progress:
        found = server.find_model(client, model)
        job = client.create(f"models/{found['id']}/export", form)
        file = client.wait_for(job["id"], progress=progress)["result"]["file"]
        target = out or Path(file["name"].replace("/", "-"))
        client.download(f"jobs/{job['id']}/file", target, progress=progress)
    output.show({"id": found["id"], "file": str(target)}, [str(target)], as_json=as_json)


@models.command("import")
def import_model(
    project: Annotated[str, typer.Argument(help="Where the model belongs.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.safetensors", exists=True, dir_okay=False)],
    name: Annotated[str | None, typer.Option(help="By default that of the file.")] = None,
    card: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="model.json; by default the one beside the weights."),
    ] = None,
    architecture: Annotated[str | None, typer.Option("--arch", help="Without a card: unet, …")] = None,
    encoder: Annotated[str | None, typer.Option(help="Without a card: resnet18, …")] = None,
    channels: Annotated[int, typer.Option(help="Without a card: 1 or 3.")] = 1,
    classes: Annotated[str | None, typer.Option(help="Without a card: names with commas, background first.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Bring a model of your own: safetensors weights of a network that the platform can build.

    Examples:

      axons models import nerve model/model.safetensors

      axons models import nerve weights.safetensors --arch unet --encoder resnet18 --classes background,axon
    """
    form: dict[str, Any] = {"name": name or file.stem}
    beside = card or file.with_name("model.json")
    if architecture is None and beside.is_file():
        form["card"] = _card(beside)
    else:
        names = [part.strip() for part in (classes or "").split(",") if part.strip()]
        form |= {"architecture": architecture, "encoder": encoder, "channels": channels}
        form["classes"] = [{"name": part, "colour": _grey(i, len(names))} for i, part in enumerate(names)]
    with server.connected() as client, output.progress("sending") as progress:
        form["project_id"] = server.find_project(client, project)["id"]
        form["upload_id"] = client.upload(file, purpose="model", progress=progress)
        found = client.create("models:import", form)
    output.show(found, [f"model {found['name']} version {found['version']}: {found['id']}"], as_json=as_json)


@models.command("promote")
def promote_model(model: Model, as_json: Annotated[bool, JSON] = False) -> None:
    """Use this version under its name from the next prediction on."""
    _act(model, "promote", as_json)


@models.command("rollback")
def roll_back_model(model: Model, as_json: Annotated[bool, JSON] = False) -> None:
    """Use the version before this one again."""
    _act(model, "rollback", as_json)


@models.command("share")
def share_model(
    model: Model,
    visibility: Annotated[str, typer.Option("--with", help="private, classroom or everyone.")] = "classroom",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Let others use a model, or no longer."""
    _act(model, "share", as_json, {"visibility": visibility})


def predict(
    names: Annotated[
        list[str],
        typer.Argument(metavar="[MODEL] IMAGE...", help="A model and images; with --local only images."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the masks go.")],
    local: Annotated[
        Path | None,
        typer.Option("--local", metavar="FILE", help="Weights (model.safetensors) with model.json beside them."),
    ] = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw the classes over each image.")] = False,
    scale: Annotated[
        float | None, typer.Option(min=0.05, max=4, help="Size at which the network sees the images.")
    ] = None,
    objects: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Also measure the objects of this class.")
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Predict images, on the server or with --local on this machine: a mask for each.

    Masks are PNG; the server answers a GeoTIFF, or a large image, with a TIFF.

    Examples:

      axons predict nerve/nerve new-1.png new-2.tif -o masks --overlay

      axons predict --local model/model.safetensors nerve.png -o masks --overlay --objects axon
    """
    if local is not None:
        _predict_local(local, [Path(name) for name in names], out, overlay, scale, objects, as_json)
        return
    if len(names) < 2:
        raise typer.BadParameter("give a model and at least one image, or --local FILE and images")
    if objects is not None:
        raise typer.BadParameter("--objects goes with --local")
    _predict_on_server(names[0], [Path(name) for name in names[1:]], out, overlay, scale, as_json)


def _predict_on_server(
    model: str, images: list[Path], out: Path, overlay: bool, scale: float | None, as_json: bool
) -> None:
    made, refusals = [], []
    out.mkdir(parents=True, exist_ok=True)
    with server.connected() as client, output.progress("predicting") as progress:
        found = server.find_model(client, model)
        for image in images:
            try:
                prediction = client.predict(
                    found["id"], image, project_id=found["project_id"], scale=scale, progress=progress
                )
                mask = client.download(f"predictions/{prediction['id']}/mask", out / f"{image.name}.mask.png")
                if mask.read_bytes()[:2] in (b"II", b"MM"):  # a TIFF
                    mask = mask.replace(mask.with_suffix(".tif"))
                if overlay:
                    client.download(f"predictions/{prediction['id']}/overlay", out / f"{image.name}.overlay.png")
                made.append({**prediction, "image": str(image), "mask": str(mask)})
            except (AxonsError, OSError) as error:
                refusals.append({"image": str(image), "refusal": str(error)})
    lines = [f"{row['image']} -> {row['mask']}" for row in made]
    output.show({"images": [*made, *refusals]}, lines, as_json=as_json)
    if refusals:
        raise AxonsError("; ".join(row["refusal"] for row in refusals))


def _predict_local(
    local: Path, images: list[Path], out: Path, overlay: bool, scale: float | None, objects: str | None, as_json: bool
) -> None:
    from axons.serve.files import predict_files

    results = predict_files(local, images, out, with_overlay=overlay, scale=scale, objects_of=objects)
    if as_json:
        typer.echo(json.dumps({"images": [asdict(result) for result in results]}))
    else:
        for result in results:
            for notice in result.notices:
                typer.echo(f"{result.image}: {notice}", err=True)
            typer.echo(result.refusal or f"{result.image} -> {result.mask}", err=result.refusal is not None)
    if any(result.refusal for result in results):
        raise typer.Exit(1)


def _act(model: str, verb: str, as_json: bool, body: dict[str, Any] | None = None) -> None:
    with server.connected() as client:
        found = client.create(f"models/{server.find_model(client, model)['id']}/{verb}", body)
    line = f"{found['name']} version {found['version']}: {'promoted' if found['is_promoted'] else 'not promoted'}"
    output.show(found, [f"{line}, {found['visibility']}"], as_json=as_json)


def _card(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise AxonsError(f"{str(path)!r} is no model card ({error}); give another with --card") from error


def _grey(index: int, count: int) -> str:
    """A colour for a class without one."""
    return f"#{round(255 * index / max(1, count - 1)):02x}" + f"{round(255 * index / max(1, count - 1)):02x}" * 2
