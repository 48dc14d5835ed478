"""`tacit data check`: traces as the model will see them, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tacit.cli.data import From, Source, read_traces
from tacit.cli.shell import AsJson, print_json, track, usage, waiting, wrap
from tacit.errors import TacitError
from tacit.formats.dialogue import coverage
from tacit.socratic.rows import MARK, has_answers, refer
from tacit.tasks import task_of
from tacit.trace import Trace, iter_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tacit.rendering import Renderings, Template

SHOWN = 5
NOTES = {
    "same_question": "the question of an earlier trace once more",
    "same_problem": "the problem of an earlier trace, asked differently",
    "no_steps": "no steps",
    "unanswered": "a sub-question that nothing answers, which is left out",
    "echoed": "sub-questions without answers, which Socratic CoT teaches the decomposer alone",
    "marked": "a sub-question with a 'Q:' of its own, which Socratic CoT refuses",
    "open_reference": "a sub-question with a #k that is no earlier step, and is read as text",
    "answer_not_gold": "another answer than the gold answer",
    "question_not_of_task": "a question that the trace's task cannot read",
}


def check(
    file: Source,
    from_format: From = "tacit",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of the Hub, or a folder; without it, the tokens are the words of the data."
        ),
    ] = None,
    template: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How traces are written: tacit, fine-tune-cot, fine-tune-cot-t5, natural or chat, as in a recipe.",
        ),
    ] = "tacit",
    as_json: AsJson = False,
) -> None:
    """Show traces as the model will see them, and what is wrong with them.

    Exit status 1 where a trace cannot be trained on.
    """
    with usage():
        _known_template(template)
    unread: dict[int, str] = {}
    traces = read_traces(file, from_format, unread)
    reader = _load_reader(model, template) if model else _reader_of_words(traces, template)
    rendered, problems = _render_each(traces, reader)
    facts = {
        "file": str(file),
        "format": from_format,
        "traces": len(traces),
        "tokenizer": {"name": model, "size": len(reader.tokenizer), "positions": reader.positions},
        "encoder_decoder": reader.encoder_decoder,
        "template": template,
        "steps": _distribution([len(trace.steps) for trace in traces]),
        "sub_questions": _sub_questions(traces),
        "tokens": _token_counts([part for _, part in rendered]),
        "first": _segments(*rendered[0], traces, reader.tokenizer) if rendered else None,
        "notes": _notes(traces),
        "unread": [{"line": number, "problem": problem} for number, problem in unread.items()],
        "problems": [
            {"trace": index + 1, "id": traces[index].id, "question": traces[index].question, "problem": problem}
            for index, problem in sorted(problems.items())
        ],
        "ok": not problems and not unread,
    }
    if as_json:
        print_json(facts)
    else:
        _show(facts)
    if not facts["ok"]:
        raise typer.Exit(1)


# --- the model that will read ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reader:
    """What traces are rendered for: a model's tokenizer, a template, and what its configuration tells."""

    tokenizer: PreTrainedTokenizerBase
    template: Template
    encoder_decoder: bool = False
    positions: int | None = None


def _known_template(name: str) -> None:
    from tacit.rendering import CHAT, get_template

    if name != CHAT:  # for which the tokenizer is needed
        get_template(name)


def _reader_of_words(traces: list[Trace], template: str) -> _Reader:
    with waiting("loading"):
        from tacit.models import word_tokenizer
        from tacit.rendering import get_template
    written = get_template(template)
    return _Reader(word_tokenizer([written.words, *iter_text(traces)]), written)


def _load_reader(name: str, template: str) -> _Reader:
    """A model's tokenizer, and what its configuration tells, where there is one."""
    folder = Path(name)
    if folder.exists() and not (folder / "tokenizer_config.json").is_file():
        raise TacitError(f"{name}: no model's tokenizer is there (tokenizer_config.json is missing)")
    with waiting(f"loading {name}"):
        from transformers import AutoConfig, AutoTokenizer

        from tacit.models import is_encoder_decoder, max_positions
        from tacit.rendering import get_template

        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(name)
            bare = folder.exists() and not (folder / "config.json").is_file()
            config = None if bare else AutoConfig.from_pretrained(name)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().split("\n")[0]
            raise TacitError(f"cannot load the tokenizer of model {name!r}: {reason}") from None
    written = get_template(template, tokenizer)
    return _Reader(tokenizer, written, is_encoder_decoder(config), max_positions(config) if config else None)


# --- what is looked at -----------------------------------------------------------------------------------------------


def _render_each(traces: list[Trace], reader: _Reader) -> tuple[list[tuple[int, Renderings]], dict[int, str]]:
    """Renders what can be rendered.

    Returns:
        The number of a trace (from 0) with the renderings of that trace and of those behind it; and what is wrong
        with each trace that cannot be trained on.
    """
    from tacit.rendering import render

    def write(some: list[Trace]) -> Renderings:
        return render(some, reader.tokenizer, reader.template, reader.encoder_decoder)

    rendered, problems = [], {}
    for first in track(range(0, len(traces), 1000), "rendering"):
        chunk = traces[first : first + 1000]
        try:
            rendered.append((first, write(chunk)))
            continue
        except TacitError:
            pass
        for index, trace in enumerate(chunk, first):
            try:
                rendered.append((index, write([trace])))
            except TacitError as error:
                if not str(error).startswith(f"trace {trace.id} "):
                    raise  # the tokenizer is at fault, not this trace
                problems[index] = str(error).removeprefix(f"trace {trace.id} ({trace.question[:60]!r}): ")
    for first, part in rendered if reader.positions else ():
        for index in (part.positions > reader.positions).nonzero()[0].tolist():
            needed = f"{part.positions[index]:,} tokens{' in prompt or target' * reader.encoder_decoder}"
            problems[first + index] = f"{needed}, but the model has only {reader.positions:,} positions"
    return rendered, problems


def _distribution(counts: Any) -> dict[str, float]:
    import numpy as np

    if not len(counts):
        return {}
    values = np.percentile(counts, [0, 50, 95, 100]).round(1).tolist()
    whole = [int(value) if value.is_integer() else value for value in values]
    return dict(zip(("min", "median", "p95", "max"), whole, strict=True))


def _token_counts(parts: list[Renderings]) -> dict[str, dict[str, float]]:
    import numpy as np

    if not parts:
        return {}
    prompt, chain, whole = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("prompt_lengths", "chain_lengths", "lengths")
    )
    segments = {"prompt": prompt, "chain": chain, "answer": whole - prompt - chain, "whole": whole}
    return {name: _distribution(counts) for name, counts in segments.items()}


def _segments(
    index: int, rendered: Renderings, traces: list[Trace], tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """The first of the renderings, segment by segment, token by token."""
    one = rendered[0]
    bounds = [0, *one.starts.tolist(), len(one.ids) - 1, len(one.ids)]
    names = ["prompt", *(f"step {number}" for number in range(1, len(one.starts))), "answer", "end"]
    segments = []
    for name, begin, end in zip(names, bounds[:-1], bounds[1:], strict=True):
        ids = one.ids[begin:end].tolist()
        tokens = [tokenizer.decode([token]) for token in ids]
        segments.append({"segment": name, "target": name != "prompt", "tokens": tokens, "ids": ids})
    return {"trace": index + 1, "id": traces[index].id, "segments": segments}


def _sub_questions(traces: list[Trace]) -> dict[str, int]:
    counts = Counter(map(coverage, traces))
    return {which: counts[which] for which in ("all", "some", "none")}


def _notes(traces: list[Trace]) -> dict[str, list[int]]:
    """What is worth knowing and does not stand in the way of training; the traces concerned, counted from 1."""
    notes: dict[str, list[int]] = {note: [] for note in NOTES}
    questions, problems = set(), set()
    for number, trace in enumerate(traces, 1):
        task = task_of(trace)
        try:
            problem = task.problem(trace.question)
        except TacitError:
            problem = trace.question
            notes["question_not_of_task"].append(number)
        if trace.question in questions:
            notes["same_question"].append(number)
        elif (task.name, problem) in problems:
            notes["same_problem"].append(number)
        questions.add(trace.question)
        problems.add((task.name, problem))
        if not trace.steps:
            notes["no_steps"].append(number)
        if any(step.question and not step.text.strip() for step in trace.steps):
            notes["unanswered"].append(number)
        if coverage(trace) == "all" and not has_answers(trace):
            notes["echoed"].append(number)
        if any(MARK.search(step.question or "") for step in trace.steps):
            notes["marked"].append(number)
        if any(refer(step.question or "", ["x"] * j)[1] for j, step in enumerate(trace.steps)):
            notes["open_reference"].append(number)
        if trace.gold is not None and not task.grade(trace.answer, trace.gold):
            notes["answer_not_gold"].append(number)
    return notes


# --- for people ------------------------------------------------------------------------------------------------------


def _show(facts: dict[str, Any]) -> None:
    tokenizer = facts["tokenizer"]
    print(f"{facts['file']}: {facts['traces']:,} traces, format {facts['format']}, template {facts['template']}")
    of = tokenizer["name"] or "the words of this file (--model NAME takes a model's)"
    positions = f"; the model has {tokenizer['positions']:,} positions" if tokenizer["positions"] else ""
    positions += "; an encoder reads the prompt" * facts["encoder_decoder"]
    print(f"Tokens: {of}, {tokenizer['size']:,} different ones{positions}")

    if facts["sub_questions"]["none"] < facts["traces"]:
        every = facts["sub_questions"]
        counts = f"on all steps of {every['all']:,} traces, on some of {every['some']:,}, on none of {every['none']:,}"
        print(f"Sub-questions: {counts}")
    print(f"\n{'a trace has':20}{'min':>8}{'median':>8}{'p95':>8}{'max':>8}" if facts["steps"] else "")
    names = {"answer": "answer, end"}
    tokens = {f"{names.get(segment, segment)} tokens": counts for segment, counts in facts["tokens"].items()}
    for name, counts in {"steps": facts["steps"], **tokens}.items():
        if counts:
            print(f"{name:20}" + "".join(f"{count:8,}" for count in counts.values()))

    if first := facts["first"]:
        print(f"\nTrace {first['trace']} as the model sees it; * is learnt, ▁ is a space inside a token:\n")
        for segment in first["segments"]:
            label = f"{'*' if segment['target'] else ' '} {segment['segment']:10}"
            print(wrap(label, " ".join(map(_visible, segment["tokens"]))))
            print(wrap(" " * len(label), f"ids {' '.join(map(str, segment['ids']))}"))
    print()
    for note, numbers in facts["notes"].items():
        if numbers:
            which = ", ".join(map(str, numbers[:SHOWN])) + ", ..." * (len(numbers) > SHOWN)
            print(f"note: {NOTES[note]}: {len(numbers):,} of {facts['traces']:,} (trace {which})")
    problems, unread = facts["problems"], facts["unread"]
    for problem, numbers in _by_problem(unread).items():
        print(f"problem: {facts['file']}:{_ranges(numbers)}: {problem}")
    for problem in problems[:SHOWN]:
        where = f"trace {problem['trace']} (id {problem['id']}, {problem['question'][:60]!r})"
        print(f"problem: {facts['file']}, {where}: {problem['problem']}")
    if len(problems) > SHOWN:
        print(f"... and {len(problems) - SHOWN:,} more problems; --json lists them all")
    missing = [f"{len(unread):,} line{'s' * (len(unread) > 1)} cannot be read"] * bool(unread)
    if problems:
        missing.append(f"{len(problems):,} of {facts['traces']:,} traces cannot be trained on")
    print(f"Not ready for training: {' and '.join(missing)}." if missing else "Ready for training.")


def _by_problem(unread: list[dict[str, Any]]) -> dict[str, list[int]]:
    """The lines that cannot be read, those with the same problem together."""
    numbers: dict[str, list[int]] = {}
    for line in unread:
        numbers.setdefault(line["problem"], []).append(line["line"])
    return numbers


def _ranges(numbers: list[int]) -> str:
    """`[2, 4, 5, 6]` as "2, 4-6"."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ", ".join("-".join(map(str, ends)) for ends in ranges)


def _visible(token: str) -> str:
    return token.replace(" ", "▁").replace("\n", "\\n")
