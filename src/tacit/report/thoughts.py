"""What the networks of ICoT-KD are worth, in a row of `summary.json`, as `tacit.evaluation.thoughts` made it.

Usage: `thoughts = read_thoughts(row.get("thoughts"))`; `thoughts.gold_states.share`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tacit.report.values import UNKNOWN, Share, number, read_share

WEAK = 0.9  # the accuracy of a teacher below which people are warned
MOST_LAYERS = 1000  # more are a mistake


@dataclass(frozen=True)
class Thoughts:
    """What `diagnose` found, and the teacher's accuracy, under the same names; what the run does not know is empty.

    `emulation_error` has a share for each layer, None for one whose state is the same for all problems.
    """

    teacher: Share = UNKNOWN
    gold_states: Share = UNKNOWN
    emulated_states: Share = UNKNOWN
    emulation_error: tuple[float | None, ...] = ()

    @property
    def has_weak_teacher(self) -> bool:
        """Whether the teacher is often wrong itself."""
        return self.teacher.share is not None and self.teacher.share < WEAK


def read_thoughts(value: Any) -> Thoughts:
    """The thoughts in a JSON value, as far as it has them."""
    found = value if isinstance(value, dict) else {}
    return Thoughts(
        teacher=read_share(found.get("teacher")),
        gold_states=read_share(found.get("gold_states")),
        emulated_states=read_share(found.get("emulated_states")),
        emulation_error=_errors(found.get("emulation_error")),
    )


def _errors(value: Any) -> tuple[float | None, ...]:
    """One for each layer, or none at all: a value that is no error cannot be told from a constant layer."""
    layers = value if isinstance(value, list) and len(value) <= MOST_LAYERS else []
    errors = [number(error) for error in layers]
    odd = any(error is not None if found is None else found < 0 for error, found in zip(layers, errors, strict=True))
    return () if odd else tuple(errors)
