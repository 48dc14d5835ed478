"""Rendering: traces as token ids with exact segment offsets.

    whole text = prompt + " " + step_1 + separator + step_2 ... + " " + marker + " " + answer, then one end of sequence

The token ids of every segment are the ids of tokenizing that whole text: a token belongs to the segment of its first
character that is not white space, and a token that would belong to two is an error. The marker belongs to the answer
segment: it is generated, but it is not reasoning. A BOS stands where the tokenizer writes it, once; nothing but the
last id ends a sequence.

Usage: `rendered = render(traces, tokenizer)`; `rendered[0].ids`, `rendered[0].starts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tacit.errors import TacitError
from tacit.grading import MARKER
from tacit.trace import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Template:
    """How a trace is written down.

    Args:
        prompt (`str`, *optional*, defaults to `"{question} ->"`): What the model is given; the question is put in the
            place of `{question}`, plainly.
        separator (`str`, *optional*, defaults to `" "`): White space between two steps.
        marker (`str`, *optional*, defaults to `"####"`): Opens the answer segment.

    Raises:
        TacitError: The prompt has no `{question}` or ends in white space, the separator is no white space, or the
            marker is empty.
    """

    prompt: str = "{question} ->"
    separator: str = " "
    marker: str = MARKER

    def __post_init__(self) -> None:
        if self.prompt.count("{question}") != 1:
            raise TacitError(f"the prompt template must hold {{question}} once, got {self.prompt!r}")
        if self.prompt != self.prompt.rstrip():
            raise TacitError(f"the prompt template must not end in white space, got {self.prompt!r}")
        if self.separator.strip() or not self.separator:
            raise TacitError(f"the separator between steps must be white space, got {self.separator!r}")
        if not self.marker.strip() or self.marker != self.marker.strip():
            raise TacitError(f"the answer marker must be text without outer white space, got {self.marker!r}")

    def write_prompt(self, question: str) -> str:
        """The prompt of a question: plain replacement, no format-string evaluation."""
        return self.prompt.replace("{question}", question)

    def write(self, trace: Trace) -> tuple[str, list[int]]:
        """The whole text of a trace, and where in it each segment after the prompt begins (the answer's is last)."""
        text = self.write_prompt(trace.question)
        starts = []
        for index, step in enumerate(trace.steps):
            starts.append(len(text))
            text += (self.separator if index else " ") + step.text.strip()
        starts.append(len(text))
        return f"{text} {self.marker} {trace.label.strip()}", starts

    @property
    def words(self) -> str:
        """The template's own text, without question, steps and answer."""
        return f"{self.write_prompt(' ')} {self.marker}"

    def to_dict(self) -> dict[str, str]:
        """The fields, for `tacit.json`."""
        return asdict(self)


@dataclass(frozen=True)
class Rendering:
    """One trace as tokens.

    Args:
        ids (`np.ndarray` of shape (T,), int32): The whole sequence, with its end-of-sequence id.
        starts (`np.ndarray` of shape (m + 1,), int32): Where each of the m steps begins, then the answer segment.
    """

    ids: np.ndarray
    starts: np.ndarray

    @property
    def prompt(self) -> np.ndarray:
        """Ids of the prompt, BOS included."""
        return self.ids[: self.starts[0]]

    @property
    def chain(self) -> np.ndarray:
        """Ids of all steps."""
        return self.ids[self.starts[0] : self.starts[-1]]

    @property
    def answer(self) -> np.ndarray:
        """Ids of the answer segment: marker, answer, end of sequence."""
        return self.ids[self.starts[-1] :]


class Renderings(Sequence):
    """Many traces as tokens, in flat arrays: what training and evaluation gather their batches from.

    Attributes:
        ids (`np.ndarray` of shape (sum of lengths,), int32): All sequences, one after another.
        offsets (`np.ndarray` of shape (N + 1,), int64): Sequence i is `ids[offsets[i]:offsets[i + 1]]`.
        starts (`np.ndarray`, int32): All segment starts, relative to their sequence, one sequence after another.
        start_offsets (`np.ndarray` of shape (N + 1,), int64): The starts of sequence i are
            `starts[start_offsets[i]:start_offsets[i + 1]]`.
        prompt_lengths, chain_lengths, lengths (`np.ndarray` of shape (N,), int64): In tokens.
        step_counts (`np.ndarray` of shape (N,), int64): Steps of each trace.
    """

    def __init__(self, sequences: Sequence[np.ndarray], starts: Sequence[np.ndarray]) -> None:
        self.ids = np.concatenate(sequences).astype(np.int32)
        self.starts = np.concatenate(starts).astype(np.int32)
        self.lengths = np.array([len(ids) for ids in sequences], dtype=np.int64)
        self.step_counts = np.array([len(s) - 1 for s in starts], dtype=np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        self.start_offsets = np.concatenate([[0], np.cumsum(self.step_counts + 1)])
        self.prompt_lengths = self.starts[self.start_offsets[:-1]].astype(np.int64)
        self.chain_lengths = self.starts[self.start_offsets[1:] - 1] - self.prompt_lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Rendering:  # ty: ignore[incompatible-method-override]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return Rendering(
            self.ids[self.offsets[index] : self.offsets[index + 1]],
            self.starts[self.start_offsets[index] : self.start_offsets[index + 1]],
        )

    def select(self, keep: np.ndarray) -> Renderings:
        """The sequences at these indices."""
        chosen = [self[int(index)] for index in keep]
        return Renderings([one.ids for one in chosen], [one.starts for one in chosen])


CHUNK = 10_000


def render(
    traces: Iterable[Trace], tokenizer: PreTrainedTokenizerBase, template: Template | None = None
) -> Renderings:
    """Traces as token ids with segment offsets.

    Args:
        traces: At least one.
        tokenizer: A fast tokenizer with an end-of-sequence token.
        template (`Template`, *optional*): How a trace is written down.

    Raises:
        TacitError: No traces; a tokenizer without character offsets or end of sequence; a character that it cannot
            represent; the text of a special token inside a trace; a token across two segments; a prompt that is
            tokenized differently on its own. The text names the trace.
    """
    template = template or Template()
    traces = list(traces)
    if not traces:
        raise TacitError("no traces to render")
    if not tokenizer.is_fast:
        raise TacitError(f"{type(tokenizer).__name__} gives no character offsets; tacit needs a fast tokenizer")
    if tokenizer.eos_token_id is None:
        raise TacitError("the tokenizer has no end-of-sequence token")
    sequences, starts = [], []
    for first in range(0, len(traces), CHUNK):
        chunk = traces[first : first + CHUNK]
        written = [template.write(trace) for trace in chunk]
        encoded = _encode(tokenizer, [text for text, _ in written])
        prompts = _encode(tokenizer, [template.write_prompt(trace.question) for trace in chunk])
        for trace, (text, bounds), whole, prompt in zip(chunk, written, encoded, prompts, strict=True):
            try:
                ids, begins = _segment(text, bounds, whole, tokenizer)
                alone = _strip_special(prompt)[0]
                if not np.array_equal(alone, ids[: begins[0]]):
                    raise TacitError("the tokenizer writes the prompt differently on its own than before the answer")
            except TacitError as error:
                raise TacitError(f"trace {trace.id} ({trace.question[:60]!r}): {error}") from None
            sequences.append(np.append(ids, tokenizer.eos_token_id))
            starts.append(begins)
    return Renderings(sequences, starts)


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[Any]:
    encoded = tokenizer(texts, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    return encoded.encodings


def _strip_special(encoding: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Ids and character offsets without the special tokens at the end, and how many special tokens open them."""
    special = np.array(encoding.special_tokens_mask, dtype=bool)
    ids, offsets = np.array(encoding.ids, dtype=np.int32), np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    real = np.flatnonzero(~special)
    first, last = (int(real[0]), int(real[-1])) if len(real) else (len(ids), len(ids) - 1)
    return ids[: last + 1], offsets[: last + 1], first


def _segment(
    text: str, bounds: list[int], encoding: Any, tokenizer: PreTrainedTokenizerBase
) -> tuple[np.ndarray, np.ndarray]:
    ids, offsets, opening = _strip_special(encoding)
    begin, end = offsets[opening:].T
    unknown = tokenizer.unk_token_id
    if (
        unknown is not None
        and unknown != tokenizer.eos_token_id
        and (hit := np.flatnonzero(ids[opening:] == unknown)).size
    ):
        raise TacitError(f"the tokenizer cannot represent {text[begin[hit[0]] : end[hit[0]]]!r}")
    inside = np.isin(ids[opening:], tokenizer.all_special_ids)
    if inside.any():
        at = int(np.flatnonzero(inside)[0])
        raise TacitError(f"the text holds the special token {text[begin[at] : end[at]]!r}")
    # Characters between two tokens (and before the first, after the last) that are not white space were dropped.
    reached = np.concatenate([[0], np.maximum.accumulate(end)])
    following = np.append(begin, len(text))
    for gap in np.flatnonzero(following > reached):
        if lost := text[reached[gap] : following[gap]].strip():
            raise TacitError(f"the tokenizer cannot represent {lost!r}")
    starts = np.searchsorted(end, bounds, side="right")
    for which, (at, bound) in enumerate(zip(starts, bounds, strict=True)):
        if at < len(ids) - opening and begin[at] < bound and text[begin[at] : bound].strip():
            if text[bound : end[at]].strip():
                raise TacitError(
                    f"the token {text[begin[at] : end[at]]!r} reaches over the start of segment {which + 1} "
                    "(choose another separator or prompt template)"
                )
            starts[which] += 1  # a token that took the white space after its own segment
    return ids, (starts + opening).astype(np.int32)


def marker_ids(rendered: Renderings, tokenizer: PreTrainedTokenizerBase, template: Template) -> np.ndarray:
    """The ids with which every answer segment begins: those of the marker alone, without the answer.

    Args:
        rendered: At least one sequence.

    Raises:
        TacitError: The tokenizer merges marker and answer, so that they cannot be told apart.
    """
    answer = rendered[0].answer
    for count in range(1, len(answer)):
        if str(tokenizer.decode(answer[:count].tolist())).strip() == template.marker:
            return answer[:count]
    raise TacitError(f"the tokenizer merges the marker {template.marker!r} with the answer; choose another marker")
