"""A Trainer that resumes exactly where it was stopped, and goes back to its last good stage when it collapses.

`recovery` says that a training has collapsed, and `resume` keeps the files; here it is carried out. An attempt that is
given up ends like a stopped training: the restart is written into the checkpoint of the last good stage, and whoever
resumes from there, this process or another one, takes up the slower schedule and the other order of the data.

Usage: a subclass cuts the batches as `schedule` and `removal` say, and calls `_read_losses` before each optimizer step
and `_watch` after each evaluation.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from transformers import PrinterCallback, ProgressCallback, Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tacit.errors import TacitError
from tacit.rendering import Renderings
from tacit.stages import Schedule
from tacit.training.config import StepwiseInternalizationConfig
from tacit.training.data import Indices
from tacit.training.progress import METRICS, Metrics, StopOnSignal
from tacit.training.resume import (
    forget_good,
    forget_rotation,
    good_checkpoint,
    is_whole,
    keep_good,
    last_whole_checkpoint,
    read_state,
    unmake,
    write_state,
)

LAG = 2  # optimizer steps after which a loss is read: by then the device has long computed it
ANOTHER_ORDER = 1_000_003  # between the seeds of two attempts: a sampler adds the number of the epoch to its own


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal; a checkpoint of the last step is on disk."""


class Reading:
    """Numbers that the device is computing, on their way to the host: `read` waits for them and for nothing after."""

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value.to("cpu", non_blocking=value.is_cuda)  # from a GPU, into pinned memory
        self.arrived = torch.cuda.Event() if value.is_cuda else None
        if self.arrived is not None:
            self.arrived.record()

    def read(self) -> list[float]:
        """The numbers."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.value.tolist()


class RestartingTrainer(Trainer):
    """The course of one training over its attempts: schedule, losses, checkpoints, metrics.

    Args:
        rendered (`Renderings`): The training sequences; a batch is their numbers.
        args (`StepwiseInternalizationConfig`): Settings.
        listener (`Callable`, *optional*): Called with each line of `metrics.jsonl`.
        others: As for `Trainer`.

    Attributes:
        schedule (`Schedule`): How much is removed at a step.
        removal (`Removal`): Which part of a chain that is.
        removed (`int`, *optional*): In force since the last optimizer step.
        recovery (`Recovery`): What is known of this and earlier attempts.
        outcome (`str`, *optional*): What happened, in words, where training did not go smoothly.
    """

    args: StepwiseInternalizationConfig

    def __init__(
        self,
        rendered: Renderings,
        args: StepwiseInternalizationConfig,
        listener: Callable[[dict[str, Any]], None] | None,
        **others: Any,
    ) -> None:
        self.rendered = rendered
        super().__init__(args=args, train_dataset=Indices(len(rendered)), data_collator=Indices.collate, **others)
        self.remove_callback(PrinterCallback)
        self.stop_on_signal = StopOnSignal()
        self.add_callback(self.stop_on_signal)
        if listener is not None:
            self.remove_callback(ProgressCallback)
        self.folder = Path(args.output_dir or "trainer_output")
        self.metrics = Metrics(self.folder / METRICS, listener and self._heard_by(listener))
        self.removal = args.removal
        self.schedule: Schedule = args.make_schedule(rendered, self.steps_per_epoch)
        self.removed: int | None = None
        self.recovery = args.make_recovery()
        self.outcome: str | None = None
        self._collapse: str | None = None  # why this attempt is given up
        # Of the micro-batches so far of this optimizer step: the loss, how many examples were right, and of how many.
        self._sums: torch.Tensor | None = None
        self._counts: list[torch.Tensor] = []  # of this micro-batch
        self._readings: dict[int, Reading] = {}  # such sums by optimizer step, until they are read

    def _heard_by(self, listener: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
        return lambda line: listener(
            {
                **line,
                "stage": self.metrics.stages,
                "max_steps": self.recovery.lost + (self.recovery.max_steps or self.state.max_steps),
            }
        )

    @property
    def steps_per_epoch(self) -> int:
        """T in optimizer steps."""
        args = self.args
        micro_batches = len(self.rendered) / (self._train_batch_size * args.world_size)
        whole = math.floor(micro_batches) if args.dataloader_drop_last else math.ceil(micro_batches)
        return max(1, math.ceil(whole / args.gradient_accumulation_steps))

    @property
    def spent(self) -> int:
        """All optimizer steps so far, with those that a restart has lost."""
        return self.recovery.lost + self.state.global_step

    @property
    def _order_seed(self) -> int:
        """Of the order of the data, which is another one after each restart."""
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return seed + ANOTHER_ORDER * self.recovery.restarts

    def _tell(self, event: str, step: int, **values: Any) -> None:
        """Writes a line of the metrics, with the removal in force; `step` counts all optimizer steps."""
        if self.is_world_process_zero():
            self.metrics.write(event, step, removed=self.removed or 0, total=self.schedule.total, **values)

    # --- losses, read late -------------------------------------------------------------------------------------------

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Trainer's, with the step's loss set aside for the schedule."""
        self._counts.clear()
        loss = super().training_step(*args, **kwargs)
        step = self.state.global_step
        sums = torch.stack([loss.float(), *self._counts])
        self._sums = sums if self._sums is None else self._sums + sums
        if self.accelerator.sync_gradients:  # the step's last micro-batch
            whole, self._sums = self._sums, None
            if self.args.world_size > 1:
                whole = self.accelerator.reduce(whole, reduction="mean")
            self._readings[step] = Reading(whole)
        return loss

    def _count_right(self, right: torch.Tensor, at_stage: torch.Tensor) -> None:
        """Sets aside how many examples were right, of those at the stage itself; both booleans of shape (B,)."""
        self._counts += [(right & at_stage).sum().float(), at_stage.sum().float()]

    def _read_losses(self, step: int) -> None:
        """Shows the schedule the losses that have arrived by this optimizer step."""
        for earlier in sorted(s for s in self._readings if s <= step - LAG):
            loss, *counts = self._readings.pop(earlier).read()
            self._check_finite(earlier, loss)
            right, among = counts or (0, 0)
            self.schedule.observe(earlier, loss, right / among if among else None)

    def _check_finite(self, step: int, loss: float) -> None:
        """Gives the attempt up, or the training where there is nothing to go back to, at a loss that is NaN or inf."""
        if math.isfinite(loss):
            return
        if not self.recovery.on or self.recovery.good is None:
            taken = self.recovery.lost + step
            text = f"the loss is not a finite number ({loss}) at step {taken:,}"
            self._tell("outcome", taken, text=text)
            raise TacitError(f"{text}; try a lower learning_rate, warmup_steps, or bf16: false")
        total = self.schedule.total
        self._collapse = f"the loss is not a finite number at {self.removed or 0} of {total} removed"

    # --- one training, resumed exactly -------------------------------------------------------------------------------

    def train(  # ty: ignore[incompatible-method-override]
        self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any
    ) -> Any:
        """As `Trainer.train`; `True` resumes from the last whole checkpoint, or starts where there is none.

        A training that collapses goes back to its last good stage, at most `max_restarts` times. If that does not
        help, the model is that stage's in the end, and `outcome` says so. With `max_restarts` of 0 the model is what
        the last step left, and `outcome` says if that is no good.

        Raises:
            Interrupted: A signal stopped training; the checkpoint of its last step is on disk.
            TacitError: There is no whole checkpoint of that name, or one of another version; or the loss is not a
                finite number and no stage was good before.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_whole_checkpoint(self.folder)
            if resume_from_checkpoint and self.args.should_save:
                os.utime(resume_from_checkpoint)  # the newest again: half-written ones are deleted before it
        elif resume_from_checkpoint and not is_whole(Path(resume_from_checkpoint)):
            raise TacitError(f"{resume_from_checkpoint}: no checkpoint to resume from, or a half-written one")
        own_max_steps = self.args.max_steps
        checkpoint = Path(resume_from_checkpoint) if resume_from_checkpoint else None
        step, restart = self._restore(checkpoint)
        if self.is_world_process_zero():
            self.metrics.start(self.recovery.lost + step)
        try:
            while True:
                if restart:
                    self._begin_again(restart)
                output = super().train(resume_from_checkpoint=str(checkpoint) if checkpoint else None, **kwargs)
                self.stop_on_signal.restore()
                reason = self._failure()
                if reason and self.recovery.restarts < self.recovery.max_restarts:
                    checkpoint = self._go_back(reason)
                    _, restart = self._restore(checkpoint)
                elif not self.stop_on_signal.requested:
                    self._finish(reason)
                    return output
                if self.stop_on_signal.requested:
                    raise Interrupted
        finally:
            self.stop_on_signal.restore()
            self.args.max_steps = own_max_steps

    def _restore(self, checkpoint: Path | None) -> tuple[int, dict[str, Any] | None]:
        """Our part of a checkpoint, or of a beginning: its optimizer step, and the restart that begins with it."""
        args, state = self.args, read_state(checkpoint) if checkpoint else {}
        self._readings.clear()
        self._sums = None
        self._collapse = self.outcome = None
        self.schedule = args.make_schedule(self.rendered, self.steps_per_epoch)
        self.recovery = args.make_recovery()
        self.removed, step = state.get("removed"), state.get("step", 0)
        if state:
            self.schedule.load_state_dict(state["schedule"])
            self.recovery.load_state_dict(state["recovery"])
            told = {int(s): torch.tensor(sums, dtype=torch.float64) for s, sums in state["readings"].items()}
            self._readings = {s: Reading(sums) for s, sums in told.items()}
        elif args.should_save:
            forget_good(self.folder)
        if self.recovery.on:
            self._find_good(step)
        if self.recovery.max_steps is not None:
            args.max_steps = self.recovery.max_steps
        self.removal = replace(args.removal, seed=args.seed + ANOTHER_ORDER * self.recovery.restarts)
        self.accelerator.dataloader_config.data_seed = self._order_seed
        return step, state.get("restart")

    def _find_good(self, step: int) -> None:
        """Sees to it that the last good stage is on disk, whatever was killed or resumed from elsewhere."""
        good = self.recovery.good
        if good is None:
            return
        rotating = self.folder / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        if good.step == step and self.args.should_save and is_whole(rotating):
            keep_good(self.folder, step)
        self.accelerator.wait_for_everyone()
        if not is_whole(good_checkpoint(self.folder, good.step)):
            self.recovery.good = None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Trainer's checkpoint, then our state with the size of each of its files: without it, it is half-written."""
        if self._collapse:  # to be given up
            return
        step = self.state.global_step
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        try:
            if self.args.should_save:
                unmake(folder)
            super()._save_checkpoint(model, trial)
        except (OSError, SafetensorError, RuntimeError) as error:  # a full disk, as each of the writers tells it
            reason = " ".join(str(error).split())[:200]
            raise TacitError(
                f"cannot write checkpoint {folder}: {reason}; training can go on from the last whole one before it"
            ) from None
        self.accelerator.wait_for_everyone()  # each process has written a file of its own
        readings = {step: reading.read() for step, reading in self._readings.items()}
        if not self.args.should_save:
            return
        state = {
            "step": step,
            "removed": self.removed,
            "schedule": self.schedule.state_dict(),
            "recovery": self.recovery.state_dict(),
            "readings": readings,
        }
        write_state(folder, state)
        if self.recovery.on and self.recovery.good is not None and self.recovery.good.step == step:
            keep_good(self.folder, step)

    # --- what collapses goes back ------------------------------------------------------------------------------------

    def _watch(self, removed: int, exact_match: float, within_step: bool) -> None:
        """Shows an evaluation to the recovery; all ranks take the first one's, and so the same decision."""
        if self.args.world_size > 1:
            (exact_match,) = broadcast_object_list([exact_match])
        better = self.recovery.observe(self.state.global_step, removed, exact_match, within_step)
        if not self.recovery.on:
            return
        if better:
            self.control.should_save = True
        self._collapse = self._collapse or self.recovery.collapse(self.schedule.total)
        if self._collapse:
            self.control.should_training_stop = True

    def _failure(self) -> str | None:
        """Why the attempt that has just ended is given up, in words; else None."""
        if self.state.global_step >= self.state.max_steps:
            for step, reading in self._readings.items():  # those that nobody has read yet
                self._check_finite(step, reading.read()[0])
            if not self._collapse:
                return self.recovery.failure(self.schedule.total)
        return self._collapse

    def _go_back(self, reason: str) -> Path:
        """Writes a restart into the checkpoint of the last good stage, from where any process can carry it out."""
        good = self.recovery.good
        assert good is not None  # else nothing is given up
        checkpoint = good_checkpoint(self.folder, good.step)
        if self.args.should_save:
            spent, state = self.spent, read_state(checkpoint)
            self.schedule.load_state_dict(state["schedule"])
            self.schedule.slow_down(good.step)
            self.recovery.load_state_dict(state["recovery"])
            self.recovery.restart(spent, self.state.max_steps)
            restart = {"step": spent, "from_step": good.spent, "text": self.recovery.tell_restart(reason)}
            parts = {"schedule": self.schedule.state_dict(), "recovery": self.recovery.state_dict()}
            write_state(checkpoint, {**state, **parts, "restart": restart})
        self.accelerator.wait_for_everyone()
        return checkpoint

    def _begin_again(self, restart: dict[str, Any]) -> None:
        """Drops what the lost steps left behind, and tells of it."""
        self.optimizer = self.lr_scheduler = None
        if self.args.should_save:
            forget_rotation(self.folder)
        self._tell("restart", **restart)

    def _finish(self, reason: str | None) -> None:
        """At the end: what happened, in words; where all restarts have failed, the model of the last good stage."""
        good, total = self.recovery.good, self.schedule.total
        if reason and not self.recovery.on:
            self.outcome = reason
        elif reason and good:
            self._load_from_checkpoint(str(good_checkpoint(self.folder, good.step)))
            self.removed = good.removed
            self.outcome = self.recovery.tell_given_up(reason, total)
        elif self.state.global_step >= self.state.max_steps:
            self.outcome = self.recovery.tell_end(total)
        if self.outcome:
            self._tell("outcome", self.spent, text=self.outcome)
