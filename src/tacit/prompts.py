"""Prompts: how a question is put to a model that was not trained here, and how its reply is read.

    zero-shot      the bare question; the reply is the answer
    zero-shot-cot  two stages (arXiv 2205.11916): "Let's think step by step.", then a trigger that asks for the answer
    few-shot-cot   worked examples before the question (arXiv 2201.11903); the reply ends in "The answer is"
    plain          the question alone, to a model that was taught the task; the reply is `chain #### answer`
    socratic       sub-questions with their answers (arXiv 2212.00193), of a solution or of facts if these are given

Each has a text for completion models and messages for chat models. A reasoning model returns its thinking apart from
what it says: then the thinking is the rationale and what it says is the completion, and where it says something no
second stage is needed.

Usage: `prompt = get_prompt("zero-shot-cot")`; ask `prompt.text(question)`; if `prompt.is_open(reply)`, ask
`prompt.text(question, reply)` too; then `rationale, completion, marked = prompt.read(reply, second_reply)`, and
`steps, rule = prompt.steps(rationale)`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tacit.errors import TacitError, unknown_name
from tacit.formats import split_dialogue, split_steps
from tacit.grading import MARKER, AnswerFormat
from tacit.tasks import CUSTOM, Task, get_task
from tacit.trace import Step, Trace, parse_json

PROMPTS = ("zero-shot", "zero-shot-cot", "few-shot-cot", "plain", "socratic")
TRIGGERS = ("generic", "format")
THINK = "Let's think step by step."
GIVEN = ("solution", "facts")
CONCLUSION = re.compile(r"(?:\b(?:so|thus|hence|therefore|and),?\s+)?\bthe answer is\b", re.IGNORECASE)


class Reading(NamedTuple):
    """What a reply holds.

    Args:
        rationale (`str`): The chain of thought as it was written; empty where there is none.
        completion (`str`): What to take the answer from.
        marked (`bool`): The completion follows a marker or trigger, so that its first candidate is the answer;
            otherwise its last one is.
    """

    rationale: str
    completion: str
    marked: bool


@dataclass(frozen=True)
class Prompt:
    """How a question is written and its reply read.

    Args:
        name (`str`): One of `PROMPTS`.
        before, after (`str`): What stands around the question.
        trigger (`str`): Asks for the answer in a second stage; empty where there is none.
        marker (`re.Pattern`, *optional*): Stands before the answer in the reply of the first stage.
        stop (`tuple[str, ...]`): Where a reply ends at the latest.
    """

    name: str
    before: str = ""
    after: str = ""
    trigger: str = ""
    marker: re.Pattern[str] | None = None
    stop: tuple[str, ...] = ()

    @property
    def stages(self) -> int:
        """How many requests a question takes at most."""
        return 2 if self.trigger else 1

    def pose(self, trace: Trace) -> str:
        """The question of a trace, as `text` and `messages` take it."""
        return trace.question

    def text(self, question: str, rationale: str | None = None) -> str:
        """What a completion model reads: of the first stage, or of the second, given the first one's reply."""
        first = f"{self.before}{question}{self.after}"
        if rationale is None:
            return first
        space = "" if rationale[:1].isspace() else " "  # which some servers and tokenizers strip
        return f"{first}{space}{rationale}\n{self.trigger}"

    def messages(self, question: str, rationale: str | None = None) -> list[dict[str, str]]:
        """What a chat model reads: of the first stage, or of the second, given the first one's reply."""
        messages = [{"role": "user", "content": self.text(question)}]
        if rationale is not None:
            messages.append({"role": "assistant", "content": rationale})
            messages.append({"role": "user", "content": self.trigger})
        return messages

    def is_open(self, first: str, thinking: str = "") -> bool:
        """Whether the second stage is to be asked: not where a reasoning model has thought and then said something."""
        return bool(self.trigger) and not (thinking and first)

    def read(self, first: str, second: str | None = None, thinking: str = "") -> Reading:
        """What the replies of the stages hold.

        Args:
            first (`str`): What the model said in the first stage.
            second (`str`, *optional*): And in the second one, where `is_open` asked for it.
            thinking (`str`): What a reasoning model thought in the first stage (see `split_thinking`).
        """
        for stop in self.stop:
            first = first.partition(stop)[0]
        if second is not None:
            return Reading(thinking or first, second, True)
        if self.marker is None:
            return Reading(thinking, first, not thinking)
        ends = list(self.marker.finditer(first))
        if not ends:
            return Reading(thinking or first, first, False)
        return Reading(thinking or first[: ends[-1].start()], first[ends[-1].end() :], True)

    def steps(self, rationale: str) -> tuple[tuple[Step, ...], str]:
        """The steps of a rationale, and the name of the rule that found them."""
        texts, rule = split_steps(rationale)
        return tuple(map(Step, texts)), rule

    def shows(self, question: str) -> bool:
        """Whether the question is one of the worked examples; a test set leaves such out."""
        return " ".join(question.split()) in " ".join(self.before.split())


@dataclass(frozen=True)
class SocraticPrompt(Prompt):
    """Asks for sub-questions with their answers; the rationale is the reply as it was written.

    Args:
        given (`str`): What the teacher is told beside the question: "solution", the steps of its trace; "facts", the
            list in `source["facts"]`; or nothing.
    """

    given: str = ""

    def pose(self, trace: Trace) -> str:
        """The question, with what is given. Raises `TacitError` where the trace lacks that."""
        if not self.given:
            return trace.question
        known = (trace.source or {}).get("facts") if self.given == "facts" else [step.text for step in trace.steps]
        known = [str(line) for line in known if str(line).strip()] if isinstance(known, list) else []
        if not known:
            missing = "facts in 'source'" if self.given == "facts" else "steps"
            raise TacitError(
                f"question {trace.id} ({trace.question[:60]!r}) has no {missing}: no {self.given} can be given"
            )
        return _give(trace.question, self.given, "\n".join(known))

    def read(self, first: str, second: str | None = None, thinking: str = "") -> Reading:
        """As of any prompt; where there are sub-questions, the thinking before them is no part of the rationale."""
        for stop in self.stop:
            first = first.partition(stop)[0]
        steps, conclusion = split_dialogue(first)
        if not steps:
            return super().read(first, second, thinking)
        result = conclusion or steps[-1].answer
        return Reading(first, result or steps[-1].text, bool(result))

    def steps(self, rationale: str) -> tuple[tuple[Step, ...], str]:
        """The sub-questions with their answers; as of any prompt where there are none."""
        steps, _ = split_dialogue(rationale)
        return (tuple(steps), "sub-questions") if steps else super().steps(rationale)


# Worked examples of our own: problem, what is known of it, and the dialogue.
DIALOGUES = (
    (
        "A farmer fills 6 crates with 15 melons each. He keeps 12 melons and sells the others at 2 dollars each. How "
        "much money does he make?",
        "The crates hold 6 * 15 = <<6*15=90>>90 melons.\n"
        "He sells 90 - 12 = <<90-12=78>>78 melons.\n"
        "He makes 78 * 2 = <<78*2=156>>156 dollars.",
        "Q1: How many melons do the crates hold?\nA1: The crates hold 6 * 15 = <<6*15=90>>90 melons. #### 90\n"
        "Q2: How many melons does he sell?\nA2: He sells 90 - 12 = <<90-12=78>>78 melons. #### 78\n"
        "Q3: How much money does he make?\nA3: He makes 78 * 2 = <<78*2=156>>156 dollars. #### 156\n"
        "The answer is 156.",
    ),
    (
        "Nora reads 18 pages on Monday and half as many on Tuesday. Her book has 60 pages. How many has she left?",
        "On Tuesday she reads 18 / 2 = <<18/2=9>>9 pages.\n"
        "So she has read 18 + 9 = <<18+9=27>>27 pages.\n"
        "She has 60 - 27 = <<60-27=33>>33 pages left.",
        "Q1: How many pages does Nora read on Tuesday?\nA1: On Tuesday she reads 18 / 2 = <<18/2=9>>9 pages. #### 9\n"
        "Q2: How many pages has she read in all?\nA2: So she has read 18 + 9 = <<18+9=27>>27 pages. #### 27\n"
        "Q3: How many pages has she left?\nA3: She has 60 - 27 = <<60-27=33>>33 pages left. #### 33\n"
        "The answer is 33.",
    ),
    (
        "Could a blue whale be parked inside a city bus?",
        "A blue whale is about 25 metres long.\nA city bus is about 12 metres long.",
        "Q1: How long is a blue whale?\nA1: A blue whale is about 25 metres long. #### 25 metres\n"
        "Q2: How long is a city bus?\nA2: A city bus is about 12 metres long. #### 12 metres\n"
        "Q3: Is #1 at most #2?\nA3: 25 metres is more than 12 metres, so the whale does not fit. #### no\n"
        "The answer is no.",
    ),
)
DIALOGUE = (
    "Break each problem into smaller questions and answer them in turn. Write a sub-question behind Q1:, Q2: and so "
    "on, and below it, behind A1:, A2: and so on, one short step with its calculation, then #### and its result. A "
    "sub-question asks for one thing that the problem does not state. It names no result of an earlier one: #1 stands "
    'for the answer to Q1. The last sub-question asks what the problem asks. End with "The answer is" and the answer.'
)
FOLLOW = {
    "": "",
    "solution": " Follow the solution that is given: ask one sub-question for each of its steps.",
    "facts": " Use the facts that are given.",
}


def _give(problem: str, given: str, known: str) -> str:
    return f"{problem}\n{given.capitalize()}:\n{known}"


def _socratic(given: str, examples: str) -> SocraticPrompt:
    if given and given not in GIVEN:
        raise unknown_name("given", given, GIVEN)
    shown = [
        f"Problem: {_give(problem, given, known) if given else problem}\nSub-questions and answers:\n{dialogue}"
        for problem, known, dialogue in (DIALOGUES[2:] if given == "facts" else DIALOGUES)
    ]
    before = "\n\n".join((DIALOGUE + FOLLOW[given], *([examples.strip()] if examples.strip() else shown), "Problem: "))
    stop = "\n\nProblem:"
    return SocraticPrompt(
        "socratic", before, "\nSub-questions and answers:", marker=CONCLUSION, stop=(stop,), given=given
    )


def get_prompt(
    name: str,
    format: AnswerFormat = CUSTOM.format,
    trigger: str = "generic",
    examples: str = "",
    encoder_decoder: bool = False,
    given: str = "",
) -> Prompt:
    """The prompt of that name, in the wording of Fine-tune-CoT (arXiv 2212.10071).

    Args:
        name (`str`): One of `PROMPTS`.
        format (`AnswerFormat`): Of the task's answers; only the trigger "format" reads it.
        trigger (`str`): "generic" asks for every answer in the same words, as Fine-tune-CoT does; "format" names the
            answer's format, as Zero-shot-CoT does (arXiv 2205.11916).
        examples (`str`): Worked examples, for few-shot-cot (see `read_examples`); for socratic, instead of our own.
        encoder_decoder (`bool`): zero-shot in the words that T5 models know.
        given (`str`): What socratic tells beside the question: "solution", "facts" or nothing.

    Raises:
        TacitError: An unknown name, or no examples where they are needed.
    """
    if trigger not in TRIGGERS:
        raise unknown_name("trigger", trigger, TRIGGERS)
    ask = _ask(format) if trigger == "format" else "the answer is"
    if name == "zero-shot":
        if trigger == "format":
            return Prompt(name, "Q: ", f"\nA: {ask[0].upper()}{ask[1:]}")
        return Prompt(name, "question: ") if encoder_decoder else Prompt(name, "Q: ", "\n\nA:")
    if name == "zero-shot-cot":
        return Prompt(name, "Q: ", f"\nA: {THINK}", trigger=f"Therefore, {ask}")
    if name == "few-shot-cot":
        if not examples.strip():
            raise TacitError("few-shot-cot needs worked examples")
        return Prompt(name, f"{examples.strip()}\nQ: ", "\nA:", marker=CONCLUSION, stop=("Q:",))
    if name == "plain":
        return Prompt(name, marker=re.compile(re.escape(MARKER)))
    if name == "socratic":
        return _socratic(given, examples)
    raise unknown_name("prompt", name, PROMPTS)


def _ask(format: AnswerFormat) -> str:
    if format.name == "number":
        return "the answer (arabic numerals) is"
    if format.name == "yes or no":
        return "the answer (Yes or No) is"
    if choices := re.match("letter ([A-Z])-([A-Z])", format.name):
        return f"among {choices[1]} through {choices[2]}, the answer is"
    return "the answer is"


def read_examples(path: str | os.PathLike, task: Task) -> str:
    """The worked examples in a file: text as it stands, or of JSON `{task: {"prompt": text}}` those of the task.

    Raises:
        TacitError: The file cannot be read, or has no examples for the task.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TacitError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise TacitError(f"{path}: not UTF-8 text") from None
    if text.lstrip().startswith("{"):
        try:
            record = parse_json(text)
        except TacitError as error:
            raise TacitError(f"{path}: {error}") from None
        text = _examples_of(path, record, task)
    if not text.strip():
        raise TacitError(f"{path}: no worked examples in this file")
    return text.strip()


def _examples_of(path: str | os.PathLike, record: dict, task: Task) -> str:
    for name, entry in record.items():
        try:
            of_task = get_task(name).name == task.name
        except TacitError:  # the file may know tasks that we do not
            continue
        if of_task:
            text = entry.get("prompt") if isinstance(entry, dict) else entry
            if isinstance(text, str):
                return text
            raise TacitError(f"{path}: {name!r} has no text 'prompt'")
    raise TacitError(f"{path}: no examples for task {task.name!r} (there are: {', '.join(record)})")
