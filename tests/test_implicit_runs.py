"""Runs of ICoT-KD: what a folder holds, who taught whom, what is taken over, and an exact resume."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import tacit
from scripts import tiny
from tacit.cli import app
from tacit.errors import TacitError
from tacit.evaluation.thoughts import diagnose
from tacit.implicit.modeling import MindReadingStudent, ThoughtEmulator
from tacit.implicit.states import Mind, TeacherStates, ThoughtBatcher
from tacit.models import pad_id
from tacit.recipe import parse_recipe
from tacit.rendering import render
from tacit.run import Run, carry_out
from tacit.trace import Trace, write_jsonl

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {"n_layer": 3, "n_embd": 16, "n_head": 2, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
TRAIN = {
    "max_steps": 4,
    "per_device_train_batch_size": 8,
    "learning_rate": 3e-3,
    "logging_steps": 1,
    "save_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "bf16": False,
    "use_cpu": True,
}
OWN = {"begin": "teacher", "mixture": True, "emulator": {"max_steps": 5}}
VARIED = {
    "plain": OWN,
    "frozen student": {**OWN, "frozen": "student", "temperature": 1.0},
    "by two": {**OWN, "stride": 2, "states_memory": 0},
}
NETWORKS = ("mind_reader", "emulator")


def plain(trace: Trace) -> Trace:
    return replace(trace, steps=())


def traces() -> dict[str, list[Trace]]:
    """Chains that are shorter than the layers are many, longer ones, and none; no training sees each of them."""
    made = tiny.traces(62, tiny.LENGTHS)
    return {"train": [plain(made[0]), *made[1:48]], "validation": made[48:52], "test": [*made[52:61], plain(made[61])]}


def document(folder: Path, parts: dict[str, list[Trace]] | None = None, **changes: Any) -> dict[str, Any]:
    """A recipe of seconds, on files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, some in (parts or traces()).items():
        write_jsonl(some, folder / f"{name}.jsonl")
    return {
        "name": "tiny",
        "task": "multiplication",
        "data": {name: str(folder / f"{name}.jsonl") for name in traces()},
        "model": {"architecture": "gpt2", "config": SIZES},
        "train": TRAIN,
        "methods": {"cot": {}, "implicit_kd": OWN},
        "evaluation": {"batch_size": 8, "speed_problems": 2},
        **changes,
    }


class Killed(BaseException):
    """Nothing tidies up after it."""


def run(recipe: dict[str, Any], folder: Path, deadly: tuple[str, Any] = ("", None), **how: Any) -> list[str]:
    """Carries a recipe out, and returns what was told, `name: text`; dies at a step of a cell, or at a text."""
    told: list[str] = []

    def hear(name: str, line: dict[str, Any]) -> None:
        if "text" in line:
            told.append(f"{name}: {line['text']}")
        if (name, line.get("text", line.get("step"))) == deadly:
            raise Killed

    carry_out(parse_recipe(recipe), folder, listener=hear, **how)
    return told


def weights(folder: Path) -> dict[str, bytes]:
    """Of all networks in a cell."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("model.safetensors")}


def assert_same(ours: Path, theirs: Path, curves: tuple[str, ...] = ("", *NETWORKS)) -> None:
    """Compares all that a cell holds, but for the time that it took and what the recipe is called."""
    assert len(weights(theirs)) == 3
    assert weights(ours) == weights(theirs)
    for name in curves:
        assert tiny.metrics(ours / name) == tiny.metrics(theirs / name)
    assert not list(ours.rglob("checkpoint-*"))
    assert (ours / "predictions.jsonl").read_bytes() == (theirs / "predictions.jsonl").read_bytes()
    results = [json.loads((cell / "tacit.json").read_text())["evaluation"] for cell in (ours, theirs)]
    assert results[0] == results[1]


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two seeds that varies what ICoT-KD does."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ablation")
    told = run(varied(folder), folder / "run")
    (folder / "told.json").write_text(json.dumps(told))
    return folder / "run"


def varied(folder: Path) -> dict[str, Any]:
    methods = {"no_cot": {}, "cot": {"max_steps": 6}, "implicit_kd": {}}
    return document(folder, methods=methods, seeds=[3, 0], vary={"methods.implicit_kd": VARIED})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One seed, and the settings of the frozen student only: there is nobody to take a network over from."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("alone")
    run(single(folder), folder / "run")
    return folder / "run"


def single(folder: Path) -> dict[str, Any]:
    return document(folder, methods={"cot": {"max_steps": 6}, "implicit_kd": VARIED["frozen student"]}, seeds=[3])


# --- what a run leaves -----------------------------------------------------------------------------------------------


def test_the_rows_of_a_run(ablation: Path) -> None:
    """Steps, examples and seconds are those of all four trainings; thoughts are of the problems with chains."""
    rows = Run(ablation).rows
    labels = ("plain", "frozen_student", "by_two")
    cells = {f"{method}-seed{seed}" for method in ("no_cot", "cot") for seed in (3, 0)}
    cells |= {f"implicit_kd-{label}-seed{seed}" for label in labels for seed in (3, 0)}
    assert {path.name for path in ablation.iterdir() if path.is_dir()} == cells
    accuracy = {row["seed"]: row["accuracy"] for row in rows if row["method"] == "cot"}
    implicit = [row for row in rows if row["method"] == "implicit_kd"]
    assert len(implicit) == 6
    for row in implicit:
        assert (row["train_steps"], row["train_examples"]) == (4 + 5 + 4 + 6, (4 + 5 + 4 + 6) * 8)
        cell = Run(ablation).cell("implicit_kd", row["seed"], row["varied"]["methods.implicit_kd"])
        spent = json.loads((cell / "tacit.json").read_text())["networks"]
        assert {name: cost["train_steps"] for name, cost in spent.items()} == {
            "teacher": 6,
            "mind_reader": 4,
            "emulator": 5,
            "coupled": 4,
        }
        assert row["train_seconds"] == pytest.approx(sum(cost["train_seconds"] for cost in spent.values()))
        found = row["thoughts"]
        assert (found["teacher"]["share"], found["teacher"]["n"]) == (accuracy[row["seed"]], 10)
        assert [found[name]["n"] for name in ("gold_states", "emulated_states")] == [9, 9]
        assert len(found["emulation_error"]) == 3


def test_the_teacher_is_that_of_the_seed(ablation: Path) -> None:
    """The numbers of a row come from its own teacher, its two networks as they were, and the problems with chains."""
    solved = [trace for trace in traces()["test"] if trace.steps]

    def thoughts(cell: Path, teacher: Path, stride: int | str) -> dict[str, Any]:
        taught = tacit.load(teacher)
        rendered = render(solved, taught.tokenizer, taught.template)
        states = TeacherStates(Mind(taught.model, stride=stride), rendered, pad_id(taught.tokenizer))
        batcher = ThoughtBatcher(rendered, pad_id(taught.tokenizer), states=states)
        reader = MindReadingStudent.from_pretrained(cell / "mind_reader")
        return diagnose(reader, ThoughtEmulator.from_pretrained(cell / "emulator"), batcher, 8)

    for seed, other, label, stride in ((3, 0, "plain", "dynamic"), (0, 3, "by two", 2)):
        cell = Run(ablation).cell("implicit_kd", seed, label)
        found = json.loads((cell / "tacit.json").read_text())["evaluation"]["thoughts"]
        assert thoughts(cell, ablation / f"cot-seed{seed}", stride).items() <= found.items()
        errors = thoughts(cell, ablation / f"cot-seed{other}", stride)["emulation_error"]
        assert not np.allclose(errors, found["emulation_error"], rtol=1e-2)


def test_a_network_is_taken_over(ablation: Path, alone: Path) -> None:
    """By the cell that differs in its coupling alone, which ends as it does when it has trained them itself.

    The curve of an emulator alone is drawn at the temperature of the cell that trained it.
    """
    told = json.loads(ablation.with_name("told.json").read_text())
    taken = [text for text in told if "taken over" in text]
    assert taken == [
        f"implicit_kd-frozen_student-seed{seed}: {name}: taken over from implicit_kd-plain-seed{seed}, which trained "
        "the same"
        for seed in (3, 0)
        for name in NETWORKS
    ]
    assert_same(ablation / "implicit_kd-frozen_student-seed3", alone / "implicit_kd", ("", "mind_reader"))
    ours = weights(ablation / "implicit_kd-frozen_student-seed3")
    theirs = weights(ablation / "implicit_kd-plain-seed3")
    assert [name for name in theirs if ours[name] != theirs[name]] == ["model.safetensors"]


def test_a_weak_teacher_is_told_and_states_are_read_where_they_fit(ablation: Path) -> None:
    told = json.loads(ablation.with_name("told.json").read_text())
    weak = "the teacher (cot) is right on 0.0% of the problems; a weak teacher: its students can hardly do better"
    assert sum(weak in text for text in told) == 6
    reading = {text.partition(":")[0] for text in told if "reading the teacher's states" in text}
    assert reading == {"implicit_kd-plain-seed3", "implicit_kd-plain-seed0"}


def test_the_command_line(ablation: Path, tmp_path: Path) -> None:
    """Also in another place; a network alone is nothing to ask."""
    moved, runner = tmp_path / "moved", CliRunner()
    shutil.copytree(ablation, moved)
    cell, data = moved / "implicit_kd-by_two-seed0", tmp_path / "data.jsonl"
    write_jsonl(traces()["test"], data)
    for command in (
        ["ask", str(cell), "7 * 5"],
        ["eval", str(cell), "--data", str(data), "--json"],
        ["compare", str(moved)],
        ["report", str(moved), "-o", str(tmp_path / "page.html")],
    ):
        done = runner.invoke(app, command)
        assert done.exit_code == 0, done.output
        if command[0] == "eval":
            row = json.loads(done.output)
            assert row["accuracy"] == json.loads((cell / "tacit.json").read_text())["evaluation"]["accuracy"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Thoughts" in page
    with pytest.raises(TacitError, match=r"mind_reader: no checkpoint of tacit's"):
        tacit.load(cell / "mind_reader")


# --- killed, stopped, side by side -----------------------------------------------------------------------------------


def test_killed_again_and_again(alone: Path, tmp_path: Path) -> None:
    """In each of the trainings, where one follows another, while it is graded: not a bit differs."""
    recipe, folder = single(alone.parent), tmp_path / "run"
    deaths = [
        (("cot", 3), []),
        (("implicit_kd/mind_reader", 3), []),
        (("implicit_kd/emulator", "preparing data"), ["mind_reader"]),
        (("implicit_kd/emulator", 5), ["mind_reader"]),
        (("implicit_kd/coupled", 3), NETWORKS),
        (("implicit_kd", "evaluating on 10 problems"), NETWORKS),
    ]
    for deadly, finished in deaths:
        with pytest.raises(Killed):
            run(recipe, folder, deadly, resume=True)
        assert [name for name in NETWORKS if (folder / "implicit_kd" / name / "network.json").exists()] == [*finished]
    told = run(recipe, folder, resume=True)
    assert not [text for text in told if text.startswith("implicit_kd/mind_reader")]
    assert_same(folder / "implicit_kd", alone / "implicit_kd")


@pytest.mark.parametrize("name", ["emulator", "coupled"])
def test_a_signal_keeps_a_checkpoint(name: str, alone: Path, tmp_path: Path) -> None:
    recipe, folder = single(alone.parent), tmp_path / "run"
    shutil.copytree(alone, folder)
    place = folder / "implicit_kd" / ("" if name == "coupled" else name)
    shutil.rmtree(place)  # also those below, of the coupled one

    def stop(shown: str, line: dict[str, Any]) -> None:
        if (shown, line["event"], line.get("step")) == (f"implicit_kd/{name}", "eval", 2):
            os.kill(os.getpid(), signal.SIGTERM)

    for path in (folder / "implicit_kd" / "tacit.json", folder / "summary.json"):
        path.unlink(missing_ok=True)
    with pytest.raises(KeyboardInterrupt):
        carry_out(parse_recipe(recipe), folder, resume=True, listener=stop)
    assert sorted(path.name for path in place.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    run(recipe, folder, resume=True)
    assert weights(folder / "implicit_kd") == weights(alone / "implicit_kd")


@pytest.mark.slow
def test_side_by_side(ablation: Path, tmp_path: Path) -> None:
    """In processes of their own, from teachers that are there."""
    folder, gone = tmp_path / "run", ("implicit_kd-plain-seed0", "implicit_kd-by_two-seed3")
    shutil.copytree(ablation, folder)
    for name in gone:
        shutil.rmtree(folder / name)
    run({**varied(ablation.parent), "jobs": 2}, folder, resume=True)
    for name in gone:
        assert_same(folder / name, ablation / name)


# --- other recipes ---------------------------------------------------------------------------------------------------


def test_the_explicit_stage_of_stepwise_teaches(tmp_path: Path) -> None:
    """Another family, a tokenizer of bytes, and a varied key that reaches the teacher: each value has its own."""
    recipe = document(
        tmp_path,
        model={"architecture": "llama", "config": tiny.FAMILIES["llama"][1], "tokenizer": "bpe"},
        methods={"stepwise": {"removal_per_epoch": 99}, "cot": {"from": "stepwise"}, "implicit_kd": {"mixture": True}},
        train={key: value for key, value in TRAIN.items() if key != "learning_rate"},
        vary={"train.learning_rate": [1e-3, 3e-3]},
    )
    run(recipe, tmp_path / "run")
    rows = {(row["method"], row["varied"]["train.learning_rate"]): row for row in Run(tmp_path / "run").rows}
    steps = {method: rows[method, 1e-3]["train_steps"] for method in ("stepwise", "cot", "implicit_kd")}
    assert 0 < steps["cot"] < steps["stepwise"]
    assert steps["implicit_kd"] == 3 * 4 + steps["cot"]
    for rate in (1e-3, 3e-3):
        cell = Run(tmp_path / "run").cell("implicit_kd", value=rate)
        spent = json.loads((cell / "tacit.json").read_text())["networks"]
        teacher = json.loads((Run(tmp_path / "run").cell("cot", value=rate) / "tacit.json").read_text())
        assert spent["teacher"] == {key: teacher[key] for key in spent["teacher"]}


def test_problems_without_chains_say_nothing_of_thoughts(tmp_path: Path) -> None:
    parts = traces()
    parts["test"] = [plain(trace) for trace in parts["test"]]
    told = run(document(tmp_path, parts), tmp_path / "run")
    (row,) = [row for row in Run(tmp_path / "run").rows if row["method"] == "implicit_kd"]
    assert "thoughts" not in row
    assert [text for text in told if "no accuracy with the teacher's own states" in text] == [
        "implicit_kd: no accuracy with the teacher's own states: no test problem has a chain"
    ]


def test_an_emulator_that_diverges(tmp_path: Path) -> None:
    """Also where it is evaluated before anybody looks at its loss."""
    own = {"emulator": {"learning_rate": 1e30, "eval_steps": 1}}
    with pytest.raises(TacitError, match=r"the loss is not a finite number .*; try a lower learning_rate"):
        run(document(tmp_path, methods={"cot": {}, "implicit_kd": own}), tmp_path / "run")
    lines = tiny.metrics(tmp_path / "run" / "implicit_kd" / "emulator", "eval")
    assert lines[-1]["emulation_error"] == [None] * 3


@pytest.mark.parametrize("damage", ["config.json", "half of network.json"])
def test_a_network_that_is_not_whole(damage: str, alone: Path, tmp_path: Path) -> None:
    """What says that it is whole comes last: without it, it is trained anew; else people are told what to do."""
    folder = tmp_path / "run"
    shutil.copytree(alone, folder)
    (folder / "implicit_kd" / "tacit.json").unlink()
    path = folder / "implicit_kd" / "emulator" / damage.rpartition(" ")[2]
    if damage.startswith("half"):
        path.write_text(path.read_text()[:20])
    else:
        path.unlink()
    if path.name != "network.json":
        with pytest.raises(TacitError, match=r"cannot load the emulator .*; remove .*, and it is trained anew"):
            run(single(alone.parent), folder, resume=True)
        shutil.rmtree(path.parent)
    run(single(alone.parent), folder, resume=True)
    assert weights(folder / "implicit_kd") == weights(alone / "implicit_kd")


@pytest.mark.parametrize(
    ("where", "settings", "told"),
    [
        ("methods.implicit_kd", {"mind_reader": {"torch_compile": True}}, "leave torch_compile"),
        ("methods.implicit_kd", {"coupled": {"activation_checkpointing": True}}, "and gradient_checkpointing off"),
        ("methods.implicit_kd", {"marker": ""}, "its template, prompt, separator and marker must be those of cot"),
        ("train", {"keep_positions": True}, "without keep_positions"),
        ("model", {"architecture": "mamba", "config": {"num_hidden_layers": 2}}, "a MambaForCausalLM has none"),
        ("model", {"architecture": "t5", "config": tiny.T5}, "decoders only, such as gpt2 or llama"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_trained(
    where: str, settings: dict[str, Any], told: str, tmp_path: Path
) -> None:
    recipe = document(tmp_path)
    section, _, method = where.partition(".")
    place = recipe[section][method] if method else recipe[section]
    recipe[section] = {**recipe[section], method: {**place, **settings}} if method else {**place, **settings}
    with pytest.raises(TacitError, match=told):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
