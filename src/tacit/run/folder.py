"""A run folder: what is in it, and whether a recipe may use it.

    runs/NAME/
      recipe.yaml  environment.json  summary.json  report.html
      METHOD/ (METHOD-seedS/ with several seeds, METHOD-samples4-seedS/ where the recipe varies data.samples):
        the final checkpoint, stages/, metrics.jsonl, predictions.jsonl; a baseline without training has only the last
        and another way to ask what was trained has evaluation.json, too
      socratic/decomposer/, solver/, planner/ (or student/): a checkpoint, stages/ and metrics.jsonl each
      implicit_kd/mind_reader/, emulator/: a network with its metrics.jsonl each

Usage: `run = Run("runs/quickstart")`, `run.rows`, `run.predictions("stepwise")`,
`run.student("stepwise").ask("4821 * 37")`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tacit import checkpoint
from tacit.environment import environment
from tacit.errors import TacitError
from tacit.evaluation.prompting import BASELINES
from tacit.recipe import METHODS, OTHERWISE, Recipe, load_recipe
from tacit.report.reading import cell_name, value_of
from tacit.socratic.pipeline import SocraticPipeline, load
from tacit.student import Student
from tacit.trace import write_lines

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

PREDICTIONS = "predictions.jsonl"
EVALUATION = "evaluation.json"  # of a cell without a checkpoint that could hold it
NETWORK = "network.json"  # comes last in the folder of a network of ICoT-KD: what it cost


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
    def seeded(self) -> Path:
        """Its folder in a run with several seeds."""
        return self.folder.with_name(cell_name(self.method, self.seed, self.varied))

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


def cell_like(recipe: Recipe, cell: Cell, method: str) -> Cell:
    """The cell of another method with the same seed, at the same value of the varied key where that reaches both."""
    values = recipe.values(method)
    value = cell.value if cell.value in values else values[0]
    others = cells(recipe, cell.folder.parent)
    return next(one for one in others if (one.method, one.seed, one.value) == (method, cell.seed, value))


# --- beginning, and going on ----------------------------------------------------------------------------------------

OWN_FILES = ("recipe.yaml", "environment.json", "summary.json", "report.html")
OWN_FOLDERS = re.compile(rf"({'|'.join([*METHODS, *OTHERWISE, *BASELINES])})(-seed[0-9]+)?")


def check_folder(recipe: Recipe, folder: Path, resume: bool, changes: bool) -> bool:
    """Whether a run was begun in this folder. Raises `TacitError` where it may not be used, or not changed."""
    if folder.exists() and not folder.is_dir():
        raise TacitError(f"{folder} is a file; choose another name for the run folder")
    if folder.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise TacitError(f"{folder} is where you stand; choose a folder of its own for the run")
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if found and not {"recipe.yaml", "environment.json"} <= found:
        raise TacitError(f"{folder} is no run folder and not empty; choose another")
    begun = bool(own_folders(folder))  # what failed before it had trained is no loss
    if begun and resume:
        changed = _differences(load_recipe(folder / "recipe.yaml").document, recipe.document)
        if changed:
            raise TacitError(
                f"{folder} was begun with other settings ({', '.join(changed)}); resume it with those, choose another "
                "folder, or give --update instead of --resume to make anew what they reach, --overwrite to start anew"
            )
    elif begun and not changes:
        raise TacitError(f"{folder} exists; add --resume to go on there, or --overwrite to start anew")
    return begun


def own_folders(folder: Path) -> list[Path]:
    """The cells in a run folder, by name: of any run, and of the recipe that lies in it, also if it had more seeds."""
    if not (folder / "recipe.yaml").is_file():
        return []
    try:
        begun = cells(load_recipe(folder / "recipe.yaml"), folder)
        names = {path.name for cell in begun for path in (cell.folder, cell.seeded)}
    except TacitError:  # of another version
        names = set()
    return [
        path for path in folder.iterdir() if path.is_dir() and (path.name in names or OWN_FOLDERS.fullmatch(path.name))
    ]


@contextmanager
def alone(folder: Path) -> Generator[None]:
    """Makes a run folder and keeps it for this process: two that train the same cells would spoil each other's.

    Raises:
        TacitError: Another process is at work there, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TacitError(f"cannot make {folder}: {error.strerror or error}") from None
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems know no locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TacitError(
                    f"another process is carrying out a run in {folder}; wait for it, or stop it"
                ) from None
        yield
    finally:
        os.close(handle)


def begin(recipe: Recipe, folder: Path, goes_on: bool, overwrite: bool) -> None:
    """Notes what is begun; with `overwrite`, what an earlier run left goes first, and nothing else."""
    try:
        if overwrite:
            for path in own_folders(folder):
                shutil.rmtree(path)
            for name in OWN_FILES:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise TacitError(f"cannot empty {folder}: {error.strerror or error}") from None
    about = _environment_since(folder / "environment.json") if goes_on else environment()
    write_lines([json.dumps(about, indent=2)], folder / "environment.json")
    text = yaml.safe_dump(dict(recipe.document), sort_keys=False, allow_unicode=True).rstrip()
    write_lines([text], folder / "recipe.yaml")
    take_names(recipe, folder)


def take_names(recipe: Recipe, folder: Path) -> None:
    """Gives the cells of a recipe with one seed their short names, where an update from or to several was cut short.

    A name with its seed is never mistaken: `tacit.run.update` changes names only while `recipe.yaml` has one seed.
    """
    for cell in cells(recipe, folder):
        if cell.seeded.is_dir() and not cell.folder.exists():
            cell.seeded.rename(cell.folder)


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
