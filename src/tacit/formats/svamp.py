"""SVAMP's own file (`SVAMP.json`): one JSON list of word problems with their equations.

The question is body and question, joined by a space. The only step asks that question again, and its text is the
equation, such as `( 76.0 - 25.0 )`: nobody has asked for the two operations of a longer one apart. Whole numbers among
the answers, which the file writes as 51.0, are written as 51.

Usage: `traces = list(read_svamp(text))`.
"""

from collections.abc import Iterator

from tacit.errors import TacitError
from tacit.formats.records import Record, field_text, records
from tacit.trace import Step, Trace


def read_svamp(text: str) -> Iterator[Trace]:
    """The traces of a whole file. Raises `TacitError` naming record and field."""
    return records(text, _trace)


def _trace(record: Record) -> Trace:
    body, asked = field_text(record, "Body"), field_text(record, "Question")
    number = record.get("Answer")
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TacitError("field 'Answer' is not a number")
    answer = str(number).removesuffix(".0")
    step = Step(field_text(record, "Equation"), question=asked.strip(), answer=answer)
    source = {"format": "svamp", "type": record.get("Type"), "steps": "equation"}
    return Trace(f"{body} {asked}", (step,), answer, id=field_text(record, "ID"), source=source)
