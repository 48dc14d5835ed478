"""A student: a model with its tokenizer, its prompt and its task. It answers questions.

Usage: `student.ask("4821 * 37").shown == "178377"`; `student.reply(["1 2 8 4 * 7 3"])[0].text`.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tacit.grading import extract_answer
from tacit.models import pad_id
from tacit.rendering import Template
from tacit.tasks import CUSTOM, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Reply:
    """What a student wrote.

    Args:
        text (`str`): All of it.
        answer (`str`): What stands behind the last answer marker.
        shown (`str`): The answer as a person reads it.
        reasoning_tokens (`int`): Tokens before the answer segment; all of them where there is no marker.
        generated_tokens (`int`): With the end-of-sequence token.
    """

    text: str
    answer: str
    shown: str
    reasoning_tokens: int
    generated_tokens: int


@dataclass
class Student:
    """A causal language model that answers questions of one task.

    Args:
        model: A transformers model.
        tokenizer: Its fast tokenizer.
        template (`Template`): How it was taught to read a question.
        task (`Task`): Translates between people and the model, and grades.
        max_new_tokens (`int`): Where generation stops at the latest.
        silent (`bool`): Whether it was taught to write no reasoning at all.
        info (`dict`): What `tacit.json` says of it.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    template: Template = field(default_factory=Template)
    task: Task = CUSTOM
    max_new_tokens: int = 256
    silent: bool = False
    info: dict[str, Any] = field(default_factory=dict)

    def ask(self, typed: str) -> Reply:
        """A person's question, a person's answer. Raises `TacitError` where the task cannot read the question."""
        return self.reply([self.task.read_question(typed)])[0]

    def reply(self, questions: Sequence[str], batch_size: int = 64) -> list[Reply]:
        """Greedy replies to questions in the model's form (a trace's `question`)."""
        prompts = [
            np.array(ids) for ids in self.tokenizer([self.template.write_prompt(q) for q in questions]).input_ids
        ]
        return [self.read(ids) for ids in self.generate(prompts, batch_size)]

    @torch.inference_mode()
    def generate(self, prompts: Sequence[np.ndarray], batch_size: int) -> list[np.ndarray]:
        """Greedy, batched, KV-cached generation.

        Args:
            prompts: Token ids, each of shape (P_i,).
            batch_size (`int`): Prompts of like length are put together, padded on the left.

        Returns:
            The new ids of each prompt, up to and including the first end of sequence.
        """
        from transformers import GenerationConfig

        eos = self.tokenizer.eos_token_id
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=eos,
            pad_token_id=pad_id(self.tokenizer),
            use_cache=True,
        )
        was_training = self.model.training
        self.model.eval()
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        written: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(prompts)
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            width = max(len(prompts[index]) for index in chosen)
            ids = np.full((len(chosen), width), pad_id(self.tokenizer))
            mask = np.zeros_like(ids)
            for row, index in enumerate(chosen):
                ids[row, width - len(prompts[index]) :] = prompts[index]
                mask[row, width - len(prompts[index]) :] = 1
            device = self.model.device
            out = self.model.generate(
                input_ids=torch.from_numpy(ids).to(device),
                attention_mask=torch.from_numpy(mask).to(device),
                generation_config=config,
            )
            for index, row in zip(chosen, out[:, width:].cpu().numpy(), strict=True):
                ends = np.flatnonzero(row == eos)
                written[index] = row[: ends[0] + 1] if len(ends) else row
        self.model.train(was_training)
        return written

    def read(self, ids: np.ndarray) -> Reply:
        """The reply in generated ids."""
        body = ids[:-1] if len(ids) and ids[-1] == self.tokenizer.eos_token_id else ids
        text = self._decode(body)
        marker = self.template.marker
        at = text.rfind(marker)
        # The answer segment opens with the token that holds the marker's first character.
        count = (
            len(body)
            if at < 0
            else bisect.bisect_right(range(len(body)), at, key=lambda n: self._visible(body[:n])) - 1
        )
        answer = extract_answer(text, marker)
        return Reply(text.strip(), answer, self.task.show_answer(answer), max(count, 0), len(ids))

    def _decode(self, ids: np.ndarray) -> str:
        text = self.tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def _visible(self, ids: np.ndarray) -> int:
        return len(self._decode(ids).rstrip())
