"""Rendering: traces as token ids with exact segment offsets.

    whole text = prompt + " " + step_1 + separator + step_2 ... + " " + marker + " " + answer, then one end of sequence

The token ids of every segment are the ids of tokenizing that whole text: a token belongs to the segment of its first
character that is not white space, and a token that would belong to two is an error. The marker belongs to the answer
segment: it is generated, but it is not reasoning. A BOS stands where the tokenizer writes it, once; nothing but the
last id ends a sequence.

Usage: `rendered = render(traces, tokenizer)`; `rendered[0].ids`, `rendered[0].starts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

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

    def __init__(self, ids: np.ndarray, lengths: np.ndarray, starts: np.ndarray, step_counts: np.ndarray) -> None:
        self.ids = ids.astype(np.int32)
        self.starts = starts.astype(np.int32)
        self.lengths = lengths.astype(np.int64)
        self.step_counts = step_counts.astype(np.int64)
        self.offsets = _offsets(self.lengths)
        self.start_offsets = _offsets(self.step_counts + 1)
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
        return Renderings(
            np.concatenate([one.ids for one in chosen]),
            self.lengths[keep],
            np.concatenate([one.starts for one in chosen]),
            self.step_counts[keep],
        )


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])


CHUNK = 20_000
WHITE_SPACE = np.array([code for code in range(0x3001) if chr(code).isspace()], dtype=np.uint32)


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
    chunks = [_render(traces[at : at + CHUNK], tokenizer, template) for at in range(0, len(traces), CHUNK)]
    return Renderings(*map(np.concatenate, zip(*chunks, strict=True)))


class _Tokens:
    """The tokens of many texts in flat arrays, special tokens at both ends set apart.

    `ids`, `begin`, `end` have one entry a token; `begin` and `end` count characters of all texts joined together.
    `counts` and `opening` have one entry a text: its tokens, and the special tokens before them.
    """

    def __init__(self, texts: list[str], tokenizer: PreTrainedTokenizerBase) -> None:
        tokenizer(texts[0], verbose=False)  # leaves the backend without truncation and padding
        encodings = tokenizer.backend_tokenizer.encode_batch(texts)
        ids = [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
        special = np.concatenate([np.array(encoding.special_tokens_mask, dtype=bool) for encoding in encodings])
        spans = np.concatenate([np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2) for encoding in encodings])
        text_of = np.repeat(np.arange(len(texts)), [len(one) for one in ids])
        first_of = np.repeat(_offsets(np.array([len(one) for one in ids]))[:-1], [len(one) for one in ids])
        self.base = _offsets(np.array([len(text) for text in texts]))
        self.counts = np.bincount(text_of[~special], minlength=len(texts))
        flat = np.concatenate(ids)
        # Special tokens at the front of a text; those behind it (an end of sequence) are dropped.
        front = special & (np.cumsum(~special) - np.cumsum(~special)[first_of] + ~special[first_of] == 0)
        self.opening = np.bincount(text_of[front], minlength=len(texts))
        self.opening_ids = flat[front]
        self.ids = flat[~special]
        self.text_of = text_of[~special]
        self.begin = spans[~special, 0] + self.base[self.text_of]
        self.end = spans[~special, 1] + self.base[self.text_of]


def _render(traces: list[Trace], tokenizer: PreTrainedTokenizerBase, template: Template) -> tuple[np.ndarray, ...]:
    """`Renderings`' four arrays for a part of the traces; everything at once, in flat arrays."""
    written = [template.write(trace) for trace in traces]
    texts = [text for text, _ in written]
    whole = _Tokens(texts, tokenizer)
    prompts = _Tokens([template.write_prompt(trace.question) for trace in traces], tokenizer)
    joined = "".join(texts)
    characters = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    visible = _offsets(~np.isin(characters, WHITE_SPACE))  # visible[b] - visible[a]: characters in joined[a:b] to see

    def refuse(bad: np.ndarray, text_of: np.ndarray, problem: Callable[[int], str]) -> None:
        if bad.any():
            at = int(np.argmax(bad))
            trace = traces[text_of[at]]
            raise TacitError(f"trace {trace.id} ({trace.question[:60]!r}): {problem(at)}")

    def token(at: int) -> str:
        return repr(joined[whole.begin[at] : whole.end[at]])

    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id != tokenizer.eos_token_id:
        unknown = whole.ids == tokenizer.unk_token_id
        refuse(unknown, whole.text_of, lambda at: f"the tokenizer cannot represent {token(at)}")
    inside = np.isin(whole.ids, tokenizer.all_special_ids)
    refuse(inside, whole.text_of, lambda at: f"the text holds the special token {token(at)}")
    # Characters between two tokens that are not white space were dropped by the tokenizer's normalisation.
    reached = np.concatenate([[0], whole.end])
    following = np.concatenate([whole.begin, [len(joined)]])
    lost = visible[np.maximum(following, reached)] > visible[reached]
    refuse(
        lost,
        np.append(whole.text_of, len(traces) - 1),
        lambda at: f"the tokenizer cannot represent {joined[reached[at] : following[at]].strip()!r}",
    )

    segments = np.array([len(starts) for _, starts in written])
    trace_of = np.repeat(np.arange(len(traces)), segments)
    bounds = np.concatenate([starts for _, starts in written]) + whole.base[trace_of]
    starts = np.searchsorted(whole.end, bounds, side="right")
    early = visible[bounds] > visible[np.minimum(whole.begin[starts], bounds)]
    refuse(
        early & (visible[whole.end[starts]] > visible[bounds]),
        trace_of,
        lambda at: (
            f"the token {token(int(starts[at]))} reaches over the border of two segments; "
            "choose another separator or prompt template"
        ),
    )
    starts += early  # a token that only took the white space behind its own segment

    token_base = _offsets(whole.counts)[:-1]
    starts -= token_base[trace_of]
    prompt_lengths = starts[_offsets(segments)[:-1]]
    same = prompts.counts == prompt_lengths
    if same.all():
        source = np.arange(prompt_lengths.sum()) + np.repeat(
            token_base - _offsets(prompt_lengths)[:-1], prompt_lengths
        )
        same = np.bincount(prompts.text_of[whole.ids[source] != prompts.ids], minlength=len(traces)) == 0
    refuse(
        ~same,
        np.arange(len(traces)),
        lambda at: "the tokenizer writes the prompt differently on its own than in front of the answer",
    )

    lengths = whole.opening + whole.counts + 1
    ids = np.full(lengths.sum(), tokenizer.eos_token_id)
    place = np.arange(len(ids)) - np.repeat(_offsets(lengths)[:-1], lengths)
    opening, last = np.repeat(whole.opening, lengths), np.repeat(lengths - 1, lengths)
    ids[place < opening] = whole.opening_ids
    ids[(place >= opening) & (place < last)] = whole.ids
    return ids, lengths, starts + whole.opening[trace_of], segments - 1
