"""Commands that need no server: `up` starts one, `demo` runs the whole loop."""

import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from axons.cli.output import JSON


def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the pages and of REST.")] = 8000,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for database, storage and secrets; by default AXONS_DATA."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="RAY", help="Use this Ray cluster instead of starting one here.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a Ray token and AXONS_SECRET.")
    ] = "127.0.0.1",
    dashboard_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of Ray's dashboard; by default 8265 or the next free.")
    ] = None,
    sample: Annotated[bool, typer.Option(help="At the first start, make a sample project and train its model.")] = True,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Start the platform on this machine and run it until Ctrl-C.

    Examples:

      axons up

      axons up --port 8080 --data /srv/axons
    """
    from rich.console import Console

    from axons.app.up import Running, UpOptions
    from axons.app.up import up as run

    answer = sys.stdout

    def tell(running: Running) -> None:
        if as_json:
            typer.echo(json.dumps(asdict(running)), file=answer)
            return
        lines = [
            f"Axons is ready at {running.url} ({running.seconds} s)\n",
            f"  sign in          {running.sign_in_link}   (once, within ten minutes)",
            f"  with the command axons login --url {running.url} --code {running.code}",
            f"  Ray dashboard    {running.dashboard or '–'}   token: {running.token_command}",
            f"  data             {running.data}\n\nCtrl-C stops it.",
        ]
        typer.echo("\n".join(lines), file=answer)

    options = UpOptions(
        host=host, port=port, data=data, address=address, dashboard_port=dashboard_port, with_sample=sample
    )
    with redirect_stdout(sys.stderr):  # Ray prints there what it has to say
        was_asked_to_stop = run(options, Console(stderr=True), is_ready=tell)
    if not was_asked_to_stop:
        os.execv(sys.executable, [sys.executable, "-m", "axons", *sys.argv[1:]])


def prepare(as_json: Annotated[bool, JSON] = False) -> None:
    """Bring the database up to date and sign the administrator in, where not `axons up` but Ray deploys the platform.

    Examples:

      axons prepare && serve deploy serve.yaml
    """
    from axons.app.preparing import prepare as run
    from axons.app.settings import Settings
    from axons.app.up import sign_in_link

    settings = Settings()
    link = sign_in_link(settings, run(settings).code)
    if as_json:
        typer.echo(json.dumps({"sign_in_link": link}))
        return
    typer.echo(f"The database is up to date.\n\n  sign in          {link}   (once, within ten minutes)")


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
    as_json: Annotated[bool, JSON] = False,
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


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
