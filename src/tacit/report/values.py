"""JSON values out of files that may be odd: what is wanted of them, or nothing.

Usage: `number(record.get("loss"))` is a float, or None for what is none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


def parse(text: str) -> Any:
    """The JSON value, or None for text that is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None  # neither NaN, nor infinite, nor an endless integer


@dataclass(frozen=True)
class Share:
    """A share with its interval, of `n`."""

    share: float | None = None
    low: float | None = None
    high: float | None = None
    n: float | None = None


UNKNOWN = Share()


def read_share(value: Any) -> Share:
    """The share in `{"share", "ci95", "n"}`, as far as it is there."""
    found = value if isinstance(value, dict) else {}
    return Share(number(found.get("share")), *read_interval(found.get("ci95")), number(found.get("n")))


def read_interval(value: Any) -> tuple[float | None, float | None]:
    """Both ends of `[low, high]`."""
    low, high = map(number, value) if isinstance(value, list) and len(value) == 2 else (None, None)
    return low, high


def as_text(value: Any) -> str:
    """JSON as a person writes it: `cpu Xeon, cores 2, gpus none`."""
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {as_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(as_text, value))
    return value if isinstance(value, str) else json.dumps(value)
