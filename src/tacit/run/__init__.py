"""Runs: a recipe carried out, and the folder that it leaves behind.

A cell is one method with one seed, and one value of what the recipe varies where that reaches the method. Cells are
trained one after another, or side by side in processes of their own (`jobs`); each resumes exactly where it was
killed. What only asks again what another cell has trained comes last.

Usage: `run = carry_out(recipe, "runs/quickstart")`; `run = Run("runs/quickstart")`, `run.rows`,
`run.predictions("stepwise")`, `run.student("stepwise").ask("4821 * 37")`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tacit.evaluation.prompting import BASELINES
from tacit.recipe import OTHERWISE, Recipe
from tacit.report import write_report
from tacit.run.asking import Listener, answer_untrained, ask_otherwise
from tacit.run.beginnings import Beginnings
from tacit.run.folder import Cell, Run, alone, begin, cells, check_folder
from tacit.run.processes import train_side_by_side
from tacit.run.rehearsal import rehearse
from tacit.run.summary import summarise_run
from tacit.run.training import clean_up, take_stage, train_cell
from tacit.run.update import evaluate_anew, evaluated_otherwise, make_way
from tacit.trace import write_lines

__all__ = ["Cell", "Run", "carry_out", "cells"]


def carry_out(
    recipe: Recipe,
    folder: str | os.PathLike,
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener | None = None,
    update: bool = False,
) -> Run:
    """Trains and evaluates everything that a recipe names.

    Args:
        recipe (`Recipe`): What to do.
        folder: The run folder.
        resume (`bool`): Go on in a folder that exists; finished cells are kept, the others resume exactly.
        overwrite (`bool`): Remove a folder that exists, and start anew.
        listener (`Callable`, *optional*): Called with (cell name, line): each line of the cells' `metrics.jsonl`, and
            `{"event": "note", "text"}`; a note of the run as a whole has the name "recipe" or "speed".
        update (`bool`): Go on in a folder that exists with changed settings; what they reach is made anew, the rest
            is kept, and what the recipe does not have is removed.

    Raises:
        TacitError: Bad settings or data, the folder exists, it belongs to another recipe, or another process is at
            work there.
        KeyboardInterrupt: Stopped by a signal; `resume` goes on.
    """
    folder = Path(folder)
    tell = listener or (lambda name, line: None)
    beginnings = Beginnings(recipe)
    goes_on = check_folder(recipe, folder, resume, overwrite or update) and (resume or update)
    if update or not goes_on:
        rehearse(recipe, folder, beginnings, tell)
    with alone(folder):
        if update and goes_on:
            make_way(recipe, folder, tell)
        return _carry_out(recipe, folder, goes_on, overwrite, beginnings, tell)


def _carry_out(
    recipe: Recipe, folder: Path, goes_on: bool, overwrite: bool, beginnings: Beginnings, tell: Listener
) -> Run:
    planned = cells(recipe, folder)
    if goes_on:
        for cell in planned:
            if cell.finished:  # perhaps killed while it cleaned up
                clean_up(cell.folder)
        last = (folder / name for name in ("summary.json", "report.html"))
        if all(cell.finished for cell in planned) and all(path.is_file() for path in last):
            return Run(folder)
    begin(recipe, folder, goes_on, overwrite)
    done = [cell for cell in planned if cell.trains and cell.finished and evaluated_otherwise(recipe, cell)]
    for cell in sorted(done, key=lambda cell: cell.method == "implicit_kd"):  # whose teacher comes first
        evaluate_anew(recipe, cell, tell)
    todo = [cell for cell in planned if not cell.finished]
    for cell in todo:
        if cell.method in BASELINES:
            answer_untrained(recipe, cell, tell)
    trained = [cell for cell in todo if cell.trains and "from" not in recipe.methods[cell.method]]
    trained.sort(key=lambda cell: cell.method == "implicit_kd")  # which the students of other cells teach
    late = [cell for cell in trained if cell.method == "implicit_kd" and "from" in recipe.methods["cot"]]
    _train([cell for cell in trained if cell not in late], recipe, beginnings, tell)
    for cell in todo:
        if cell.method in OTHERWISE:
            ask_otherwise(recipe, cell, tell)
        elif cell.trains and cell not in trained:
            take_stage(recipe, cell, tell)
    _train(late, recipe, beginnings, tell)
    summary = summarise_run(recipe, folder, tell)
    write_lines([json.dumps(summary, indent=2, ensure_ascii=False)], folder / "summary.json")
    write_report([folder], folder / "report.html")
    return Run(folder)


def _train(trained: list[Cell], recipe: Recipe, beginnings: Beginnings, tell: Listener) -> None:
    """Trains cells that do not wait for each other."""
    if recipe.jobs > 1 and len(trained) > 1:
        train_side_by_side(recipe, trained, beginnings, tell)
    else:
        for cell in trained:
            train_cell(recipe, cell, beginnings, tell)
