"""Exact resume: whatever stops a training, `--resume` ends with the very same weights.

In one process from every kind of checkpoint, half-written ones included; then the command line itself, killed at
random moments and stopped by Ctrl-C.
"""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from scripts import tiny
from transformers import TrainerCallback

from tacit.errors import TacitError
from tacit.training.trainer import STATE, Interrupted, StepwiseInternalizationTrainer, is_whole, last_whole_checkpoint


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- in one process --------------------------------------------------------------------------------------------------

STEPS = 20
EVERYTHING = {
    **tiny.ADAPTIVE,
    "optimizer": "muon",
    "dropout": 0.1,
    "removal_smoothing": 1.0,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,  # 35 examples: the last step of each epoch is short, 9 steps an epoch
    "lr_scheduler_type": "linear",
    "eval_strategy": "steps",
    "eval_steps": 4,
    "keep_stages": [0, 3],
}


def made(folder: Path, **changed: Any) -> StepwiseInternalizationTrainer:
    """A trainer with all that an exact resume has to carry over."""
    return tiny.trainer(
        folder, train=tiny.traces(35), evaluated=tiny.traces(6), **{**EVERYTHING, "max_steps": STEPS, **changed}
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """A training in one go, with a checkpoint of every step, and its weights."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    trainer = made(folder, save_strategy="steps", save_steps=1, save_total_limit=None)
    trainer.train()
    assert len(list(folder.glob("checkpoint-*"))) == STEPS
    begins = [line["step"] for line in tiny.metrics(folder, "stage")]
    assert len(begins) > 3
    assert not all(step % 9 == 0 for step in begins)
    return folder, tiny.weights(trainer.model)


def killed(whole: Path, folder: Path, step: int) -> Path:
    """What a kill leaves behind between the checkpoint of this step and the next: metrics of later steps as well."""
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("checkpoint-*"))
    for number in (step - 1, step):
        if number:
            shutil.copytree(whole / f"checkpoint-{number}", folder / f"checkpoint-{number}")
    return folder


@pytest.mark.parametrize("step", [1, 5, 9, 10, 13, 18, 19, STEPS])
def test_the_same_weights_and_metrics(step: int, whole: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    """In the middle of an epoch (10), at its end (9, 18), at the end of everything (20); not one bit differs."""
    folder = killed(whole[0], tmp_path / "run", step)
    trainer = made(folder)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == STEPS
    assert (tiny.weights(trainer.model) - whole[1]).abs().max() == 0.0
    assert tiny.metrics(folder) == tiny.metrics(whole[0])
    assert trainer.removed == tiny.metrics(whole[0])[-1]["removed"]


def test_a_resume_where_a_stage_begins(whole: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    """The checkpoint is older than the stage's line of the same step: it is written once, not twice."""
    for line in tiny.metrics(whole[0], "stage")[:3]:
        folder = killed(whole[0], tmp_path / str(line["step"]), line["step"])
        trainer = made(folder)
        trainer.train(resume_from_checkpoint=True)
        assert tiny.metrics(folder) == tiny.metrics(whole[0])
        assert torch.equal(tiny.weights(trainer.model), whole[1])


class StopAt(TrainerCallback):
    """Ends a training after a step, with a checkpoint, as a signal does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="all"),
        pytest.param({"optimizer": "adamw", "schedule": "linear"}, id="adamw-linear"),
        pytest.param({"dataloader_num_workers": 2}, id="workers"),
        pytest.param({"decay_share": 0.5, "lr_scheduler_type": "constant"}, id="decay_share"),
        pytest.param({"schedule": "remove_all"}, id="no_cot"),
    ],
)
def test_stopped_twice(settings: dict[str, Any], tmp_path: Path) -> None:
    one = made(tmp_path / "one", **settings)
    one.train()
    for stop in (7, 12):
        made(tmp_path / "two", callbacks=[StopAt(stop)], **settings).train(resume_from_checkpoint=True)
    two = made(tmp_path / "two", **settings)
    two.train(resume_from_checkpoint=True)
    assert torch.equal(tiny.weights(one.model), tiny.weights(two.model))
    assert tiny.metrics(tmp_path / "one") == tiny.metrics(tmp_path / "two")


def test_a_finished_training_is_not_trained_further(whole: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    """20 steps end in the middle of an epoch. Its checkpoint is loaded and that is all, as often as one likes."""
    folder = killed(whole[0], tmp_path / "run", STEPS)
    for _ in range(2):
        steps: list[int] = []
        trainer = made(folder)
        step = trainer.training_step
        trainer.training_step = lambda *a, **k: steps.append(1) or step(*a, **k)  # noqa: B023
        trainer.train(resume_from_checkpoint=True)
        assert not steps
        assert torch.equal(tiny.weights(trainer.model), whole[1])
        assert trainer.student().info == {}


def test_a_new_training_starts_a_new_file(whole: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    folder = killed(whole[0], tmp_path / "run", 5)
    made(folder, max_steps=2).train()
    assert max(line["step"] for line in tiny.metrics(folder)) == 2


def test_time_goes_on(whole: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    """Seconds count the training alone, and never run backwards."""
    folder = killed(whole[0], tmp_path / "run", 10)
    time.sleep(0.2)
    made(folder, max_steps=12).train(resume_from_checkpoint=True)
    seconds = [json.loads(line)["seconds"] for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert seconds == sorted(seconds)


def test_a_metrics_line_that_was_cut_short(whole: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    folder = killed(whole[0], tmp_path / "run", 10)
    with open(folder / "metrics.jsonl", "a", encoding="utf-8") as out:
        out.write('{"event": "train", "ste')
    made(folder).train(resume_from_checkpoint=True)
    assert tiny.metrics(folder) == tiny.metrics(whole[0])


# --- half-written checkpoints ----------------------------------------------------------------------------------------


def _truncate(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def _only_part(folder: Path) -> None:
    (folder / STATE).rename(folder / f"{STATE}.part")


def _cut_state(folder: Path) -> None:
    text = (folder / STATE).read_text("utf-8")
    (folder / STATE).write_text(text[: len(text) // 2], "utf-8")


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _replace_by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


DAMAGES = {
    "model cut": _truncate("model.safetensors"),
    "optimizer cut": _truncate("optimizer.pt"),
    "trainer state cut": _truncate("trainer_state.json"),
    "random state cut": _truncate("rng_state.pth"),
    "model missing": lambda folder: (folder / "model.safetensors").unlink(),
    "scheduler missing": lambda folder: (folder / "scheduler.pt").unlink(),
    "state missing": lambda folder: (folder / STATE).unlink(),
    "state not yet named": _only_part,
    "state cut": _cut_state,
    "state of another kind": lambda folder: (folder / STATE).write_text("[1, 2]"),
    "state without files": lambda folder: (folder / STATE).write_text('{"step": 10, "files": [1]}'),
    "empty": _empty,
    "a file": _replace_by_a_file,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_half_written_checkpoints_are_skipped(damage: str, whole: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    folder = killed(whole[0], tmp_path / "run", 10)
    assert last_whole_checkpoint(folder) == str(folder / "checkpoint-10")
    DAMAGES[damage](folder / "checkpoint-10")
    assert not is_whole(folder / "checkpoint-10")
    assert last_whole_checkpoint(folder) == str(folder / "checkpoint-9")


@pytest.mark.parametrize("damage", ["model cut", "empty", "state not yet named"])
def test_the_one_before_serves(damage: str, whole: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    """And the half-written one is written again in full."""
    folder = killed(whole[0], tmp_path / "run", 19)
    DAMAGES[damage](folder / "checkpoint-19")
    trainer = made(folder, save_strategy="steps", save_steps=19)
    trainer.train(resume_from_checkpoint=True)
    assert torch.equal(tiny.weights(trainer.model), whole[1])
    assert {path.name for path in folder.glob("checkpoint-*") if is_whole(path)} >= {"checkpoint-19", "checkpoint-20"}


def test_a_half_written_checkpoint_never_drives_out_the_whole_one(
    whole: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    """Killed while it wrote 12, then stopped by Ctrl-C at 10, killed while that was written: 9 must still be there."""
    folder = killed(whole[0], tmp_path / "run", 9)
    shutil.copytree(whole[0] / "checkpoint-12", folder / "checkpoint-12")
    DAMAGES["state missing"](folder / "checkpoint-12")
    shutil.rmtree(folder / "checkpoint-8")
    for number, seconds in ((9, 20), (12, 10)):
        os.utime(folder / f"checkpoint-{number}", (time.time() - seconds,) * 2)

    class KilledWhileSaving(Exception):
        pass

    trainer = made(folder, callbacks=[StopAt(10)], save_total_limit=2)
    wrote = trainer._mean_over_ranks

    def killed_there(loss: torch.Tensor) -> float:
        if (folder / "checkpoint-10").exists():
            raise KilledWhileSaving
        return wrote(loss)

    trainer._mean_over_ranks = killed_there  # ty: ignore[invalid-assignment]
    with pytest.raises(KilledWhileSaving):
        trainer.train(resume_from_checkpoint=True)
    assert last_whole_checkpoint(folder) == str(folder / "checkpoint-9")


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    for name in ("checkpoint-", "checkpoint-abc", "checkpoints", "checkpoint-5x"):
        (tmp_path / name).mkdir()
    assert last_whole_checkpoint(tmp_path) is None
    assert last_whole_checkpoint(tmp_path / "nowhere") is None
    trainer = made(tmp_path, max_steps=1)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 1


def test_a_checkpoint_by_name(whole: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    trainer = made(tmp_path, max_steps=STEPS)
    trainer.train(resume_from_checkpoint=str(whole[0] / "checkpoint-10"))
    assert torch.equal(tiny.weights(trainer.model), whole[1])
    with pytest.raises(TacitError, match="checkpoint"):
        made(tmp_path).train(resume_from_checkpoint=str(tmp_path / "nowhere"))


# --- a signal, in one process ----------------------------------------------------------------------------------------


class SignalAt(TrainerCallback):
    def __init__(self, step: int, number: int, times: int = 1) -> None:
        self.step, self.number, self.times = step, number, times

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [0, 7, STEPS - 1])
def test_a_signal_keeps_a_checkpoint(step: int, number: int, whole: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    """The step under way is finished; the handlers are given back. Asked to stop in the last step, it stops too."""
    before = signal.getsignal(number)
    with pytest.raises(Interrupted):
        made(tmp_path, callbacks=[SignalAt(step, number)]).train()
    assert signal.getsignal(number) is before
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / f"checkpoint-{step + 1}")
    trainer = made(tmp_path)
    trainer.train(resume_from_checkpoint=True)
    assert torch.equal(tiny.weights(trainer.model), whole[1])
    assert tiny.metrics(tmp_path) == tiny.metrics(whole[0])


def test_a_second_signal_ends_it_now(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as stop:
        made(tmp_path, callbacks=[SignalAt(3, signal.SIGINT, times=2)]).train()
    assert not isinstance(stop.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is before
