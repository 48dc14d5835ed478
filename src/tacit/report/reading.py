"""What a run folder holds, read for people: every piece may be missing, cut short or odd, except `summary.json`.

Usage: `run = read_run(Path("runs/quickstart"))`, then `run.rows`, `run.cells[0].curves.loss`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tacit.errors import TacitError
from tacit.report.dialogues import Measures, read_measures
from tacit.report.thoughts import Thoughts, read_thoughts
from tacit.report.values import as_text, number, parse, read_interval
from tacit.trace import read_records

Points = list[tuple[float, float]]

SAMPLES = 8  # of each kind
METRICS = "metrics.jsonl"
NO_NUMBERS = ("method", "seed", "grader", "varied", "dialogues", "thoughts")  # of a row
# Of a cell of several, each in a folder below it; what is coupled of several lies in the cell's own.
STUDENTS = ("decomposer", "solver", "planner", "student", "mind_reader", "emulator")
COUPLED = "coupled"


def cell_name(method: str, seed: int | None, varied: Mapping[str, Any]) -> str:
    """The folder of one method with one seed and one value of a varied key: `cot-samples4-seed0`.

    Args:
        method (`str`): Its name.
        seed (`int`, *optional*): Left out of a run with one seed.
        varied (`Mapping`): `{"data.samples": 4}`, or nothing.
    """
    parts = [str(value) if is_section(key) else f"{key.rpartition('.')[2]}{value}" for key, value in varied.items()]
    parts += [] if seed is None else [f"seed{seed}"]
    return "-".join([method, *(re.sub(r"[^\w.+-]+", "_", part) for part in parts)])


def is_section(key: str) -> bool:
    """Whether a varied key is a section of the recipe, whose settings have labels: `train`, `methods.stepwise`."""
    return key.count(".") == key.startswith("methods.")


def value_of(varied: Mapping[str, Any]) -> Any:
    """The value of the varied key; None where it does not reach the method, or nothing is varied."""
    return next(iter(varied.values()), None)


@dataclass(frozen=True)
class Row:
    """One line of the results table; a value that the run does not know is None.

    The fields are those of `rows` in `summary.json`, with `ci95` as `low` and `high`.
    """

    method: str
    seed: int | None = None
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    n: float | None = None
    grader: str | None = None
    reasoning_tokens: float | None = None
    generated_tokens: float | None = None
    batch_size: float | None = None
    examples_per_second: float | None = None
    relative_speed: float | None = None
    train_seconds: float | None = None
    train_steps: float | None = None
    train_examples: float | None = None
    varied: Mapping[str, Any] = field(default_factory=dict)
    dialogues: Measures = field(default_factory=Measures)
    thoughts: Thoughts = field(default_factory=Thoughts)

    @property
    def value(self) -> Any:
        """Of the varied key."""
        return value_of(self.varied)

    @property
    def milliseconds(self) -> float | None:
        """Per answer."""
        return 1000 / self.examples_per_second if self.examples_per_second and self.examples_per_second > 0 else None


@dataclass(frozen=True)
class Curves:
    """What `metrics.jsonl` tells of one training: (optimizer step, value) pairs in order of steps.

    `removed` holds the steps at which the amount changed, the first and the last; `stages` the steps at which a stage
    began; `total` is the longest chain. `restarts` are (step, what happened in words) where a collapsed training went
    back to an earlier stage, and `outcome` says how it ended where that did not go smoothly.
    """

    loss: Points = field(default_factory=list)
    exact_match: Points = field(default_factory=list)
    removed: Points = field(default_factory=list)
    stages: list[float] = field(default_factory=list)
    total: float = 0.0
    restarts: list[tuple[float, str]] = field(default_factory=list)
    outcome: str = ""


class Turn(NamedTuple):
    """One sub-question of a dialogue, what was written, and what that came to."""

    question: str
    text: str
    answer: str


@dataclass(frozen=True)
class Sample:
    """One prediction as a person reads it. `raw_question` is what the model reads, where that is another text.

    Of a dialogue, `turns` are its sub-questions with their answers, and `notes` is what went wrong in it.
    """

    question: str
    raw_question: str | None
    gold: str
    answer: str
    text: str
    turns: list[Turn] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Predictions:
    """The first right and the first wrong predictions of one cell, and the verdict on every problem.

    A problem is known by its id, its question, and how often the two came before.
    """

    right: list[Sample] = field(default_factory=list)
    wrong: list[Sample] = field(default_factory=list)
    verdicts: Mapping[tuple[str, str, int], bool] = field(default_factory=dict)

    @property
    def right_count(self) -> int:
        """How many problems were answered right."""
        return sum(self.verdicts.values())

    @property
    def wrong_count(self) -> int:
        """How many were not."""
        return len(self.verdicts) - self.right_count


@dataclass(frozen=True)
class Cell:
    """One method with one seed and one value of a varied key: what its folder holds.

    Of a method of several students, `students` has the curves of each by name; `curves` are those of all of them
    coupled, if they are.
    """

    method: str
    seed: int | None
    varied: Mapping[str, Any]
    curves: Curves
    predictions: Predictions
    students: Mapping[str, Curves] = field(default_factory=dict)

    @property
    def trainings(self) -> dict[str, Curves]:
        """The curves of each of its students by name; the name of an only one is empty."""
        named = {**self.students, COUPLED if self.students else "": self.curves}
        return {name: curves for name, curves in named.items() if curves != Curves()}


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    `facts` are name and value of whatever else is known, flattened: hardware, versions, ...
    """

    folder: Path
    name: str
    task: str | None
    rows: list[Row]
    cells: list[Cell]
    recipe: str | None
    facts: list[tuple[str, str]]


def read_run(folder: Path) -> Run:
    """Reads a run folder; rows and cells come grouped by method.

    Raises:
        TacitError: The folder does not exist, or its `summary.json` is missing or no JSON object.
    """
    summary = _read_summary(folder)
    rows = [_row(record) for record in summary.get("rows") or [] if isinstance(record, dict)]
    methods = list(dict.fromkeys(row.method for row in rows))
    values = list(dict.fromkeys(row.value for row in rows))

    def place(row: Row) -> tuple[int, int, int]:
        return methods.index(row.method), values.index(row.value), -1 if row.seed is None else row.seed

    rows.sort(key=place)
    task = summary.get("task")
    return Run(
        folder=folder,
        name=str(summary.get("name") or folder.resolve().name),
        task=None if task is None else as_text(task),
        rows=rows,
        cells=_read_cells(folder, rows),
        recipe=_read_text(folder / "recipe.yaml"),
        facts=_facts(summary, folder),
    )


def _read_summary(folder: Path) -> dict[str, Any]:
    path = folder / "summary.json"
    if not folder.is_dir():
        raise TacitError(f"{folder}: no such run folder")
    text = _read_text(path)
    if text is None:
        raise TacitError(f"{folder}: no run folder, or a run that has not finished: it has no readable summary.json")
    summary = parse(text)
    if not isinstance(summary, dict):
        raise TacitError(f"{path}: not a JSON object; write it again by `tacit run ... --resume`")
    if summary.get("schema", 1) != 1:
        raise TacitError(
            f"{path}: schema {summary['schema']!r} is newer than this tacit, which reads 1; upgrade tacit"
        )
    return summary


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _row(record: dict[str, Any]) -> Row:
    low, high = read_interval(record.get("ci95"))
    numbers = {name: number(record.get(name)) for name in Row.__dataclass_fields__ if name not in NO_NUMBERS}
    seed = number(record.get("seed"))
    return Row(
        method=str(record.get("method", "?")),
        seed=None if seed is None else int(seed),
        grader=None if record.get("grader") is None else str(record["grader"]),
        varied=_varied(record.get("varied")),
        dialogues=read_measures(record.get("dialogues")),
        thoughts=read_thoughts(record.get("thoughts")),
        **{**numbers, "low": low, "high": high},
    )


def _varied(value: Any) -> dict[str, Any]:
    """A key with its value, where that is what a recipe can vary."""
    if not isinstance(value, dict) or len(value) != 1:
        return {}
    (one,) = value.values()
    return value if isinstance(one, str | bool) or number(one) is not None else {}


def _facts(summary: dict[str, Any], folder: Path) -> list[tuple[str, str]]:
    environment = parse(_read_text(folder / "environment.json") or "")
    known = environment if isinstance(environment, dict) else {}
    known = {**known, **{key: summary[key] for key in ("hardware", "versions") if summary.get(key)}}
    first = [key for key in ("hardware", "versions") if key in known]
    return [(key, as_text(known[key])) for key in first + [key for key in known if key not in first]]


# --- cells -----------------------------------------------------------------------------------------------------------


def _read_cells(folder: Path, rows: list[Row]) -> list[Cell]:
    """The cells in the order of the rows, then those that have a folder but no row yet."""
    # Looked up by name among the children, so that no method name leads out of the run folder.
    children = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
    cells = []
    for row in rows:
        names = (cell_name(row.method, seed, row.varied) for seed in (row.seed, None))
        path = next((children.pop(name) for name in names if name in children), None)
        if path:
            cells.append(_read_cell(path, row.method, row.seed, row.varied))
    for name, path in children.items():
        if (path / "predictions.jsonl").is_file() or any(
            (path / student / METRICS).is_file() for student in ("", *STUDENTS)
        ):
            method, _, seed = name.rpartition("-seed")
            known = bool(method) and seed.isdecimal()
            cells.append(_read_cell(path, method if known else name, int(seed) if known else None, {}))
    return cells


def _read_cell(path: Path, method: str, seed: int | None, varied: Mapping[str, Any]) -> Cell:
    curves, predictions = _read_curves(path / METRICS), _read_predictions(path / "predictions.jsonl")
    students = {name: _read_curves(path / name / METRICS) for name in STUDENTS if (path / name).is_dir()}
    return Cell(method, seed, varied, curves, predictions, students)


def _read_curves(path: Path) -> Curves:
    # By step: after a kill and a resume the file holds the repeated steps twice, and the last word counts.
    loss: dict[float, float] = {}
    exact_match: dict[float, float] = {}
    removed: dict[float, float] = {}
    stages: set[float] = set()
    restarts: dict[float, str] = {}
    outcome = ""
    total = 0.0
    wanted = {"train": ("loss", loss), "eval": ("exact_match", exact_match)}
    for record in read_records(path):
        if (step := number(record.get("step"))) is None:
            continue
        event = record.get("event")
        if event in wanted:
            name, values = wanted[event]
            if (value := number(record.get(name))) is not None:
                values[step] = value
        elif event == "stage":
            stages.add(step)
        elif event == "restart":
            restarts[step] = as_text(record.get("text"))
        elif event == "outcome":
            outcome = as_text(record.get("text"))
        if (amount := number(record.get("removed"))) is not None:
            removed[step] = amount
        total = max(total, number(record.get("total")) or 0.0)
    changes = sorted(removed.items())
    last = len(changes) - 1
    changes = [p for i, p in enumerate(changes) if i in (0, last) or p[1] != changes[i - 1][1]]
    return Curves(
        loss=sorted(loss.items()),
        exact_match=sorted(exact_match.items()),
        removed=changes,
        stages=sorted(stages),
        total=total,
        restarts=sorted(restarts.items()),
        outcome=outcome,
    )


def _read_predictions(path: Path) -> Predictions:
    samples: dict[bool, list[Sample]] = {True: [], False: []}
    verdicts: dict[tuple[str, str, int], bool] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for record in read_records(path):
        correct = record.get("correct")
        if not isinstance(correct, bool):
            continue
        problem = (as_text(record.get("id")), as_text(record.get("question")))
        verdicts[*problem, seen[problem]] = correct
        seen[problem] += 1
        if len(samples[correct]) < SAMPLES:
            samples[correct].append(_sample(record))
    return Predictions(samples[True], samples[False], verdicts)


def _sample(record: dict[str, Any]) -> Sample:
    def text(name: str) -> str:
        value = record.get(name)
        return "" if value is None else as_text(value)

    def shown(name: str) -> str:
        """What a person would write, where the task has such a form."""
        return text(f"shown_{name}") or text(name)

    question, raw = shown("question"), text("question")
    turns, notes = record.get("turns"), record.get("notes")
    return Sample(
        question=question,
        raw_question=raw if raw != question else None,
        gold=shown("gold"),
        answer=shown("answer"),
        text=text("text"),
        turns=[_turn(each) for each in turns if isinstance(each, dict)] if isinstance(turns, list) else [],
        notes=list(dict.fromkeys(map(as_text, notes))) if isinstance(notes, list) else [],
    )


def _turn(record: dict[str, Any]) -> Turn:
    return Turn(*("" if record.get(name) is None else as_text(record[name]) for name in Turn._fields))
