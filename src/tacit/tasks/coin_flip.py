"""Coin flip, in words: who flips the coin, and is it still heads up? The running state is the chain.

A known test of state tracking (arXiv 2201.11903); the wording and the names here are our own. With k people:

    question  A coin is heads up . Ada flips it . Ben does not flip it . Is it still heads up ?
    steps     Ada : tails / Ben : tails
    answer    no
"""

import random
import re
from dataclasses import dataclass, field
from typing import Any

from tacit.errors import TacitError
from tacit.tasks.task import Option, Task, whole_number
from tacit.trace import Step, Trace

NAMES = (
    "Ada Ben Cleo Dan Edda Finn Gita Hugo Ines Jon Kaya Leo Mara Nils Olga Pia "
    "Quin Rosa Sven Tara Umar Vera Wim Xenia Yuri Zoe Anton Bella Carlo Dora Emil Frida"
).split()


def solve(people: list[tuple[str, bool]]) -> Trace:
    """The trace for people who flip (True) or do not flip the coin, in turn."""
    acts = [f"{name} flips it ." if flips else f"{name} does not flip it ." for name, flips in people]
    heads, steps = True, []
    for name, flips in people:
        heads ^= flips
        state = "heads" if heads else "tails"
        steps.append(Step(f"{name} : {state}", question=f"What does the coin show after {name} ?", answer=state))
    return Trace(
        question=f"A coin is heads up . {' '.join(acts)} Is it still heads up ?",
        steps=tuple(steps),
        answer="yes" if heads else "no",
        source={"task": "coin_flip", "flips": len(people)},
    )


@dataclass(frozen=True)
class CoinFlip(Task):
    """k people flip a coin or do not."""

    name: str = "coin_flip"
    summary: str = "k people flip a coin or do not, the running state as the chain"
    answer_format: str = "yes or no"
    licence: str = "generated"
    example: str = "A coin is heads up. Ada flips it. Ben does not flip it. Is it still heads up?"
    options: dict[str, Option] = field(
        default_factory=lambda: {"flips": Option(4, whole_number("flips", 1, len(NAMES)), "people in each problem")}
    )

    def make(self, size: int, seed: int, **options: Any) -> list[Trace]:
        """`size` distinct problems; within one, no name comes twice."""
        flips = self.settings(options)["flips"]
        total = 2**flips
        for taken in range(flips):
            total *= len(NAMES) - taken
        if size > total:
            raise TacitError(f"{size:,} problems asked for, but only {total:,} distinct ones with {flips} flips exist")
        rng = random.Random(seed)
        problems: dict[tuple[tuple[str, bool], ...], None] = {}
        while len(problems) < size:
            problems[tuple((name, rng.random() < 0.5) for name in rng.sample(NAMES, flips))] = None
        return [solve(list(people)) for people in problems]

    def read_question(self, typed: str) -> str:
        """Punctuation is set apart by spaces, as in the traces."""
        return " ".join(re.sub(r"\s*([.?])", r" \1 ", typed).split())
