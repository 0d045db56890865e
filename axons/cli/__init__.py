"""The `axons` command. Each command imports its part when it runs, so that `--help` is fast."""

import sys
from typing import Annotated, NoReturn

import typer

from axons import __version__
from axons.cli import account, admin, classes, jobs, local, models, projects, training
from axons.errors import AxonsError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Learn image segmentation by doing it: annotate, train, find out where it fails, apply.",
)

app.command()(local.up)
app.command()(local.prepare)
app.command()(local.demo)
app.command()(account.login)
app.command()(account.logout)
app.add_typer(account.tokens, name="token")
app.add_typer(account.users, name="user")
app.add_typer(classes.classes, name="class")
app.add_typer(projects.projects, name="project")
app.add_typer(projects.images, name="images")
app.add_typer(projects.annotations, name="annotations")
app.add_typer(training.training_sets, name="training-set")
app.command()(training.train)
app.add_typer(training.runs, name="runs")
app.command()(training.evaluate)
app.command()(training.report)
app.add_typer(models.models, name="models")
app.command()(models.predict)
app.command()(projects.export)
app.add_typer(jobs.jobs, name="jobs")
app.add_typer(admin.admin, name="admin")
app.command()(jobs.backup)
app.command()(jobs.restore)


def main() -> None:
    """Run the command; an error made for people is one line on standard error and exit code 1."""
    try:
        app()
    except (AxonsError, TimeoutError) as error:
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


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    sys.exit(1)
