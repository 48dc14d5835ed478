"""A student's answers to a set of problems, graded one by one, and how fast it gives them.

Usage: `predictions = evaluate(student, traces)`; `summarise(predictions)["accuracy"]`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tacit.errors import TacitError
from tacit.evaluation.exact_match import one_pass
from tacit.evaluation.statistics import wilson
from tacit.grading import GRADERS
from tacit.implicit.modeling import ImplicitModel
from tacit.implicit.states import ThoughtBatcher
from tacit.models import max_positions, pad_id
from tacit.rendering import Renderings, render
from tacit.socratic.pipeline import Dialogue, SocraticPipeline
from tacit.stages import Batcher, Removal
from tacit.student import Reply, Student
from tacit.tasks import Task
from tacit.trace import Trace


@dataclass(frozen=True)
class Prediction:
    """One problem and what the student made of it; a line of `predictions.jsonl`.

    Of a dialogue, `turns` are its sub-questions with their texts and answers, and `notes` is what went wrong in it.
    """

    id: str
    question: str
    shown_question: str
    gold: str
    shown_gold: str
    answer: str
    shown_answer: str
    text: str
    correct: bool
    reasoning_tokens: int
    generated_tokens: int
    grader: str = GRADERS[0]
    turns: list[dict[str, str]] | None = None
    notes: list[str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; what only dialogues have is left out of others."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def evaluate(
    student: Student | SocraticPipeline, traces: Sequence[Trace], batch_size: int = 256, grader: str = GRADERS[0]
) -> list[Prediction]:
    """Grades a student, or a pipeline of several, on problems.

    A silent student is graded in one forward pass a problem; it generates only where that pass finds a deviation, for
    the text of the wrong prediction, which the task's grader then has the last word on. Any other student generates.

    Args:
        student (`Student` or `SocraticPipeline`): Is put into evaluation mode for the time.
        traces: The problems; their `label` is the right answer.
        batch_size (`int`): Problems at a time.
        grader (`str`): One of `tacit.grading.GRADERS`.

    Raises:
        TacitError: A problem cannot be rendered, or is longer than the model's positions.
    """
    if isinstance(student, SocraticPipeline):
        dialogues = student.reply([trace.question for trace in traces], batch_size)
        return [predict(student.task, trace, reply, grader) for trace, reply in zip(traces, dialogues, strict=True)]
    rendered = render_problems(student, traces)
    exact = np.zeros(len(traces), dtype=bool)
    if student.silent:
        kind = ThoughtBatcher if isinstance(student.model, ImplicitModel) else Batcher
        batcher = kind(rendered, pad_id(student.tokenizer), student.model.device)
        exact, _ = one_pass(student.model, batcher, Removal(), 0, batch_size)
        target = rendered.lengths - rendered.prompt_lengths
        exact &= target <= student.max_new_tokens  # generation would stop before the end of a longer one
    replies: dict[int, Reply] = {int(i): student.read(rendered[int(i)].answer) for i in np.flatnonzero(exact)}
    open_problems = [int(i) for i in np.flatnonzero(~exact)]
    for first in range(0, len(open_problems), batch_size):
        chosen = open_problems[first : first + batch_size]
        written = student.generate([rendered[i].prompt for i in chosen], batch_size)
        replies.update(zip(chosen, map(student.read, written), strict=True))
    return [predict(student.task, trace, replies[index], grader) for index, trace in enumerate(traces)]


def render_problems(student: Student, traces: Sequence[Trace]) -> Renderings:
    """Problems as the student is asked them: prompt and answer. How others reasoned is left out, and need not fit.

    Raises:
        TacitError: A problem cannot be rendered, or is longer than the model's positions.
    """
    bare = [replace(trace, steps=()) for trace in traces]
    rendered = render(bare, student.tokenizer, student.template, student.encoder_decoder)
    needed = rendered.positions
    if (positions := max_positions(student.model)) is not None and needed.max() > positions:
        trace = traces[int(needed.argmax())]
        raise TacitError(
            f"trace {trace.id} ({trace.question[:60]!r}): prompt and answer have {needed.max()} tokens, "
            f"but the model has only {positions} positions"
        )
    return rendered


def predict(task: Task, trace: Trace, reply: Reply | Dialogue, grader: str = GRADERS[0]) -> Prediction:
    """A reply to a problem, or a dialogue on it, graded."""
    said = isinstance(reply, Dialogue)
    return Prediction(
        id=trace.id,
        question=trace.question,
        shown_question=task.show_question(trace.question),
        gold=trace.label,
        shown_gold=task.show_answer(trace.label),
        answer=reply.answer,
        shown_answer=reply.shown,
        text=reply.text,
        correct=task.grade(reply.conclusion, trace.label, grader, reply.marked),
        reasoning_tokens=reply.reasoning_tokens,
        generated_tokens=reply.generated_tokens,
        grader=grader,
        turns=[turn._asdict() for turn in reply.turns] if said else None,
        notes=reply.notes if said else None,
    )


def summarise(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Accuracy with Wilson's 95 % interval, the grader, and mean tokens."""
    n = len(predictions)
    right = sum(prediction.correct for prediction in predictions)
    return {
        "accuracy": right / n,
        "ci95": list(wilson(right, n)),
        "n": n,
        "grader": predictions[0].grader,
        "reasoning_tokens": statistics.fmean(prediction.reasoning_tokens for prediction in predictions),
        "generated_tokens": statistics.fmean(prediction.generated_tokens for prediction in predictions),
    }


def measure_speed(
    students: Sequence[Student | SocraticPipeline], questions: Sequence[str], batch_size: int, rounds: int = 3
) -> list[float]:
    """Examples per second of generation, in alternating rounds so that all students meet the same noise.

    Args:
        students: Compared on the same problems; of a pipeline, the whole dialogue counts.
        questions: In the model's form; one warm-up batch is not counted.
        batch_size (`int`): Stated with every figure.
        rounds (`int`): The median counts.

    Returns:
        One figure a student.
    """
    answer = []
    for student in students:
        answer.append(_answering(student, questions, batch_size))
        answer[-1](batch_size)
    seconds: list[list[float]] = [[] for _ in students]
    for _ in range(rounds):
        for index, run in enumerate(answer):
            begin = time.perf_counter()
            run(len(questions))
            seconds[index].append(time.perf_counter() - begin)
    return [len(questions) / statistics.median(times) for times in seconds]


def _answering(
    student: Student | SocraticPipeline, questions: Sequence[str], batch_size: int
) -> Callable[[int], object]:
    """What answers the first so many questions."""
    if isinstance(student, SocraticPipeline):
        return lambda count: student.reply(questions[:count], batch_size)
    prompts = [student.prompt(question) for question in questions]
    return lambda count: student.generate(prompts[:count], batch_size)
