"""Socratic CoT in recipes and runs: bad input, exact resume, and the removal of steps and of whole sub-questions."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scripts import tiny
from tacit import checkpoint, models
from tacit.errors import TacitError
from tacit.evaluation.evaluate import evaluate
from tacit.recipe import parse_recipe
from tacit.rendering import Template, render
from tacit.run import Run, beginnings, carry_out
from tacit.socratic.pipeline import NO_PLAN, SocraticPipeline, load
from tacit.socratic.rows import Wording, answered, guide, read_turns
from tacit.stages import IGNORED, Batcher, Removal
from tacit.tasks import get_task
from tacit.trace import Step, Trace, iter_text, write_jsonl

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {"n_layer": 1, "n_embd": 16, "n_head": 2, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
TRAIN = {
    "max_steps": 6,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "save_steps": 2,
    "bf16": False,
    "use_cpu": True,
}


def sums(size: int, steps: int = 2) -> list[Trace]:
    """`add 1 2 3`, one sub-question for each sum; the second refers to the first."""
    made = []
    for n in range(size):
        values = [n % 7 + 1, *((n + k) % 3 + 1 for k in range(steps))]
        asked = ["first sum ?", *(f"#{k} and the next ?" for k in range(1, steps))]
        totals = np.cumsum(values).tolist()
        told = [
            Step(f"<< {a} + {b} = {c} >>", question, str(c))
            for a, b, c, question in zip(totals, values[1:], totals[1:], asked, strict=False)
        ]
        made.append(Trace(f"{n} : add {' '.join(map(str, values))} . What is it ?", tuple(told), str(totals[-1])))
    return made


def plain(traces: list[Trace]) -> list[Trace]:
    return [replace(t, steps=tuple(replace(step, question=None) for step in t.steps)) for t in traces]


def document(folder: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of seconds on files; `train`, `validation` and `test` are lists of traces."""
    parts = {"train": sums(24), "validation": [], "test": sums(4)}
    parts |= {name: changes.pop(name) for name in list(parts) if name in changes}
    folder.mkdir(parents=True, exist_ok=True)
    for name, traces in parts.items():
        if traces:
            write_jsonl(traces, folder / f"{name}.jsonl")
    return {
        "name": "tiny",
        "task": "gsm8k",
        "data": {name: str(folder / f"{name}.jsonl") for name, traces in parts.items() if traces},
        "model": {"architecture": "gpt2", "config": SIZES},
        "train": {**TRAIN, **changes.pop("settings", {})},
        "methods": {"socratic": {}},
        "evaluation": {"batch_size": 4, "speed_problems": 2},
        **changes,
    }


# --- recipes that cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"socratic": {"guidanse": "steps"}}, "did you mean 'methods.socratic.guidance'?"),
        ({"socratic": {"guidance": "step"}}, "unknown guidance 'step'; did you mean 'steps'?"),
        ({"socratic": {"guidance": None}}, "methods.socratic.guidance must be text"),
        ({"socratic": {"history": "all"}}, "unknown history 'all'"),
        ({"socratic": {"shared": "yes"}}, "methods.socratic.shared must be true or false"),
        ({"socratic": {"max_questions": 0}}, "methods.socratic.max_questions must be a whole number of at least 1"),
        ({"socratic": {"planner": {"max_steps": 3}}}, "its students are decomposer, solver"),
        ({"socratic": {"shared": True, "solver": {}}}, "its students are student"),
        ({"socratic": {"solver": 5}}, "methods.socratic.solver must be a mapping"),
        ({"socratic": {"solver": {"max_step": 5}}}, "did you mean 'methods.socratic.solver.max_steps'?"),
        ({"socratic": {"decomposer": {"schedule": "linear"}}}, "the solver has steps to remove"),
        ({"socratic": {"solver": {"schedule": "linear"}}}, "takes history: answers"),
        ({"socratic": {"schedule": "linear", "history": "answers", "shared": True}}, "not shared: true"),
        ({"socratic": {"data": 5}}, "methods.socratic.data must be a file"),
        ({"cumulative": {"schedule": "linear"}}, "methods.cumulative.schedule: it is 'keep_all' by definition"),
        ({"oracle": {}}, "the recipe needs both"),
        ({"gold_plan": {}, "socratic": {}}, "gold_plan guides the decomposer"),
        ({"gold_plan": {}, "socratic": [1]}, "methods.socratic must be a mapping of settings, got [1]"),
        ({"cot": {"from": "stepwise"}, "stepwise": "x"}, "methods.stepwise must be a mapping of settings, got 'x'"),
        ({"socratic": {}, "teacher_questions": {}}, "takes a file of traces with sub-questions"),
        ({"socratic": {}, "oracle": {"questions": "x"}}, "method oracle takes no settings"),
    ],
)
def test_settings_that_do_not_fit(methods: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TacitError) as error:
        parse_recipe(document(tmp_path, methods=methods))
    assert message in str(error.value)


def bad(trace: Trace, index: int, **changes: Any) -> Trace:
    steps = list(trace.steps)
    steps[index] = replace(steps[index], **changes)
    return replace(trace, steps=tuple(steps))


def echo(trace: Trace) -> Trace:
    """As StrategyQA's decompositions that nobody answered: each step repeats its sub-question."""
    return replace(trace, steps=tuple(replace(s, text=s.question or "", answer=None) for s in trace.steps))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": [echo(trace) for trace in sums(6)]}, r"only repeat their sub-questions, .* \(solver\)"),
        (
            {
                "validation": [echo(trace) for trace in sums(3)],
                "settings": {"eval_strategy": "steps", "eval_steps": 2},
            },
            "no validation trace has a sub-question on each step, and answers",
        ),
        ({"train": [*sums(5), *plain(sums(6)[5:])]}, r"steps\[0\].question' is missing"),
        ({"train": [*sums(5), replace(sums(6)[5], steps=())]}, "has no steps: Socratic CoT needs sub-questions"),
        ({"train": [*sums(5), bad(sums(6)[5], 0, question="a Q: b ?")]}, "holds 'Q:'"),
        (
            {"validation": plain(sums(3)), "settings": {"eval_strategy": "steps", "eval_steps": 2}},
            "no validation trace has a sub-question on each step",
        ),
        ({"test": plain(sums(3)), "methods": {"socratic": {}, "oracle": {}}}, "no sub-questions for 3 of 3 problems"),
        (
            {
                "test": [*sums(3), replace(sums(4)[3], steps=())],
                "methods": {"socratic": {"guidance": "steps"}, "gold_plan": {}},
            },
            "has no steps, which a plan is made of",
        ),
    ],
)
def test_data_that_cannot_be_used_is_refused_before_anything_is_trained(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(TacitError, match=message):
        carry_out(parse_recipe(document(tmp_path, **changes)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- odd data that can be used ---------------------------------------------------------------------------------------


def test_a_plain_test_set_and_odd_traces(tmp_path: Path) -> None:
    """Held-out problems without sub-questions are answered all the same: accuracy and notes are what is known."""
    odd = [
        bad(sums(1)[0], 1, question="#3 , horse #7 and A: x #### y ?"),
        bad(sums(2)[1], 0, text="", answer=None),  # as six of GSM8K Socratic
        bad(sums(3)[2], 0, text="no number at all", answer=None),
        bad(sums(4)[3], 0, text="a #### inside"),
        sums(5, steps=40)[4],
    ]
    long = replace(sums(9)[8], question="add " * 300 + "1 2 . What is it ?")
    recipe = document(tmp_path, train=[*odd, *sums(20)], test=[*plain(sums(3)), plain([long])[0]])
    run = carry_out(parse_recipe({**recipe, "methods": {"socratic": {}, "calculator": {}}}), tmp_path / "run")
    for row in run.rows:
        assert (row["n"], row["dialogues"]["gold"]) == (4, 0)
        assert set(row["dialogues"]) == {"n", "questions", "notes", "gold"}
    assert run.rows[1]["train_steps"] == 0
    asked = run.predictions("socratic")[-1]
    assert asked["turns"], "there is room for a problem that is longer than all others"


def test_references_are_counted_anew_where_a_step_is_left_out() -> None:
    """Step 1 is gone: what was #2 is #1, and #1 refers to nothing."""
    steps = (
        Step("", "what ?"),
        Step("4", "how many ?"),
        Step("5", "and #2 more ?", "5"),
        Step("6", "#1 of #2 and #3 ?", "6"),
    )
    trace = Trace("P", steps, "6")
    assert [step.question for step in answered(trace).steps] == ["how many ?", "and #1 more ?", "#0 of #1 and #2 ?"]
    assert [turn.question for turn in read_turns(trace)] == ["how many ?", "and 4 more ?", "#0 of 4 and 5 ?"]
    whole = replace(trace, steps=steps[1:])
    assert answered(whole) is whole
    with pytest.raises(TacitError, match="has no steps, which a plan is made of"):
        guide(replace(trace, steps=()), "steps")


def test_a_plan_that_cannot_be_read(pipeline_run: Path) -> None:
    """The decomposer goes without; the evaluation counts it."""
    pipeline = load(pipeline_run / "socratic")
    assert isinstance(pipeline, SocraticPipeline)
    problem = sums(1)[0].question
    for plan in ("", "\N{SNOWMAN}", "2 steps " * 500):
        (dialogue,) = pipeline.reply([problem], plans=[plan])
        assert (dialogue.notes[0], dialogue.plan) == (NO_PLAN, "")
    assert NO_PLAN not in pipeline.reply([problem], plans=["2 steps"])[0].notes
    with pytest.raises(TacitError, match="cannot represent"):
        pipeline.reply(["\N{SNOWMAN} ?"], plans=["2 steps"])


# --- other models, several values ------------------------------------------------------------------------------------


def test_one_encoder_decoder_with_all_roles(tmp_path: Path) -> None:
    shape = {"num_layers": 1, "num_decoder_layers": 1, "d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 16}
    recipe = document(
        tmp_path,
        model={"architecture": "t5", "tokenizer": "bpe", "config": shape},
        methods={"socratic": {"guidance": "equations", "shared": True, "student": {"max_steps": 2}}, "gold_plan": {}},
    )
    run = carry_out(parse_recipe(recipe), tmp_path / "run")
    pipeline = run.student("socratic")
    assert isinstance(pipeline, SocraticPipeline)
    assert pipeline.decomposer is pipeline.solver is pipeline.planner
    assert pipeline.solver.encoder_decoder
    assert pipeline.info["train_steps"] == 2
    assert len(run.predictions("gold_plan")) == 4


@pytest.mark.shared
def test_a_model_from_a_folder(tmp_path: Path, gpt2_tokenizer: Any) -> None:
    tiny.family("gpt2", gpt2_tokenizer, positions=96).save_pretrained(tmp_path / "model")
    gpt2_tokenizer.save_pretrained(tmp_path / "model")
    recipe = document(tmp_path, model={"name": str(tmp_path / "model")}, settings={"max_steps": 1}, test=sums(1))
    run = carry_out(parse_recipe(recipe), tmp_path / "run")
    assert isinstance(run.student("socratic"), SocraticPipeline)
    long = parse_recipe({**recipe, "data": {**recipe["data"], "train": recipe["data"]["test"]}})
    write_jsonl(sums(4, steps=12), Path(recipe["data"]["test"]))
    with pytest.raises(TacitError, match="longer than the model's 96 positions"):
        carry_out(long, tmp_path / "other")


def test_what_is_varied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of the pipeline makes pipelines of its own; one of another way to ask asks the same pipeline again."""
    made = []
    make = beginnings._vocabulary_and_positions
    monkeypatch.setattr(beginnings, "_vocabulary_and_positions", lambda *a: made.append(1) or make(*a))
    short = {"max_steps": 1}
    home = document(tmp_path, settings=short)["data"]
    write_jsonl([bad(trace, 0, question="next sum ?") for trace in sums(4)], tmp_path / "teacher.jsonl")
    recipe = document(
        tmp_path,
        settings=short,
        methods={"socratic": {}, "teacher_questions": {}},
        vary={"methods.teacher_questions.questions": [home["test"], str(tmp_path / "teacher.jsonl")]},
        seeds=[0, 1],
    )
    run = carry_out(parse_recipe(recipe), tmp_path / "run")
    assert len(made) <= 3, "the words of the data are found once for each value, not for each student"
    assert [row["method"] for row in run.rows] == ["socratic", *["teacher_questions"] * 2] * 2
    asked = run.predictions("teacher_questions", 1, str(tmp_path / "teacher.jsonl"))[0]
    assert asked["turns"][0]["question"] == "next sum ?"
    labels = {"free": {}, "planned": {"guidance": "steps"}}
    recipe = document(tmp_path, settings=short, methods={"oracle": {}}, vary={"methods.socratic": labels})
    parsed = parse_recipe(recipe)
    assert parsed.values("socratic") == parsed.values("oracle") == ["free", "planned"]
    assert list(parsed.at("planned").students("socratic")) == ["decomposer", "solver", "planner"]


def test_variants_share_what_they_generate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = type(get_task("multiplication"))
    made = []
    make = task.make
    monkeypatch.setattr(task, "make", lambda self, *a, **k: made.append(1) or make(self, *a, **k))
    changes = {"task": "multiplication", "data": {"digits": "2x2", "train": 20, "test": 5}, "methods": {"cot": {}}}
    recipe = parse_recipe({**document(tmp_path), **changes, "vary": {"train.weight_decay": [0.0, 0.1, 0.2]}})
    for value in (None, 0.1, 0.2, 0.0):
        train, _, _ = recipe.at(value).traces()
        train.clear()  # of one's own
    assert len(made) == 1
    assert len(recipe.traces()[0]) == 20


# --- the bridge to internalization -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_whole_sub_questions_go_first_to_last(family: str) -> None:
    """Unified: after k removals the batch shows what a plain loop writes without the first k (question, answer)."""
    traces = [trace for n in (1, 2, 4) for trace in sums(5, steps=n)]
    rows = [row for trace in traces for row in Wording().rows("unified", trace)]
    tokenizer, template = models.word_tokenizer([*iter_text(rows), Template().words]), Template()
    rendered = render(rows, tokenizer, template, family == "t5")
    removal = Removal("step")
    assert removal.total(rendered) == 4
    everything = np.arange(len(rows))
    for k in range(6):
        start, length = removal.spans(rendered, everything, k)
        batch = Batcher(rendered, models.pad_id(tokenizer)).cut(everything, start, length)
        for trace, row, ids, labels in zip(traces, rows, batch["input_ids"], batch["labels"], strict=True):
            told = [f"Q: {turn.question} A: {turn.text}" for turn in read_turns(trace)][k:]
            target = " ".join([*told, "####", trace.answer])
            assert tokenizer.decode(labels[labels != IGNORED][:-1]) == target
            if family == "gpt2":
                read = tokenizer.decode(ids, skip_special_tokens=True)
                assert read == f"{template.write_prompt(row.question)} {target}"


@pytest.fixture(scope="module")
def pipeline_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guided pipeline whose solver is silent in the end, and unified rows without their first sub-questions."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("bridge")
    carry_out(bridge(folder), folder / "run")
    return folder / "run"


def bridge(folder: Path) -> Any:
    removing = {"schedule": "linear", "removal_unit": "step", "removal_smoothing": 9}
    methods = {
        "socratic": {
            "guidance": "steps",
            "history": "answers",
            "solver": {**removing, "removal_per_epoch": 6, "keep_stages": [0]},
            "planner": {"max_steps": 3},
        },
        "unified": {**removing, "removal_per_epoch": 2, "keep_stages": [0, 1]},  # an epoch is 6 steps
        "oracle": {},
    }
    evaluated = {"eval_strategy": "steps", "eval_steps": 3}
    return parse_recipe(document(folder, methods=methods, validation=sums(3), settings=evaluated))


def test_a_silent_solver(pipeline_run: Path) -> None:
    run = Run(pipeline_run)
    pipeline = run.student("socratic")
    assert isinstance(pipeline, SocraticPipeline)
    solver = pipeline.solver
    assert (solver.silent, pipeline.decomposer.silent, pipeline.wording.history) == (True, False, "answers")
    assert solver.info["removed_tokens"] > 0
    last = json.loads((pipeline_run / "socratic" / "solver" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["removed"], last["total"]) == (1, 1)

    # Graded in one pass as by generation: of rows that it answers right as of others.
    rows = [row for trace in sums(6) for row in pipeline.wording.rows("solver", trace)]
    written = [reply.answer for reply in solver.reply([row.question for row in rows])]
    right = [replace(row, answer=said) if said else row for row, said in zip(rows[:6], written, strict=False)]
    graded = evaluate(solver, [*right, *rows[6:]], batch_size=5)
    solver.silent = False
    assert graded == evaluate(solver, [*right, *rows[6:]], batch_size=5)

    explicit = checkpoint.load(pipeline_run / "socratic" / "solver" / "stages" / "000")
    assert not explicit.silent
    assert (explicit.info["method"], explicit.info["reads"]) == ("solver", solver.info["reads"])
    dialogues = SocraticPipeline(pipeline.decomposer, solver, pipeline.planner, pipeline.wording).reply(
        [trace.question for trace in sums(3)]
    )
    for turn in (turn for dialogue in dialogues for turn in dialogue.turns):
        assert "####" not in turn.text

    # What is told of earlier turns is their answers.
    read = pipeline.wording.rows("solver", sums(1)[0])[1].question
    assert read == "solve: 0 : add 1 1 2 . What is it ? Q: first sum ? A: 2 Q: 2 and the next ?"


def test_unified_without_its_first_sub_questions(pipeline_run: Path) -> None:
    run = Run(pipeline_run)
    student = run.student("unified")
    assert (student.info["method"], student.silent) == ("unified", False)
    (whole,) = Wording().rows("unified", sums(1)[0])
    first = len(student.tokenizer(whole.steps[0].text).input_ids)
    assert student.info["removed_tokens"] >= first
    stages = sorted(path.name for path in (pipeline_run / "unified" / "stages").iterdir())
    assert stages == ["000", "001"]
    assert checkpoint.load_info(pipeline_run / "unified" / "stages" / "000")["removed_tokens"] == 0
    assert [row["method"] for row in run.rows] == ["socratic", "unified", "oracle"]


# --- exact resume ----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Nothing tidies up after it."""


def test_killed_again_and_again(pipeline_run: Path, tmp_path: Path) -> None:
    """In a student's training, where one follows another, and while the dialogues are graded: not a bit differs.

    Students that are finished are not trained again.
    """
    recipe, folder = bridge(pipeline_run.parent), tmp_path / "run"
    heard: set[str] = set()

    def until(deadly: tuple[str, int | str] | None) -> Callable[[str, dict[str, Any]], None]:
        heard.clear()

        def hear(name: str, line: dict[str, Any]) -> None:
            heard.add(name)
            if (name, line["text"] if line["event"] == "note" else line["step"]) == deadly:
                raise Killed

        return hear

    students = [f"socratic/{role}" for role in ("decomposer", "solver", "planner")]
    deaths = [  # when, and the students that are finished by then
        (("socratic/decomposer", 3), []),
        (("socratic/solver", "preparing data"), []),
        (("socratic/solver", 5), students[:1]),
        (("socratic", "evaluating on 4 problems"), students[:1]),
        (("oracle", "evaluating on 4 problems"), students),
    ]
    for deadly, finished in deaths:
        with pytest.raises(Killed):
            carry_out(recipe, folder, resume=True, listener=until(deadly))
        assert not heard & set(finished)
    carry_out(recipe, folder, resume=True, listener=until(None))
    assert heard == {"oracle", "speed"}
    for name in (*students, "unified"):
        ours, theirs = (where / name / "model.safetensors" for where in (folder, pipeline_run))
        assert ours.read_bytes() == theirs.read_bytes()
        assert tiny.metrics(folder / name) == tiny.metrics(pipeline_run / name)
        assert not list((folder / name).glob("checkpoint-*"))
    for name in ("socratic", "unified", "oracle"):
        assert (folder / name / "predictions.jsonl").read_bytes() == (
            pipeline_run / name / "predictions.jsonl"
        ).read_bytes()
    assert (folder / "oracle" / "evaluation.json").read_bytes() == (
        pipeline_run / "oracle" / "evaluation.json"
    ).read_bytes()
