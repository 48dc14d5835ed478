"""Generated word problems against a reader that knows their sentences only, and solves them by trying every rule."""

import re
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import pytest

from tacit.errors import TacitError
from tacit.tasks import get_task
from tacit.tasks.task import NAMES
from tacit.tasks.word_problems.quantities import THINGS
from tacit.trace import Trace

TASK = get_task("word_problems")
COUNTED = {*THINGS, "dollars", "boxes", "bags", "tins", "days", "weeks"}
SHARES = {"half": Fraction(1, 2), "a third": Fraction(1, 3), "a quarter": Fraction(1, 4), "twice": Fraction(2)}
WHO = r"((?:each \w+ of |(?:one|each) )?\w+(?: and \w+)?)"
LOSING, GAINING = {"lose", "eat", "sell", "use", "give"}, {"find", "get", "win"}

Key = tuple[str, str, str, str]  # who, verb, thing, end


# --- the reader ------------------------------------------------------------------------------------------------------


def stem(verb: str) -> str:
    return "have" if verb in ("has", "have") else verb.removesuffix("s")


def key(text: str, given: Key) -> Key:
    """What `Ben`, `figs` or `Ben has figs left` speaks of in a sentence that began with the given quantity."""
    who, verb, thing, end = given
    if text in COUNTED:
        return who, verb, text, end
    if re.fullmatch(WHO, text) and not text.startswith("each each"):
        return text, verb, thing, end
    match = re.fullmatch(rf"{WHO} (\w+)((?: \w+)*)", text)
    assert match, text
    rest = match[3].split()
    return match[1], stem(match[2]), rest.pop(0) if rest and rest[0] in COUNTED else thing, " ".join(rest)


def asked(question: str) -> Key:
    """The quantity of `How many pears does Ada have left ?`."""
    match = re.fullmatch(rf"How many ((?:more )?\w+) (do|does) {WHO} (\w+)((?: \w+)*) \?", question)
    assert match, question
    assert (match[2] == "do") == (" and " in match[3])
    return match[3], match[4], match[1], match[5].strip()


def equation(sentence: str) -> tuple[Key, Fraction, Key | None, int]:
    """The first quantity is so many times the second, plus so many; of a given one there is no second."""
    sentence = sentence[0].lower() + sentence[1:] if sentence.startswith(("Each", "One")) else sentence
    match = re.fullmatch(rf"{WHO} (\w+) (.+)", sentence)
    assert match, sentence
    who, verb, rest = match[1], stem(match[2]), match[3]
    if match := re.fullmatch(r"(\d+) (more|fewer) (\w+)((?: \w+)*?) than (.+)", rest):
        first = (who, verb, match[3], match[4].strip())
        return first, Fraction(1), key(match[5], first), int(match[1]) * (1 if match[2] == "more" else -1)
    if match := re.fullmatch(r"(?:(.+) )?as many (\w+)((?: \w+)*?) as (.+?)(?: (plus|minus) (\d+))?", rest):
        first = (who, verb, match[2], match[3].strip())
        share = SHARES.get(match[1]) or Fraction((match[1] or "1").removesuffix(" times"))
        return first, share, key(match[4], first), int(match[6] or 0) * (-1 if match[5] == "minus" else 1)
    if match := re.fullmatch(r"shares all (\w+) equally among (\d+) friends", f"{verb}s {rest}"):
        return (f"each friend of {who}", "get", match[1], ""), Fraction(1, int(match[2])), owned(who, match[1]), 0
    if match := re.fullmatch(r"(\d+) friends equally many of all (\w+)", rest):
        return (f"each friend of {who}", "get", match[2], ""), Fraction(1, int(match[1])), owned(who, match[2]), 0
    if match := re.fullmatch(r"(?:all|the) (\w+) into (\w+) (?:of (\d+)|, (\d+) in each)", rest):
        return (who, "fill", match[2], ""), Fraction(1, int(match[3] or match[4])), owned(who, match[1]), 0
    if match := re.fullmatch(r"(?:the same number of|equally many) (\w+) (each \w+) for (\d+) \w+", rest):
        return (who, verb, match[1], match[2]), Fraction(1, int(match[3])), (who, verb, match[1], "all"), 0
    match = re.fullmatch(r"(\d+) (\w+)((?: \w+)*)", rest)
    assert match, sentence
    return (who, verb, match[2], match[3].strip()), Fraction(0), None, int(match[1])


def owned(who: str, thing: str) -> Key:
    return who, "have", thing, ""


def plain(quantity: Key) -> Key:
    """Without the choices of words that make no difference."""
    who, verb, thing, end = quantity
    end = re.sub(r"initially|at first", "", end.replace("combined", "together").replace("in total", "in all"))
    end = " ".join(end.replace("in all", "all").split())
    return who, "have" if verb in ("own", "keep") else verb, thing, end


def rules(wanted: Key, keys: Iterable[Key]) -> list[tuple[Key, str, Key]]:
    """How a quantity follows from two others without being told."""
    who, verb, thing, end = wanted
    if " and " in who:
        left, right = who.split(" and ")
        end = end.removesuffix("together").strip()
        return [((left, verb, thing, end), "+", (right, verb, thing, end))]
    if thing.startswith("more "):
        end, _, other = end.rpartition("than ")
        thing = thing.removeprefix("more ")
        return [((who, verb, thing, end.strip()), "-", (other, verb, thing, end.strip()))]
    if end in ("boxes", "bags", "tins") or end in ("in boxes", "in bags", "in tins"):
        box = {"boxes": "box", "bags": "bag", "tins": "tin"}[end.removeprefix("in ")]
        return [((who, "have", end.removeprefix("in "), ""), "*", (f"each {box} of {who}", "hold", thing, ""))]
    if end == "left" and thing == "dollars":
        return [(owned(who, thing), "-", (who, "spend", thing, ""))]
    if end == "left":
        return [(owned(who, thing), "-", k) for k in keys if (k[0], k[2]) == (who, thing) and k[1] in LOSING]
    if end == "now":
        got = [k for k in keys if (k[0], k[2]) == (who, thing) and k[1] in GAINING]
        got += [k for k in keys if (k[1], k[2], k[3]) == ("give", thing, f"to {who}")]
        return [(owned(who, thing), "+", k) for k in got]
    if end == "all":
        return [((who, verb, thing, f"each {unit}"), "*", (who, "work", f"{unit}s", "")) for unit in ("day", "week")]
    if verb == "spend":
        bought = [k for k in keys if (k[0], k[1]) == (who, "buy")]
        return [(k, "*", (f"{each} {k[2][:-1]}", "cost", "dollars", "")) for k in bought for each in ("one", "each")]
    return []


def solve(sentences: list[str], questions: Iterable[str] = ()) -> dict[Key, Fraction]:
    """All that follows from the sentences; two ways to the same quantity must agree."""
    known: dict[Key, Fraction] = {}
    equations = []
    keys = {plain(asked(question)) for question in questions}
    for sentence in sentences:
        first, times, second, plus = equation(sentence)
        equations.append((plain(first), times, second and plain(second), plus))
        keys |= {plain(quantity) for quantity in (first, second) if quantity}

    def put(quantity: Key, value: Fraction) -> None:
        assert known.setdefault(quantity, value) == value, f"{quantity}: {known[quantity]} and {value}"

    size = -1
    while size < len(known):
        size = len(known)
        for first, times, second, plus in equations:
            if second is None:
                put(first, Fraction(plus))
                continue
            if second in known:
                put(first, known[second] * times + plus)
            if first in known:
                put(second, (known[first] - plus) / times)
        for wanted in list(keys):
            for left, operator, right in rules(wanted, keys):
                keys |= {left, right}
                if left in known and right in known:
                    one, other = known[left], known[right]
                    put(wanted, {"+": one + other, "-": one - other, "*": one * other}[operator])
    return known


def parts(trace: Trace) -> tuple[list[str], str]:
    """The sentences of a problem, digits together, and its question."""
    *sentences, question = TASK.show_answer(trace.question).split(" . ")
    return sentences, question


def answers(trace: Trace, kept: list[str]) -> bool:
    """Whether the answer follows from these sentences of the problem."""
    question = parts(trace)[1]
    return solve(kept, [question]).get(plain(asked(question))) == number(trace.answer)


def number(spaced: str) -> int:
    assert re.fullmatch(r"[0-9]( [0-9])*", spaced)
    return int(spaced.replace(" ", ""))


# --- the problems ----------------------------------------------------------------------------------------------------

MADE = {
    name: TASK.make(400, 5, **options)
    for name, options in {
        "default": {},
        "long": {"steps": "6-8"},
        "told": {"order": "told", "distractors": 4},
        "plain": {"steps": 1, "distractors": 0},
    }.items()
}
every_kind = pytest.mark.parametrize("traces", MADE.values(), ids=MADE)


@every_kind
def test_every_sub_question_follows_from_the_sentences(traces: list[Trace]) -> None:
    for trace in traces:
        sentences, question = parts(trace)
        questions = [step.question or "" for step in trace.steps]
        known = solve(sentences, questions)
        assert [known[plain(asked(text))] for text in questions] == [number(step.answer or "") for step in trace.steps]
        assert questions[-1] == question
        assert len(set(questions)) == len(questions)
        assert trace.steps[-1].answer == trace.answer
        assert all(value.denominator == 1 and 0 <= value <= 999 for value in known.values())


@every_kind
def test_every_calculation_is_right_and_uses_what_is_known(traces: list[Trace]) -> None:
    in_words = {"twice": 2, "half": 2, "third": 3, "quarter": 4}
    for trace in traces:
        shown = TASK.show_answer(trace.question).split()
        known = [
            int(word) if word.isdigit() else in_words[word] for word in shown if word.isdigit() or word in in_words
        ]
        results = []
        for step in trace.steps:
            match = re.fullmatch(
                r"<< ([0-9 ]+) ([-+*/]) ([0-9 ]+) = ([0-9 ]+) >> ([0-9 ]+) ((?:more )?[a-z]+)", step.text
            )
            assert match
            one, other, value, again = (number(match[group]) for group in (1, 3, 4, 5))
            assert {one, other} <= {*known, *results}
            assert value == again == number(step.answer or "")
            assert (
                Fraction(value)
                == {"+": one + other, "-": one - other, "*": one * other, "/": Fraction(one, other)}[match[2]]
            )
            assert match[6] == re.split(" do(?:es)? ", step.question or "")[0].removeprefix("How many ")
            results.append(value)
        operands = [word for step in trace.steps for word in TASK.show_answer(step.text).split()[1:4:2]]
        assert {str(value) for value in results[:-1]} <= set(operands)  # no step is for nothing


@every_kind
def test_distractors_and_only_they_can_be_left_out(traces: list[Trace]) -> None:
    for trace in traces[:150]:
        sentences, _ = parts(trace)
        assert trace.source is not None
        idle = [one for one in sentences if answers(trace, [other for other in sentences if other != one])]
        assert len(idle) == trace.source["distractors"]
        assert answers(trace, [one for one in sentences if one not in idle])


def test_as_many_steps_and_distractors_as_asked_for() -> None:
    for options, steps, most in (({}, range(2, 6), 2), ({"steps": "6-8", "distractors": 0}, range(6, 9), 0)):
        traces = TASK.make(1500, 1, **options)
        counts = Counter(len(trace.steps) for trace in traces)
        assert sorted(counts) == list(steps)
        assert all(count == pytest.approx(1500 / len(steps), rel=0.2) for count in counts.values())
        sources = [trace.source or {} for trace in traces]
        assert [source["steps"] for source in sources] == [len(trace.steps) for trace in traces]
        assert {source["distractors"] for source in sources} == set(range(most + 1))


def test_they_are_varied() -> None:
    traces = TASK.make(20_000, 0)
    masks = dict.fromkeys(NAMES, "NAME") | dict.fromkeys(THINGS, "things")
    masks |= {thing.removesuffix("s"): "thing" for thing in THINGS}
    skeletons: set[str] = set()
    stories: set[tuple[str, ...]] = set()
    for trace in traces:
        skeleton = " ".join(masks.get(word, word) for word in re.sub(r"[0-9]( [0-9])*", "#", trace.question).split())
        skeletons.add(skeleton)
        stories.add(tuple(sorted(skeleton.split(" . "))))  # the order of the sentences set aside
    assert min(len(skeletons), len(stories)) > 15_000
    kinds = Counter(kind for trace in traces for kind in (trace.source or {})["kinds"])
    assert len(kinds) == 17
    assert min(kinds.values()) > 300
    scenes = Counter((trace.source or {})["scene"] for trace in traces)
    assert len(scenes) == 4
    assert min(scenes.values()) > 4000
    assert max(Counter(trace.answer for trace in traces).values()) < 1000  # no number is a good guess


def test_longer_problems_have_no_other_words() -> None:
    def vocabulary(traces: list[Trace]) -> set[str]:
        texts = (
            text for trace in traces for step in trace.steps for text in (trace.question, step.question, step.text)
        )
        return {word for text in texts for word in (text or "").split()}

    short, long = (vocabulary(TASK.make(3000, 2, steps=steps)) for steps in ("2-5", "6-8"))
    assert long == short
    assert len(short) < 200


def test_the_order_of_the_sentences() -> None:
    moved = 0
    for seed in range(30):
        (told,), (shuffled,) = (TASK.make(1, seed, steps=4, order=order) for order in ("told", "shuffled"))
        assert TASK.problem(told.question) == TASK.problem(shuffled.question)
        assert told.steps == shuffled.steps
        moved += told.question != shuffled.question
    assert moved > 25
    for trace in MADE["told"]:  # each sentence can be understood when it comes
        sentences, _ = parts(trace)
        for end in range(1, len(sentences) + 1):
            first, _, second, _ = equation(sentences[end - 1])
            known = solve(sentences[:end], [])
            assert plain(first) in known
            assert second is None or plain(second) in known


def test_the_same_seed_gives_the_same_problems() -> None:
    traces = MADE["default"]
    assert TASK.make(400, 5) == traces
    assert TASK.make(100, 5) == traces[:100]
    assert len({TASK.problem(trace.question) for trace in traces}) == 400
    assert not {trace.question for trace in TASK.make(400, 6)} & {trace.question for trace in traces}


@every_kind
def test_between_a_person_and_the_model(traces: list[Trace]) -> None:
    for trace in traces:
        typed = TASK.show_question(trace.question)
        assert not re.search(r" [.,?]|[0-9] [0-9]", typed)
        assert TASK.read_question(typed) == TASK.read_question(trace.question) == trace.question
        assert TASK.show_answer(trace.answer) == str(number(trace.answer))
    assert TASK.read_question("Ben has 12 pears.  How many?") == "Ben has 1 2 pears . How many ?"


@pytest.mark.parametrize(
    ("said", "gold", "right"),
    [
        ("1 4", "1 4", True),
        ("14", "1 4", True),
        ("1 4 pears", "1 4", True),
        ("<< 7 * 2 = 1 4 >> 1 4 pears", "1 4", True),
        ("1 4", "4", False),
        ("1", "1 4", False),
        ("", "1 4", False),
        ("pears", "1 4", False),
    ],
)
def test_spaced_digits_are_one_number(said: str, gold: str, right: bool) -> None:
    assert TASK.grade(said, gold) == right
    assert TASK.grade(f"4 or so , so the answer is {said}", gold, marked=False) == (right or gold == "4" == said)


@pytest.mark.parametrize(
    "steps", ["", "0", "0-3", "5-2", "2-13", "two", "2-", "-2", "2..5", 2.5, None, "٢", "9" * 5000]
)
def test_steps_that_are_none(steps: Any) -> None:
    with pytest.raises(TacitError, match="steps must look like 3 or 2-5, from 1 to 12"):
        TASK.make(1, 0, steps=steps)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"distractors": -1}, "distractors must be a whole number from 0 to 10"),
        ({"distractors": 11}, "distractors must be a whole number from 0 to 10"),
        ({"order": "random"}, "order must be shuffled or told, got 'random'"),
        ({"order": ["told"]}, "order must be shuffled or told"),
        ({"step": 3}, "did you mean 'steps'"),
    ],
)
def test_options_that_are_none(option: dict[str, Any], said: str) -> None:
    with pytest.raises(TacitError, match=said):
        TASK.make(1, 0, **option)


def test_the_longest_problems_come_to_an_end() -> None:
    traces = TASK.make(50, 0, steps=12, distractors=10)
    assert all(len(trace.steps) == 12 for trace in traces)
    longest = max(len(step.text) for trace in traces for step in trace.steps)
    assert longest < 60
