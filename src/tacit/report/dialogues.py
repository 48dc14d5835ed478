"""The measures of dialogues in a row of `summary.json`, as `tacit.evaluation.socratic` made them, for people.

Usage: `measures = read_measures(row.get("dialogues"))`; `wrong_places([measures])`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tacit.report.values import UNKNOWN, Share, number, read_share

NOWHERE = "nowhere"  # a dialogue that went wrong there concluded right
LAST_PLACES = ("last step", "too few questions", "too many questions")  # after all steps by number

FALLBACKS = {  # what `tacit.socratic.pipeline` does where a dialogue goes wrong
    "no plan": "the decomposer went without",
    "nothing asked": "the problem's own final question was",
    "unended decomposition": "the problem's own final question took the place of its last one",
    "too many questions": "the first ones and the last were asked",
    "repeated question": "it was asked once",
    "reference to no earlier step": "it was read as text",
    "unmarked answer": "what looked like an answer was taken",
    "step without an answer": "its text alone was told",
    "unreadable step": "it was left out",
}


@dataclass(frozen=True)
class Measures:
    """What `summarise_dialogues` found, under the same names; a value that the run does not know is None or empty."""

    n: float | None = None
    questions: float | None = None
    gold_questions: float | None = None
    bleu: float | None = None
    same_count: Share = UNKNOWN
    same_questions: Share = UNKNOWN
    steps: Share = UNKNOWN
    gold_history: Share = UNKNOWN
    first_wrong: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, float] = field(default_factory=dict)

    def went_wrong_at(self, place: str) -> float:
        """The share of dialogues that left the data first there."""
        return self.first_wrong.get(place, 0.0) / max(1.0, sum(self.first_wrong.values()))


def read_measures(value: Any) -> Measures:
    """The measures in a JSON value, as far as it has them."""
    found = value if isinstance(value, dict) else {}
    return Measures(
        n=number(found.get("n")),
        questions=number(found.get("questions")),
        gold_questions=number(found.get("gold_questions")),
        bleu=number(found.get("bleu")),
        same_count=read_share(found.get("same_count")),
        same_questions=read_share(found.get("same_questions")),
        steps=read_share(found.get("steps")),
        gold_history=read_share(found.get("gold_history")),
        first_wrong=_counts(found.get("first_wrong")),
        notes=_counts(found.get("notes")),
    )


def _counts(value: Any) -> dict[str, float]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {str(name): count for name, found in pairs if (count := number(found)) is not None and count > 0}


def wrong_places(measures: Sequence[Measures]) -> list[str]:
    """Where any of these dialogues left the data first, in order: steps, then the rest."""

    def order(place: str) -> tuple[int, int]:
        step = re.fullmatch(r"step ([0-9]{1,9})", place)
        return (0, int(step[1])) if step else (1, LAST_PLACES.index(place) if place in LAST_PLACES else 9)

    return sorted({place for each in measures for place in each.first_wrong} - {NOWHERE}, key=order)
