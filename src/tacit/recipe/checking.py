"""Values of a recipe against the types of a dataclass's fields; a key that is wrong is named with its section."""

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from tacit.errors import TacitError, unknown_name

PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def field_names(kind: Any) -> list[str]:
    """The names of a dataclass's fields."""
    return [f.name for f in dataclasses.fields(kind)]


def check_section(kind: Any, where: str, given: Mapping[str, Any]) -> Any:
    """The dataclass `kind` with the values of a section. Raises `TacitError` on an unknown key or a wrong type."""
    valid = field_names(kind)
    for key in given:
        if key not in valid:
            raise unknown_name("recipe key", f"{where}.{key}", [f"{where}.{name}" for name in valid])
    check_types(kind, where, given)
    return kind(**given)


def check_whole(name: str, value: Any, least: int) -> int:
    """A value that is a whole number of at least `least`. Raises `TacitError` where it is not."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TacitError(f"recipe key {name} must be a whole number of at least {least}, got {value!r}")
    return value


def check_types(kind: Any, where: str, given: Mapping[str, Any]) -> None:
    """Raises `TacitError` on a value that is not of the type of its field of the dataclass `kind`."""
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
