"""A calculator for a student that writes `<<48/2=24>>`: the value is calculated, not guessed.

Where what a row has written ends in an open `<<` and the `=` of a calculation, the tokens of its value and of `>>` are
written for it; then it goes on by itself. What cannot be calculated, it writes itself.

Usage: `model.generate(..., logits_processor=[Calculator(tokenizer, width)])`; `Student(..., calculator=True)`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tacit.arithmetic import LONGEST, value_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class Calculator:
    """A logits processor for one batch of one call of `generate`, without beams.

    Args:
        tokenizer: Of the model that writes.
        begin (`int`): How many ids of each row are not the model's own: a causal model's prompt with its padding, or
            the token that a decoder starts with.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, begin: int) -> None:
        self.tokenizer, self.begin = tokenizer, begin
        self.due: defaultdict[int, list[int]] = defaultdict(list)  # by row: the next id is the last

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Leaves only the next token of a value to each row that writes one.

        Args:
            input_ids: What stands there, of shape (B, L).
            scores: Of the next token, of shape (B, V); is changed in place.
        """
        last = self.tokenizer.convert_ids_to_tokens(input_ids[:, -1].tolist())
        for row, token in enumerate(last):
            if "=" in (token or ""):  # a model may write ids that are no token
                self.due[row] = self._value(input_ids[row, self.begin :][-LONGEST:].tolist())[::-1]
            if self.due[row]:
                scores[row] = float("-inf")
                scores[row, self.due[row].pop()] = 0
        return scores

    def _value(self, ids: list[int]) -> list[int]:
        """What completes the calculation at the end of these ids; empty where there is none, or none to complete."""
        text = self._decode(ids)
        _, opened, inside = text.rpartition("<<")
        expression, sign, begun = inside.rpartition("=")  # a token may hold more than the sign: `=-`
        if not opened or not sign or (value := value_of(expression)) is None or not value.startswith(begun):
            return []
        rest = value[len(begun) :] + ">>"
        # In its place a tokenizer may cut it in another way than alone, and what is written cannot be cut again.
        whole, before = self._encode(text + rest), self._encode(text)
        for new in (whole[len(before) :] if whole[: len(before)] == before else [], self._encode(rest)):
            if self._decode([*ids, *new]) == text + rest:
                return new
        return []

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))
