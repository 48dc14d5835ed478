"""No dead seeds: what counts as a collapse, and a training that goes back to its last good stage.

The state machine on synthetic and on real curves; then tiny trainings whose validation exact match is written down
beforehand (everything else about them is real), killed wherever files change.
"""

import json
import math
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerCallback

from scripts import tiny
from tacit import checkpoint
from tacit.cli.display import RunDisplay
from tacit.errors import TacitError
from tacit.recipe import parse_recipe
from tacit.run import carry_out
from tacit.training import restarts as restarts_module
from tacit.training import trainer as trainer_module
from tacit.training.recovery import FLOOR, Recovery
from tacit.training.restarts import Interrupted
from tacit.training.resume import GOOD, last_whole_checkpoint, read_state
from tacit.training.trainer import StepwiseInternalizationTrainer

RECORDS = Path(__file__).parents[1] / "records"


pytestmark = pytest.mark.usefixtures("one_thread")


# --- the state machine -----------------------------------------------------------------------------------------------


def collapse_of(curve: list[tuple[int, int, float]], recovery: Recovery, total: int = 24) -> tuple[int, str] | None:
    """The first step of a curve of (step, removed, exact match) that is called collapsed, and why."""
    for step, removed, exact_match in curve:
        recovery.observe(step, removed, exact_match)
        if reason := recovery.collapse(total):
            return step, reason
    return None


def recorded(name: str) -> list[tuple[int, int, float]]:
    lines = map(json.loads, (RECORDS / name / "metrics.jsonl").read_text("utf-8").splitlines())
    return [(line["step"], line["removed"], line["exact_match"]) for line in lines if line["event"] == "eval"]


HEALTHY = [
    *(f"multiplication-3x3/stepwise-seed{seed}" for seed in (0, 1, 2)),
    *(f"quickstart/stepwise-seed{seed}" for seed in (0, 1, 2, 3, 4)),
    *(f"quickstart-soft-targets/stepwise-seed{seed}" for seed in (0, 1, 2, 3, 4)),
]


@pytest.mark.parametrize("name", HEALTHY)
def test_real_trainings_that_made_it_never_count_as_collapsed(name: str) -> None:
    """Their exact match is near 0.00 for hundreds of steps in the middle of the removal."""
    curve = recorded(name)
    watched = Recovery()
    assert collapse_of(curve, watched) is None
    assert watched.failure(curve[-1][1]) is None
    assert watched.good is not None
    assert watched.good.removed == curve[-1][1]


def test_with_less_patience_healthy_trainings_would_be_given_up() -> None:
    hasty = [name for name in HEALTHY if collapse_of(recorded(name), Recovery(collapse_patience=200))]
    assert len(hasty) > len(HEALTHY) // 2


def test_a_real_training_that_stops_in_its_dip_has_failed() -> None:
    dip = [found for found in recorded("quickstart-seeds-3-4/stepwise-seed4") if found[0] <= 3000]
    watched = Recovery()
    assert collapse_of(dip, watched) is None
    assert watched.good is not None
    assert (watched.good.step, watched.good.removed) == (2200, 7)
    assert "0.00 (best: 0.59) at 11 of 12 removed" in str(watched.failure(12))


def test_flat_on_the_floor() -> None:
    """Called when patience is used up, and not an evaluation before; the words say it all."""
    learned = [(step, step // 400, 0.4) for step in range(100, 3300, 100)]
    dead = [(step, 9, 0.0) for step in range(3300, 9000, 100)]
    watched = Recovery()
    assert collapse_of(learned + dead, watched) == (
        5300,
        "validation exact match stayed below 0.04 for 2,000 steps at 9 of 24 removed",
    )
    watched.restart(5300, 8000)
    assert (watched.restarts, watched.lost, watched.max_steps) == (1, 2100, 3200 + 2 * 4800)
    assert watched.tell_restart("so") == (
        "collapsed: so; back to step 3,200 (8 removed, exact match 0.40), at half the pace (restart 1 of 2)"
    )


def test_what_rises_has_not_collapsed() -> None:
    """Far below the threshold, and slower than patience, but ever higher; when that stops it is over."""
    learned = [(100, 1, 1.0)]
    rising = [(step, 2, step * 1e-5) for step in range(200, 9000, 100)]
    flat = [(step, 2, 0.08) for step in range(9000, 12000, 100)]
    assert collapse_of(learned + rising, Recovery()) is None
    called = collapse_of(learned + rising + flat, Recovery())
    assert called is not None
    assert 9900 <= called[0] <= 11100


def test_a_breath_of_air_ends_the_stretch() -> None:
    curve = [(0, 0, 1.0)] + [(step, 2, 0.2 if step == 1900 else 0.0) for step in range(100, 3900, 100)]
    assert collapse_of(curve, Recovery()) is None
    assert collapse_of([*curve, (3900, 2, 0.0), (4000, 2, 0.0)], Recovery()) is not None


def test_what_was_never_learned_cannot_collapse() -> None:
    """There is nothing to go back to; it is said at the end."""
    watched = Recovery(collapse_patience=1)
    assert collapse_of([(step, 0, 0.04 if step == 2 else 0.0) for step in range(100)], watched) is None
    assert watched.failure(24) is None
    assert "no stage reached a validation exact match of 0.05 (best: 0.040)" in str(watched.tell_end(24))


matches = st.sampled_from([0.0, 0.02, 0.06, 0.2, 0.5, 1.0])


@given(st.lists(st.tuples(st.integers(0, 3), matches, st.booleans()), max_size=30))
def test_the_last_good_stage_against_a_plain_search(steps: list[tuple[int, float, bool]]) -> None:
    """Of all evaluations that were good when they came: most removed, then the highest, then the first."""
    watched, removed, curve = Recovery(), 0, []
    for step, (more, exact_match, within_step) in enumerate(steps):
        removed += more
        curve.append((step, removed, exact_match))
        watched.observe(step, removed, exact_match, within_step)
    good = [
        (step, removed, match)
        for (step, removed, match), (*_, within_step) in zip(curve, steps, strict=True)
        if not within_step and match >= FLOOR and match >= 0.5 * max(m for s, _, m in curve if s <= step)
    ]
    best = max(good, key=lambda found: (found[1], found[2], -found[0]), default=None)
    assert best == (watched.good and (watched.good.step, watched.good.removed, watched.good.exact_match))
    again = Recovery()
    again.load_state_dict(json.loads(json.dumps(watched.state_dict())))
    assert again.state_dict() == watched.state_dict()


# --- trainings -------------------------------------------------------------------------------------------------------

STEPS = 28
SETTINGS = {
    **tiny.ADAPTIVE,
    "optimizer": "muon",
    "dropout": 0.1,
    "removal_smoothing": 1.0,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "lr_scheduler_type": "linear",
    "max_steps": STEPS,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 7,
    "collapse_patience": 6,
}
Script = Callable[[int, int], float]  # (restarts, optimizer step) -> validation exact match


def comes_back(restarts: int, step: int) -> float:
    """Dies behind step 16, once."""
    return 0.0 if restarts == 0 and step > 16 else 0.8


def dies(restarts: int, step: int) -> float:
    """Behind step 16, 18 and 20."""
    return 0.0 if step > 16 + 2 * restarts else 0.8


def made(folder: Path, script: Script, **changed: Any) -> StepwiseInternalizationTrainer:
    """A trainer of which all is real but what its evaluations find."""
    made = tiny.trainer(folder, train=tiny.traces(35), evaluated=tiny.traces(6), **{**SETTINGS, **changed})

    def one_pass(*_: Any) -> tuple[np.ndarray, np.ndarray]:
        found = np.full(2, script(made.recovery.restarts, made.state.global_step))
        return found, found

    def evaluate(*args: Any, **kwargs: Any) -> dict[str, float]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer_module, "one_pass", one_pass)
            return StepwiseInternalizationTrainer.evaluate(made, *args, **kwargs)

    made.evaluate = evaluate  # ty: ignore[invalid-assignment]
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StepwiseInternalizationTrainer]:
    """A training that collapses, goes back and makes it, in one go."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    trainer = made(folder, comes_back)
    trainer.train()
    return folder, trainer


def test_it_goes_back_and_makes_it(whole: tuple[Path, StepwiseInternalizationTrainer]) -> None:
    """From step 16, found dead at 24, with twice the 12 steps that were left there, at half the pace."""
    folder, trainer = whole
    (restart,) = tiny.metrics(folder, "restart")
    assert set(restart) == {"event", "step", "removed", "total", "from_step", "text"}
    assert (restart["step"], restart["from_step"]) == (24, 16)
    good = next(line for line in tiny.metrics(folder, "eval") if line["step"] == 16)
    assert restart["removed"] == good["removed"] > 0
    words = f"back to step 16 ({good['removed']} removed, exact match 0.80), at half the pace (restart 1 of 2)"
    assert restart["text"].endswith(words)
    assert trainer.state.global_step == 16 + 2 * (STEPS - 16)
    assert trainer.schedule.pace == 0.5
    steps = [line["step"] for line in tiny.metrics(folder)]
    assert steps == sorted(steps)
    assert steps[-1] == trainer.state.global_step + 8
    info = trainer.student().info
    assert trainer.student().silent
    assert (info["restarts"], info["train_steps"], info["train_examples"]) == (1, 48, 48 * 4)
    (outcome,) = tiny.metrics(folder, "outcome")
    assert info["outcome"] == outcome["text"] == trainer.outcome
    assert "all 8 removed after 1 restart, with a validation exact match of 0.80; 8 of 48 steps" in outcome["text"]
    assert trainer.args.max_steps == STEPS
    rates = {line["step"]: line["learning_rate"] for line in tiny.metrics(folder, "train")}
    assert rates[16] == pytest.approx(1e-3 * (28 - 15) / 28)
    assert rates[27] == pytest.approx(1e-3 * (40 - 18) / 40)  # it falls to zero at the new end


def test_with_other_data(whole: tuple[Path, StepwiseInternalizationTrainer], tmp_path: Path) -> None:
    """The same step shows other examples, and removes other random extras, than in the attempt before."""
    trainer, state = made(tmp_path, comes_back), read_state(whole[0] / GOOD / "checkpoint-22")
    orders, seeds = [], []
    for restarts in (0, 1, 2, 0):
        changed = {**state, "recovery": {**state["recovery"], "restarts": restarts}}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(restarts_module, "read_state", lambda _: changed)  # noqa: B023
            trainer._restore(tmp_path)
        loader = trainer.get_train_dataloader()
        loader.set_epoch(2)
        orders.append([index for batch in loader for index in batch["examples"]])
        seeds.append(trainer.removal.seed)
    assert orders[0] == orders[3]
    assert seeds[0] == seeds[3]
    assert len(set(map(tuple, orders))) == len(set(seeds)) == 3
    assert all(sorted(order) == list(range(35)) for order in orders)


class Killed(Exception):
    pass


def kill(*_: Any, **__: Any) -> None:
    raise Killed


class KillAt(TrainerCallback):
    """Before anything is written of this step."""

    def __init__(self, restarts: int, step: int) -> None:
        self.restarts, self.step = restarts, step
        self.trainer: Any = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if (self.trainer.recovery.restarts, state.global_step) == (self.restarts, self.step):
            raise Killed


def at_call(number: int, of: Callable[..., Any], after: bool = False) -> Callable[..., Any]:
    """A function that kills its caller at its n-th call, before or after doing what it does."""
    calls = 0

    def killing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            raise Killed
        result = of(*args, **kwargs)
        if calls == number:
            raise Killed
        return result

    return killing


def _before_the_restart_is_written(patch: pytest.MonkeyPatch) -> None:
    write = restarts_module.write_state
    patch.setattr(restarts_module, "write_state", lambda f, state: kill() if "restart" in state else write(f, state))


def _half_of_the_restart_is_written(patch: pytest.MonkeyPatch) -> None:
    write = restarts_module.write_state

    def part(folder: Path, state: dict[str, Any]) -> None:
        if "restart" in state:
            (folder / "stage_state.json.part").write_text('{"step": 16, "rec', "utf-8")
            kill()
        write(folder, state)

    patch.setattr(restarts_module, "write_state", part)


POINTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a good one is half linked": lambda patch: patch.setattr(os, "link", at_call(12, os.link)),
    "named, the old one still there": lambda patch: patch.setattr(Path, "rename", at_call(3, Path.rename, after=True)),
    "before the restart is written": _before_the_restart_is_written,
    "half of the restart is written": _half_of_the_restart_is_written,
    "written, nothing deleted": lambda patch: patch.setattr(restarts_module, "forget_rotation", kill),
    "written, half deleted": lambda patch: patch.setattr(
        restarts_module, "forget_rotation", lambda folder: shutil.rmtree(next(folder.glob("checkpoint-*"))) or kill()
    ),
    "all deleted, nothing told": lambda patch: patch.setattr(
        restarts_module, "forget_rotation", at_call(1, restarts_module.forget_rotation, after=True)
    ),
}


@pytest.mark.parametrize("point", [*POINTS, (1, 31)], ids=str)
def test_killed_anywhere_it_ends_the_same(
    point: Any, whole: tuple[Path, StepwiseInternalizationTrainer], tmp_path: Path
) -> None:
    """Where files change, in the lost steps and behind the restart: not one bit and not one line differs."""
    with pytest.MonkeyPatch.context() as patch:
        if point in POINTS:
            trainer = made(tmp_path, comes_back)
            POINTS[point](patch)
        else:
            killer = KillAt(*point)
            trainer = killer.trainer = made(tmp_path, comes_back, callbacks=[killer])
        with pytest.raises(Killed):
            trainer.train()
    trainer = made(tmp_path, comes_back)
    trainer.train(resume_from_checkpoint=True)
    assert tiny.metrics(tmp_path) == tiny.metrics(whole[0])
    assert torch.equal(tiny.weights(trainer.model), tiny.weights(whole[1].model))
    assert trainer.student().info == whole[1].student().info
    assert [path.name for path in (tmp_path / GOOD).iterdir()] == [path.name for path in (whole[0] / GOOD).iterdir()]


def _train_until_killed(folder: str) -> None:
    torch.set_num_threads(1)
    restarts_module.forget_rotation = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # ty: ignore[invalid-assignment]
    made(Path(folder), comes_back).train()


def test_really_killed(whole: tuple[Path, StepwiseInternalizationTrainer], tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_train_until_killed, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert str(last_whole_checkpoint(tmp_path)) == str(tmp_path / GOOD / "checkpoint-16")
    trainer = made(tmp_path, comes_back)
    trainer.train(resume_from_checkpoint=True)
    assert tiny.metrics(tmp_path) == tiny.metrics(whole[0])
    assert torch.equal(tiny.weights(trainer.model), tiny.weights(whole[1].model))


@pytest.mark.parametrize("step", [19, 23])
def test_stopped_by_a_signal(step: int, whole: tuple[Path, StepwiseInternalizationTrainer], tmp_path: Path) -> None:
    """Among the lost steps, and in the very step that turns out to be the last of them."""

    class SignalAt(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        made(tmp_path, comes_back, callbacks=[SignalAt()]).train()
    trainer = made(tmp_path, comes_back)
    trainer.train(resume_from_checkpoint=True)
    assert tiny.metrics(tmp_path) == tiny.metrics(whole[0])
    assert torch.equal(tiny.weights(trainer.model), tiny.weights(whole[1].model))


def test_all_restarts_fail(tmp_path: Path) -> None:
    """What is left is the last good stage, and everything says so truly."""
    trainer = made(tmp_path, dies)
    trainer.train()
    restarts = tiny.metrics(tmp_path, "restart")
    assert [line["from_step"] for line in restarts] == [16, 16]
    (kept,) = (tmp_path / GOOD).iterdir()
    removed = read_state(kept)["removed"]
    assert 0 < removed < tiny.CHAIN
    good = [line for line in tiny.metrics(tmp_path, "eval") if line["exact_match"] == 0.8]
    assert removed == max(line["removed"] for line in good)
    first = min(line["step"] for line in good if line["removed"] == removed)
    assert trainer.removed == removed == tiny.metrics(tmp_path)[-1]["removed"]
    assert trainer.schedule.pace == 0.25

    student = trainer.student()
    checkpoint.save(student, tmp_path / "kept")
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "kept")
    saved = load_file(kept / "model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in stock.state_dict().items() if name in saved)
    info = checkpoint.load_info(tmp_path / "kept")
    assert not info["silent"]
    assert (info["removed_tokens"], info["restarts"]) == (removed, 2)
    assert info["train_steps"] == tiny.metrics(tmp_path)[-1]["step"]
    assert info["outcome"].startswith("collapsed again after 2 restarts: validation exact match stayed below")
    assert info["outcome"].endswith(f"of step {first}: {removed} of 8 removed, validation exact match 0.80")
    card = (tmp_path / "kept" / "README.md").read_text("utf-8")
    assert info["outcome"] in card
    assert "what is left of its chain of thought" in card


def test_a_bad_end_goes_back_too(tmp_path: Path) -> None:
    """Too short to be called dead on the way: the last evaluation counts. It was killed just before the verdict."""

    def script(restarts: int, step: int) -> float:
        return 0.1 if restarts == 0 and step > 24 else 0.8

    one = made(tmp_path / "one", script)
    one.train()
    (restart,) = tiny.metrics(tmp_path / "one", "restart")
    assert (restart["step"], restart["from_step"]) == (STEPS, 20)
    assert "training ended with a validation exact match of 0.10 (best: 0.80)" in restart["text"]
    assert one.state.global_step == 36
    two = made(tmp_path / "two", script)
    two._go_back = kill  # ty: ignore[invalid-assignment]
    with pytest.raises(Killed):
        two.train()
    two = made(tmp_path / "two", script)
    two.train(resume_from_checkpoint=True)
    assert tiny.metrics(tmp_path / "two") == tiny.metrics(tmp_path / "one")
    assert torch.equal(tiny.weights(two.model), tiny.weights(one.model))


class Absurd(TrainerCallback):
    """In the first attempt, a learning rate that ruins the model from a step on."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.trainer: Any = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.recovery.restarts == 0 and state.global_step >= self.step:
            for group in self.trainer.optimizer.param_groups:
                group["lr"] = 3.0


def test_a_real_collapse(tmp_path: Path) -> None:
    """Nothing written down beforehand: eight problems, learned by heart with the chain and then without it."""
    few, absurd = tiny.traces(8), Absurd(60)
    absurd.trainer = trainer = tiny.trainer(
        tmp_path,
        train=few,
        evaluated=few,
        callbacks=[absurd],
        **{**tiny.ADAPTIVE, "explicit_patience": 100, "stage_patience": 8, "removal_smoothing": 4.0},
        optimizer="muon",
        learning_rate=1e-2,
        per_device_train_batch_size=8,
        max_steps=120,
        eval_strategy="steps",
        eval_steps=10,
        collapse_patience=30,
    )
    trainer.train()
    (restart,) = tiny.metrics(tmp_path, "restart")
    dead = next(line for line in tiny.metrics(tmp_path, "eval") if line["step"] == restart["step"])
    assert (dead["removed"], dead["exact_match"]) == (tiny.CHAIN, 0.0)
    assert restart["from_step"] <= 60
    assert tiny.metrics(tmp_path, "eval")[-1]["exact_match"] >= 0.75
    replies = trainer.student().reply([trace.question for trace in few])
    assert [reply.reasoning_tokens for reply in replies] == [0] * 8
    assert sum(reply.answer == trace.answer for reply, trace in zip(replies, few, strict=True)) >= 6


def test_steps_that_run_out_are_no_collapse(tmp_path: Path) -> None:
    trainer = made(tmp_path, lambda *_: 0.8, max_steps=14)
    trainer.train()
    assert not tiny.metrics(tmp_path, "restart")
    assert "the steps ran out at" in str(trainer.outcome)
    assert tiny.metrics(tmp_path, "outcome")[0]["text"] == trainer.student().info["outcome"]


def test_only_what_can_write_the_rest_is_good(tmp_path: Path) -> None:
    """With partial steps only read, a training that ends within a step gives the last border between steps back."""
    trainer = made(tmp_path, lambda *_: 0.8, learn_partial_steps=False, stage_patience=2, max_steps=14, max_restarts=1)
    trainer.train()
    (restart,) = tiny.metrics(tmp_path, "restart")
    assert "ended within a step, at 5 of 8 removed" in restart["text"]
    assert "(3 removed, exact match 0.80)" in restart["text"]
    assert "within a step" in trainer.student().info["outcome"]
    assert trainer.removed in (3, 8)


def test_nothing_was_ever_good(tmp_path: Path) -> None:
    trainer = made(tmp_path, lambda *_: 0.0)
    trainer.train()
    assert trainer.state.global_step == STEPS
    assert not tiny.metrics(tmp_path, "restart")
    assert "there was nothing to go back to" in trainer.student().info["outcome"]
    assert not (tmp_path / GOOD).exists()


def explodes(trainer: StepwiseInternalizationTrainer, at: int) -> StepwiseInternalizationTrainer:
    """The loss of a step of the first attempt is NaN, and so are all weights from then on."""
    real = trainer.compute_loss

    def compute_loss(*args: Any, **kwargs: Any) -> Any:
        factor = math.nan if (trainer.recovery.restarts, trainer.state.global_step) == (0, at) else 1.0
        return real(*args, **kwargs) * factor

    trainer.compute_loss = compute_loss  # ty: ignore[invalid-assignment]
    return trainer


@pytest.mark.parametrize("at", [20, STEPS - 1])
def test_a_loss_that_is_no_number_goes_back_at_once(at: int, tmp_path: Path) -> None:
    """Also that of the last step, which no later one reads."""
    trainer = explodes(made(tmp_path, lambda *_: 0.8), at)
    trainer.train()
    (restart,) = tiny.metrics(tmp_path, "restart")
    assert at < restart["step"] <= at + 2
    assert "the loss is not a finite number" in restart["text"]
    assert torch.isfinite(tiny.weights(trainer.model)).all()
    assert trainer.student().silent


@pytest.mark.parametrize(
    ("settings", "script"),
    [
        pytest.param({"max_restarts": 0}, lambda *_: 0.8, id="off"),
        pytest.param({"schedule": "remove_all"}, lambda *_: 0.8, id="nothing-to-remove"),
        pytest.param({}, lambda *_: 0.0, id="nothing-good"),
    ],
)
def test_a_loss_that_is_no_number_and_no_way_back(settings: dict[str, Any], script: Script, tmp_path: Path) -> None:
    with pytest.raises(TacitError, match=r"the loss is not a finite number \(nan\) at step 20; try a lower learning"):
        explodes(made(tmp_path, script, **settings), 20).train()
    (outcome,) = tiny.metrics(tmp_path, "outcome")
    assert (outcome["step"], outcome["text"]) == (20, "the loss is not a finite number (nan) at step 20")


def test_without_restarts(tmp_path: Path) -> None:
    """A healthy training is the same with and without them; a dead one then goes on to its end, and says so."""
    weights = []
    for name, restarts in (("on", 2), ("off", 0)):
        trainer = made(tmp_path / name, lambda *_: 0.8, max_restarts=restarts)
        trainer.train()
        weights.append(tiny.weights(trainer.model))
        assert (tmp_path / name / GOOD).exists() == (restarts > 0)
        assert trainer.outcome is None
    assert torch.equal(*weights)
    assert tiny.metrics(tmp_path / "on") == tiny.metrics(tmp_path / "off")
    trainer = made(tmp_path / "dead", dies, max_restarts=0)
    trainer.train()
    assert trainer.state.global_step == STEPS
    assert not tiny.metrics(tmp_path / "dead", "restart")
    assert not (tmp_path / "dead" / GOOD).exists()
    (outcome,) = tiny.metrics(tmp_path / "dead", "outcome")
    assert outcome["text"] == trainer.student().info["outcome"]
    assert outcome["text"] == "training ended with a validation exact match of 0.00 (best: 0.80) at 8 of 8 removed"


@pytest.mark.parametrize(
    ("settings", "script", "text"),
    [
        ({"max_steps": 14}, lambda *_: 0.8, "the steps ran out at 5 of 8 removed"),
        ({"max_steps": 14, "learn_partial_steps": False, "stage_patience": 2}, lambda *_: 0.8, "ended within a step"),
        ({}, lambda *_: 0.0, "no stage reached a validation exact match of 0.05 (best: 0.000)"),
        ({"schedule": "linear", "removal_per_epoch": 64}, dies, "of 0.00 (best: 0.80)"),
    ],
)
def test_every_end_without_restarts_is_told(
    settings: dict[str, Any], script: Script, text: str, tmp_path: Path
) -> None:
    trainer = made(tmp_path, script, max_restarts=0, **settings)
    trainer.train()
    (outcome,) = tiny.metrics(tmp_path, "outcome")
    assert text in outcome["text"]
    assert "go back to" not in outcome["text"]
    assert outcome["text"] == trainer.student().info["outcome"]


@pytest.mark.parametrize("schedule", ["keep_all", "remove_all"])
def test_a_baseline_is_not_watched(schedule: str, tmp_path: Path) -> None:
    trainer = made(tmp_path, lambda *_: 0.0, schedule=schedule)
    trainer.train()
    assert trainer.outcome is None
    assert not tiny.metrics(tmp_path, "restart", "outcome")


def test_a_new_training_forgets_the_old_one(tmp_path: Path) -> None:
    made(tmp_path, lambda *_: 0.8, max_steps=10).train()
    assert (tmp_path / GOOD).exists()
    made(tmp_path, lambda *_: 0.0, max_steps=4, save_strategy="no").train()
    assert not (tmp_path / GOOD).exists()


def test_a_run_tells_of_it(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the screen, in the summary, on the page; what was kept for a restart is gone in the end."""
    found = iter([0.8] * 8 + [0.0] * 4)
    monkeypatch.setattr(trainer_module, "one_pass", lambda *_: (np.full(2, next(found, 0.8)),) * 2)
    settings = {key: value for key, value in SETTINGS.items() if key != "dropout"}
    recipe = parse_recipe(
        {
            "task": "multiplication",
            "data": {"digits": "2x2", "train": 36, "validation": 6, "test": 6, "seed": 0},
            "model": {"architecture": "gpt2", "config": {"n_layer": 1, "n_embd": 32, "n_head": 2}},
            "train": {**settings, "learning_rate": 1e-3, "bf16": False, "use_cpu": True},
            "methods": {"stepwise": {}},
            "evaluation": {"batch_size": 6, "speed_problems": 6},
        }
    )
    run = carry_out(recipe, tmp_path / "run", listener=RunDisplay().hear)
    info = checkpoint.load_info(run.cell("stepwise"))
    (row,) = run.rows
    assert (row["restarts"], row["train_steps"], info["restarts"]) == (1, 48, 1)
    (restart,) = tiny.metrics(run.cell("stepwise"), "restart")
    page = (run.folder / "report.html").read_text("utf-8")
    screen = capsys.readouterr().err
    for text in (restart["text"], info["outcome"]):
        assert f"stepwise: {text}\n" in screen
        assert text in page
    (last,) = (at for at, line in enumerate(screen.splitlines()) if "step 48/48" in line)  # once, when it is complete
    assert "val 80.0%" in screen.splitlines()[last]
    assert info["outcome"] in screen.splitlines()[last + 1]
    assert "<b>Stepwise Internalization, seed 0, step 24</b>: collapsed:" in page
    assert page.count('class="restart series0"') == 2  # for desks and for telephones
    assert "Dotted ones" in page
    assert not (run.cell("stepwise") / GOOD).exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_restarts": -1}, "max_restarts must be at least 0"),
        ({"collapse_patience": 0}, "collapse_patience must be at least 1"),
        ({"collapse_below": 0.5}, "collapse_below must be less than restart_below"),
        ({"restart_below": math.nan}, "collapse_below must be less than restart_below"),
    ],
)
def test_settings(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TacitError, match=message):
        tiny.settings(tmp_path, **settings)
