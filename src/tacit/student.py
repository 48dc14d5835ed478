"""A student: a model with its tokenizer, its prompt and its task. It answers questions.

Usage: `student.ask("4821 * 37").shown == "178377"`; `student.reply(["1 2 8 4 * 7 3"])[0].text`.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tacit.calculator import Calculator
from tacit.errors import TacitError
from tacit.grading import extract_answer
from tacit.models import is_encoder_decoder, max_positions, pad_id
from tacit.rendering import Template, encode_prompt
from tacit.tasks import CUSTOM, Task

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Reply:
    """What a student wrote.

    Args:
        text (`str`): All of it.
        answer (`str`): What stands behind the last answer marker; where there is none, what the task finds last.
        shown (`str`): The answer as a person reads it.
        reasoning_tokens (`int`): Tokens before the answer segment; all of them where there is no marker.
        generated_tokens (`int`): With the end-of-sequence token.
        marked (`bool`): Whether the marker is there.
    """

    text: str
    answer: str
    shown: str
    reasoning_tokens: int
    generated_tokens: int
    marked: bool = True

    @property
    def conclusion(self) -> str:
        """What is graded: the answer; where no marker told it, all of the text."""
        return self.answer if self.marked else self.text


@dataclass
class Student:
    """A language model, causal or encoder-decoder, that answers questions of one task.

    Args:
        model: A transformers model.
        tokenizer: Its fast tokenizer.
        template (`Template`): How it was taught to read a question.
        task (`Task`): Translates between people and the model, and grades.
        max_new_tokens (`int`): Where generation stops at the latest.
        silent (`bool`): Whether it was taught to write no reasoning at all.
        info (`dict`): What `tacit.json` says of it.
        calculator (`bool`): Whether the value of each `<<48/2=` that it begins is calculated and written for it
            (`tacit.calculator`); its tokens count like its own.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    template: Template = field(default_factory=Template)
    task: Task = CUSTOM
    max_new_tokens: int = 256
    silent: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    calculator: bool = False

    def ask(self, typed: str) -> Reply:
        """A person's question, a person's answer. Raises `TacitError` where task or tokenizer cannot read it."""
        return self.reply([self.task.read_question(typed)])[0]

    def reply(self, questions: Sequence[str], batch_size: int = 64) -> list[Reply]:
        """Greedy replies to questions in the model's form (a trace's `question`). Raises as `prompt` does."""
        return [self.read(ids) for ids in self.generate([self.prompt(q) for q in questions], batch_size)]

    def prompt(self, question: str) -> np.ndarray:
        """The prompt of a question in the model's form as ids of shape (P,), exactly as in training.

        Raises:
            TacitError: The question is empty, or holds what the tokenizer cannot represent.
        """
        if not question.strip():
            raise TacitError("the question is empty")
        return encode_prompt(question, self.tokenizer, self.template, self.encoder_decoder)

    @property
    def encoder_decoder(self) -> bool:
        """Whether the model reads prompts with an encoder and writes with a decoder."""
        return is_encoder_decoder(self.model)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[np.ndarray], batch_size: int) -> list[np.ndarray]:
        """Greedy, batched, KV-cached generation.

        Args:
            prompts: Token ids, each of shape (P_i,).
            batch_size (`int`): Prompts of like length are put together, padded on the left; an encoder's on the
                right, where learned positions are counted from the first token.

        Returns:
            The new ids of each prompt, up to and including the first end of sequence. Generation stops after
            `max_new_tokens`, or where the model's positions end.

        Raises:
            TacitError: A prompt leaves no position to write to.
        """
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        written: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(prompts)
        was_training, own_config = self.model.training, self.model.generation_config
        self.model.eval()
        try:
            # Where the positions bound a reply, only prompts of one length go together: nobody cuts another one short.
            for room, group in groupby(order, key=lambda index: self._room(len(prompts[index]))):
                alike = list(group)
                for first in range(0, len(alike), batch_size):
                    chosen = alike[first : first + batch_size]
                    rows = self._generate_batch([prompts[index] for index in chosen], room)
                    for index, row in zip(chosen, rows, strict=True):
                        written[index] = row
        finally:
            self.model.train(was_training)
            self.model.generation_config = own_config
        return written

    def _room(self, length: int) -> int:
        """How many tokens may follow a prompt of this length."""
        positions = max_positions(self.model)
        if positions is None:
            return self.max_new_tokens
        if length > positions:
            raise TacitError(f"a question of {length} tokens is too long: the model has {positions} positions")
        # The last token is written, but not read. A decoder of its own begins with a token that it only reads.
        return min(self.max_new_tokens, positions if self.encoder_decoder else positions - length + 1)

    def _generate_batch(self, prompts: Sequence[np.ndarray], room: int) -> list[np.ndarray]:
        config = self.generation_config(room)
        self.model.generation_config = config  # else the model's own would add its penalties and other processors
        width = max(map(len, prompts))
        ids = np.full((len(prompts), width), config.pad_token_id)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            place = slice(len(prompt)) if self.encoder_decoder else slice(width - len(prompt), width)
            ids[row, place], mask[row, place] = prompt, 1
        device = self.model.device
        begin = 1 if self.encoder_decoder else width
        out = self.model.generate(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            generation_config=config,
            logits_processor=[Calculator(self.tokenizer, begin)] if self.calculator else None,
        )
        new = out[:, begin:].cpu().numpy()
        ends = [np.flatnonzero(row == config.eos_token_id) for row in new]
        return [row[: end[0] + 1] if len(end) else row for row, end in zip(new, ends, strict=True)]

    def generation_config(self, max_new_tokens: int) -> GenerationConfig:
        """Greedy, up to the one end of sequence."""
        from transformers import GenerationConfig

        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            use_cache=True,  # Trainer turns the model's own setting off
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=pad_id(self.tokenizer),
        )
        if self.encoder_decoder:
            config.decoder_start_token_id = self.model.config.decoder_start_token_id
        return config

    def read(self, ids: np.ndarray) -> Reply:
        """The reply in generated ids."""
        body = ids[:-1] if len(ids) and ids[-1] == self.tokenizer.eos_token_id else ids
        text, marker = self._decode(body), self.template.marker
        marked = marker in text
        if not marker:  # nothing but the answer was taught
            answer, count = text.strip(), 0
        elif marked:
            at = text.rfind(marker)
            answer, count = extract_answer(text, marker), self._tokens_before(body, len(text[:at].rstrip()))
        else:
            answer, count = self.task.format.extract(text, marked=False), len(body)
        return Reply(text.strip(), answer, self.task.show_answer(answer), count, len(ids), marked)

    def _tokens_before(self, body: np.ndarray, before: int) -> int:
        """How many ids stand before the answer segment, when so many characters to see do."""

        def visible(n: int) -> int:
            return len(self._decode(body[:n]).rstrip())

        count = bisect.bisect_right(range(len(body)), before, key=visible) - 1
        if visible(count) < before:  # a token with characters of both
            return count + 1
        space = count and body[count - 1] not in self.tokenizer.all_special_ids
        if space and not self._decode(body[count - 1 : count]).strip():
            return count - 1  # the space before the marker, a token of its own, belongs to the answer segment
        return count

    def _decode(self, ids: np.ndarray) -> str:
        text = self.tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)
