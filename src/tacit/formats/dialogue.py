"""A teacher's free text as sub-questions with their answers, in whatever way it set them out.

A sub-question is labelled ("Q1:", "Sub-question 2 -", "Step 3: How ...?"), numbered with a question mark, listed with
one, followed by an arrow or `**` and what answers it, or a line that ends in a question mark: of these ways, the first
that two lines of the text follow, else the first that one does. What answers it stands behind its question mark or its
label ("A1:", "Answer:") on the same line, or on the lines below, or, by the same number, further down. JSON is read by
the names of the format `socratic`. White space, emphasis, headings, bullets and code fences do not matter. What stands
before the first sub-question is left out, and so is another problem ("Problem: ...") that the teacher made up.

An answer that concludes ("... #### 7", "So the answer is 7.") gives the step's text and its result. The last one to do
so, behind all sub-questions, is the conclusion of the whole; what comes after it is left out, as is a new paragraph
between the last answer and it.

Usage: `split_dialogue("Q1: How many?\\nA1: 3 + 4 = 7 #### 7") == ([Step("3 + 4 = 7", "How many?", "7")], "7")`.
"""

import json
import re
from dataclasses import dataclass, field
from itertools import islice

from tacit.errors import TacitError
from tacit.formats.socratic import read_steps
from tacit.trace import Step, Trace

CONCLUSION = re.compile(
    r"####|(?:\b(?:so|thus|hence|therefore|and|finally),?\s+)?"
    r"(?:\b(?:the|my|our)\s+(?:final\s+|overall\s+)?answer\s+is\b|\bfinal\s+answer\b(?:\s+is\b)?):?",
    re.IGNORECASE,
)
EMPHASIS = re.compile(r"(?<![\w*)])(\*{2,3}|__|`)(?=\S)(.{1,500}?)(?<=\S)\1(?![*_`])")
FENCE = re.compile(r"^[ \t]*(?:```|~~~).*$", re.MULTILINE)
HEADING = re.compile(r"\A#{1,3}\s+|\A#{4,6}\s+(?=(?:sub|question|q\s?\d|step|answer|final|\d+[.)]\s))", re.IGNORECASE)
BULLET = re.compile(r"[-*•+>]\s+")
NUMBER = re.compile(r"\(?(\d{1,2})(?:[.):]\)?\s+|\s[-–—]\s+(?=[A-Za-z]))")
END_OF_LABEL = r"(?:\s*\([^)?]*\))?\s*(?:[:.)]+|\s[-–—](?=\s)|\Z)\s*"
ASKED = re.compile(
    rf"(?:(?:sub[-\s]?|follow[-\s]?up\s)?question|sub[-\s]?problem|q)\s*#?(\d{{1,2}})?{END_OF_LABEL}", re.IGNORECASE
)
STEP = re.compile(rf"step\s*(\d{{1,2}}){END_OF_LABEL}", re.IGNORECASE)
TOLD = re.compile(
    r"(?:(?:(?:sub[-\s]?)?answer|solution|response|reply|reasoning)\s*#?(\d{1,2})?(?:\s*\([^)]*\))?\s*"
    r"(?::|\s[-–—](?=\s)|(?<=\d)[.)]|\Z)|a\s*#?(\d{1,2})?\s*(?::|(?<=\d)(?:[.)]|\s[-–—](?=\s))))\s*",
    re.IGNORECASE,
)
SECTION = re.compile(
    r"(?:the\s)?(?:sub[-\s]?)?(?:questions|answers|solutions)(?:\sand\s(?:their\s)?answers)?:?", re.IGNORECASE
)
ANOTHER = re.compile(r"problem\s*\d{0,2}\s*:", re.IGNORECASE)
TRIES = 20  # brackets that could open a list
INLINE = re.compile(r"\s*(?:→|->|=>|\*\*|(?:\bA|\bAnswer)\s*\d{0,2}\s*:)\s*")


@dataclass
class _Turn:
    """A sub-question as it is being read: `beside` is what stands on its line, `lines` what stands below."""

    number: int | None
    question: str
    beside: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def is_answered(self) -> bool:
        """Whether anything has been told to it."""
        return bool(self.beside) or any(self.lines)

    @property
    def told(self) -> str:
        """What answers it, a line a line, with its empty lines."""
        return "\n".join(filter(None, (self.beside, "\n".join(self.lines)))).strip()


def split_dialogue(text: str) -> tuple[list[Step], str | None]:
    """The sub-questions in a text with what answers them (empty where nothing does), and the conclusion, if any."""
    text = FENCE.sub("", text.replace("\uff1a", ":"))
    if found := _from_json(text):
        return found
    text = EMPHASIS.sub(r"\2", text)
    turns = _turns([HEADING.sub("", line.strip(), count=1) for line in text.splitlines()])
    steps = [_step(turn, last=turn is turns[-1]) for turn in turns]
    conclusions = list(CONCLUSION.finditer(turns[-1].told)) if turns else []
    return steps, _result(turns[-1].told[conclusions[-1].end() :]) if conclusions else None


def _step(turn: _Turn, last: bool = False) -> Step:
    text, result = turn.told, None
    if concluded := CONCLUSION.search(text):
        text, result = text[: concluded.start()].strip(), _result(text[concluded.end() :])
    if last:
        text = re.split(r"\n\s*\n", text, maxsplit=1)[0]
    return Step(" ".join(text.split()) or result or "", turn.question, result)


def _result(text: str) -> str | None:
    """What follows a conclusion's words on their line, up to a full stop."""
    line = re.split(r"[.!]\*{0,2}\s+(?=[A-Z])", text.lstrip(" :=#*\n").partition("\n")[0])[0]
    return re.sub(r"[\s*]*\.?[\s*]*\Z", "", line) or None


def coverage(trace: Trace) -> str:
    """On which steps of a trace there are sub-questions: "all", "some" or "none"."""
    asked = [bool((step.question or "").strip()) for step in trace.steps]
    return "all" if asked and all(asked) else "some" if any(asked) else "none"


# --- lines -----------------------------------------------------------------------------------------------------------


def _labelled(line: str) -> tuple[int | None, str] | None:
    rest, number = _unlisted(line)
    if asked := ASKED.match(rest):
        return int(asked[1]) if asked[1] else number, rest[asked.end() :]
    if (asked := STEP.match(rest)) and "?" in rest:
        return int(asked[1]), rest[asked.end() :]
    return None


def _numbered(line: str) -> tuple[int | None, str] | None:
    rest, number = _unlisted(line)
    return (number, rest) if number is not None and "?" in rest else None


def _listed(line: str) -> tuple[int | None, str] | None:
    rest, number = _unlisted(line)
    return (None, rest) if rest != line and number is None and "?" in rest else None


def _inline(line: str) -> tuple[int | None, str] | None:
    asked = re.search(r"\?\s*(?:\*\*|→|->|=>)\s*\S", line)
    return (None, line) if asked and _unlisted(line)[0] == line else None


def _bare(line: str) -> tuple[int | None, str] | None:
    marked = _unlisted(line)[0] != line or ASKED.match(line) or STEP.match(line) or TOLD.match(line)
    return (None, line) if line.endswith("?") and not marked else None


WAYS = (_labelled, _numbered, _listed, _inline, _bare)


def _unlisted(line: str) -> tuple[str, int | None]:
    """A line without bullets and numbers before it, and the number."""
    number = None
    while opened := BULLET.match(line) or NUMBER.match(line):
        number = int(opened[1]) if opened.re is NUMBER else number
        line = line[opened.end() :]
    return line, number


def _turns(lines: list[str]) -> list[_Turn]:
    """What is asked, and what is told to it, by the first way of asking that two lines follow, else one."""
    counts = {way: sum(way(line) is not None for line in lines) for way in WAYS}
    way = max(WAYS, key=lambda way: min(counts[way], 2))
    numbers = any(found[0] is not None for line in lines if (found := way(line)))
    turns: list[_Turn] = []
    current: _Turn | None = None
    for line in lines:
        rest, number = _unlisted(line)
        found, told = way(line), TOLD.match(rest)
        if SECTION.fullmatch(line):
            continue
        if turns and ANOTHER.match(line):  # that the teacher made up
            break
        if found and (found[0] is not None or not numbers):  # of numbered ones, one without is the problem itself
            current = _Turn(found[0], *_part(found[1]))
            turns.append(current)
        elif current is None:
            continue
        elif not current.question and line:
            current.question, current.beside = _part(line)
        elif told:
            number = int(told[1] or told[2]) if told[1] or told[2] else number
            current = _awaiting(turns, number) or current
            if current.beside and not current.lines:  # then it belongs to the sub-question
                current.question, current.beside = f"{current.question} {current.beside}", ""
            if current.is_answered and current is turns[-1]:
                current.lines.append("####")
            current.lines.append(rest[told.end() :])
        elif other := _awaiting(turns, number):
            current = other
            current.lines.append(rest)
        elif current.is_answered:
            current.lines.append(rest)
        elif rest:
            current.lines.append(rest.lstrip("*=>→ "))
    return [turn for turn in turns if turn.question]


def _awaiting(turns: list[_Turn], number: int | None) -> _Turn | None:
    """The sub-question of a number, if nothing has been told to it."""
    return next(
        (turn for turn in turns if number is not None and turn.number == number and not turn.is_answered), None
    )


def _part(line: str) -> tuple[str, str]:
    """A sub-question, and what answers it on the same line."""
    if asked := re.search(r"\?[\"'”)]*(?=[^?]*\Z)", line):
        told = line[asked.end() :]
        told = told[inline.end() :] if (inline := INLINE.match(told)) else told.strip(" -–—:")
        whole = told.startswith("(") and told.endswith(")")
        return line[: asked.end()].strip(), (told[1:-1] if whole else told).strip()
    if inline := INLINE.search(line):
        return line[: inline.start()].strip(), line[inline.end() :].strip()
    return line.strip(), ""


# --- JSON ------------------------------------------------------------------------------------------------------------


def _from_json(text: str) -> tuple[list[Step], str | None] | None:
    """The first list of sub-questions in a text, alone or in an object with the final answer."""
    for opened in islice(re.finditer(r"\[\s*[{\"]|\{\s*\"", text), TRIES):
        try:
            value, end = json.JSONDecoder().raw_decode(text, opened.start())
            record = value if isinstance(value, dict) else {"steps": value}
            steps = list(read_steps(record))
        except (ValueError, RecursionError, TacitError):
            continue
        if steps:
            steps = [step if step.answer else _step(_Turn(None, step.question or "", step.text)) for step in steps]
            behind = list(CONCLUSION.finditer(text, end))
            conclusion = next((str(record[name]) for name in ("final_answer", "answer") if record.get(name)), None)
            return steps, _result(text[behind[-1].end() :]) if behind else conclusion
    return None
