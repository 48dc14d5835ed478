"""One cell of a run trained: its student, or the students of its pipeline one after another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tacit import checkpoint
from tacit.evaluation.evaluate import render_problems
from tacit.recipe import NETWORKS, Recipe
from tacit.run.asking import Listener, grade
from tacit.run.beginnings import Beginnings, placed
from tacit.run.folder import Cell, cell_like
from tacit.run.implicit import train_implicit
from tacit.socratic.pipeline import STUDENTS, SocraticPipeline
from tacit.student import Student
from tacit.trace import read_records
from tacit.training.progress import METRICS
from tacit.training.resume import GOOD
from tacit.training.trainer import StepwiseInternalizationTrainer


def train_cell(recipe: Recipe, cell: Cell, beginnings: Beginnings, tell: Listener) -> None:
    """Trains and evaluates one cell; goes on from its last whole checkpoint.

    Raises:
        Interrupted: Stopped by a signal, with a checkpoint.
    """
    students = recipe.at(cell.value).students(cell.method)
    if cell.method == "implicit_kd":
        train_implicit(recipe, cell, beginnings, tell)
        clean_up(cell.folder)
        return
    recipe = recipe.at(cell.value)
    if "" in students:
        _finish(recipe, cell, _train(recipe, cell, "", students[""], beginnings, tell), tell)
    else:
        for name, roles in students.items():
            if not checkpoint.is_checkpoint(cell.folder / name):
                student = _train(recipe, cell, name, roles, beginnings, tell)
                checkpoint.save(student, cell.folder / name)
        _finish_pipeline(recipe, cell, list(students), tell)
    clean_up(cell.folder)


def _train(
    recipe: Recipe, cell: Cell, name: str, roles: tuple[str, ...], beginnings: Beginnings, tell: Listener
) -> Student:
    """Trains one student of a cell: its only one in the cell's folder, another one in a folder below."""
    folder = cell.folder / name
    shown = f"{cell.name}/{name}" if name else cell.name
    tell(shown, {"event": "note", "text": "preparing data"})
    settings = recipe.settings(cell.method, cell.seed, folder, name)
    train, evaluated = recipe.examples(cell.method, roles, settings)
    model, tokenizer = beginnings.make(cell.value, settings, cell.seed)
    student = Student(model, tokenizer, settings.make_template(tokenizer))
    render_problems(student, recipe.traces()[2])  # errors before hours of training
    trainer = StepwiseInternalizationTrainer(
        model,
        settings,
        train_dataset=train,
        eval_dataset=evaluated or None,
        processing_class=tokenizer,
        task=recipe.task,
        listener=lambda line: tell(shown, line),
    )
    trainer.about = {"name": recipe.name, "seed": cell.seed}
    if roles:
        trainer.about |= {"method": name or cell.method, "reads": train[-1].question}
    tell(shown, {"event": "note", "text": trainer.describe()})
    trainer.train(resume_from_checkpoint=True)
    if trainer.removed in settings.keep_stages:
        trainer.keep_stage()
    student = trainer.student()
    student.info["train_seconds"] = round(trainer.metrics.seconds, 1)
    return student


def _finish(recipe: Recipe, cell: Cell, student: Student, tell: Listener) -> None:
    """Evaluates a student, then writes its predictions and, last of all, its checkpoint."""
    student.info |= {"evaluation": grade(recipe, cell, student, tell), "recipe": dict(recipe.document)}
    checkpoint.save(student, cell.folder)


def _finish_pipeline(recipe: Recipe, cell: Cell, names: list[str], tell: Listener) -> None:
    """The same for students that work together: from their folders, whenever they were trained."""
    students = {name: checkpoint.load(cell.folder / name) for name in names}
    info: dict[str, Any] = {"name": recipe.name, "method": cell.method, "seed": cell.seed}
    info["recipe"] = dict(recipe.document)
    for key in ("train_seconds", "train_steps", "train_examples"):
        info[key] = sum(student.info[key] for student in students.values())
    if restarts := sum(student.info.get("restarts", 0) for student in students.values()):
        info["restarts"] = restarts
    pipeline = placed(SocraticPipeline.of(students, recipe.wording, recipe.socratic.max_questions, info))
    info["evaluation"] = grade(recipe, cell, pipeline, tell)
    pipeline.save_info(cell.folder)


def take_stage(recipe: Recipe, cell: Cell, tell: Listener) -> None:
    """Makes a cell of the model at the end of another method's explicit stage."""
    other = cell_like(recipe, cell, recipe.methods[cell.method]["from"])
    student = checkpoint.load(other.folder / "stages" / "000")
    lines = read_records(other.folder / METRICS)
    seconds = max((line["seconds"] for line in lines if line["step"] <= student.info["train_steps"]), default=0.0)
    student.info |= {
        "name": recipe.name,
        "method": cell.method,
        "seed": cell.seed,
        "train_seconds": round(seconds, 1),
    }
    _finish(recipe.at(cell.value), cell, student, tell)


def clean_up(folder: Path) -> None:
    """Removes what a finished cell needs no more."""
    for place in (folder, *(folder / name for name in (*STUDENTS, *NETWORKS))):
        for leftover in (*place.glob("checkpoint-*"), place / GOOD, place / "training_args.bin"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
