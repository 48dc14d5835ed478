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
from tacit.models import word_tokenizer
from tacit.rendering import Template, render
from tacit.tasks import ALIASES, CUSTOM, TASKS, DataSet, Task, get_task, shuffled_objects, task_of
from tacit.tasks.coin_flip import CoinFlip
from tacit.tasks.last_letters import LastLetters
from tacit.tasks.multiplication import Multiplication, operands, parse_digits, problem_count, solve
from tacit.tasks.shuffled_objects import COLOURS, STYLES, ShuffledObjects
from tacit.tasks.task import NAMES
from tacit.trace import Trace, iter_text

MULTIPLICATION = Multiplication()
COIN_FLIP = CoinFlip()
LAST_LETTERS = LastLetters()
SHUFFLED_OBJECTS = ShuffledObjects()
GENERATED = [task for task in TASKS.values() if task.options]
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
    assert len(trace.steps) == m + max(0, m - 2)
    assert len(trace.answer.split()) == n + m


@given(number, number)
def test_the_arithmetic(a: int, b: int) -> None:
    trace = solve(a, b)
    n, m = len(str(a)), len(str(b))
    assert operands(trace.question) == (a, b)
    assert little_endian(trace.answer) == a * b
    running, steps = 0, iter(trace.steps)
    for i in range(m):
        term = next(steps)
        assert term.text.startswith("+ ") == (i > 0)
        assert term.answer == term.text.removeprefix("+ ")
        assert len(term.answer.split()) == n + 1 + i
        assert little_endian(term.answer) == a * int(str(b)[::-1][i]) * 10**i
        running += little_endian(term.answer)
        if 1 <= i <= m - 2:
            total = next(steps)
            assert total.text == f"( {total.answer} )"
            assert total.answer is not None
            assert len(total.answer.split()) == n + 1 + i
            assert little_endian(total.answer) == running
    assert next(steps, None) is None
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


@pytest.mark.parametrize(
    "typed",
    [
        "A coin is heads up. Whitney flips the coin. Erika does not flip the coin. Is the coin still heads up?",
        'Note that "flip" here means "reverse".',
    ],
)
def test_coin_flip_leaves_other_wordings_as_they_are(typed: str) -> None:
    assert COIN_FLIP.read_question(f" {typed}\n") == typed


# --- last letters ----------------------------------------------------------------------------------------------------


@given(st.integers(1, len(NAMES)), st.integers(0, 10))
def test_last_letters_against_plain_slices(words: int, seed: int) -> None:
    for trace in LAST_LETTERS.make(5, seed, words=words):
        names = trace.question.removeprefix("Last letters of : ").split(" ")
        assert len(set(names)) == len(names) == words
        assert set(names) <= set(NAMES)
        letters = [name[-1] for name in names]
        assert trace.answer == " ".join(letters)
        assert LAST_LETTERS.show_answer(trace.answer) == "".join(letters)
        assert [(step.text, step.answer) for step in trace.steps] == [
            (f"{name} : {letter}", letter) for name, letter in zip(names, letters, strict=True)
        ]
        assert [step.question for step in trace.steps] == [f"What is the last letter of {name} ?" for name in names]
        for typed in (trace.question, f"Last letters of: {' '.join(names)}.", f" Last letters of:  {' '.join(names)}"):
            assert LAST_LETTERS.read_question(typed) == trace.question
        for answer in ("".join(letters), "-".join(letters), f'"{"".join(letters)}".'):
            assert LAST_LETTERS.grade(answer, trace.answer)
        assert not LAST_LETTERS.grade("".join(letters) + "q", trace.answer)


def test_last_letters_gives_all_that_exist_and_not_one_more() -> None:
    assert len({trace.question for trace in LAST_LETTERS.make(32, seed=0, words=1)}) == 32
    with pytest.raises(TacitError, match="33 problems asked for, but only 32 distinct ones with 1 words exist"):
        LAST_LETTERS.make(33, seed=0, words=1)
    with pytest.raises(TacitError, match="words must be a whole number from 1 to 32"):
        LAST_LETTERS.make(1, seed=0, words=33)


def test_last_letters_between_a_person_and_the_model() -> None:
    published = 'Take the last letters of each words in "Ada Finn Olga Ben" and concatenate them.'
    assert LAST_LETTERS.read_question(published) == published
    assert LAST_LETTERS.read_question(LAST_LETTERS.example) == "Last letters of : Ada Finn Olga"
    assert LAST_LETTERS.show_answer("ana") == "ana"
    assert LAST_LETTERS.show_answer("no idea") == "no idea"
    assert LAST_LETTERS.show_answer("") == ""


# --- shuffled objects ------------------------------------------------------------------------------------------------


def play(question: str) -> tuple[list[dict[str, str]], list[tuple[str, str]], str]:
    """Read and played by the words of the question: who holds what at first and after each swap, and who is asked."""
    *told, asked = question.split(" . ")
    holds: dict[str, str] = {}
    states, swaps = [], []
    for sentence in told:
        words = sentence.split(" ")
        if words[1:3] == ["has", "the"]:
            holds[words[0]] = words[3]
            continue
        one, other = words[0], words[2]
        if not states:
            states.append(dict(holds))
        holds[one], holds[other] = holds[other], holds[one]
        states.append(dict(holds))
        swaps.append((one, other))
    return states, swaps, asked.split(" ")[3]


@given(st.integers(1, 8), st.integers(2, len(COLOURS)), st.integers(1, len(STYLES)), st.integers(0, 9))
def test_shuffled_objects_against_a_plain_game(swaps: int, objects: int, styles: int, seed: int) -> None:
    for trace in SHUFFLED_OBJECTS.make(4, seed, swaps=swaps, objects=objects, styles=styles):
        states, pairs, asked = play(trace.question)
        assert len(pairs) == len(trace.steps) == swaps
        assert len(states[0]) == len(set(states[0].values())) == objects
        assert trace.answer == states[-1][asked]
        assert trace.source is not None
        assert trace.source["style"] < styles
        for number, step in enumerate(trace.steps):
            assert step.question
            told = step.text.split(" ")
            if trace.source["style"] == 7:  # backward: who holds, before each swap, what the asked one has at the end
                holder = next(name for name, colour in states[-2 - number].items() if colour == trace.answer)
                assert step.answer == told[-1] == holder
                continue
            one, other = pairs[number]
            after = states[number + 1]
            assert step.answer == " , ".join(f"{name} : {colour}" for name, colour in after.items())
            assert {after[one], after[other]} <= {*told, *step.text.split()}
            if trace.source["style"] in (0, 1, 2, 3, 6, 9, 10):  # these tell of everybody
                assert set(after.values()) <= set(told)


def test_each_style_is_a_text_of_its_own() -> None:
    chains = [
        *(
            f"Ada {word} blue , Ben {word} red , Cleo {word} pink / "
            f"Ada {word} pink , Ben {word} red , Cleo {word} blue"
            for word in (":", "has", "holds", "gets")
        ),
        "Ada : blue , Ben : red / Cleo : blue , Ada : pink",
        "Now Ada has the blue ball and Ben has the red ball . / "
        "Now Cleo has the blue ball and Ada has the pink ball .",
        "blue => Ada , red => Ben , pink => Cleo / pink => Ada , red => Ben , blue => Cleo",
        "before Cleo and Ada swap it is with Cleo / before Ada and Ben swap it is with Cleo",
        "Ada gives red to Ben and takes blue . / Cleo gives pink to Ada and takes blue .",
        "blue red pink / pink red blue",
        "After Ada and Ben swap , "
        "the blue ball is with Ada and the red ball is with Ben and the pink ball is with Cleo . / "
        "After Cleo and Ada swap , "
        "the pink ball is with Ada and the red ball is with Ben and the blue ball is with Cleo .",
    ]
    problem = shuffled_objects.Problem(
        ("Ada", "Ben", "Cleo"), ("red", "blue", "pink"), (("Ada", "Ben"), ("Cleo", "Ada")), "Ada"
    )
    traces = [shuffled_objects.solve(problem, style) for style in range(len(STYLES))]
    assert [" / ".join(step.text for step in trace.steps) for trace in traces] == chains
    assert {trace.question for trace in traces} == {
        "Ada has the red ball . Ben has the blue ball . Cleo has the pink ball . "
        "Ada and Ben swap . Cleo and Ada swap . Which ball does Ada have ?"
    }
    assert {trace.answer for trace in traces} == {"pink"}


def test_styles_are_drawn_by_the_seed_and_the_problem_alone() -> None:
    plain, mixed = (SHUFFLED_OBJECTS.make(600, 3, styles=styles) for styles in (1, 6))
    assert [trace.question for trace in plain] == [trace.question for trace in mixed]
    assert {source["style"] for trace in plain if (source := trace.source)} == {0}
    counts = Counter(source["style"] for trace in mixed if (source := trace.source))
    assert sorted(counts) == list(range(6))
    assert all(count == pytest.approx(100, abs=40) for count in counts.values())
    assert SHUFFLED_OBJECTS.make(200, 3, styles=6) == mixed[:200]  # however many problems there are


def test_as_many_names_as_people_stand_in_one_order() -> None:
    for trace in SHUFFLED_OBJECTS.make(50, 0, names=3, swaps=2):
        assert [part.split()[0] for part in trace.question.split(" . ")[:3]] == ["Ada", "Ben", "Cleo"]
    assert {trace.question.split()[0] for trace in SHUFFLED_OBJECTS.make(200, 0, names=4)} == {
        "Ada",
        "Ben",
        "Cleo",
        "Dan",
    }
    exist = 12 * 11 * 2 * 2  # two colours in order, one swap of two ways to say it, two to ask for
    assert len(SHUFFLED_OBJECTS.make(exist, 0, objects=2, names=2, swaps=1)) == exist
    with pytest.raises(TacitError, match=f"only {exist} distinct"):
        SHUFFLED_OBJECTS.make(exist + 1, 0, objects=2, names=2, swaps=1)
    with pytest.raises(TacitError, match="4 people need as many names, and there are to be only 3"):
        SHUFFLED_OBJECTS.make(1, 0, objects=4, names=3)


def test_shuffled_objects_gives_all_that_exist_and_not_one_more() -> None:
    exist = 32 * 31 * 12 * 11 * 2 * 2
    with pytest.raises(
        TacitError, match=f"{exist + 1:,} problems asked for, but only {exist:,} distinct ones with 1 "
    ):
        SHUFFLED_OBJECTS.make(exist + 1, seed=0, swaps=1, objects=2)
    answers = Counter(trace.answer for trace in SHUFFLED_OBJECTS.make(3000, seed=0))
    assert len(answers) == len(COLOURS)
    assert all(count == pytest.approx(250, abs=70) for count in answers.values())


def test_shuffled_objects_reads_what_a_person_types() -> None:
    (trace,) = SHUFFLED_OBJECTS.make(1, seed=0)
    typed = trace.question.replace(" .", ".").replace(" ?", "?")
    assert SHUFFLED_OBJECTS.read_question(typed) == SHUFFLED_OBJECTS.read_question(trace.question) == trace.question
    published = "Alice, Bob, and Claire are playing a game.\nAlice has the \nWhich choice is true?"
    assert SHUFFLED_OBJECTS.read_question(published) == published


# --- every task ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_a_task_describes_itself(name: str) -> None:
    task = TASKS[name]
    assert task.name == name
    assert all((task.summary, task.format.name, task.licence, task.example))
    assert task.read_question(task.example)
    assert all(option.help for option in task.options.values())
    if isinstance(task, DataSet):
        assert all(task.sizes)
        assert all(task.files)
        assert bool(task.parts) != bool(task.digest)
    if not task.options:
        with pytest.raises(TacitError, match=f"task '{name}' has no generator"):
            task.make(1, seed=0)


@pytest.mark.parametrize("task", GENERATED, ids=lambda task: task.name)
def test_what_a_task_makes(task: Task) -> None:
    traces = task.make(50, seed=0)
    assert task.make(50, seed=0) == traces
    assert task.make(50, seed=1) != traces
    assert len({trace.question for trace in traces}) == 50
    for trace in traces:
        assert task.read_question(trace.question) == trace.question
        assert task.problem(trace.question)
        assert task.grade(trace.answer, trace.label)
        assert task.grade(trace.answer, trace.label, "strict")
        assert Trace.from_dict(trace.to_dict()) == trace
    other = next(trace.answer for trace in traces if trace.answer != traces[0].answer)
    assert not task.grade(other, traces[0].label)


@pytest.mark.parametrize("task", GENERATED, ids=lambda task: task.name)
def test_a_tokenizer_of_words_reads_what_a_task_makes(task: Task) -> None:
    options = {"styles": len(STYLES)} if "styles" in task.options else {}
    traces = task.make(200, 0, **options)
    tokenizer = word_tokenizer([*iter_text(traces), Template().words])
    assert len(tokenizer) < 200
    assert len(render(traces, tokenizer)) == 200


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("singleeq", "single_eq"),
        ("strategyqa", "strategy_qa"),
        ("commonsensqa", "commonsense_qa"),
        ("bigbench_date", "date_understanding"),
        ("object_tracking", "shuffled_objects"),
        ("tracking_shuffled_objects", "shuffled_objects"),
        ("last_letter_concatenation", "last_letters"),
        ("coin-flip", "coin_flip"),
        ("GSM8K", "gsm8k"),
        ("MultiArith", "multiarith"),
        ("AQuA", "aqua"),
    ],
)
def test_what_others_call_a_task(alias: str, name: str) -> None:
    assert get_task(alias) is TASKS[name]


def test_no_alias_is_a_name() -> None:
    assert not set(ALIASES) & {*TASKS, "custom"}
    assert len(ALIASES) == sum(len(task.aliases) for task in TASKS.values())


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(TacitError, match="unknown task 'multiplicaton'; did you mean 'multiplication'"):
        get_task("multiplicaton")
    with pytest.raises(TacitError, match="unknown task 'zzz'; choose from: addsub, aqua, coin_flip"):
        get_task("zzz")


@pytest.mark.parametrize(
    ("name", "option", "near"),
    [("multiplication", "digit", "digits"), ("coin_flip", "flip", "flips"), ("shuffled_objects", "style", "styles")],
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


def test_the_task_of_a_trace() -> None:
    def named(task: object) -> Trace:
        return Trace("q", (), "a", source={"task": task})

    assert task_of(named("svamp")).name == task_of(named("SVAMP")).name == "svamp"
    assert task_of(named("strategyqa")).name == "strategy_qa"  # as other projects write it
    for own in ("riddles", "custom", "", None, 3, ["svamp"]):
        assert task_of(named(own)) is CUSTOM
    assert task_of(Trace("q", (), "a")) is task_of(Trace("q", (), "a"), None) is CUSTOM
    assert task_of(named("svamp"), "coin-flip").name == "coin_flip"
    assert task_of(named("svamp"), "custom") is CUSTOM
    with pytest.raises(TacitError, match="unknown task 'svam'; did you mean 'svamp'"):
        task_of(named("svamp"), "svam")
