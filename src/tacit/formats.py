"""Files of other projects, read as traces and written back.

    tacit           the trace contract, JSON Lines
    icot            `INPUT||COT #### ANSWER`, one a line: the official files of Stepwise Internalization and ICoT-KD
    gsm8k           GSM8K's JSON Lines: the steps are lines, the last line is `#### ANSWER`
    gsm8k-socratic  the same with `SUB-QUESTION ** STEP` lines

Free text is split into steps by a stated rule, which is recorded in `source["steps"]`.
Usage: `traces = read("valid.txt", "icot")`, `write(traces, "copy.txt", "icot")`.
"""

import os
import re
from collections.abc import Callable, Iterable

from tacit.errors import TacitError, unknown_name
from tacit.trace import Step, Trace, dump_json, parse_json, read_jsonl, read_lines, write_jsonl, write_lines

SPAN = re.compile(r"<<[^<>]*>>")
SPANS_ONLY = re.compile(r"<<[^<>]*>>( <<[^<>]*>>)*")
SPACED_SUM = re.compile(r"[0-9+() ]+")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")


def split_steps(chain: str) -> tuple[list[str], str]:
    """Splits a written chain of thought into steps; returns them and the name of the rule that was used.

    The rules, in their order: `lines` where there are several; `spans`, a chain of nothing but calculator annotations
    `<<a=b>>`; `terms`, a sum of spaced digits, split before each plus sign; else `sentences`.
    """
    chain = chain.strip()
    if "\n" in chain:
        return [line.strip() for line in chain.splitlines() if line.strip()], "lines"
    if SPANS_ONLY.fullmatch(chain):
        return SPAN.findall(chain), "spans"
    if SPACED_SUM.fullmatch(chain):
        return [term for term in re.split(r" (?=\+ )", chain) if term], "terms"
    return [sentence for sentence in SENTENCE_END.split(chain) if sentence], "sentences"


def parse_icot(line: str) -> Trace:
    """The trace in one line `INPUT||COT #### ANSWER`; the chain may be empty."""
    parts = line.split("||")
    if len(parts) != 2:
        raise TacitError(f"expected exactly one '||' between input and chain, found {len(parts) - 1}")
    chain, marker, answer = parts[1].rpartition("####")
    if not marker:
        raise TacitError("no '####' before the answer")
    question, answer = parts[0].strip(), answer.strip()
    if not question or not answer:
        raise TacitError(f"the {'answer' if question else 'input'} is empty")
    steps, rule = split_steps(chain)
    return Trace(question, tuple(map(Step, steps)), answer, source={"format": "icot", "steps": rule})


def format_icot(trace: Trace) -> str:
    """The line `INPUT||COT #### ANSWER` of a trace.

    Raises:
        TacitError: A text holds `||`, `####` or a line break, which the format cannot carry.
    """
    chain = "".join(f"{step.text} " for step in trace.steps)
    for field, text in (("question", trace.question), ("steps", chain), ("answer", trace.label)):
        _refuse(trace, "icot", field, text, "||", "\n", "\r")
    _refuse(trace, "icot", "answer", trace.label, "####")
    return f"{trace.question}||{chain}#### {trace.label}" if chain else f"{trace.question}|| #### {trace.label}"


def _refuse(trace: Trace, format: str, field: str, text: str, *reserved: str) -> None:
    for mark in reserved:
        if mark in text:
            broken = repr(mark) if mark.strip() else "a line break"
            raise TacitError(f"trace {trace.id}: field '{field}' holds {broken}, which {format} cannot carry")


def _gsm8k_fields(line: str) -> tuple[str, list[str], str]:
    record = parse_json(line)
    for field in ("question", "answer"):
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            raise TacitError(f"field '{field}' is missing or not a string")
    solution, marker, answer = record["answer"].rpartition("####")
    if not marker:
        raise TacitError("field 'answer': no '####' before the final answer")
    if not record["question"].strip() or not answer.strip():
        raise TacitError(f"the {'final answer' if record['question'].strip() else 'question'} is empty")
    return record["question"], [text for text in solution.split("\n") if text.strip()], answer.strip()


def _intermediate(text: str) -> str | None:
    spans = SPAN.findall(text)
    return spans[-1].rpartition("=")[2].removesuffix(">>") or None if spans and "=" in spans[-1] else None


def parse_gsm8k(line: str) -> Trace:
    """The trace in one line of GSM8K: a step a line, its answer the value of its last `<<expr=value>>`."""
    question, texts, answer = _gsm8k_fields(line)
    steps = tuple(Step(text, answer=_intermediate(text)) for text in texts)
    return Trace(question, steps, answer, source={"format": "gsm8k", "steps": "lines"})


def parse_gsm8k_socratic(line: str) -> Trace:
    """The trace in one line of GSM8K Socratic: `SUB-QUESTION ** STEP` lines."""
    question, texts, answer = _gsm8k_fields(line)
    steps = []
    for index, text in enumerate(texts):
        asked, marker, told = text.partition(" ** ")
        if not marker:
            raise TacitError(f"field 'answer': step {index} has no ' ** ' between sub-question and step")
        if told.strip():  # a few official lines are a sub-question alone: a blank line of the plain solution
            steps.append(Step(told, question=asked, answer=_intermediate(told)))
    return Trace(question, tuple(steps), answer, source={"format": "gsm8k-socratic", "steps": "lines"})


def format_gsm8k(trace: Trace) -> str:
    """The GSM8K line of a trace. Raises `TacitError` for a line break in a step or `####` in the answer."""
    return _gsm8k_line(trace, [step.text for step in trace.steps], "gsm8k")


def format_gsm8k_socratic(trace: Trace) -> str:
    """The GSM8K Socratic line of a trace. Raises as `format_gsm8k`, and for a step without sub-question."""
    for index, step in enumerate(trace.steps):
        if step.question is None:
            raise TacitError(f"trace {trace.id}: field 'steps[{index}].question' is missing: gsm8k-socratic needs it")
        _refuse(trace, "gsm8k-socratic", f"steps[{index}].question", step.question, " ** ")
    return _gsm8k_line(trace, [f"{step.question} ** {step.text}" for step in trace.steps], "gsm8k-socratic")


def _gsm8k_line(trace: Trace, lines: list[str], format: str) -> str:
    for index, line in enumerate(lines):
        _refuse(trace, format, f"steps[{index}]", line, "\n")
    _refuse(trace, format, "answer", trace.label, "####")
    return dump_json({"question": trace.question, "answer": "\n".join([*lines, f"#### {trace.label}"])})


PARSERS: dict[str, Callable[[str], Trace]] = {
    "icot": parse_icot,
    "gsm8k": parse_gsm8k,
    "gsm8k-socratic": parse_gsm8k_socratic,
}
FORMATTERS: dict[str, Callable[[Trace], str]] = {
    "icot": format_icot,
    "gsm8k": format_gsm8k,
    "gsm8k-socratic": format_gsm8k_socratic,
}
FORMATS = ("tacit", *PARSERS)


def read(path: str | os.PathLike, format: str = "tacit") -> list[Trace]:
    """The traces of a file in one of `FORMATS`. Raises `TacitError` naming file, line and field."""
    if format == "tacit":
        return read_jsonl(path)
    if format not in PARSERS:
        raise unknown_name("format", format, FORMATS)
    return read_lines(path, PARSERS[format])


def write(traces: Iterable[Trace], path: str | os.PathLike, format: str = "tacit") -> None:
    """Writes traces in one of `FORMATS`, all or nothing. Raises `TacitError` where the format cannot carry a trace."""
    if format == "tacit":
        write_jsonl(traces, path)
    elif format not in FORMATTERS:
        raise unknown_name("format", format, FORMATS)
    else:
        write_lines([FORMATTERS[format](trace) for trace in traces], path)
