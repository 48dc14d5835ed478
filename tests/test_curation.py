"""Curation against a plain loop, and its promises: every trace is counted once, more samples keep what fewer kept."""

import operator
import re
import tracemalloc
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tacit.arithmetic import calculate, judge
from tacit.curation import DEDUPE, KEEP, REASONS, Curation, Summary, choose, curate
from tacit.curation.duplicates import Seen
from tacit.errors import TacitError
from tacit.formats import read
from tacit.trace import Step, Trace


def trace(question: str = "q", *steps: str, answer: str = "1", gold: str | None = "1", **source: Any) -> Trace:
    return Trace(question, tuple(map(Step, steps)), answer, gold, source=source)


def kept(traces: list[Trace], **options: Any) -> list[int]:
    """The places of the traces that are kept."""
    found, _ = choose(traces, Curation(**options))
    return [place for place, one in enumerate(found) if one]


def reasons(traces: list[Trace], **options: Any) -> dict[str, int]:
    _, summary = curate(traces, Curation(**options))
    return {reason: count for reason, count in summary.dropped.items() if count}


# --- against a plain loop --------------------------------------------------------------------------------------------

WORDS = "so we add <<1+1=2>> <<1+1=3>> <<x=1>> 2 + 3 4 Then".split()

some_traces = st.lists(
    st.builds(
        lambda question, steps, answer, gold, sample, finish: Trace(
            question,
            tuple(Step(" ".join(words)) for words in steps),
            answer,
            gold,
            source={"finish_reason": finish, **({} if sample is None else {"sample": sample})},
        ),
        question=st.sampled_from(["a", "b", " b ", "c"]),
        steps=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12), max_size=2),
        answer=st.sampled_from(["1", "1", "2", "3", ""]),
        gold=st.sampled_from(["1", "1", "2", None]),
        sample=st.sampled_from([None, 0, 1, 2, 3]),
        finish=st.sampled_from(["stop", "length", None]),
    ),
    max_size=24,
)
some_options = st.builds(
    Curation,
    keep=st.sampled_from(KEEP),
    per_question=st.sampled_from([None, None, 1, 2]),
    finished=st.booleans(),
    dedupe=st.sampled_from([None, *DEDUPE]),
    shortest_first=st.booleans(),
    max_length=st.sampled_from([None, None, 3, 9]),
    check_arithmetic=st.booleans(),
    exclude=st.sampled_from([frozenset(), frozenset({"A"})]),
)


def folded(one: Trace) -> str:
    return " ".join(" ".join([*(step.text for step in one.steps), one.label]).lower().split())


def alike(one: Trace, other: Trace) -> bool:
    runs = []
    for text in (folded(one), folded(other)):
        words = re.findall(r"\w+|[-+*/=]", text)
        runs.append({tuple(words[i : i + 3]) for i in range(len(words)) if i == 0 or i + 3 <= len(words)})
    return len(runs[0] & runs[1]) >= 0.8 * len(runs[0] | runs[1])


def plain_loop(traces: list[Trace], options: Curation) -> list[str | None]:
    """The reason against each trace, written as the documentation says it, with no thought of speed."""
    found: list[str | None] = [None] * len(traces)
    length = [sum(len(step.text.split()) for step in one.steps) for one in traces]
    for place, one in enumerate(traces):
        text = " ".join(step.text for step in one.steps)
        tests = {
            "test_question": one.question.strip() in {question.lower() for question in options.exclude},
            "unfinished": options.finished and one.source["finish_reason"] == "length",
            "no_gold": options.keep == "correct" and one.gold is None,
            "no_answer": not (one.gold or one.answer) if options.keep == "all" else not one.answer,
            "wrong_answer": options.keep != "all" and one.gold not in (None, one.answer),
            "too_long": options.max_length is not None and length[place] > options.max_length,
            "wrong_arithmetic": options.check_arithmetic and "<<1+1=3>>" in text,
        }
        found[place] = next((reason for reason, holds in tests.items() if holds), None)
    for question in {one.question.strip() for one in traces}:
        here = [i for i, one in enumerate(traces) if one.question.strip() == question and found[i] is None]
        if options.keep == "agreed":
            votes = Counter(traces[i].answer for i in here if traces[i].gold is None).most_common()
            clear = votes and votes[0][1] >= 2 and (len(votes) == 1 or votes[0][1] > votes[1][1])
            for i in here:
                if traces[i].gold is None and not clear:
                    found[i] = "no_majority"
                elif traces[i].gold is None and traces[i].answer != votes[0][0]:
                    found[i] = "outvoted"
        here = [i for i in here if found[i] is None]
        here.sort(key=lambda i: traces[i].source.get("sample", -1))
        if options.shortest_first:
            here.sort(key=lambda i: length[i])
        chosen: list[Trace] = []
        before: list[Trace] = []
        for i in here:
            if options.dedupe and any(folded(traces[i]) == folded(other) for other in before):
                found[i] = "duplicate"
            elif options.dedupe == "near" and any(alike(traces[i], other) for other in before):
                found[i] = "near_duplicate"
            else:
                before.append(traces[i])
                if options.per_question is not None and len(chosen) == options.per_question:
                    found[i] = "over_limit"
                else:
                    chosen.append(traces[i])
    return found


@given(some_traces, some_options)
def test_against_a_plain_loop(traces: list[Trace], options: Curation) -> None:
    wanted = plain_loop(traces, options)
    keep, summary = choose(iter(traces), options)
    assert [bool(one) for one in keep] == [reason is None for reason in wanted]
    counted = Counter(reason for reason in wanted if reason)
    assert summary.dropped == {reason: counted[reason] for reason in REASONS}
    assert set(summary.examples) == set(counted)


@given(some_traces, some_options)
def test_the_sum_balances_and_traces_stay_as_they_are(traces: list[Trace], options: Curation) -> None:
    left, summary = curate(traces, options)
    assert summary.read == len(traces) == summary.kept + sum(summary.dropped.values())
    assert summary.kept == len(left) == sum(count * questions for count, questions in summary.rationales.items())
    assert summary.questions == len({one.question.strip() for one in traces}) == sum(summary.rationales.values())
    assert list(summary.dropped) == list(REASONS)
    rest = iter(traces)
    assert all(any(one is other for other in rest) for one in left)  # the same objects, in their order
    assert curate(traces, options) == (left, summary)


@given(some_traces, some_options)
def test_what_is_kept_is_kept_again(traces: list[Trace], options: Curation) -> None:
    assume(options.keep != "agreed")  # fewer samples may leave no majority
    left, _ = curate(traces, options)
    again, summary = curate(left, options)
    assert again == left
    assert not any(summary.dropped.values())


@given(some_traces, some_options)
def test_a_smaller_limit_keeps_a_part(traces: list[Trace], options: Curation) -> None:
    nested = [set(kept(traces, **{**vars(options), "per_question": limit})) for limit in (1, 2, 4, None)]
    assert all(few <= many for few, many in pairwise(nested))


@given(some_traces, some_options)
def test_more_samples_keep_what_fewer_kept(traces: list[Trace], options: Curation) -> None:
    assume(options.keep != "agreed" and not options.shortest_first)
    sizes = [[one for one in traces if one.source.get("sample", 0) < samples] for samples in (1, 2, 4)]
    few, some, all_of_them = ([id(one) for one in curate(size, options)[0]] for size in sizes)
    assert set(few) <= set(some) <= set(all_of_them)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_answers_are_read_by_the_task_of_the_trace() -> None:
    said = trace("q", "s", answer="", gold="yes", task="coin_flip", completion=" Yes, it is.", marked=True)
    assert kept([said]) == [0]
    assert kept([replace(said, source={**said.source, "task": "custom"})]) == []  # its answer is empty
    assert kept([replace(said, source={**said.source, "task": "custom"})], task="coin-flip") == [0]
    assert kept([said], grader="strict") == []
    last = "No, no. In the end: yes"
    for marked, places in ((False, [0]), (True, [])):
        assert kept([replace(said, source={**said.source, "completion": last, "marked": marked})]) == places


def test_the_original_verdict_of_a_log() -> None:
    """The program that wrote the logs compared texts, even where the data set's official grader compares values."""
    said = trace(answer="12.30", gold="12.3", task="addsub", completion=" 12.30.", extracted="12.30")
    assert (kept([said], grader="original"), kept([said])) == ([], [0])
    said = trace(answer="10", gold="5", task="addsub", completion=" 5 + 5 = 10", extracted="5")
    assert (kept([said], grader="original"), kept([said])) == ([0], [])
    assert reasons([replace(said, source={**said.source, "extracted": ""})], grader="original") == {"no_answer": 1}
    unknown = replace(said, source={"task": "addsub", "completion": " 5 + 5 = 10"})
    assert kept([unknown], grader="original") == [0]  # by the rules of the official grader


def test_reasons_about_the_answer() -> None:
    traces = [trace(answer=""), trace(gold=None), trace(answer="2"), trace()]
    assert reasons(traces) == {"no_answer": 1, "no_gold": 1, "wrong_answer": 1}
    assert reasons(traces, keep="agreed") == {"no_answer": 1, "wrong_answer": 1, "no_majority": 1}
    assert reasons([*traces, trace(answer="", gold=None)], keep="all") == {"no_answer": 1}


@pytest.mark.parametrize(
    ("answers", "places"),
    [
        (["1"], []),  # one vote is none
        (["1", "1"], [0, 1]),
        (["1", "2"], []),
        (["1", "1", "2", "2"], []),  # a tie
        (["1", "2", "1", "3", ""], [0, 2]),
        (["1,000", "1000", "7", "7", " 1000 "], [0, 1, 4]),  # one answer in three spellings
    ],
)
def test_the_majority_of_a_question(answers: list[str], places: list[int]) -> None:
    assert kept([trace(answer=answer, gold=None) for answer in answers], keep="agreed") == places


def test_votes_count_within_a_question_and_after_the_other_checks() -> None:
    traces = [trace("a", answer="1", gold=None), trace("b", answer="1", gold=None)]
    assert reasons(traces, keep="agreed") == {"no_majority": 2}
    cut = [trace(answer="2", gold=None, finish_reason="length")] * 3
    fine = [trace(answer="1", gold=None, finish_reason="stop")] * 2
    assert kept([*cut, *fine], keep="agreed") == [0, 1, 2]
    assert kept([*cut, *fine], keep="agreed", finished=True) == [3, 4]


# --- the other checks ------------------------------------------------------------------------------------------------


def test_finished_drops_what_is_known_to_be_cut() -> None:
    traces = [trace(finish_reason=reason) for reason in ("stop", "length", "content_filter", None)] + [trace()]
    left, summary = curate(traces, Curation(finished=True))
    assert (len(left), summary.dropped["unfinished"], summary.unjudged["finish_reason"]) == (3, 2, 2)


def test_test_questions_are_compared_as_problems() -> None:
    traces = [trace("3 * 4", task="multiplication"), trace("4 * 3", task="multiplication"), trace("4 * 3")]
    assert kept(traces, exclude=frozenset({"4 * 3"})) == []
    assert kept(traces, exclude=frozenset({"3 * 4"})) == [2]  # a product to the task, words to people's own
    assert kept([trace("How  MANY?")], exclude=frozenset({"how many?"})) == []
    assert kept([trace("no product", task="multiplication")], exclude=frozenset({"3 * 4"})) == [0]


def test_lengths_are_words_of_the_steps() -> None:
    traces = [trace("q", "one two", "three"), trace("q", "one two", "three four"), trace("a b c d e f")]
    assert kept(traces, max_length=3) == [0, 2]


def test_shortest_first_chooses_and_keeps_the_order() -> None:
    traces = [trace("q", "a b c d", sample=0), trace("q", "a b c", sample=1), trace("q", "a", sample=2)]
    assert kept(traces, per_question=2) == [0, 1]
    assert kept(traces, per_question=2, shortest_first=True) == [1, 2]
    assert kept(traces[::-1], per_question=1) == [2]  # samples count, not lines
    assert kept([trace("q", sample="x"), trace("q", sample=None), trace("q", sample=3)], per_question=2) == [0, 1]


def test_duplicates_are_of_one_question() -> None:
    traces = [
        trace("q", "Half is 2."),
        trace("q", "half  is", "2."),
        trace("r", "Half is 2."),
        trace("q", "Half is 3."),
    ]
    assert kept(traces, dedupe="exact") == [0, 2, 3]
    other_answer = replace(traces[0], gold="2", answer="2")
    assert kept([traces[0], other_answer], dedupe="exact") == [0, 1]


def test_near_duplicates() -> None:
    text = " ".join(f"word{number}" for number in range(50))
    for changed, found in ((0, "duplicate"), (1, "near_duplicate"), (2, None)):
        seen = Seen("near")
        assert seen.find(text) is None
        other = text
        for number in range(changed):
            other = other.replace(f"word{20 * number + 10} ", "something ")
        assert seen.find(other) == found
    seen = Seen("near")
    assert seen.find("Half of 4, that is 2!") is None
    assert seen.find("half of 4 -- that is 2") is None  # a minus is no punctuation
    assert seen.find("HALF of 4; that is 2.") == "near_duplicate"
    assert Seen("near").find("") is None
    seen = Seen("near")
    assert seen.find("a b c d e f") is None
    assert seen.find("a b c d e f g") == "near_duplicate"  # 4 of 5 runs are 80 %
    assert seen.find("a b c d e x") is None


@pytest.mark.parametrize(
    "options",
    [
        {"keep": "some"},
        {"grader": "lax"},
        {"dedupe": "fuzzy"},
        {"task": "chess"},
        {"per_question": 0},
        {"max_length": 0},
    ],
)
def test_options_that_do_not_exist(options: dict[str, Any]) -> None:
    (value,) = options.values()
    with pytest.raises(
        TacitError, match=f"unknown .*{value!r}" if isinstance(value, str) else "must be at least 1, got 0"
    ):
        Curation(**options)


def test_nothing_at_all() -> None:
    assert curate([]) == ([], Summary())


def test_examples_say_what_was_seen() -> None:
    traces = [trace(answer="2"), trace("q", "<<2+2=4>> <<1+1=3>>"), trace(answer="", completion="?", task="coin_flip")]
    _, summary = curate(traces, Curation(check_arithmetic=True))
    assert summary.examples == {
        "wrong_answer": f"{traces[0].id}: '2' is not '1'",
        "wrong_arithmetic": f"{traces[1].id}: <<1+1=3>>",
        "no_answer": f"{traces[2].id}: in '?'",
    }


def test_a_large_file_needs_little_memory_and_time() -> None:
    """Of traces that come one by one, only what is to be compared is kept."""

    def many() -> Any:
        for number in range(10_000):
            text = f"{number % 8} and more words {number} " * 20
            yield trace(f"question {number // 8}", text, sample=number % 8, filler="x" * 4000)

    tracemalloc.start()
    _, summary = choose(many(), Curation(per_question=4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (summary.read, summary.kept, summary.questions) == (10_000, 5_000, 1250)
    assert peak < 8_000_000  # the traces themselves are 40 MB


# --- arithmetic ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "verdict"),
    [
        ("<<48/2=24>>", True),
        ("<<2+2=5>>", False),
        ("<<5=5>>", True),
        ("<<+3-5=-2>>", True),
        ("<<.5*20=10>>", True),
        ("<<5.*2=10.00>>", True),
        ("<<1,000+5=1,005>>", True),
        ("<<$1,000,000-$1=$999,999>>", True),
        ("<<3x4=12>>", True),
        ("<<3 × 4 ÷ 6 − 1 = 1>>", True),
        ("<<2*[3+(4-1)]=12>>", True),
        ("<<2^3=8>>", True),
        ("<<2**-1=0.5>>", True),
        ("<<7//2=3>>", True),
        ("<<7/2=3>>", False),
        ("<<7/2=3.5>>", True),
        ("<<20/3=6.67>>", True),
        ("<<20/3=6.66>>", True),
        ("<<20/3=6.6666666666666666666>>", True),
        ("<<20/3=6.65>>", False),
        ("<<20/3=7>>", False),
        ("<<20%*50=10>>", True),
        ("<<50 * 20% = 10>>", True),
        ("<<3/4=75%>>", True),
        ("<<100-25=75%>>", True),
        ("<<3/4=74%>>", False),
        ("<<1/3=33.3%>>", True),
        ("<<2+2=4=2*2>>", True),
        ("<<2+2=5=4>>", False),
        ("<<1/0=0>>", None),
        ("<<two=2>>", None),
        ("<<2=x>>", None),
        ("<<2+2>>", None),
        ("<<=2>>", None),
        ("<<2+=2>>", None),
        ("<<2(3)=6>>", None),
        ("<<1e9=1>>", None),
        ("<<9**9**9**9=1>>", None),
        ("<<2**0.5=1>>", None),
        ("<<__import__('os')=1>>", None),
        (f"<<{'(' * 150}1{')' * 150}=1>>", None),
        (f"<<{'9' * 5000}=1>>", None),
        ("<<1 000=1000>>", None),
        ("<<٣=3>>", None),
    ],
)
def test_equations(span: str, verdict: bool | None) -> None:
    assert judge(span) is verdict


numbers = (st.integers(0, 999) | st.decimals(0, 99, places=2)).map(lambda number: (str(number), Fraction(number)))
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def combine(parts: tuple[tuple[str, Fraction], str, tuple[str, Fraction]]) -> tuple[str, Fraction]:
    (left, one), sign, (right, other) = parts
    return f"({left} {sign} {right})", OPERATIONS[sign](one, other)


@given(
    st.recursive(numbers, lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(combine), max_leaves=12)
)
def test_values_are_exact(expression: tuple[str, Fraction]) -> None:
    text, value = expression
    assert calculate(text) == (value if len(text) <= 200 else None)


@given(st.text(st.sampled_from("0123456789.,+-*/()%$x^=<> e\n"), max_size=30))
def test_no_text_breaks_it(text: str) -> None:
    assert judge(f"<<{text}>>") in (True, False, None)
    value = calculate(text)
    assert value is None or isinstance(value, Fraction)


@pytest.mark.shared
def test_the_equations_of_gsm8k_are_right(shared: Path) -> None:
    traces = read(shared / "data" / "gsm8k" / "train.jsonl", "gsm8k")
    left, summary = curate(traces, Curation(keep="all", check_arithmetic=True))
    assert (len(left), summary.unjudged["equations"]) == (7473, 0)
    assert summary.equations == sum(step.text.count("<<") for one in traces for step in one.steps)


def test_arithmetic_that_cannot_be_read_is_told() -> None:
    traces = [trace("q", "<<two=2>>"), trace("q", "<<two=2>> <<1+1=3>>"), trace("q", "2 + 2 = 5")]
    left, summary = curate(traces, Curation(check_arithmetic=True))
    assert (len(left), summary.unjudged["equations"], summary.equations) == (2, 1, 3)


def test_every_option_has_its_reason() -> None:
    """No two options share a reason, and none is without one."""
    same = [trace("q", "a b c d e f g h <<1+1=3>>", finish_reason="length", sample=number) for number in range(2)]
    told = {
        "test_question": {"exclude": frozenset({"q"})},
        "unfinished": {"finished": True},
        "too_long": {"max_length": 3},
        "wrong_arithmetic": {"check_arithmetic": True},
        "duplicate": {"dedupe": "exact"},
        "over_limit": {"per_question": 1},
    }
    for (first, one), (second, other) in product(told.items(), told.items()):
        found = reasons(same, **{**one, **other})
        assert min(first, second, key=REASONS.index) in found
