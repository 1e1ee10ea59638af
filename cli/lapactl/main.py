"""The root of `lapactl`.

Commands import what they use of the library when they run, not when they are defined: `lapactl --help` and
shell completion answer at once, and torch is never loaded here (a stage is a subprocess).
"""

from typing import Annotated

import typer

from lapactl import (
    analyze,
    bench,
    compare,
    config,
    data,
    deploy,
    doctor,
    export,
    jobs,
    models,
    plan,
    probe,
    promote,
    report,
    run,
    serve,
    submit,
)
from lapactl.errors import ReportingGroup

DESCRIPTION = "Turn videos into robot policies by latent action pretraining."

app = typer.Typer(
    cls=ReportingGroup,
    help=DESCRIPTION,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help is quick, and readable without colour
    pretty_exceptions_enable=False,
)
run.register(app)
submit.register(app)
plan.register(app)
export.register(app)
promote.register(app)
serve.register(app)
doctor.register(app)
probe.register(app)
report.register(app)
compare.register(app)
app.add_typer(bench.app, name="bench")
app.add_typer(analyze.app, name="analyze")
app.add_typer(config.app, name="config")
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(deploy.app, name="deploy")
app.add_typer(jobs.app, name="jobs")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(version("lapa"))
        raise typer.Exit


@app.callback()
def root(
    is_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
