"""`tacit run`, `eval`, `ask`, `compare`, `report`, typed as a person types them, with everything that can go wrong."""

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tacit.cli import main
from tacit.evaluation.statistics import paired
from tacit.formats import write
from tacit.recipe import load_recipe
from tacit.report.words import NAMES
from tacit.run import Run
from tacit.tasks import get_task
from tacit.trace import Trace, read_jsonl, write_jsonl

torch.set_num_threads(1)

RECIPE = """
task: multiplication
data: {digits: 2x2, train: 1500, validation: 10, test: 40, seed: 1}
model:
  architecture: gpt2
  config: {n_layer: 1, n_embd: 32, n_head: 2}
train: {max_steps: 30, per_device_train_batch_size: 16, learning_rate: 3e-3, logging_steps: 10}
methods:
  stepwise: {removal_per_epoch: 100}
  cot: {from: stepwise}
  no_cot: {}
evaluation: {speed_problems: 16, batch_size: 32}
"""
PROBLEMS = 4095  # distinct 2x2 problems; a*b and b*a are one


@dataclass
class Result:
    status: int
    out: str
    err: str


@pytest.fixture
def tacit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line in this process."""

    def call(*words: object) -> Result:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["tacit", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return Result(int(stop.value.code or 0), told.out, told.err)

    return call


def tacit_process(*words: str, cwd: Path) -> Result:
    command = [sys.executable, "-m", "tacit", *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and its run, made by the command in a process of its own."""
    path = tmp_path_factory.mktemp("home")
    (path / "tiny.yaml").write_text(RECIPE)
    result = tacit_process("run", "tiny.yaml", cwd=path)
    assert result.status == 0, result.err
    (path / "told.txt").write_text(result.out)
    (path / "progress.txt").write_text(result.err)
    return path


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


# --- run -------------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_table_report_and_a_question(home: Path) -> None:
    told = (home / "told.txt").read_text()
    for text in ("method", "exact match", "95 % interval", "reasoning tokens", "Stepwise", "CoT", "No CoT", "1.00x"):
        assert text in told
    assert "multiplication: n = 40, batch 32; speed is relative to No CoT" in told
    report = next(line for line in told.splitlines() if line.startswith("Report: "))
    assert (home / report.removeprefix("Report: ")).is_file()
    ask = next(line for line in told.splitlines() if line.startswith("Ask it: "))
    words = shlex.split(ask.removeprefix("Ask it: "))
    assert words[: words.index("ask")] in (["tacit"], [sys.executable, "-m", "tacit"])
    words = words[words.index("ask") :]
    answer = tacit_process(*words, cwd=home)
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.strip()
    first = Run(home / "runs" / "tiny").predictions("stepwise")[0]
    assert words[2] == first["shown_question"]
    assert answer.out.strip() == first["shown_answer"]


def test_progress_is_told_in_lines_where_nobody_watches(home: Path) -> None:
    lines = (home / "progress.txt").read_text().splitlines()
    assert lines[0] == "recipe: trying models and data"
    assert "stepwise: preparing data" in lines
    assert any(line.startswith("stepwise: step 30/30  stage ") and "removed 8/8" in line for line in lines)
    assert any(line.startswith("no_cot: done: ") for line in lines)
    assert all(line.partition(": ")[0] in ("recipe", "stepwise", "cot", "no_cot", "speed") for line in lines), lines


def test_a_run_is_not_overwritten_and_can_be_resumed(here: Path, tacit: Any) -> None:
    result = tacit("run", "tiny.yaml")
    assert result.status == 1
    assert result.err == "error: runs/tiny exists; add --resume to go on there, or --overwrite to start anew\n"
    assert result.out == ""
    again = tacit("run", "tiny.yaml", "--resume").out
    assert again.partition("Ask it: ")[0] == (here / "told.txt").read_text().partition("Ask it: ")[0]
    result = tacit("run", "tiny.yaml", "train.max_steps=31", "--resume")
    assert (result.status, result.out) == (1, "")
    assert "was begun with other settings (train.max_steps)" in result.err
    assert tacit("run", "tiny.yaml", "--resume", "--overwrite").status == 2
    assert tacit("run", "tiny.yaml", "--update", "--overwrite").status == 2


def test_json_is_all_that_stdout_gets(here: Path) -> None:
    words = ["run", "tiny.yaml", "methods={no_cot: {}}", "train.max_steps=2", "-o", "elsewhere/run", "--json"]
    result = tacit_process(*words, cwd=here)
    assert result.status == 0, result.err
    summary = json.loads(result.out)
    assert summary == json.loads((here / "elsewhere" / "run" / "summary.json").read_text())
    assert [row["train_steps"] for row in summary["rows"]] == [2]
    assert yaml.safe_load((here / "elsewhere" / "run" / "recipe.yaml").read_text())["train"]["max_steps"] == 2


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["run"], 2, "Missing argument 'RECIPE'"),
        (["run", "nope.yaml"], 1, "nope.yaml: No such file or directory"),
        (["run", "told.txt", "-o", "new"], 1, "told.txt: "),
        (["run", "tiny.yaml", "train.max_step=3", "-o", "new"], 1, "did you mean 'train.max_steps'?"),
        (["run", "tiny.yaml", "max_steps=3", "-o", "new"], 1, "did you mean 'train.max_steps'?"),
        (["run", "tiny.yaml", "digits=3x3", "-o", "new"], 1, "did you mean 'data.digits'?"),
        (["run", "tiny.yaml", "train.max_steps", "-o", "new"], 1, "an override looks like train.max_steps=100"),
        (["run", "tiny.yaml", "data.digits=0x4", "-o", "new"], 1, "digits must look like 4x2"),
        (["run", "tiny.yaml", "task=multiplicaton", "-o", "new"], 1, "did you mean 'multiplication'?"),
        (["run", "tiny.yaml", "model.config.n_layers=3", "-o", "new"], 1, "did you mean 'n_layer'?"),
        (["run", "tiny.yaml", "--resum"], 2, "No such option"),
    ],
)
def test_recipes_that_cannot_be_meant(here: Path, tacit: Any, words: list[str], status: int, message: str) -> None:
    result = tacit(*words)
    assert (result.status, result.out) == (status, "")
    assert message in result.err
    shutil.rmtree(here / "new", ignore_errors=True)


# --- ask -------------------------------------------------------------------------------------------------------------


def test_asking(here: Path, tacit: Any) -> None:
    shown = tacit("ask", "runs/tiny/cot", "12 * 34")
    assert shown.status == 0
    assert len(shown.out.splitlines()) == 1
    text = tacit("ask", "runs/tiny/cot", "12x34", "--text").out
    told = json.loads(tacit("ask", "runs/tiny/cot", "12 × 34", "--json").out)
    assert list(told) == ["question", "answer", "text", "reasoning_tokens"]
    assert (told["question"], told["answer"], told["text"]) == ("12 × 34", shown.out.strip(), text.strip())
    reply = Run(here / "runs" / "tiny").student("cot").ask("12 * 34")
    assert (told["text"], told["reasoning_tokens"]) == (reply.text, reply.reasoning_tokens)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["ask"], 2, "Missing argument 'CHECKPOINT'"),
        (["ask", "runs/tiny/cot"], 2, "Missing argument 'QUESTION'"),
        (["ask", "runs/tiny/cot", "what?"], 1, "a multiplication question looks like '4821 * 37'; got 'what?'"),
        (["ask", "runs/tiny/cot", ""], 1, "a multiplication question looks like"),
        (["ask", "runs/tiny/cot", f"{'9' * 99} * 2"], 1, "too long: the model has"),
        (
            ["ask", "runs/tiny", "12 * 34"],
            1,
            "no checkpoint of tacit's (tacit.json is missing); did you mean runs/tiny/",
        ),
        (["ask", "runs", "12 * 34"], 1, "runs: no checkpoint of tacit's (tacit.json is missing)"),
        (["ask", "nowhere", "12 * 34"], 1, "nowhere: no such folder"),
        (["ask", "tiny.yaml", "12 * 34"], 1, "tiny.yaml: no such folder"),
    ],
)
def test_questions_that_cannot_be_answered(
    here: Path, tacit: Any, words: list[str], status: int, message: str
) -> None:
    result = tacit(*words)
    assert (result.status, result.out) == (status, "")
    assert message in result.err
    if status == 1:
        assert len(result.err.splitlines()) == 1


# --- eval ------------------------------------------------------------------------------------------------------------


def test_fresh_problems_are_not_those_of_the_training(here: Path, tacit: Any, tmp_path: Path) -> None:
    """All the rest of a small family: none was trained on, each comes once, and one more is too many."""
    task = get_task("multiplication")
    trained = {task.problem(trace.question) for trace in load_recipe("tiny.yaml").traces()[0]}
    rest = PROBLEMS - len(trained)
    out = tmp_path / "deep" / "predictions.jsonl"
    words = ["eval", "runs/tiny/stepwise", "--task", "multiplication"]
    result = tacit(*words, "--size", rest, "-o", out)
    assert result.status == 0, result.err
    asked = [task.problem(json.loads(line)["question"]) for line in out.read_text().splitlines()]
    assert len(set(asked)) == len(asked) == rest
    assert not trained & set(asked)
    assert f"n = {rest:,})" in result.out
    assert f"predictions       {out}" in result.out
    for size in (rest + 1, PROBLEMS):
        result = tacit(*words, "--size", size)
        assert (result.status, result.out) == (2, "")
        assert f"fewer than {size:,} problems are left that it was not trained on" in result.err
    result = tacit(*words, "--size", PROBLEMS + 1)
    assert result.status == 2
    assert "but only 4,095 distinct 2x2 problems exist" in result.err


def test_the_seed_of_fresh_problems(here: Path, tacit: Any, tmp_path: Path) -> None:
    asked = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        tacit(
            "eval", "runs/tiny/no_cot", "--task", "multiplication", "--size", 9, "--seed", seed, "-o", tmp_path / name
        )
        asked[name] = [json.loads(line)["question"] for line in (tmp_path / name).read_text().splitlines()]
    assert asked["a"] == asked["b"] != asked["c"]


def test_other_options_of_the_task(here: Path, tacit: Any, tmp_path: Path) -> None:
    for words in (["--digits", "1x2"], ["--digits=1x2"]):
        result = tacit(
            *["eval", "runs/tiny/stepwise", "--task", "multiplication", *words],
            *["--size", 5, "-o", tmp_path / "p.jsonl", "--overwrite"],
        )
        assert result.status == 0, result.err
        for line in (tmp_path / "p.jsonl").read_text().splitlines():
            assert len(json.loads(line)["question"].split()) == 4


def test_the_held_out_problems_again(here: Path, tacit: Any, tmp_path: Path) -> None:
    """The same figures from a file as in the summary, in each format."""
    held_out = load_recipe("tiny.yaml").traces()[2]
    row = Run("runs/tiny").rows[1]
    for form in ("tacit", "icot"):
        write(held_out, tmp_path / form, form)
        words = ["eval", "runs/tiny/cot", "--data", tmp_path / form, "--from", form, "--json"]
        told = json.loads(tacit(*words).out)
        assert {key: told[key] for key in ("accuracy", "ci95", "n", "generated_tokens")} == {
            key: row[key] for key in ("accuracy", "ci95", "n", "generated_tokens")
        }
        assert told["batch_size"] == 40
        assert told["examples_per_second"] > 0


def test_the_gold_answer_counts(here: Path, tacit: Any, tmp_path: Path) -> None:
    run = Run("runs/tiny")
    first = run.predictions("stepwise")[0]
    write_jsonl([Trace(first["question"], (), "1 2 3 4", gold=first["answer"] or "0")], tmp_path / "gold.jsonl")
    told = json.loads(tacit("eval", "runs/tiny/stepwise", "--data", tmp_path / "gold.jsonl", "--json").out)
    assert told["accuracy"] == 1
    assert told["ci95"] == pytest.approx([0.2065, 1.0], abs=1e-4)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "give either --data FILE or --task NAME"),
        (["--task", "multiplication", "--data", "t.jsonl"], 2, "give either --data FILE or --task NAME"),
        (["--task", "multiplicaton"], 2, "unknown task 'multiplicaton'; did you mean 'multiplication'?"),
        (["--task", "custom"], 2, "task 'custom' has no generator"),
        (["--task", "multiplication", "--digitz", "3x3"], 2, "did you mean 'digits'?"),
        (["--task", "multiplication", "--digits"], 2, "--digits needs a value"),
        (["--task", "multiplication", "--digits", "4by4"], 2, "digits must look like 4x2"),
        (["--task", "multiplication", "--digits", "60x60", "--size", "3"], 1, "but the model has only"),
        (["--task", "multiplication", "3x3"], 2, "'3x3' was not expected"),
        (["--task", "multiplication", "--size", "0"], 2, "Invalid value for '--size'"),
        (["--task", "coin_flip", "--size", "3"], 1, "the tokenizer cannot represent 'A'"),
        (["--data", "nope.jsonl"], 1, "nope.jsonl: No such file or directory"),
        (["--data", "tiny.yaml"], 1, "tiny.yaml:2: not JSON"),
        (["--data", "tiny.yaml", "--bogus"], 2, "'--bogus' was not expected"),
        (["--data", "tiny.yaml", "--from", "gsm9k"], 2, "unknown format 'gsm9k'; did you mean 'gsm8k'?"),
        (["--task", "multiplication", "-o", "told.txt"], 1, "told.txt exists already"),
    ],
)
def test_evaluations_that_cannot_be_meant(here: Path, tacit: Any, words: list[str], status: int, message: str) -> None:
    before = (here / "told.txt").read_text()
    result = tacit("eval", "runs/tiny/stepwise", *words)
    assert (result.status, result.out) == (status, "")
    assert message in result.err
    assert (here / "told.txt").read_text() == before


def test_a_checkpoint_cut_short_is_no_traceback(here: Path, tacit: Any, tmp_path: Path) -> None:
    shutil.copytree("runs/tiny/stepwise", tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for words in (["ask", tmp_path / "cut", "12 * 34"], ["eval", tmp_path / "cut", "--task", "multiplication"]):
        result = tacit(*words)
        assert (result.status, result.out) == (1, "")
        assert "cannot load a language model" in result.err
        assert len(result.err.splitlines()) == 1


def test_who_grades_is_asked_for_and_told(here: Path, tacit: Any, tmp_path: Path) -> None:
    words = ["eval", "runs/tiny/cot", "--task", "multiplication", "--size", 3]
    for grader in ("flexible", "strict", "original"):
        told = json.loads(tacit(*words, "--grader", grader, "-o", tmp_path / grader, "--json").out)
        assert told["grader"] == grader
        assert {json.loads(line)["grader"] for line in (tmp_path / grader).read_text().splitlines()} == {grader}
    result = tacit(*words, "--grader", "strickt")
    assert (result.status, result.out) == (2, "")
    assert "unknown grader 'strickt'; did you mean 'strict'?" in result.err


def test_graders_differ_where_an_answer_is_in_a_sentence(tacit: Any, tmp_path: Path) -> None:
    """A student that was taught to answer in words: the flexible grader finds the yes in them."""
    write_jsonl([Trace(f"Is {n} even ?", (), "yes it is") for n in range(0, 16, 2)], tmp_path / "train.jsonl")
    write_jsonl([Trace(f"Is {n} even ?", (), "yes") for n in range(0, 16, 2)], tmp_path / "test.jsonl")
    recipe = yaml.safe_load(RECIPE)
    recipe |= {"task": "coin_flip", "methods": {"no_cot": {}}, "evaluation": {"grader": "strict", "speed_problems": 2}}
    recipe["train"] |= {"max_steps": 60, "learning_rate": 1e-2, "marker": ""}
    recipe["data"] = {"train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    result = tacit("run", tmp_path / "recipe.yaml", "-o", tmp_path / "run")
    assert result.status == 0, result.err
    assert "strict grader" in result.out
    assert Run(tmp_path / "run").rows[0]["accuracy"] == 0
    words = ["eval", tmp_path / "run" / "no_cot", "--data", tmp_path / "test.jsonl", "--json"]
    assert json.loads(tacit(*words).out)["accuracy"] == 1
    assert json.loads(tacit(*words, "--grader", "strict").out)["accuracy"] == 0


# --- compare ---------------------------------------------------------------------------------------------------------


def test_comparing(here: Path, tacit: Any) -> None:
    told = json.loads(tacit("compare", "runs/tiny", "--json").out)
    run = Run("runs/tiny")
    accuracy = {row["method"]: row["accuracy"] for row in run.rows}
    assert [(one["method"], one["against"]["method"], one["n"]) for one in told] == [
        ("stepwise", "no_cot", 40),
        ("cot", "no_cot", 40),
    ]
    for one in told:
        right, other = ([p["correct"] for p in run.predictions(name)] for name in (one["method"], "no_cot"))
        assert one["difference"] == pytest.approx(accuracy[one["method"]] - accuracy["no_cot"])
        assert {key: one[key] for key in ("difference", "ci95", "p")} == json.loads(
            json.dumps(asdict(paired([right], [other])))
        )
    shown = tacit("compare", "runs/tiny")
    assert shown.status == 0
    assert "Stepwise Internalization" in shown.out
    assert "Differences in percentage points" in shown.out
    lines = [line for line in tacit("compare", "runs/tiny", "--against", "cot").out.splitlines() if "CoT" in line]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "Missing argument"),
        (["nowhere"], 1, "nowhere: no such run folder"),
        (["runs"], 1, "runs: no run folder, or a run that has not finished"),
        (["runs/tiny", "--against", "socratic"], 1, "no method 'socratic' to compare with (there are: stepwise, cot"),
        (["runs/tiny", "--against", "runs/other/cot"], 1, "no method 'runs/other/cot' to compare with"),
    ],
)
def test_comparisons_that_cannot_be(here: Path, tacit: Any, words: list[str], status: int, message: str) -> None:
    result = tacit("compare", *words)
    assert (result.status, result.out) == (status, "")
    assert message in result.err


def test_a_run_that_varies_a_key(here: Path, tacit: Any, tmp_path: Path) -> None:
    vary = ["train.max_steps=null", "vary.train.max_steps=[2, 4]", "seeds=[3, 4]"]
    methods = "methods={cot: {}, no_cot: {max_steps: 3}, random: {}}"
    result = tacit("run", "tiny.yaml", *vary, methods, "-o", tmp_path / "run")
    assert result.status == 0, result.err
    assert "train.max_steps" in result.out.splitlines()[1]
    ask = shlex.split(next(line for line in result.out.splitlines() if line.startswith("Ask it: ")))
    folders = {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()}
    assert folders == {
        *(f"cot-max_steps{steps}-seed{seed}" for steps in (2, 4) for seed in (3, 4)),
        *("no_cot-seed3", "no_cot-seed4", "random-seed3"),
    }
    assert Path(ask[-2]).name in folders
    told = json.loads(tacit("compare", tmp_path / "run", "--json").out)
    assert [(one["method"], one.get("varied"), one["seeds"]) for one in told] == [
        ("cot", {"train.max_steps": 2}, [3, 4]),
        ("cot", {"train.max_steps": 4}, [3, 4]),
        ("random", None, [3]),
    ]
    assert [len(one["by_seed"]) for one in told] == [2, 2, 0]
    shown = tacit("compare", tmp_path / "run").out
    assert "Explicit CoT, max_steps 4" in shown
    names = [re.split(r"  +", line.strip())[0] for line in result.out.splitlines()]
    named = [name for name in names if name in NAMES.values()]
    assert named == ["Explicit CoT"] * 4 + ["No CoT"] * 2 + ["Random guessing"], "seeds of a method stand together"


# --- report ----------------------------------------------------------------------------------------------------------


def test_reports(here: Path, tacit: Any, tmp_path: Path) -> None:
    one, two = tmp_path / "new" / "one.html", tmp_path / "two.html"
    result = tacit("report", "runs/tiny", "-o", one)
    assert (result.status, result.out.strip()) == (0, str(one))
    assert tacit("report", "runs/tiny", "runs/tiny", "-o", two).status == 0
    assert two.stat().st_size > one.stat().st_size
    before = one.read_text()
    result = tacit("report", "runs/tiny", "runs/tiny", "-o", one)
    assert (result.status, result.out) == (1, "")
    assert "exists already; choose another name, or add --overwrite" in result.err
    assert one.read_text() == before
    assert tacit("report", "runs/tiny", "runs/tiny", "-o", one, "--overwrite").status == 0
    assert one.read_text() == two.read_text()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["-o", "r.html"], 2, "Missing argument"),
        (["runs/tiny"], 2, "Missing option"),
        (["runs", "-o", "r.html"], 1, "runs: no run folder, or a run that has not finished"),
        (["nowhere", "-o", "r.html"], 1, "nowhere: no such run folder"),
        (["runs/tiny", "-o", "told.txt/r.html"], 1, "told.txt"),
    ],
)
def test_reports_that_cannot_be(here: Path, tacit: Any, words: list[str], status: int, message: str) -> None:
    result = tacit("report", *words)
    assert (result.status, result.out) == (status, "")
    assert message in result.err
    assert not (here / "r.html").exists()


# --- Socratic CoT ----------------------------------------------------------------------------------------------------

SOCRATIC = """
task: word_problems
data: {steps: 2-3, distractors: 0, train: 900, validation: 4, test: 6, seed: 1}
model: {architecture: gpt2, config: {n_layer: 1, n_embd: 32, n_head: 2}}
train: {max_steps: 2, per_device_train_batch_size: 8, logging_steps: 1}
methods: {no_cot: {}, socratic: {guidance: operators}, oracle: {}}
evaluation: {speed_problems: 2, batch_size: 4}
"""


@pytest.fixture(scope="module")
def pair_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of planner, decomposer and solver, its test problems, and what was told."""
    path = tmp_path_factory.mktemp("pair")
    (path / "pair.yaml").write_text(SOCRATIC)
    told = {"out": io.StringIO(), "err": io.StringIO()}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(told["out"]), redirect_stderr(told["err"]):
        patch.chdir(path)
        patch.setattr(sys, "argv", ["tacit", "run", "pair.yaml"])
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code, told["err"].getvalue()
    for name, text in told.items():
        (path / f"{name}.txt").write_text(text.getvalue())
    write_jsonl(load_recipe(path / "pair.yaml").traces()[2], path / "test.jsonl")
    return path


@pytest.fixture
def pair(pair_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(pair_home)
    return pair_home


def test_a_socratic_run_names_methods_and_students(pair: Path, tacit: Any) -> None:
    lines = (pair / "out.txt").read_text().splitlines()
    table = {name: cells for name, *cells in (re.split(r"  +", line.strip()) for line in lines)}
    assert table["Socratic, gold questions"][-4:] == ["-"] * 4, "no speed and no training of its own"
    assert table["Socratic CoT"][-2] == "6", "the steps of three students"
    assert "-" not in table["Socratic CoT"]
    assert " ask runs/pair/socratic " in (pair / "out.txt").read_text()
    lines = (pair / "err.txt").read_text().splitlines()
    told = [line.partition("  ")[0] for line in lines if line.startswith("socratic")]
    told = [line for line in told if "parameters" not in line and "step 1/2" not in line]
    students = ("decomposer", "solver", "planner")
    assert told[:7] == [
        *(f"socratic/{name}: {what}" for name in students for what in ("preparing data", "step 2/2")),
        "socratic: evaluating on 6 problems",
    ]
    shown = tacit("compare", "runs/pair", "--against", "socratic").out
    assert "Socratic, gold questions" in shown


def test_asking_a_pair_shows_the_dialogue(pair: Path, tacit: Any) -> None:
    pipeline = Run("runs/pair").student("socratic")
    typed = Run("runs/pair").predictions("socratic")[0]["shown_question"]
    steps = load_recipe("pair.yaml").traces()[0][0].steps  # in words that the students know
    asked = [pipeline.task.show_question(step.question or "") for step in steps]
    words = ["ask", "runs/pair/socratic", typed, "-q", asked[0], *(f"--sub-question={each}" for each in asked[1:])]
    for given, said in ((["ask", "runs/pair/socratic", typed], pipeline.ask(typed)), (words, None)):
        said = said or pipeline.ask(typed, asked)
        shown = tacit(*given)
        assert shown.status == 0, shown.err
        lines = shown.out.splitlines()
        assert lines[-1] == said.shown
        assert sum(line.startswith("A  ") for line in lines) == len(said.turns)
        assert [line[3:] for line in lines if line.startswith("Q  ")] == [
            pipeline.task.show_question(turn.question) for turn in said.turns
        ]
        assert [line.partition(":")[0] for line in lines if line.startswith("!  ")] == [
            f"!  {note}" for note in dict.fromkeys(said.notes)
        ]
        told = json.loads(tacit(*given, "--json").out)
        assert list(told) == ["question", "answer", "text", "plan", "turns", "notes", "reasoning_tokens"]
        assert told["turns"] == [turn._asdict() for turn in said.turns]
        assert (told["answer"], told["plan"], told["notes"]) == (said.shown, said.plan, said.notes)
        assert tacit(*given, "--text").out.strip() == said.text.strip()
    assert [line for line in lines if line.startswith("Q  ")] == [f"Q  {question}" for question in asked]


def test_evaluating_a_pair(pair: Path, tacit: Any, tmp_path: Path) -> None:
    words = ["eval", "runs/pair/socratic", "--data", "test.jsonl"]
    told = json.loads(tacit(*words, "--json", "-o", tmp_path / "p.jsonl").out)
    (row,) = [row for row in Run("runs/pair").rows if row["method"] == "socratic"]
    assert {key: told[key] for key in ("accuracy", "dialogues")} == {
        key: row[key] for key in ("accuracy", "dialogues")
    }
    assert "gold_history" in told["dialogues"]
    assert "turns" in json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])
    lines = tacit(*words, "--calculator").out.splitlines()
    assert {"exact match", "speed", "sub-questions", "steps right", "with gold history"} & {
        line[:18].rstrip() for line in lines
    } >= {"exact match", "speed", "sub-questions", "with gold history"}
    assert all(line[17] == " " and line[18] != " " for line in lines), "texts stand below each other"

    (gold,) = [row for row in Run("runs/pair").rows if row["method"] == "oracle"]
    for source in ("gold", "test.jsonl"):
        told = json.loads(tacit(*words, "--questions", source, "--json").out)
        assert told["dialogues"] == gold["dialogues"]
        assert told["dialogues"]["same_questions"]["share"] == 1
        assert "examples_per_second" not in told, "it would be another way's"
    told = json.loads(tacit(*words, "--gold-plan", "--json").out)
    assert told["dialogues"]["n"] == 6


def test_a_pair_asked_what_cannot_be_meant(pair: Path, tacit: Any, tmp_path: Path) -> None:
    traces = read_jsonl("test.jsonl")
    write_jsonl(traces[:2], tmp_path / "two.jsonl")
    write_jsonl([Trace(trace.question, (), trace.label) for trace in traces], tmp_path / "bare.jsonl")
    shutil.copytree("runs/pair/socratic", tmp_path / "unguided")
    info = json.loads((tmp_path / "unguided" / "tacit.json").read_text())
    info["wording"]["guidance"] = "none"
    (tmp_path / "unguided" / "tacit.json").write_text(json.dumps(info))
    plain, both, bare = "runs/pair/no_cot", "runs/pair/socratic", tmp_path / "bare.jsonl"
    for words, status, message in (
        (["ask", plain, traces[0].question, "-q", "What?"], 2, "--sub-question goes with students of Socratic CoT"),
        (["ask", both, traces[0].question, "-q", "zweiundvierzig?"], 1, "the tokenizer cannot represent"),
        (["ask", both, ""], 1, ""),
        (["eval", plain, "--data", bare, "--questions", "gold"], 2, "go with students of Socratic CoT"),
        (["eval", plain, "--data", bare, "--gold-plan"], 2, "go with students of Socratic CoT"),
        (["eval", both, "--data", bare, "--gold-plan", "--questions", "gold"], 2, "exclude each other"),
        (["eval", tmp_path / "unguided", "--data", bare, "--gold-plan"], 2, "was trained with guidance"),
        (["eval", both, "--data", bare, "--gold-plan"], 1, "6 of 6 problems have no steps"),
        (
            ["eval", both, "--data", bare, "--questions", "gold"],
            1,
            "--questions gold: there are no sub-questions",
        ),
        (
            ["eval", both, "--data", bare, "--questions", tmp_path / "two.jsonl"],
            1,
            "two.jsonl: there are no sub-questions for 4 of 6 problems, such as trace",
        ),
        (["eval", both, "--data", bare, "--questions", "nope.jsonl"], 1, "nope.jsonl: No such file"),
    ):
        result = tacit(*words)
        assert (result.status, result.out) == (status, ""), words
        assert message in result.err, words
        if status == 1:
            assert len(result.err.splitlines()) == 1
    shown = tacit("eval", both, "--data", bare)
    assert shown.status == 0, shown.err
    assert "steps right" not in shown.out, "nothing to compare with"


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_from_made_traces_to_an_answer(tacit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of somebody with a file of her own, command by command."""
    monkeypatch.chdir(tmp_path)
    assert tacit("data", "make", "coin_flip", "--flips", 2, "--size", 90, "-o", "coins.jsonl").status == 0
    split = ["data", "split", "coins.jsonl", "--test", 0.2, "--seed", 0, "-o", "parts"]
    assert tacit(*split).status == 0
    recipe: dict[str, Any] = yaml.safe_load(RECIPE)
    del recipe["task"]
    recipe["data"] = {"train": "parts/train.jsonl", "test": "parts/test.jsonl"}
    recipe["methods"] = {"stepwise": {"removal_per_epoch": 10}}
    Path("coins.yaml").write_text(yaml.safe_dump(recipe))
    result = tacit("run", "coins.yaml")
    assert result.status == 0, result.err
    assert "custom: n = " in result.out
    question = read_jsonl("parts/test.jsonl")[0].question
    assert f" ask runs/coins/stepwise {shlex.quote(question)}" in result.out
    assert tacit("ask", "runs/coins/stepwise", question).status == 0
    assert tacit("eval", "runs/coins/stepwise", "--data", "parts/test.jsonl").status == 0
    result = tacit("ask", "runs/coins/stepwise", "Is it still heads up, Mallory?")
    assert (result.status, result.out) == (1, "")
    assert "the tokenizer cannot represent" in result.err
