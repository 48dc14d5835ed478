"""Rendering against a slow, plain reference, for every kind of tokenizer; hostile text; what is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from tacit import models, rendering
from tacit.errors import TacitError
from tacit.rendering import Renderings, Template, render
from tacit.trace import Step, Trace, iter_text

DEFAULT = Template()
TEMPLATES = {
    "default": DEFAULT,
    "newlines": Template(prompt="Question: {question}\nAnswer:", separator="\n"),
    "marker": Template(prompt="{question} =", separator="  ", marker="=> :"),
    "bare": Template(prompt="{question}", separator="\n\n", marker="####"),
}


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
    pieces = [prompt]
    for index, step in enumerate(trace.steps):
        pieces.append((template.separator if index else " ") + step.text.strip())
    pieces.append(f" {template.marker} {trace.label.strip()}")
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


anything = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda text: text.strip())
nasty = st.text(st.sampled_from(list("a1 #->|{}\n\t\u0301é🤯\u200b\u3000")), min_size=1, max_size=12).filter(
    lambda text: text.strip()
)


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


letters = st.text(st.sampled_from(list("abc 123+*\n")), min_size=1, max_size=10).filter(lambda text: text.strip())


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
        with pytest.raises(TacitError, match="the tokenizer cannot represent 'é'"):
            render([trace], dropping)


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
        ({"prompt": "{question} "}, "must not end in white space"),
        ({"separator": ""}, "the separator between steps must be white space"),
        ({"separator": ", "}, "the separator between steps must be white space"),
        ({"marker": ""}, "the answer marker must be text"),
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
