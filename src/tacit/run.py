"""Runs: a recipe carried out, and the folder that it leaves behind.

    runs/NAME/
      recipe.yaml  environment.json  summary.json  report.html
      METHOD/ (METHOD-seedS/ with several seeds, METHOD-samples4-seedS/ where the recipe varies data.samples):
        the final checkpoint, stages/, metrics.jsonl, predictions.jsonl; a baseline without training has only the last

A cell is one method with one seed, and one value of what the recipe varies where that reaches the method. Cells are
trained one after another, or side by side in processes of their own (`jobs`); each resumes exactly where it was
killed.

Usage: `run = carry_out(recipe, "runs/quickstart")`; `run = Run("runs/quickstart")`, `run.rows`,
`run.predictions("stepwise")`, `run.student("stepwise").ask("4821 * 37")`.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import queue
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from tacit import checkpoint, models
from tacit.environment import environment
from tacit.errors import TacitError
from tacit.evaluation.evaluate import Prediction, evaluate, measure_speed, render_problems, summarise
from tacit.evaluation.prompting import BASELINES, PROMPT_OF, Baseline, Prompting, guess
from tacit.evaluation.socratic import evaluate_dialogues
from tacit.formats import read
from tacit.recipe import METHODS, OTHERWISE, Recipe, load_recipe, parse_recipe
from tacit.report import write_report
from tacit.report.reading import cell_name, value_of
from tacit.socratic.pipeline import SocraticPipeline, load
from tacit.socratic.rows import guide, is_socratic, questions_of
from tacit.student import Student
from tacit.trace import Trace, dump_json, iter_text, read_records, write_lines
from tacit.training.data import render_training
from tacit.training.progress import METRICS
from tacit.training.restarts import Interrupted
from tacit.training.resume import GOOD
from tacit.training.trainer import StepwiseInternalizationTrainer

Listener = Callable[[str, dict[str, Any]], None]
PREDICTIONS = "predictions.jsonl"
EVALUATION = "evaluation.json"  # of a cell without a checkpoint that could hold it


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
        """One row a method, seed and varied value: accuracy, its interval, tokens, speed, training cost."""
        return self.summary["rows"]

    def cell(self, method: str, seed: int | None = None, value: Any = None) -> Path:
        """The folder of one method, seed and value of the varied key; by default the first seed and the first value.

        Raises:
            TacitError: There is none.
        """
        several = len({row["seed"] for row in self.rows}) > 1
        for row in self.rows:
            varied = row.get("varied", {})
            if row["method"] == method and seed in (None, row["seed"]) and value in (None, *varied.values()):
                return self.folder / cell_name(method, row["seed"] if several else None, varied)
        wanted = f"{method!r} with seed {seed}" + (f" and value {value!r}" if value is not None else "")
        raise TacitError(f"{self.folder}: no method {wanted}; there are: {', '.join(map(_row_name, self.rows))}")

    def predictions(self, method: str, seed: int | None = None, value: Any = None) -> list[dict[str, Any]]:
        """What the student of a method answered, one dict a problem."""
        path = self.cell(method, seed, value) / PREDICTIONS
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def student(self, method: str, seed: int | None = None, value: Any = None) -> Student | SocraticPipeline:
        """The trained student of a method; of `socratic` all of them, as a pipeline."""
        return load(self.cell(method, seed, value))


def _row_name(row: dict[str, Any]) -> str:
    varied = "".join(f", {key} {value}" for key, value in row.get("varied", {}).items())
    return f"{row['method']} (seed {row['seed']}{varied})"


@dataclass(frozen=True)
class Cell:
    """One method with one seed, and its folder; `varied` is the varied key with a value, if it reaches the method."""

    method: str
    seed: int
    varied: Mapping[str, Any]
    folder: Path

    @property
    def name(self) -> str:
        """As the progress display shows it."""
        return self.folder.name

    @property
    def value(self) -> Any:
        """Of the varied key."""
        return value_of(self.varied)

    @property
    def trains(self) -> bool:
        """Whether it is a student of this run, and no baseline."""
        return self.method in METHODS

    @property
    def finished(self) -> bool:
        """Whether training and evaluation are on disk."""
        if self.method in OTHERWISE:
            return (self.folder / EVALUATION).is_file()
        trained = not self.trains or checkpoint.is_checkpoint(self.folder)
        return trained and (self.folder / PREDICTIONS).is_file()


def cells(recipe: Recipe, folder: Path) -> list[Cell]:
    """All cells of a recipe, in its order; a baseline without training has the first seed alone.

    Raises:
        TacitError: Two values of the varied key would share a folder.
    """
    trains = any(method in METHODS for method in recipe.methods)
    several = trains and len(recipe.seeds) > 1
    made = []
    for seed in recipe.seeds:
        for method in recipe.methods:
            if method not in BASELINES or seed == recipe.seeds[0]:
                for value in recipe.values(method):
                    varied = {} if value is None else {str(recipe.varied): value}
                    name = cell_name(method, seed if several else None, varied)
                    made.append(Cell(method, seed, varied, folder / name))
    names = [cell.name for cell in made]
    if twice := [name for name in names if names.count(name) > 1]:
        raise TacitError(f"two values of {recipe.varied} would share the folder {twice[0]}; rename one of them")
    return made


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
    goes_on = _check_folder(recipe, folder, resume, overwrite) and resume
    if not goes_on:
        _rehearse(recipe, folder)
    planned = cells(recipe, folder)
    if goes_on:
        for cell in planned:
            if cell.finished:  # perhaps killed while it cleaned up
                _clean_up(cell.folder)
        last = (folder / name for name in ("summary.json", "report.html"))
        if all(cell.finished for cell in planned) and all(path.is_file() for path in last):
            return Run(folder)
    _begin(recipe, folder, goes_on, overwrite)
    todo = [cell for cell in planned if not cell.finished]
    for cell in todo:
        if cell.method in BASELINES:
            _answer_untrained(recipe, cell, tell)
    trained = [cell for cell in todo if cell.trains and "from" not in recipe.methods[cell.method]]
    if recipe.jobs > 1 and len(trained) > 1:
        _train_side_by_side(recipe, trained, tell)
    else:
        for cell in trained:
            train_cell(recipe, cell, tell)
    for cell in todo:
        if cell.method in OTHERWISE:
            _ask_otherwise(recipe, cell, folder, tell)
        elif cell.trains and cell not in trained:
            _take_stage(recipe, cell, folder, tell)
    summary = _summarise(recipe, folder, tell)
    write_lines([json.dumps(summary, indent=2, ensure_ascii=False)], folder / "summary.json")
    write_report([folder], folder / "report.html")
    return Run(folder)


OWN_FILES = ("recipe.yaml", "environment.json", "summary.json", "report.html")
OWN_FOLDERS = re.compile(rf"({'|'.join([*METHODS, *OTHERWISE, *BASELINES])})(-seed[0-9]+)?")


def _check_folder(recipe: Recipe, folder: Path, resume: bool, overwrite: bool) -> bool:
    """Whether a run was begun in this folder. Raises `TacitError` where it may not be used."""
    if folder.exists() and not folder.is_dir():
        raise TacitError(f"{folder} is a file; choose another name for the run folder")
    if folder.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise TacitError(f"{folder} is where you stand; choose a folder of its own for the run")
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if found and not {"recipe.yaml", "environment.json"} <= found:
        raise TacitError(f"{folder} is no run folder and not empty; choose another")
    begun = bool(_own_folders(folder))  # what failed before it had trained is no loss
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


def _own_folders(folder: Path) -> list[Path]:
    """The cells in a run folder, by name: of any run, and of the recipe that lies in it."""
    if not (folder / "recipe.yaml").is_file():
        return []
    try:
        names = {cell.name for cell in cells(load_recipe(folder / "recipe.yaml"), folder)}
    except TacitError:  # of another version
        names = set()
    return [
        path for path in folder.iterdir() if path.is_dir() and (path.name in names or OWN_FOLDERS.fullmatch(path.name))
    ]


REHEARSED = 5_000  # traces of a method: rendering all may take minutes


def _rehearse(recipe: Recipe, folder: Path) -> None:
    """Settings, model and data once, so that their errors come before anything is removed, or trained for hours."""
    planned = cells(recipe, folder)
    for cell in planned:
        if cell.trains:
            for name in recipe.at(cell.value).students(cell.method):
                recipe.at(cell.value).settings(cell.method, cell.seed, cell.folder / name, name)
    for variant in recipe.variants.values() or (recipe,):
        train, validation, test = variant.traces()
        trained = [method for method, own in variant.methods.items() if method in METHODS and "from" not in own]
        if trained:
            settings = variant.settings(trained[0], variant.seeds[0], folder)
            model, tokenizer = _model(variant, train, [*validation, *test], settings, 0)
            render_problems(Student(model, tokenizer, settings.make_template(tokenizer)), test)
        for method in trained:
            for name, roles in variant.students(method).items():
                settings = variant.settings(method, variant.seeds[0], folder, name)
                rows = variant.rows(roles, variant.traces(method)[0][:REHEARSED])
                render_training(rows, tokenizer, model, settings)
        for method in variant.methods:
            if method in OTHERWISE:
                _asked_otherwise(variant, method, test)
        for method in variant.methods:
            if method in PROMPT_OF:
                baseline = _baseline(variant, method)
                baseline.prompts(baseline.unseen(test))


def _begin(recipe: Recipe, folder: Path, goes_on: bool, overwrite: bool) -> None:
    """Makes the folder; with `overwrite`, what an earlier run left in it goes first, and nothing else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for path in _own_folders(folder):
                shutil.rmtree(path)
            for name in OWN_FILES:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise TacitError(f"cannot make {folder}: {error.strerror or error}") from None
    about = _environment_since(folder / "environment.json") if goes_on else environment()
    write_lines([json.dumps(about, indent=2)], folder / "environment.json")
    text = yaml.safe_dump(dict(recipe.document), sort_keys=False, allow_unicode=True).rstrip()
    write_lines([text], folder / "recipe.yaml")


def _environment_since(path: Path) -> dict[str, Any]:
    """What a run was begun with; where it goes on with something else, that is noted under `resumed`."""
    try:
        begun = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):  # edited by hand
        return environment()
    resumed = begun.get("resumed", [])
    last = {**begun, **{key: value for change in resumed for key, value in change.items()}}
    change = {key: value for key, value in environment().items() if value != last.get(key)}
    return {**begun, "resumed": [*resumed, change]} if change else begun


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
    recipe = recipe.at(cell.value)
    students = {
        name: _train_student(recipe, cell, name, roles, tell) for name, roles in recipe.students(cell.method).items()
    }
    test = recipe.traces()[2]
    if "" in students:
        _finish(recipe, cell, students[""], test, tell)
    else:
        _finish_pipeline(recipe, cell, students, test, tell)
    _clean_up(cell.folder)


def _train_student(recipe: Recipe, cell: Cell, name: str, roles: tuple[str, ...], tell: Listener) -> Student:
    """Trains one student of a cell: its only one in the cell's folder, another one in a folder below."""
    folder = cell.folder / name
    if name and checkpoint.is_checkpoint(folder):
        return checkpoint.load(folder)
    shown = f"{cell.name}/{name}" if name else cell.name
    tell(shown, {"event": "note", "text": "preparing data"})
    train, validation, test = recipe.traces(cell.method)
    settings = recipe.settings(cell.method, cell.seed, folder, name)
    model, tokenizer = _model(recipe, train, [*validation, *test], settings, cell.seed)
    student = Student(model, tokenizer, settings.make_template(tokenizer))
    render_problems(student, test)  # errors before hours of training
    trainer = StepwiseInternalizationTrainer(
        model,
        settings,
        train_dataset=recipe.rows(roles, train),
        eval_dataset=recipe.rows(roles, [trace for trace in validation if not roles or is_socratic(trace)]) or None,
        processing_class=tokenizer,
        task=recipe.task,
        listener=lambda line: tell(shown, line),
    )
    size = f"{models.parameter_count(model):,} parameters, {len(trainer.rendered):,} traces"
    if trainer.left_out:
        size += f" ({', '.join(f'{count:,} {reason}' for reason, count in trainer.left_out.items())} left out)"
    tell(shown, {"event": "note", "text": size})
    trainer.train(resume_from_checkpoint=True)
    if trainer.removed in settings.keep_stages:
        trainer.keep_stage()
    student = trainer.student()
    student.info |= {"name": recipe.name, "seed": cell.seed, "train_seconds": round(trainer.metrics.seconds, 1)}
    if roles:
        student.info |= {"method": name or cell.method, "reads": recipe.rows(roles, train[:1])[-1].question}
    if name:
        checkpoint.save(student, folder)
        _clean_up(folder)
    return student


def _clean_up(folder: Path) -> None:
    """Removes what a finished training needs no more."""
    for leftover in (*folder.glob("checkpoint-*"), folder / GOOD, folder / "training_args.bin"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def _model(recipe: Recipe, train: list[Trace], held_out: list[Trace], settings: Any, seed: int) -> tuple[Any, Any]:
    wanted = recipe.model
    if wanted.name is not None:
        return models.load(wanted.name, wanted.attn_implementation, wanted.trust_remote_code)
    assert wanted.architecture is not None  # the recipe has one of the two
    known = recipe.all_training_traces(train)
    roles = dict.fromkeys(
        role for method in recipe.methods for one in recipe.students(method).values() for role in one
    )
    written = [(known, [*known, *held_out])]  # what vocabulary and positions are made for: the traces, and all rows
    for role in roles:
        rows = recipe.rows([role], known)
        written.append((rows, [*rows, *recipe.rows([role], [trace for trace in held_out if is_socratic(trace)])]))
    if wanted.tokenizer in ("words", "bpe"):
        learn = models.word_tokenizer if wanted.tokenizer == "words" else models.bpe_tokenizer
        tokenizer = learn([settings.make_template().words, *(text for rows, _ in written for text in iter_text(rows))])
    else:
        tokenizer = models.load_tokenizer(wanted.tokenizer)
    template = settings.make_template(tokenizer)

    def lengths(texts: list[str]) -> list[int]:
        if wanted.tokenizer == "words":  # also where a held-out text has a word that the vocabulary lacks
            return [len(text.split()) for text in texts]
        return [len(ids) for ids in tokenizer(texts, verbose=False).input_ids]

    longest = 0
    for _, rows in written:  # room for the longest target behind the longest prompt, also where no trace has both
        prompts = lengths([template.write_prompt(row.question) for row in rows])
        wholes = lengths([template.write(row)[0] for row in rows])
        targets = (whole - prompt for prompt, whole in zip(prompts, wholes, strict=True))
        longest = max(longest, max(prompts) + max(targets) + 1)
    model = models.from_config(
        wanted.architecture, wanted.config, tokenizer, longest + 8, seed, wanted.attn_implementation
    )
    return model, tokenizer


def _baseline(recipe: Recipe, method: str) -> Baseline:
    """The model of a recipe as it was before any training, to be asked by prompts."""
    wanted = recipe.model
    assert wanted.name is not None  # the recipe was checked
    model, tokenizer = models.load(wanted.name, wanted.attn_implementation, wanted.trust_remote_code)
    return Baseline(_placed(model), tokenizer, recipe.task, method, Prompting(**recipe.methods[method]))


def _placed(model: Any) -> Any:
    """The model where it would be trained: on the GPU, where there is one."""
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _answer_untrained(recipe: Recipe, cell: Cell, tell: Listener) -> None:
    """Evaluates a baseline."""
    recipe = recipe.at(cell.value)
    test, grader = recipe.traces()[2], recipe.evaluation.grader
    tell(cell.name, {"event": "note", "text": f"evaluating on {len(test):,} problems"})
    if cell.method == "random":
        predictions = guess(recipe.task, test, cell.seed, grader)
    else:
        predictions = _baseline(recipe, cell.method).answer(test, recipe.evaluation.batch_size, grader)
    _tell_done(cell, _write_predictions(cell, predictions), tell)


def _finish_pipeline(
    recipe: Recipe, cell: Cell, students: dict[str, Student], test: list[Trace], tell: Listener
) -> None:
    """The same for students that work together."""
    pipeline = SocraticPipeline.of(students, recipe.wording, recipe.socratic.max_questions, {})
    costs = [student.info for student in students.values()]
    pipeline.info |= {"name": recipe.name, "method": cell.method, "seed": cell.seed, "recipe": dict(recipe.document)}
    pipeline.info |= {
        key: sum(info[key] for info in costs) for key in ("train_seconds", "train_steps", "train_examples")
    }
    tell(cell.name, {"event": "note", "text": f"evaluating on {len(test):,} problems"})
    pipeline.info["evaluation"] = _evaluate_dialogues(recipe, cell, pipeline, test, {})
    pipeline.save(cell.folder)
    _tell_done(cell, pipeline.info["evaluation"], tell)


def _evaluate_dialogues(
    recipe: Recipe, cell: Cell, pipeline: SocraticPipeline, test: list[Trace], given: dict[str, Any]
) -> dict[str, Any]:
    """Lets a pipeline answer, with sub-questions or plans of somebody else where `given` has them."""
    predictions, measures = evaluate_dialogues(
        pipeline, test, recipe.evaluation.batch_size, recipe.evaluation.grader, **given
    )
    return {**_write_predictions(cell, predictions), "dialogues": measures}


def _asked_otherwise(recipe: Recipe, method: str, test: list[Trace]) -> dict[str, Any]:
    """What another way to ask gives to the pipeline.

    Raises:
        TacitError: There are no sub-questions for a problem.
    """
    if method == "gold_plan":
        return {"plans": [guide(trace, recipe.wording.guidance) for trace in test]}
    if method == "calculator":
        return {}
    others = test if method == "oracle" else read(recipe.methods[method]["questions"], recipe.data.format)
    return {"asked": questions_of(test, others, recipe.task)}


def _ask_otherwise(recipe: Recipe, cell: Cell, folder: Path, tell: Listener) -> None:
    """Evaluates the pipeline of `socratic` with the same seed, asked in another way."""
    trained = next(
        one
        for one in cells(recipe, folder)
        if (one.method, one.seed, one.varied) == ("socratic", cell.seed, cell.varied)
    )
    recipe = recipe.at(cell.value)
    test = recipe.traces()[2]
    tell(cell.name, {"event": "note", "text": f"evaluating on {len(test):,} problems"})
    pipeline = load(trained.folder)
    assert isinstance(pipeline, SocraticPipeline)
    pipeline.calculator = cell.method == "calculator"
    result = _evaluate_dialogues(recipe, cell, pipeline, test, _asked_otherwise(recipe, cell.method, test))
    write_lines([json.dumps(result, indent=2)], cell.folder / EVALUATION)
    _tell_done(cell, result, tell)


def _finish(recipe: Recipe, cell: Cell, student: Student, test: list[Trace], tell: Listener) -> None:
    """Evaluates a student, then writes its predictions and, last of all, its checkpoint."""
    tell(cell.name, {"event": "note", "text": f"evaluating on {len(test):,} problems"})
    predictions = evaluate(student, test, recipe.evaluation.batch_size, recipe.evaluation.grader)
    student.info["evaluation"] = _write_predictions(cell, predictions)
    student.info["recipe"] = dict(recipe.document)
    checkpoint.save(student, cell.folder)
    _tell_done(cell, student.info["evaluation"], tell)


def _write_predictions(cell: Cell, predictions: list[Prediction]) -> dict[str, Any]:
    """Puts what was answered into a cell's folder, and returns its summary."""
    try:
        cell.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TacitError(f"cannot make {cell.folder}: {error.strerror or error}") from None
    write_lines((dump_json(prediction.to_dict()) for prediction in predictions), cell.folder / PREDICTIONS)
    return summarise(predictions)


def _tell_done(cell: Cell, result: dict[str, Any], tell: Listener) -> None:
    text = f"done: {result['accuracy']:.1%} of {result['n']:,} held-out problems right"
    tell(cell.name, {"event": "note", "text": text})


def _take_stage(recipe: Recipe, cell: Cell, folder: Path, tell: Listener) -> None:
    """Makes a cell of the model at the end of another method's explicit stage."""
    wanted = (recipe.methods[cell.method]["from"], cell.seed, cell.varied)
    other = next(one for one in cells(recipe, folder) if (one.method, one.seed, one.varied) == wanted)
    student = checkpoint.load(other.folder / "stages" / "000")
    lines = read_records(other.folder / METRICS)
    seconds = max((line["seconds"] for line in lines if line["step"] <= student.info["train_steps"]), default=0.0)
    student.info |= {
        "name": recipe.name,
        "method": cell.method,
        "seed": cell.seed,
        "train_seconds": round(seconds, 1),
    }
    recipe = recipe.at(cell.value)
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
                _start(process)
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


def _start(process: Any) -> None:
    """Starts a process that Ctrl-C reaches when it has come to its work: before, it would print a traceback."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _work(document: dict[str, Any], cell: Cell, threads: int, lines: Any, parent: int) -> None:
    """The process of one cell."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        torch.set_num_threads(threads)
        models.hush()
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
        tell("speed", {"event": "note", "text": f"timing {len(group)} students at batch size {batch_size}"})
        students = [load(cell.folder) for cell in group]
        for student in students:
            for part in student.students.values() if isinstance(student, SocraticPipeline) else [student]:
                _placed(part.model)
        measured = measure_speed(students, asked, batch_size)
        speeds.update(zip((cell.name for cell in group), measured, strict=True))
    return speeds
