"""Files of other projects, read as traces and written back.

    tacit           the trace contract, JSON Lines
    icot            `INPUT||COT #### ANSWER`, one a line: the official files of Stepwise Internalization and ICoT-KD
    gsm8k           GSM8K's JSON Lines: the steps are lines, the last line is `#### ANSWER`
    gsm8k-socratic  the same with `SUB-QUESTION ** STEP` lines

Free text is split into steps by a stated rule, which is recorded in `source["steps"]`.
Usage: `traces = read("valid.txt", "icot")`, `write(traces, "copy.txt", "icot")`.
"""

import json
import os
import re
from collections.abc import Callable, Iterable

from tacit.errors import TacitError, unknown_name
from tacit.trace import Step, Trace, dump_json, read_jsonl, read_lines, write_jsonl, write_lines

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
    for name, text, reserved in (
        ("question", trace.question, "||"),
        ("steps", chain, "||"),
        ("answer", trace.label, "||"),
        ("answer", trace.label, "####"),
    ):
        if reserved in text or "\n" in text or "\r" in text:
            broken = repr(reserved) if reserved in text else "a line break"
            raise TacitError(f"trace {trace.id}: field '{name}' holds {broken}, which the icot format cannot carry")
    return f"{trace.question}||{chain}#### {trace.label}" if chain else f"{trace.question}|| #### {trace.label}"


def _gsm8k_fields(line: str) -> tuple[str, list[str], str]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise TacitError(f"not JSON ({error.msg} at column {error.colno})") from None
    for field in ("question", "answer"):
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            raise TacitError(f"field '{field}' is missing or not a string")
    solution, marker, answer = record["answer"].rpartition("####")
    if not marker:
        raise TacitError("field 'answer': no '####' before the final answer")
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
        steps.append(Step(told, question=asked, answer=_intermediate(told)))
    return Trace(question, tuple(steps), answer, source={"format": "gsm8k-socratic", "steps": "lines"})


def format_gsm8k(trace: Trace) -> str:
    """The GSM8K line of a trace."""
    lines = [step.text for step in trace.steps]
    return dump_json({"question": trace.question, "answer": "\n".join([*lines, f"#### {trace.label}"])})


def format_gsm8k_socratic(trace: Trace) -> str:
    """The GSM8K Socratic line of a trace. Raises `TacitError` where a step has no sub-question."""
    for index, step in enumerate(trace.steps):
        if step.question is None:
            raise TacitError(f"trace {trace.id}: field 'steps[{index}].question' is missing: gsm8k-socratic needs it")
    lines = [f"{step.question} ** {step.text}" for step in trace.steps]
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
