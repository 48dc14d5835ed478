"""A cell of ICoT-KD: mind-reading student, thought emulator, and both coupled, from the teacher that `cot` trained.

    implicit_kd/
      mind_reader/  emulator/     each a network with its metrics; network.json comes last and says what it cost
      the coupled model's checkpoint, metrics.jsonl, predictions.jsonl

A network that another cell of the run has trained with the same settings and seed is taken over.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from tacit import checkpoint, models
from tacit.errors import TacitError
from tacit.evaluation.thoughts import diagnose
from tacit.implicit.modeling import ImplicitConfig, ImplicitModel, MindReadingStudent, ThoughtEmulator
from tacit.implicit.states import Mind, TeacherStates, ThoughtBatcher
from tacit.models import pad_id
from tacit.recipe import Recipe
from tacit.run.asking import Listener, grade, note
from tacit.run.beginnings import Beginnings, placed
from tacit.run.folder import NETWORK, Cell, cell_like, cells
from tacit.student import Student
from tacit.trace import write_lines
from tacit.training.data import render_training
from tacit.training.implicit import EmulatorTrainer, ImplicitTrainer

WEAK = 0.9  # the exact match of a teacher below which people are warned
KINDS: dict[str, type[PreTrainedModel]] = {"mind_reader": MindReadingStudent, "emulator": ThoughtEmulator}
COSTS = ("train_steps", "train_examples", "train_seconds")


def train_implicit(recipe: Recipe, cell: Cell, beginnings: Beginnings, tell: Listener) -> None:
    """Trains the networks of a cell one after another, and evaluates them coupled.

    Args:
        recipe (`Recipe`): The whole one, whatever it varies.

    Raises:
        Interrupted: Stopped by a signal, with a checkpoint.
        TacitError: A network cannot be trained, read or written.
    """
    others = [one for one in cells(recipe, cell.folder.parent) if (one.method, one.seed) == (cell.method, cell.seed)]
    sources = [(one.folder, recipe.at(one.value)) for one in others if one != cell]
    teacher = placed(checkpoint.load(cell_like(recipe, cell, "cot").folder))
    thinking = _Thinking(recipe.at(cell.value), cell, teacher, beginnings, tell)
    thinking.warn_of_weakness()
    for name in KINDS:
        if not thinking.has(name):
            thinking.take_over(name, sources) or thinking.train(name)
    thinking.finish()


class _Thinking:
    """The networks of one cell in the making.

    Args:
        recipe (`Recipe`): For the value of the cell.
        cell (`Cell`): Where they go.
        teacher (`Student`): Writes its chain of thought.
    """

    def __init__(self, recipe: Recipe, cell: Cell, teacher: Student, beginnings: Beginnings, tell: Listener) -> None:
        self.recipe, self.cell, self.teacher, self.beginnings, self.tell = recipe, cell, teacher, beginnings, tell
        self.how = recipe.implicit
        self.mind = Mind(teacher.model, self.how.states, self.how.stride)
        self.states: TeacherStates | None = None  # of the training traces, where they are kept
        # All at once: new settings would reset what a Trainer that exists has set up.
        places = {**{name: cell.folder / name for name in KINDS}, "coupled": cell.folder}
        self.settings = {name: recipe.settings(cell.method, cell.seed, at, name) for name, at in places.items()}

    def warn_of_weakness(self) -> None:
        """Says what the teacher is worth: that it was trained too briefly is the first thing to go wrong."""
        accuracy = self.teacher.info["evaluation"]["accuracy"]
        weak = "; a weak teacher: its students can hardly do better, train cot longer" if accuracy < WEAK else ""
        text = f"the teacher (cot) is right on {accuracy:.1%} of the problems{weak}"
        self.tell(self.cell.name, {"event": "warning" if weak else "note", "text": text})

    # --- one network -------------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether a network lies in its folder."""
        return (self.cell.folder / name / NETWORK).is_file()

    def take_over(self, name: str, sources: list[tuple[Path, Recipe]]) -> bool:
        """Takes a network from another cell that has trained the very same one. Returns whether there was one."""
        for folder, recipe in sources:
            same = recipe.made_of(self.cell.method, name) == self.recipe.made_of(self.cell.method, name)
            if same and (folder / name / NETWORK).is_file():
                target = self.cell.folder / name
                part = target.with_name(f"{name}.part")
                shutil.rmtree(part, ignore_errors=True)
                shutil.copytree(folder / name, part)
                shutil.rmtree(target, ignore_errors=True)
                part.rename(target)
                note(self.cell, f"{name}: taken over from {folder.name}, which trained the same", self.tell)
                return True
        return False

    def train(self, name: str) -> None:
        """Trains a network by itself, from its teacher's states, and saves it."""
        config = ImplicitConfig(
            text_config=self.teacher.model.config,
            components=self.teacher.model.config.get_text_config().vocab_size if self.how.mixture else 1,
            component_temperature=self.how.temperature,
        )
        trainer = self._trainer(name, KINDS[name](config, self._language_model(name)), self.mind)
        self._keep_states(trainer)
        trainer.train(resume_from_checkpoint=True)
        folder = self.cell.folder / name
        costs = {**trainer.student().info, "train_seconds": round(trainer.metrics.seconds, 1)}
        try:
            trainer.network.save_pretrained(folder)
            write_lines([json.dumps({key: costs[key] for key in COSTS}, indent=2)], folder / NETWORK)
        except OSError as error:
            raise TacitError(f"cannot write {folder}: {error.strerror or error}") from None

    def _language_model(self, name: str) -> PreTrainedModel:
        """What a network begins with: the recipe's model, or the teacher."""
        if self.how.begin == "teacher":
            return copy.deepcopy(self.teacher.model).train().requires_grad_(True)
        model, _ = self.beginnings.make(self.cell.value, self.settings[name], self.cell.seed)
        return model

    def _trainer(self, name: str, network: PreTrainedModel, mind: Mind | None = None) -> ImplicitTrainer:
        shown, settings = f"{self.cell.name}/{name}", self.settings[name]
        self.tell(shown, {"event": "note", "text": "preparing data"})
        train, evaluated = self.recipe.examples(self.cell.method, (), settings)
        kind, own = (
            (EmulatorTrainer, {"component_weight": self.how.component_weight})
            if name == "emulator"
            else (ImplicitTrainer, {})
        )
        trainer = kind(
            network,
            settings,
            train_dataset=train,
            eval_dataset=evaluated or None,
            processing_class=copy.deepcopy(self.teacher.tokenizer),
            task=self.recipe.task,
            listener=lambda line: self.tell(shown, line),
            mind=mind,
            **own,
        )
        trainer.about |= {"name": self.recipe.name, "seed": self.cell.seed}
        self.tell(shown, {"event": "note", "text": trainer.describe()})
        return trainer

    def _keep_states(self, trainer: ImplicitTrainer) -> None:
        """Reads the teacher's states of all training traces once, where that is less work and memory allows it."""
        states = trainer.states
        assert states is not None  # of a network that reads a mind
        if self.states is not None and np.array_equal(self.states.rendered.ids, states.rendered.ids):
            states.kept = self.states.kept
            return
        left = sum(self.settings[name].max_steps for name in KINDS if not self.has(name))
        draws = left * trainer.get_total_train_batch_size(trainer.args)
        size = states.bytes_kept / 2**30
        if len(states.rendered) <= draws and size <= self.how.states_memory:
            count, told = len(states.rendered), f"reading the teacher's states of all traces, {size:.2g} GiB"
            states.keep(lambda read: note(self.cell, f"{told}: {read:,} of {count:,}", self.tell))
            self.states = states

    # --- both --------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Couples the networks, trains them together, and evaluates the result."""
        own = {name: self._load(name) for name in KINDS}
        for name, network in own.items():
            network.requires_grad_(name != {"student": "mind_reader"}.get(self.how.frozen, self.how.frozen))
        config = copy.deepcopy(own["emulator"].config)
        config.component_temperature = self.how.temperature
        trainer = self._trainer("coupled", ImplicitModel(config, own["mind_reader"], own["emulator"]))
        trainer.train(resume_from_checkpoint=True)
        student = trainer.student()
        costs = {"coupled": {key: student.info[key] for key in COSTS if key in student.info}}
        costs["coupled"]["train_seconds"] = round(trainer.metrics.seconds, 1)
        for name in KINDS:
            costs[name] = json.loads((self.cell.folder / name / NETWORK).read_text(encoding="utf-8"))
        costs["teacher"] = {key: self.teacher.info[key] for key in COSTS}
        student.info |= {key: sum(cost[key] for cost in costs.values()) for key in COSTS}
        student.info |= {"networks": costs, "recipe": dict(self.recipe.document)}
        student.info["evaluation"] = grade(self.recipe, self.cell, student, self.tell)
        if (thoughts := self._diagnose()) is not None:
            student.info["evaluation"]["thoughts"] = thoughts
        checkpoint.save(student, self.cell.folder)

    def _load(self, name: str) -> Any:
        """A network from its folder, as it was trained by itself."""
        folder = self.cell.folder / name
        with models.loading(f"the {name}", str(folder)):
            return placed(KINDS[name].from_pretrained(folder, dtype=torch.float32))

    def _diagnose(self) -> dict[str, Any] | None:
        """What each network is worth on the test problems; None where their chains cannot be read."""
        tokenizer, model = self.teacher.tokenizer, self.teacher.model
        solved = [trace for trace in self.recipe.traces()[2] if trace.steps]
        try:
            rendered, _ = render_training(solved, tokenizer, model, self.settings["coupled"])
        except TacitError as error:
            note(self.cell, f"no accuracy with the teacher's own states: {error}", self.tell)
            return None
        states = TeacherStates(self.mind, rendered, pad_id(tokenizer))
        batcher = ThoughtBatcher(rendered, pad_id(tokenizer), model.device, states)
        found = diagnose(self._load("mind_reader"), self._load("emulator"), batcher, self.recipe.evaluation.batch_size)
        result = self.teacher.info["evaluation"]
        return {"teacher": {"share": result["accuracy"], "ci95": result["ci95"], "n": result["n"]}, **found}
