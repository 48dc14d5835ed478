"""The generated tasks against the official files, the published formulas and plain arithmetic."""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.errors import TacitError
from tacit.formats import format_icot, read
from tacit.tasks import CUSTOM, TASKS, get_task
from tacit.tasks.coin_flip import NAMES, CoinFlip
from tacit.tasks.multiplication import Multiplication, operands, parse_digits, problem_count, solve

MULTIPLICATION = Multiplication()
COIN_FLIP = CoinFlip()
number = st.integers(1, 10**12)


def little_endian(spaced: str) -> int:
    return int("".join(reversed(spaced.split())))


# --- multiplication: the grammar -------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize("n", [4, 5, 7, 9, 11])
def test_the_official_lines_come_out_of_their_inputs(shared: Path, n: int) -> None:
    path = shared / "data" / "multiplication" / f"{n}x{n}_valid.txt"
    lines = path.read_text().split("\n")[:-1]
    assert len(lines) == 1000
    for line, trace in zip(lines, read(path, "icot"), strict=True):
        a, b = (little_endian(side) for side in line.split("||")[0].split(" * "))
        made = solve(a, b)
        assert format_icot(made) == line
        assert [step.text for step in made.steps] == [step.text for step in trace.steps]
        assert made.id == trace.id


@pytest.mark.parametrize(
    ("a", "b", "line"),
    [
        (
            1234,
            5678,
            "4 3 2 1 * 8 7 6 5||2 7 8 9 0 + 0 8 3 6 8 0 ( 2 5 2 6 9 0 ) + 0 0 4 0 4 7 0 ( 2 5 6 6 3 8 0 ) "
            "+ 0 0 0 0 7 1 6 0 #### 2 5 6 6 0 0 7 0",
        ),
        (307, 905, "7 0 3 * 5 0 9||5 3 5 1 + 0 0 0 0 0 ( 5 3 5 1 0 ) + 0 0 3 6 7 2 #### 5 3 8 7 7 2"),
        (12, 10, "2 1 * 0 1||0 0 0 + 0 2 1 0 #### 0 2 1 0"),
        (7, 8, "7 * 8||6 5 #### 6 5"),
        (4821, 37, "1 2 8 4 * 7 3||7 4 7 3 3 + 0 3 6 4 4 1 #### 7 7 3 8 7 1"),
    ],
)
def test_published_and_worked_examples(a: int, b: int, line: str) -> None:
    assert format_icot(solve(a, b)) == line


@pytest.mark.parametrize(
    ("n", "symbols"),
    [(4, 46), (5, 74), (6, 108), (7, 148), (8, 194), (9, 246), (10, 304), (11, 368), (12, 438), (20, 1214)],
)
def test_published_chain_lengths(n: int, symbols: int) -> None:
    (trace,) = MULTIPLICATION.make(1, seed=0, digits=f"{n}x{n}")
    assert sum(len(step.text.split()) for step in trace.steps) == symbols == 3 * n**2 + n - 6


@pytest.mark.parametrize(("n", "m"), list(itertools.product(range(1, 8), range(1, 8))))
def test_chain_lengths_by_formula(n: int, m: int) -> None:
    trace = solve(int("7306429"[:n]), int("5809134"[:m]))
    terms = m * (n + 1) + m * (m - 1) // 2 + (m - 1)
    sums = sum(n + 3 + i for i in range(1, m - 1))
    assert sum(len(step.text.split()) for step in trace.steps) == terms + sums
    assert len(trace.steps) == m
    assert len(trace.answer.split()) == n + m


@given(number, number)
def test_the_arithmetic(a: int, b: int) -> None:
    trace = solve(a, b)
    n, m = len(str(a)), len(str(b))
    assert operands(trace.question) == (a, b)
    assert little_endian(trace.answer) == a * b
    running = 0
    for i, step in enumerate(trace.steps):
        term, _, written_sum = step.text.removeprefix("+ ").removesuffix(" )").partition(" ( ")
        assert step.text.startswith("+ ") == (i > 0)
        assert len(term.split()) == n + 1 + i
        assert little_endian(term) == a * int(str(b)[::-1][i]) * 10**i
        running += little_endian(term)
        assert bool(written_sum) == (1 <= i <= m - 2)
        if written_sum:
            assert len(written_sum.split()) == n + 1 + i
            assert little_endian(written_sum) == running
        assert step.answer is not None
        assert little_endian(step.answer) == running
    assert running == a * b


# --- multiplication: the generator -----------------------------------------------------------------------------------


def pairs(traces: list[Any]) -> list[tuple[int, int]]:
    return [operands(trace.question) for trace in traces]


@given(
    st.lists(st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (1, 3)]), min_size=1, max_size=3),
    st.integers(1, 81),
    st.integers(0, 5),
    st.booleans(),
)
def test_no_duplicates_and_only_what_was_asked_for(
    sizes: list[tuple[int, int]], size: int, seed: int, ordered: bool
) -> None:
    digits = ",".join(f"{n}x{m}" for n, m in sizes)
    families = sizes if ordered else {tuple(sorted(pair)) for pair in sizes}
    exist = sum(problem_count(n, m, ordered) for n, m in set(families))
    size = min(size, exist)
    traces = MULTIPLICATION.make(size, seed, digits=digits, ordered=ordered)
    made = pairs(traces)
    assert len(traces) == size
    problems = made if ordered else [tuple(sorted(pair)) for pair in made]
    assert len(set(problems)) == size
    for (a, b), trace in zip(made, traces, strict=True):
        assert (len(str(a)), len(str(b))) in sizes
        assert little_endian(trace.answer) == a * b


@pytest.mark.parametrize(
    ("digits", "ordered", "exist"),
    [
        ("1x1", False, 45),
        ("1x1", True, 81),
        ("2x1", False, 810),
        ("2x2", False, 4095),
        ("2x2", True, 8100),
        ("1x1,2x1", False, 855),
        ("2x1,1x2", False, 810),  # one family: a*b and b*a count as one
        ("2x1,1x2", True, 1620),
        ("1x1,1x1", False, 45),
    ],
)
def test_all_that_exist_and_not_one_more(digits: str, ordered: bool, exist: int) -> None:
    made = pairs(MULTIPLICATION.make(exist, seed=1, digits=digits, ordered=ordered))
    assert len({pair if ordered else tuple(sorted(pair)) for pair in made}) == exist
    with pytest.raises(TacitError, match=f"{exist + 1:,} problems asked for, but only {exist:,} distinct"):
        MULTIPLICATION.make(exist + 1, seed=1, digits=digits, ordered=ordered)


def test_a_mix_is_shared_out_evenly_and_shuffled() -> None:
    traces = MULTIPLICATION.make(3000, seed=0, digits="1x1,2x2,3x2")
    sizes = [trace.source["digits"] for trace in traces]
    assert Counter(sizes) == {"1x1": 45, "2x2": 1477, "3x2": 1478}
    assert len(set(sizes[:100])) == 3 or Counter(sizes[:100])["2x2"] > 20
    assert Counter(sizes[:1500])["2x2"] == pytest.approx(740, abs=100)


def test_digits_are_uniform() -> None:
    made = pairs(MULTIPLICATION.make(9000, seed=0, digits="3x3"))
    for place, expected in ((0, 9), (1, 10), (2, 10)):
        counts = Counter(str(value)[place] for pair in made for value in pair)
        assert len(counts) == expected
        assert all(count == pytest.approx(18_000 / expected, rel=0.12) for count in counts.values())


@pytest.mark.parametrize("digits", ["4x2", "7x7", "1x1,3x2"])
def test_the_same_seed_gives_the_same_data(digits: str) -> None:
    first = MULTIPLICATION.make(40, seed=3, digits=digits)
    assert MULTIPLICATION.make(40, seed=3, digits=digits) == first
    assert MULTIPLICATION.make(40, seed=4, digits=digits) != first


def test_the_same_data_on_every_machine() -> None:
    made = pairs(MULTIPLICATION.make(3, seed=0, digits="4x2"))
    assert made == [(7311, 63), (9376, 72), (1663, 43)]


def test_large_sizes_are_cheap() -> None:
    (trace,) = MULTIPLICATION.make(1, seed=0, digits="100x100")
    a, b = operands(trace.question)
    assert little_endian(trace.answer) == a * b


@pytest.mark.parametrize(
    "digits",
    [
        "0x4",
        "4x0",
        "4by4",
        "-3x2",
        "4x-2",
        "4",
        "",
        "x",
        "4x",
        "x4",
        "4x2,",
        "4x2;3x3",
        "4.0x2",
        "101x2",
        "٤x٢",
        42,
        None,
    ],
)
def test_digits_that_are_none(digits: Any) -> None:
    with pytest.raises(
        TacitError, match="digits must look like 4x2, or 2x2,3x3 for a mix, with 1 to 100 digits"
    ) as caught:
        MULTIPLICATION.make(1, seed=0, digits=digits)
    assert repr(digits) in str(caught.value)


def test_digits_as_people_write_them() -> None:
    assert parse_digits("4x2") == parse_digits(" 4X2 ") == ((4, 2),)
    assert parse_digits("2x2, 3x3,2x2") == ((2, 2), (3, 3))


@pytest.mark.parametrize("ordered", ["yes", 1, None, ""])
def test_ordered_is_true_or_false(ordered: Any) -> None:
    with pytest.raises(TacitError, match="ordered must be true or false"):
        MULTIPLICATION.make(1, seed=0, ordered=ordered)


# --- multiplication: between a person and the model ------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    ["4821 * 37", "4821*37", " 4821 x 37 ", "4821 X 37", "4,821 × 37", "4821 * 37 =", "04821 * 037", "1 2 8 4 * 7 3"],
)
def test_read_question(typed: str) -> None:
    assert MULTIPLICATION.read_question(typed) == "1 2 8 4 * 7 3"


@given(number, number)
def test_a_typed_question_is_the_question_of_the_trace(a: int, b: int) -> None:
    trace = solve(a, b)
    assert MULTIPLICATION.read_question(f"{a} * {b}") == trace.question
    assert MULTIPLICATION.read_question(f"{a:,}x{b:,}") == trace.question
    assert MULTIPLICATION.show_answer(trace.answer) == str(a * b)
    if len(str(a)) + len(str(b)) > 2:  # of two single digits nobody can tell which form it is, and both are the same
        assert MULTIPLICATION.read_question(trace.question) == trace.question


def test_numbers_of_any_length() -> None:
    typed = "9" * 5000
    assert MULTIPLICATION.read_question(f"{typed} * 10") == f"{' '.join(typed)} * 0 1"
    assert MULTIPLICATION.show_answer(" ".join(typed)) == typed


@pytest.mark.parametrize(
    "typed", ["", "4821", "4821 + 37", "a * b", "4821 * 37 * 2", "4.5 * 2", "-3 * 2", "٣ * ٢", "* 3"]
)
def test_a_question_that_is_none(typed: str) -> None:
    with pytest.raises(TacitError, match=r"a multiplication question looks like '4821 \* 37'"):
        MULTIPLICATION.read_question(typed)


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("7 7 3 8 7 1", "178377"),
        ("0 2 1 0", "120"),
        ("0 0", "0"),
        ("5", "5"),
        ("", ""),
        ("7 7 x", "7 7 x"),
        ("77 3", "77 3"),
        ("7 7 ", "7 7 "),
    ],
)
def test_show_answer(answer: str, shown: str) -> None:
    assert MULTIPLICATION.show_answer(answer) == shown


@given(number, number)
def test_a_product_and_its_mirror_are_one_problem(a: int, b: int) -> None:
    assert MULTIPLICATION.problem(solve(a, b).question) == MULTIPLICATION.problem(solve(b, a).question)


@given(number, number, number, number)
def test_different_products_are_different_problems(a: int, b: int, c: int, d: int) -> None:
    same = MULTIPLICATION.problem(solve(a, b).question) == MULTIPLICATION.problem(solve(c, d).question)
    assert same == (sorted((a, b)) == sorted((c, d)))


@pytest.mark.parametrize("question", ["4821 * 37", "1 2 + 3 4", "1 2 * x", "1 2", "1  2 * 3"])
def test_a_problem_needs_the_models_form(question: str) -> None:
    with pytest.raises(TacitError, match="not a multiplication question"):
        MULTIPLICATION.problem(question)


# --- coin flip -------------------------------------------------------------------------------------------------------


@given(st.integers(1, len(NAMES)), st.integers(0, 10))
def test_coin_flip_against_a_plain_simulation(flips: int, seed: int) -> None:
    for trace in COIN_FLIP.make(5, seed, flips=flips):
        acts = trace.question.split(" . ")
        assert acts[0] == "A coin is heads up"
        assert acts[-1] == "Is it still heads up ?"
        acts = acts[1:-1]
        assert len(acts) == len(trace.steps) == flips
        coin, seen = "heads", set()
        for act, step in zip(acts, trace.steps, strict=True):
            name, _, what = act.partition(" ")
            assert what in ("flips it", "does not flip it")
            if what == "flips it":
                coin = "tails" if coin == "heads" else "heads"
            assert step.text == f"{name} : {coin}"
            assert step.answer == coin
            assert step.question == f"What does the coin show after {name} ?"
            seen.add(name)
        assert len(seen) == flips
        assert trace.answer == ("yes" if coin == "heads" else "no")


def test_coin_flip_gives_all_that_exist_and_not_one_more() -> None:
    traces = COIN_FLIP.make(64, seed=0, flips=1)
    assert len({trace.question for trace in traces}) == 64
    with pytest.raises(TacitError, match="65 problems asked for, but only 64 distinct ones with 1 flips exist"):
        COIN_FLIP.make(65, seed=0, flips=1)


def test_coin_flip_is_seeded_and_balanced() -> None:
    first = COIN_FLIP.make(2000, seed=0)
    assert COIN_FLIP.make(2000, seed=0) == first
    assert COIN_FLIP.make(2000, seed=1) != first
    assert len({trace.question for trace in first}) == 2000
    assert all(len(trace.steps) == 4 for trace in first)
    assert Counter(trace.answer for trace in first)["yes"] == pytest.approx(1000, abs=100)


@pytest.mark.parametrize("flips", [0, -1, 33, "four", 2.5, None, "9" * 5000])
def test_flips_that_are_none(flips: Any) -> None:
    with pytest.raises(TacitError, match="flips must be a whole number from 1 to 32"):
        COIN_FLIP.make(1, seed=0, flips=flips)


def test_coin_flip_reads_what_a_person_types() -> None:
    typed = "A coin is heads up. Ada flips it. Ben does not flip it.  Is it still heads up?"
    question = "A coin is heads up . Ada flips it . Ben does not flip it . Is it still heads up ?"
    assert COIN_FLIP.read_question(typed) == COIN_FLIP.read_question(question) == question
    assert COIN_FLIP.read_question(COIN_FLIP.example) == question
    assert COIN_FLIP.show_answer("no") == "no"


# --- every task ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_a_task_describes_itself(name: str) -> None:
    task = TASKS[name]
    assert task.name == name
    assert all((task.summary, task.answer_format, task.licence, task.example))
    (trace,) = task.make(1, seed=0)
    assert task.read_question(task.example)
    assert task.problem(trace.question) == task.problem(trace.question)
    assert task.grade(trace.answer, trace.label)
    assert not task.grade(trace.answer + " 1", trace.label)
    assert all(option.help for option in task.options.values())


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(TacitError, match="unknown task 'multiplicaton'; did you mean 'multiplication'"):
        get_task("multiplicaton")
    with pytest.raises(TacitError, match="unknown task 'zzz'; choose from: coin_flip, multiplication"):
        get_task("zzz")


@pytest.mark.parametrize(
    ("name", "option", "near"), [("multiplication", "digit", "digits"), ("coin_flip", "flip", "flips")]
)
def test_an_unknown_option_names_the_nearest(name: str, option: str, near: str) -> None:
    with pytest.raises(TacitError, match=f"unknown option for task {name}: '{option}'; did you mean '{near}'"):
        get_task(name).make(1, seed=0, **{option: "1"})


def test_the_task_of_peoples_own_traces() -> None:
    assert get_task(None) is get_task("custom") is CUSTOM
    assert CUSTOM.read_question(" Why ? ") == "Why ?"
    assert CUSTOM.show_answer(" 7 ") == " 7 "
    assert CUSTOM.problem("A  b\nC") == CUSTOM.problem("a B c")
    assert CUSTOM.grade("1,000", "1000")
    assert CUSTOM.grade(" 7 8", "7  8 ")
    assert not CUSTOM.grade("18.0", "18")
    with pytest.raises(TacitError, match="task 'custom' has no generator"):
        CUSTOM.make(1, seed=0)
