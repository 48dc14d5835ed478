"""GSM8K's JSON Lines, plain and Socratic: the steps are lines, the last line is `#### ANSWER`.

A Socratic line is `SUB-QUESTION ** STEP`. A step's answer is the value of its last `<<expr=value>>`. Six of the
official Socratic lines are a sub-question alone, where the plain solution has a blank line: a step without text, which
is counted and written as the others are, and which nothing is trained on. Read as Socratic and written as plain, the
official files give the plain ones byte for byte.
Usage: `parse_gsm8k(line)`, `format_gsm8k(trace)`.
"""

from tacit.errors import TacitError
from tacit.formats.marks import label, refuse
from tacit.formats.steps import SPAN
from tacit.trace import Step, Trace, dump_json, parse_json


def _fields(line: str) -> tuple[str, list[str], str]:
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
    """The trace in one line of GSM8K."""
    question, texts, answer = _fields(line)
    steps = tuple(Step(text, answer=_intermediate(text)) for text in texts)
    return Trace(question, steps, answer, source={"format": "gsm8k", "steps": "lines"})


def parse_gsm8k_socratic(line: str) -> Trace:
    """The trace in one line of GSM8K Socratic: `SUB-QUESTION ** STEP` lines."""
    question, texts, answer = _fields(line)
    steps = []
    for index, text in enumerate(texts):
        asked, marker, told = text.partition(" ** ")
        if not marker:
            raise TacitError(f"field 'answer': step {index} has no ' ** ' between sub-question and step")
        steps.append(Step(told if told.strip() else "", question=asked, answer=_intermediate(told)))
    return Trace(question, tuple(steps), answer, source={"format": "gsm8k-socratic", "steps": "lines"})


def format_gsm8k(trace: Trace) -> str:
    """The GSM8K line of a trace. Raises `TacitError` for a line break in a step or `####` in the answer."""
    return _line(trace, [step.text for step in trace.steps], "gsm8k")


def format_gsm8k_socratic(trace: Trace) -> str:
    """The GSM8K Socratic line of a trace. Raises as `format_gsm8k`, and for a step without sub-question."""
    for index, step in enumerate(trace.steps):
        if step.question is None:
            raise TacitError(f"trace {trace.id}: field 'steps[{index}].question' is missing: gsm8k-socratic needs it")
        refuse(trace, "gsm8k-socratic", f"steps[{index}].question", step.question, " ** ")
    return _line(trace, [f"{step.question} ** {step.text}" for step in trace.steps], "gsm8k-socratic")


def _line(trace: Trace, lines: list[str], format: str) -> str:
    for index, line in enumerate(lines):
        refuse(trace, format, f"steps[{index}]", line, "\n")
    answer = "\n".join([*lines, f"#### {label(trace, format, '####')}"])
    return dump_json({"question": trace.question, "answer": answer})
