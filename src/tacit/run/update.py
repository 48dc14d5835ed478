"""A run folder for a changed recipe: what the change reaches is taken out of it, the rest is kept.

`recipe.yaml` stays the old recipe until nothing lies there that the new one would make otherwise: whenever this is cut
short, whatever is in the folder was made by the recipe in it, or is the same for both, and the next try finds it.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from tacit import checkpoint
from tacit.errors import TacitError
from tacit.recipe import NETWORKS, Recipe, load_recipe
from tacit.recipe.sections import Evaluation, check_evaluation
from tacit.run.asking import Listener, grade, note
from tacit.run.beginnings import placed
from tacit.run.folder import Cell, cell_like, cells, own_folders, take_names
from tacit.run.implicit import as_share
from tacit.socratic.pipeline import SocraticPipeline, load

GONE = ".gone"  # where things are moved, each in one instant, before they are removed


def make_way(recipe: Recipe, folder: Path, tell: Listener) -> None:
    """Says what of a run folder a changed recipe keeps and what it makes anew, and removes the latter.

    Raises:
        TacitError: The old recipe cannot be read, or something cannot be removed.
    """
    try:
        old = load_recipe(folder / "recipe.yaml")
    except TacitError as error:  # of another version
        raise TacitError(f"{folder / 'recipe.yaml'}: {error}; add --overwrite instead to start anew") from None
    take_names(old, folder)
    if old.document == recipe.document:
        return
    there = {_key(cell): cell.folder for cell in cells(old, folder) if cell.folder.is_dir()}
    new_sources = _sources(recipe) - _sources(old)  # their explicit stage was not kept
    kept: dict[Path, Cell] = {}
    anew: list[Path] = []
    gone = [folder / "summary.json", folder / "report.html"]
    for cell in cells(recipe, folder):
        path = there.get(_key(cell))
        if path is None:
            note(cell, "new", tell)
        elif _made_of(old, cell) == _made_of(recipe, cell) and cell.method not in new_sources:
            kept[path] = cell
            note(
                cell,
                "kept" if _answering(old.evaluation) == _answering(recipe.evaluation) else "kept, and evaluated anew",
                tell,
            )
        elif networks := _kept_networks(old, recipe, cell, path):
            kept[path] = cell
            gone += [child for child in path.iterdir() if child.name not in networks]
            note(cell, f"made anew; kept: {', '.join(networks)}", tell)
        else:
            anew.append(path)
            note(cell, "made anew", tell)
    others = [path for path in own_folders(folder) if path not in (*kept, *anew)]
    for path in others:
        tell(path.name, {"event": "note", "text": "removed: not in the recipe"})
    try:
        _remove([*gone, *anew, *others], folder / GONE)
        for path, cell in kept.items():
            if cell.folder == cell.seeded:
                path.rename(cell.folder)
    except OSError as error:
        raise TacitError(f"cannot update {folder}: {error.strerror or error}") from None


def _key(cell: Cell) -> tuple[str, int, Any]:
    return cell.method, cell.seed, cell.value


def _sources(recipe: Recipe) -> set[str]:
    """The methods whose explicit stage another one takes."""
    return {own["from"] for own in recipe.methods.values() if "from" in own}


def _made_of(recipe: Recipe, cell: Cell, network: str | None = None) -> list[Any]:
    """Everything besides the seed that makes a cell, or a network of ICoT-KD in it, what it is in a whole recipe."""
    one = recipe.at(cell.value)
    parts = [recipe.task.name, one.made_of(cell.method, network)]
    if not cell.trains:  # it is its evaluation
        parts.append(_answering(recipe.evaluation))
    if one.model.architecture or any(one.students(cell.method).values()):  # words, positions and rows come from all
        for read in (recipe, one):
            files = [own["data"] for own in read.methods.values() if "data" in own]
            parts += [files, read.roles, read.wording if read.roles else None]
    return parts


def _kept_networks(old: Recipe, recipe: Recipe, cell: Cell, folder: Path) -> list[str]:
    """The networks in a cell of ICoT-KD that its other settings do not reach."""
    there = [name for name in NETWORKS if cell.method == "implicit_kd" and (folder / name).is_dir()]
    return [name for name in there if _made_of(old, cell, name) == _made_of(recipe, cell, name)]


def _remove(paths: list[Path], bin_: Path) -> None:
    """Removes files and folders; one that is half removed is never taken for a whole one."""
    shutil.rmtree(bin_, ignore_errors=True)
    bin_.mkdir(exist_ok=True)
    for number, path in enumerate(paths):
        if path.exists():
            path.rename(bin_ / str(number))
    shutil.rmtree(bin_)


# --- evaluated anew --------------------------------------------------------------------------------------------------


def _answering(evaluation: Evaluation) -> Evaluation:
    """What of these settings reaches the answers: all but how many problems are timed."""
    return replace(evaluation, speed_problems=0)


def evaluated_otherwise(recipe: Recipe, cell: Cell) -> bool:
    """Whether the student of a finished cell answered with other settings than the recipe's."""
    before = checkpoint.load_info(cell.folder).get("recipe", {}).get("evaluation") or {}
    return _answering(check_evaluation(before)) != _answering(recipe.evaluation)


def evaluate_anew(recipe: Recipe, cell: Cell, tell: Listener) -> None:
    """Evaluates a finished cell with the recipe's settings; its weights stay."""
    student = placed(load(cell.folder))
    info, before = student.info, student.info["evaluation"]
    info["evaluation"] = grade(recipe.at(cell.value), cell, student, tell)
    info["recipe"] = dict(recipe.at(cell.value).document)
    if "thoughts" in before:  # of which the teacher's result alone is graded
        teacher = checkpoint.load_info(cell_like(recipe, cell, "cot").folder)["evaluation"]
        info["evaluation"]["thoughts"] = {**before["thoughts"], "teacher": as_share(teacher)}
    if isinstance(student, SocraticPipeline):
        student.save_info(cell.folder)
    else:
        checkpoint.save_info(student, cell.folder)
