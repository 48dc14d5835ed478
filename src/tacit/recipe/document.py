"""A recipe's YAML document: read, overridden, varied and parsed."""

import copy
import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tacit.errors import TacitError, unknown_name
from tacit.recipe.checking import check_whole, field_names
from tacit.recipe.methods import check_methods
from tacit.recipe.recipe import Recipe
from tacit.recipe.sections import (
    Data,
    Evaluation,
    Model,
    check_data,
    check_evaluation,
    check_model,
    check_train,
    train_fields,
)
from tacit.tasks import TASKS, get_task

_TOP = ("name", "task", "data", "model", "train", "methods", "seeds", "vary", "evaluation", "jobs")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-4 and inf as text; people mean numbers."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$|inf$"), list("-+0123456789i")
)


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


def _unknown_key(name: str) -> TacitError:
    for section, names in (
        ("train", train_fields()),
        ("data", [*field_names(Data), *(key for task in TASKS.values() for key in task.options)]),
        ("model", field_names(Model)),
        ("evaluation", field_names(Evaluation)),
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
    train = check_train("train", document.get("train") or {})
    return Recipe(
        name=name,
        task=task,
        data=check_data(document["data"], task),
        model=check_model(document["model"]),
        train=train,
        methods=check_methods(document["methods"], document["model"]),
        seeds=_seeds(document.get("seeds", [0])),
        evaluation=check_evaluation(document.get("evaluation") or {}),
        jobs=check_whole("jobs", document.get("jobs", 1), 1),
        document=document,
    )


def _seeds(value: Any) -> tuple[int, ...]:
    seeds = value if isinstance(value, list) else [value]
    if not seeds or len(set(map(str, seeds))) < len(seeds):
        raise TacitError(f"recipe key seeds must be a list of distinct whole numbers, got {value!r}")
    return tuple(check_whole("seeds", seed, 0) for seed in seeds)


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
