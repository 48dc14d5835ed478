"""`summary.json`: a row for each cell, with its result, its cost and its speed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tacit import checkpoint
from tacit.environment import environment
from tacit.evaluation.evaluate import Prediction, measure_speed, summarise
from tacit.recipe import OTHERWISE, Recipe
from tacit.run.asking import Listener
from tacit.run.beginnings import placed
from tacit.run.folder import EVALUATION, PREDICTIONS, Cell, cells
from tacit.socratic.pipeline import load
from tacit.trace import read_records


def summarise_run(recipe: Recipe, folder: Path, tell: Listener) -> dict[str, Any]:
    """`summary.json`. Baselines cost no training, and are not timed."""
    done = cells(recipe, folder)
    batch_size = recipe.evaluation.batch_size
    speeds = _speeds(recipe, [cell for cell in done if cell.trains], tell)
    plain = {(cell.seed, cell.value): speeds[cell.name] for cell in done if cell.method == "no_cot"}
    rows = []
    for cell in done:
        info = checkpoint.load_info(cell.folder) if cell.trains else _untrained_info(cell)
        speed = speeds.get(cell.name)
        base = plain.get((cell.seed, cell.value), plain.get((cell.seed, None)))
        rows.append(
            {
                "method": cell.method,
                "seed": cell.seed,
                **({"varied": {key: _finite(value) for key, value in cell.varied.items()}} if cell.varied else {}),
                **info["evaluation"],
                "batch_size": batch_size,
                "examples_per_second": round(speed, 1) if speed else None,
                "relative_speed": round(speed / base, 3) if speed and base else None,
                **{key: info[key] for key in ("train_seconds", "train_steps", "train_examples")},
                **({"restarts": info["restarts"]} if "restarts" in info else {}),
            }
        )
    about = environment()
    return {
        "schema": 1,
        "task": recipe.task.name,
        "hardware": about["hardware"],
        "versions": about["versions"],
        "rows": rows,
    }


def _untrained_info(cell: Cell) -> dict[str, Any]:
    if cell.method in OTHERWISE:
        result = json.loads((cell.folder / EVALUATION).read_text(encoding="utf-8"))
    else:
        result = summarise([Prediction(**line) for line in read_records(cell.folder / PREDICTIONS)])
    return {"evaluation": result, "train_seconds": 0.0, "train_steps": 0, "train_examples": 0}


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _speeds(recipe: Recipe, trained: list[Cell], tell: Listener) -> dict[str, float]:
    """Answers per second by cell, of all students of a seed on the same problems in turn: they meet the same noise."""
    count, batch_size = recipe.evaluation.speed_problems, recipe.evaluation.batch_size
    questions = {
        value: tuple(trace.question for trace in recipe.at(value).traces()[2][:count])
        for value in dict.fromkeys(cell.value for cell in trained)
    }
    groups: dict[Any, list[Cell]] = {}
    for cell in trained:
        groups.setdefault((cell.seed, questions[cell.value]), []).append(cell)
    speeds: dict[str, float] = {}
    for (_, asked), group in groups.items():
        students = "1 student" if len(group) == 1 else f"{len(group)} students"
        tell("speed", {"event": "note", "text": f"timing {students} at batch size {batch_size}"})
        measured = measure_speed([placed(load(cell.folder)) for cell in group], asked, batch_size)
        speeds.update(zip((cell.name for cell in group), measured, strict=True))
    return speeds
