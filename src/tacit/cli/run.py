"""`tacit run`, `compare`, `report`: train what a recipe names, compare what came of it, draw its page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tacit.cli.shell import AsJson, Overwrite, UsageError, print_json, program, refuse_existing, waiting
from tacit.errors import TacitError
from tacit.grading import GRADERS

if TYPE_CHECKING:
    from rich.table import Table

    from tacit.run import Run


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file.", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as train.max_steps=100 or seeds=[0,1].")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="RUNDIR", help="The run folder; runs/NAME by default.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier run stopped, if there is one.")
    ] = False,
    update: Annotated[
        bool,
        typer.Option("--update", help="Go on with changed settings: what they reach is made anew, the rest is kept."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove the run folder first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate everything that a recipe names."""
    if resume + update + overwrite > 1:
        raise UsageError("--resume, --update and --overwrite exclude each other")
    with waiting("starting"):
        from tacit.cli.display import RunDisplay
        from tacit.models import hush
        from tacit.recipe import load_recipe
        from tacit.run import carry_out

        hush()
        wanted = load_recipe(recipe, overrides or [])
    folder = output or Path("runs") / wanted.name
    try:
        with RunDisplay() as display:
            done = carry_out(wanted, folder, resume, overwrite, display.hear, update)
    except KeyboardInterrupt:
        again = "--update" if update else "--resume"
        words = shlex.join(["run", str(recipe), *(overrides or []), "-o", str(folder), again])
        raise KeyboardInterrupt(f"stopped; go on with: {program()} {words}") from None
    if as_json:
        print_json(done.summary)
        return
    _print_rows(done)
    print(f"\nReport: {folder / 'report.html'}")
    students = [row for row in done.rows if row["train_steps"]]
    if students:
        from tacit.report.finding import SUBJECTS

        best = max([row for row in students if row["method"] in SUBJECTS] or students, key=lambda row: row["accuracy"])
        which = best["method"], best["seed"], *best.get("varied", {}).values()
        question = done.predictions(*which)[0]["shown_question"]
        print(f"Ask it: {program()} ask {shlex.quote(str(done.cell(*which)))} {shlex.quote(question)}")


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, justify="left" if name in ("method", "against") else "right")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    Console(width=None if Console().is_terminal else 120).print(table, end="")


def _print_rows(done: Run) -> None:
    from tacit.report.words import display_name, duration

    methods = list(dict.fromkeys(row["method"] for row in done.rows))
    rows = sorted(done.rows, key=lambda row: methods.index(row["method"]))
    several = len({row["seed"] for row in rows}) > 1
    varied = list(dict.fromkeys(key for row in rows for key in row.get("varied", {})))
    sizes = f"n = {rows[0]['n']:,}, batch {rows[0]['batch_size']}"
    columns = ["method", *varied, *(["seed"] if several else []), "exact match", "95 % interval", "reasoning tokens"]
    table = _table(*columns, "answers/s", "speed", "steps", "time")
    for row in rows:
        low, high = row["ci95"]
        table.add_row(
            display_name(row["method"]),
            *(str(row.get("varied", {}).get(key, "-")) for key in varied),
            *([str(row["seed"])] if several else []),
            f"{row['accuracy']:.3f}",
            f"{low:.3f}-{high:.3f}",
            f"{row['reasoning_tokens']:.1f}",
            f"{row['examples_per_second']:,.0f}" if row["examples_per_second"] else "-",
            f"{row['relative_speed']:.2f}x" if row["relative_speed"] else "-",
            f"{row['train_steps']:,}" if row["train_steps"] else "-",
            duration(row["train_seconds"]) if row["train_steps"] else "-",
        )
    _print(table)
    grader = rows[0].get("grader", GRADERS[0])
    graded = "" if grader == GRADERS[0] else f"; {grader} grader"
    print(f"{done.summary['task']}: {sizes}; speed is relative to No CoT{graded}")


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD", help="Compare with this one, no_cot by default; RUN/METHOD names the run, too."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Does one method beat another? Differences of accuracy on the same problems, with significance.

    The seeds of a method are taken together, problem by problem. The interval (Agresti and Min's for pairs) says what
    other problems of this kind would give; p is exact and two-sided: McNemar's test, over several seeds its sign-flip
    form. "seeds" is the lowest and the highest difference of a single seed.
    """
    with waiting("reading"):
        from tacit.report.comparison import compare
        from tacit.report.reading import read_run

        compared = compare([read_run(folder) for folder in runs], against)
    if as_json:
        print_json([each.to_dict() for each in compared])
        return
    from tacit.report.words import chance, display_name, gain, percent, setting

    table = _table("method", "accuracy", "against", "accuracy", "difference", "95 % interval", "p", "seeds", "n")
    for each in compared:
        names = []
        for side in (each.one, each.other):
            parts = [display_name(side.method), setting(side.varied), side.run.name if len(runs) > 1 else ""]
            names.append(", ".join(filter(None, parts)))
        table.add_row(
            names[0],
            percent(each.accuracies[0]),
            names[1],
            percent(each.accuracies[1]),
            gain(each.result.difference),
            " to ".join(map(gain, each.result.ci95)),
            chance(each.result.p),
            f"{gain(min(each.by_seed))} to {gain(max(each.by_seed))}" if each.by_seed else "-",
            f"{each.n:,}",
        )
    _print(table)
    print("Differences in percentage points, on the problems that both answered.")


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The HTML page to write.")],
    overwrite: Overwrite = False,
) -> None:
    """One self-contained HTML page: table, curves, sample predictions."""
    refuse_existing(output, overwrite)
    with waiting("drawing"):
        from tacit.report import write_report

        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TacitError(f"cannot make {output.parent}: {error.strerror or error}") from None
        write_report(runs, output)
    print(output)
