"""Traces: one worked problem each, in JSON Lines and in `datasets`.

A trace is the one data type that every part of tacit shares:

    {"question": str, "steps": [{"text": str, "question": str?, "answer": str?}], "answer": str,
     "gold": str?, "id": str?, "source": object?}

Usage: `traces = read_jsonl("train.jsonl")`, `write_jsonl(traces, "copy.jsonl")`.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.errors import TacitError

if TYPE_CHECKING:
    import datasets

TRACE_FIELDS = ("question", "steps", "answer", "gold", "id", "source")
STEP_FIELDS = ("text", "question", "answer")
REQUIRED_FIELDS = ("question", "steps", "answer", "text")


@dataclass(frozen=True, slots=True)
class Step:
    """One link of the chain of thought.

    Args:
        text (`str`): What the teacher writes and the student learns; empty where a sub-question was not answered.
        question (`str`, *optional*): The sub-question that this step answers (Socratic CoT).
        answer (`str`, *optional*): The intermediate result.
    """

    text: str
    question: str | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """One worked problem.

    Args:
        question (`str`): As the model reads it.
        steps (`tuple[Step, ...]`): The chain of thought; may be empty.
        answer (`str`): What the trace concludes; empty where a teacher wrote none.
        gold (`str`, *optional*): The known right answer, where it can differ (a teacher's trace before curation).
        id (`str`, *optional*): Derived from the content when missing.
        source (`dict`, *optional*): Where the trace comes from; free-form.
    """

    question: str
    steps: tuple[Step, ...]
    answer: str
    gold: str | None = None
    id: str = ""
    source: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.id:
            content = "\x1f".join((self.question, *(step.text for step in self.steps), self.answer))
            object.__setattr__(self, "id", hashlib.sha256(content.encode()).hexdigest()[:16])

    @property
    def label(self) -> str:
        """The answer to train on and to grade against: `gold` if present, else `answer`."""
        return self.answer if self.gold is None else self.gold

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; optional fields that are not set are left out."""
        record: dict[str, Any] = {
            "question": self.question,
            "steps": [{k: v for k in STEP_FIELDS if (v := getattr(step, k)) is not None} for step in self.steps],
            "answer": self.answer,
            "gold": self.gold,
            "id": self.id,
            "source": dict(self.source) if self.source else None,
        }
        return {k: v for k, v in record.items() if v is not None}

    @classmethod
    def from_dict(cls, record: Any) -> Trace:
        """The trace in a JSON object. Fields beyond the contract are carried along in `source`.

        Raises:
            TacitError: A field is missing, misspelt or of the wrong type; the text names it.
        """
        if not isinstance(record, dict):
            raise TacitError(f"expected a JSON object with 'question', 'steps' and 'answer', got {_kind(record)}")
        extra = _extra_fields(record, TRACE_FIELDS, "")
        source = record.get("source")
        if source is not None and not isinstance(source, dict):
            raise TacitError(f"field 'source': expected an object, got {_kind(source)}")
        steps = record.get("steps")
        if not isinstance(steps, list):
            problem = "is missing" if "steps" not in record else f"expected a list, got {_kind(steps)}"
            raise TacitError(f"field 'steps' {problem} (a trace without reasoning has an empty list)")
        return cls(
            question=_text(record, "question"),
            steps=tuple(_step(step, index) for index, step in enumerate(steps)),
            answer=_answer(record, source),
            gold=None if record.get("gold") is None else _text(record, "gold"),
            id=_optional(record, "id") or "",
            source={**extra, **(source or {})} or None,
        )


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), f"a number ({value})" if isinstance(value, int | float) else type(value).__name__)


def _text(record: Mapping[str, Any], field: str, where: str = "") -> str:
    value = _optional(record, field, where)
    if value is None:
        raise TacitError(f"field '{where}{field}' is {'null' if field in record else 'missing'}")
    if not value.strip():
        raise TacitError(f"field '{where}{field}' is empty")
    return value


def _answer(record: Mapping[str, Any], source: Mapping[str, Any] | None) -> str:
    """Of a teacher's trace it may be empty: no answer was found in what the teacher wrote."""
    answer = _optional(record, "answer")
    taught = record.get("gold") is not None or "completion" in (source or {})
    return _text(record, "answer") if answer is None or not taught else answer


def _optional(record: Mapping[str, Any], field: str, where: str = "") -> str | None:
    value = record.get(field)
    if value is not None and not isinstance(value, str):
        raise TacitError(f"field '{where}{field}': expected a string, got {_kind(value)}")
    return value


def _extra_fields(record: Mapping[str, Any], known: tuple[str, ...], where: str) -> dict[str, Any]:
    extra = {k: v for k, v in record.items() if k not in known}
    for name in extra:
        required = [field for field in known if field not in record and field in REQUIRED_FIELDS]
        optional = [field for field in known if field not in record and field not in REQUIRED_FIELDS]
        near = difflib.get_close_matches(name, required, n=1)
        # Stricter here: people's own "qid" or "score" is no misspelt "id" or "source".
        if near := near or difflib.get_close_matches(name, optional, n=1, cutoff=0.82):
            raise TacitError(f"unknown field '{where}{name}'; did you mean '{near[0]}'?")
    return extra


def _step(record: Any, index: int) -> Step:
    where = f"steps[{index}]."
    if isinstance(record, str):
        record = {"text": record}
    if not isinstance(record, dict):
        raise TacitError(f"field 'steps[{index}]': expected an object with 'text', got {_kind(record)}")
    if extra := _extra_fields(record, STEP_FIELDS, where):
        raise TacitError(f"unknown field '{where}{next(iter(extra))}'; a step has: {', '.join(STEP_FIELDS)}")
    question = _optional(record, "question", where)
    unanswered = question and _optional(record, "text", where) == ""
    return Step(
        text="" if unanswered else _text(record, "text", where),
        question=question,
        answer=_optional(record, "answer", where),
    )


# --- JSON Lines ------------------------------------------------------------------------------------------------------


def iter_lines(
    path: str | os.PathLike, parse: Callable[[str], Trace], problems: dict[int, str] | None = None
) -> Iterator[Trace]:
    """Traces of a text file with one record a line, as they are read; blank lines are skipped.

    Args:
        path, parse: The file, and what makes the trace of a line.
        problems (`dict[int, str]`, *optional*): Gets the numbers of lines that do not parse, and why, instead of an
            error.

    Raises:
        TacitError: The file does not exist, is not UTF-8 or holds no trace, or a line does not parse: the text names
            file, line and field.
    """
    empty = True
    try:
        with open(path, "rb") as lines:
            for number, data in enumerate(lines, 1):
                try:  # a byte order mark may open the file
                    line = data.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                    if not line.strip():
                        continue
                    empty = False
                    trace = parse(line)
                except (UnicodeDecodeError, TacitError) as error:
                    problem = str(error)
                    if isinstance(error, UnicodeDecodeError):
                        problem = f"not UTF-8 text ({error.reason} at byte {error.start} of the line)"
                    if problems is None:
                        raise TacitError(f"{path}:{number}: {problem}") from None
                    problems[number] = problem
                    continue
                yield trace
    except OSError as error:
        raise TacitError(f"{path}: {error.strerror or error}") from None
    if empty:
        raise TacitError(f"{path}: no traces in this file")


def read_lines(
    path: str | os.PathLike, parse: Callable[[str], Trace], problems: dict[int, str] | None = None
) -> list[Trace]:
    """All traces of a text file with one record a line. Raises `TacitError` as `iter_lines` does."""
    return list(iter_lines(path, parse, problems))


def parse_json(line: str) -> Any:
    """The value in a line of JSON. Raises `TacitError` for what could not be written again."""

    def refuse(constant: str) -> None:
        raise TacitError(f"not JSON ({constant} is no number there)")

    try:
        value = json.loads(line, parse_constant=refuse)
        if "\\u" in line:
            dump_json(value).encode()
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, " * (error.lineno > 1) + f"column {error.colno}"
        raise TacitError(f"not JSON ({error.msg} at {where})") from None
    except UnicodeEncodeError:
        raise TacitError("not text (a \\u escape is half of a surrogate pair)") from None
    except RecursionError:
        raise TacitError("not JSON that can be read (nested too deeply)") from None
    except TacitError:
        raise
    except ValueError:
        raise TacitError("not JSON that can be read (a number is too long)") from None
    return value


def read_records(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file with one a line, such as a log; a file that is missing has none.

    A killed process leaves half a line: whatever is no object is left out.
    """
    try:
        with open(path, encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in lines:
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(record, dict):
                    yield record
    except OSError:
        return


def iter_jsonl(path: str | os.PathLike, problems: dict[int, str] | None = None) -> Iterator[Trace]:
    """The traces of a JSON Lines file as they are read, for files of millions. Raises `TacitError` as `iter_lines`."""
    return iter_lines(path, lambda line: Trace.from_dict(parse_json(line)), problems)


def read_jsonl(path: str | os.PathLike, problems: dict[int, str] | None = None) -> list[Trace]:
    """The traces of a JSON Lines file. Raises `TacitError` as `iter_lines` does."""
    return list(iter_jsonl(path, problems))


def dump_json(value: Any) -> str:
    """One line of JSON, as every file of tacit's is written: UTF-8, no NaN."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def write_lines(lines: Iterable[str], path: str | os.PathLike) -> None:
    """Writes a whole text file or nothing: an interrupted or failed write leaves what was there.

    Raises:
        TacitError: The folder does not exist, the disk is full, or writing is not allowed.
    """
    # A link (such as /dev/stdout in `> FILE`) stays: the file that it points to is replaced.
    path = Path(os.path.realpath(path)) if os.path.isfile(path) else Path(path)
    part = path.parent / f".{path.name}.part"
    try:
        if os.path.exists(path) and not path.is_file():  # a device or a pipe cannot be replaced
            with open(path, "w", encoding="utf-8", newline="\n") as out:
                out.writelines(f"{line}\n" for line in lines)
            return
        with open(part, "w", encoding="utf-8", newline="\n") as out:
            out.writelines(f"{line}\n" for line in lines)
        part.replace(path)
    except OSError as error:
        raise TacitError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def write_jsonl(traces: Iterable[Trace], path: str | os.PathLike) -> None:
    """Writes traces as JSON Lines, all or nothing (see `write_lines`)."""
    write_lines((dump_json(trace.to_dict()) for trace in traces), path)


# --- datasets --------------------------------------------------------------------------------------------------------


def from_dataset(
    dataset: datasets.Dataset | Iterable[Mapping[str, Any]],
    question: str = "question",
    steps: str = "steps",
    answer: str = "answer",
) -> list[Trace]:
    """Traces from the rows of a `datasets.Dataset` (or any iterable of mappings).

    Args:
        dataset: Rows with the three columns named below, or with TRL's `prompt` and `completion` (steps one a line,
            then `#### answer`).
        question, steps, answer (`str`): Column names. A `steps` cell is a list of strings, a list of objects as in the
            trace contract, or one string, which is split into lines.

    Raises:
        TacitError: A row does not fit; the text names row and field.
    """
    traces = []
    for number, row in enumerate(dataset):
        if not isinstance(row, Mapping):
            raise TacitError(
                f"row {number}: expected columns by name, got {row!r:.40} (of a DatasetDict, give one split)"
            )
        record = {k: v for k, v in row.items() if v is not None}
        try:
            if "prompt" in record and "completion" in record and question not in record:
                traces.append(_from_completion(record))
                continue
            columns = {"question": question, "steps": steps, "answer": answer}
            for column in columns.values():
                if column not in record:
                    raise TacitError(f"column {column!r} is missing (columns: {', '.join(map(str, row))})")
            rest = {k: v for k, v in record.items() if k not in columns.values()}
            record = {**rest, **{field: record[column] for field, column in columns.items()}}
            if isinstance(source := record.get("source"), str):  # JSON text from `to_dataset`, or people's own column
                record["source"] = parse_json(source) if source.startswith("{") else {"source": source}
            if isinstance(record["steps"], str):
                record["steps"] = [line for line in record["steps"].splitlines() if line.strip()]
            record["steps"] = [
                {k: v for k, v in step.items() if v is not None} if isinstance(step, dict) else step
                for step in record["steps"]
            ]
            traces.append(Trace.from_dict(record))
        except TacitError as error:
            raise TacitError(f"row {number}: {error}") from None
    return traces


def _from_completion(record: Mapping[str, Any]) -> Trace:
    chain, marker, answer = _text(record, "completion").rpartition("####")
    if not marker:
        raise TacitError("field 'completion': no '####' before the answer")
    return Trace(
        question=_text(record, "prompt").strip(),
        steps=tuple(Step(line.strip()) for line in chain.splitlines() if line.strip()),
        answer=answer.strip(),
        source={"steps": "lines"},
    )


def to_dataset(traces: Iterable[Trace]) -> datasets.Dataset:
    """A `datasets.Dataset` with the columns of the trace contract; `source` is JSON text, since its keys vary."""
    import datasets

    rows = []
    for trace in traces:
        steps = [{k: getattr(step, k) for k in STEP_FIELDS} for step in trace.steps]
        source = dump_json(dict(trace.source)) if trace.source else None
        rows.append({**trace.to_dict(), "steps": steps, "gold": trace.gold, "source": source})
    text = datasets.Value("string")
    step = dict.fromkeys(STEP_FIELDS, text)
    features = {field: [step] if field == "steps" else text for field in TRACE_FIELDS}
    return datasets.Dataset.from_list(rows, features=datasets.Features(features))


# --- splits ----------------------------------------------------------------------------------------------------------


def split(
    traces: Iterable[Trace], test: float, seed: int, problem: Callable[[Trace], str] | None = None
) -> tuple[list[Trace], list[Trace]]:
    """Splits traces into train and test so that no problem is in both.

    Args:
        traces: In any order; each part keeps it.
        test (`float`): The share of *problems* that goes to the test part, between 0 and 1.
        seed (`int`): Decides which.
        problem (`Callable`, *optional*): Names the problem of a trace; traces of one name stay together. Defaults to
            the question, letter case and white space set aside.

    Raises:
        TacitError: The share leaves one part empty.
    """
    if not 0 < test < 1:
        raise TacitError(f"the test share must lie between 0 and 1, got {test}")
    traces = list(traces)
    name = problem or (lambda trace: " ".join(trace.question.casefold().split()))
    names = [name(trace) for trace in traces]
    problems = sorted(set(names))
    size = round(test * len(problems))
    if not 0 < size < len(problems):
        raise TacitError(f"a test share of {test} of {len(problems)} distinct problems leaves one part empty")
    chosen = set(random.Random(seed).sample(problems, size))
    parts: tuple[list[Trace], list[Trace]] = ([], [])
    for trace, key in zip(traces, names, strict=True):
        parts[key in chosen].append(trace)
    return parts


def iter_text(traces: Iterable[Trace]) -> Iterator[str]:
    """Every text of every trace: what a vocabulary has to cover."""
    for trace in traces:
        yield trace.question
        yield from (step.text for step in trace.steps)
        yield trace.label
