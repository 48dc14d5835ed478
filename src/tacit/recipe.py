"""Recipes: one YAML file = one experiment that anybody can rerun.

    name: quickstart
    task: multiplication
    data: {digits: 4x2, train: 100000, validation: 500, test: 2000, seed: 1234}   # or files: {train: a.jsonl, ...}
    model: {architecture: gpt2, config: {n_layer: 2}}                             # or {name: openai-community/gpt2}
    train: {max_steps: 8000, learning_rate: 2e-3}     # any field of StepwiseInternalizationConfig
    methods:                                          # what is trained, each with fields of its own
      stepwise: {schedule: adaptive}
      cot: {from: stepwise}
      no_cot: {}
      random: {}                                      # baselines without training
      socratic: {guidance: steps, solver: {max_steps: 9000}}   # a decomposer and a solver, trained on sub-questions
      oracle: {}                                      # the same solver, asked the gold sub-questions
    seeds: [0]
    vary: {train.weight_decay: [0.0, 0.1]}            # each value makes cells of its own
    # or, with labels, several settings at once: {methods.stepwise: {full: {}, no smoothing: {removal_smoothing: inf}}}

Usage: `recipe = load_recipe("recipes/quickstart.yaml", ["train.max_steps=100", "seeds=[1,2]"])`.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from tacit.errors import TacitError, unknown_name
from tacit.evaluation.prompting import BASELINES, Prompting
from tacit.formats import FORMATS, read
from tacit.grading import GRADERS
from tacit.rendering import TEMPLATES, Template
from tacit.socratic.pipeline import MAX_QUESTIONS, STUDENTS
from tacit.socratic.rows import Wording
from tacit.tasks import TASKS, Task, get_task
from tacit.trace import Trace
from tacit.training.config import StepwiseInternalizationConfig

METHODS: dict[str, dict[str, Any]] = {
    "no_cot": {"schedule": "remove_all"},
    "cot": {"schedule": "keep_all"},
    "stepwise": {"schedule": "linear"},
    "unified": {"schedule": "keep_all"},
    "cumulative": {"schedule": "keep_all"},
    "socratic": {"schedule": "keep_all"},
}
OTHERWISE = ("oracle", "teacher_questions", "gold_plan", "calculator")  # other ways to ask what `socratic` trained
OWN_KEYS = ("from", "data")  # of a trained method, beside its training settings
RESERVED = {"output_dir": "-o", "seed": "seeds", "data_seed": "seeds"}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-4 and inf as text; people mean numbers."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$|inf$"), list("-+0123456789i")
)


@dataclass(frozen=True)
class Data:
    """Where the traces come from: sizes for a generated task, file names otherwise.

    Of a teacher's file, `samples` keeps the first so many traces of each question: more samples add to fewer.
    """

    train: int | str
    validation: int | str | None = None
    test: int | str | None = None
    seed: int = 0
    format: str = "tacit"
    samples: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """Which student: a name or folder, or an architecture with its configuration, from scratch.

    The latter's `tokenizer` is "words", those of its training data; "bpe", byte pairs learned from its training data,
    which can write any text; or another model's, by name or folder.
    """

    name: str | None = None
    architecture: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str = "words"
    attn_implementation: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Evaluation:
    """How the students are measured: problems in one batch, on how many the speed is timed, and who grades."""

    batch_size: int = 256
    speed_problems: int = 512
    grader: str = "flexible"


@dataclass(frozen=True)
class Socratic:
    """How `socratic` decomposes and solves; its training settings stand beside, those of one student below its name.

    Args:
        guidance, history (`str`): As `tacit.socratic.rows.Wording` has them. What guides the decomposer is gold in
            training, and the planner's afterwards.
        shared (`bool`): One student has all roles.
        max_questions (`int`): Asked of a problem at most.
    """

    guidance: str = "none"
    history: str = "steps"
    shared: bool = False
    max_questions: int = MAX_QUESTIONS

    @property
    def students(self) -> dict[str, tuple[str, ...]]:
        """The students by folder, each with its roles."""
        roles = ("decomposer", "solver", *(("planner",) if self.guidance != "none" else ()))
        return {"student": roles} if self.shared else {role: (role,) for role in roles}


Parts = tuple[list[Trace], list[Trace], list[Trace]]


class Reader:
    """Reads or generates training, validation and test traces; the last are kept, for the next method or variant."""

    def __init__(self) -> None:
        self._last: tuple[str, Parts] | None = None

    def parts(self, task: Task, data: Data) -> Parts:
        """Lists of one's own. Raises `TacitError` where a file cannot be read, or a generator has not so many."""
        key = f"{task.name} {data}"
        if self._last is None or self._last[0] != key:
            self._last = None  # room for what comes
            self._last = key, _generated(task, data) if isinstance(data.train, int) else _from_files(data)
        train, validation, test = self._last[1]
        return list(train), list(validation), list(test)


def _generated(task: Task, data: Data) -> Parts:
    sizes = [int(part or 0) for part in (data.train, data.validation, data.test)]
    made = task.make(sum(sizes), data.seed, **data.options)
    held_out = sizes[1] + sizes[2]  # first in line, so that a larger training set keeps the same problems out
    names = {task.problem(trace.question) for trace in made[:held_out]}
    train = [trace for trace in made[held_out:] if task.problem(trace.question) not in names]
    return train, made[: sizes[1]], made[sizes[1] : held_out]


def _from_files(data: Data) -> Parts:
    train, validation, test = (
        [] if part is None else read(str(part), data.format) for part in (data.train, data.validation, data.test)
    )
    return train, validation, test


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
        made_of = [variant._made_of(method) for variant in self.variants.values()]
        return list(self.variants) if any(parts != made_of[0] for parts in made_of) else [None]

    def _made_of(self, method: str) -> list[Any]:
        """Everything besides the seed that makes a method's result what it is."""
        own = self.methods[method]
        if method in OTHERWISE:
            return [own, *self._made_of("socratic")]
        if "from" in own:
            return self._made_of(own["from"])
        whole = method in METHODS and "data" not in own
        parts: list[Any] = [own, self.data if whole else dataclasses.replace(self.data, train=0, samples=None)]
        if method in METHODS:
            parts.append({**self.train, **own})
        if method != "random":
            parts.append(self.model)
        return parts

    def students(self, method: str) -> dict[str, tuple[str, ...]]:
        """The students that a method trains, by folder within its own, each with its roles in Socratic CoT.

        Of any method but `socratic` it is one, in the method's folder itself.
        """
        if method == "socratic":
            return self.socratic.students
        return {"": (method,) if method in ("unified", "cumulative") else ()}

    @property
    def roles(self) -> list[str]:
        """All roles in Socratic CoT that its students have."""
        students = [one for method in self.methods for one in self.students(method).values()]
        return list(dict.fromkeys(role for roles in students for role in roles))

    @property
    def socratic(self) -> Socratic:
        """What the method `socratic` says of itself."""
        own = self.methods.get("socratic", {})
        return Socratic(**{key: own[key] for key in _names(Socratic) if key in own})

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
        own = {key: value for key, value in self.methods[method].items() if key not in OWN_KEYS}
        if method == "socratic":
            for key in (*_names(Socratic), *STUDENTS):
                part = own.pop(key, None)
                if key == student:
                    own |= part or {}
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
            train = _first_samples(train, self.data.samples, str(self.data.train))
        return train, validation, test

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


def _first_samples(traces: list[Trace], samples: int, file: str) -> list[Trace]:
    """The traces that are among the first samples of their question; those without a number stay."""
    numbers = [(trace.source or {}).get("sample") for trace in traces]
    if not any(isinstance(number, int) for number in numbers):
        raise TacitError(f"{file}: data.samples needs traces that say which sample they are (source.sample)")
    pairs = zip(traces, numbers, strict=True)
    kept = [trace for trace, number in pairs if not isinstance(number, int) or number < samples]
    if not kept:
        raise TacitError(f"{file}: data.samples={samples} leaves no training trace")
    return kept


def load_recipe(path: str | os.PathLike, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in a YAML file.

    Args:
        path: The file.
        overrides: `key=value` texts; keys are dotted paths such as `train.max_steps`, values are YAML.

    Raises:
        TacitError: The file cannot be read, a key is unknown (the nearest valid one is named), or a value is bad.
    """
    try:
        document = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise TacitError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TacitError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(document, dict):
        raise TacitError(f"{path}: a recipe is a YAML mapping with name, task, data, model, train, methods")
    document.setdefault("name", Path(path).stem)
    for override in overrides:
        _override(document, override)
    return parse_recipe(document)


def _override(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise TacitError(f"an override looks like train.max_steps=100; got {override!r}")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise TacitError(f"override {override!r}: the value is not YAML") from None
    key = key.strip()
    if "." not in key and key not in _TOP:
        raise _unknown_key(key)
    if key.startswith("vary."):  # one key is varied: another takes its place
        document["vary"] = {key.removeprefix("vary."): value}
    else:
        _put(document, key, value)


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    """Sets the value of a dotted key."""
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(document.get(parent), dict):
            document[parent] = {}
        document = document[parent]
    document[last] = value


_TOP = ("name", "task", "data", "model", "train", "methods", "seeds", "vary", "evaluation", "jobs")


def _train_fields() -> dict[str, dataclasses.Field]:
    return {f.name: f for f in dataclasses.fields(StepwiseInternalizationConfig) if f.init and f.name not in RESERVED}


def _unknown_key(name: str) -> TacitError:
    for section, names in (
        ("train", _train_fields()),
        (
            "data",
            [*(f.name for f in dataclasses.fields(Data)), *(key for task in TASKS.values() for key in task.options)],
        ),
        ("model", [f.name for f in dataclasses.fields(Model)]),
        ("evaluation", [f.name for f in dataclasses.fields(Evaluation)]),
    ):
        if name in names:
            return TacitError(f"unknown recipe key {name!r}; did you mean '{section}.{name}'?")
    return unknown_name("recipe key", name, _TOP)


def parse_recipe(document: Mapping[str, Any]) -> Recipe:
    """The recipe in a YAML document. Raises `TacitError` as `load_recipe` does."""
    document = copy.deepcopy(dict(document))
    for key in document:
        if key not in _TOP:
            raise _unknown_key(str(key))
    if document.get("vary"):
        return _vary(document)
    for key in ("data", "model", "methods"):
        if not document.get(key):
            raise TacitError(f"the recipe has no section {key!r}")
    for key in ("data", "model", "train", "evaluation", "methods"):
        if not isinstance(document.get(key) or {}, dict):
            raise TacitError(f"recipe section {key!r} must be a mapping, got {document[key]!r}")
    name = str(document.get("name", "recipe"))
    if not re.fullmatch(r"[\w][\w.-]*", name):
        raise TacitError(f"a recipe's name is letters, digits, '.', '_' and '-'; got {name!r}")
    if not isinstance(document.get("task"), str | None):
        raise TacitError(f"recipe key task must be the name of a task, got {document['task']!r}")
    task = get_task(document.get("task"))
    train = _check_train("train", document.get("train") or {})
    return Recipe(
        name=name,
        task=task,
        data=_data(document["data"], task),
        model=_model(document["model"]),
        train=train,
        methods=_methods(document["methods"], document["model"]),
        seeds=_seeds(document.get("seeds", [0])),
        evaluation=_section(Evaluation, "evaluation", document.get("evaluation") or {}),
        jobs=_whole("jobs", document.get("jobs", 1), 1),
        document=document,
    )


def _vary(document: dict[str, Any]) -> Recipe:
    """A recipe that varies a key, with the recipe for each value; or a section, with the settings for each label."""
    given = document["vary"]
    if not isinstance(given, dict) or len(given) != 1:
        raise TacitError(f"recipe key vary is one recipe key with its values, {{data.samples: [1, 2]}}; got {given!r}")
    ((key, values),) = given.items()
    labelled = isinstance(values, dict)
    section, *rest = str(key).split(".")
    depth = len(rest) - (section == "methods")  # 0: a section as a whole
    if section not in ("data", "model", "train", "methods") or not (depth == 0 if labelled else depth >= 1):
        raise TacitError(
            "vary takes a key below data, model, train or methods.NAME with a list of values, such as data.samples, "
            f"or one of these sections with labelled settings; got {key!r}"
        )
    if labelled:
        _check_labels(key, values)
    else:
        _check_values(key, values, document)
    variants = {}
    for value in values:
        one = copy.deepcopy({name: part for name, part in document.items() if name != "vary"})
        if section == "methods" and isinstance(one.get("methods"), dict):
            one["methods"].setdefault(rest[0], {})  # also where a label has no settings
        changes = {f"{key}.{name}": setting for name, setting in values[value].items()} if labelled else {key: value}
        for name, setting in changes.items():
            _put(one, name, setting)
        variants[value] = parse_recipe(one)
    first = variants[next(iter(values))]
    variants = {value: dataclasses.replace(one, reader=first.reader) for value, one in variants.items()}
    recipe = dataclasses.replace(first, document=document, varied=key, variants=variants)
    if all(recipe.values(method) == [None] for method in recipe.methods):
        raise TacitError(f"vary.{key} changes none of the methods {', '.join(recipe.methods)}")
    return recipe


def _check_values(key: str, values: Any, document: Any) -> None:
    plain = all(isinstance(value, int | float | str) for value in values) if isinstance(values, list) else False
    if not plain or not len(values) == len(set(values)) >= 2:
        raise TacitError(f"recipe key vary.{key} must be a list of at least two different values, got {values!r}")
    for part in key.split("."):
        document = document.get(part) if isinstance(document, dict) else None
    if document is not None:
        raise TacitError(f"recipe key {key} is varied and has the value {document!r}, too; leave out one of the two")


def _check_labels(key: str, values: Mapping[Any, Any]) -> None:
    for label in values:
        if not isinstance(label, str) or not label.strip():
            raise TacitError(f"a label of recipe key vary.{key} is not text: put it in quotes; got {label!r}")
    if len(values) < 2 or not all(isinstance(settings, dict) for settings in values.values()):
        raise TacitError(
            f"recipe key vary.{key} must give at least two labels, each with its settings, "
            f"{{plain: {{}}, slow: {{max_steps: 9000}}}}; got {values!r}"
        )


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TacitError(f"recipe key {name} must be a whole number of at least {least}, got {value!r}")
    return value


def _seeds(value: Any) -> tuple[int, ...]:
    seeds = value if isinstance(value, list) else [value]
    if not seeds or len(set(map(str, seeds))) < len(seeds):
        raise TacitError(f"recipe key seeds must be a list of distinct whole numbers, got {value!r}")
    return tuple(_whole("seeds", seed, 0) for seed in seeds)


def _section(kind: Any, where: str, given: Mapping[str, Any]) -> Any:
    valid = [f.name for f in dataclasses.fields(kind)]
    for key in given:
        if key not in valid:
            raise unknown_name("recipe key", f"{where}.{key}", [f"{where}.{name}" for name in valid])
    _check_types(kind, where, given)
    section = kind(**given)
    if isinstance(section, Evaluation):
        _whole("evaluation.batch_size", section.batch_size, 1)
        _whole("evaluation.speed_problems", section.speed_problems, 1)
        if section.grader not in GRADERS:
            raise unknown_name("grader", section.grader, GRADERS)
    return section


def _data(given: Mapping[str, Any], task: Task) -> Data:
    own = {f.name for f in dataclasses.fields(Data)} - {"options"}
    for key in given:
        if key not in own and key not in task.options:
            valid = [f"data.{name}" for name in (*own, *task.options)]
            raise unknown_name("recipe key", f"data.{key}", valid)
    if "train" not in given:
        raise TacitError("recipe key data.train is missing: a number of generated traces, or a file")
    _check_types(Data, "data", {key: value for key, value in given.items() if key in own})
    data = Data(
        **{key: value for key, value in given.items() if key in own},
        options={key: value for key, value in given.items() if key not in own},
    )
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    generated = isinstance(data.train, int)
    for key, value in parts.items():
        if value is None:
            continue
        if generated:
            _whole(f"data.{key}", value, 1)
        elif not isinstance(value, str):
            raise TacitError(f"recipe key data.{key} must be a file, as data.train is; got {value!r}")
    if generated and not task.options:
        raise TacitError(f"task {task.name!r} has no generator: data.train must be a file")
    if data.test is None:
        raise TacitError("recipe key data.test is missing: a result needs held-out problems")
    if data.samples is not None:
        _whole("data.samples", data.samples, 1)
        if generated:
            raise TacitError("recipe key data.samples goes with a file of a teacher's traces, not with a generator")
    if data.format not in FORMATS:
        raise unknown_name("format", data.format, FORMATS)
    _whole("data.seed", data.seed, 0)
    task.settings(data.options)
    return data


def _model(given: Mapping[str, Any]) -> Model:
    model = _section(Model, "model", given)
    if (model.name is None) == (model.architecture is None):
        raise TacitError("recipe section 'model' names either a model (name) or a from-scratch architecture")
    if model.name is not None and model.config:
        raise TacitError("recipe key model.config goes with model.architecture, not with model.name")
    if model.name is not None and "tokenizer" in given:
        raise TacitError("recipe key model.tokenizer goes with model.architecture; a named model has its own")
    return model


def _check_train(where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    fields = _train_fields()
    for key in given:
        if key in RESERVED:
            raise TacitError(f"recipe key {where}.{key} is set by the run; use {RESERVED[key]}")
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"; did you mean '{where}.{near[0]}'?" if near else " (see docs/recipes.md for all of them)"
            raise TacitError(f"unknown recipe key '{where}.{key}'{hint}")
    _check_types(StepwiseInternalizationConfig, where, given)
    return dict(given)


PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _check_types(kind: Any, where: str, given: Mapping[str, Any]) -> None:
    """Refuses values that are not of the type of a dataclass's fields."""
    hints = get_type_hints(kind)
    for key, value in given.items():
        if not _fits(value, hints[key]):
            quote = "; YAML reads a bare no as false: put it in quotes" if value is False else ""
            raise TacitError(f"recipe key {where}.{key} must be {_describe(hints[key])}, got {value!r}{quote}")


def _fits(value: Any, hint: Any) -> bool:
    parts = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(one, parts[0]) for one in value)
    if get_origin(hint) in (dict, Mapping):
        return isinstance(value, dict)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else True  # a choice is checked by its owner


def _describe(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(dict.fromkeys(_describe(part) for part in get_args(hint) if part is not NoneType))
    if get_origin(hint) is list:
        return f"a list, each {_describe(get_args(hint)[0])}"
    return PLAIN.get(hint, "text" if isinstance(hint, type) else "a mapping")


def _methods(given: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    methods: dict[str, dict[str, Any]] = {}
    for name, own in given.items():
        if name not in (*METHODS, *BASELINES, *OTHERWISE):
            raise unknown_name("method", str(name), [*METHODS, *OTHERWISE, *BASELINES])
        if not isinstance(own, dict | None):
            raise TacitError(f"recipe key methods.{name} must be a mapping of settings, got {own!r}")
    for name, own in given.items():
        own = own or {}
        if name == "socratic":
            methods[name] = _socratic(own)
        elif name in OTHERWISE:
            methods[name] = _otherwise(name, own, given)
        elif name in METHODS:
            methods[name] = _trained(name, own, given)
        else:
            methods[name] = _baseline(name, own, model)
    return methods


def _trained(name: str, own: Mapping[str, Any], methods: Mapping[str, Any]) -> dict[str, Any]:
    if "from" in own and (name != "cot" or own["from"] != "stepwise" or "stepwise" not in methods or len(own) > 1):
        raise TacitError(
            "only `cot: {from: stepwise}` takes its model from another method, of the same recipe and without "
            "settings of its own"
        )
    if "from" in own and (methods["stepwise"] or {}).get("removal_start"):
        raise TacitError("`cot: {from: stepwise}` needs an explicit stage; Stepwise with removal_start has none")
    _check_own_data(name, own)
    settings = _check_train(f"methods.{name}", {key: value for key, value in own.items() if key not in OWN_KEYS})
    fixed = METHODS[name]["schedule"]
    if name not in ("stepwise", "unified") and settings.get("schedule", fixed) != fixed:
        raise TacitError(
            f"recipe key methods.{name}.schedule: it is {fixed!r} by definition; stepwise, unified and the solver of "
            "socratic take another"
        )
    return {**{key: own[key] for key in OWN_KEYS if key in own}, **settings}


def _check_own_data(name: str, own: Mapping[str, Any]) -> None:
    if not isinstance(own.get("data", ""), str):
        raise TacitError(f"recipe key methods.{name}.data must be a file of training traces, got {own['data']!r}")


def _socratic(own: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the method `socratic`: its own, those of all its students, and those of one."""
    socratic = _section(Socratic, "methods.socratic", {key: own[key] for key in _names(Socratic) if key in own})
    _whole("methods.socratic.max_questions", socratic.max_questions, 1)
    Wording(socratic.guidance, socratic.history)
    _check_own_data("socratic", own)
    settings = {key: value for key, value in own.items() if key not in (*_names(Socratic), *STUDENTS, "data")}
    _check_train("methods.socratic", settings)
    for name in STUDENTS:
        if name not in own:
            continue
        if name not in socratic.students:
            raise TacitError(
                f"recipe key methods.socratic.{name}: with these settings its students are "
                f"{', '.join(socratic.students)} (guidance adds a planner; shared: true makes one student of all)"
            )
        if not isinstance(own[name], dict):
            raise TacitError(f"recipe key methods.socratic.{name} must be a mapping of settings, got {own[name]!r}")
        _check_train(f"methods.socratic.{name}", own[name])
        if name != "solver" and "schedule" in own[name]:
            raise TacitError(
                f"recipe key methods.socratic.{name}.schedule: of the students, the solver has steps to remove"
            )
    schedule = own.get("solver", {}).get("schedule", settings.get("schedule", "keep_all"))
    if schedule != "keep_all" and (socratic.shared or socratic.history != "answers"):
        raise TacitError(
            "a solver whose steps are removed has only answers to read of earlier turns, and is a student of its own: "
            "methods.socratic with a schedule takes history: answers, and not shared: true"
        )
    return dict(own)


def _otherwise(name: str, own: Mapping[str, Any], methods: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of another way to ask what `socratic` trained."""
    if "socratic" not in methods:
        raise TacitError(f"method {name} asks what the method socratic trained: the recipe needs both")
    if name == "gold_plan" and (methods["socratic"] or {}).get("guidance", "none") == "none":
        raise TacitError("method gold_plan guides the decomposer: it goes with methods.socratic.guidance")
    wanted = ["questions"] if name == "teacher_questions" else []
    if sorted(own) != wanted or not all(isinstance(own[key], str) for key in wanted):
        takes = "a file of traces with sub-questions (questions: FILE)" if wanted else "no settings"
        raise TacitError(f"method {name} takes {takes}, got {own!r}")
    return dict(own)


def _names(kind: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(kind)]


def _baseline(name: str, own: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    if name == "random":
        if own:
            raise TacitError(f"method random guesses: it has no settings, got {own!r}")
    else:
        if "name" not in model:
            raise TacitError(f"method {name} asks a model that was trained before: it goes with model.name")
        _section(Prompting, f"methods.{name}", own)
    return dict(own)
