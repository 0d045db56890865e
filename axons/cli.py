"""The `axons` command. Each command imports its part when it runs, so that `--help` is fast."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from axons import __version__
from axons.errors import AxonsError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Learn image segmentation by doing it: annotate, train, find out where it fails, apply.",
)

_JSON = typer.Option("--json", help="Print one JSON object on standard output and nothing else.")


def main() -> None:
    """Run the command; an error made for people is one line on standard error and exit code 1."""
    try:
        app()
    except AxonsError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _axons(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command()
def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Folder with images/ and masks/; without it the sample is drawn."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.05, help="Train for so long; 1 by default.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Train so many epochs instead.")] = None,
    classes: Annotated[str | None, typer.Option(help="Names of the classes, background first, with commas.")] = None,
    test: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Names of the images to hold out, as 'rat8*'.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="REGEX", help="What images that belong together share in their names.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything that is made goes.")] = Path("axons-demo"),
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Run the whole loop on this machine: import, tile, freeze, train, evaluate, predict, report.

    Examples:

      axons demo

      axons demo nerves --minutes 5 --classes background,myelin,axon --test 'rat8*' --group 'rat\\d+'
    """
    if minutes is not None and epochs is not None:
        raise typer.BadParameter("give --minutes or --epochs, not both")
    from rich.console import Console

    from axons.demo import DemoOptions, run_demo

    options = DemoOptions(
        folder=folder,
        minutes=minutes,
        epochs=epochs,
        classes=[name.strip() for name in classes.split(",")] if classes else None,
        test=test,
        group=group,
        out=out,
    )
    result = run_demo(options, Console(stderr=True, quiet=as_json and not sys.stderr.isatty()))
    if as_json:
        typer.echo(json.dumps(asdict(result)))
        return
    for name, scores in result.classes.items():
        typer.echo(f"{name:20} IoU {_score(scores['iou'])}  Dice {_score(scores['dice'])}")
    typer.echo(f"{'mean IoU':20} {_score(result.mean_iou)} on held-out images")
    typer.echo(f"model   {result.model}\nreport  {result.report}")


@app.command()
def predict(
    local: Annotated[
        Path, typer.Option("--local", metavar="FILE", help="Weights (model.safetensors) with model.json beside them.")
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images to predict.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the masks go.")],
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw the classes over each image.")] = False,
    scale: Annotated[
        float | None, typer.Option(min=0.05, max=4, help="Size at which the network sees the images.")
    ] = None,
    objects: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Also measure the objects of this class.")
    ] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Predict images on this machine with a model file: a mask as PNG for each, pixels by class as CSV.

    Example:

      axons predict --local model/model.safetensors nerve.png -o masks --overlay --objects axon
    """
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


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    sys.exit(1)
