"""Rendering against a slow, plain reference, for every kind of tokenizer; hostile text; what is refused."""

import contextlib
import copy
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from tacit import models, rendering
from tacit.errors import TacitError
from tacit.rendering import (
    Renderings,
    Template,
    Unrepresentable,
    encode_prompt,
    get_template,
    render,
    representable,
)
from tacit.trace import Step, Trace, iter_text

DEFAULT = Template()
TEMPLATES = {
    "default": DEFAULT,
    "newlines": Template(prompt="Question: {question}\nAnswer:", separator="\n"),
    "marker": Template(prompt="{question} =", separator="  ", marker="=> :"),
    "bare": Template(prompt="{question}", separator="\n\n", marker="####"),
}


anything = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda text: text.strip())
nasty = st.text(st.sampled_from(list("a1 #->|{}\n\t\u0301é🤯\u200b\u3000")), min_size=1, max_size=12).filter(
    lambda text: text.strip()
)
letters = st.text(st.sampled_from(list("abc 123+*\n")), min_size=1, max_size=10).filter(lambda text: text.strip())


class Crossing(Exception):
    """The reference found a token with visible characters of two segments."""


def reference(
    trace: Trace, tokenizer: PreTrainedTokenizerBase, template: Template = DEFAULT
) -> tuple[list[int], list[int]]:
    """Ids and segment starts of one trace, one token and one character at a time.

    A token belongs to the segment of its first visible character; a token of nothing but white space to that of its
    last character.
    """
    prompt = template.prompt.replace("{question}", trace.question)
    return pieces_in_tokens([prompt, *target_pieces(trace, template, template.opening)], tokenizer)


def target_pieces(trace: Trace, template: Template, opening: str) -> list[str]:
    """The text of each step and of the answer, with the white space before it."""
    pieces = []
    for text in (*(step.text.strip() for step in trace.steps), None):
        before = template.separator if text is not None else " "
        answer = f"{template.marker} {trace.label.strip()}" if template.marker else trace.label.strip()
        pieces.append((before if pieces else opening) + (answer if text is None else text))
    return pieces


def pieces_in_tokens(pieces: list[str], tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Ids of the joined pieces, and where each but the first begins."""
    text = "".join(pieces)
    segment_of = [index for index, piece in enumerate(pieces) for _ in piece]

    encoded = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    ids, homes = [], []
    seen_text = False
    for token, (begin, end), special in zip(
        encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True
    ):
        if special:
            if not seen_text:  # a BOS; what the tokenizer appends is replaced by our own end of sequence
                ids.append(token)
                homes.append(0)
            continue
        seen_text = True
        visible = [at for at in range(begin, end) if not text[at].isspace()]
        if len({segment_of[at] for at in visible}) > 1:
            raise Crossing(text[begin:end])
        ids.append(token)
        homes.append(segment_of[visible[0] if visible else end - 1])
    ids.append(tokenizer.eos_token_id)
    homes.append(len(pieces) - 1)
    assert homes == sorted(homes)
    starts = [sum(home < segment for home in homes) for segment in range(1, len(pieces))]
    return ids, starts


def reference_apart(
    trace: Trace, tokenizer: PreTrainedTokenizerBase, template: Template = DEFAULT
) -> tuple[list[int], list[int]]:
    """The same for an encoder-decoder: the prompt as the tokenizer writes it, then the target."""
    prompt = tokenizer(template.prompt.replace("{question}", trace.question))["input_ids"]
    pieces = target_pieces(trace, template, "")
    ids, starts = pieces_in_tokens(pieces, tokenizer)
    opening = len(tokenizer("a")["input_ids"]) - len(tokenizer("a", add_special_tokens=False)["input_ids"])
    opening -= tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id  # special tokens in front of a target
    return [*prompt, *ids[opening:]], [len(prompt), *(len(prompt) + start - opening for start in starts)]


def check(
    traces: list[Trace], tokenizer: PreTrainedTokenizerBase, template: Template = DEFAULT, strict: bool = True
) -> Renderings:
    """Renders all traces at once, compares each with the reference, and checks what every rendering promises."""
    rendered = render(traces, tokenizer, template)
    assert len(rendered) == len(traces)
    for trace, one in zip(traces, rendered, strict=True):
        ids, starts = reference(trace, tokenizer, template)
        assert one.ids.tolist() == ids
        assert one.starts.tolist() == starts
        assert len(one.starts) == len(trace.steps) + 1

        # The whole text through the tokenizer, and one end of sequence.
        text, _ = template.write(trace)
        whole = tokenizer(text)["input_ids"]
        eos = tokenizer.eos_token_id
        assert one.ids.tolist() == (whole if whole[-1] == eos else [*whole, eos])
        assert one.ids.tolist().count(eos) == 1
        if tokenizer.bos_token_id not in (None, eos):
            written = tokenizer("a")["input_ids"].count(tokenizer.bos_token_id)
            assert one.ids.tolist().count(tokenizer.bos_token_id) == written
            assert one.ids[0] == tokenizer.bos_token_id or not written

        # The prompt is what a user of the checkpoint tokenizes.
        alone = tokenizer(template.write_prompt(trace.question))["input_ids"]
        assert one.prompt.tolist() == (alone[:-1] if alone[-1] == eos else alone)

        # Segments cover everything, in order.
        assert np.concatenate([one.prompt, one.chain, one.answer]).tolist() == ids
        assert (np.diff(one.starts) >= 0).all()
        if strict:  # as text too, but for what a tokenizer folds
            told = str(tokenizer.decode(one.answer[:-1])).split()
            assert told == f"{template.marker} {trace.label}".split()
            bounds = [*one.starts]
            for step, begin, end in zip(trace.steps, bounds, bounds[1:], strict=False):
                assert str(tokenizer.decode(one.ids[begin:end])).split() == step.text.split()
    lengths = [len(one.ids) for one in rendered]
    assert rendered.lengths.tolist() == lengths
    assert rendered.prompt_lengths.tolist() == [len(one.prompt) for one in rendered]
    assert rendered.chain_lengths.tolist() == [len(one.chain) for one in rendered]
    assert rendered.step_counts.tolist() == [len(trace.steps) for trace in traces]
    return rendered


# --- every tokenizer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEMPLATES)
def test_all_tokenizers_against_the_reference(
    tokenizer: PreTrainedTokenizerBase,
    words_tokenizer: PreTrainedTokenizerBase,
    traces: list[Trace],
    name: str,
) -> None:
    template = TEMPLATES[name]
    if tokenizer is words_tokenizer:  # whose vocabulary is made for one template
        tokenizer = models.word_tokenizer([*iter_text(traces), template.words])
    check(traces, tokenizer, template)


def test_bos_is_written_where_the_tokenizer_writes_it(
    bpe_tokenizer: PreTrainedTokenizerBase, bpe_bos_tokenizer: PreTrainedTokenizerBase, traces: list[Trace]
) -> None:
    without, with_bos = render(traces, bpe_tokenizer), render(traces, bpe_bos_tokenizer)
    assert (with_bos.prompt_lengths == without.prompt_lengths + 1).all()
    for plain, one in zip(without, with_bos, strict=True):
        assert one.ids.tolist() == [bpe_bos_tokenizer.bos_token_id, *plain.ids.tolist()]


def test_a_tokenizer_that_appends_its_end_of_sequence_ends_once(
    unigram_tokenizer: PreTrainedTokenizerBase, traces: list[Trace]
) -> None:
    assert unigram_tokenizer("a")["input_ids"][-1] == unigram_tokenizer.eos_token_id
    for one in check(traces, unigram_tokenizer):
        assert one.ids.tolist().count(unigram_tokenizer.eos_token_id) == 1


def test_a_line_break_that_the_tokenizer_folds(unigram_tokenizer: PreTrainedTokenizerBase) -> None:
    traces = [Trace("1 + 1\nis", (Step("one \n and one"), Step("two")), "2")]
    lines, spaces = (render(traces, unigram_tokenizer, Template(separator=separator)) for separator in ("\n", " "))
    assert lines[0].ids.tolist() == spaces[0].ids.tolist()
    check(traces, unigram_tokenizer, Template(separator="\n"))


def test_gold_is_what_is_rendered(bpe_tokenizer: PreTrainedTokenizerBase) -> None:
    right = Trace("q", (Step("s"),), "7")
    wrong = Trace("q", (Step("s"),), "8", gold="7")
    assert render([wrong], bpe_tokenizer)[0].ids.tolist() == render([right], bpe_tokenizer)[0].ids.tolist()


@pytest.mark.shared
def test_gpt2_segments_by_hand(gpt2_tokenizer: PreTrainedTokenizerBase) -> None:
    (one,) = check([Trace("2 1 * 3", (Step("6 3"), Step("+ 0 1")), "6 3 1")], gpt2_tokenizer)
    assert gpt2_tokenizer.convert_ids_to_tokens(one.prompt) == ["2", "Ġ1", "Ġ*", "Ġ3", "Ġ->"]
    assert gpt2_tokenizer.convert_ids_to_tokens(one.chain) == ["Ġ6", "Ġ3", "Ġ+", "Ġ0", "Ġ1"]
    assert gpt2_tokenizer.convert_ids_to_tokens(one.answer) == ["Ġ#", "###", "Ġ6", "Ġ3", "Ġ1", "<|endoftext|>"]
    assert one.starts.tolist() == [5, 7, 10]


# --- encoder and decoder ---------------------------------------------------------------------------------------------


def check_apart(traces: list[Trace], tokenizer: PreTrainedTokenizerBase, template: Template = DEFAULT) -> Renderings:
    """Renders all traces at once for an encoder-decoder, and compares each with the reference."""
    rendered = render(traces, tokenizer, template, encoder_decoder=True)
    assert rendered.encoder_decoder
    for trace, one in zip(traces, rendered, strict=True):
        ids, starts = reference_apart(trace, tokenizer, template)
        assert (one.ids.tolist(), one.starts.tolist()) == (ids, starts)
        assert one.prompt.tolist() == tokenizer(template.write_prompt(trace.question))["input_ids"]
        target = [*one.chain, *one.answer]
        text, _ = template.write_target(trace)
        assert target == [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        assert target.count(tokenizer.eos_token_id) == 1
        assert len(one.starts) == len(trace.steps) + 1
    longest = [max(len(one.prompt), len(one.ids) - len(one.prompt)) for one in rendered]
    assert rendered.positions.tolist() == longest
    return rendered


@pytest.mark.parametrize("name", TEMPLATES)
def test_prompt_and_target_apart(
    tokenizer: PreTrainedTokenizerBase,
    words_tokenizer: PreTrainedTokenizerBase,
    traces: list[Trace],
    name: str,
) -> None:
    template = TEMPLATES[name]
    if tokenizer is words_tokenizer:
        tokenizer = models.word_tokenizer([*iter_text(traces), template.words])
    rendered = check_apart(traces, tokenizer, template)
    for trace, one in zip(traces, rendered, strict=True):
        assert str(tokenizer.decode(one.answer[:-1])).split() == f"{template.marker} {trace.label}".split()
        for step, begin, end in zip(trace.steps, one.starts, one.starts[1:], strict=False):
            assert str(tokenizer.decode(one.ids[begin:end])).split() == step.text.split()
    assert not render(traces, tokenizer, template).encoder_decoder
    assert rendered.select(np.array([3, 1])).encoder_decoder


def test_an_encoder_reads_what_the_tokenizer_writes(unigram_bos_tokenizer: PreTrainedTokenizerBase) -> None:
    """T5's own end of sequence, BART's both ends; the target has neither, but its one end of sequence."""
    (one,) = render([Trace("1 + 1", (Step("2"),), "2")], unigram_bos_tokenizer, encoder_decoder=True)
    assert unigram_bos_tokenizer.convert_ids_to_tokens(one.prompt)[0] == "<s>"
    assert unigram_bos_tokenizer.convert_ids_to_tokens(one.prompt)[-1] == "</s>"
    written = unigram_bos_tokenizer.convert_ids_to_tokens([*one.chain, *one.answer])
    assert "<s>" not in written
    assert written.count("</s>") == 1
    assert written[-1] == "</s>"


@given(
    st.lists(
        st.builds(
            Trace,
            question=anything | nasty,
            steps=st.lists(st.builds(Step, anything | nasty), max_size=3).map(tuple),
            answer=anything | nasty,
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["{question} ->", "{question}", "Q: {question}\nA:\n"]),
    st.sampled_from([" ", "\n"]),
    st.sampled_from(["####", "-->", ""]),
)
def test_any_unicode_text_apart(
    bpe_bos_tokenizer: PreTrainedTokenizerBase, traces: list[Trace], prompt: str, separator: str, marker: str
) -> None:
    check_apart(traces, bpe_bos_tokenizer, Template(prompt, separator, marker))


@given(
    st.builds(Trace, question=letters, steps=st.lists(st.builds(Step, letters), max_size=3).map(tuple), answer=letters)
)
def test_any_known_text_in_a_unigram_apart(unigram_tokenizer: PreTrainedTokenizerBase, trace: Trace) -> None:
    check_apart([trace], unigram_tokenizer)


@pytest.mark.parametrize("place", ["question", "step", "answer"])
@pytest.mark.parametrize(("text", "problem"), [("日", "cannot represent '日'"), ("</s>", "the special token '</s>'")])
def test_what_is_refused_apart(
    unigram_tokenizer: PreTrainedTokenizerBase, place: str, text: str, problem: str
) -> None:
    told = {"question": "1", "step": "2", "answer": "3"}
    told[place] += f" {text}"
    trace = Trace(told["question"], (Step(told["step"]),), told["answer"])
    with pytest.raises(TacitError) as caught:
        render([Trace("1", (), "2"), trace], unigram_tokenizer, encoder_decoder=True)
    assert str(caught.value).startswith(f"trace {trace.id} ({trace.question[:60]!r}): ")
    assert problem in str(caught.value).replace("▁", "")


# --- hostile text ----------------------------------------------------------------------------------------------------

HOSTILE = [
    Trace("{question}", (Step("{question} {0} %s \\1"),), "{answer}"),
    Trace("a || b #### c", (Step("#### 5"), Step("-> ####"), Step("####")), "#### ####"),
    Trace("->", (Step("->"), Step("#")), "#"),
    Trace("naïve café", (Step("e\u0301 combines"), Step("\u0301 first")), "\u0301"),
    Trace("🤯👩‍👩‍👧‍👦", (Step("🇩🇪🏳️‍🌈"), Step("𝟙𝟚𝟛")), "👍🏽"),
    Trace("日本語の質問", (Step("ステップ"), Step("العربية\u200f"), Step("עברית")), "答え"),
    Trace("tab\there", (Step("a\nb\n\nc"), Step("  spaces   inside  ")), "x\u00a0y"),
    Trace("zero\u200bwidth\u00ad", (Step("\ufeffmark"), Step("\x00\x01\x7f")), "\ufffd"),
    Trace("no steps", (), "7"),
    Trace("long " * 3000, (Step("word " * 2000), Step("x" * 5000)), "9" * 3000),
    Trace("trailing space ", (Step(" both sides "),), " answer "),
    Trace("\u2028line\u2029breaks\x85", (Step("\x0ba\x0c"), Step("\x1cb\x1f")), "c\x1d"),
]


@pytest.mark.parametrize("kind", [pytest.param("gpt2_tokenizer", marks=pytest.mark.shared), "bpe_bos_tokenizer"])
@pytest.mark.parametrize("separator", [" ", "\n"])
def test_hostile_text_in_byte_level_bpe(request: pytest.FixtureRequest, kind: str, separator: str) -> None:
    check(HOSTILE, request.getfixturevalue(kind), Template(separator=separator), strict=False)


@given(
    st.lists(
        st.builds(
            Trace,
            question=anything | nasty,
            steps=st.lists(st.builds(Step, anything | nasty), max_size=3).map(tuple),
            answer=anything | nasty,
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["{question} ->", "Q: {question}\nA:"]),
    st.sampled_from([" ", "\n", "\n\n", " \t"]),
)
def test_any_unicode_text_in_byte_level_bpe(
    bpe_bos_tokenizer: PreTrainedTokenizerBase, traces: list[Trace], prompt: str, separator: str
) -> None:
    check(traces, bpe_bos_tokenizer, Template(prompt=prompt, separator=separator), strict=False)


@given(
    st.builds(Trace, question=letters, steps=st.lists(st.builds(Step, letters), max_size=3).map(tuple), answer=letters)
)
def test_any_known_text_in_a_unigram(unigram_bos_tokenizer: PreTrainedTokenizerBase, trace: Trace) -> None:
    check([trace], unigram_bos_tokenizer, strict=False)


# --- what is refused -------------------------------------------------------------------------------------------------


def refusal(trace: Trace, tokenizer: PreTrainedTokenizerBase, template: Template = DEFAULT) -> str:
    """The error, which names the bad trace among good ones."""
    good = Trace("1 2 * 3 4", (), "1 2 3 4")
    with pytest.raises(TacitError) as caught:
        render([good, trace, good], tokenizer, template)
    assert str(caught.value).startswith(f"trace {trace.id} ({trace.question[:60]!r}): ")
    return str(caught.value).split("): ", 1)[1]


@pytest.mark.parametrize("kind", ["unigram_tokenizer", "unigram_bos_tokenizer", "words_tokenizer"])
@pytest.mark.parametrize(
    "trace",
    [
        Trace("1 日 2", (Step("3"),), "4"),
        Trace("1", (Step("3"), Step("日")), "4"),
        Trace("1", (Step("3"),), "日"),
        Trace("日", (), "4"),
    ],
    ids=["question", "step", "answer", "whole"],
)
def test_a_character_that_the_tokenizer_does_not_know(request: pytest.FixtureRequest, kind: str, trace: Trace) -> None:
    assert "the tokenizer cannot represent '日'" in refusal(trace, request.getfixturevalue(kind)).replace("▁", "")


def test_a_character_that_normalisation_drops() -> None:
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(kinds.WordLevel({"<unk>": 0, "<eos>": 1, "a": 2, "->": 3, "####": 4}, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace("é", "")
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    dropping = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<eos>")
    check([Trace("a", (Step("a"),), "a")], dropping)
    for trace in (
        Trace("é a", (), "a"),
        Trace("a", (Step("a é"),), "a"),
        Trace("a", (Step("é"),), "a"),
        Trace("a", (), "a é"),
        Trace("a", (), "é"),
    ):
        with pytest.raises(Unrepresentable, match=f"trace {trace.id} .*the tokenizer cannot represent 'é'"):
            render([Trace("a", (), "a"), trace, Trace("a a", (), "a")], dropping)


@pytest.mark.parametrize("kind", ["unigram_tokenizer", "words_tokenizer", "bpe_tokenizer"])
def test_what_is_representable_is_what_renders(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    traces = [
        Trace(f"{a} * 2", (Step(f"3 {b}"),), f"{c} 4")
        for a in ("1", "日", "")
        for b in ("1", "é")
        for c in ("1", "日")
    ]

    def renders(trace: Trace) -> bool:
        with contextlib.suppress(Unrepresentable):
            return len(render([trace], tokenizer)) == 1
        return False

    expected = [renders(trace) for trace in traces]
    assert representable(traces, tokenizer, Template()).tolist() == expected
    assert any(expected)
    assert all(expected) == (kind == "bpe_tokenizer")


def test_a_word_that_is_not_in_the_vocabulary(words_tokenizer: PreTrainedTokenizerBase) -> None:
    assert refusal(Trace("1 2 * 3", (), "42"), words_tokenizer) == "the tokenizer cannot represent '42'"


@pytest.mark.parametrize("place", ["question", "step", "answer"])
def test_the_text_of_a_special_token(tokenizer: PreTrainedTokenizerBase, place: str) -> None:
    for special in tokenizer.all_special_tokens:
        text = {"question": "1", "step": "2", "answer": "3"}
        text[place] = f"{text[place]} {special} {text[place]}"
        trace = Trace(text["question"], (Step(text["step"]),), text["answer"])
        assert refusal(trace, tokenizer) in (
            f"the text holds the special token {special!r}",
            f"the tokenizer cannot represent {special!r}",  # its <unk>
        )


def joining_tokenizer(*merges: tuple[str, str]) -> PreTrainedTokenizerBase:
    """A character-level BPE without pre-tokenizer, so that its merges may reach over white space."""
    from tokenizers import Tokenizer
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(["<eos>", *"ab ->#\n7"])}
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    backend = Tokenizer(kinds.BPE(vocabulary, list(merges)))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", clean_up_tokenization_spaces=False)


@pytest.mark.parametrize(
    ("merges", "token"),
    [
        ([(" ", "a"), (">", " a")], "> a"),  # prompt and first step
        ([("a", " "), ("a ", "b")], "a b"),  # two steps
        ([("b", " "), ("b ", "#")], "b #"),  # last step and answer
    ],
)
def test_a_token_over_a_border(merges: list[tuple[str, str]], token: str) -> None:
    trace = Trace("7", (Step("a"), Step("b")), "7")
    problem = refusal_of_one(trace, joining_tokenizer(*merges))
    assert f"the token {token!r} reaches over the border of two segments" in problem
    with pytest.raises(Crossing):
        reference(trace, joining_tokenizer(*merges))


def refusal_of_one(trace: Trace, tokenizer: PreTrainedTokenizerBase) -> str:
    with pytest.raises(TacitError) as caught:
        render([trace], tokenizer)
    return str(caught.value)


@pytest.mark.parametrize("merges", [[("a", " ")], [(" ", "b")], [("b", " ")], [(" ", "#")]])
def test_a_token_may_take_white_space_of_its_neighbour(merges: list[tuple[str, str]]) -> None:
    check([Trace("7", (Step("a"), Step("b")), "7")], joining_tokenizer(*merges), strict=False)


def test_a_prompt_that_is_tokenized_differently_on_its_own() -> None:
    # "-> " is one token where a step follows; alone the prompt ends in "->".
    trace = Trace("7", (Step("a"),), "7")
    problem = refusal_of_one(trace, joining_tokenizer(("-", ">"), ("->", " ")))
    assert "the tokenizer writes the prompt differently on its own than in front of the answer" in problem


def test_no_traces(bpe_tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(TacitError, match="no traces to render"):
        render([], bpe_tokenizer)


def test_a_tokenizer_without_end_of_sequence() -> None:
    bare = joining_tokenizer()
    bare.eos_token = None
    with pytest.raises(TacitError, match="the tokenizer has no end-of-sequence token"):
        render([Trace("7", (), "7")], bare)


# --- templates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt": "no place"}, "must hold {question} once"),
        ({"prompt": "{question} {question}"}, "must hold {question} once"),
        ({"prompt": "{question} "}, "must not end in a blank"),
        ({"prompt": "{question}:\n "}, "must not end in a blank"),
        ({"prompt": "{question}:\t\n"}, "must not end in a blank"),
        ({"opening": "-"}, "between prompt and target there must be white space or nothing"),
        ({"separator": ""}, "the separator between steps must be white space"),
        ({"separator": ", "}, "the separator between steps must be white space"),
        ({"marker": "#### "}, "the answer marker must be text"),
        ({"marker": " ####"}, "the answer marker must be text"),
    ],
)
def test_templates_that_cannot_work(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(TacitError) as caught:
        Template(**fields)
    assert expected in str(caught.value)


@given(anything)
def test_a_prompt_is_plain_replacement(question: str) -> None:
    assert Template("<{question}>{0}{x!r}").write_prompt(question) == "<" + question + ">{0}{x!r}"


def test_a_template_comes_back_from_its_dict() -> None:
    for template in TEMPLATES.values():
        assert Template(**template.to_dict()) == template
        assert template.marker in template.words


# --- named templates -------------------------------------------------------------------------------------------------

PEARS = Trace("Ann has 3 pears and eats 1 . How many ?", (Step("3 - 1 = 2 ."), Step("So 2 are left .")), "2")


@pytest.mark.parametrize(
    ("name", "prompt", "target"),
    [  # as the official code of Fine-tune-CoT writes them, but for what stands before the natural answer
        ("fine-tune-cot", "{q} ###", " {r} --> 2"),
        ("natural", "Q: {q}\n\nA: Let's think step by step.\n\n", " {r} Therefore the answer is 2"),
        ("tacit", "{q} ->", " {r} #### 2"),
    ],
)
def test_named_templates_write_the_published_texts(name: str, prompt: str, target: str) -> None:
    text, _ = get_template(name).write(PEARS)
    assert text == (prompt + target).format(q=PEARS.question, r="3 - 1 = 2 . So 2 are left .")


def test_the_template_of_t5() -> None:
    template = get_template("fine-tune-cot-t5")
    assert template.write_prompt(PEARS.question) == PEARS.question
    assert template.write_target(PEARS)[0] == "3 - 1 = 2 . So 2 are left . --> 2"
    assert replace(template, marker="").write_target(Trace("q", (), " 2 "))[0] == "2"


@pytest.mark.parametrize("name", rendering.TEMPLATES)
@pytest.mark.parametrize(
    "kind", [pytest.param("gpt2_tokenizer", marks=pytest.mark.shared), "bpe_bos_tokenizer", "unigram_tokenizer"]
)
def test_named_templates_with_each_tokenizer(
    request: pytest.FixtureRequest, traces: list[Trace], name: str, kind: str
) -> None:
    """Prompts that end in line breaks too: a tokenizer may join them, but not with the target."""
    tokenizer, template = request.getfixturevalue(kind), get_template(name)
    if name == "fine-tune-cot-t5":
        check_apart(traces, tokenizer, template)
    else:
        check(traces, tokenizer, template)
        check_apart(traces, tokenizer, template)
    check_apart(traces, tokenizer, replace(template, marker=""))


def test_nothing_parts_prompt_and_target(bpe_tokenizer: PreTrainedTokenizerBase) -> None:
    template = Template("Q: {question}\nA:\n", opening="")
    assert template.write(PEARS)[0].startswith(f"Q: {PEARS.question}\nA:\n3 - 1")
    check([PEARS, Trace("q", (), "2")], bpe_tokenizer, template)


def test_an_answer_without_a_marker(bpe_tokenizer: PreTrainedTokenizerBase) -> None:
    """Where no chain is written, the answer alone is the answer segment; a chain that is there is still found."""
    template = Template("{question} ###", marker="")
    bare, whole = check([Trace("1 + 1", (), "2"), Trace("1 + 1", (Step("1 + 1 = 2"),), "2")], bpe_tokenizer, template)
    assert bare.answer.tolist() == whole.answer.tolist()
    assert str(bpe_tokenizer.decode(bare.answer[:-1])) == " 2"
    assert str(bpe_tokenizer.decode(whole.chain)) == " 1 + 1 = 2"


def test_a_template_that_does_not_exist() -> None:
    with pytest.raises(TacitError, match="unknown template 'fine-tune-cod'; did you mean 'fine-tune-cot'"):
        get_template("fine-tune-cod")


def test_a_trace_without_an_answer(bpe_tokenizer: PreTrainedTokenizerBase) -> None:
    trace = Trace("q", (Step("s"),), "", gold=" ")
    for apart in (False, True):
        with pytest.raises(TacitError, match=rf"trace {trace.id} \('q'\): it has no answer"):
            render([trace], bpe_tokenizer, encoder_decoder=apart)


# --- the tokenizer's own chat template -------------------------------------------------------------------------------


def asked(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """What a server makes of a user's message."""
    chat = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)


def test_a_prompt_is_what_a_chat_gives(chatting_tokenizer: PreTrainedTokenizerBase, traces: list[Trace]) -> None:
    """Special tokens where the chat template puts them, one BOS, and behind the prompt an ordinary target."""
    template = get_template("chat", chatting_tokenizer)
    rendered = render(traces, chatting_tokenizer, template)
    begin = chatting_tokenizer.convert_tokens_to_ids("<|begin|>")
    for trace, one in zip(traces, rendered, strict=True):
        assert one.prompt.tolist() == asked(chatting_tokenizer, trace.question)
        assert one.prompt.tolist().count(begin) == with_bos(chatting_tokenizer)
        target = str(chatting_tokenizer.decode([*one.chain, *one.answer[:-1]]))
        steps = " ".join(step.text for step in trace.steps)
        assert target == template.opening + f"{steps} #### {trace.label}"
        assert one.ids[-1] == chatting_tokenizer.eos_token_id
        prompt = encode_prompt(trace.question, chatting_tokenizer, template)
        assert prompt.tolist() == one.prompt.tolist()


def with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    return "bos_token" in str(tokenizer.chat_template) or "<|begin|>" in str(tokenizer.chat_template)


def test_a_reply_stands_where_the_chat_template_puts_it(chatting_tokenizer: PreTrainedTokenizerBase) -> None:
    template = get_template("chat", chatting_tokenizer)
    text, _ = template.write(Trace("What ?", (), "7"))
    said = [{"role": "user", "content": "What ?"}, {"role": "assistant", "content": "#### 7"}]
    assert text in str(chatting_tokenizer.apply_chat_template(said, tokenize=False)).replace("assistant: ", "<|say|>")


@pytest.mark.parametrize("place", ["question", "step", "answer"])
def test_a_user_cannot_write_special_tokens(chatting_tokenizer: PreTrainedTokenizerBase, place: str) -> None:
    """Those of the template may stand in the prompt; the same ones in a trace may not, nor in a question asked."""
    template = get_template("chat", chatting_tokenizer)
    added = [token.content for token in chatting_tokenizer.added_tokens_decoder.values()]
    assert {"<|begin|>", "<|end|>"} <= {*added}
    for token in added:
        for text in (token, f"a {token}", f"{token} b", f"a{token}b"):
            told = {"question": "1", "step": "2", "answer": "3", place: text}
            trace = Trace(told["question"], (Step(told["step"]),), told["answer"])
            with pytest.raises(TacitError, match=rf"the text holds the special token '{re.escape(token)}'"):
                render([trace], chatting_tokenizer, template)
            with pytest.raises(TacitError, match=r"question .*: the text holds the special token"):
                encode_prompt(text, chatting_tokenizer, template)


@given(anything | nasty)
def test_any_question_in_a_chat(chatting_tokenizer: PreTrainedTokenizerBase, question: str) -> None:
    template, question = get_template("chat", chatting_tokenizer), question.strip()
    assert encode_prompt(question, chatting_tokenizer, template).tolist() == asked(chatting_tokenizer, question)
    (one,) = render([Trace(question, (Step("so"),), "7")], chatting_tokenizer, template)
    assert one.prompt.tolist() == asked(chatting_tokenizer, question)


def test_no_chat_template(bpe_tokenizer: PreTrainedTokenizerBase) -> None:
    for tokenizer in (None, bpe_tokenizer):
        with pytest.raises(TacitError, match="template 'chat' needs a model whose tokenizer has a chat template"):
            get_template("chat", tokenizer)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "cannot write a user's message: roles must alternate"),
        ("{% for m in messages %}", "cannot write a user's message"),
        ("{{ messages[0]['content'] + 1 }}", "cannot write a user's message"),
        ("{{ messages[0]['role'] }}", "must hold {question} once"),
        ("{{ messages[0]['content'] + messages[0]['content'] }}", "must hold {question} once"),
        ("{{ messages[0]['content'] + ' : ' }}", "must not end in a blank"),
        ("{{ messages[0]['content'] }}", "other special tokens to a text than its chat template writes"),
    ],
)
def test_chat_templates_that_cannot_work(
    bpe_bos_tokenizer: PreTrainedTokenizerBase, template: str, message: str
) -> None:
    tokenizer = copy.deepcopy(bpe_bos_tokenizer)
    tokenizer.chat_template = template
    with pytest.raises(TacitError) as caught:
        get_template("chat", tokenizer)
    assert message in str(caught.value)


# --- the container ---------------------------------------------------------------------------------------------------


def test_chunks_change_nothing(
    bpe_bos_tokenizer: PreTrainedTokenizerBase, traces: list[Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = render(traces, bpe_bos_tokenizer)
    monkeypatch.setattr(rendering, "CHUNK", 7)
    parts = render(traces, bpe_bos_tokenizer)
    for name in ("ids", "offsets", "starts", "start_offsets", "prompt_lengths", "chain_lengths", "step_counts"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


def test_select_and_index(bpe_tokenizer: PreTrainedTokenizerBase, traces: list[Trace]) -> None:
    rendered = render(traces, bpe_tokenizer)
    keep = np.array([5, 0, 79, 5])
    chosen = rendered.select(keep)
    assert [one.ids.tolist() for one in chosen] == [rendered[int(at)].ids.tolist() for at in keep]
    assert [one.starts.tolist() for one in chosen] == [rendered[int(at)].starts.tolist() for at in keep]
    assert rendered[-1].ids.tolist() == rendered[79].ids.tolist()
    for bad in (80, -81):
        with pytest.raises(IndexError):
            rendered[bad]
