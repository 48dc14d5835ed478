"""Rendering: traces as token ids with exact segment offsets.

    causal           prompt + " " + target, then one end of sequence
    encoder-decoder  prompt (read by the encoder) and target, then one end of sequence (written by the decoder)
    target           step_1 + separator + step_2 ... + " " + marker + " " + answer

The token ids of every segment are the ids of tokenizing that whole text: a token belongs to the segment of its first
character that is not white space, and a token that would belong to two is an error. The marker belongs to the answer
segment: it is generated, but it is not reasoning. A BOS stands where the tokenizer writes it, once. Nothing but the
last id ends a sequence; what an encoder reads ends as the tokenizer ends it.

Usage: `rendered = render(traces, tokenizer)`; `rendered[0].ids`, `rendered[0].starts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from tacit.errors import TacitError, unknown_name
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
        marker (`str`, *optional*, defaults to `"####"`): Opens the answer segment. Empty where no chain is ever
            written, so that nothing has to be told apart.
        opening (`str`, *optional*, defaults to `" "`): White space, or nothing, between the prompt and the target of
            a causal model.

    Raises:
        TacitError: The prompt has no `{question}` or ends in a blank, the separator or the opening is no white space,
            or the marker has white space around it.
    """

    prompt: str = "{question} ->"
    separator: str = " "
    marker: str = MARKER
    opening: str = " "

    def __post_init__(self) -> None:
        if self.prompt.count("{question}") != 1:
            raise TacitError(f"the prompt template must hold {{question}} once, got {self.prompt!r}")
        if self.prompt.rstrip("\n") != self.prompt.rstrip():
            raise TacitError(f"the prompt template must not end in a blank, got {self.prompt!r}")
        if self.separator.strip() or not self.separator:
            raise TacitError(f"the separator between steps must be white space, got {self.separator!r}")
        if self.marker != self.marker.strip():
            raise TacitError(f"the answer marker must be text without outer white space, got {self.marker!r}")
        if self.opening.strip():
            raise TacitError(f"between prompt and target there must be white space or nothing, got {self.opening!r}")

    def write_prompt(self, question: str) -> str:
        """The prompt of a question: plain replacement, no format-string evaluation."""
        return self.prompt.replace("{question}", question)

    def write_target(self, trace: Trace) -> tuple[str, list[int]]:
        """What is to be written, and where in it each segment begins (the answer's is last)."""
        text, starts = "", []
        for written in filter(None, (step.text.strip() for step in trace.steps)):
            starts.append(len(text))
            text += (self.separator if text else "") + written
        starts.append(len(text))
        return text + (" " if text else "") + f"{self.marker} {trace.label.strip()}".lstrip(), starts

    def write(self, trace: Trace) -> tuple[str, list[int]]:
        """The whole text of a trace, and where in it each segment after the prompt begins (the answer's is last)."""
        prompt, (target, starts) = self.write_prompt(trace.question), self.write_target(trace)
        base = len(prompt) + len(self.opening)
        return prompt + self.opening + target, [len(prompt), *(base + start for start in starts[1:])]

    @property
    def words(self) -> str:
        """The template's own text, without question, steps and answer."""
        return f"{self.write_prompt(' ')} {self.marker}"

    def to_dict(self) -> dict[str, str]:
        """The fields, for `tacit.json`."""
        return asdict(self)


# Beside our own: the formats of Fine-tune-CoT (arXiv 2212.10071, and its official code), for causal students
# (`fine-tune-cot`, and the `natural` variant) and for T5's family.
TEMPLATES = {
    "tacit": Template(),
    "fine-tune-cot": Template("{question} ###", marker="-->"),
    "fine-tune-cot-t5": Template("{question}", marker="-->"),
    "natural": Template("Q: {question}\n\nA: Let's think step by step.\n\n", marker="Therefore the answer is"),
}
CHAT = "chat"


def get_template(name: str, tokenizer: PreTrainedTokenizerBase | None = None) -> Template:
    """The template of that name; `chat` writes the prompt as the tokenizer's own chat template does.

    Raises:
        TacitError: There is no such template, or the tokenizer's chat template does not give a prompt that stands for
            itself.
    """
    if name == CHAT:
        return _chat_template(tokenizer)
    if name not in TEMPLATES:
        raise unknown_name("template", name, [*TEMPLATES, CHAT])
    return TEMPLATES[name]


def _chat_template(tokenizer: PreTrainedTokenizerBase | None) -> Template:
    if tokenizer is None or not tokenizer.chat_template:
        raise TacitError(f"template {CHAT!r} needs a model whose tokenizer has a chat template; this one has none")
    chat = [{"role": "user", "content": "{question}"}]
    try:
        prompt = str(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
        whole = tokenizer.apply_chat_template([*chat, {"role": "assistant", "content": "x"}], tokenize=False)
        asked = chat_ids(tokenizer, "1")
    except Exception as error:  # a chat template is a program, and may stop for any reason
        raise TacitError(f"the tokenizer's chat template cannot write a user's message: {error}") from None
    if tokenizer.bos_token and tokenizer("1").input_ids[0] == tokenizer.bos_token_id:  # it would be written twice
        prompt = prompt.removeprefix(tokenizer.bos_token)
    opening = " " if f"{prompt} x" in str(whole) else ""
    template = Template(prompt, opening=opening)
    if asked != encode_prompt("1", tokenizer, template).tolist():
        raise TacitError("the tokenizer itself adds other special tokens to a text than its chat template writes")
    return template


def chat_ids(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """A user's question as the tokenizer's chat template hands it to the model. Raises whatever the template does."""
    chat = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)  # ty: ignore[invalid-explicit-return]


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
        encoder_decoder (`bool`): Whether the prompts are read by an encoder, and the rest is written by a decoder.
    """

    def __init__(
        self,
        ids: np.ndarray,
        lengths: np.ndarray,
        starts: np.ndarray,
        step_counts: np.ndarray,
        encoder_decoder: bool = False,
    ) -> None:
        self.ids = ids.astype(np.int32)
        self.starts = starts.astype(np.int32)
        self.lengths = lengths.astype(np.int64)
        self.step_counts = step_counts.astype(np.int64)
        self.offsets = _offsets(self.lengths)
        self.start_offsets = _offsets(self.step_counts + 1)
        self.prompt_lengths = self.starts[self.start_offsets[:-1]].astype(np.int64)
        self.chain_lengths = self.starts[self.start_offsets[1:] - 1] - self.prompt_lengths
        self.encoder_decoder = encoder_decoder

    @property
    def positions(self) -> np.ndarray:
        """Positions that a model needs for each sequence, of shape (N,): an encoder-decoder counts twice from 0."""
        if self.encoder_decoder:
            return np.maximum(self.prompt_lengths, self.lengths - self.prompt_lengths)
        return self.lengths

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
            self.encoder_decoder,
        )


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])


CHUNK = 20_000
WHITE_SPACE = np.array([code for code in range(0x3001) if chr(code).isspace()], dtype=np.uint32)


class Unrepresentable(TacitError):
    """A text holds characters that the tokenizer cannot represent."""


def render(
    traces: Iterable[Trace],
    tokenizer: PreTrainedTokenizerBase,
    template: Template | None = None,
    encoder_decoder: bool = False,
) -> Renderings:
    """Traces as token ids with segment offsets.

    Args:
        traces: At least one.
        tokenizer: A fast tokenizer with an end-of-sequence token.
        template (`Template`, *optional*): How a trace is written down.
        encoder_decoder (`bool`, *optional*): Whether an encoder reads the prompts: prompt and target are then
            tokenized apart, the prompt with all special tokens that the tokenizer writes.

    Raises:
        Unrepresentable: A trace holds a character that the tokenizer cannot represent.
        TacitError: No traces; a tokenizer without character offsets or end of sequence; a trace without an answer; the
            text of a special token inside a trace; a token across two segments; a prompt that is tokenized differently
            on its own. The text names the trace.
    """
    template = template or Template()
    traces = list(traces)
    if not traces:
        raise TacitError("no traces to render")
    if tokenizer.eos_token_id is None:
        raise TacitError("the tokenizer has no end-of-sequence token")
    for index, trace in enumerate(traces):
        if not trace.label.strip():
            raise TacitError(f"{_names(traces)(index)}: it has no answer")
    write = _render_apart if encoder_decoder else _render
    chunks = [write(traces[at : at + CHUNK], tokenizer, template) for at in range(0, len(traces), CHUNK)]
    return Renderings(*map(np.concatenate, zip(*chunks, strict=True)), encoder_decoder=encoder_decoder)


def representable(traces: Sequence[Trace], tokenizer: PreTrainedTokenizerBase, template: Template) -> np.ndarray:
    """Which traces hold only characters that the tokenizer can represent, of shape (N,), bool."""
    fine = np.ones(len(traces), dtype=bool)
    for at in range(0, len(traces), CHUNK):
        texts = [template.write(trace)[0] for trace in traces[at : at + CHUNK]]
        _, _, text_of = _Tokens(texts, tokenizer, str).missing()
        fine[at + text_of] = False
    return fine


def encode_prompt(
    question: str, tokenizer: PreTrainedTokenizerBase, template: Template, encoder_decoder: bool = False
) -> np.ndarray:
    """The prompt of one question as ids of shape (P,), exactly as `render` gives it.

    Raises:
        TacitError: The question holds what the tokenizer cannot represent, or the text of a special token.
    """
    prompt = _Tokens([template.write_prompt(question)], tokenizer, lambda _: f"question {question[:60]!r}")
    prompt.check([question], template)
    return prompt.all_ids if encoder_decoder else np.concatenate([prompt.opening_ids, prompt.ids])


class _Tokens:
    """The tokens of many texts in flat arrays, special tokens at both ends set apart.

    `ids`, `begin`, `end` and `text_of` have one entry a token; `begin` and `end` count characters of all texts joined
    together, in which text i begins at `base[i]`. `counts` and `opening` have one entry a text: its tokens, and the
    special tokens before them. `all_ids` and `all_counts` are with the special tokens of both ends.
    `visible[b] - visible[a]` is the number of characters to see from a to b. `name` says which text is meant.
    """

    def __init__(self, texts: list[str], tokenizer: PreTrainedTokenizerBase, name: Callable[[int], str]) -> None:
        if not tokenizer.is_fast:
            raise TacitError(f"{type(tokenizer).__name__} gives no character offsets; tacit needs a fast tokenizer")
        self.tokenizer, self.name = tokenizer, name
        tokenizer(texts[0], verbose=False)  # leaves the backend without truncation and padding
        encodings = tokenizer.backend_tokenizer.encode_batch(texts)
        self.all_counts = np.array([len(encoding) for encoding in encodings])
        total = int(self.all_counts.sum())
        self.all_ids = np.fromiter(chain.from_iterable(one.ids for one in encodings), np.int64, total)
        special = np.fromiter(chain.from_iterable(one.special_tokens_mask for one in encodings), bool, total)
        offsets = chain.from_iterable(chain.from_iterable(one.offsets for one in encodings))
        spans = np.fromiter(offsets, np.int64, 2 * total).reshape(-1, 2)
        text_of = np.repeat(np.arange(len(texts)), self.all_counts)
        first_of = np.repeat(_offsets(self.all_counts)[:-1], self.all_counts)
        self.base = _offsets(np.array([len(text) for text in texts]))
        self.counts = np.bincount(text_of[~special], minlength=len(texts))
        # Special tokens at the front of a text, as against those behind it (an end of sequence).
        front = special & (np.cumsum(~special) - np.cumsum(~special)[first_of] + ~special[first_of] == 0)
        self.opening = np.bincount(text_of[front], minlength=len(texts))
        self.opening_ids = self.all_ids[front]
        self.ids = self.all_ids[~special]
        self.text_of = text_of[~special]
        self.begin = spans[~special, 0] + self.base[self.text_of]
        self.end = spans[~special, 1] + self.base[self.text_of]
        self.joined = "".join(texts)
        characters = np.frombuffer(self.joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        self.visible = _offsets(~np.isin(characters, WHITE_SPACE))

    def show(self, at: int) -> str:
        """The text of a token."""
        return repr(self.joined[self.begin[at] : self.end[at]])

    def refuse(self, bad: np.ndarray, text_of: np.ndarray, problem: Callable[[int], str]) -> None:
        """Raises `TacitError` for the first that is bad."""
        if bad.any():
            at = int(np.argmax(bad))
            raise TacitError(f"{self.name(int(text_of[at]))}: {problem(at)}")

    def missing(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the tokenizer cannot represent: unknown tokens, and characters that its normalisation dropped.

        Returns:
            Where each begins and ends, in characters of all texts, and which text it is of.
        """
        unknown = np.zeros(len(self.ids), dtype=bool)
        if self.tokenizer.unk_token_id not in (None, self.tokenizer.eos_token_id):
            unknown = self.ids == self.tokenizer.unk_token_id
        size = len(self.joined) + 1
        open_tokens = np.cumsum(np.bincount(self.begin, minlength=size) - np.bincount(self.end, minlength=size))
        dropped = np.flatnonzero((open_tokens[:-1] == 0) & (np.diff(self.visible) > 0))
        dropped_of = np.searchsorted(self.base, dropped, side="right") - 1
        return (
            np.concatenate([self.begin[unknown], dropped]),
            np.concatenate([self.end[unknown], dropped + 1]),
            np.concatenate([self.text_of[unknown], dropped_of]),
        )

    def check(self, questions: Sequence[str] = (), template: Template | None = None) -> None:
        """Refuses characters without a token, and special tokens; those of a prompt's template may be there.

        Args:
            questions: Of each text, where the texts begin with a prompt.
            template (`Template`, *optional*): Of the prompts.
        """
        begin, end, text_of = self.missing()
        if len(begin):
            lacking = self.joined[begin[0] : end[0]]
            raise Unrepresentable(f"{self.name(int(text_of[0]))}: the tokenizer cannot represent {lacking!r}")
        inside = np.isin(self.ids, special_ids(self.tokenizer))
        if template is not None and inside.any():
            before, after = map(len, template.prompt.split("{question}"))
            question = self.base[:-1] + before
            behind = question + np.array([len(text) for text in questions])
            first, last, closing = (
                self.visible[bounds][self.text_of] for bounds in (question, behind, behind + after)
            )
            begin, end = self.visible[self.begin], self.visible[self.end]
            inside &= (end > first) & ((begin < last) | (end > closing))
        self.refuse(inside, self.text_of, lambda at: f"the text holds the special token {self.show(at)}")

    def segments(self, written: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Which token opens each segment.

        Args:
            written: Where the segments of each text begin, in characters.

        Returns:
            Numbers of tokens, counted in each text from its first that is not special, one text after another; and
            which text each is of.

        Raises:
            TacitError: A token reaches over a border.
        """
        text_of = np.repeat(np.arange(len(written)), [len(starts) for starts in written])
        bounds = np.concatenate(written) + self.base[text_of]
        starts = np.searchsorted(self.end, bounds, side="right")
        early = self.visible[bounds] > self.visible[np.minimum(self.begin[starts], bounds)]
        self.refuse(
            early & (self.visible[self.end[starts]] > self.visible[bounds]),
            text_of,
            lambda at: (
                f"the token {self.show(int(starts[at]))} reaches over the border of two segments; "
                "choose another separator or prompt template"
            ),
        )
        starts += early  # a token that only took the white space behind its own segment
        return starts - _offsets(self.counts)[:-1][text_of], text_of

    def assemble(
        self, front_ids: np.ndarray, front: np.ndarray, starts: np.ndarray, text_of: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """`Renderings`' four arrays of these tokens behind others, with an end of sequence.

        Args:
            front_ids, front (`np.ndarray`): The ids before each text, one text after another, and how many they are.
            starts, text_of (`np.ndarray`): As `segments` gives them.
        """
        lengths = front + self.counts + 1
        ids = np.full(lengths.sum(), self.tokenizer.eos_token_id)
        place = np.arange(len(ids)) - np.repeat(_offsets(lengths)[:-1], lengths)
        first, last = np.repeat(front, lengths), np.repeat(lengths - 1, lengths)
        ids[place < first] = front_ids
        ids[(place >= first) & (place < last)] = self.ids
        return ids, lengths, starts + front[text_of], np.bincount(text_of, minlength=len(lengths)) - 1


def special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """All tokens that no text may hold: the named ones, and those that a model's template is made of."""
    added = (index for index, token in tokenizer.added_tokens_decoder.items() if token.special)
    return [*{*tokenizer.all_special_ids, *added}]


def _render(traces: list[Trace], tokenizer: PreTrainedTokenizerBase, template: Template) -> tuple[np.ndarray, ...]:
    """`Renderings`' four arrays for a part of the traces; everything at once, in flat arrays."""
    written = [template.write(trace) for trace in traces]
    whole = _Tokens([text for text, _ in written], tokenizer, _names(traces))
    prompts = _Tokens([template.write_prompt(trace.question) for trace in traces], tokenizer, whole.name)
    whole.check([trace.question for trace in traces], template)
    starts, text_of = whole.segments([starts for _, starts in written])
    prompt_lengths = starts[np.flatnonzero(np.diff(text_of, prepend=-1))]
    same = prompts.counts == prompt_lengths
    if same.all():
        token_base = _offsets(whole.counts)[:-1]
        source = np.arange(prompt_lengths.sum()) + np.repeat(
            token_base - _offsets(prompt_lengths)[:-1], prompt_lengths
        )
        same = np.bincount(prompts.text_of[whole.ids[source] != prompts.ids], minlength=len(traces)) == 0
    whole.refuse(
        ~same,
        np.arange(len(traces)),
        lambda at: "the tokenizer writes the prompt differently on its own than in front of the answer",
    )
    return whole.assemble(whole.opening_ids, whole.opening, starts, text_of)


def _render_apart(
    traces: list[Trace], tokenizer: PreTrainedTokenizerBase, template: Template
) -> tuple[np.ndarray, ...]:
    """The same for an encoder-decoder, which reads the prompt as the tokenizer writes it."""
    written = [template.write_target(trace) for trace in traces]
    prompts = _Tokens([template.write_prompt(trace.question) for trace in traces], tokenizer, _names(traces))
    prompts.check([trace.question for trace in traces], template)
    targets = _Tokens([text for text, _ in written], tokenizer, prompts.name)
    targets.check()
    return targets.assemble(prompts.all_ids, prompts.all_counts, *targets.segments([starts for _, starts in written]))


def _names(traces: list[Trace]) -> Callable[[int], str]:
    return lambda index: f"trace {traces[index].id} ({traces[index].question[:60]!r})"
