"""Word problems of several steps, with sub-questions: people, things and quantities that depend on one another.

    question  Ben has 4 pears . Ada has 3 more pears than Ben . Cleo has twice as many pears as Ada .
              How many pears does Cleo have ?
    steps     How many pears does Ada have ?   << 4 + 3 = 7 >> 7 pears
              How many pears does Cleo have ?  << 7 * 2 = 1 4 >> 1 4 pears
    answer    1 4

What to ask for first is the difficulty: the sentences stand in any order, a relation may be told from its other end
("Ada has 3 fewer pears than Ben"), a sum or a price times a number is told nowhere, and sentences on the same people
and things lead nowhere. The steps run depth first from what is asked for, the left operand's before the right one's.
Each quantity is told in one way only, so a problem has one solution. Punctuation and digits are set apart for
tokenizers that know words; people type and read `12 pears.`
"""

import random
import re
from dataclasses import dataclass, field
from typing import Any

from tacit.errors import TacitError
from tacit.grading import SPACED_NUMBER, AnswerFormat
from tacit.tasks.task import Option, Task, set_apart, whole_number
from tacit.tasks.word_problems.quantities import Quantity, spaced
from tacit.tasks.word_problems.story import Story, StuckError
from tacit.trace import Step, Trace

MOST_STEPS = 12


def solve(story: Story) -> Trace:
    """The trace of a problem, its sentences in the order of the story."""
    steps: dict[Quantity, Step] = {}

    def number(operand: Quantity | int) -> str:
        """The operand's value, for which its own steps are taken first."""
        if isinstance(operand, int):
            return spaced(operand)
        fact, value = story.facts[operand], spaced(story.values[operand])
        if fact.operator and operand not in steps:
            calculation = f"{number(fact.left)} {fact.operator} {number(fact.right)} = {value}"
            steps[operand] = Step(f"<< {calculation} >> {value} {operand.thing}", operand.question, value)
        return value

    answer = number(story.asked)
    return Trace(
        question=" ".join((*story.sentences, story.asked.question)),
        steps=tuple(steps.values()),
        answer=answer,
        source={
            "task": "word_problems",
            "scene": story.scene,
            "steps": len(steps),
            "distractors": story.distractors,
            "kinds": [story.facts[quantity].kind for quantity in steps],
        },
    )


def parse_steps(value: Any) -> tuple[int, int]:
    """`3`, or a range such as `2-5`. Raises `TacitError` for anything else."""
    match = re.fullmatch(r"\s*([0-9]{1,2})\s*(?:-\s*([0-9]{1,2})\s*)?", str(value))
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high <= MOST_STEPS:
        raise TacitError(f"steps must look like 3 or 2-5, from 1 to {MOST_STEPS}; got {value!r}")
    return low, high


def parse_order(value: Any) -> str:
    """`shuffled` or `told`. Raises `TacitError` for anything else."""
    if value not in ("shuffled", "told"):
        raise TacitError(f"order must be shuffled or told, got {value!r}")
    return value


@dataclass(frozen=True)
class WordProblems(Task):
    """Quantities that depend on one another."""

    name: str = "word_problems"
    summary: str = "quantities that depend on one another, a sub-question with its calculation as a step"
    format: AnswerFormat = SPACED_NUMBER
    licence: str = "generated"
    example: str = "Ben has 12 pears. Ada has 3 more pears than Ben. How many pears does Ada have?"
    options: dict[str, Option] = field(
        default_factory=lambda: {
            "steps": Option("2-5", parse_steps, "steps of a problem, a number or a range"),
            "distractors": Option(2, whole_number("distractors", 0, 10), "sentences that lead nowhere, at most"),
            "order": Option("shuffled", parse_order, "of the sentences: shuffled, or told (each after its grounds)"),
        }
    )

    def make(self, size: int, seed: int, **options: Any) -> list[Trace]:
        """`size` distinct problems; of a range, each number of steps is about as frequent as any other."""
        settings = self.settings(options)
        rng = random.Random(seed)
        traces: dict[str, Trace] = {}
        while len(traces) < size:
            steps, distractors = rng.randint(*settings["steps"]), rng.randint(0, settings["distractors"])
            trace = solve(_draw(rng, steps, distractors, settings["order"] == "shuffled"))
            traces.setdefault(self.problem(trace.question), trace)
        return list(traces.values())

    def read_question(self, typed: str) -> str:
        """`12 pears.` as `1 2 pears .`; the model's own form passes."""
        return re.sub(r"(?<=[0-9])(?=[0-9])", " ", set_apart(typed))

    def show_question(self, question: str) -> str:
        """`1 2 pears .` as `12 pears.`"""
        return re.sub(r" (?=[.,?])", "", self.show_answer(question))

    def show_answer(self, answer: str) -> str:
        """`1 4` as `14`."""
        return re.sub(r"(?<=[0-9]) (?=[0-9])", "", answer)

    def problem(self, question: str) -> str:
        """Its sentences in another order are the same problem."""
        return " . ".join(sorted(question.casefold().split(" . ")))


def _draw(rng: random.Random, steps: int, distractors: int, shuffled: bool) -> Story:
    while True:
        try:
            return Story(rng, steps, distractors, shuffled)
        except StuckError:
            continue
