"""A run with changed settings: what they reach is made anew, the rest stays as it is, bit for bit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tacit.errors import TacitError
from tacit.recipe import parse_recipe
from tacit.run import Run, carry_out

torch.set_num_threads(1)

IMPLICIT = ("cot", "implicit_kd", "implicit_kd/mind_reader", "implicit_kd/emulator")


def document(methods: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A recipe of two seconds."""
    train = {"max_steps": 2, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "logging_steps": 1}
    return {
        "name": "tiny",
        "task": "multiplication",
        "data": {"digits": "1x1", "train": 24, "test": 6, "seed": 5},
        "model": {"architecture": "gpt2", "config": {"n_layer": 2, "n_embd": 8, "n_head": 2}},
        "train": train,
        "methods": methods,
        "evaluation": {"batch_size": 8, "speed_problems": 2},
        **changes,
    }


def run(path: Path, document: dict[str, Any], update: bool = False) -> list[str]:
    """Carries a recipe out, and returns what was told first of all of each cell."""
    heard: dict[str, str] = {}
    carry_out(
        parse_recipe(document),
        path,
        update=update,
        listener=lambda name, line: heard.setdefault(name, line.get("text", "")),
    )
    return [f"{name}: {text}" for name, text in heard.items() if "/" not in name and name not in ("recipe", "speed")]


def weights(path: Path) -> dict[str, tuple[bytes, int]]:
    """The weights in a run folder, by folder, and when they were written."""
    found = path.rglob("model.safetensors")
    return {str(one.parent.relative_to(path)): (one.read_bytes(), one.stat().st_mtime_ns) for one in found}


def contents(path: Path) -> dict[str, bytes]:
    return {name: content for name, (content, _) in weights(path).items()}


def fresh(path: Path, document: dict[str, Any], expected: Path) -> None:
    """Compares a run with one of the same recipe from the start: the same weights, answers and rows."""
    run(path, document)
    assert contents(path) == contents(expected)
    timed = ("examples_per_second", "relative_speed", "train_seconds")
    rows = [[{k: v for k, v in row.items() if k not in timed} for row in Run(each).rows] for each in (path, expected)]
    assert rows[0] == rows[1]
    assert sorted(each.name for each in path.iterdir()) == sorted(each.name for each in expected.iterdir())


class Killed(BaseException):
    """What no code of ours catches."""


def implicit(**changes: Any) -> dict[str, Any]:
    return {"cot": {}, "no_cot": {}, "implicit_kd": changes}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ICoT-KD, which the tests below take further in turn."""
    path = tmp_path_factory.mktemp("runs") / "implicit"
    run(path, document(implicit()))
    return path


def test_what_a_setting_of_icot_kd_reaches(chain: Path, tmp_path: Path) -> None:
    """Each change in turn, to what the one before has left; what is kept is not even written."""
    expected = {
        "coupled": ({"coupled": {"learning_rate": 1e-3}}, {"cot", "no_cot", "mind_reader", "emulator"}),
        "emulator": ({"emulator": {"max_steps": 3}}, {"cot", "no_cot", "mind_reader"}),
        "states": ({"states": "top_row"}, {"cot", "no_cot"}),
    }
    settings: dict[str, Any] = {}
    for name, (change, kept) in expected.items():
        settings |= change
        before = weights(chain)
        told = run(chain, document(implicit(**settings)), update=True)
        after = weights(chain)
        assert after.keys() == before.keys()
        assert {place.rpartition("/")[2] for place in after if after[place] == before[place]} == kept, name
        assert {"cot: kept", "no_cot: kept"} <= {*told}
        networks = [network for network in ("mind_reader", "emulator") if network in kept]
        assert f"implicit_kd: made anew{'; kept: ' * bool(networks)}{', '.join(networks)}" in told
        if name == "emulator":
            fresh(tmp_path / name, document(implicit(**settings)), chain)


def test_what_another_method_reaches(chain: Path, tmp_path: Path) -> None:
    before, methods = weights(chain), {**implicit(), "no_cot": {"learning_rate": 1e-3}}
    run(chain, document(implicit()), update=True)
    kept = weights(chain)
    assert kept["no_cot"] == before["no_cot"]
    assert "implicit_kd: kept" in run(chain, document(methods), update=True)
    after = weights(chain)
    assert {name for name in after if after[name] != kept[name]} == {"no_cot"}
    told = run(chain, document({**methods, "cot": {"learning_rate": 1e-3}}), update=True)
    assert "implicit_kd: made anew" in told
    last = weights(chain)
    assert {name for name in last if last[name] == after[name]} == {"no_cot"}
    assert all(last[name][0] != after[name][0] for name in IMPLICIT)


def test_other_evaluation_settings_train_nothing(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of a run that was cut short between a student's predictions and its result."""
    info = chain / "implicit_kd" / "tacit.json"
    said = json.loads(info.read_text())
    said["evaluation"]["thoughts"]["teacher"]["share"] = 0.77  # of a teacher that was graded otherwise
    info.write_text(json.dumps(said))
    before, thoughts = weights(chain), said["evaluation"]["thoughts"]
    wanted = {**said["recipe"], "evaluation": {"grader": "strict", "batch_size": 8, "speed_problems": 2}}
    with monkeypatch.context() as patch:
        patch.setattr("tacit.checkpoint.save_info", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(chain, wanted, update=True)
    assert [*run(chain, wanted, update=True)] == [
        f"{name}: evaluating on 6 problems" for name in ("cot", "no_cot", "implicit_kd")
    ]
    assert weights(chain) == before
    rows = {row["method"]: row for row in Run(chain).rows}
    assert {row["grader"] for row in rows.values()} == {"strict"}
    found = rows["implicit_kd"]["thoughts"]
    assert found["teacher"]["share"] == rows["cot"]["accuracy"]
    assert found["emulation_error"] == thoughts["emulation_error"]
    run(chain, wanted, update=True)  # nothing more is to be done
    timed = {**wanted, "evaluation": {**wanted["evaluation"], "speed_problems": 1}}
    told = run(chain, timed, update=True)  # whose answers are the same
    assert told == [f"{name}: kept" for name in ("cot", "no_cot", "implicit_kd")]
    assert weights(chain) == before


# --- cells -----------------------------------------------------------------------------------------------------------


def test_seeds_and_methods_come_and_go(tmp_path: Path) -> None:
    here, plain = tmp_path / "run", {"no_cot": {}, "cot": {}}
    run(here, document(plain), update=True)  # there is none yet
    first = weights(here)
    told = run(here, document(plain, seeds=[3, 0]), update=True)
    assert told[:4] == ["no_cot-seed3: new", "cot-seed3: new", "no_cot-seed0: kept", "cot-seed0: kept"]
    both = weights(here)
    assert {f"{name}-seed0": content for name, content in first.items()}.items() <= both.items()
    fresh(tmp_path / "several", document(plain, seeds=[3, 0]), here)
    told = run(here, document({"cot": {}}, seeds=[3]), update=True)
    assert told[0] == "cot: kept"
    assert {*told[1:]} == {
        f"{name}: removed: not in the recipe" for name in ("no_cot-seed0", "no_cot-seed3", "cot-seed0")
    }
    assert weights(here) == {"cot": both["cot-seed3"]}
    assert [(row["method"], row["seed"]) for row in Run(here).rows] == [("cot", 3)]


def test_a_stage_that_was_not_kept_is_made(tmp_path: Path) -> None:
    here, stepwise = tmp_path / "run", {"stepwise": {"removal_per_epoch": 99}}
    run(here, document(stepwise))
    wanted = document({**stepwise, "cot": {"from": "stepwise"}})
    assert run(here, wanted, update=True)[:2] == ["stepwise: made anew", "cot: new"]
    fresh(tmp_path / "fresh", wanted, here)
    own = document({**stepwise, "cot": {}})
    assert run(here, own, update=True)[:2] == ["stepwise: kept", "cot: made anew"]


def test_a_model_from_scratch_has_the_words_of_all(tmp_path: Path) -> None:
    """So another method's file reaches it, although no setting of its own has changed."""
    here, file = tmp_path / "run", tmp_path / "more.jsonl"
    file.write_text(json.dumps({"question": "what else", "steps": [{"text": "nothing"}], "answer": "no"}) + "\n")
    run(here, document({"cot": {}}))
    wanted = document({"cot": {}, "no_cot": {"data": str(file)}})
    assert run(here, wanted, update=True)[:2] == ["cot: made anew", "no_cot: new"]
    fresh(tmp_path / "fresh", wanted, here)


# --- nothing is lost -------------------------------------------------------------------------------------------------


def test_a_recipe_that_cannot_run_removes_nothing(chain: Path) -> None:
    before = weights(chain)
    with pytest.raises(TacitError):
        run(chain, document({"cot": {}}, data={"digits": "1x1", "train": 90, "test": 90}), update=True)
    assert weights(chain) == before


@pytest.mark.parametrize("seeds", [([0], [0, 3]), ([0, 3], [0])])
def test_an_update_that_is_cut_short_goes_on(
    seeds: tuple[list[int], list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each change of what is there: the same command ends in the same state, and keeps as much."""
    before = document({"no_cot": {}, "cot": {}}, seeds=seeds[0])
    wanted = document({"no_cot": {}, "cot": {"learning_rate": 1e-3}}, seeds=seeds[1])
    run(tmp_path / "old", before)
    run(tmp_path / "new", wanted)
    names = ["no_cot" if len(each) == 1 else "no_cot-seed0" for each in seeds]
    rename, points = Path.rename, 0

    def counted(source: Path, target: Path) -> Path:
        nonlocal points
        points += 1
        if points == last:
            raise Killed
        return rename(source, target)

    for last in range(1, 99):
        here, points = tmp_path / f"run{last}", 0
        shutil.copytree(tmp_path / "old", here)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", counted)
            patch.setattr("tacit.run.rehearse", lambda *_: None)
            patch.setattr("tacit.run._train", lambda *_: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                run(here, wanted, update=True)
        if points < last or last % 2 == 0:
            run(here, wanted, update=True)
            assert weights(here)[names[1]] == weights(tmp_path / "old")[names[0]]
            assert contents(here) == contents(tmp_path / "new")
        if points < last:  # nothing was moved any more: it was killed when the training began
            break
    assert last > 4
