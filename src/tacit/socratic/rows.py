"""What the students of Socratic CoT read and write (arXiv 2212.00193), as ordinary traces.

A Socratic trace has a sub-question on each step. With P the problem, q_j, s_j, a_j the question, text and answer of
step j, and g what guides the decomposer, the rows of each role are

    decomposer  decompose: P                           -> Q: q_1 Q: q_2 ... Q: q_n #### n
                decompose: P plan: g                   -> the same, guided
    planner     plan: P                                -> #### g
    solver      solve: P Q: q_1 A: s_1 #### a_1 Q: q_2 -> s_2 #### a_2      for each j, here 2
    unified     P                                      -> Q: q_1 A: s_1 ... Q: q_n A: s_n #### a_n
    cumulative  P Q: q_j                               -> s_1 ... s_j #### a_j      for each j < n
                P                                      -> s_1 ... s_n #### a_n

Each row is a trace: what is read is its question, what is written its steps and its answer. So one template writes
all of them, one model can have several roles, and whatever acts on traces acts on these: training, evaluation, the
removal of steps.

Usage: `Wording().rows("solver", trace)`; `Wording(guidance="operators").rows("decomposer", trace)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from tacit.errors import TacitError, unknown_name
from tacit.formats.dialogue import coverage
from tacit.formats.steps import SENTENCE_END, SPAN
from tacit.grading import MARKER
from tacit.tasks import Task
from tacit.trace import Step, Trace

ASK, TELL = "Q:", "A:"
ROLES = ("decomposer", "planner", "solver", "unified", "cumulative")
GUIDANCE = ("none", "steps", "operators", "equations")
HISTORIES = ("steps", "answers")
# A minus sign stands free: that of 8-3 or 1914-1918 is none. The digits may be set apart.
NUMBER = re.compile(
    r"(?:(?<![\w)%])[-\u2212])?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?: [0-9](?![0-9,.]))*"
)
REFERENCE = re.compile(r"#([0-9]{1,3})(?![0-9])")
MARK = re.compile(rf"(?:^|\s){ASK}(?=\s|$)")


class Turn(NamedTuple):
    """A sub-question and what was answered.

    Args:
        question (`str`): With the answers that it refers to in their places.
        text (`str`): The step; empty where the answer is all.
        answer (`str`): Its result.
    """

    question: str
    text: str
    answer: str


@dataclass(frozen=True)
class Wording:
    """How the rows of a problem are written.

    Args:
        guidance (`str`): What the decomposer is told of the plan: "none"; "steps", how many; "operators" or
            "equations", the calculations of each step, in `<<` and `>>`.
        history (`str`): What the solver reads of earlier steps: "steps", all of them, or "answers" alone. A solver
            whose own steps are to be removed reads answers: nothing else will be there to read.
        marker (`str`): The template's, which opens an answer.

    Raises:
        TacitError: There is no such guidance or history.
    """

    guidance: str = "none"
    history: str = "steps"
    marker: str = MARKER

    def __post_init__(self) -> None:
        if self.guidance not in GUIDANCE:
            raise unknown_name("guidance", self.guidance, GUIDANCE)
        if self.history not in HISTORIES:
            raise unknown_name("history", self.history, HISTORIES)

    # --- what is read ------------------------------------------------------------------------------------------------

    def decompose(self, problem: str, plan: str = "") -> str:
        """What the decomposer reads."""
        return f"decompose: {problem}" + (f" plan: {plan}".rstrip() if self.guidance != "none" else "")

    def plan(self, problem: str) -> str:
        """What the planner reads."""
        return f"plan: {problem}"

    def solve(self, problem: str, turns: Sequence[Turn], question: str) -> str:
        """What the solver reads: the problem, the turns so far, and the next sub-question."""
        return " ".join(("solve:", problem, *map(self._tell, turns), ASK, question))

    def _tell(self, turn: Turn) -> str:
        answer = turn.answer if self.history == "answers" else f"{self.marker} {turn.answer}"
        told = (turn.text,) if turn.text and self.history == "steps" else ()
        return " ".join((ASK, turn.question, TELL, *told, *((answer,) if turn.answer else ())))

    # --- the rows of a trace -----------------------------------------------------------------------------------------

    def rows(self, role: str, trace: Trace) -> list[Trace]:
        """The training rows that a Socratic trace makes for a role, one of `ROLES`.

        One whose sub-questions nothing answers makes rows for decomposer and planner alone.

        Raises:
            TacitError: A step has no sub-question, or one that could not be told from the next.
        """
        trace = answered(trace)
        turns = read_turns(trace)
        if role == "decomposer":
            return [self._decomposer(trace, len(turns))]
        if role == "planner":
            return [_row(trace, role, self.plan(trace.question), (), guide(trace, self.guidance))]
        if role in ROLES and not has_answers(trace):
            return []
        if role == "solver":
            return [
                _row(trace, f"solver/{j}", self.solve(trace.question, turns[:j], asked), [text] if text else [], told)
                for j, (asked, text, told) in enumerate(turns)
            ]
        if role == "unified":
            _check_marks(trace)
            texts = [f"{ASK} {asked} {TELL} {text or told}" for asked, text, told in turns]
            return [_row(trace, role, trace.question, texts, trace.label)]
        if role == "cumulative":
            texts = [text or told for _, text, told in turns]
            read = [f"{trace.question} {ASK} {turn.question}" for turn in turns[:-1]] + [trace.question]
            return [
                _row(trace, f"cumulative/{j}", read[j], texts[: j + 1], turn.answer) for j, turn in enumerate(turns)
            ]
        raise unknown_name("role", role, ROLES)

    def _decomposer(self, trace: Trace, count: int) -> Trace:
        _check_marks(trace)
        read = self.decompose(trace.question, guide(trace, self.guidance))
        return _row(trace, "decomposer", read, [f"{ASK} {step.question}" for step in trace.steps], str(count))


def _row(trace: Trace, name: str, read: str, texts: Sequence[str], answer: str) -> Trace:
    return Trace(read, tuple(map(Step, texts)), answer, id=f"{trace.id}/{name}", source=trace.source)


def _check_marks(trace: Trace) -> None:
    for index, step in enumerate(trace.steps):
        if MARK.search(step.question or ""):
            raise TacitError(
                f"trace {trace.id}: field 'steps[{index}].question' holds {ASK!r}, which opens the next sub-question"
            )


def is_socratic(trace: Trace) -> bool:
    """Whether each step of a trace has a sub-question."""
    return coverage(trace) == "all"


def has_answers(trace: Trace) -> bool:
    """Whether each step but the last has more than its sub-question, which is all that most of StrategyQA's have."""
    return all(step.answer or step.text.strip() != (step.question or "").strip() for step in trace.steps[:-1])


def answered(trace: Trace) -> Trace:
    """A trace without the sub-questions that nothing answers, such as six of GSM8K Socratic; the last one stays.

    References count the steps that are left; one to a step that is gone becomes `#0`, which refers to none.
    """
    last = len(trace.steps) - 1
    kept = [k for k, step in enumerate(trace.steps) if k == last or step.text.strip() or step.answer]
    if len(kept) == len(trace.steps):
        return trace
    numbers = {**dict.fromkeys(range(1, last + 2), 0), **{k + 1: number for number, k in enumerate(kept, 1)}}
    steps = (trace.steps[k] for k in kept)
    asked = (replace(step, question=renumber(step.question or "", numbers)) for step in steps)
    return replace(trace, steps=tuple(asked))


def renumber(question: str, numbers: Mapping[int, int]) -> str:
    """A sub-question whose references follow steps to their new numbers."""
    return REFERENCE.sub(lambda found: f"#{numbers[k]}" if (k := int(found[1])) in numbers else found[0], question)


def read_turns(trace: Trace) -> list[Turn]:
    """The dialogue in a Socratic trace, each reference `#k` replaced by the answer of step k.

    The answer of the last step is the trace's label; of any other it is `Step.answer`, else the value of its last
    `<<expression=value>>`, else its last number, else all of its text.

    Raises:
        TacitError: There are no steps, or one has no sub-question.
    """
    if not trace.steps:
        raise TacitError(f"trace {trace.id} has no steps: Socratic CoT needs sub-questions with their answers")
    turns: list[Turn] = []
    trace = answered(trace)
    for index, step in enumerate(trace.steps):
        if not (step.question or "").strip():
            raise TacitError(
                f"trace {trace.id}: field 'steps[{index}].question' is missing: Socratic CoT needs a sub-question on "
                "each step (`tacit generate --prompt socratic` asks a teacher for them)"
            )
        answer = trace.label if index == len(trace.steps) - 1 else step_answer(step)
        asked, _ = refer((step.question or "").strip(), [turn.answer for turn in turns])
        text = step.text.strip()
        turns.append(Turn(asked, "" if text == answer else text, answer))
    return turns


def step_answer(step: Step) -> str:
    """The result of a step, as `read_turns` says."""
    if step.answer is not None and step.answer.strip():
        return step.answer.strip()
    spans = SPAN.findall(step.text)
    if spans and "=" in spans[-1]:
        return spans[-1].rpartition("=")[2].removesuffix(">>").strip()
    numbers = NUMBER.findall(REFERENCE.sub("", step.text))
    return numbers[-1] if numbers else step.text.strip()


def refer(question: str, answers: Sequence[str]) -> tuple[str, int]:
    """A sub-question with the answers that it refers to in their places, and how many `#k` are no reference.

    `#k` refers to the answer of step k, which must come before; any other is text (a horse #7).
    """
    open_ends = 0

    def replace(found: re.Match[str]) -> str:
        nonlocal open_ends
        k = int(found[1])
        if 1 <= k <= len(answers) and answers[k - 1]:
            return answers[k - 1]
        open_ends += 1
        return found[0]

    return REFERENCE.sub(replace, question), open_ends


def guide(trace: Trace, guidance: str) -> str:
    """What guides the decomposer of a trace: nothing, the number of steps, or the calculations of each.

    Raises:
        TacitError: The trace has no steps.
    """
    if guidance == "none":
        return ""
    if not trace.steps:
        raise TacitError(f"trace {trace.id} has no steps, which a plan is made of")
    trace = answered(trace)
    if guidance == "steps":
        return f"{len(trace.steps)} steps"
    spans = [SPAN.findall(step.text) or ["<< >>"] for step in trace.steps]
    if guidance == "equations":
        return " ".join(span for found in spans for span in found)
    return " ".join(" ".join(("<<", *re.findall(r"[-+*/]", "".join(found)), ">>")) for found in spans)


def questions_of(traces: Sequence[Trace], others: Sequence[Trace], task: Task) -> list[list[str]]:
    """The sub-questions of problems, as others have them: a teacher, or the traces themselves (gold ones).

    Those that nothing answers are left out.

    Raises:
        TacitError: The others lack a problem, or have no sub-questions for it.
    """
    known = {task.problem(trace.question): trace for trace in others if is_socratic(trace)}
    missing = [trace for trace in traces if task.problem(trace.question) not in known]
    if missing:
        raise TacitError(
            f"there are no sub-questions for {len(missing):,} of {len(traces):,} problems, such as trace "
            f"{missing[0].id}"
        )
    return [[step.question or "" for step in answered(known[task.problem(trace.question)]).steps] for trace in traces]


def read_questions(text: str) -> list[str]:
    """The sub-questions in what a decomposer wrote: each follows a `Q:` of its own."""
    return [" ".join(piece.split()) for piece in MARK.split(text)[1:] if piece.strip()]


def final_question(problem: str) -> str:
    """The last sentence of a problem that asks; its last sentence where none does."""
    sentences = [sentence for sentence in SENTENCE_END.split(problem.strip()) if sentence]
    asking = [sentence for sentence in sentences if sentence.rstrip().endswith("?")]
    return (asking or sentences or [problem])[-1].strip()
