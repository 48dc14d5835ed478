"""What a run folder holds, read for people: every piece may be missing, cut short or odd, except `summary.json`.

Usage: `run = read_run(Path("runs/quickstart"))`, then `run.rows`, `run.cells[0].curves.loss`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tacit.errors import TacitError

Points = list[tuple[float, float]]

SAMPLES = 8  # of each kind


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
    reasoning_tokens: float | None = None
    generated_tokens: float | None = None
    batch_size: float | None = None
    examples_per_second: float | None = None
    relative_speed: float | None = None
    train_seconds: float | None = None
    train_steps: float | None = None
    train_examples: float | None = None


@dataclass(frozen=True)
class Curves:
    """What `metrics.jsonl` tells of one training: (optimizer step, value) pairs in order of steps.

    `removed` holds the steps at which the amount changed, the first and the last; `stages` the steps at which a stage
    began; `total` is the longest chain.
    """

    loss: Points = field(default_factory=list)
    exact_match: Points = field(default_factory=list)
    removed: Points = field(default_factory=list)
    stages: list[float] = field(default_factory=list)
    total: float = 0.0


@dataclass(frozen=True)
class Sample:
    """One prediction as a person reads it. `raw_question` is what the model reads, where that is another text."""

    question: str
    raw_question: str | None
    gold: str
    answer: str
    text: str


@dataclass(frozen=True)
class Predictions:
    """The first right and the first wrong predictions of one cell, and how many there are of each."""

    right: list[Sample] = field(default_factory=list)
    wrong: list[Sample] = field(default_factory=list)
    right_count: int = 0
    wrong_count: int = 0


@dataclass(frozen=True)
class Cell:
    """One method with one seed: what its folder holds."""

    method: str
    seed: int | None
    curves: Curves
    predictions: Predictions


@dataclass(frozen=True)
class Run:
    """A run folder. `facts` are name and value of whatever else is known, flattened: hardware, versions, ..."""

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
    rows.sort(key=lambda row: (methods.index(row.method), -1 if row.seed is None else row.seed))
    task = summary.get("task")
    return Run(
        name=str(summary.get("name") or folder.resolve().name),
        task=None if task is None else _as_text(task),
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
    summary = _parse(text)
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


def _parse(text: str) -> Any:
    """The JSON value, or None for text that is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None  # neither NaN, nor infinite, nor an endless integer


def _row(record: dict[str, Any]) -> Row:
    interval = record.get("ci95")
    low, high = map(_number, interval) if isinstance(interval, list) and len(interval) == 2 else (None, None)
    numbers = {name: _number(record.get(name)) for name in Row.__dataclass_fields__ if name not in ("method", "seed")}
    seed = _number(record.get("seed"))
    return Row(
        method=str(record.get("method", "?")),
        seed=None if seed is None else int(seed),
        **{**numbers, "low": low, "high": high},
    )


def _facts(summary: dict[str, Any], folder: Path) -> list[tuple[str, str]]:
    environment = _parse(_read_text(folder / "environment.json") or "")
    known = environment if isinstance(environment, dict) else {}
    known = {**known, **{key: summary[key] for key in ("hardware", "versions") if summary.get(key)}}
    first = [key for key in ("hardware", "versions") if key in known]
    return [(key, _as_text(known[key])) for key in first + [key for key in known if key not in first]]


def _as_text(value: Any) -> str:
    """JSON as a person writes it: `cpu Xeon, cores 2, gpus none`."""
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_as_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_as_text, value))
    return value if isinstance(value, str) else json.dumps(value)


# --- cells -----------------------------------------------------------------------------------------------------------


def _read_cells(folder: Path, rows: list[Row]) -> list[Cell]:
    """The cells in the order of the rows, then those that have a folder but no row yet."""
    # Looked up by name among the children, so that no method name leads out of the run folder.
    children = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
    cells = []
    for row in rows:
        path = children.pop(f"{row.method}-seed{row.seed}", None) or children.pop(row.method, None)
        if path:
            cells.append(_read_cell(path, row.method, row.seed))
    for name, path in children.items():
        if (path / "metrics.jsonl").is_file() or (path / "predictions.jsonl").is_file():
            method, _, seed = name.rpartition("-seed")
            known = bool(method) and seed.isdecimal()
            cells.append(_read_cell(path, method if known else name, int(seed) if known else None))
    return cells


def _read_cell(path: Path, method: str, seed: int | None) -> Cell:
    return Cell(method, seed, _read_curves(path / "metrics.jsonl"), _read_predictions(path / "predictions.jsonl"))


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file with one a line. A killed run leaves half a line: whatever is none is skipped."""
    try:
        with open(path, encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in lines:
                if isinstance(record := _parse(line), dict):
                    yield record
    except OSError:
        return


def _read_curves(path: Path) -> Curves:
    # By step: after a kill and a resume the file holds the repeated steps twice, and the last word counts.
    loss: dict[float, float] = {}
    exact_match: dict[float, float] = {}
    removed: dict[float, float] = {}
    stages: set[float] = set()
    total = 0.0
    wanted = {"train": ("loss", loss), "eval": ("exact_match", exact_match)}
    for record in _records(path):
        if (step := _number(record.get("step"))) is None:
            continue
        event = record.get("event")
        if event in wanted:
            name, values = wanted[event]
            if (value := _number(record.get(name))) is not None:
                values[step] = value
        elif event == "stage":
            stages.add(step)
        if (amount := _number(record.get("removed"))) is not None:
            removed[step] = amount
        total = max(total, _number(record.get("total")) or 0.0)
    changes = sorted(removed.items())
    last = len(changes) - 1
    changes = [p for i, p in enumerate(changes) if i in (0, last) or p[1] != changes[i - 1][1]]
    return Curves(sorted(loss.items()), sorted(exact_match.items()), changes, sorted(stages), total)


def _read_predictions(path: Path) -> Predictions:
    samples: dict[bool, list[Sample]] = {True: [], False: []}
    counts = {True: 0, False: 0}
    for record in _records(path):
        correct = record.get("correct")
        if not isinstance(correct, bool):
            continue
        counts[correct] += 1
        if len(samples[correct]) < SAMPLES:
            samples[correct].append(_sample(record))
    return Predictions(samples[True], samples[False], counts[True], counts[False])


def _sample(record: dict[str, Any]) -> Sample:
    def text(name: str) -> str:
        value = record.get(name)
        return "" if value is None else _as_text(value)

    def shown(name: str) -> str:
        """What a person would write, where the task has such a form."""
        return text(f"shown_{name}") or text(name)

    question, raw = shown("question"), text("question")
    return Sample(question, raw if raw != question else None, shown("gold"), shown("answer"), text("text"))
