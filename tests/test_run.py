"""Runs: what a recipe leaves behind, how it is read again, and that any task goes the same way."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tacit.environment import environment
from tacit.errors import TacitError
from tacit.formats import write
from tacit.recipe import parse_recipe
from tacit.report import write_report
from tacit.run import Run, beginnings, carry_out, cells
from tacit.tasks import get_task
from tacit.trace import Step, Trace, write_jsonl

torch.set_num_threads(1)

GPT2 = {"architecture": "gpt2", "config": {"n_layer": 1, "n_embd": 32, "n_head": 2}}
ROW = (
    "method seed accuracy ci95 n grader reasoning_tokens generated_tokens batch_size examples_per_second "
    "relative_speed train_seconds train_steps train_examples"
).split()


def document(**changes: Any) -> dict[str, Any]:
    """A recipe of seconds."""
    train = {"max_steps": 20, "per_device_train_batch_size": 16, "learning_rate": 3e-3, "logging_steps": 5}
    return {
        "name": "tiny",
        "task": "multiplication",
        "data": {"digits": "2x2", "train": 200, "validation": 10, "test": 30, "seed": 5},
        "model": GPT2,
        "train": {**train, **changes.pop("train", {})},
        "methods": {"stepwise": {"removal_per_epoch": 20}, "cot": {"from": "stepwise"}, "no_cot": {}},
        "evaluation": {"batch_size": 16, "speed_problems": 16},
        **changes,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    evaluated = {"eval_strategy": "steps", "eval_steps": 10}
    carry_out(parse_recipe(document(seeds=[0, 3], train=evaluated)), path)
    return path


def test_a_vocabulary_is_found_out_once_for_all_values_and_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shapes of a model read the same texts; another process is given what the first has found."""
    wider = {**GPT2, "config": {**GPT2["config"], "n_embd": 64}}
    given = {key: part for key, part in document().items() if key != "model"}
    given |= {"seeds": [0], "vary": {"model": {"narrow": GPT2, "wide": wider}}}
    counted: list[int] = []
    find = beginnings._vocabulary_and_positions
    monkeypatch.setattr(beginnings, "_vocabulary_and_positions", lambda *a: counted.append(1) or find(*a))
    recipe = parse_recipe(given)
    here = beginnings.Beginnings(recipe)
    models = [here.make(value, recipe.at(value).settings("no_cot", 0, tmp_path), 0)[0] for value in recipe.variants]
    assert [model.config.n_embd for model in models] == [32, 64]
    again = parse_recipe(json.loads(json.dumps(recipe.document)))
    there = beginnings.Beginnings(again, here.found)
    there.make("wide", again.at("wide").settings("stepwise", 0, tmp_path), 0)
    assert len(counted) == 1


# --- the folder ------------------------------------------------------------------------------------------------------


def test_the_run_folder_is_as_promised(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    methods = {f"{method}-seed{seed}" for method in ("stepwise", "cot", "no_cot") for seed in (0, 3)}
    assert names == {"recipe.yaml", "environment.json", "summary.json", "report.html", *methods}
    for method in methods:
        inside = {path.name for path in (folder / method).iterdir()}
        assert {"model.safetensors", "tokenizer.json", "config.json", "README.md", "tacit.json"} <= inside
        assert "predictions.jsonl" in inside
        assert ("metrics.jsonl" in inside) == (not method.startswith("cot"))
        assert not [name for name in inside if name.startswith("checkpoint-") or name.endswith((".bin", ".pt"))]
    assert (folder / "stepwise-seed3" / "stages" / "000" / "model.safetensors").is_file()
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["seeds"] == [0, 3]
    assert "torch" in json.loads((folder / "environment.json").read_text())["versions"]
    assert "Stepwise Internalization" in (folder / "report.html").read_text()


def test_the_summary_keeps_its_contract(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["schema"] == 1
    assert {"schema", "task", "hardware", "versions", "rows"} <= set(summary)
    assert summary["task"] == "multiplication"
    assert {"cpu", "cores"} <= set(summary["hardware"])
    assert {"python", "tacit", "torch", "transformers"} <= set(summary["versions"])
    assert [(row["method"], row["seed"]) for row in summary["rows"]] == [
        (method, seed) for seed in (0, 3) for method in ("stepwise", "cot", "no_cot")
    ]
    for row in summary["rows"]:
        assert list(row) == ROW
        low, high = row["ci95"]
        assert 0 <= low <= row["accuracy"] <= high <= 1
        assert (row["n"], row["batch_size"]) == (30, 16)
        assert row["examples_per_second"] > 0
        assert row["train_seconds"] >= 0
        assert row["train_examples"] == row["train_steps"] * 16
        if row["method"] == "no_cot":
            assert row["relative_speed"] == 1
        if row["method"] == "cot":
            assert row["train_steps"] < 20, "the model at the end of the explicit stage"
        else:
            assert row["train_steps"] == 20


def test_the_predictions_back_the_summary(folder: Path) -> None:
    run = Run(folder)
    held_out = [trace.question for trace in parse_recipe(document()).traces()[2]]
    for row in run.rows:
        predictions = run.predictions(row["method"], row["seed"])
        assert [one["question"] for one in predictions] == held_out
        assert row["accuracy"] == sum(one["correct"] for one in predictions) / len(predictions)
        for name in ("reasoning_tokens", "generated_tokens"):
            assert row[name] == pytest.approx(sum(one[name] for one in predictions) / len(predictions))


def test_a_run_is_read_in_two_lines(folder: Path) -> None:
    run = Run(folder)
    assert run.summary["rows"] == run.rows
    assert run.cell("stepwise") == folder / "stepwise-seed0"
    assert run.cell("stepwise", 3) == folder / "stepwise-seed3"
    student = run.student("stepwise", 3)
    assert student.silent
    assert student.info["removed_tokens"] == 8
    assert student.info["recipe"]["seeds"] == [0, 3]
    assert student.info["evaluation"]["accuracy"] == run.rows[3]["accuracy"]
    first = run.predictions("stepwise", 3)[0]
    assert student.ask(first["shown_question"]).text == first["text"]
    assert not run.student("cot").silent
    assert run.student("cot").info["removed_tokens"] == 0


def test_what_a_run_does_not_have(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TacitError, match=r"no method 'socratic' with seed None; there are: stepwise \(seed 0\), cot"):
        Run(folder).cell("socratic")
    with pytest.raises(TacitError, match="no method 'cot' with seed 7"):
        Run(folder).student("cot", 7)
    with pytest.raises(TacitError, match=r"no finished run here \(summary.json is missing\)"):
        Run(tmp_path)


def test_the_same_recipe_gives_the_same_result(folder: Path, tmp_path: Path) -> None:
    again = carry_out(parse_recipe(document(seeds=[3])), tmp_path / "again")
    for method in ("stepwise", "no_cot"):
        mine, theirs = (run.predictions(method, 3) for run in (again, Run(folder)))
        assert [one["text"] for one in mine] == [one["text"] for one in theirs]
        assert again.cell(method) == tmp_path / "again" / method, "one seed needs no name"


def test_a_finished_run_is_left_as_it_is(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.json*")}
    recipe = parse_recipe(yaml.safe_load((folder / "recipe.yaml").read_text()))
    heard: list[str] = []
    again = carry_out(recipe, folder, resume=True, listener=lambda name, line: heard.append(line["event"]))
    assert heard == []
    assert again.rows == Run(folder).rows
    assert {path: path.read_bytes() for path in folder.rglob("*.json*")} == before
    with pytest.raises(TacitError, match="exists; add --resume to go on there, or --overwrite to start anew"):
        carry_out(recipe, folder)
    with pytest.raises(TacitError, match=r"was begun with other settings \(seeds\)"):
        carry_out(parse_recipe({**recipe.document, "seeds": [0]}), folder, resume=True)


def test_only_what_is_missing_is_made_again(folder: Path) -> None:
    (folder / "no_cot-seed3" / "tacit.json").unlink()
    recipe = parse_recipe(yaml.safe_load((folder / "recipe.yaml").read_text()))
    heard: list[str] = []
    expected = [one["text"] for one in Run(folder).predictions("no_cot", 3)]
    run = carry_out(recipe, folder, resume=True, listener=lambda name, line: heard.append(name))
    assert set(heard) == {"no_cot-seed3", "speed"}
    assert [one["text"] for one in run.predictions("no_cot", 3)] == expected


def test_overwrite_removes_run_folders_only(tmp_path: Path) -> None:
    recipe = parse_recipe(document(methods={"no_cot": {"max_steps": 2}}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(TacitError, match="is no run folder"):
        carry_out(recipe, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    carry_out(recipe, tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    (tmp_path / "run" / "cot-seed7").mkdir()
    run = carry_out(recipe, tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "run" / "cot-seed7").exists()
    assert [row["relative_speed"] for row in run.rows] == [1.0]


def test_what_a_run_was_begun_with_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume elsewhere, or with other versions, is noted beside it; each change once."""
    recipe, folder = parse_recipe(document(methods={"no_cot": {"max_steps": 2}})), tmp_path / "run"
    begun = environment()
    carry_out(recipe, folder)
    assert json.loads((folder / "environment.json").read_text()) == begun
    for cores, noted in ((begun["hardware"]["cores"], 0), (512, 1), (512, 1), (1024, 2)):
        now = {**begun, "hardware": {**begun["hardware"], "cores": cores}}
        monkeypatch.setattr("tacit.run.folder.environment", lambda now=now: now)
        (folder / "no_cot" / "tacit.json").unlink()
        carry_out(recipe, folder, resume=True)
        kept = json.loads((folder / "environment.json").read_text())
        assert {key: kept[key] for key in begun} == begun
        assert [change["hardware"]["cores"] for change in kept.get("resumed", [])] == [512, 1024][:noted]
        assert all(list(change) == ["hardware"] for change in kept.get("resumed", []))
    monkeypatch.setattr("tacit.run.folder.environment", lambda: {**begun, "platform": "elsewhere"})
    carry_out(recipe, folder, resume=True)  # nothing is left to do, so nothing was done elsewhere
    assert json.loads((folder / "environment.json").read_text()) == kept
    assert "cores 512" in (folder / "report.html").read_text()
    carry_out(recipe, folder, overwrite=True)
    assert json.loads((folder / "environment.json").read_text()) == {**begun, "platform": "elsewhere"}


def test_two_runs_make_one_report(folder: Path, tmp_path: Path) -> None:
    write_report([folder, folder], tmp_path / "both.html")
    assert (tmp_path / "both.html").stat().st_size > (folder / "report.html").stat().st_size


# --- any task, any file ----------------------------------------------------------------------------------------------


def colours(parts: str) -> list[Trace]:
    made = {"red blue": "purple", "red yellow": "orange", "blue yellow": "green"}
    return [
        Trace(f"{a} and {b} {part}", (Step(f"take {a}"), Step(f"add {b}")), made.get(f"{a} {b}", "brown"))
        for part in parts.split()
        for a in ("red", "blue", "yellow")
        for b in ("red", "blue", "yellow")
    ]


def test_coin_flips_by_whole_steps(tmp_path: Path) -> None:
    steps = {"removal_unit": "step", "removal_side": "right", "removal_per_epoch": 4}
    recipe = document(
        task="coin_flip",
        data={"flips": 3, "train": 120, "test": 20},
        methods={"stepwise": steps, "cot": {"from": "stepwise"}},
    )
    run = carry_out(parse_recipe(recipe), tmp_path / "coins")
    assert run.summary["task"] == "coin_flip"
    student = run.student("stepwise")
    assert student.silent
    assert student.info["removed_tokens"] == 9  # tokens, although whole steps went
    reply = student.ask("A coin is heads up. Ada flips it. Ben does not flip it. Zoe flips it. Is it still heads up?")
    assert reply.generated_tokens >= 1
    assert all(row["relative_speed"] is None for row in run.rows), "there is no No CoT to compare with"


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_traces_of_ones_own(architecture: str, tmp_path: Path) -> None:
    write_jsonl(colours("paint light"), tmp_path / "train.jsonl")
    write_jsonl([Trace("yellow and red paint", (), "brown", gold="orange")], tmp_path / "test.jsonl")
    llama = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    recipe = document(
        data={"train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")},
        model=GPT2 if architecture == "gpt2" else {"architecture": "llama", "config": llama},
        methods={"no_cot": {"max_steps": 5}},
    )
    del recipe["task"]
    run = carry_out(parse_recipe(recipe), tmp_path / "run")
    assert run.summary["task"] == "custom"
    (prediction,) = run.predictions("no_cot")
    assert (prediction["gold"], prediction["shown_question"]) == ("orange", "yellow and red paint")


def test_official_files(tmp_path: Path) -> None:
    for name, seed in (("train", 0), ("test", 1)):
        write(get_task("multiplication").make(40, seed, digits="2x2"), tmp_path / f"{name}.txt", "icot")
    data = {"format": "icot", "train": str(tmp_path / "train.txt"), "test": str(tmp_path / "test.txt")}
    run = carry_out(parse_recipe(document(data=data)), tmp_path / "run")
    assert [row["n"] for row in run.rows] == [40] * 3
    assert run.student("stepwise").ask("12 * 34").generated_tokens > 0


def test_held_out_problems_that_cannot_be_asked_are_refused_before_training(tmp_path: Path) -> None:
    write_jsonl(colours("paint"), tmp_path / "train.jsonl")
    write_jsonl([Trace("red and mauve paint", (), "pink")], tmp_path / "test.jsonl")
    data = {"train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")}
    with pytest.raises(TacitError, match=r"'red and mauve paint'.*cannot represent 'mauve'"):
        carry_out(parse_recipe(document(task=None, data=data)), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("metrics.jsonl"))


@pytest.mark.parametrize(("bad", "reason"), [("<eos>", "special token"), ("", "no training trace has steps")])
def test_training_traces_that_cannot_be_learned_are_refused_before_any_training(
    bad: str, reason: str, tmp_path: Path
) -> None:
    steps = (Step(bad),) if bad else ()
    write_jsonl([Trace("A B", steps, "C")], tmp_path / "train.jsonl")
    write_jsonl([Trace("A B", (Step("A"),), "C")], tmp_path / "fine.jsonl")
    data = {"train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "fine.jsonl")}
    methods = {"no_cot": {"data": str(tmp_path / "fine.jsonl")}, "cot": {}}
    with pytest.raises(TacitError, match=reason):
        carry_out(parse_recipe(document(task=None, data=data, methods=methods)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_there_is_room_for_the_longest_target_behind_the_longest_prompt(tmp_path: Path) -> None:
    """Also where no single trace has both, and where the longest is held out."""
    train = [Trace("short", tuple(Step(f"take {n}") for n in range(20)), "done"), Trace("long " * 30, (), "done")]
    write_jsonl(train, tmp_path / "train.jsonl")
    write_jsonl([Trace("long " * 40, (), "done")], tmp_path / "test.jsonl")
    data = {"train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")}
    recipe = document(task=None, data=data, methods={"stepwise": {"max_steps": 2, "removal_per_epoch": 1}})
    student = carry_out(parse_recipe(recipe), tmp_path / "run").student("stepwise")
    assert student.model.config.max_position_embeddings >= 41 + student.max_new_tokens - 1


def test_cells_come_in_the_order_of_the_recipe(tmp_path: Path) -> None:
    recipe = parse_recipe(document(seeds=[2, 1]))
    assert [cell.name for cell in cells(recipe, tmp_path)] == [
        *["stepwise-seed2", "cot-seed2", "no_cot-seed2", "stepwise-seed1", "cot-seed1", "no_cot-seed1"]
    ]


# --- nothing on disk is lost -----------------------------------------------------------------------------------------


def test_a_run_is_not_put_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipe.yaml").write_text("# mine\n")
    monkeypatch.chdir(tmp_path)
    for where in (".", ".."):
        for how in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(TacitError, match="where you stand"):
                carry_out(parse_recipe(document()), where, **how)
    assert (tmp_path / "recipe.yaml").read_text() == "# mine\n"


def test_a_folder_with_only_a_recipe_in_it_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.yaml").write_text("# mine\n")
    for how in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(TacitError, match="is no run folder"):
            carry_out(parse_recipe(document()), tmp_path / "mine", **how)
    assert (tmp_path / "mine" / "recipe.yaml").read_text() == "# mine\n"


def test_a_recipe_that_cannot_run_removes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    carry_out(parse_recipe(document(methods={"no_cot": {"max_steps": 2}})), folder)
    before = sorted((path, path.stat().st_size) for path in folder.rglob("*"))
    for bad in ({"data": {"digits": "1x1", "train": 99, "test": 99}}, {"model": {"architecture": "gpt3"}}):
        with pytest.raises(TacitError):
            carry_out(parse_recipe(document(**bad)), folder, overwrite=True)
    assert sorted((path, path.stat().st_size) for path in folder.rglob("*")) == before


def test_two_processes_do_not_share_a_run_folder(folder: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # as another process holds it
    recipe = parse_recipe(yaml.safe_load((folder / "recipe.yaml").read_text()))
    try:
        for how in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(TacitError, match="another process is carrying out a run"):
                carry_out(recipe, folder, **how)
    finally:
        os.close(handle)
    assert carry_out(recipe, folder, resume=True).rows
