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
    seeds: [0]

Usage: `recipe = load_recipe("recipes/quickstart.yaml", ["train.max_steps=100", "seeds=[1,2]"])`.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from tacit.errors import TacitError, unknown_name
from tacit.formats import FORMATS, read
from tacit.tasks import TASKS, Task, get_task
from tacit.trace import Trace
from tacit.training.config import StepwiseInternalizationConfig

METHODS: dict[str, dict[str, Any]] = {
    "no_cot": {"schedule": "remove_all"},
    "cot": {"schedule": "keep_all"},
    "stepwise": {"schedule": "linear"},
}
RESERVED = {"output_dir": "-o", "seed": "seeds", "data_seed": "seeds"}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-4 and inf as text; people mean numbers."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$|inf$"), list("-+0123456789i")
)


@dataclass(frozen=True)
class Data:
    """Where the traces come from: sizes for a generated task, file names otherwise."""

    train: int | str
    validation: int | str | None = None
    test: int | str | None = None
    seed: int = 0
    format: str = "tacit"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """Which student: a name or folder, or an architecture with its configuration and a word-level vocabulary."""

    name: str | None = None
    architecture: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    attn_implementation: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Evaluation:
    """How the students are measured: problems in one batch, and how many problems the speed is timed on."""

    batch_size: int = 256
    speed_problems: int = 512


@dataclass(frozen=True)
class Recipe:
    """One experiment. `document` is the YAML it was made from, with all overrides: what the run folder keeps."""

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

    def settings(self, method: str, seed: int, folder: Path) -> StepwiseInternalizationConfig:
        """The training settings of one method and seed. Raises `TacitError` where they do not fit together."""
        own = {key: value for key, value in self.methods[method].items() if key != "from"}
        values = {**METHODS[method], **self.train, **own, "seed": seed, "output_dir": str(folder)}
        if method != "stepwise":
            values["schedule"] = METHODS[method]["schedule"]
        if any(other.get("from") == method for other in self.methods.values()):
            values["keep_stages"] = sorted({0, *values.get("keep_stages", [])})
        try:
            return StepwiseInternalizationConfig(**values)
        except (TypeError, ValueError, ImportError) as error:
            reason = str(error).strip().split("\n")[0]
            raise TacitError(f"recipe {self.name}, method {method}: {reason}") from None

    def traces(self) -> tuple[list[Trace], list[Trace], list[Trace]]:
        """Training, validation and test traces; no problem of a generated task is in two of them."""
        data = self.data
        if isinstance(data.train, int):
            sizes = [int(part or 0) for part in (data.train, data.validation, data.test)]
            made = self.task.make(sum(sizes), data.seed, **data.options)
            held_out = sizes[1] + sizes[2]  # first in line, so that a larger training set keeps the same problems out
            names = {self.task.problem(trace.question) for trace in made[:held_out]}
            train = [trace for trace in made[held_out:] if self.task.problem(trace.question) not in names]
            return train, made[: sizes[1]], made[sizes[1] : held_out]
        train, validation, test = (
            [] if part is None else read(str(part), data.format) for part in (data.train, data.validation, data.test)
        )
        return train, validation, test


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
    *parents, last = key.strip().split(".")
    if not parents and last not in _TOP:
        raise _unknown_key(last)
    place = document
    for parent in parents:
        if not isinstance(place.get(parent), dict):
            place[parent] = {}
        place = place[parent]
    place[last] = value


_TOP = ("name", "task", "data", "model", "train", "methods", "seeds", "evaluation", "jobs")


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
        methods=_methods(document["methods"]),
        seeds=_seeds(document.get("seeds", [0])),
        evaluation=_section(Evaluation, "evaluation", document.get("evaluation") or {}),
        jobs=_whole("jobs", document.get("jobs", 1), 1),
        document=document,
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


def _methods(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    methods: dict[str, dict[str, Any]] = {}
    for name, own in given.items():
        if name not in METHODS:
            raise unknown_name("method", str(name), METHODS)
        own = own or {}
        if not isinstance(own, dict):
            raise TacitError(f"recipe key methods.{name} must be a mapping of settings, got {own!r}")
        if "from" in own and (name != "cot" or own["from"] != "stepwise" or "stepwise" not in given or len(own) > 1):
            raise TacitError(
                "only `cot: {from: stepwise}` takes its model from another method, of the same recipe and without "
                "settings of its own"
            )
        if "from" in own and (given["stepwise"] or {}).get("removal_start"):
            raise TacitError("`cot: {from: stepwise}` needs an explicit stage; Stepwise with removal_start has none")
        rest = {key: value for key, value in own.items() if key != "from"}
        methods[name] = {**({"from": own["from"]} if "from" in own else {}), **_check_train(f"methods.{name}", rest)}
    return methods
