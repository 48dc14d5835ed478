"""The command line. A room is imported only inside the command that needs it, so that `--help` answers at once.

Usage: `tacit --help`, or `python -m tacit --help`.
"""

import io
import sys
from typing import Annotated

import typer

from tacit.cli import ask, check, curate, data, environment, generate, run
from tacit.cli.shell import CommandLine

app = typer.Typer(
    cls=CommandLine,
    name="tacit",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(data.tasks)
data.app.command()(check.check)
app.add_typer(data.app, name="data")
app.command()(generate.generate)
app.command(epilog=curate.EPILOG)(curate.curate)
app.command()(run.run)
app.command("eval", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(ask.evaluate)
app.command()(ask.ask)
app.command()(run.compare)
app.command()(run.report)
app.command()(environment.env)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"tacit {version('tacit')}")
        raise typer.Exit


@app.callback()
def tacit(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Teach a small language model to reason, and then to reason silently."""


def main() -> None:
    """The command `tacit`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # people's own data may hold what a terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    app()
