"""Any JSON Lines with sub-questions: a problem, its sub-questions with what answers them, and the final answer a line.

    {"id": "7", "problem": "Ann has 3 apples ...", "steps": [{"question": "How many ...?", "solution": "3 + 4 = 7",
     "equation": "<<3+4=7>>", "answer": "7"}, ...], "final_answer": "7"}

`NAMES` lists the other names that a field may have. Instead of objects, the steps may be a list of sub-questions, with
what answers them in lists beside it. A step's text is its solution, else its equation, else its answer; an answer that
is a sentence or a calculation is no result, only the text. A sub-question may stand alone. Numbers are written as
text, true and false as yes and no. Of an answer like GSM8K's, the part behind the last `####` is taken. Other fields
stay in `source`. Written is the form above.

Usage: `parse_socratic(line)`, `format_socratic(trace)`, `read_steps(record)`.
"""

import re
from collections.abc import Mapping
from typing import Any

from tacit.errors import TacitError
from tacit.formats.marks import label
from tacit.formats.steps import SPAN
from tacit.grading import MARKER
from tacit.trace import Step, Trace, dump_json, parse_json

NAMES = {
    "problem": ("problem", "question"),
    "final_answer": ("final_answer", "answer", "gold"),
    "steps": ("sub_questions", "subquestions", "decomposition", "questions", "steps"),
    "steps[].question": ("question", "sub_question", "subquestion", "q"),
    "steps[].solution": ("solution", "text", "rationale"),
    "steps[].equation": ("equation",),
    "steps[].answer": ("answer", "sub_answer", "subanswer", "a"),
    "solutions": ("solutions", "steps"),
    "answers": ("answers", "sub_answers", "subanswers", "step_answers"),
}
SENTENCE = re.compile(r"\s.*[.!?]\Z|=", re.DOTALL)


def parse_socratic(line: str) -> Trace:
    """The trace in one line. Raises `TacitError` naming the field."""
    record = parse_json(line)
    if not isinstance(record, dict):
        raise TacitError("not a JSON object")
    if (asked := _name(record, "problem")) and not isinstance(record[asked], str):
        raise TacitError(f"field '{asked}' is not text")
    problem, answer = _text(record, "problem"), _text(record, "final_answer")
    if not problem or not answer:
        raise _missing("final_answer" if problem else "problem")
    steps = read_steps(record)
    name = _name(record, "final_answer")
    gold = None if name == "gold" else _value(record.get("gold"), "gold") or None
    taken = {"id", "gold", "source", *(_name(record, field) for field in NAMES if "[" not in field)}
    given = record.get("source")
    source = {
        **{field: value for field, value in record.items() if field not in taken},
        **(given if isinstance(given, dict) else {} if given is None else {"source": given}),
        "format": "socratic",
        "steps": "sub-questions",
    }
    answer = answer.rpartition(MARKER)[2].strip()
    return Trace(problem, steps, answer, gold, id=_value(record.get("id"), "id"), source=source)


def read_steps(record: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps in a record. Raises `TacitError` naming the field."""
    field = _name(record, "steps")
    if field is None:
        raise _missing("steps")
    found = record[field]
    if not isinstance(found, list):
        raise TacitError(f"field '{field}' is not a list")
    if found and all(isinstance(one, str) for one in found):
        found = _objects(record, field)
    return tuple(_step(one, f"{field}[{index}]") for index, one in enumerate(found))


def _objects(record: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """The steps whose sub-questions are a list of texts, with what stands in lists beside it."""
    columns = {"question": record[field]}
    others = {name: value for name, value in record.items() if name != field}
    for column, lists in (("solution", "solutions"), ("answer", "answers")):
        other = _name(others, lists)
        if other is None:
            continue
        if not isinstance(record[other], list) or len(record[other]) != len(record[field]):
            raise TacitError(f"field '{other}' is not a list with an entry for each of '{field}'")
        columns[column] = record[other]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _step(record: Any, where: str) -> Step:
    if not isinstance(record, dict):
        raise TacitError(f"field '{where}' is not an object with a sub-question and what answers it")
    asked, solution, equation, answer = (
        _text(record, f"steps[].{part}", f"{where}.") for part in ("question", "solution", "equation", "answer")
    )
    if not asked:
        raise _missing("steps[].question", f"{where}.")
    told = solution or equation or answer
    result = "" if told == answer and SENTENCE.search(answer) else answer
    return Step(told, asked, result or None)


def _name(record: Mapping[str, Any], field: str) -> str | None:
    return next((name for name in NAMES[field] if record.get(name) is not None), None)


def _text(record: Mapping[str, Any], field: str, where: str = "") -> str:
    """What a field holds, whatever its name; empty where there is none."""
    name = _name(record, field)
    return "" if name is None else _value(record[name], where + name)


def _value(value: Any, field: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value).removesuffix(".0")
    if not isinstance(value, str | None):
        raise TacitError(f"field '{field}' is not text or a number")
    return (value or "").strip()


def _missing(field: str, where: str = "") -> TacitError:
    name, *others = NAMES[field]
    return TacitError(f"field '{where}{name}' is missing or empty (it may also be called {', '.join(others)})")


def format_socratic(trace: Trace) -> str:
    """The line of a trace. Raises `TacitError` where a step has no sub-question, or where there is no answer."""
    answer, steps = label(trace, "socratic", MARKER), []
    for index, step in enumerate(trace.steps):
        if not (step.question or "").strip():
            raise TacitError(f"trace {trace.id}: field 'steps[{index}].question' is missing: socratic needs it")
        spans = SPAN.findall(step.text)
        equation = spans[-1] if spans else None
        steps.append({"question": step.question, "solution": step.text, "equation": equation, "answer": step.answer})
    return dump_json({"id": trace.id, "problem": trace.question, "steps": steps, "final_answer": answer})
