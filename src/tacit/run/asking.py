"""The problems of a recipe put to what was trained, and to what was not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tacit.errors import TacitError
from tacit.evaluation.evaluate import Prediction, evaluate, summarise
from tacit.evaluation.prompting import guess
from tacit.evaluation.socratic import evaluate_dialogues
from tacit.formats import read
from tacit.recipe import Recipe
from tacit.run.beginnings import baseline, placed
from tacit.run.folder import EVALUATION, PREDICTIONS, Cell, cell_like
from tacit.socratic.pipeline import SocraticPipeline, load
from tacit.socratic.rows import guide, questions_of
from tacit.student import Student
from tacit.trace import Trace, dump_json, write_lines

Listener = Callable[[str, dict[str, Any]], None]


def note(cell: Cell, text: str, tell: Listener) -> None:
    """Tells people how a cell gets on."""
    tell(cell.name, {"event": "note", "text": text})


def grade(
    recipe: Recipe, cell: Cell, student: Student | SocraticPipeline, tell: Listener, **given: Any
) -> dict[str, Any]:
    """Lets a student or a pipeline answer the test problems, writes its predictions, and returns their summary.

    Args:
        recipe (`Recipe`): For the value of the cell.
        given: Of a pipeline, the sub-questions or plans of somebody else, as `evaluate_dialogues` takes them.
    """
    test, how = recipe.traces()[2], recipe.evaluation
    note(cell, f"evaluating on {len(test):,} problems", tell)
    if isinstance(student, SocraticPipeline):
        predictions, measures = evaluate_dialogues(student, test, how.batch_size, how.grader, **given)
        return {**_written(cell, predictions, tell), "dialogues": measures}
    return _written(cell, evaluate(student, test, how.batch_size, how.grader), tell)


def _written(cell: Cell, predictions: list[Prediction], tell: Listener) -> dict[str, Any]:
    """Puts what was answered into a cell's folder, and returns its summary."""
    try:
        cell.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TacitError(f"cannot make {cell.folder}: {error.strerror or error}") from None
    write_lines((dump_json(prediction.to_dict()) for prediction in predictions), cell.folder / PREDICTIONS)
    result = summarise(predictions)
    note(cell, f"done: {result['accuracy']:.1%} of {result['n']:,} held-out problems right", tell)
    return result


def answer_untrained(recipe: Recipe, cell: Cell, tell: Listener) -> None:
    """Evaluates a baseline."""
    recipe = recipe.at(cell.value)
    test, how = recipe.traces()[2], recipe.evaluation
    note(cell, f"evaluating on {len(test):,} problems", tell)
    if cell.method == "random":
        predictions = guess(recipe.task, test, cell.seed, how.grader)
    else:
        predictions = baseline(recipe, cell.method).answer(test, how.batch_size, how.grader)
    _written(cell, predictions, tell)


def asked_otherwise(recipe: Recipe, method: str, test: list[Trace]) -> dict[str, Any]:
    """What another way to ask gives to the pipeline, as `evaluate_dialogues` takes it.

    Raises:
        TacitError: There are no sub-questions for a problem, or no steps to take its plan from.
    """
    if method == "gold_plan":
        return {"plans": [guide(trace, recipe.wording.guidance) for trace in test]}
    if method == "calculator":
        return {}
    others = test if method == "oracle" else read(recipe.methods[method]["questions"], recipe.data.format)
    try:
        return {"asked": questions_of(test, others, recipe.task)}
    except TacitError as error:
        where = f"{recipe.methods[method]['questions']}: " if method == "teacher_questions" else ""
        raise TacitError(f"method {method}: {where}{error}") from None


def ask_otherwise(recipe: Recipe, cell: Cell, tell: Listener) -> None:
    """Evaluates the pipeline of `socratic` with the same seed, asked in another way."""
    trained = cell_like(recipe, cell, "socratic")
    recipe = recipe.at(cell.value)
    given = asked_otherwise(recipe, cell.method, recipe.traces()[2])
    pipeline = placed(load(trained.folder))
    pipeline.calculator = cell.method == "calculator"
    result = grade(recipe, cell, pipeline, tell, **given)
    write_lines([json.dumps(result, indent=2)], cell.folder / EVALUATION)
