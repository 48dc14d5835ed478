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
import time
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
from tacit.report.thoughts import WEAK
from tacit.run.asking import Listener, grade, note
from tacit.run.beginnings import Beginnings, placed
from tacit.run.folder import NETWORK, Cell, cell_like, cells
from tacit.student import Student
from tacit.trace import write_lines
from tacit.training.config import StepwiseInternalizationConfig
from tacit.training.data import render_training
from tacit.training.implicit import EmulatorTrainer, ImplicitTrainer

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


def as_share(result: dict[str, Any]) -> dict[str, Any]:
    """The accuracy of an evaluation, as the other shares of `thoughts` are written."""
    return {"share": result["accuracy"], "ci95": result["ci95"], "n": result["n"]}


def _costs(folder: Path) -> dict[str, Any] | None:
    """What the network in a folder cost; None where there is none, or only a part of one."""
    try:
        found = json.loads((folder / NETWORK).read_text(encoding="utf-8"))
        return {key: found[key] for key in COSTS}
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _epochs(settings: StepwiseInternalizationConfig, count: int) -> float:
    """How often a training sees each of so many traces."""
    batch = settings.train_batch_size * settings.gradient_accumulation_steps * settings.world_size
    return settings.max_steps * batch / count if settings.max_steps > 0 else settings.num_train_epochs


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
        return _costs(self.cell.folder / name) is not None

    def take_over(self, name: str, sources: list[tuple[Path, Recipe]]) -> bool:
        """Takes a network from another cell that has trained the very same one. Returns whether there was one."""
        for folder, recipe in sources:
            same = recipe.made_of(self.cell.method, name) == self.recipe.made_of(self.cell.method, name)
            if same and _costs(folder / name) is not None:
                target = self.cell.folder / name
                part = target.with_name(f"{name}.part")
                shutil.rmtree(part, ignore_errors=True)
                leftover = shutil.ignore_patterns("checkpoint-*", "training_args.bin")  # the other cell removes them
                try:
                    shutil.copytree(folder / name, part, ignore=leftover)
                    shutil.rmtree(target, ignore_errors=True)
                    part.rename(target)
                except OSError as error:
                    raise TacitError(f"cannot copy {folder / name} to {target}: {error.strerror or error}") from None
                note(self.cell, f"{name}: taken over from {folder.name}, which trained the same", self.tell)
                return True
        return False

    def train(self, name: str) -> None:
        """Trains a network by itself, from its teacher's states, and saves it."""
        trainer = self._trainer(name, self._beginning(name), self.mind)
        reading = self._keep_states(trainer)
        trainer.train(resume_from_checkpoint=True)
        folder = self.cell.folder / name
        costs = {**trainer.student().info, "train_seconds": round(reading + trainer.metrics.seconds, 1)}
        try:
            trainer.network.save_pretrained(folder)
            write_lines([json.dumps({key: costs[key] for key in COSTS}, indent=2)], folder / NETWORK)
        except OSError as error:
            raise TacitError(f"cannot write {folder}: {error.strerror or error}") from None

    def _beginning(self, name: str) -> PreTrainedModel:
        """A network before its training: the recipe's model or the teacher, and random parts of its own."""
        config = ImplicitConfig(
            text_config=self.teacher.model.config,
            components=self.teacher.model.config.get_text_config().vocab_size if self.how.mixture else 1,
            component_temperature=self.how.temperature,
        )
        if self.how.begin == "teacher":
            model = copy.deepcopy(self.teacher.model).train().requires_grad_(True)
        else:
            model, _ = self.beginnings.make(self.cell.value, self.settings[name], self.cell.seed)
        with torch.random.fork_rng(devices=[]):  # the same ones whatever was done before
            torch.manual_seed(self.cell.seed)
            return KINDS[name](config, model)

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

    def _keep_states(self, trainer: ImplicitTrainer) -> float:
        """Reads the teacher's states of all training traces once, where that is less work and memory allows it.

        Returns:
            The seconds that it took.
        """
        begun, states = time.monotonic(), trainer.states
        assert states is not None  # of a network that reads a mind
        if self.states is not None and np.array_equal(self.states.rendered.ids, states.rendered.ids):
            states.kept = self.states.kept
            return 0.0
        count, size = len(states.rendered), states.bytes_kept / 2**30
        seen = sum(_epochs(self.settings[name], count) for name in KINDS)  # also what is trained: half is not exact
        if seen >= 1 and size <= self.how.states_memory:
            told = f"reading the teacher's states of all traces, {size:.2g} GiB"
            states.keep(lambda read: note(self.cell, f"{told}: {read:,} of {count:,}", self.tell))
            self.states = states
        return time.monotonic() - begun

    # --- both --------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Couples the networks, trains them together, and evaluates the result."""
        own = {name: self._load(name) for name in KINDS}
        for name, network in own.items():
            network.requires_grad_(name != {"student": "mind_reader"}.get(self.how.frozen, self.how.frozen))
        config = copy.deepcopy(own["emulator"].config)
        trainer = self._trainer("coupled", ImplicitModel(config, own["mind_reader"], own["emulator"]))
        trainer.train(resume_from_checkpoint=True)
        student = trainer.student()
        costs = {"coupled": {key: student.info[key] for key in COSTS if key in student.info}}
        costs["coupled"]["train_seconds"] = round(trainer.metrics.seconds, 1)
        costs |= {name: found for name in KINDS if (found := _costs(self.cell.folder / name))}
        costs["teacher"] = {key: self.teacher.info[key] for key in COSTS}
        student.info |= {key: sum(cost[key] for cost in costs.values()) for key in COSTS}
        student.info |= {"networks": costs, "recipe": dict(self.recipe.document)}
        student.info["evaluation"] = grade(self.recipe, self.cell, student, self.tell)
        if (thoughts := self._diagnose()) is not None:
            student.info["evaluation"]["thoughts"] = thoughts
        checkpoint.save(student, self.cell.folder)

    def _load(self, name: str) -> Any:
        """A network from its folder, as it was trained by itself; it may have been there at another temperature."""
        folder = self.cell.folder / name
        try:
            with models.loading(f"the {name}", str(folder)):
                network: Any = placed(KINDS[name].from_pretrained(folder, dtype=torch.float32))
        except TacitError as error:
            raise TacitError(f"{error}; remove {folder}, and it is trained anew") from None
        network.config.component_temperature = self.how.temperature
        return network

    def _diagnose(self) -> dict[str, Any] | None:
        """What each network is worth on the test problems; None where their chains cannot be read."""
        tokenizer, model = self.teacher.tokenizer, self.teacher.model
        solved = [trace for trace in self.recipe.traces()[2] if trace.steps]
        try:
            if not solved:
                raise TacitError("no test problem has a chain")
            rendered, _ = render_training(solved, tokenizer, model, self.settings["coupled"])
        except TacitError as error:
            note(self.cell, f"no accuracy with the teacher's own states: {error}", self.tell)
            return None
        states = TeacherStates(self.mind, rendered, pad_id(tokenizer))
        batcher = ThoughtBatcher(rendered, pad_id(tokenizer), model.device, states)
        found = diagnose(self._load("mind_reader"), self._load("emulator"), batcher, self.recipe.evaluation.batch_size)
        return {"teacher": as_share(self.teacher.info["evaluation"]), **found}
