"""Exact resume: whatever stops a training, `--resume` ends with the very same weights.

In one process from every kind of checkpoint, half-written ones included; then the command line itself, killed at
random moments and stopped by Ctrl-C.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import TrainerCallback

from scripts import tiny
from tacit.errors import TacitError
from tacit.training.restarts import Interrupted
from tacit.training.resume import STATE, is_whole, last_whole_checkpoint
from tacit.training.trainer import StepwiseInternalizationTrainer

pytestmark = pytest.mark.usefixtures("one_thread")


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
    for number, line in enumerate(tiny.metrics(whole[0], "stage")[:3], start=1):
        folder = killed(whole[0], tmp_path / str(line["step"]), line["step"])
        heard: list[dict[str, Any]] = []
        trainer = made(folder, listener=heard.append)
        trainer.train(resume_from_checkpoint=True)
        assert next(line["stage"] for line in heard if line["event"] == "stage") == number, "counted on"
        assert tiny.metrics(folder) == tiny.metrics(whole[0])
        assert torch.equal(tiny.weights(trainer.model), whole[1])


class FullAt(TrainerCallback):
    """Lets no file grow beyond some kilobytes from a step on, as a full disk does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))


def test_a_full_disk_is_one_sentence_and_the_training_goes_on(
    whole: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    saving: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(TacitError, match=r"cannot write checkpoint .*checkpoint-8: .*; training can go on from"):
            made(tmp_path, callbacks=[FullAt(6)], **saving).train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")
    trainer = made(tmp_path, **saving)
    trainer.train(resume_from_checkpoint=True)
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
        pytest.param({"architecture": "t5"}, id="t5"),
        pytest.param({"architecture": "t5", "optimizer": "adamw", "schedule": "linear"}, id="t5-adamw-linear"),
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
        assert trainer.student().info["train_steps"] == STEPS


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
    whole: tuple[Path, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    def killed_there(*_: Any) -> None:
        raise KilledWhileSaving

    monkeypatch.setattr("tacit.training.restarts.write_state", killed_there)
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


@pytest.mark.parametrize("version", [None, 0, 2])
def test_a_checkpoint_of_another_version(
    version: int | None, whole: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    """Neither a traceback nor, silently, a new training in its place."""
    folder = killed(whole[0], tmp_path / "run", 10)
    path = folder / "checkpoint-10" / STATE
    state = json.loads(path.read_text("utf-8"))
    state["version"] = version
    path.write_text(json.dumps(state), "utf-8")
    for resume in (True, str(path.parent)):
        with pytest.raises(TacitError, match=r"checkpoint-10 was written by another version of tacit.*; start anew"):
            made(folder).train(resume_from_checkpoint=resume)


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


# --- the command line, killed and stopped ----------------------------------------------------------------------------

RECIPE = {
    "task": "multiplication",
    "data": {"digits": "2x2", "train": 150, "validation": 20, "test": 40, "seed": 3},
    "model": {
        "architecture": "gpt2",
        "config": {"n_layer": 2, "n_embd": 32, "n_head": 2, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1},
    },
    "train": {
        "max_steps": 130,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "optimizer": "muon",
        "learning_rate": 1e-3,
        "decay_share": 0.3,
        "logging_steps": 5,
        "eval_strategy": "steps",
        "eval_steps": 10,
        "save_steps": 5,
        "use_cpu": True,
        "bf16": False,
    },
    "methods": {
        "stepwise": {"schedule": "adaptive", "stage_min_steps": 3, "stage_patience": 7, "explicit_patience": 12},
        "cot": {"from": "stepwise"},
    },
    "evaluation": {"batch_size": 20, "speed_problems": 20},
}
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "TOKENIZERS_PARALLELISM": "false",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
}


def written(folder: Path, **changed: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changed}, sort_keys=False), "utf-8")
    return path


def tacit_run(recipe: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tacit", "run", str(recipe), "-o", str(folder), *more],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def result(cell: Path) -> dict[str, Any]:
    """All that training and evaluation leave behind, byte for byte, without the time that they took."""
    info = json.loads((cell / "tacit.json").read_text("utf-8"))
    del info["train_seconds"]
    own = {"tacit.json": info}
    if (cell / "metrics.jsonl").exists():
        own["metrics.jsonl"] = tiny.metrics(cell)
    for path in sorted(cell.rglob("*")):
        if path.is_file() and str(path.relative_to(cell)) not in ("tacit.json", "metrics.jsonl"):
            own[str(path.relative_to(cell))] = path.read_bytes()
    return own


def assert_same_result(one: Path, other: Path) -> None:
    ours, theirs = result(one), result(other)
    assert list(ours) == list(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the recipe, carried out by the command line in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    process = tacit_run(written(folder), folder / "run")
    _, problems = process.communicate(timeout=300)
    assert process.returncode == 0, problems
    return folder / "run"


class Kills:
    """When to kill: conditions on the run folder that come true at the moment that they name."""

    def __init__(self, folder: Path) -> None:
        self.cell = folder / "stepwise"
        self.random = random.Random(0)
        self.begin()

    def begin(self) -> None:
        """A process starts: what is older says nothing."""
        self.begun, self.moment = time.time(), 0.0

    def _new(self, path: Path) -> bool:
        with contextlib.suppress(OSError):
            return path.stat().st_mtime > self.begun
        return False

    def _some_time_later(self, most: float) -> bool:
        self.moment = self.moment or time.time() + self.random.uniform(0.0, most)
        return time.time() > self.moment

    def early(self) -> bool:
        """While the folder is made, or the data."""
        return self._some_time_later(0.5)

    def training(self) -> bool:
        """At a random time after the training went on."""
        return self._new(self.cell / "metrics.jsonl") and self._some_time_later(0.8)

    def saving(self) -> bool:
        """A resume checkpoint was begun just now."""
        return any(self._new(path) for path in self.cell.glob("checkpoint-*"))

    def keeping(self) -> bool:
        """The checkpoint of the explicit stage was begun just now."""
        return self._new(self.cell / "stages" / "000" / "config.json")

    def trained(self) -> bool:
        """The last resume checkpoint is written, nothing is evaluated yet."""
        return (self.cell / f"checkpoint-{RECIPE['train']['max_steps']}" / STATE).exists()

    def predicted(self) -> bool:
        """The predictions are written, the final checkpoint is not."""
        return self._new(self.cell / "predictions.jsonl")

    def publishing(self) -> bool:
        """The final checkpoint was begun just now."""
        return self._new(self.cell / "config.json")

    def published(self) -> bool:
        """Nothing is left to do but to remove the resume checkpoints."""
        return self._new(self.cell / "tacit.json")


MOMENTS = (
    *("early", "keeping", "training", "saving", "training", "saving"),
    *("trained", "predicted", "publishing", "published"),
)


def test_killed_at_any_moment(uninterrupted: Path, tmp_path: Path) -> None:
    """Killed (SIGKILL) again and again, in every phase of a run, it ends as if nothing had happened."""
    recipe, folder = written(tmp_path), tmp_path / "run"
    command = json.dumps(["run", str(recipe), "-o", str(folder), "--resume"])
    kills = Kills(folder)
    with subprocess.Popen(
        [sys.executable, str(Path(tiny.__file__).with_name("warm_cli.py"))],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin
        assert server.stdout

        def start() -> int:
            print(command, file=server.stdin, flush=True)
            return int(server.stdout.readline())

        hit = []
        for moment in MOMENTS:
            kills.begin()
            process, due = start(), getattr(kills, moment)
            while not due() and _alive(process):
                time.sleep(0.001)
            if _alive(process):
                os.kill(process, signal.SIGKILL)
            if int(server.stdout.readline()) == -signal.SIGKILL:
                hit.append(moment)
        start()
        assert int(server.stdout.readline()) == 0
        server.stdin.close()
    assert len(hit) >= 8
    for name in ("stepwise", "cot"):
        assert_same_result(uninterrupted / name, folder / name)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.002)


def test_ctrl_c(uninterrupted: Path, tmp_path: Path) -> None:
    """A checkpoint is kept, exit status 130, one line says how to go on, and that command does."""
    folder = tmp_path / "a run"
    process = tacit_run(written(tmp_path), folder)
    wait_for(lambda: len(list(folder.glob("stepwise/checkpoint-*"))) > 1, process)
    process.send_signal(signal.SIGINT)
    output, problems = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == ""
    *_, line = problems.splitlines()
    assert "Traceback" not in problems
    assert line.startswith("stopped; go on with: ")
    assert " run " in line
    kept = last_whole_checkpoint(folder / "stepwise")
    assert kept is not None
    steps = [line["step"] for line in tiny.metrics(folder / "stepwise", "train")]
    assert steps[-1] <= int(kept.rpartition("-")[2]) < RECIPE["train"]["max_steps"]

    command = line.removeprefix("stopped; go on with: ")
    done = subprocess.run(command, shell=True, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Report: " in done.stdout
    ours, theirs = result(folder / "stepwise"), result(uninterrupted / "stepwise")
    for lines in (ours, theirs):  # the mean loss of a log line that the stop fell into covers fewer steps
        lines["metrics.jsonl"] = [
            {key: value for key, value in line.items() if key != "loss"} for line in lines["metrics.jsonl"]
        ]
    assert [name for name in theirs if ours[name] != theirs[name]] == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "ctrl-c"])
def test_side_by_side(how: str, tmp_path: Path) -> None:
    """With two jobs: all processes end with their parent, each keeps a checkpoint at Ctrl-C, and all go on exactly."""
    recipe = written(tmp_path, methods={"stepwise": RECIPE["methods"]["stepwise"], "no_cot": {}}, jobs=2)
    one = tacit_run(recipe, tmp_path / "one")
    _, problems = one.communicate(timeout=300)
    assert one.returncode == 0, problems

    two = tmp_path / "two"
    if how == "kill":
        early = tacit_run(recipe, two)
        time.sleep(1.0)
        wait_for(lambda: len(children(early.pid)) > 3, early)
        os.kill(early.pid, signal.SIGKILL)  # its children are still importing: they must not begin at all
        assert_gone(early.pid)
        assert not list(two.glob("*/*"))
    process = tacit_run(recipe, two, "--resume")
    wait_for(lambda: all(list(two.glob(f"{name}/checkpoint-*")) for name in ("stepwise", "no_cot")), process)
    if how == "kill":
        os.kill(process.pid, signal.SIGKILL)
        assert_gone(process.pid)
        process.communicate()
    else:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, problems = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in problems
        assert problems.splitlines()[-1].startswith("stopped; go on with: ")
        for name in ("stepwise", "no_cot"):
            steps = [line["step"] for line in tiny.metrics(two / name, "train")]
            kept = last_whole_checkpoint(two / name)
            assert kept is not None
            assert int(kept.rpartition("-")[2]) >= steps[-1]
    again = tacit_run(recipe, two, "--resume")
    _, problems = again.communicate(timeout=300)
    assert again.returncode == 0, problems
    for name in ("stepwise", "no_cot"):
        ours, theirs = result(two / name), result(tmp_path / "one" / name)
        for own in (ours, theirs):
            del own["metrics.jsonl"]
        assert [file for file in theirs if ours[file] != theirs[file]] == []


def children(session: int) -> list[int]:
    """Processes of a session that have not ended, from /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = path.read_text("utf-8").rpartition(") ")[2].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def assert_gone(session: int) -> None:
    end = time.monotonic() + 60
    while children(session):
        assert time.monotonic() < end, "a child lives on without its parent"
        time.sleep(0.1)
