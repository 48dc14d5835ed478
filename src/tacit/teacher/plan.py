"""What a teacher is asked: questions, a prompt, D samples of each; and the rows that its replies make.

Requests and rows follow from the plan and the replies alone, and a larger D changes nothing of the smaller one.

Usage: `plan = Plan(read_questions("train.jsonl"), model="gpt-x", samples=8)`; `plan.recall(cache, question, 0)`.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tacit.errors import TacitError
from tacit.grading import NUMBER, TEXT, YES_NO, AnswerFormat, letters
from tacit.prompts import Prompt, get_prompt, read_examples
from tacit.tasks import CUSTOM, Task, task_of
from tacit.teacher.cache import Cache, key_of
from tacit.teacher.reply import Reply
from tacit.trace import Trace, parse_json, read_lines

ANSWER_TOKENS = 128  # of the second stage, as in the paper

Body = Mapping[str, Any]
"""A request in the form of the OpenAI API."""


def read_questions(path: str | os.PathLike) -> list[Trace]:
    """The questions of a file: traces, of which only `question` is needed.

    Raises:
        TacitError: The file does not read, or two questions have one id.
    """

    def parse(line: str) -> Trace:
        record = parse_json(line)
        if not isinstance(record, dict) or record.get("answer") is not None or record.get("gold") is not None:
            return Trace.from_dict({"steps": [], **record} if isinstance(record, dict) else record)
        trace = Trace.from_dict({"steps": [], **record, "answer": "unknown"})
        return replace(trace, answer="")

    traces = read_lines(path, parse)
    for id, count in Counter(trace.id for trace in traces).items():
        if count > 1:
            raise TacitError(
                f"{path}: {count} questions have the id {id!r}; give each its own, or leave the others out "
                "(without an id, a question and its answer make one)"
            )
    return traces


@dataclass
class Plan:
    """What is asked for: it decides every request, and with the replies every row.

    Args:
        questions: With their right answers, where these are known.
        model (`str`): The teacher's name.
        task (`str`, *optional*): Of all questions; by default each one's own.
        prompt, trigger, examples, given: As `get_prompt` takes them; `examples` is a file.
        chat (`bool`): Sends messages, not plain text.
        samples (`int`): D, how many rationales for each question.
        temperature (`float`): Of the rationale, the paper's 0.7 for any D, so that D can grow. The second stage is
            greedy.
        max_tokens (`int`): Of the rationale.
        extra_body (`dict`): Fields for every request; one that is null takes a field away.
        generation_config (`bool`): Also sends the sampling settings the way that `transformers serve` understands.
        identity (`str`): The teacher's.

    Raises:
        TacitError: A name that does not exist, examples that cannot be read, or a question without what is to be
            given with it.
    """

    questions: Sequence[Trace]
    model: str
    task: str | None = None
    prompt: str = "zero-shot-cot"
    trigger: str = "generic"
    examples: str | os.PathLike | None = None
    given: str = ""
    chat: bool = True
    samples: int = 1
    temperature: float = 0.7
    max_tokens: int = 128
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    generation_config: bool = False
    identity: str = ""
    _prompts: dict[str, Prompt] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._own_format = _format_of(q.label for q in self.questions if self.task_of(q) is CUSTOM and q.label)
        for question in self.questions:
            self.prompt_of(self.task_of(question)).pose(question)

    def __iter__(self) -> Iterator[tuple[Trace, int]]:
        """Every question with every sample's number."""
        return ((question, sample) for question in self.questions for sample in range(self.samples))

    @property
    def rows(self) -> int:
        """How many rows there will be."""
        return len(self.questions) * self.samples

    def task_of(self, question: Trace) -> Task:
        """The task that grades a question."""
        return task_of(question, self.task)

    def format_of(self, task: Task) -> AnswerFormat:
        """What the answers of a task look like; people's own look as all of them do."""
        return self._own_format if task is CUSTOM else task.format

    def prompt_of(self, task: Task) -> Prompt:
        """How the questions of a task are asked."""
        if task.name not in self._prompts:
            examples = read_examples(self.examples, task) if self.examples else ""
            self._prompts[task.name] = get_prompt(
                self.prompt, self.format_of(task), self.trigger, examples, given=self.given
            )
        return self._prompts[task.name]

    def key(self, body: Body, sample: int) -> str:
        """The name of a request in the cache."""
        return key_of(self.identity, body, sample)

    def limit(self, body: Body) -> int:
        """How many tokens the reply to a request can have."""
        return body.get("max_completion_tokens") or body.get("max_tokens") or self.max_tokens

    def recall(
        self,
        cache: Cache | None,
        question: Trace,
        sample: int,
        heard: Callable[[Body, Reply], None] = lambda body, reply: None,
    ) -> Trace | None:
        """The row of a sample whose replies are all in the cache; `None` where one is missing.

        Args:
            cache (`Cache`, *optional*): Of the replies.
            question (`Trace`), sample (`int`): Which row.
            heard (`Callable`): Takes each request of a whole row with its reply.
        """
        talk, said = self.talk(question, sample), []
        body = next(talk)
        while cache and (reply := cache.get(self.key(body, sample))):
            said.append((body, reply))
            try:
                body = talk.send(reply)
            except StopIteration as end:
                for request, answer in said:
                    heard(request, answer)
                return end.value
        return None

    def talk(self, question: Trace, sample: int) -> Generator[dict[str, Any], Reply, Trace]:
        """The talk with the teacher on one sample: yields each request, takes its reply, returns the row."""
        prompt = self.prompt_of(self.task_of(question))
        first = yield self._body(prompt, question, sample)
        second = None
        if prompt.is_open(first.text, first.thinking):
            second = yield self._body(prompt, question, sample, first.text or first.thinking)
        return self._row(prompt, question, sample, first, second)

    def _body(self, prompt: Prompt, question: Trace, sample: int, rationale: str | None = None) -> dict[str, Any]:
        write = prompt.messages if self.chat else prompt.text
        temperature = self.temperature if rationale is None else 0.0
        max_tokens = self.max_tokens if rationale is None else min(self.max_tokens, ANSWER_TOKENS)
        body: dict[str, Any] = {
            "model": self.model,
            "messages" if self.chat else "prompt": write(prompt.pose(question), rationale),
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        if prompt.stop and rationale is None:
            body["stop"] = list(prompt.stop)
        if temperature:  # a seed of its own for each sample, which servers that know none ignore
            body["seed"] = int(key_of("", body, sample)[:8], 16) >> 1
        if self.generation_config:
            sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
            body["generation_config"] = json.dumps({**sampling, "max_new_tokens": max_tokens})
        return {name: value for name, value in {**body, **self.extra_body}.items() if value is not None}

    def _row(self, prompt: Prompt, question: Trace, sample: int, first: Reply, second: Reply | None) -> Trace:
        task, gold = self.task_of(question), question.label or None
        rationale, completion, marked = prompt.read(first.text, second.text if second else None, first.thinking)
        steps, rule = prompt.steps(rationale)
        answer = self.format_of(task).extract(completion, marked=marked)
        if task is CUSTOM and gold and self._own_format.same(answer, gold):
            answer = gold  # people's own answers are compared as text from here on
        usage: Counter[str] = Counter(first.usage)
        usage.update(second.usage if second else {})
        return Trace(
            question.question,
            steps,
            answer,
            gold=gold,
            id=f"{question.id}/{sample}",
            source={
                **(question.source or {}),
                **({} if task is CUSTOM else {"task": task.name}),
                "question_id": question.id,
                "sample": sample,
                "model": self.model,
                "prompt": self.prompt,
                **({"given": self.given} if self.given else {}),
                "temperature": self.temperature,
                "rationale": rationale,
                "completion": completion,
                "marked": marked,
                "finish_reason": first.finish_reason,
                "usage": dict(usage),
                "steps": rule,
            },
        )


def _format_of(answers: Iterable[str]) -> AnswerFormat:
    """What answers look like: numbers, yes or no, or letters, if all of them are; else any text."""
    answers = set(answers)
    if answers and all(re.fullmatch("[A-J]", answer) for answer in answers):
        return letters(max(answers))
    for format in (NUMBER, YES_NO):
        if answers and all(format.extract(answer, "strict") for answer in answers):
            return format
    return TEXT
