"""The command line's shell, `tacit tasks`, `tacit env` and `tacit data`."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase
from typer.testing import CliRunner, Result

import tacit.cli
from tacit.cli.shell import extra_options
from tacit.environment import environment
from tacit.errors import TacitError
from tacit.formats import read
from tacit.models import word_tokenizer
from tacit.rendering import CHAT, TEMPLATES, get_template, render
from tacit.tasks import TASKS, get_task
from tacit.trace import read_jsonl, write_jsonl

GOOD = '{"question": "2 + 2", "steps": ["2 and 2 is 4"], "answer": "4"}'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tacit_(*words: str) -> Result:
    result = CliRunner().invoke(tacit.cli.app, list(words), prog_name="tacit")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def process(*words: str, **settings) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tacit", *words]
    return subprocess.run(command, text=True, timeout=60, **{"capture_output": True, **settings})


def fails(status: int, *words: str) -> str:
    """The one line on stderr of a command that must fail with this status."""
    result = tacit_(*words)
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    return result.stderr


def make(*words: str, output: str = "made.jsonl") -> list:
    result = tacit_("data", "make", *words, "-o", output)
    assert result.exit_code == 0, result.output
    return read_jsonl(output)


# --- the shell -------------------------------------------------------------------------------------------------------


def test_the_command_line_imports_no_heavy_library() -> None:
    code = "import sys, tacit.cli; print(*{'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


def test_every_help_answers_and_fits_80_columns() -> None:
    for words in (
        [],
        ["tasks"],
        ["env"],
        ["data"],
        *(["data", name] for name in ("make", "load", "convert", "check", "split")),
    ):
        result = tacit_(*words, "--help")
        assert result.exit_code == 0
        assert max(map(len, result.stdout.splitlines())) <= 80


def test_help_of_make_shows_the_options_of_each_task() -> None:
    help = tacit_("data", "make", "multiplication", "--help").stdout
    for task in TASKS.values():
        for name, option in task.options.items():
            assert f"--{name} {option.default}" in help


def test_version() -> None:
    assert tacit_("--version").stdout == f"tacit {environment()['versions']['tacit']}\n"


@pytest.mark.parametrize("words", [["nonsense"], ["data", "nonsense"], ["tasks", "--nonsense"], ["data", "check"], []])
def test_usage_errors_have_status_2(words: list[str]) -> None:
    result = tacit_(*words)
    assert result.exit_code == 2
    assert "Usage: tacit" in result.output


def test_bad_input_through_the_real_process() -> None:
    Path("empty.jsonl").touch()
    done = process("data", "check", "empty.jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: empty.jsonl: no traces in this file\n"


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")


@needs_full
@pytest.mark.parametrize("words", [["tasks"], ["--help"], ["data", "--help"]])
def test_full_disk_behind_stdout(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = process(*words, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "error: cannot write the output: No space left on device\n"


@needs_full
def test_full_disk_behind_output() -> None:
    error = fails(1, "data", "make", "multiplication", "--size", "1000", "-o", "/dev/full")
    assert error == "error: cannot write /dev/full: No space left on device\n"


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_closed_pipe_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = process("tasks", capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("told", "said"), [((), "interrupted"), (("stopped; go on with X",), "stopped; go on with X")]
)
def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, told: tuple[str, ...], said: str) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt(*told)

    monkeypatch.setattr(tacit.cli.data, "write", interrupt)
    result = tacit_("data", "make", "multiplication", "--size", "3", "-o", "x.jsonl")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", f"{said}\n")


def test_json_is_all_of_stdout() -> None:
    done = process("env", "--json")
    found = json.loads(done.stdout)
    assert {"python", "tacit", "torch", "transformers"} <= set(found["versions"])
    assert {"cpu", "cores", "memory_gib", "gpus"} == set(found["hardware"])
    assert done.stderr == ""


def test_env_for_people() -> None:
    shown = tacit_("env").stdout
    assert f"torch         {environment()['versions']['torch']}" in shown
    assert "cores" in shown or "core" in shown


def test_extra_options() -> None:
    assert extra_options(["--digits", "-3x2", "--two-words=a=b"]) == {"digits": "-3x2", "two_words": "a=b"}
    for words in (["4x2"], ["--digits"], ["--digits", "--ordered", "true"], ["-x", "1"]):
        with pytest.raises(TacitError):
            extra_options(words)


# --- tasks -----------------------------------------------------------------------------------------------------------


def test_tasks_for_people_and_programs() -> None:
    shown = tacit_("tasks").stdout
    listed = json.loads(tacit_("tasks", "--json").stdout)
    assert [task["name"] for task in listed] == list(TASKS)
    for task in listed:
        assert task["name"] in shown
        assert task["licence"] in shown
        assert task["example"]
        for name in task["options"]:
            assert f"--{name}" in shown
    assert listed[0]["published"] is None
    gsm8k = next(task for task in listed if task["name"] == "gsm8k")
    assert gsm8k["published"] == {
        "total": 8792,
        "train": 7473,
        "test": 1319,
        "files": [["train.jsonl", "test.jsonl"]],
        "hub": "openai/gsm8k",
    }
    assert gsm8k["answer_format"] == "number"
    assert max(map(len, shown.splitlines())) <= 80
    assert len(shown.splitlines()) < 100


# --- make ------------------------------------------------------------------------------------------------------------


def test_make_is_what_the_task_makes() -> None:
    made = make("multiplication", "--digits", "3x2", "--size", "50", "--seed", "7")
    assert made == get_task("multiplication").make(50, 7, digits="3x2")
    assert made == make("multiplication", "--digits=3x2", "--size=50", "--seed=7", output="again.jsonl")
    assert made != make("multiplication", "--digits", "3x2", "--size", "50", output="seed-0.jsonl")
    assert len(make("coin_flip", "--flips", "2", "--size", "5", output="new/folder/coin.jsonl")) == 5


def test_make_in_another_format() -> None:
    assert tacit_("data", "make", "multiplication", "--size", "5", "--to", "icot", "-o", "m.txt").exit_code == 0
    asked = [trace.question for trace in get_task("multiplication").make(5, 0)]
    assert [trace.question for trace in read("m.txt", "icot")] == asked


@pytest.mark.parametrize("digits", ["0x4", "4by4", "-3x2", "4x2,", "101x2"])
def test_make_refuses_bad_digits(digits: str) -> None:
    for words in (["--digits", digits], [f"--digits={digits}"]):
        error = fails(2, "data", "make", "multiplication", *words, "--size", "5", "-o", "x.jsonl")
        assert f"got {digits!r}" in error
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["multiplicatin"], 2, "unknown task 'multiplicatin'; did you mean 'multiplication'?"),
        (["multiplication", "--digit", "4x2"], 2, "'--digit'; did you mean '--digits'?"),
        (["multiplication", "--sede", "4"], 2, "'--sede'; did you mean '--seed'?"),
        (["multiplication", "--digits"], 2, "--digits needs a value"),
        (["multiplication", "4x2"], 2, "'4x2' was not expected"),
        (["--digits", "4x2", "multiplication"], 2, "the task comes first"),
        (["coin_flip", "--flips", "many"], 2, "flips must be a whole number"),
        (["shuffled_objects", "--objects", "13"], 2, "objects must be a whole number from 2 to 12"),
        (["svamp"], 2, "svamp is not generated but published: tacit data load svamp -o FILE"),
        (["multiplication", "--to", "icto"], 2, "unknown format 'icto'; did you mean 'icot'?"),
        (["multiplication", "--digits", "1x1", "--size", "46"], 1, "only 45 distinct 1x1 problems exist"),
    ],
)
def test_make_refuses(words: list[str], status: int, said: str) -> None:
    assert said in fails(status, "data", "make", "--size", "5", "-o", "new/x.jsonl", *words)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("size", ["0", "-1", "many"])
def test_make_refuses_sizes(size: str) -> None:
    assert tacit_("data", "make", "multiplication", "--size", size, "-o", "x.jsonl").exit_code == 2


def test_output_that_exists_stays_unless_told_otherwise() -> None:
    Path("kept.jsonl").write_text(GOOD)
    words = "data", "make", "multiplication", "--size", "5", "-o", "kept.jsonl"
    assert "kept.jsonl exists already" in fails(1, *words)
    assert Path("kept.jsonl").read_text() == GOOD
    assert tacit_(*words, "--overwrite").exit_code == 0
    assert len(read_jsonl("kept.jsonl")) == 5


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout on this system")
def test_output_into_a_pipe() -> None:
    before = os.readlink("/dev/stdout")
    done = process("data", "make", "multiplication", "--size", "3", "-o", "/dev/stdout")
    assert [json.loads(line)["source"]["task"] for line in done.stdout.splitlines()] == ["multiplication"] * 3
    assert "3 traces of multiplication" in done.stderr
    assert os.readlink("/dev/stdout") == before


# --- load ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def multiarith(folder: Path) -> list[dict[str, str]]:
    """As many problems as the pool has, but not those of the pool."""
    records = [{"question": f"{number} bags of 2?", "answer": str(2 * number)} for number in range(600)]
    Path("train.json").write_text(json.dumps(records))
    return records


def test_load_writes_what_the_task_loads(multiarith: list[dict[str, str]]) -> None:
    result = tacit_("data", "load", "multiarith", "train.json", "-o", "new/all.jsonl")
    assert (result.exit_code, result.stdout) == (0, "new/all.jsonl: 600 problems of multiarith, all\n")
    traces = read_jsonl("new/all.jsonl")
    assert traces == get_task("multiarith").load("train.json")
    assert [(trace.question, trace.answer) for trace in traces] == [tuple(r.values()) for r in multiarith]
    words = "data", "load", "MultiArith", "train.json", "--split", "given"
    assert tacit_(*words, "--part", "train", "-o", "train.jsonl").exit_code == 0
    assert read_jsonl("train.jsonl") == traces
    assert tacit_(*words, "--shots", "8", "-o", "shots.jsonl").exit_code == 0
    assert read_jsonl("shots.jsonl") == get_task("multiarith").shots(traces, 8)
    assert "train.json holds no problems to test on, given split" in fails(
        1, *words, "--part", "test", "-o", "x.jsonl"
    )
    assert "shots.jsonl exists already" in fails(1, *words, "-o", "shots.jsonl")


@pytest.mark.shared
def test_load_splits_as_the_paper_does(shared: Path) -> None:
    source = str(shared / "data" / "zero_shot_cot" / "MultiArith" / "MultiArith.json")
    stored = json.loads((shared / "data" / "fine-tune-cot-splits" / "multiarith__template.json").read_text())
    for part in ("train", "test"):
        words = "data", "load", "multiarith", source, "--part", part, "--split", "template", "-o", f"{part}.jsonl"
        assert tacit_(*words).exit_code == 0
        ids = [trace.id for trace in read_jsonl(f"{part}.jsonl")]
        assert ids == [f"multiarith-{index}" for index in stored[part]]
    assert tacit_("data", "check", "train.jsonl").exit_code == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["svam"], 2, "unknown task 'svam'; did you mean 'svamp'?"),
        (["multiplication"], 2, "multiplication is not published; choose from: coin_flip"),
        (["custom"], 2, "custom is not published"),
        (["multiarith", "--part", "tset"], 2, "unknown part 'tset'; did you mean 'test'?"),
        (["multiarith", "--split", "templates"], 2, "unknown split 'templates'; did you mean 'template'?"),
        (["multiarith", "--shots", "8", "--part", "test"], 2, "--shots takes problems of the train part"),
        (["multiarith", "train.json", "--part", "train"], 1, "counts the problems in the order of the paper"),
        (["multiarith", "train.json", "--split", "given", "--shots", "601"], 1, "601 of 600 problems"),
        (["svamp", "train.json", "--part", "test", "--split", "template"], 1, "the template split of svamp counts"),
        (["multiarith", "./nowhere.json"], 1, "./nowhere.json: no such file or folder"),
        (["single_eq"], 1, "single_eq has no usual name on the Hub"),
    ],
)
def test_load_refuses(multiarith: object, words: list[str], status: int, said: str) -> None:
    assert said in fails(status, "data", "load", *words, "-o", "new/x.jsonl")
    assert not Path("new").exists()


# --- convert ---------------------------------------------------------------------------------------------------------


def test_convert_there_and_back_names_rule_and_task() -> None:
    lines = "3 2 * 5||0 5 1 #### 5 1 1\n1 1 * 2 1||2 2 0 + 0 1 1 0 #### 2 3 1 0\n"
    Path("a.txt").write_text(lines)
    words = "data", "convert", "a.txt", "--from", "icot", "--task", "multiplication", "-o", "deep/a.jsonl"
    said = tacit_(*words).stdout
    assert said == "deep/a.jsonl: 2 traces; split into steps by: terms (2 traces)\n"
    traces = read_jsonl("deep/a.jsonl")
    assert [(trace.source or {})["task"] for trace in traces] == ["multiplication"] * 2
    assert len(traces[1].steps) == 2
    assert tacit_("data", "convert", "deep/a.jsonl", "--from", "tacit", "--to", "icot", "-o", "b.txt").exit_code == 0
    assert Path("b.txt").read_text() == lines


def test_convert_refuses_what_does_not_fit_the_task() -> None:
    Path("own.jsonl").write_text(f"{GOOD}\n")
    error = fails(1, "data", "convert", "own.jsonl", "--from", "tacit", "--task", "multiplication", "-o", "x.jsonl")
    assert "own.jsonl, trace 1 " in error
    assert "not a multiplication question" in error
    assert "did you mean" in fails(2, "data", "convert", "own.jsonl", "--from", "tacti", "-o", "x.jsonl")
    assert "did you mean" in fails(
        2, "data", "convert", "own.jsonl", "--from", "tacit", "--to", "ict", "-o", "x.jsonl"
    )
    assert "did you mean" in fails(
        2, "data", "convert", "own.jsonl", "--from", "tacit", "--task", "coin_flop", "-o", "x.jsonl"
    )


def test_convert_to_a_format_that_cannot_carry_it() -> None:
    Path("own.jsonl").write_text(GOOD.replace("2 + 2", "a || b") + "\n")
    assert "'||'" in fails(1, "data", "convert", "own.jsonl", "--from", "tacit", "--to", "icot", "-o", "x.txt")
    assert not Path("x.txt").exists()


# --- split -----------------------------------------------------------------------------------------------------------


def test_split_leaks_no_problem() -> None:
    get = get_task("multiplication")
    traces = get.make(400, 0, digits="2x2", ordered=True)
    write_jsonl(traces, "all.jsonl")
    assert tacit_("data", "split", "all.jsonl", "--test", "0.25", "--seed", "3", "-o", "new/parts").exit_code == 0
    train, test = read_jsonl("new/parts/train.jsonl"), read_jsonl("new/parts/test.jsonl")
    assert len(train) + len(test) == 400
    assert not {get.problem(trace.question) for trace in train} & {get.problem(trace.question) for trace in test}
    assert "train.jsonl exists already" in fails(1, "data", "split", "all.jsonl", "--test", "0.5", "-o", "new/parts")


def test_split_knows_the_task_by_name_too() -> None:
    Path("pairs.txt").write_text("".join(f"{a} * {b}||1 #### 1\n" for a, b in ("12", "21", "34", "43")))
    for words, size in (([], 2), (["--task", "multiplication"], 2)):
        output = f"parts{len(words)}"
        tacit_("data", "split", "pairs.txt", "--from", "icot", "--test", "0.5", "-o", output, *words)
        assert len(read_jsonl(f"{output}/test.jsonl")) == size
    kept_together = {tuple(sorted(trace.question.split(" * "))) for trace in read_jsonl("parts2/test.jsonl")}
    assert len(kept_together) == 1


@pytest.mark.parametrize(("share", "status"), [("0", 2), ("1", 2), ("-0.5", 2), ("nan", 2), ("0.001", 1)])
def test_split_refuses_shares(share: str, status: int) -> None:
    make("coin_flip", "--size", "20")
    assert "test share" in fails(status, "data", "split", "made.jsonl", "--test", share, "-o", "parts")
    assert not Path("parts").exists()


# --- check -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "bad.jsonl: no traces in this file"),
        ("\n \n", "bad.jsonl: no traces in this file"),
        ("1 * 2||2 #### 2\n", "the file looks like another format: try --from icot"),
        ('{"question": "a", "answer": "b\\n#### 4"}', "the file looks like another format: try --from gsm8k\n"),
        ('{"question": "a", "answer": "b ** c\\n#### 4"}', "try --from gsm8k-socratic"),
    ],
)
def test_check_refuses_files(content: str, said: str) -> None:
    Path("bad.jsonl").write_text(content)
    assert said in fails(1, "data", "check", "bad.jsonl")


BAD_LINES = {
    "hello": "not JSON",
    "[1]": "expected a JSON object",
    '{"question": "a", "steps": []}': "field 'answer' is missing",
    '{"question": 3, "steps": [], "answer": "b"}': "field 'question': expected a string",
    '{"question": "a", "steps": "b", "answer": "c"}': "field 'steps' expected a list",
    '{"question": "a", "steps": [], "answr": "c"}': "unknown field 'answr'; did you mean 'answer'?",
}


@pytest.mark.parametrize("line", BAD_LINES)
@pytest.mark.parametrize("before", [[], [GOOD, ""]])
def test_check_shows_the_line_that_cannot_be_read(line: str, before: list[str]) -> None:
    Path("bad.jsonl").write_text("\n".join([*before, line]))
    result = tacit_("data", "check", "bad.jsonl")
    assert (result.exit_code, result.stderr) == (1, "")
    assert f"problem: bad.jsonl:{len(before) + 1}: {BAD_LINES[line]}" in result.stdout
    assert result.stdout.endswith("Not ready for training: 1 line cannot be read.\n")


def test_check_lists_every_line_that_cannot_be_read() -> None:
    lines = [GOOD, *BAD_LINES, GOOD, *["[1]"] * 40, "", GOOD, "\udcff"]
    Path("bad.jsonl").write_text("\n".join(lines), "utf-8", "surrogateescape")
    result = tacit_("data", "check", "bad.jsonl", "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (facts["traces"], facts["ok"], facts["problems"]) == (3, False, [])
    assert [problem["line"] for problem in facts["unread"]] == [*range(2, 8), *range(9, 49), 51]
    assert facts["unread"][-1]["problem"].startswith("not UTF-8 text")
    shown = tacit_("data", "check", "bad.jsonl").stdout
    assert "problem: bad.jsonl:3, 9-48: expected a JSON object" in shown
    assert "bad.jsonl:51: not UTF-8 text" in shown
    assert shown.endswith("Not ready for training: 47 lines cannot be read.\n")


def test_check_refuses_what_is_not_there() -> None:
    assert "nowhere.jsonl: No such file" in fails(1, "data", "check", "nowhere.jsonl")
    assert ".: Is a directory" in fails(1, "data", "check", ".")
    assert "unknown format 'gsmk'; did you mean 'gsm8k'?" in fails(2, "data", "check", ".", "--from", "gsmk")
    make("coin_flip", "--size", "3")
    assert "tokenizer_config.json is missing" in fails(1, "data", "check", "made.jsonl", "--model", ".")


def test_check_shows_data_as_the_model_sees_it() -> None:
    make("multiplication", "--size", "300")
    facts = json.loads(tacit_("data", "check", "made.jsonl", "--json").stdout)
    assert facts["ok"]
    assert facts["traces"] == 300
    assert facts["steps"] == {"min": 2, "median": 2, "p95": 2, "max": 2}
    assert facts["tokens"]["chain"]["max"] == 12
    assert not any(facts["notes"].values())
    first = read_jsonl("made.jsonl")[0]
    segments = {segment["segment"]: segment for segment in facts["first"]["segments"]}
    assert list(segments) == ["prompt", "step 1", "step 2", "answer", "end"]
    assert " ".join(segments["prompt"]["tokens"]) == f"{first.question} ->"
    assert " ".join(segments["step 2"]["tokens"]) == first.steps[1].text
    assert " ".join(segments["answer"]["tokens"]) == f"#### {first.answer}"
    assert [segment["target"] for segment in segments.values()] == [False, True, True, True, True]
    shown = tacit_("data", "check", "made.jsonl").stdout
    assert f"#### {first.answer}" in shown
    assert shown.endswith("Ready for training.\n")


def test_check_tells_what_socratic_cot_makes_of_sub_questions() -> None:
    echo = [{"text": "Who?", "question": "Who?"}, {"text": "Is #1?", "question": "Is #1?", "answer": "yes"}]
    marked = [{"text": "3", "question": "x Q: y ?"}]
    records = [{"question": f"{n}?", "steps": steps, "answer": "yes"} for n, steps in enumerate((echo, marked))]
    Path("own.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    result = tacit_("data", "check", "own.jsonl")
    assert (
        "note: sub-questions without answers, which Socratic CoT teaches the decomposer alone: 1 of 2" in result.stdout
    )
    assert "note: a sub-question with a 'Q:' of its own, which Socratic CoT refuses: 1 of 2 (trace 2)" in result.stdout


def test_check_finds_what_is_odd_and_what_is_wrong() -> None:
    records = [
        {"question": "2 + 2", "steps": ["4"], "answer": "4"},
        {"question": "2 + 2", "steps": ["4"], "answer": "5", "gold": "4"},
        {"question": "2  +  2", "steps": [], "answer": "4"},
        {"question": "12 * 3", "steps": ["x"], "answer": "36", "source": {"task": "multiplication"}},
        {"question": "what is <eos>", "steps": ["x"], "answer": "y"},
    ]
    Path("own.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    result = tacit_("data", "check", "own.jsonl", "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 1
    assert facts["notes"] == {
        "same_question": [2],
        "same_problem": [3],
        "no_steps": [3],
        "unanswered": [],
        "echoed": [],
        "marked": [],
        "open_reference": [],
        "answer_not_gold": [2],
        "question_not_of_task": [4],
    }
    assert [(problem["trace"], problem["problem"]) for problem in facts["problems"]] == [
        (5, "the text holds the special token '<eos>'")
    ]
    shown = tacit_("data", "check", "own.jsonl")
    assert shown.exit_code == 1
    assert "own.jsonl, trace 5 (id " in shown.stdout
    assert shown.stdout.endswith("Not ready for training: 1 of 5 traces cannot be trained on.\n")


@pytest.fixture
def small_model() -> Callable[..., str]:
    def save(positions: int | None, **changes: object) -> str:
        tokenizer = word_tokenizer(["2 + 3 4 and is -> ####"])
        for name, value in changes.items():
            setattr(tokenizer, name, value)
        tokenizer.save_pretrained("model")
        if positions:
            Path("model/config.json").write_text(json.dumps({"model_type": "gpt2", "n_positions": positions}))
        return "model"

    return save


def test_check_with_a_model(small_model: Callable[..., str]) -> None:
    longer = GOOD.replace("is 4", "is 2 + 2 is 4")
    unknown = GOOD.replace("2 + 2", "2 × 2")
    Path("own.jsonl").write_text(f"{GOOD}\n{longer}\n{unknown}\n")
    result = tacit_("data", "check", "own.jsonl", "--model", small_model(14), "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 1
    assert facts["tokenizer"] == {"name": "model", "size": 11, "positions": 14}
    assert [(problem["trace"], problem["problem"]) for problem in facts["problems"]] == [
        (2, "16 tokens, but the model has only 14 positions"),
        (3, "the tokenizer cannot represent '×'"),
    ]


def test_check_with_a_tokenizer_alone_and_one_without_end(small_model: Callable[..., str]) -> None:
    Path("own.jsonl").write_text(f"{GOOD}\n")
    assert tacit_("data", "check", "own.jsonl", "--model", small_model(None)).exit_code == 0
    error = fails(1, "data", "check", "own.jsonl", "--model", small_model(None, eos_token=None))
    assert error == "error: the tokenizer has no end-of-sequence token\n"


def test_check_writes_by_the_named_template(small_model: Callable[..., str]) -> None:
    Path("own.jsonl").write_text(f"{GOOD}\n")
    facts = json.loads(tacit_("data", "check", "own.jsonl", "--template", "fine-tune-cot", "--json").stdout)
    segments = {segment["segment"]: " ".join(segment["tokens"]) for segment in facts["first"]["segments"]}
    assert segments == {"prompt": "2 + 2 ###", "step 1": "2 and 2 is 4", "answer": "--> 4", "end": "<eos>"}
    assert facts["template"] == "fine-tune-cot"
    model = small_model(14)
    shown = tacit_("data", "check", "own.jsonl", "--template", "fine-tune-cot", "--model", model)
    assert "the tokenizer cannot represent '###'" in shown.stdout
    assert tacit_("data", "check", "own.jsonl", "--model", model).exit_code == 0
    for words in ([], ["--model", model]):
        assert "needs a model whose tokenizer has a chat template" in fails(
            1, "data", "check", "own.jsonl", "--template", "chat", *words
        )
    assert "did you mean 'natural'?" in fails(2, "data", "check", "nowhere.jsonl", "--template", "naturl")
    help = re.sub(r"(?<=-)\n\s+", "", tacit_("data", "check", "--help").stdout)
    for name in (*TEMPLATES, CHAT):
        assert name in help


def seen_by(folder: str, tokenizer: PreTrainedTokenizerBase, config: dict[str, object], *words: str) -> dict:
    """The facts of `check` on `made.jsonl`, for a model of this tokenizer and configuration."""
    tokenizer.save_pretrained(folder)
    (Path(folder) / "config.json").write_text(json.dumps(config))
    return json.loads(tacit_("data", "check", "made.jsonl", "--model", folder, "--json", *words).stdout)


def ids_shown(facts: dict) -> list[int]:
    return [token for segment in facts["first"]["segments"] for token in segment["ids"]]


def test_check_for_an_encoder_decoder(unigram_tokenizer: PreTrainedTokenizerBase) -> None:
    traces = make("coin_flip", "--size", "30", "--flips", "2")
    template = TEMPLATES["fine-tune-cot-t5"]
    rendered = render(traces, unigram_tokenizer, template, encoder_decoder=True)
    words = "--template", "fine-tune-cot-t5"
    t5 = seen_by("t5", unigram_tokenizer, {"model_type": "t5"}, *words)
    assert t5["ok"]
    assert t5["encoder_decoder"]
    assert t5["tokenizer"]["positions"] is None
    assert ids_shown(t5) == rendered[0].ids.tolist()
    assert t5["first"]["segments"][0]["tokens"][-1] == "</s>"  # what the encoder reads ends, too
    # Both parts have positions of their own: what fits is as long as the longer of them, not as their sum.
    longest = int(rendered.positions.max())
    assert longest < rendered.lengths.min()
    bart = seen_by("bart", unigram_tokenizer, {"model_type": "bart", "max_position_embeddings": longest}, *words)
    assert bart["ok"]
    config = {"model_type": "bart", "max_position_embeddings": longest - 1}
    short = seen_by("short", unigram_tokenizer, config, *words)
    assert [problem["trace"] for problem in short["problems"]] == [
        index + 1 for index in (rendered.positions == longest).nonzero()[0].tolist()
    ]
    said = f"{longest} tokens in prompt or target, but the model has only {longest - 1} positions"
    assert {problem["problem"] for problem in short["problems"]} == {said}
    shown = tacit_("data", "check", "made.jsonl", "--model", "short", *words).stdout
    assert "an encoder reads the prompt" in shown
    assert "template fine-tune-cot-t5" in shown


def test_check_with_a_chat_template(chatting_tokenizer: PreTrainedTokenizerBase) -> None:
    traces = make("coin_flip", "--size", "3")
    config = {"model_type": "gpt2", "n_positions": 4096}
    facts = seen_by("chat", chatting_tokenizer, config, "--template", "chat")
    rendered = render(traces, chatting_tokenizer, get_template("chat", chatting_tokenizer))
    assert facts["ok"]
    assert ids_shown(facts) == rendered[0].ids.tolist()
