"""Socratic CoT: the rows that a trace makes, and the dialogue of decomposer and solver."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tacit
from tacit import checkpoint, models
from tacit.errors import TacitError
from tacit.rendering import Template, render
from tacit.socratic import pipeline as socratic
from tacit.socratic.pipeline import Dialogue, SocraticPipeline
from tacit.socratic.rows import (
    GUIDANCE,
    ROLES,
    Turn,
    Wording,
    final_question,
    guide,
    questions_of,
    read_questions,
    read_turns,
    refer,
    step_answer,
)
from tacit.student import Reply, Student
from tacit.tasks import CUSTOM, get_task
from tacit.trace import Step, Trace, iter_text

pytestmark = pytest.mark.usefixtures("one_thread")

PEARS = Trace(
    "Ben has 4 pears . Ada has 3 more pears than Ben . Cleo has twice as many as Ada . How many has Cleo ?",
    (
        Step("<< 4 + 3 = 7 >> 7 pears", "How many has Ada ?", "7"),
        Step("<< 7 * 2 = 1 4 >> 1 4 pears", "How many has Cleo ?"),
    ),
    "1 4",
    id="pears",
)


# --- rows ------------------------------------------------------------------------------------------------------------


def written(role: str, trace: Trace = PEARS, **wording: str) -> list[str]:
    return [Template().write(row)[0] for row in Wording(**wording).rows(role, trace)]


def test_the_rows_of_each_role() -> None:
    problem = PEARS.question
    assert written("decomposer") == [f"decompose: {problem} -> Q: How many has Ada ? Q: How many has Cleo ? #### 2"]
    assert written("decomposer", guidance="operators") == [
        f"decompose: {problem} plan: << + >> << * >> -> Q: How many has Ada ? Q: How many has Cleo ? #### 2"
    ]
    assert written("planner", guidance="steps") == [f"plan: {problem} -> #### 2 steps"]
    assert written("planner", guidance="equations") == [f"plan: {problem} -> #### << 4 + 3 = 7 >> << 7 * 2 = 1 4 >>"]
    assert written("solver") == [
        f"solve: {problem} Q: How many has Ada ? -> << 4 + 3 = 7 >> 7 pears #### 7",
        f"solve: {problem} Q: How many has Ada ? A: << 4 + 3 = 7 >> 7 pears #### 7 Q: How many has Cleo ? -> "
        "<< 7 * 2 = 1 4 >> 1 4 pears #### 1 4",
    ]
    assert written("solver", history="answers")[1] == (
        f"solve: {problem} Q: How many has Ada ? A: 7 Q: How many has Cleo ? -> << 7 * 2 = 1 4 >> 1 4 pears #### 1 4"
    )
    assert written("unified") == [
        f"{problem} -> Q: How many has Ada ? A: << 4 + 3 = 7 >> 7 pears "
        "Q: How many has Cleo ? A: << 7 * 2 = 1 4 >> 1 4 pears #### 1 4"
    ]
    assert written("cumulative") == [
        f"{problem} Q: How many has Ada ? -> << 4 + 3 = 7 >> 7 pears #### 7",
        f"{problem} -> << 4 + 3 = 7 >> 7 pears << 7 * 2 = 1 4 >> 1 4 pears #### 1 4",
    ]


def test_a_template_with_another_marker_tells_history_with_it() -> None:
    rows = Wording(marker="The answer is").rows("solver", PEARS)
    assert rows[1].question.endswith("A: << 4 + 3 = 7 >> 7 pears The answer is 7 Q: How many has Cleo ?")


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        (Step("<<4+3=7>>7 pears, of 9", answer="seven"), "seven"),
        (Step("He has <<1+1=2>>2, then <<2*3=6>>6 of 9"), "6"),
        (Step("Half of 1,200 is 600."), "600"),
        (Step("it is 1 4 of 2 7"), "2 7"),
        (Step("minus -3.5 degrees"), "-3.5"),
        (Step("Aristotle died long before."), "Aristotle died long before."),
        (Step("It ran from 1914-1918."), "1918"),
        (Step("(3)-5 or 5%-10"), "10"),
        (Step("He has 1,250, and more"), "1,250"),
        (Step("in 1,2,3, go"), "3"),
        (Step("Is #2 Chinese?"), "Is #2 Chinese?"),
        (Step("no value <<4+3>> here 5", answer=" "), "5"),
    ],
)
def test_the_answer_of_a_step(step: Step, answer: str) -> None:
    assert step_answer(step) == answer


def test_references_stand_for_earlier_answers_and_anything_else_is_text() -> None:
    assert refer("Is #1 before #2 ?", ["1903", "the war"]) == ("Is 1903 before the war ?", 0)
    assert refer("horse #7 of #1, #0 and #12", ["a"]) == ("horse #7 of a, #0 and #12", 3)
    assert refer("#1", [""]) == ("#1", 1)  # that step had no answer
    assert refer("#1 and \\1", ["\\2 $0"]) == ("\\2 $0 and \\1", 0)
    loop = Trace("P ?", (Step("a", "what of #2 ?"), Step("b", "what of #1 ?")), "b")
    assert [turn.question for turn in read_turns(loop)] == ["what of #2 ?", "what of a ?"]  # no cycle can arise


def test_rows_refuse_what_they_cannot_carry() -> None:
    with pytest.raises(TacitError, match=r"steps\[1\].question' is missing"):
        Wording().rows("solver", replace(PEARS, steps=(PEARS.steps[0], Step("7 * 2"))))
    with pytest.raises(TacitError, match="pears has no steps"):
        Wording().rows("unified", replace(PEARS, steps=()))
    marked = replace(PEARS, steps=(Step("7", "Ask Q: what ?"), PEARS.steps[1]))
    for role in ("decomposer", "unified"):
        with pytest.raises(TacitError, match=r"steps\[0\].question' holds 'Q:'"):
            Wording().rows(role, marked)
    assert len(Wording().rows("solver", marked)) == 2  # which only reads it
    for wrong in ({"guidance": "operator"}, {"history": "all"}):
        with pytest.raises(TacitError, match=r"did you mean|choose"):
            Wording(**wrong)


words = (
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)
    .map(lambda text: " ".join(text.split()))
    .filter(lambda text: text and not re.search(r"(^|\s)Q:(\s|$)", text))
)


@given(st.lists(words, min_size=1, max_size=45))
def test_sub_questions_are_read_as_they_were_written(questions: list[str]) -> None:
    trace = Trace("P", tuple(Step("1", question) for question in questions), "1")
    (row,) = Wording().rows("decomposer", trace)
    target, _ = Template().write_target(row)
    assert read_questions(target.rpartition("####")[0]) == questions
    assert row.answer == str(len(questions))


def test_the_final_question_of_a_problem() -> None:
    assert final_question(PEARS.question) == "How many has Cleo ?"
    assert final_question("What is left? He had 3.") == "What is left?"
    assert final_question("Ann has 3. How many does Dr. Smith have? She is 5.") == "How many does Dr. Smith have?"
    assert final_question("Add 3 and 4.") == "Add 3 and 4."
    assert final_question("  ") == ""


def test_a_role_of_rows_is_rendered_as_any_trace(words_tokenizer: Any) -> None:
    rows = [row for role in ROLES for row in Wording("operators").rows(role, PEARS)]
    tokenizer = models.word_tokenizer([*iter_text(rows), Template().words])
    rendered = render(rows, tokenizer)
    solver = rendered[2]
    assert tokenizer.decode(solver.chain) == PEARS.steps[0].text
    assert tokenizer.decode(rendered[4].ids[rendered[4].starts[0] :]).startswith("Q: How many has Ada ?")
    assert len(rendered[4].starts) == 3  # unified: a step is a sub-question with its answer


def test_guides() -> None:
    bare = replace(PEARS, steps=(Step("so it is", "Is it ?"), PEARS.steps[1]))
    assert [guide(bare, kind) for kind in GUIDANCE] == [
        "", "2 steps", "<< >> << * >>", "<< >> << 7 * 2 = 1 4 >>",
    ]  # fmt: skip


def test_questions_of_others_are_found_by_problem() -> None:
    other = replace(PEARS, question=PEARS.question.upper(), id="x")
    assert questions_of([PEARS], [other], CUSTOM) == [["How many has Ada ?", "How many has Cleo ?"]]
    with pytest.raises(TacitError, match="no sub-questions for 1 of 1 problems, such as trace pears"):
        questions_of([PEARS], [replace(PEARS, steps=(Step("a"),))], CUSTOM)


# --- dialogues of scripted students ----------------------------------------------------------------------------------


class Scripted(Student):
    """Writes what a function says, and keeps what it was asked, batch by batch."""

    def __init__(self, write: Callable[[str], str], positions: int | None = None) -> None:
        config = SimpleNamespace(max_position_embeddings=positions)
        config.get_text_config = lambda: config
        super().__init__(SimpleNamespace(config=config), None)  # ty: ignore[invalid-argument-type]
        self.write, self.batches = write, []

    def prompt(self, question: str) -> Any:
        if not question.strip() or "\N{SNOWMAN}" in question:
            raise TacitError("the tokenizer cannot represent it")
        return question.split()

    def generate(self, prompts: Sequence[Any], batch_size: int) -> list[Any]:
        self.batches.append([" ".join(prompt) for prompt in prompts])
        return [self.write(" ".join(prompt)) for prompt in prompts]

    def read(self, text: Any) -> Reply:
        _, marker, answer = text.rpartition("####")
        count = len(text.split())
        found = answer.strip() if marker else "".join(re.findall(r"\d+$", text))
        return Reply(text, found, found, count - 2, count, bool(marker))


def sums(count: int) -> list[Trace]:
    """Chains of additions with sub-questions."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        values = rng.integers(0, 3, size=int(rng.integers(2, 6))).tolist()
        steps, total = [], values[0]
        for index, value in enumerate(values[1:], 1):
            steps.append(Step(f"{total} + {value}", f"sum of the first {index + 1} ?", str(total + value)))
            total += value
        made.append(Trace(f"add {' '.join(map(str, values))}", tuple(steps), str(total), id=str(number)))
    return made


def asking(traces: list[Trace], drop_last: bool = False) -> Callable[[str], str]:
    """A perfect decomposer, or one that leaves out the last sub-question."""
    known = {f"decompose: {trace.question}": trace for trace in traces}

    def write(read: str) -> str:
        steps = known[read].steps[: -1 if drop_last else None]
        return " ".join(f"Q: {step.question}" for step in steps) + f" #### {len(steps)}"

    return write


def solving(read: str) -> str:
    """A perfect solver that goes by what it reads: the last sub-question, and the answer before it."""
    values = read.partition(" Q: ")[0].removeprefix("solve: add ").split()
    wanted = int(re.findall(r"first (\d+) \?", read)[-1])
    told = re.findall(r"#### (\d+)", read)
    before = int(told[-1]) if told else int(values[0])
    return f"{before} + {values[wanted - 1]} #### {before + int(values[wanted - 1])}"


def test_perfect_students_answer_everything_and_a_dropped_question_costs_its_share() -> None:
    traces = sums(200)
    problems = [trace.question for trace in traces]
    solver = Scripted(solving)
    dialogues = SocraticPipeline(Scripted(asking(traces)), solver).reply(problems, batch_size=7)
    assert [dialogue.answer for dialogue in dialogues] == [trace.answer for trace in traces]
    assert [[*dialogue.turns] for dialogue in dialogues] == [read_turns(trace) for trace in traces]
    assert not any(dialogue.notes for dialogue in dialogues)
    # All problems advance side by side: as many calls as the longest dialogue has turns, each with all that have one.
    counts = [len(trace.steps) for trace in traces]
    assert [len(batch) for batch in solver.batches] == [sum(n > j for n in counts) for j in range(max(counts))]

    shorter = SocraticPipeline(Scripted(asking(traces, drop_last=True)), solver)
    # A problem of one step has nothing left to ask: then its final question is, which this solver cannot read.
    longer = [trace for trace in traces if len(trace.steps) > 1]
    answers = [dialogue.answer for dialogue in shorter.reply([trace.question for trace in longer])]
    assert answers == [trace.steps[-2].answer for trace in longer]
    share = np.mean([trace.steps[-2].answer == trace.answer for trace in longer])
    right = np.mean([answer == trace.answer for answer, trace in zip(answers, longer, strict=True)])
    assert right == share
    assert 0 < share < 1


def talk(
    write: str, problem: str = "He had 3 . What now ?", solve: Callable[[str], str] | None = None, **more: Any
) -> Dialogue:
    answer = solve or (lambda read: f"so #### {read.count(' Q: ')}")
    return SocraticPipeline(Scripted(lambda read: write), Scripted(answer), **more).reply([problem])[0]


@pytest.mark.parametrize(
    ("write", "asked", "notes"),
    [
        ("", ["What now ?"], [socratic.NOTHING_ASKED]),
        ("#### 0", ["What now ?"], [socratic.NOTHING_ASKED]),
        ("no mark at all", ["What now ?"], [socratic.NOTHING_ASKED]),
        ("Q: #### 1", ["What now ?"], [socratic.NOTHING_ASKED]),
        ("Q: a ? Q: a ? Q: b ? #### 3", ["a ?", "b ?"], [socratic.REPEATED]),
        ("Q: a ? Q: b ? Q: a ? #### 3", ["b ?", "a ?"], [socratic.REPEATED]),  # what concludes stays last
        ("Q: a ? Q: b ? Q: c", ["a ?", "b ?", "What now ?"], [socratic.UNENDED]),
        ("Q: What now ? Q: b ? Q: c", ["b ?", "What now ?"], [socratic.UNENDED, socratic.REPEATED]),
        ("Q: a ? Q: a ? Q: b #1 Q: c #3 and #1 #### 4", ["a ?", "b #1", "c #2 and #1"], [socratic.REPEATED]),
        (
            "Q: " + " Q: ".join(f"q{i}" for i in range(40)) + " #### 40",
            [*(f"q{i}" for i in range(11)), "q39"],
            [socratic.TOO_MANY],
        ),
        ("Q: what of #3 ? Q: b #1 #### 2", ["what of #3 ?", "b #1"], [socratic.OPEN_REFERENCE]),
        ("Q: a #### b ? Q: c #### 2", ["a #### b ?", "c"], []),
    ],
    ids=[
        *("silent", "none", "unmarked", "empty", "repeated", "repeated last", "unended", "unended twice"),
        *("references follow", "forty", "reference", "marker inside"),
    ],
)
def test_what_a_decomposer_may_write(write: str, asked: list[str], notes: list[str]) -> None:
    dialogue = talk(write)
    assert dialogue.asked == asked
    assert dialogue.notes == notes
    assert dialogue.answer == str(len(asked))
    if "b #1" in asked:
        assert dialogue.turns[1].question == "b 1"
    if "c #2 and #1" in asked:
        assert dialogue.turns[2].question == "c 2 and 1"


def test_what_a_solver_may_write() -> None:
    silent = talk("Q: a ? Q: b ? #### 2", solve=lambda read: "no idea")
    assert (silent.answer, silent.notes) == ("", [socratic.NO_ANSWER] * 2)
    assert silent.turns[0] == Turn("a ?", "no idea", "")
    unmarked = talk("Q: a ? #### 1", solve=lambda read: "it is 7")
    assert (unmarked.answer, unmarked.marked, unmarked.notes) == ("7", False, [socratic.UNMARKED])
    assert unmarked.conclusion == "it is 7"
    odd = talk("Q: a ? Q: b ? Q: c ? #### 3", solve=lambda read: "\N{SNOWMAN} #### 1")
    assert odd.notes == [socratic.UNREADABLE] * 2
    assert len(odd.turns) == 1
    skipped = talk("Q: \N{SNOWMAN} ? Q: b ? Q: #1 or #2 ? #### 3", solve=lambda read: f"#### {read.count(' Q: ') + 6}")
    assert [turn.question for turn in skipped.turns] == ["b ?", "#1 or 7 ?"]  # nobody knows the answer of the first
    assert skipped.notes == [socratic.UNREADABLE, socratic.OPEN_REFERENCE]
    pipeline = SocraticPipeline(
        Scripted(lambda read: "Q: a ? Q: b ? #### 2"), Scripted(lambda read: "x " * 30 + "#### 1", 20)
    )
    (long,) = pipeline.reply(["P ."])
    assert long.notes == [socratic.UNREADABLE]
    assert long.answer == "1"


def test_tokens_are_those_of_all_students() -> None:
    dialogue = talk("Q: a ? Q: b ? #### 2", solve=lambda read: "1 2 3 #### 4")
    assert dialogue.generated_tokens == 8 + 2 * 5
    assert dialogue.reasoning_tokens == 8 + 5 + 3  # all but the last answer segment


def test_problems_that_cannot_be_read_are_errors_and_given_questions_are_asked_as_they_are() -> None:
    pipeline = SocraticPipeline(Scripted(lambda read: "Q: a ? #### 1"), Scripted(lambda read: "so #### 1"))
    with pytest.raises(TacitError, match="cannot represent"):
        pipeline.reply(["a \N{SNOWMAN} ."])
    given = ["a ?", "a ?", " ", *(f"q{i}" for i in range(20))]
    (dialogue,) = pipeline.reply(["P ."], asked=[given])
    assert dialogue.asked == ["a ?", "a ?", *(f"q{i}" for i in range(20))]
    assert pipeline.reply(["P . Why ?"], asked=[[]])[0].asked == ["Why ?"]
    assert pipeline.reply([]) == []


def test_a_guided_decomposer_needs_a_plan() -> None:
    def decompose(read: str) -> str:
        return f"Q: {read.partition(' plan: ')[2] or 'nothing'} #### 1"

    parts = Scripted(decompose), Scripted(lambda read: "#### 1")
    wording = Wording(guidance="steps")
    with pytest.raises(TacitError, match="no planner"):
        SocraticPipeline(*parts, wording=wording).reply(["P"])
    planner = Scripted(lambda read: f"#### {len(read)} steps")
    planned = SocraticPipeline(*parts, planner, wording)
    assert [d.asked for d in planned.reply(["P", "PP"])] == [["7 steps"], ["8 steps"]]
    assert planned.reply(["P"], plans=["2 steps"])[0].asked == ["2 steps"]


# --- real students ---------------------------------------------------------------------------------------------------

FAMILIES = {
    "gpt2": {"n_layer": 2, "n_embd": 32, "n_head": 2, "initializer_range": 0.3},
    "llama": {
        "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 48, "initializer_range": 0.3,
    },
    "t5": {
        "num_layers": 2, "num_decoder_layers": 2, "d_model": 32, "d_kv": 16, "num_heads": 2, "d_ff": 48,
        "initializer_factor": 3.0,
    },
}  # fmt: skip
TRACES = get_task("word_problems").make(30, seed=3, steps="2-3")


def untaught(family: str, seed: int) -> Student:
    """A student with random weights: it babbles in the words of all rows, in a way of its own for every prompt."""
    rows = [row for trace in TRACES for role in ROLES for row in Wording().rows(role, trace)]
    tokenizer = models.word_tokenizer([*iter_text(rows), Template().words])
    model = models.from_config(family, FAMILIES[family], tokenizer, 400, seed)
    return Student(model.eval(), tokenizer, task=get_task("word_problems"), max_new_tokens=9)


def written_slowly(student: Student, question: str) -> str:
    """Greedy decoding one token at a time, without batches, padding or cache."""
    model, tokenizer = student.model, student.tokenizer
    prompt = tokenizer(student.template.write_prompt(question)).input_ids
    out: list[int] = []
    with torch.no_grad():
        while len(out) < student.max_new_tokens:
            if student.encoder_decoder:
                told = torch.tensor([[model.config.decoder_start_token_id, *out]])
                logits = model(torch.tensor([prompt]), decoder_input_ids=told, use_cache=False).logits
            else:
                logits = model(torch.tensor([[*prompt, *out]]), use_cache=False).logits
            out.append(int(logits[0, -1].argmax()))
            if out[-1] == tokenizer.eos_token_id:
                break
    return str(tokenizer.decode(out, skip_special_tokens=True)).strip()


def unmarked(solver: Student, reply: str) -> str:
    """The last number, in the model's form."""
    return step_answer(Step(reply)) if solver.task.format.extract(reply, marked=False) else ""


def talked_slowly(solver: Student, problem: str, questions: list[str]) -> list[tuple[str, str]]:
    """The dialogue on one problem, turn after turn: each sub-question with all that was written."""
    told, turns = f"solve: {problem}", []
    for question in questions:
        reply = written_slowly(solver, f"{told} Q: {question}")
        turns.append((question, reply))
        answer = "" if "####" in reply else unmarked(solver, reply)
        told = " ".join(filter(None, (told, "Q:", question, "A:", reply, answer and f"#### {answer}")))
    return turns


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_dialogues_equal_those_of_a_slow_loop(family: str) -> None:
    decomposer, solver = untaught(family, 0), untaught(family, 1)
    problems = [trace.question for trace in TRACES]
    questions = [[step.question or "" for step in trace.steps] for trace in TRACES]
    dialogues = SocraticPipeline(decomposer, solver).reply(problems, batch_size=7, asked=questions)
    for dialogue, asked in zip(dialogues, questions, strict=True):
        slow = talked_slowly(solver, dialogue.problem, asked)
        assert [turn.question for turn in dialogue.turns] == asked
        for turn, (_, reply) in zip(dialogue.turns, slow, strict=True):
            text, marker, answer = reply.rpartition("####")
            assert (turn.text, turn.answer) == (
                (text.strip(), answer.strip()) if marker else (reply, unmarked(solver, reply))
            )
    assert len({turn.text for dialogue in dialogues for turn in dialogue.turns}) > 20  # they do differ

    decomposed = SocraticPipeline(decomposer, solver).reply(problems, batch_size=7)
    alone = [SocraticPipeline(decomposer, solver).reply([problem])[0] for problem in problems]
    assert [dialogue.text for dialogue in decomposed] == [dialogue.text for dialogue in alone]


def test_a_person_may_refer_to_earlier_answers_and_is_told_what_cannot_be_read() -> None:
    pipeline = SocraticPipeline(untaught("gpt2", 0), untaught("gpt2", 1))
    typed = get_task("word_problems").show_question(TRACES[0].question)
    assert pipeline.ask(typed, ["How many?", "How many #1?"]).asked == ["How many ?", "How many #1 ?"]
    with pytest.raises(TacitError, match="cannot represent 'kiwis'"):
        pipeline.ask(typed, ["How many?", "How many kiwis?"])
    with pytest.raises(TacitError, match="is empty"):
        pipeline.ask(" ")


def test_a_saved_pipeline_answers_alike_in_a_clean_process(tmp_path: Path) -> None:
    pipeline = SocraticPipeline(
        untaught("gpt2", 0),
        untaught("gpt2", 1),
        wording=Wording(history="answers"),
        max_questions=5,
        info={"name": "pair", "evaluation": {"accuracy": 0.5, "ci95": [0.4, 0.6], "n": 80, "generated_tokens": 9.0}},
    )
    pipeline.save(tmp_path / "pair")
    typed = get_task("word_problems").show_question(TRACES[0].question)
    here = pipeline.ask(typed, ["How many?"])
    asked = Wording().solve(TRACES[0].question, [], "How many ?")
    code = (
        "import json, sys\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "folder, typed, prompt = sys.argv[1:]\n"
        "model, tokenizer = (k.from_pretrained(folder + '/solver') for k in (AutoModelForCausalLM, AutoTokenizer))\n"
        "ids = tokenizer(prompt, return_tensors='pt').input_ids\n"
        "stock = tokenizer.decode(model.generate(ids)[0, ids.shape[1]:], skip_special_tokens=True)\n"
        "assert 'tacit' not in sys.modules\n"
        "import tacit\n"
        "pipeline = tacit.load(folder)\n"
        "d = pipeline.ask(typed, ['How many?'])\n"
        "print(json.dumps([d.turns, d.shown, pipeline.max_questions, pipeline.wording.history, stock]))"
    )
    arguments = [str(tmp_path / "pair"), typed, pipeline.solver.template.write_prompt(asked)]
    out = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True).stdout
    stock = pipeline.solver.reply([asked])[0].text
    assert json.loads(out) == [[[*turn] for turn in here.turns], here.shown, 5, "answers", stock]
    card = (tmp_path / "pair" / "README.md").read_text("utf-8")
    assert "Accuracy 0.5000" in card
    assert "- `decomposer/`" in card

    with pytest.raises(TacitError, match="holds several students"):
        checkpoint.load(tmp_path / "pair")
    (tmp_path / "pair" / "solver" / "tacit.json").unlink()
    with pytest.raises(TacitError, match="no checkpoint"):
        tacit.load(tmp_path / "pair")


def test_one_student_can_have_all_roles(tmp_path: Path) -> None:
    both = untaught("gpt2", 0)
    pipeline = SocraticPipeline(both, both)
    pipeline.save(tmp_path / "one")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["README.md", "student", "tacit.json"]
    loaded = tacit.load(tmp_path / "one")
    assert isinstance(loaded, SocraticPipeline)
    assert loaded.decomposer is loaded.solver
    problems = [trace.question for trace in TRACES[:6]]
    assert [d.turns for d in loaded.reply(problems)] == [d.turns for d in pipeline.reply(problems)]
