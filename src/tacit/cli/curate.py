"""`tacit curate`: of a teacher's traces, those that are worth training on."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import compress
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from tacit.cli.shell import AsJson, Overwrite, print_json, refuse_existing, usage, waiting
from tacit.curation import DEDUPE, KEEP, REASONS, Curation, Summary, choose
from tacit.errors import TacitError
from tacit.grading import GRADERS
from tacit.trace import iter_jsonl, read_jsonl, write_jsonl

EPILOG = f"A trace that is dropped is counted under the first reason that holds, of: {', '.join(REASONS)}."


def curate(
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="A teacher's traces.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="TRACES", help="File to write.")],
    keep: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help=f"One of: {', '.join(KEEP)}. agreed: where there is no gold answer, what most samples say.",
        ),
    ] = "correct",
    per_question: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most so many traces of one question.")
    ] = None,
    finished: Annotated[
        bool, typer.Option("--finished", help="Only texts that were not cut, as far as the traces tell.")
    ] = False,
    dedupe: Annotated[
        str | None, typer.Option(metavar="HOW", help=f"Drop what says the same: {' or '.join(DEDUPE)}.")
    ] = None,
    shortest_first: Annotated[
        bool, typer.Option("--shortest-first", help="Prefer short ones where not all of a question are kept.")
    ] = False,
    max_length: Annotated[
        int | None, typer.Option(min=1, metavar="WORDS", help="The most that the steps of a trace may have.")
    ] = None,
    check_arithmetic: Annotated[
        bool, typer.Option("--check-arithmetic", help="Drop traces in which an equation <<a=b>> is wrong.")
    ] = False,
    sub_questions: Annotated[
        bool,
        typer.Option("--sub-questions", help="Drop traces in which a step lacks a sub-question or an answer to it."),
    ] = False,
    exclude: Annotated[
        list[Path], typer.Option(metavar="FILE", help="Traces of a test set, whose problems are not kept; repeatable.")
    ] = [],  # noqa: B006
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="The built-in task of the traces, if they do not say.")
    ] = None,
    grader: Annotated[str, typer.Option(metavar="NAME", help=f"One of: {', '.join(GRADERS)}.")] = "flexible",
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Keep the traces that are worth training on."""
    with usage():
        curation = Curation(
            keep=keep,
            per_question=per_question,
            finished=finished,
            dedupe=dedupe,
            shortest_first=shortest_first,
            max_length=max_length,
            check_arithmetic=check_arithmetic,
            sub_questions=sub_questions,
            task=task,
            grader=grader,
        )
    refuse_existing(output, overwrite)
    with waiting(f"reading {raw}"):
        questions = frozenset(trace.question for file in exclude for trace in iter_jsonl(file))
        # Read twice, so that it need not fit in memory; a pipe gives its traces only once.
        traces = None if raw.is_file() else read_jsonl(raw)
        kept, summary = choose(traces or iter_jsonl(raw), replace(curation, exclude=questions))
    if summary.kept:
        output.parent.mkdir(parents=True, exist_ok=True)
        with waiting(f"writing {output}"):
            write_jsonl(compress(traces or iter_jsonl(raw), kept), output)
    if as_json:
        print_json(asdict(summary))
    else:
        _show(summary, output, curation)
    if not summary.kept:
        hint = "; none has a gold answer: --keep agreed or all does without" * (
            summary.dropped["no_gold"] == summary.read
        )
        raise TacitError(f"no trace of {raw} is kept, so {output} is not written{hint}")


def _show(summary: Summary, output: Path, curation: Curation) -> None:
    print(f"{output}: {summary.kept:,} of {summary.read:,} traces kept ({summary.kept / summary.read:.1%})")
    dropped = [(reason, count) for reason, count in summary.dropped.items() if count]
    if dropped:
        print(f"\n{'dropped':18}{'traces':>9}{'share':>8}   the first of them")
    for reason, count in dropped:
        print(f"{reason:18}{count:9,}{count / summary.read:8.1%}   {summary.examples[reason]}")
    print()
    if any(summary.right.values()):
        counts = ", ".join(f"{grader} {count:,}" for grader, count in summary.right.items())
        print(f"right answers in all that was read, by grader: {counts}")
    without = summary.rationales.get(0, 0)
    counts = [count for count, questions in summary.rationales.items() if count for _ in range(questions)]
    print(f"{summary.questions:,} questions, {len(counts):,} with a trace that is kept, {without:,} without")
    if counts:
        print(
            f"Traces of a question that has any: {min(counts):,} to {max(counts):,}, "
            f"median {median(counts):g}, mean {summary.kept / len(counts):.2f}"
        )
    if summary.sub_questions["none"] < summary.read:
        every = summary.sub_questions
        counts = f"on all steps of {every['all']:,} traces, on some of {every['some']:,}, on none of {every['none']:,}"
        print(f"sub-questions in all that was read: {counts}")
    if curation.finished and (count := summary.unjudged["finish_reason"]):
        print(f"{count:,} traces do not say whether their text was cut; they passed --finished")
    if curation.check_arithmetic:
        unread = summary.unjudged["equations"]
        print(
            f"{summary.equations:,} equations <<a=b>> checked; {unread:,} traces passed with one that cannot be read"
        )
