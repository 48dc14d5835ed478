"""Runs: a recipe carried out, and the folder that it leaves behind.

    runs/NAME/
      recipe.yaml  environment.json  summary.json  report.html
      METHOD/ (METHOD-seedS/ with several seeds): the final checkpoint, stages/, metrics.jsonl, predictions.jsonl

A cell is one method with one seed. Cells are trained one after another, or side by side in processes of their own
(`jobs`); each resumes exactly where it was killed.

Usage: `run = carry_out(recipe, "runs/quickstart")`; `run = Run("runs/quickstart")`, `run.rows`,
`run.predictions("stepwise")`, `run.student("stepwise").ask("4821 * 37")`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from tacit import checkpoint, models
from tacit.environment import environment
from tacit.errors import TacitError
from tacit.evaluation.evaluate import evaluate, measure_speed, render_problems, summarise
from tacit.recipe import METHODS, Recipe, load_recipe, parse_recipe
from tacit.report import write_report
from tacit.student import Student
from tacit.trace import dump_json, iter_text, write_lines
from tacit.training.progress import METRICS, read_metrics
from tacit.training.trainer import Interrupted, StepwiseInternalizationTrainer

Listener = Callable[[str, dict[str, Any]], None]
PREDICTIONS = "predictions.jsonl"


class Run:
    """A run folder, read lazily.

    Args:
        folder: Of a finished run.

    Raises:
        TacitError: The folder holds no `summary.json`.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        if not (self.folder / "summary.json").is_file():
            raise TacitError(f"{folder}: no finished run here (summary.json is missing)")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`summary.json`."""
        return json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row a method and seed: accuracy, its interval, tokens, speed, training cost."""
        return self.summary["rows"]

    def cell(self, method: str, seed: int | None = None) -> Path:
        """The folder of one method and seed (the first seed by default). Raises `TacitError` where there is none."""
        for row in self.rows:
            if row["method"] == method and seed in (None, row["seed"]):
                several = len({row["seed"] for row in self.rows}) > 1
                return self.folder / _cell_name(method, row["seed"], several)
        known = ", ".join(f"{row['method']} (seed {row['seed']})" for row in self.rows)
        raise TacitError(f"{self.folder}: no method {method!r} with seed {seed}; there are: {known}")

    def predictions(self, method: str, seed: int | None = None) -> list[dict[str, Any]]:
        """What the student of a method answered, one dict a problem."""
        path = self.cell(method, seed) / PREDICTIONS
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def student(self, method: str, seed: int | None = None) -> Student:
        """The trained student of a method."""
        return checkpoint.load(self.cell(method, seed))


def _cell_name(method: str, seed: int, several: bool) -> str:
    return f"{method}-seed{seed}" if several else method


@dataclass(frozen=True)
class Cell:
    """One method with one seed, and its folder."""

    method: str
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """As the progress display shows it."""
        return self.folder.name

    @property
    def finished(self) -> bool:
        """Whether training and evaluation are on disk."""
        return checkpoint.is_checkpoint(self.folder) and (self.folder / PREDICTIONS).is_file()


def cells(recipe: Recipe, folder: Path) -> list[Cell]:
    """All cells of a recipe, in its order."""
    several = len(recipe.seeds) > 1
    return [
        Cell(method, seed, folder / _cell_name(method, seed, several))
        for seed in recipe.seeds
        for method in recipe.methods
    ]


def carry_out(
    recipe: Recipe,
    folder: str | os.PathLike,
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Run:
    """Trains and evaluates everything that a recipe names.

    Args:
        recipe (`Recipe`): What to do.
        folder: The run folder.
        resume (`bool`): Go on in a folder that exists; finished cells are kept, the others resume exactly.
        overwrite (`bool`): Remove a folder that exists, and start anew.
        listener (`Callable`, *optional*): Called with (cell name, line): each line of the cells' `metrics.jsonl`, and
            `{"event": "note", "text"}`.

    Raises:
        TacitError: Bad settings or data, the folder exists, or it belongs to another recipe.
        KeyboardInterrupt: Stopped by a signal; `resume` goes on.
    """
    folder = Path(folder)
    tell = listener or (lambda name, line: None)
    begun = _check_folder(recipe, folder, resume, overwrite)
    if not (begun and resume):
        _rehearse(recipe, folder)
    _begin(recipe, folder, overwrite)
    todo = [cell for cell in cells(recipe, folder) if not cell.finished]
    for cell in cells(recipe, folder):
        if cell.finished:  # perhaps killed while it cleaned up
            _clean_up(cell)
    if not todo and all((folder / name).is_file() for name in ("summary.json", "report.html")):
        return Run(folder)
    trained = [cell for cell in todo if "from" not in recipe.methods[cell.method]]
    if recipe.jobs > 1 and len(trained) > 1:
        _train_side_by_side(recipe, trained, tell)
    else:
        for cell in trained:
            train_cell(recipe, cell, tell)
    for cell in todo:
        if cell not in trained:
            _take_stage(recipe, cell, folder, tell)
    summary = _summarise(recipe, folder, tell)
    write_lines([json.dumps(summary, indent=2, ensure_ascii=False)], folder / "summary.json")
    write_report([folder], folder / "report.html")
    return Run(folder)


OWN_FILES = ("recipe.yaml", "environment.json", "summary.json", "report.html")
OWN_FOLDERS = re.compile(rf"({'|'.join(METHODS)})(-seed[0-9]+)?")


def _check_folder(recipe: Recipe, folder: Path, resume: bool, overwrite: bool) -> bool:
    """Whether a run was begun in this folder. Raises `TacitError` where it may not be used."""
    if folder.exists() and not folder.is_dir():
        raise TacitError(f"{folder} is a file; choose another name for the run folder")
    if folder.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise TacitError(f"{folder} is where you stand; choose a folder of its own for the run")
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if found and not {"recipe.yaml", "environment.json"} <= found:
        raise TacitError(f"{folder} is no run folder and not empty; choose another")
    begun = any(OWN_FOLDERS.fullmatch(name) for name in found)  # what failed before it had trained is no loss
    if begun and resume:
        changed = _differences(load_recipe(folder / "recipe.yaml").document, recipe.document)
        if changed:
            raise TacitError(
                f"{folder} was begun with other settings ({', '.join(changed)}); resume it with those, choose another "
                "folder, or add --overwrite instead of --resume to start anew"
            )
    elif begun and not overwrite:
        raise TacitError(f"{folder} exists; add --resume to go on there, or --overwrite to start anew")
    return begun


def _rehearse(recipe: Recipe, folder: Path) -> None:
    """Settings, data, model and held-out problems once, so that their errors come before anything is removed."""
    settings = [recipe.settings(cell.method, cell.seed, cell.folder) for cell in cells(recipe, folder)]
    train, validation, test = recipe.traces()
    model, tokenizer = _model(recipe, train, [*train, *validation, *test], settings[0], 0)
    render_problems(Student(model, tokenizer, settings[0].template), test)


def _begin(recipe: Recipe, folder: Path, overwrite: bool) -> None:
    """Makes the folder; with `overwrite`, what an earlier run left in it goes first, and nothing else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for path in list(folder.iterdir()):
                if path.is_dir() and OWN_FOLDERS.fullmatch(path.name):
                    shutil.rmtree(path)
                elif path.name in OWN_FILES:
                    path.unlink()
    except OSError as error:
        raise TacitError(f"cannot make {folder}: {error.strerror or error}") from None
    write_lines([json.dumps(environment(), indent=2)], folder / "environment.json")
    text = yaml.safe_dump(dict(recipe.document), sort_keys=False, allow_unicode=True).rstrip()
    write_lines([text], folder / "recipe.yaml")


def _differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Dotted keys whose values differ; `jobs` may."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = dict.fromkeys([*before, *after])
        found = [_differences(before.get(k), after.get(k), f"{path}.{k}" if path else str(k)) for k in keys]
        return [key for keys in found for key in keys]
    return [] if before == after or path == "jobs" else [path]


def train_cell(recipe: Recipe, cell: Cell, tell: Listener) -> None:
    """Trains and evaluates one cell; goes on from its last whole checkpoint.

    Raises:
        Interrupted: Stopped by a signal, with a checkpoint.
    """
    tell(cell.name, {"event": "note", "text": "preparing data"})
    train, validation, test = recipe.traces()
    settings = recipe.settings(cell.method, cell.seed, cell.folder)
    model, tokenizer = _model(recipe, train, [*train, *validation, *test], settings, cell.seed)
    render_problems(Student(model, tokenizer, settings.template), test)  # errors before hours of training
    trainer = StepwiseInternalizationTrainer(
        model,
        settings,
        train_dataset=train,
        eval_dataset=validation or None,
        processing_class=tokenizer,
        task=recipe.task,
        listener=lambda line: tell(cell.name, line),
    )
    size = f"{models.parameter_count(model):,} parameters, {len(trainer.rendered):,} traces"
    if trainer.left_out:
        size += f" ({trainer.left_out:,} longer than max_length left out)"
    tell(cell.name, {"event": "note", "text": size})
    trainer.train(resume_from_checkpoint=True)
    if trainer.removed in settings.keep_stages:
        trainer.keep_stage()
    student = trainer.student()
    student.info |= {"name": recipe.name, "seed": cell.seed, "train_seconds": round(trainer.metrics.seconds, 1)}
    _finish(recipe, cell, student, test, tell)
    _clean_up(cell)


def _clean_up(cell: Cell) -> None:
    """Removes what a finished training needs no more."""
    for leftover in (*cell.folder.glob("checkpoint-*"), cell.folder / "training_args.bin"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def _model(recipe: Recipe, train: list, everything: list, settings: Any, seed: int) -> tuple[Any, Any]:
    wanted = recipe.model
    if wanted.name is not None:
        return models.load(wanted.name, wanted.attn_implementation, wanted.trust_remote_code)
    assert wanted.architecture is not None  # the recipe has one of the two
    tokenizer = models.word_tokenizer([settings.template.words, *iter_text(train)])
    # Room for the longest target behind the longest prompt, also where no trace has both.
    prompts = [len(settings.template.write_prompt(trace.question).split()) for trace in everything]
    wholes = [len(settings.template.write(trace)[0].split()) + 1 for trace in everything]
    longest = max(prompts) + max(whole - prompt for prompt, whole in zip(prompts, wholes, strict=True))
    model = models.from_config(
        wanted.architecture, wanted.config, tokenizer, longest + 8, seed, wanted.attn_implementation
    )
    return model, tokenizer


def _finish(recipe: Recipe, cell: Cell, student: Student, test: list, tell: Listener) -> None:
    """Evaluates a student, then writes its predictions and, last of all, its checkpoint."""
    tell(cell.name, {"event": "note", "text": f"evaluating on {len(test):,} problems"})
    predictions = evaluate(student, test, recipe.evaluation.batch_size)
    student.info["evaluation"] = summarise(predictions)
    student.info["recipe"] = dict(recipe.document)
    cell.folder.mkdir(parents=True, exist_ok=True)
    write_lines((dump_json(prediction.to_dict()) for prediction in predictions), cell.folder / PREDICTIONS)
    checkpoint.save(student, cell.folder)
    accuracy = student.info["evaluation"]["accuracy"]
    tell(cell.name, {"event": "note", "text": f"done: {accuracy:.1%} of {len(test):,} held-out problems right"})


def _take_stage(recipe: Recipe, cell: Cell, folder: Path, tell: Listener) -> None:
    """Makes a cell of the model at the end of another method's explicit stage."""
    other = next(
        one
        for one in cells(recipe, folder)
        if (one.method, one.seed) == (recipe.methods[cell.method]["from"], cell.seed)
    )
    student = checkpoint.load(other.folder / "stages" / "000")
    lines = read_metrics(other.folder / METRICS)
    seconds = max((line["seconds"] for line in lines if line["step"] <= student.info["train_steps"]), default=0.0)
    student.info |= {
        "name": recipe.name,
        "method": cell.method,
        "seed": cell.seed,
        "train_seconds": round(seconds, 1),
    }
    _finish(recipe, cell, student, recipe.traces()[2], tell)


# --- side by side ----------------------------------------------------------------------------------------------------


def _train_side_by_side(recipe: Recipe, waiting: list[Cell], tell: Listener) -> None:
    """Trains cells in processes of their own, `jobs` at a time. A signal reaches all; each keeps a checkpoint."""
    context = multiprocessing.get_context("spawn")
    lines = context.Queue()
    threads = max(1, environment()["hardware"]["cores"] // recipe.jobs)
    waiting = list(waiting)
    running: dict[str, Any] = {}
    failed: list[str] = []
    interrupted = False
    watching = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    if watching:  # a polite kill ends all of them politely
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while waiting or running:
            while waiting and len(running) < recipe.jobs and not failed and not interrupted:
                cell = waiting.pop(0)
                process = context.Process(
                    target=_work, args=(dict(recipe.document), cell, threads, lines, os.getpid())
                )
                process.start()
                running[cell.name] = process
            try:
                name, line = lines.get(timeout=0.2)
                if line["event"] == "failed":
                    failed.append(f"{name}: {line['text']}")
                    tell(name, {"event": "note", "text": f"failed: {line['text']}"})
                else:
                    tell(name, line)
                continue
            except queue.Empty:
                pass
            for name, process in list(running.items()):
                if not process.is_alive():
                    del running[name]
                    interrupted |= process.exitcode == INTERRUPTED
                    if process.exitcode not in (0, INTERRUPTED) and not failed:
                        failed.append(f"{name}: the process ended with status {process.exitcode}")
            if (failed or interrupted) and not running:
                break
    except KeyboardInterrupt:
        interrupted = True
        for process in running.values():
            if process.is_alive() and process.pid:
                os.kill(process.pid, signal.SIGTERM)
        for process in running.values():
            process.join()
    finally:
        if watching:
            signal.signal(signal.SIGTERM, before)
    if failed:
        raise TacitError("; ".join(failed))
    if interrupted:
        raise Interrupted


INTERRUPTED = 130


def _work(document: dict[str, Any], cell: Cell, threads: int, lines: Any, parent: int) -> None:
    """The process of one cell."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    models.hush()
    try:
        train_cell(parse_recipe(document), cell, lambda name, line: lines.put((name, line)))
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except TacitError as error:
        lines.put((cell.name, {"event": "failed", "text": str(error)}))
        raise SystemExit(1) from None


def _end_with(parent: int) -> None:
    """Ends this process when its parent is killed: nobody would resume a training that still runs."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


# --- the result ------------------------------------------------------------------------------------------------------


def _summarise(recipe: Recipe, folder: Path, tell: Listener) -> dict[str, Any]:
    """`summary.json`: speed is measured here, of all students in turn, so that they meet the same noise."""
    done = cells(recipe, folder)
    problems = recipe.evaluation.speed_problems
    batch_size = recipe.evaluation.batch_size
    tell("speed", {"event": "note", "text": f"timing {len(done)} students at batch size {batch_size}"})
    students = [checkpoint.load(cell.folder) for cell in done]
    questions = [trace.question for trace in recipe.traces()[2][:problems]]
    speeds = measure_speed(students, questions, batch_size)
    baseline = {cell.seed: speed for cell, speed in zip(done, speeds, strict=True) if cell.method == "no_cot"}
    rows = []
    for cell, student, speed in zip(done, students, speeds, strict=True):
        info, base = student.info, baseline.get(cell.seed)
        rows.append(
            {
                "method": cell.method,
                "seed": cell.seed,
                **info["evaluation"],
                "batch_size": batch_size,
                "examples_per_second": round(speed, 1),
                "relative_speed": round(speed / base, 3) if base else None,
                **{key: info[key] for key in ("train_seconds", "train_steps", "train_examples")},
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
