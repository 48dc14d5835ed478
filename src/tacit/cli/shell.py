"""What all commands share: errors as one line and an exit status, output that exists, text in columns, JSON, progress.

Usage: `typer.Typer(cls=CommandLine)`; in a command, `refuse_existing(output, overwrite)` before any work.
"""

import json
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from typer.core import TyperGroup

from tacit.errors import TacitError

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output that exists.")]


class UsageError(TacitError):
    """A command line that cannot be meant as it was typed; exit status 2 instead of 1."""


class CommandLine(TyperGroup):
    """The group of all commands. What goes wrong is one line on stderr and an exit status, never a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs a command. Exit status 0 is success, 1 failure, 2 wrong usage, 130 Ctrl-C."""
        try:
            return super().main(*args, **kwargs)
        except TacitError as error:
            _fail(str(error), 2 if isinstance(error, UsageError) else 1)
        except OSError as error:  # a broken pipe does not come here: typer ends quietly with status 1
            where = error.filename or "cannot write the output"
            _fail(f"{where}: {error.strerror or error}", 1)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command behind the group's name."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, so that a full disk or a closed pipe is noticed while it can be told
            return result
        except KeyboardInterrupt as stop:  # its text, where there is one, says how to go on
            _fail(str(stop) or "interrupted", 130)


def _fail(message: str, status: int) -> NoReturn:
    print(f"{'error: ' * (status < 130)}{' '.join(message.split())}", file=sys.stderr)
    _drop_unwritten()
    sys.exit(status)


def _drop_unwritten() -> None:
    """What stdout can no longer take would fail once more when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def usage() -> Generator[None]:
    """A `TacitError` raised inside is wrong usage: what was typed on the command line is at fault, no file."""
    try:
        yield
    except TacitError as error:
        raise UsageError(str(error)) from None


def extra_options(words: Iterable[str]) -> dict[str, str]:
    """The options of a task in a command's extra words, written `--name value` or `--name=value`.

    Raises:
        UsageError: A word is neither.
    """
    options = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("--"):
            raise UsageError(f"{word!r} was not expected; an option of a task is written --name value")
        name, is_set, value = word.removeprefix("--").partition("=")
        if not is_set:
            value = next(rest, "--")
        if value.startswith("--"):
            raise UsageError(f"--{name} needs a value")
        options[name.replace("-", "_")] = value
    return options


def program() -> str:
    """How this command line is started from where the user stands, for lines to copy."""
    if shutil.which("tacit"):
        return "tacit"
    script = Path(sys.argv[0])
    return (
        shlex.quote(os.path.relpath(script)) if script.name == "tacit" else f"{shlex.quote(sys.executable)} -m tacit"
    )


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Output that exists is overwritten only where that was asked for; devices and pipes can be written to at once.

    Raises:
        TacitError: There is such a file or folder.
    """
    if not overwrite and (path.is_file() or path.is_dir()):
        raise TacitError(f"{path} exists already; choose another name, or add --overwrite")


def wrap(label: str, text: str) -> str:
    """A label and a text that keeps to its own column."""
    width = min(shutil.get_terminal_size().columns, 80)
    return textwrap.fill(
        text, width - 2, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False
    )


def print_json(value: Any) -> None:
    """For a program to read: the only thing on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def track(items: Collection[T], what: str) -> Iterable[T]:
    """The items, with a progress bar on stderr where a person watches."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track as bar

    return bar(items, description=what, total=len(items), console=Console(stderr=True), transient=True)


@contextmanager
def waiting(what: str) -> Generator[None]:
    """Says on stderr, where a person watches, what is under way and for how long, where nobody knows how far it is."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(what, total=None)
        yield
