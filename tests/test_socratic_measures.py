"""The measures of dialogues: beside plain loops, and of a pipeline whose students look up what they say."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import tiny
from tacit import models
from tacit.errors import TacitError
from tacit.evaluation.socratic import evaluate_dialogues, first_wrong, step_accuracy, summarise_dialogues
from tacit.evaluation.statistics import wilson
from tacit.rendering import Template
from tacit.socratic.pipeline import NO_ANSWER, OPEN_REFERENCE, REPEATED, Dialogue, SocraticPipeline
from tacit.socratic.rows import Turn, Wording
from tacit.student import Student
from tacit.tasks import CUSTOM, get_task
from tacit.trace import Step, Trace, iter_text

GSM8K = get_task("gsm8k")


def trace_of(answers: Sequence[str], questions: Sequence[str] = (), problem: str = "p") -> Trace:
    """A trace with these answers of its steps, the last of them its own."""
    asked = questions or [f"q{j}?" for j in range(len(answers))]
    steps = tuple(Step(f"it is {answer}", question, answer) for question, answer in zip(asked, answers, strict=True))
    return Trace(problem, steps, answers[-1])


def dialogue_of(answers: Sequence[str], questions: Sequence[str] = (), notes: Sequence[str] = ()) -> Dialogue:
    asked = list(questions or [f"q{j}?" for j in range(len(answers))])
    turns = [Turn(question, "", answer) for question, answer in zip(asked, answers, strict=True)]
    return Dialogue("p", asked=asked, turns=turns, marked=True, notes=list(notes))


# --- which step went wrong first -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "gold", "place"),
    [
        ("1 2 3", "1 2 3", "nowhere"),
        ("9 9 3", "1 2 3", "nowhere"),  # a conclusion that is right
        ("3", "1 2 3", "nowhere"),
        ("1 2.0 3.00", "1 2 4", "last step"),
        ("1,000 2 3", "1000 $2 4", "last step"),
        ("9 2 4", "1 2 3", "step 1"),
        ("9 9 9", "1 2 3", "step 1"),
        ("1 9 4", "1 2 3", "step 2"),
        ("Paris yes 4", "paris no 3", "step 1"),
        ("Paris yes 4", "Paris no 3", "step 2"),
        ("1 4", "1 2 3", "too few questions"),
        ("4", "1 2 3", "too few questions"),
        ("", "3", "too few questions"),
        ("9 4", "1 2 3", "step 1"),
        ("1 2 9 4", "1 2 3", "too many questions"),
        ("1 2", "3", "too many questions"),
        ("1 9 9 4", "1 2 3", "step 2"),
    ],
)
def test_where_a_dialogue_went_wrong_first(answers: str, gold: str, place: str) -> None:
    assert first_wrong(dialogue_of(answers.split()), trace_of(gold.split()), GSM8K) == place


def test_the_conclusion_is_graded_by_the_task() -> None:
    dialogue, trace = dialogue_of(["1", "3.0"]), trace_of(["1", "3"])
    assert first_wrong(dialogue, trace, GSM8K) == "nowhere"
    assert first_wrong(dialogue, trace, CUSTOM) == "last step"
    told = Turn("q1?", "it may be 2 or 3", "3")
    unmarked = replace(dialogue_of(["1", "3"]), turns=[Turn("q0?", "", "1"), told], marked=False)
    assert first_wrong(unmarked, trace, GSM8K) == "nowhere"
    silent = replace(unmarked, turns=[Turn("q0?", "", "1"), Turn("is it 3?", "", "")])  # what was asked is no answer
    assert first_wrong(silent, trace, GSM8K) == "last step"
    assert step_accuracy([["1.0", "3.0"]], [trace], CUSTOM)["by_step"][1]["share"] == 0
    assert step_accuracy([["1.0", "3.0"]], [trace], GSM8K)["share"] == 1


def test_sub_questions_that_nothing_answers_are_compared_as_questions_alone() -> None:
    bare = Trace("p", (Step("Who ?", "Who ?"), Step("Is #1 ?", "Is #1 ?", "yes")), "yes")  # as most of StrategyQA
    assert [len(Wording().rows(role, bare)) for role in ("decomposer", "solver", "unified", "cumulative")] == [
        1,
        0,
        0,
        0,
    ]
    found = summarise_dialogues([dialogue_of(["x", "no"], ["Who ?", "Is #1 ?"])], [bare], CUSTOM)
    assert found["same_questions"]["share"] == 1
    assert (found["first_wrong"], found["steps"]) == ({}, None)


def test_a_text_with_a_number_is_no_number() -> None:
    assert first_wrong(dialogue_of(["3 dogs", "9"]), trace_of(["3 cats", "4"]), GSM8K) == "step 1"


# --- questions -------------------------------------------------------------------------------------------------------


def plain_bleu(written: Sequence[list[str]], gold: Sequence[list[str]]) -> float:
    """Of words that no tokenizer cuts; where no run of n words is right, half a run counts, then a quarter."""
    logs, halvings = 0.0, 0
    for n in range(1, 5):
        right = total = 0
        for one, other in zip(written, gold, strict=True):
            runs, wanted = (
                Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for words in (one, other)
            )
            right += sum((runs & wanted).values())
            total += sum(runs.values())
        if total == 0 or (n == 1 and right == 0):
            return 0.0
        halvings += right == 0
        logs += math.log((right or 0.5**halvings) / total) / 4
    lengths = [sum(map(len, words)) for words in (written, gold)]
    return 100 * min(1.0, math.exp(1 - lengths[1] / lengths[0])) * math.exp(logs)


words = st.lists(st.sampled_from("how many apples are left".split()), min_size=4, max_size=9)
lists = st.lists(words, min_size=1, max_size=4)


@given(st.lists(st.tuples(lists, lists), min_size=1, max_size=4))
def test_the_measures_of_questions(pairs: list[tuple[list[list[str]], list[list[str]]]]) -> None:
    dialogues, traces = [], []
    for asked, gold in pairs:
        dialogues.append(dialogue_of(["1"] * len(asked), ["  ".join(question) for question in asked]))
        traces.append(trace_of(["1"] * len(gold), [" ".join(question) for question in gold]))
    measures = summarise_dialogues(dialogues, traces, GSM8K)
    joined = [[[*chain(*questions)] for questions in side] for side in zip(*pairs, strict=True)]
    assert measures["bleu"] == pytest.approx(plain_bleu(*joined))
    alike = [len(asked) == len(gold) for asked, gold in pairs]
    assert measures["same_count"] == {
        "share": fmean(alike),
        "ci95": list(wilson(sum(alike), len(pairs))),
        "n": len(pairs),
    }
    assert measures["same_questions"]["share"] == fmean(asked == gold for asked, gold in pairs)
    assert measures["questions"] == fmean(len(asked) for asked, _ in pairs)
    assert measures["gold_questions"] == fmean(len(gold) for _, gold in pairs)
    assert measures["count_difference"] == fmean(len(asked) - len(gold) for asked, gold in pairs)


def test_bleu_by_hand() -> None:
    """Precisions 4/5, 3/4, 2/3 and 1/2: the fourth root of 1/5. Punctuation is a word of its own."""
    traces = [trace_of(["1"], ["how many apples are left"])]
    measures = summarise_dialogues([dialogue_of(["1"], ["how many apples are there"])], traces, GSM8K)
    assert measures["bleu"] == pytest.approx(100 * 0.2**0.25)
    short = summarise_dialogues([dialogue_of(["1"], ["how many apples are"])], traces, GSM8K)
    assert short["bleu"] == pytest.approx(100 * math.exp(1 - 5 / 4))
    traces = [trace_of(["1", "2"], ["How many are left, and why?", "Is it so?"])]
    apart = summarise_dialogues(
        [dialogue_of(["1", "2"], ["How many are left , and why ?", "Is it so ?"])], traces, GSM8K
    )
    assert (apart["bleu"], apart["same_questions"]["share"]) == (pytest.approx(100), 0)
    assert apart["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


# --- steps -----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.sampled_from(["right", "wrong", "missing"]), min_size=1, max_size=5), min_size=1, max_size=8)
)
def test_the_accuracy_of_steps(verdicts: list[list[str]]) -> None:
    answers, traces = [], []
    for told in verdicts:
        said = [str(10 * j + (verdict == "wrong")) for j, verdict in enumerate(told)]
        while said and told[len(said) - 1] == "missing":
            said.pop()
        answers.append([answer if verdict != "missing" else "" for answer, verdict in zip(said, told, strict=False)])
        traces.append(trace_of([str(10 * j) for j in range(len(told))]))
    measured = step_accuracy(answers, traces, GSM8K)
    for j, step in enumerate(measured["by_step"]):
        of = [told[j] == "right" for told in verdicts if len(told) > j]
        assert step == {"share": fmean(of), "ci95": list(wilson(sum(of), len(of))), "n": len(of)}
    assert len(measured["by_step"]) == max(map(len, verdicts))
    assert measured["share"] == fmean(verdict == "right" for told in verdicts for verdict in told)


# --- a pipeline ------------------------------------------------------------------------------------------------------


class Knowing(Student):
    """Looks up what it writes; what it does not know, it answers with 0."""

    def know(self, rows: Sequence[Trace]) -> None:
        self.known = {
            tuple(self.prompt(row.question)): " ".join([*(step.text for step in row.steps), "####", row.label])
            for row in rows
        }

    def generate(self, prompts: Sequence[np.ndarray], batch_size: int) -> list[np.ndarray]:
        said = [self.known.get(tuple(prompt), "#### 0") for prompt in prompts]
        return [np.array([*self.tokenizer(text).input_ids, self.tokenizer.eos_token_id]) for text in said]


def sums(size: int) -> list[Trace]:
    """`a b c`, with a + b asked for first, then times c. Of three traces one stops at the sum, and one has c = 1."""
    traces = []
    for n in range(size):
        a, b, c = n % 7 + 1, n % 5 + 2, n % 3 + 1
        steps = [Step(f"{a} + {b} = {a + b}", "the sum ?", str(a + b))]
        if n % 3 != 1:
            steps.append(Step(f"{a + b} * {c} = {(a + b) * c}", "#1 times the third ?", str((a + b) * c)))
        traces.append(Trace(f"{n} : {a} {b} {c}", tuple(steps), steps[-1].answer or ""))
    return traces


def pipeline_of(traces: Sequence[Trace], positions: int = 64) -> SocraticPipeline:
    wording = Wording()
    rows = {role: [row for trace in traces for row in wording.rows(role, trace)] for role in ("decomposer", "solver")}
    extra = [f"{n}" for n in range(100)]
    tokenizer = models.word_tokenizer([*iter_text([*rows["decomposer"], *rows["solver"]]), *extra, Template().words])
    made = [Knowing(tiny.family("gpt2", tokenizer, positions), tokenizer, task=GSM8K) for _ in rows]
    for student, role in zip(made, rows, strict=True):
        student.know(rows[role])
    return SocraticPipeline(*made, wording=wording)


def test_no_problems() -> None:
    with pytest.raises(TacitError, match="no problems"):
        evaluate_dialogues(pipeline_of(sums(1)), [])


def test_a_pipeline_that_knows_everything() -> None:
    traces = sums(30)
    predictions, measures = evaluate_dialogues(pipeline_of(traces), traces, 7)
    assert all(prediction.correct for prediction in predictions)
    assert json.loads(json.dumps(measures, allow_nan=False)) == measures
    assert measures["first_wrong"] == {"nowhere": 30}
    assert measures["bleu"] == pytest.approx(100)
    assert measures["same_questions"]["share"] == measures["same_count"]["share"] == 1
    assert measures["steps"] == measures["gold_history"]
    assert (measures["steps"]["share"], measures["steps"]["n"]) == (1, 50)
    assert [step["n"] for step in measures["steps"]["by_step"]] == [30, 20]
    assert (measures["n"], measures["gold"], measures["notes"]) == (30, 30, {})
    assert (
        list(measures)
        == (
            "n questions notes gold gold_questions same_count count_difference same_questions bleu bleu_signature "
            "first_wrong steps gold_history"
        ).split()
    )


def test_a_first_step_that_goes_wrong_misleads_the_dialogue_but_not_with_gold_history() -> None:
    traces = sums(30)
    pipeline = pipeline_of(traces)
    wrong = [trace for trace in traces if len(trace.steps) == 2][:8]
    solver: Any = pipeline.solver
    for trace in wrong:
        first = pipeline.wording.rows("solver", trace)[0]
        solver.known[tuple(solver.prompt(first.question))] = "1 + 1 = 2 #### 97"
    _, measures = evaluate_dialogues(pipeline, traces, 7)
    assert measures["first_wrong"] == {"nowhere": 22, "step 1": 8}
    assert [step["share"] for step in measures["gold_history"]["by_step"]] == [22 / 30, 1]
    assert [step["share"] for step in measures["steps"]["by_step"]] == [22 / 30, 12 / 20]


def test_a_decomposer_that_leaves_out_the_last_question() -> None:
    traces = sums(30)
    pipeline = pipeline_of(traces)
    decomposer: Any = pipeline.decomposer
    decomposer.known = dict.fromkeys(decomposer.known, "Q: the sum ? #### 1")
    predictions, measures = evaluate_dialogues(pipeline, traces, 7)
    assert sum(prediction.correct for prediction in predictions) == 20  # the sum is the answer
    assert measures["first_wrong"] == {"nowhere": 20, "too few questions": 10}
    assert measures["count_difference"] == -20 / 30
    assert measures["steps"]["n"] == 10
    oracle = [[step.question or "" for step in trace.steps] for trace in traces]
    predictions, measures = evaluate_dialogues(pipeline, traces, 7, asked=oracle)
    assert all(prediction.correct for prediction in predictions)
    assert measures["steps"]["n"] == 50
    assert "gold_history" not in measures


def test_a_solver_that_cannot_read_so_much() -> None:
    traces = sums(30)
    _, measures = evaluate_dialogues(pipeline_of(traces, positions=16), traces)
    assert [step["share"] for step in measures["gold_history"]["by_step"]] == [1, 0]
    assert measures["notes"] == {"unreadable step": 20}


def test_what_went_wrong_is_counted_by_dialogue() -> None:
    dialogues = [
        dialogue_of(["1"], notes=[OPEN_REFERENCE, OPEN_REFERENCE, NO_ANSWER]),
        dialogue_of(["1"], notes=[NO_ANSWER]),
        dialogue_of(["1"]),
        dialogue_of(["2"], notes=[REPEATED]),
    ]
    measures = summarise_dialogues(dialogues, [trace_of(["1"])] * 4, GSM8K)
    assert measures["notes"] == {OPEN_REFERENCE: 1, REPEATED: 1, NO_ANSWER: 2}
    assert measures["first_wrong"] == {"nowhere": 3, "last step": 1}


def test_the_places_stand_in_their_order() -> None:
    said = [["9"] * 12, ["1"] * 9 + ["9"] * 3, ["1", "2"], ["1"] * 11 + ["2"], ["1"] * 13 + ["2"], ["1"] * 12]
    measures = summarise_dialogues([dialogue_of(one) for one in said], [trace_of(["1"] * 12)] * 6, GSM8K)
    assert list(measures["first_wrong"]) == (
        ["nowhere", "step 1", "step 10", "last step", "too few questions", "too many questions"]
    )


def test_problems_without_sub_questions() -> None:
    bare = Trace("p", (Step("one"),), "1")
    dialogues = [dialogue_of(["1"], notes=[NO_ANSWER]), dialogue_of(["1", "2"])]
    measures = summarise_dialogues(dialogues, [bare, replace(bare, steps=())], GSM8K)
    assert measures == {"n": 2, "questions": 1.5, "notes": {NO_ANSWER: 1}, "gold": 0}
    mixed = summarise_dialogues(dialogues, [bare, trace_of(["1", "2"])], GSM8K)
    assert (mixed["n"], mixed["gold"], mixed["questions"], mixed["gold_questions"]) == (2, 1, 1.5, 2)
    assert mixed["first_wrong"] == {"nowhere": 1}
    none_alike = summarise_dialogues(dialogues[:1], [trace_of(["1", "2"])], GSM8K)
    assert none_alike["steps"] is None
