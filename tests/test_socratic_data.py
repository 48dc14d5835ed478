"""Sub-questions: read from the files of others, and out of what a teacher writes, however untidy."""

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import tacit.cli
from scripts.teacher_server import Ask, TeacherServer
from tacit import formats
from tacit.curation import Curation, curate
from tacit.errors import TacitError
from tacit.formats import format_socratic, parse_socratic, split_dialogue
from tacit.formats.socratic import NAMES
from tacit.prompts import get_prompt
from tacit.rendering import Template
from tacit.trace import Step, Trace, read_jsonl, write_jsonl


def tacit_(*words: str) -> Result:
    result = CliRunner().invoke(tacit.cli.app, list(words), prog_name="tacit")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# --- official files --------------------------------------------------------------------------------------------------

PAIRS = {"train": 26_724, "test": 4_821}
TRAIN_STEPS = {2: 1960, 3: 2149, 4: 1660, 5: 954, 6: 419, 7: 228, 8: 90, 9: 13}


@pytest.mark.shared
@pytest.mark.parametrize("part", PAIRS)
def test_gsm8k_socratic_counts_and_solutions(shared: Path, tmp_path: Path, part: str) -> None:
    """Every pair is there, and without its sub-questions each solution is the ordinary one, byte for byte."""
    traces = formats.read(shared / "data" / "gsm8k" / f"{part}_socratic.jsonl", "gsm8k-socratic")
    steps = Counter(len(trace.steps) for trace in traces)
    assert sum(count * size for size, count in steps.items()) == PAIRS[part]
    assert part == "test" or steps == TRAIN_STEPS
    formats.write(traces, tmp_path / "plain.jsonl", "gsm8k")
    lines = [
        path.read_text("utf-8").split("\n")
        for path in (tmp_path / "plain.jsonl", shared / "data" / "gsm8k" / f"{part}.jsonl")
    ]
    assert [json.loads(line) for line in lines[0][:-1]] == [json.loads(line) for line in lines[1][:-1]]
    write_jsonl(traces, tmp_path / "traces.jsonl")
    assert read_jsonl(tmp_path / "traces.jsonl") == traces
    assert all(parse_socratic(format_socratic(trace)).steps == strip(trace.steps) for trace in traces[::20])


def strip(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(Step(step.text.strip(), (step.question or "").strip(), step.answer) for step in steps)


def test_a_sub_question_that_nothing_answers_is_not_written_for_the_model() -> None:
    trace = Trace("q", (Step("a", "one?"), Step("", "two?"), Step("b", "three?")), "7")
    assert Trace.from_dict(trace.to_dict()) == trace
    assert Template().write(trace) == ("q -> a b #### 7", [4, 6, 8])


@pytest.mark.shared
def test_strategyqa_facts_are_steps_where_there_are_as_many(shared: Path) -> None:
    traces = [
        trace
        for part in ("train", "dev")
        for trace in formats.read(shared / "data" / "strategyqa" / f"{part}.json", "strategyqa")
    ]
    assert Counter(trace.source["steps"] for trace in traces) == {"facts": 841, "decomposition": 1449}
    for trace in traces:
        texts = [step.text for step in trace.steps]
        questions = [step.question for step in trace.steps]
        assert texts == (trace.source["facts"] if trace.source["steps"] == "facts" else questions)


@pytest.mark.shared
def test_strategyqa_with_the_answers_of_a_machine(shared: Path) -> None:
    path = shared / "data" / "strategyqa" / "generated" / "transformer_qa_ORA-P_dev_no_placeholders.json"
    traces = formats.read(path, "strategyqa")
    plain = formats.read(shared / "data" / "strategyqa" / "dev.json", "strategyqa")
    assert [(trace.id, trace.answer) for trace in traces] == [(trace.id, trace.answer) for trace in plain]
    assert Counter(trace.source["steps"] for trace in traces)["decomposition"] == 0
    for trace in traces:
        answers = [*(text.strip() for text in trace.source["step_answers"][:-1]), trace.answer]
        assert [step.answer or "" for step in trace.steps] == answers  # the machine found none in a few cases
        assert trace.source["steps"] == "facts" or [step.text for step in trace.steps] == answers


STRATEGY = {
    "qid": "a",
    "question": "Is it?",
    "answer": True,
    "facts": ["It is."],
    "decomposition": ["What?", "Is #1?"],
}


def test_strategyqa_step_by_step(tmp_path: Path) -> None:
    def read(**changed: Any) -> Trace:
        (tmp_path / "some.json").write_text(json.dumps([{**STRATEGY, **changed}]))
        return formats.read(tmp_path / "some.json", "strategyqa")[0]

    assert read().steps == (Step("What?", "What?"), Step("Is #1?", "Is #1?", "yes"))
    assert read(facts=["x", "y"]).steps == (Step("x", "What?"), Step("y", "Is #1?", "yes"))
    assert read(step_answers=["it", "no"]).steps == (Step("it", "What?", "it"), Step("yes", "Is #1?", "yes"))
    both = read(facts=["x", "y"], step_answers=["it", "no"])
    assert both.steps == (Step("x", "What?", "it"), Step("y", "Is #1?", "yes"))
    assert both.source == {
        "format": "strategyqa",
        "facts": ["x", "y"],
        "step_answers": ["it", "no"],
        "steps": "facts",
    }
    assert read(step_answers=[" ", "no"]).steps == (Step("", "What?"), Step("yes", "Is #1?", "yes"))
    for wrong, problem in ((["it"], ": not as many as sub-questions"), (["it", None], " is not a list of texts")):
        with pytest.raises(TacitError, match=f"record 1: field 'step_answers'{problem}"):
            read(step_answers=wrong)


@pytest.mark.shared
def test_svamp_asks_its_question(shared: Path) -> None:
    for trace in formats.read(shared / "data" / "svamp" / "SVAMP.json", "svamp"):
        (step,) = trace.steps
        assert step.question
        assert trace.question.strip().endswith(step.question)
        assert step.answer == trace.answer


# --- any JSON Lines with sub-questions -------------------------------------------------------------------------------

STEPS = (Step("3 + 4 = <<3+4=7>>7", "How many?", "7"), Step("#1 is odd.", "Is #1 odd?", "yes"))
RECORD = {
    "id": "a",
    "problem": "Ann has 3, and 4 more.",
    "steps": [
        {"question": "How many?", "solution": "3 + 4 = <<3+4=7>>7", "equation": "<<3+4=7>>", "answer": "7"},
        {"question": "Is #1 odd?", "solution": "#1 is odd.", "equation": None, "answer": "yes"},
    ],
    "final_answer": "yes",
}


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        {
            "question": RECORD["problem"],
            "sub_questions": [
                {"sub_question": "How many?", "text": "3 + 4 = <<3+4=7>>7", "sub_answer": 7},
                {"q": "Is #1 odd?", "rationale": "#1 is odd.", "a": True},
            ],
            "answer": True,
        },
        {
            "question": RECORD["problem"],
            "decomposition": ["How many?", "Is #1 odd?"],
            "solutions": ["3 + 4 = <<3+4=7>>7", "#1 is odd."],
            "answers": [7.0, True],
            "answer": "So it is odd.\n#### yes",
        },
        {
            "question": RECORD["problem"],
            "subquestions": ["How many?", "Is #1 odd?"],
            "steps": ["3 + 4 = <<3+4=7>>7", "#1 is odd."],
            "step_answers": ["7", "yes"],
            "gold": "yes",
        },
    ],
)
def test_the_usual_names_of_fields(record: dict) -> None:
    trace = parse_socratic(json.dumps(record))
    assert (trace.question, trace.steps, trace.answer, trace.gold) == (RECORD["problem"], STEPS, "yes", None)
    assert parse_socratic(format_socratic(trace)).steps == STEPS
    assert json.loads(format_socratic(parse_socratic(json.dumps(RECORD)))) == RECORD


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        ({"question": "q?", "answer": "7"}, Step("7", "q?", "7")),
        ({"question": "q?", "answer": "Ada has 7."}, Step("Ada has 7.", "q?")),
        ({"question": "q?", "answer": "3+4=7"}, Step("3+4=7", "q?")),
        ({"question": "q?", "equation": "3 + 4", "answer": 7}, Step("3 + 4", "q?", "7")),
        ({"question": "q?"}, Step("", "q?")),
    ],
)
def test_the_text_of_a_step(step: dict, wanted: Step) -> None:
    assert parse_socratic(json.dumps({**RECORD, "steps": [step]})).steps == (wanted,)


def test_other_fields_are_carried_along_and_gold_stands_beside_an_answer() -> None:
    trace = parse_socratic(json.dumps({**RECORD, "gold": "no", "source": "model", "score": 0.5}))
    assert (trace.answer, trace.gold, trace.id) == ("yes", "no", "a")
    assert trace.source == {"score": 0.5, "source": "model", "format": "socratic", "steps": "sub-questions"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (None, "not a JSON object"),
        ({"problem": None}, "field 'problem' is missing or empty (it may also be called question)"),
        ({"problem": " "}, "field 'problem' is missing or empty"),
        ({"final_answer": None}, "field 'final_answer' is missing or empty (it may also be called answer, gold)"),
        ({"final_answer": ["7"]}, "field 'final_answer' is not text or a number"),
        ({"steps": None}, "field 'sub_questions' is missing or empty (it may also be called subquestions, decomp"),
        ({"steps": "How many?"}, "field 'steps' is not a list"),
        ({"steps": ["How many?", {}]}, "field 'steps[0]' is not an object with a sub-question"),
        ({"steps": [{"question": "q?"}, {"solution": "7"}]}, "field 'steps[1].question' is missing or empty"),
        ({"steps": [{"question": "q?", "solution": []}]}, "field 'steps[0].solution' is not text or a number"),
        ({"steps": ["q?"], "answers": "7"}, "field 'answers' is not a list with an entry for each of 'steps'"),
        ({"steps": ["q?"], "answers": ["7", "8"]}, "field 'answers' is not a list with an entry for each of 'steps'"),
    ],
)
def test_bad_socratic_lines(tmp_path: Path, change: dict | None, expected: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{json.dumps(RECORD)}\n{json.dumps(None if change is None else {**RECORD, **change})}\n")
    with pytest.raises(TacitError) as caught:
        formats.read(path, "socratic")
    assert str(caught.value).startswith(f"{path}:2: {expected}")


def test_every_name_of_a_field_is_in_the_docs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    missing = [name for names in NAMES.values() for name in names if f"`{name}`" not in page]
    assert not missing


def test_a_step_without_a_sub_question_cannot_be_written_as_socratic() -> None:
    with pytest.raises(TacitError, match=r"field 'steps\[0\].question' is missing: socratic needs it"):
        format_socratic(Trace("q", (Step("s"),), "7"))


# --- what a teacher writes -------------------------------------------------------------------------------------------


class Style(NamedTuple):
    """A way to write a dialogue: what stands around it, around each sub-question, and around what answers it."""

    before: str
    after: str
    ask: Callable[[int, str], str]
    tell: Callable[[int], str]
    conclude: Callable[[str], str]
    end: Callable[[str], str]
    gap: str


ASKS: dict[str, Callable[[int, str], str]] = {
    "Q1:": lambda k, q: f"Q{k}: {q}",
    "Q1.": lambda k, q: f"q{k}. {q}",
    "bold label": lambda k, q: f"**Q{k}:** {q}",
    "all bold": lambda k, q: f"**Sub-question {k}: {q}**",
    "dash": lambda k, q: f"Sub-question {k} - {q}",
    "heading": lambda k, q: f"### Subquestion {k}\n{q}",
    "heading with aim": lambda k, q: f"## Question {k} (part of it): {q}",
    "step": lambda k, q: f"Step {k}: {q}",
    "no number": lambda k, q: f"Question: {q}",
    "numbered label": lambda k, q: f"{k}. Sub-question: {q}",
    "numbered": lambda k, q: f"{k}. {q}",
    "bracket": lambda k, q: f"{k}) **{q}**",
    "bullet": lambda k, q: f"- {q}",
    "bare": lambda k, q: q,
}
TELLS: dict[str, Callable[[int], str]] = {
    "A1:": lambda k: f"\nA{k}: ",
    "A:": lambda k: "\n**A:** ",
    "Answer:": lambda k: "\nAnswer: ",
    "indented": lambda k: "\n   - Answer: ",
    "answer, then a line": lambda k: f"\n**Answer {k}**\n\n",
    "next line": lambda k: "\n",
    "next paragraph": lambda k: "\n\n",
    "bullet below": lambda k: "\n  * ",
}
BESIDE: dict[str, Callable[[int], str]] = {
    "same line": lambda k: " ",
    "arrow": lambda k: " -> ",
    "label beside": lambda k: f" A{k}: ",
}
nouns = st.sampled_from(["pears", "#1", "buses left", "of them", "hours", "dollars in 2 weeks", "pages (each)"])
questions = st.builds("{} {} {}?".format, st.sampled_from(["How many", "What are the", "Is it", "Why"]), nouns, nouns)
numbers = st.integers(0, 999)
texts = st.one_of(
    st.builds("There are {0} + {1} = <<{0}+{1}=7>>7 pears.".format, numbers, numbers),
    st.builds("{0} * {1} = 12".format, numbers, numbers),
    st.builds("A camel drinks about {0} litres; that is much.".format, numbers),
    st.builds("{0}".format, numbers),
)
results = st.one_of(numbers.map(str), st.sampled_from(["yes", "no", "3.5", "100 litres"]))
turns = st.lists(
    st.tuples(questions, texts, results, st.sampled_from([False, False, False, True])),  # is the answer left out?
    min_size=2,
    max_size=5,
    unique_by=lambda turn: turn[0],
)
styles = st.builds(
    Style,
    before=st.sampled_from(["", "Sure! Here is how I would do it:\n\n", "```\n", "Sub-questions and answers:\n"]),
    after=st.sampled_from(["", "\n", "\n\nI hope this helps!", "\n```\n"]),
    ask=st.sampled_from(list(ASKS.values())),
    tell=st.sampled_from([*TELLS.values(), *BESIDE.values()]),
    conclude=st.sampled_from([lambda r: "", " #### {}".format, " The answer is {}.".format, "\n#### {}".format]),
    end=st.sampled_from(
        [
            "The answer is {}.".format,
            "#### {}".format,
            "**Final answer:** {}".format,
            "So, the final answer is: **{}**.".format,
            "\nTherefore, the answer is {}".format,
        ]
    ),
    gap=st.sampled_from(["\n", "\n\n"]),
)


@settings(max_examples=300, deadline=None)
@given(turns, styles, results)
def test_a_dialogue_in_any_style_is_read(turns: list[tuple[str, str, str, bool]], style: Style, answer: str) -> None:
    told = [
        (asked, "" if left_out and k < len(turns) else text, result)
        for k, (asked, text, result, left_out) in enumerate(turns, 1)
    ]
    beside = style.ask is not ASKS["bare"] or style.tell not in BESIDE.values()
    tell = style.tell if beside else TELLS["next line"]
    pairs = [
        f"{style.ask(k, asked)}{tell(k)}{text}{style.conclude(result)}" if text else style.ask(k, asked)
        for k, (asked, text, result) in enumerate(told, 1)
    ]
    reply = f"{style.before}{style.gap.join(pairs)}{style.gap}{style.end(answer)}{style.after}"
    steps, conclusion = split_dialogue(reply)
    assert [(step.question, step.text) for step in steps] == [(asked, text) for asked, text, _ in told], reply
    concluded = bool(style.conclude("x"))
    wanted = [result if concluded and text else None for _, text, result in told[:-1]]
    assert [step.answer for step in steps[:-1]] == wanted
    assert (steps[-1].answer, conclusion) == (told[-1][2] if concluded else answer, answer)


@pytest.mark.parametrize(
    "reply",
    [
        "How many has Ann? ** Ann has 3.\nHow many has Ben? ** 3 + 4 = 7.",
        "How many has Ann? -> Ann has 3.\nHow many has Ben? -> 3 + 4 = 7.",
        "Q1\uff1aHow many has Ann?\nA1\uff1aAnn has 3.\nQ2\uff1aHow many has Ben?\nA2\uff1a3 + 4 = 7.",
        "Q1: How many has Ann?\nA1: Ann has 3.\nQ2: How many has Ben?\nA2: 3 + 4 = 7.\n"
        "Problem: Cleo has 8.\nQ1: How many has Cleo?\nA1: 8",
    ],
    ids=["stars", "arrows", "wide colons", "another problem"],
)
def test_replies_that_teachers_gave(reply: str) -> None:
    steps, _ = split_dialogue(reply)
    assert [(step.question, step.text) for step in steps] == [
        ("How many has Ann?", "Ann has 3."),
        ("How many has Ben?", "3 + 4 = 7."),
    ]


@settings(max_examples=50, deadline=None)
@given(turns, results, st.sampled_from(["", "Here you are:\n```json\n", "[As JSON] "]), st.booleans())
def test_json_is_read(turns: list[tuple[str, str, str, bool]], answer: str, before: str, whole: bool) -> None:
    found = [{"question": asked, "solution": text, "answer": result} for asked, text, result, _ in turns]
    value = {"sub_questions": found, "final_answer": answer} if whole else found
    reply = before + json.dumps(value, indent=1) + ("\n```" if before.endswith("json\n") else "")
    reply += "" if whole else f"\nThe answer is {answer}."
    steps, conclusion = split_dialogue(reply)
    assert [(step.question, step.text, step.answer) for step in steps] == [turn[:3] for turn in turns]
    assert conclusion == answer


@given(st.text())
def test_no_text_is_too_untidy(reply: str) -> None:
    steps, conclusion = split_dialogue(reply)
    assert all(step.question for step in steps)
    assert steps or conclusion is None
    assert get_prompt("socratic").read(reply)


@pytest.mark.parametrize(
    "text", ["[", '{"a":', "Q1: a?\n", "? ", "1. ", "**a ", "__a", "A1: ", "so the answer is ", "\n"]
)
def test_long_nonsense_takes_no_time(text: str) -> None:
    begun = time.monotonic()
    split_dialogue(f"Q1: How many?\n{text * 4000}x")
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("reply", "steps", "conclusion"),
    [
        ("Ada has 3 + 4 = 7. The answer is 7.", [], None),
        ("Q1: One?\nQ2: Two?\nA2: 2", [Step("", "One?"), Step("2", "Two?")], None),  # one has no answer
        ("Q1: One?\nQ2: Two?\nA1: 1\nA2: 2", [Step("1", "One?"), Step("2", "Two?")], None),
        ("Questions:\n1. One?\n2. Two?\n\nAnswers:\n1. 1\n2. 2", [Step("1", "One?"), Step("2", "Two?")], None),
        ("1. One?\n2. Two?", [Step("", "One?"), Step("", "Two?")], None),
        ("Q1: One?\n#### 1", [Step("1", "One?", "1")], "1"),
        ("Question: Ben has 3. How many?\n\nQ1: One?\nA1: 1", [Step("1", "One?")], None),  # the problem once more
        ("Shall I?\n1. One? 1\n2. Two? 2", [Step("1", "One?"), Step("2", "Two?")], None),
        ("Q1: Count the pears. Are there any? Say how many.\nA1: 1", None, None),
        ("Q1: Find the sum\nA1: 3 - 1 = 2\n3 - 2 = 1", [Step("3 - 1 = 2 3 - 2 = 1", "Find the sum")], None),
        ("Q1: One?\nA1: 1\nAnswer: 1", [Step("1", "One?", "1")], "1"),
        ("Q1: One?\nA1: The answer is not easy. It is 1.\nQ2: Two?\nA2: 2 ** 2", None, None),
        ('[{"question": "One?", "answer": "3 + 4 = 7 #### 7"}]', [Step("3 + 4 = 7", "One?", "7")], None),
        ('[{"question": "One?", "answ', [], None),  # cut
        ("Q1: One?\nA1: 1\nSo the answer is **1**. Anything else?", [Step("1", "One?", "1")], "1"),
        ("Q1: One? (1)", [Step("1", "One?")], None),
        ("Q1: One?\nA1: 1\n\nLet me know if you want more!", [Step("1", "One?")], None),
    ],
)
def test_replies(reply: str, steps: list[Step] | None, conclusion: str | None) -> None:
    found = split_dialogue(reply)
    if steps is None:  # where only the sub-questions are clear
        assert all(step.question and reply.startswith("Q1: " + found[0][0].question) for step in found[0])
    else:
        assert found == (steps, conclusion)


# --- the prompt ------------------------------------------------------------------------------------------------------

QUESTION = Trace(
    "Ann has 3 apples and buys 4. How many?",
    (Step("She buys 4."), Step("3 + 4 = <<3+4=7>>7.")),
    "7",
    id="q",
    source={"facts": ["4 is even.", "3 is odd."]},
)


def test_what_the_teacher_reads() -> None:
    bare, solution, facts = (get_prompt("socratic", given=given) for given in ("", "solution", "facts"))
    assert bare.pose(QUESTION) == QUESTION.question
    assert solution.pose(QUESTION) == f"{QUESTION.question}\nSolution:\nShe buys 4.\n3 + 4 = <<3+4=7>>7."
    assert facts.pose(QUESTION) == f"{QUESTION.question}\nFacts:\n4 is even.\n3 is odd."
    for prompt in (bare, solution, facts):
        text = prompt.text(prompt.pose(QUESTION))
        assert text.endswith(f"\n\nProblem: {prompt.pose(QUESTION)}\nSub-questions and answers:")
        assert text.count("\nSolution:\n") == (0 if prompt is not solution else 4)
        assert text.count("\nFacts:\n") == (0 if prompt is not facts else 2)
        assert prompt.messages(prompt.pose(QUESTION)) == [{"role": "user", "content": text}]
    own = get_prompt("socratic", examples="Problem: mine\n\n")
    assert own.text("Why?").endswith("answer.\n\nProblem: mine\n\nProblem: Why?\nSub-questions and answers:")
    with pytest.raises(TacitError, match="unknown given 'fact'; did you mean 'facts'"):
        get_prompt("socratic", given="fact")


def test_our_own_examples_are_read_as_they_are_meant() -> None:
    shown = get_prompt("socratic", given="solution").text("Why?").split("\n\nProblem: ")[1:-1]
    assert len(shown) == 3
    for example, answer in zip(shown, ("156", "33", "no"), strict=True):
        prompt = get_prompt("socratic")
        rationale, completion, marked = prompt.read(example.split("answers:\n")[1])
        steps, rule = prompt.steps(rationale)
        assert (completion, marked, rule, len(steps)) == (answer, True, "sub-questions", 3)
        known = [step.text for step in steps if step.text in example.split("\nSub-questions")[0]]
        assert len(known) == (3 if answer != "no" else 2)
        assert all(step.answer and step.question for step in steps)
        assert steps[-1].answer == answer


def test_the_end_of_a_completion_models_reply() -> None:
    prompt = get_prompt("socratic")
    reply = "\nQ1: One?\nA1: 1 #### 1\nThe answer is 1.\n\nProblem: Next\nQ1: Two?"
    assert prompt.read(reply) == ("\nQ1: One?\nA1: 1 #### 1\nThe answer is 1.", "1", True)
    assert prompt.read("Problem: Ann has\n\nQ1: One?\nA1: It is 1.").completion == "It is 1."
    assert prompt.read("Q1: One?\nA1: 1", thinking="hm") == ("Q1: One?\nA1: 1", "1", False)


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


REPLIES = {
    "a": "**Q1:** How many in all?\n**A1:** 3 + 4 = 7 apples #### 7\n\n**Q2:** And without one?\n"
    "**A2:** #1 less 1 is 7 - 1 = 6.\n\nSo the answer is 6.\n\nAnything else?",
    "b": "1. How many in all?\n   It is 5.\n\nFinal answer: 5",
    "c": "It is 3 + 4 = 7, less 1 is 6. The answer is 6.",
    "d": "Q1: How many in all?\nQ2: How many are left?\nA2: 6 are left.",
}


def says(ask: Ask) -> dict[str, Any]:
    problem = ask.text.rsplit("Problem: ", 1)[1]
    return {"content": REPLIES[problem[0]]}


def generate(server: TeacherServer, *more: str) -> Result:
    url = ("--model", "teacher", "--base-url", server.url, "--prompt", "socratic")
    return tacit_("generate", "questions.jsonl", "-o", "raw.jsonl", *url, *more)


def test_a_teacher_is_asked_for_sub_questions_and_what_is_right_is_kept(folder: Path) -> None:
    made = [
        Trace(f"{name} question?", (Step("3 + 4 = 7"),), "6", id=name, source={"task": "gsm8k"}) for name in REPLIES
    ]
    write_jsonl(made, "questions.jsonl")
    with TeacherServer(says=says) as server:
        result = generate(server)
        assert "4 of 4 rows; 3 right" in result.stdout
        again = Path("raw.jsonl").read_bytes()
        assert generate(server).exit_code == 0
        assert (server.requests, Path("raw.jsonl").read_bytes()) == (4, again)
        assert {ask.body["max_tokens"] for ask in server.asked} == {512}
        assert all(ask.body["stop"] == ["\n\nProblem:"] for ask in server.asked)
        told = generate(server, "--solution", "--overwrite")
        assert (told.exit_code, server.requests) == (0, 8)
        assert all(ask.text.endswith("\nSolution:\n3 + 4 = 7\nSub-questions and answers:") for ask in server.asked[4:])
        shown = read_jsonl("raw.jsonl")
        assert {row.source["given"] for row in shown} == {"solution"}
        assert generate(server, "--overwrite").exit_code == 0
        assert (server.requests, Path("raw.jsonl").read_bytes()) == (8, again)
    a, b, c, d = read_jsonl("raw.jsonl")
    assert a.steps == (
        Step("3 + 4 = 7 apples", "How many in all?", "7"),
        Step("#1 less 1 is 7 - 1 = 6.", "And without one?", "6"),
    )
    assert (a.answer, a.gold, a.source["steps"], a.source["rationale"]) == ("6", "6", "sub-questions", REPLIES["a"])
    assert (b.steps, b.answer) == ((Step("It is 5.", "How many in all?", "5"),), "5")
    assert ([step.question for step in c.steps], c.answer, c.source["steps"]) == ([None], "6", "sentences")
    assert (d.steps, d.answer) == ((Step("", "How many in all?"), Step("6 are left.", "How many are left?")), "6")

    kept = tacit_("curate", "raw.jsonl", "-o", "kept.jsonl")
    assert "sub-questions in all that was read: on all steps of 3 traces, on some of 0, on none of 1" in kept.stdout
    assert read_jsonl("kept.jsonl") == [a, c, d]
    strict = tacit_("curate", "raw.jsonl", "-o", "kept.jsonl", "--sub-questions", "--json", "--overwrite")
    summary = json.loads(strict.stdout)
    assert (summary["kept"], summary["dropped"]["no_sub_question"], read_jsonl("kept.jsonl")) == (1, 2, [a])
    assert summary["sub_questions"] == {"all": 3, "some": 0, "none": 1}


def test_what_is_given_must_be_there(folder: Path) -> None:
    bare = Trace("b question?", (), "6", id="b")
    write_jsonl([QUESTION, bare], "questions.jsonl")
    with TeacherServer(says=says) as server:
        for option, problem in (("--solution", "has no steps"), ("--facts", "has no facts in 'source'")):
            result = generate(server, option)
            assert (result.exit_code, result.stdout) == (1, "")
            assert f"question b ('b question?') {problem}: no {option[2:]} can be given" in result.stderr
        for more in (["--solution", "--facts"], ["--facts", "--prompt", "zero-shot"]):
            result = generate(server, *more)
            assert result.exit_code == 2
            assert "--solution or --facts, one of them, is for --prompt socratic" in result.stderr
        assert server.requests == 0


def test_samples_that_ask_differently_are_no_duplicates() -> None:
    def sample(number: int, asked: str) -> Trace:
        return Trace("q", (Step("3 + 4 = 7", asked),), "7", "7", f"q/{number}", {"sample": number})

    kept, _ = curate(
        [sample(0, "How many?"), sample(1, "And how many?"), sample(2, "how  many?")], Curation(dedupe="exact")
    )
    assert [trace.id for trace in kept] == ["q/0", "q/1"]


def test_check_tells_where_the_sub_questions_are(folder: Path) -> None:
    some = Trace("one", (Step("a", "w?"), Step("b")), "1")
    lost = Trace("two", (Step("a", "w?"), Step("", "v?"), Step("c", "is #3 more than #1?")), "2")
    write_jsonl([some, lost, Trace("three", (Step("a"),), "3")], "traces.jsonl")
    shown = tacit_("data", "check", "traces.jsonl").stdout
    assert "Sub-questions: on all steps of 1 traces, on some of 1, on none of 1" in shown
    assert "note: a sub-question that nothing answers, which is left out: 1 of 3 (trace 2)" in shown
    assert "note: a sub-question with a #k that is no earlier step, and is read as text: 1 of 3 (trace 2)" in shown
    facts = json.loads(tacit_("data", "check", "traces.jsonl", "--json").stdout)
    assert (facts["sub_questions"], facts["ok"]) == ({"all": 1, "some": 1, "none": 1}, True)
    write_jsonl([Trace("three", (Step("a"),), "3")], "plain.jsonl")
    assert "Sub-questions" not in tacit_("data", "check", "plain.jsonl").stdout
