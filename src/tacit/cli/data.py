"""`tacit tasks` and `tacit data`: what is built in; make, load, convert and split traces (check: in its own file)."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from tacit.cli.shell import (
    AsJson,
    Overwrite,
    UsageError,
    extra_options,
    print_json,
    refuse_existing,
    track,
    usage,
    waiting,
    wrap,
)
from tacit.curation import read_answer
from tacit.errors import TacitError, unknown_name
from tacit.formats import FORMATS, WRITABLE, read, write
from tacit.tasks import SPLITS, TASKS, DataSet, Task, get_task, task_of
from tacit.trace import Trace
from tacit.trace import split as split_traces

MAKE_OPTIONS = ("to", "size", "seed", "output", "overwrite")
GENERATED = [name for name, task in TASKS.items() if task.options]
PUBLISHED = {name: task for name, task in TASKS.items() if isinstance(task, DataSet)}
PARTS = ("all", "train", "test")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make, load, convert, check and split traces.")

Source = Annotated[Path, typer.Argument(metavar="FILE", help="Traces.", show_default=False)]
From = Annotated[str, typer.Option("--from", metavar="FORMAT", help=f"Of the file: {', '.join(FORMATS)}.")]
To = Annotated[str, typer.Option("--to", metavar="FORMAT", help=f"To write: {', '.join(WRITABLE)}.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write.")]
TaskName = Annotated[
    str | None, typer.Option("--task", metavar="NAME", help="The built-in task of the traces (`tacit tasks`).")
]
Seed = Annotated[int, typer.Option(min=0, metavar="S", help="Of the random choices.")]


# --- tasks -----------------------------------------------------------------------------------------------------------


def tasks(as_json: AsJson = False) -> None:
    """What is built in: problems, sizes, answer format, licence."""
    if as_json:
        print_json([_describe_task(task) for task in TASKS.values()])
        return
    for task in TASKS.values():
        print(wrap(f"{task.name:20}", task.summary))
        print(wrap("    answer: ", task.format.name))
        if task.options:
            made = [f"--{name} ({option.help})" for name, option in task.options.items()]
            print(wrap("    to make: ", ", ".join(made)))
        if isinstance(task, DataSet):
            where = [" and ".join(task.files[0])] + [f"{task.hub} on the Hub"] * bool(task.hub)
            sizes = f"{task.sizes[0]:,} to train, {task.sizes[1]:,} to test"
            print(wrap("    to load: ", f"{sizes}; {' or '.join(where)}"))
        print(wrap("    licence: ", task.licence), end="\n\n")
    print(f"To make some: tacit data make {GENERATED[0]} --size 1000 -o traces.jsonl")
    print("To load some: tacit data load svamp SVAMP.json --part train -o train.jsonl")


def _describe_task(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "summary": task.summary,
        "example": task.example,
        "answer_format": task.format.name,
        "aliases": list(task.aliases),
        "licence": task.licence,
        "published": {
            "total": task.total,
            "train": task.sizes[0],
            "test": task.sizes[1],
            "files": [list(names) for names in task.files],
            "hub": task.hub or None,
        }
        if isinstance(task, DataSet)
        else None,
        "options": {name: {"default": option.default, "help": option.help} for name, option in task.options.items()},
    }


def _option_lines(task: Task) -> list[str]:
    return [wrap(f"    {f'--{name} {option.default}':18}", option.help) for name, option in task.options.items()]


# --- make ------------------------------------------------------------------------------------------------------------

TASK_OPTIONS = "\n\n".join("\n".join([f"\b\nOptions of {name}:", *_option_lines(TASKS[name])]) for name in GENERATED)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[OPTIONS] [TASK OPTIONS]",
    epilog=TASK_OPTIONS,
)
def make(
    context: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"One of: {', '.join(GENERATED)}.", show_default=False)],
    size: Annotated[int, typer.Option(min=1, metavar="N", help="How many problems, all distinct.")],
    output: Output,
    seed: Seed = 0,
    to: To = "tacit",
    overwrite: Overwrite = False,
) -> None:
    """Make problems of a task, with their steps."""
    if task.startswith("-"):
        raise UsageError(f"the task comes first: tacit data make TASK {task} ...; tasks: {', '.join(GENERATED)}")
    settings = extra_options(context.args)
    with usage():
        chosen = get_task(task)
        if chosen.name in PUBLISHED and not chosen.options:
            raise TacitError(f"{chosen.name} is not generated but published: tacit data load {chosen.name} -o FILE")
        valid = [f"--{name}" for name in (*chosen.options, *MAKE_OPTIONS)]
        for name in settings:
            if name not in chosen.options:
                raise unknown_name(f"option of task {chosen.name}:", f"--{name}", valid)
        chosen.settings(settings)
        _known_format(to, WRITABLE)
    refuse_existing(output, overwrite)
    with waiting(f"making {size:,} problems"):
        traces = chosen.make(size, seed, **settings)
    _write(traces, output, to)
    made = " ".join([chosen.name, *(f"--{name} {value}" for name, value in settings.items())])
    _say(output, f"{output}: {len(traces):,} traces of {made}, seed {seed}")


# --- load ------------------------------------------------------------------------------------------------------------


@app.command()
def load(
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"One of: {', '.join(PUBLISHED)}.", show_default=False)],
    output: Output,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="A file, a folder, or a name on the Hugging Face Hub; without it, the usual name there.",
        ),
    ] = None,
    part: Annotated[str, typer.Option(metavar="PART", help=f"{', '.join(PARTS)}.")] = "all",
    split: Annotated[
        str,
        typer.Option(
            metavar="SPLIT", help="default or template: those of Fine-tune-CoT; given: the source's own parts."
        ),
    ] = "default",
    shots: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Only K problems of the train part, as in Fine-tune-CoT.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Load the problems of a published data set, with their gold answers."""
    with usage():
        chosen = get_task(task)
        if not isinstance(chosen, DataSet):
            raise TacitError(f"{chosen.name} is not published; choose from: {', '.join(PUBLISHED)}")
        for kind, value, valid in (("part", part, PARTS), ("split", split, SPLITS)):
            if value not in valid:
                raise unknown_name(kind, value, valid)
        if shots and part == "test":
            raise TacitError("--shots takes problems of the train part")
    refuse_existing(output, overwrite)
    with waiting(f"loading {chosen.name}"):
        traces = chosen.load(source)
    which = "all"
    if shots or part != "all":
        train, test = chosen.split(traces, split)
        traces = test if part == "test" else chosen.shots(train, shots) if shots else train
        which = f"to {'test on' if part == 'test' else 'train on'}, {split} split"
    if not traces:
        raise TacitError(f"{source or chosen.hub} holds no problems {which}")
    _write(traces, output, "tacit")
    _say(output, f"{output}: {len(traces):,} problems of {chosen.name}, {which}")


# --- convert ---------------------------------------------------------------------------------------------------------


@app.command()
def convert(
    file: Source,
    from_format: From,
    output: Output,
    to: To = "tacit",
    task: TaskName = None,
    overwrite: Overwrite = False,
) -> None:
    """Read traces in one format and write them in another."""
    with usage():
        _known_format(to, WRITABLE)
        known = get_task(task)
    refuse_existing(output, overwrite)
    traces = read_traces(file, from_format)
    if task:
        for number, trace in enumerate(traces, 1):
            _problem(file, number, trace, known)
        traces = [_with_task(trace, known) for trace in traces]
    _write(traces, output, to)
    rules = Counter(str(rule) for trace in traces if trace.source and (rule := trace.source.get("steps")))
    by_rule = ", ".join(f"{rule} ({count:,} traces)" for rule, count in rules.most_common())
    _say(output, f"{output}: {len(traces):,} traces; split into steps by: {by_rule or 'the file itself'}")


def _with_task(trace: Trace, task: Task) -> Trace:
    """The trace as one of the task, which reads a teacher's answer again where its words are kept."""
    source = {**(trace.source or {}), "task": task.name}
    answer = read_answer(trace, task) if "completion" in source else trace.answer
    return replace(trace, answer=answer, source=source)


# --- split -----------------------------------------------------------------------------------------------------------


@app.command()
def split(
    file: Source,
    test: Annotated[float, typer.Option(metavar="SHARE", help="Of the problems, between 0 and 1.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Gets train.jsonl and test.jsonl.")],
    seed: Seed = 0,
    task: TaskName = None,
    from_format: From = "tacit",
    overwrite: Overwrite = False,
) -> None:
    """Split traces into train and test, no problem in both."""
    if not 0 < test < 1:
        raise UsageError(f"the test share must lie between 0 and 1, got {test:g}")
    with usage():
        get_task(task)
    paths = output / "train.jsonl", output / "test.jsonl"
    for path in paths:
        refuse_existing(path, overwrite)
    traces = read_traces(file, from_format)
    problems = {
        id(trace): _problem(file, number, trace, task_of(trace, task)) for number, trace in enumerate(traces, 1)
    }
    parts = split_traces(traces, test, seed, lambda trace: problems[id(trace)])
    for path, part in zip(paths, parts, strict=True):
        _write(part, path, "tacit")
        count = len({problems[id(trace)] for trace in part})
        print(f"{path}: {len(part):,} traces of {count:,} problems")


# --- shared ----------------------------------------------------------------------------------------------------------


def _known_format(name: str, valid: tuple[str, ...] = FORMATS) -> None:
    if name not in valid:
        raise unknown_name("format" if name not in FORMATS else "format to write", name, valid)


def read_traces(file: Path, format: str, unread: dict[int, str] | None = None) -> list[Trace]:
    """The traces of a file; lines that cannot be read go to `unread`, where it is given.

    Raises:
        TacitError: It cannot be read; the text names the format that the file looks like, where there is one.
    """
    with usage():
        _known_format(format)
    try:
        with waiting(f"reading {file}"):
            traces = read(file, format, unread)
        if traces:
            return traces
        raise TacitError(f"{file}: no line can be read as {format}")
    except TacitError as error:
        for other in reversed(FORMATS):  # the most special format comes last
            if file.is_file() and _fits(file, other):
                raise TacitError(f"{error}; the file looks like another format: try --from {other}") from None
        if unread:
            return []
        raise


def _fits(file: Path, format: str) -> bool:
    try:
        read(file, format)
    except TacitError:
        return False
    return True


def _write(traces: list[Trace], path: Path, format: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(track(traces, f"writing {path}"), path, format)


def _say(output: Path, text: str) -> None:
    """Tells a person what was written; on stderr where the traces themselves went to a pipe."""
    print(text, file=sys.stdout if output.is_file() else sys.stderr)


def _problem(file: Path, number: int, trace: Trace, task: Task) -> str:
    """The name of a trace's problem. Raises `TacitError` where the question is none of the task's."""
    try:
        return task.problem(trace.question)
    except TacitError as error:
        raise TacitError(f"{file}, trace {number} (id {trace.id}): {error}") from None
