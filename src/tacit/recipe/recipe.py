"""A recipe once it is read: its methods' students, training settings and traces."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tacit.errors import TacitError
from tacit.formats import read
from tacit.recipe.checking import field_names
from tacit.recipe.methods import METHODS, NETWORKS, OTHERWISE, OWN_KEYS, SEVERAL, ImplicitKD, Socratic
from tacit.recipe.reader import Parts, Reader, first_samples
from tacit.recipe.sections import Data, Evaluation, Model
from tacit.rendering import TEMPLATES, Template
from tacit.socratic.rows import Wording, is_socratic
from tacit.tasks import Task
from tacit.trace import Trace
from tacit.training.config import StepwiseInternalizationConfig


@dataclass(frozen=True)
class Recipe:
    """One experiment. `document` is the YAML it was made from, with all overrides: what the run folder keeps.

    Where it varies a key, `variants` holds the recipe for each value, and its own fields are those for the first.
    """

    name: str
    task: Task
    data: Data
    model: Model
    train: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    evaluation: Evaluation
    jobs: int
    document: Mapping[str, Any]
    varied: str | None = None
    variants: Mapping[Any, Recipe] = field(default_factory=dict)
    reader: Reader = field(default_factory=Reader, compare=False, repr=False)

    def at(self, value: Any) -> Recipe:
        """The recipe for one value of the varied key; the recipe itself for None."""
        return self if value is None else self.variants[value]

    def values(self, method: str) -> list[Any]:
        """The values for which a method makes cells of its own: [None] where the varied key does not reach it."""
        made_of = [variant.made_of(method) for variant in self.variants.values()]
        return list(self.variants) if any(parts != made_of[0] for parts in made_of) else [None]

    def made_of(self, method: str, network: str | None = None) -> list[Any]:
        """Everything besides the seed that makes a method's result what it is, or one of the networks of ICoT-KD."""
        own = self.methods[method]
        if method in OTHERWISE:
            return [own, *self.made_of("socratic")]
        if "from" in own:
            return [own, *self.made_of(own["from"])]
        whole = method in METHODS and "data" not in own
        data = self.data if whole else dataclasses.replace(self.data, train=0, samples=None)
        if network is not None:  # whatever follows it has no part in it
            settings, own = {**self.train, **self._own_settings(method, network)}, self._said(method, network)
        else:
            settings = {**self.train, **own}
        parts: list[Any] = [own, data]
        if method in METHODS:
            parts.append(settings)
        if method != "random":
            parts.append(self.model)
        return [*parts, *self.made_of("cot")] if method == "implicit_kd" else parts

    def _said(self, method: str, network: str) -> dict[str, Any]:
        """What a network of ICoT-KD depends on, of what the method says of itself."""
        data = self.methods[method].get("data")
        return {"data": data, **{key: getattr(self.implicit, key) for key in NETWORKS[network]}}

    def students(self, method: str) -> dict[str, tuple[str, ...]]:
        """The students that a method trains, by folder within its own, each with its roles in Socratic CoT.

        Of most methods it is one, in the method's folder itself; of `implicit_kd` they are its networks.
        """
        if method == "socratic":
            return self.socratic.students
        if method == "implicit_kd":
            return dict.fromkeys(NETWORKS, ())
        return {"": (method,) if method in ("unified", "cumulative") else ()}

    @property
    def roles(self) -> list[str]:
        """All roles in Socratic CoT that its students have."""
        students = [one for method in self.methods for one in self.students(method).values()]
        return list(dict.fromkeys(role for roles in students for role in roles))

    @property
    def socratic(self) -> Socratic:
        """What the method `socratic` says of itself."""
        return self._of("socratic")

    @property
    def implicit(self) -> ImplicitKD:
        """What the method `implicit_kd` says of itself."""
        return self._of("implicit_kd")

    def _of(self, method: str) -> Any:
        kind, own = SEVERAL[method][0], self.methods.get(method, {})
        return kind(**{key: own[key] for key in field_names(kind) if key in own})

    @property
    def wording(self) -> Wording:
        """How the rows of Socratic CoT are written."""
        own = self.methods.get("socratic", {})
        given = {**self.train, **own, **(own.get("solver") or {})}
        marker = given.get("marker") or TEMPLATES.get(given.get("template", ""), Template()).marker
        return Wording(self.socratic.guidance, self.socratic.history, marker)

    def rows(self, roles: Sequence[str], traces: list[Trace]) -> list[Trace]:
        """What a student with these roles is trained on; without any, the traces themselves.

        Raises:
            TacitError: A trace has no sub-questions.
        """
        wording = self.wording
        rows = [row for trace in traces for role in roles for row in wording.rows(role, trace)]
        return rows if roles else traces

    def settings(self, method: str, seed: int, folder: Path, student: str = "") -> StepwiseInternalizationConfig:
        """The training settings of one method, seed and student.

        Raises:
            TacitError: They do not fit together.
        """
        own = self._own_settings(method, student)
        values = {**METHODS[method], **self.train, **own, "seed": seed, "output_dir": str(folder)}
        if method != "stepwise":
            internalizes = method == "unified" or student == "solver"
            values["schedule"] = own["schedule"] if internalizes and "schedule" in own else METHODS[method]["schedule"]
        if student == "planner":  # a plan is an answer without a chain
            values["schedule"] = "remove_all"
        if any(other.get("from") == method for other in self.methods.values()):
            values["keep_stages"] = sorted({0, *values.get("keep_stages", [])})
        try:
            return StepwiseInternalizationConfig(**values)
        except (TypeError, ValueError, ImportError) as error:
            reason = str(error).strip().split("\n")[0]
            raise TacitError(f"recipe {self.name}, method {method}: {reason}") from None

    def _own_settings(self, method: str, student: str) -> dict[str, Any]:
        """The training settings that a method gives one of its students."""
        own = {key: value for key, value in self.methods[method].items() if key not in OWN_KEYS}
        if method not in SEVERAL:
            return own
        kind, names = SEVERAL[method]
        parts = {key: own.pop(key, None) for key in (*field_names(kind), *names)}
        return own | (parts.get(student) or {})

    def traces(self, method: str | None = None) -> tuple[list[Trace], list[Trace], list[Trace]]:
        """Training, validation and test traces; no problem of a generated task is in two of them.

        Args:
            method (`str`, *optional*): Whose training traces: a method may have a file of its own.

        Raises:
            TacitError: A file cannot be read, or has no samples as `data.samples` wants them.
        """
        train, validation, test = self._read()
        if method is not None and (file := self.methods[method].get("data")):
            train = read(file, self.data.format)
        elif self.data.samples is not None:
            train = first_samples(train, self.data.samples, str(self.data.train))
        return train, validation, test

    def examples(
        self, method: str, roles: Sequence[str], settings: StepwiseInternalizationConfig
    ) -> tuple[list[Trace], list[Trace]]:
        """What a student is trained on, and what it is evaluated on meanwhile.

        Raises:
            TacitError: A training trace has no sub-questions where they are needed, or there is nothing to evaluate
                on.
        """
        train, validation, _ = self.traces(method)
        taught = self.rows(roles, train)
        evaluated = self.rows(roles, [trace for trace in validation if not roles or is_socratic(trace)])
        if train and not taught:
            raise TacitError(
                f"method {method}: the steps of all training traces only repeat their sub-questions, so that nobody "
                f"learns to answer them ({', '.join(roles)})"
            )
        if settings.eval_strategy != "no" and validation and not evaluated:
            raise TacitError(
                f"eval_strategy: no validation trace has a sub-question on each step, and answers, which method "
                f"{method} is evaluated on while it trains; give such traces, or set methods.{method}.eval_strategy "
                "to 'no'"
            )
        return taught, evaluated

    def all_training_traces(self, train: list[Trace]) -> list[Trace]:
        """What all methods are trained on, with all samples, where `train` is the part of one of them.

        A model from scratch has words and positions for all of it, so that the students of a run are alike.
        """
        files = dict.fromkeys(own["data"] for own in self.methods.values() if "data" in own)
        if self.data.samples is None and not files:
            return train
        return [*self._read()[0], *(trace for file in files for trace in read(file, self.data.format))]

    def _read(self) -> Parts:
        return self.reader.parts(self.task, dataclasses.replace(self.data, samples=None))
