"""A decomposer that asks and a solver that answers, together (Socratic CoT, arXiv 2212.00193).

A problem is decomposed once; its sub-questions are answered in turn, the solver's own answers fed back. All problems
advance side by side: turn j of all of them is one batch. Decoding is greedy.

Usage: `pipeline = load("runs/word-problems/socratic")`; `pipeline.ask("Ada has ...").turns`;
`pipeline.reply(problems, asked=[["How many ...?", ...], ...])` answers the sub-questions of somebody else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tacit import checkpoint
from tacit.errors import TacitError
from tacit.models import max_positions
from tacit.socratic.rows import (
    ASK,
    REFERENCE,
    TELL,
    Turn,
    Wording,
    final_question,
    read_questions,
    refer,
    renumber,
    step_answer,
)
from tacit.student import Reply, Student
from tacit.tasks import Task
from tacit.trace import Step

MAX_QUESTIONS = 12
STUDENTS = ("decomposer", "solver", "planner", "student")  # folders of a pipeline; the last has all roles

# What can go wrong in a dialogue, and what is done then. Every evaluation counts them.
NO_PLAN = "no plan"  # the planner wrote none that can be read: the decomposer goes without
NOTHING_ASKED = "nothing asked"  # the problem's own final question is
UNENDED = "unended decomposition"  # its last sub-question, perhaps cut, gives way to the problem's own final question
TOO_MANY = "too many questions"  # the first ones and the last are asked
REPEATED = "repeated question"  # it is asked once: where it came first, or last if it came last
OPEN_REFERENCE = "reference to no earlier step"  # it is read as text
UNMARKED = "unmarked answer"  # what looks like an answer in it is taken
NO_ANSWER = "step without an answer"  # its text alone is told
UNREADABLE = "unreadable step"  # it is not asked: what was told has no tokens, or has too many for the model


@dataclass
class Dialogue:
    """Sub-questions, what was answered, and the conclusion.

    Attributes:
        problem (`str`): In the model's form.
        plan (`str`): What guided the decomposer; empty where nothing did.
        asked (`list[str]`): The sub-questions as they were asked, references as they stand.
        turns (`list[Turn]`): Those that were answered, in their order.
        unread (`set[int]`): Places in `asked`, from 0, of those that the solver could not read.
        shown (`str`): The answer as a person reads it.
        generated_tokens (`int`): By all students together, with their ends of sequence.
        reasoning_tokens (`int`): All of them but the last answer segment.
        marked (`bool`): The answer stands behind an answer marker.
        notes (`list[str]`): What went wrong, in the words above.
    """

    problem: str
    plan: str = ""
    asked: list[str] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    unread: set[int] = field(default_factory=set)
    shown: str = ""
    generated_tokens: int = 0
    reasoning_tokens: int = 0
    marked: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def answer(self) -> str:
        """Of the last turn: the prediction. Empty where there is none."""
        return self.turns[-1].answer if self.turns else ""

    @property
    def conclusion(self) -> str:
        """What is graded: the answer; where no marker told it, all of the last turn's text."""
        return self.answer if self.marked or not self.turns else self.turns[-1].text

    @property
    def text(self) -> str:
        """All of it, a turn a line."""
        return "\n".join(
            " ".join(filter(None, (ASK, question, TELL, text, answer))) for question, text, answer in self.turns
        )


@dataclass
class SocraticPipeline:
    """A decomposer and a solver, or one student that is both.

    Args:
        decomposer, solver (`Student`): Trained on the rows of these roles.
        planner (`Student`, *optional*): Foretells what guides the decomposer.
        wording (`Wording`): How the rows were written.
        max_questions (`int`): Asked of a problem at most.
        info (`dict`): What `tacit.json` says of it.
    """

    decomposer: Student
    solver: Student
    planner: Student | None = None
    wording: Wording = field(default_factory=Wording)
    max_questions: int = MAX_QUESTIONS
    info: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, students: Mapping[str, Student], wording: Wording, max_questions: int, info: dict[str, Any]
    ) -> SocraticPipeline:
        """The pipeline of students by role, as `students` names them. Raises `TacitError` where one is missing."""
        both = students.get("student")
        planner = students.get("planner", both if wording.guidance != "none" else None)
        decomposer, solver = students.get("decomposer", both), students.get("solver", both)
        if decomposer is None or solver is None:
            found = ", ".join(students) or "nobody"
            raise TacitError(f"a Socratic pipeline has a decomposer and a solver; got {found}")
        return cls(decomposer, solver, planner, wording, max_questions, info)

    @property
    def task(self) -> Task:
        """The solver's: it answers."""
        return self.solver.task

    @property
    def students(self) -> dict[str, Student]:
        """By role; one that has several comes once, as "student"."""
        if self.decomposer is self.solver:
            return {"student": self.solver}
        roles = {"decomposer": self.decomposer, "solver": self.solver, "planner": self.planner}
        return {role: student for role, student in roles.items() if student is not None}

    @property
    def calculator(self) -> bool:
        """Whether the solver's calculations are done for it (see `Student`)."""
        return self.solver.calculator

    @calculator.setter
    def calculator(self, wanted: bool) -> None:
        self.solver.calculator = wanted

    def ask(self, typed: str, asked: Sequence[str] | None = None) -> Dialogue:
        """A person's problem, and perhaps a person's sub-questions, in their order.

        Raises:
            TacitError: Task or tokenizer cannot read one of them.
        """
        problem = self.task.read_question(typed)
        questions = None if asked is None else [self.task.read_question(question) for question in asked]
        self._check("question", typed, self.wording.solve(problem, [], ""))
        for question in questions or ():  # what a person typed is no fallback's; references are filled in later
            self._check("sub-question", question, self.wording.solve(problem, [], REFERENCE.sub("", question)))
        return self.reply([problem], asked=None if questions is None else [questions])[0]

    def _check(self, name: str, typed: str, read: str) -> None:
        """Raises `TacitError` where the solver cannot read what a person typed, in the person's words."""
        try:
            self.solver.prompt(read)
        except TacitError as error:
            raise TacitError(f"{name} {typed!r}: {str(error).rpartition(': ')[2]}") from None

    def reply(
        self,
        problems: Sequence[str],
        batch_size: int = 64,
        asked: Sequence[Sequence[str]] | None = None,
        plans: Sequence[str] | None = None,
    ) -> list[Dialogue]:
        """The dialogues of problems in the model's form (a trace's `question`).

        Args:
            problems: The texts.
            batch_size (`int`): Problems at a time.
            asked: The sub-questions of each problem, from somebody else (gold ones, a teacher's); the decomposer's
                own by default.
            plans: What guides the decomposer, from somebody else; the planner's by default.

        Raises:
            TacitError: A problem is empty, the tokenizer cannot represent it, or the decomposer is guided and there is
                neither a planner nor a plan.
        """
        if not all(problem.strip() for problem in problems):
            raise TacitError("the question is empty")
        dialogues = [Dialogue(problem) for problem in problems]
        if asked is None:
            self._plan(dialogues, batch_size, plans)
            self._decompose(dialogues, batch_size)
        else:
            for dialogue, questions in zip(dialogues, asked, strict=True):
                dialogue.asked = [question.strip() for question in questions if question.strip()]
        for dialogue in dialogues:
            if not dialogue.asked:
                dialogue.notes.append(NOTHING_ASKED)
                dialogue.asked = [final_question(dialogue.problem)]
        for j in range(max((len(dialogue.asked) for dialogue in dialogues), default=0)):
            self.answer([dialogue for dialogue in dialogues if j < len(dialogue.asked)], j, batch_size)
        for dialogue in dialogues:
            dialogue.shown = self.task.show_answer(dialogue.answer)
        return dialogues

    def _plan(self, dialogues: list[Dialogue], batch_size: int, plans: Sequence[str] | None) -> None:
        if self.wording.guidance == "none":
            return
        if plans is None:
            if self.planner is None:
                raise TacitError("the decomposer is guided, but there is no planner: give the plans")
            replies = self.planner.reply([self.wording.plan(each.problem) for each in dialogues], batch_size)
            for dialogue, reply in zip(dialogues, replies, strict=True):
                dialogue.generated_tokens += reply.generated_tokens
            plans = [reply.answer for reply in replies]
        for dialogue, plan in zip(dialogues, plans, strict=True):
            dialogue.plan = plan

    def _decompose(self, dialogues: list[Dialogue], batch_size: int) -> None:
        prompts = []
        for dialogue in dialogues:
            prompt = _prompt(self.decomposer, self.wording.decompose(dialogue.problem, dialogue.plan))
            if self.wording.guidance != "none" and (prompt is None or not dialogue.plan):
                dialogue.notes.append(NO_PLAN)
                dialogue.plan = ""
            if prompt is None:
                prompt = self.decomposer.prompt(self.wording.decompose(dialogue.problem))
            prompts.append(prompt)
        replies = map(self.decomposer.read, self.decomposer.generate(prompts, batch_size))
        for dialogue, reply in zip(dialogues, replies, strict=True):
            dialogue.generated_tokens += reply.generated_tokens
            questions = read_questions(_reasoning(self.decomposer, reply))
            if questions and not reply.marked:
                dialogue.notes.append(UNENDED)
                questions[-1] = final_question(dialogue.problem)
            place = {question: k for k, question in reversed(list(enumerate(questions)))}  # where it comes first
            if questions:
                place[questions[-1]] = len(questions) - 1  # but what concludes stays last
            kept = sorted(place.values())
            if len(kept) < len(questions):
                dialogue.notes.append(REPEATED)
            if len(kept) > self.max_questions:
                dialogue.notes.append(TOO_MANY)
                kept = [*kept[: self.max_questions - 1], kept[-1]]
            new = {k: number for number, k in enumerate(kept, 1)}
            numbers = {k: new.get(place[question], 0) for k, question in enumerate(questions, 1)}
            dialogue.asked = [renumber(questions[k], numbers) for k in kept]

    def answer(self, dialogues: Sequence[Dialogue], j: int, batch_size: int) -> None:
        """Adds turn j, counted from 0, to dialogues that have the earlier ones and a sub-question for it."""
        prompts, asking = [], []
        for dialogue in dialogues:
            answers = (turn.answer for turn in dialogue.turns)
            told = ["" if k in dialogue.unread else next(answers) for k in range(j)]
            question, open_ends = refer(dialogue.asked[j], told)
            dialogue.notes.extend([OPEN_REFERENCE] * open_ends)
            prompt = _prompt(self.solver, self.wording.solve(dialogue.problem, dialogue.turns, question))
            if prompt is None:
                # That the problem itself cannot be read is an error.
                self.solver.prompt(self.wording.solve(dialogue.problem, [], final_question(dialogue.problem)))
                dialogue.notes.append(UNREADABLE)
                dialogue.unread.add(j)
            else:
                prompts.append(prompt)
                asking.append((dialogue, question))
        written = self.solver.generate(prompts, batch_size)
        for (dialogue, question), ids in zip(asking, written, strict=True):
            self._take(dialogue, question, self.solver.read(ids))

    def _take(self, dialogue: Dialogue, question: str, reply: Reply) -> None:
        text, answer = _reasoning(self.solver, reply), reply.answer
        if answer and not reply.marked:  # the task may find it in another form than it is told in
            answer = step_answer(Step(text))
        dialogue.turns.append(Turn(question, text, answer))
        dialogue.marked = reply.marked
        dialogue.reasoning_tokens = dialogue.generated_tokens + reply.reasoning_tokens
        dialogue.generated_tokens += reply.generated_tokens
        if not answer:
            dialogue.notes.append(NO_ANSWER)
        elif not reply.marked:
            dialogue.notes.append(UNMARKED)

    # --- on disk -----------------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike) -> None:
        """Writes each student into a folder of its own, for stock transformers, then what makes them a pipeline.

        Raises:
            TacitError: The folder cannot be written.
        """
        for role, student in self.students.items():
            checkpoint.save(student, Path(folder) / role)
        self.save_info(folder)

    def save_info(self, folder: str | os.PathLike) -> None:
        """Writes what makes students that lie in its subfolders a pipeline. Raises `TacitError` as `save` does."""
        about = {
            **self.info,
            "students": list(self.students),
            "wording": asdict(self.wording),
            "max_questions": self.max_questions,
            "task": self.task.name,
        }
        checkpoint.write_info(Path(folder), about, _card(self))


def _prompt(student: Student, text: str) -> Any:
    """Token ids of what a student is to read; `None` where it has no tokens for it, or too few positions."""
    try:
        prompt = student.prompt(text)
    except TacitError:
        return None
    positions = max_positions(student.model)
    return prompt if positions is None or len(prompt) <= positions else None


def _reasoning(student: Student, reply: Reply) -> str:
    """What a student wrote before its answer; all of it where no marker stands."""
    return reply.text.rpartition(student.template.marker)[0].strip() if reply.marked else reply.text


def load(folder: str | os.PathLike) -> Student | SocraticPipeline:
    """What a folder of tacit's holds: a student, or a pipeline of several.

    Raises:
        TacitError: The folder is neither, or a student in it is missing.
    """
    info = checkpoint.load_info(folder)
    if "students" not in info:
        return checkpoint.load(folder)
    students = {role: checkpoint.load(Path(folder) / role) for role in STUDENTS if role in info["students"]}
    return SocraticPipeline.of(students, Wording(**info["wording"]), info["max_questions"], info)


def _card(pipeline: SocraticPipeline) -> str:
    """The model card of a pipeline: what is in its folders, and how it is used."""
    info, task = pipeline.info, pipeline.task
    example = json.dumps(task.example or "your question", ensure_ascii=False)
    result = info.get("evaluation")
    measured = "Not evaluated by tacit."
    if result:
        low, high = result["ci95"]
        measured = (
            f"Accuracy {result['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}) on {result['n']:,} held-out "
            f"problems, with {result['generated_tokens']:.1f} generated tokens per problem, of all students together."
        )
    folders = "\n".join(f"- `{role}/`: an ordinary checkpoint, with a card of its own" for role in pipeline.students)
    return f"""---
library_name: transformers
tags: [tacit, socratic]
---

# {info.get("name", "pipeline")}: Socratic CoT on {task.name}

A decomposer that asks sub-questions, and a solver that answers them in turn (arXiv:2212.00193), trained with tacit
({task.summary}).

{folders}

## Use

`tacit ask . {example}` shows the dialogue. In Python: `tacit.load(".").ask({example}).turns`. The students alone run
in stock transformers; `tacit.json` says how their prompts are written.

## Measured

{measured}

## Limits

Trained for one task and one way of writing it; other questions get meaningless answers."""
