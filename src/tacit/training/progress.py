"""What training tells while it runs: `metrics.jsonl`, a progress line, and how it stops.

`metrics.jsonl` holds these kinds of lines, each with the optimizer steps spent and the seconds since training began:

    {"event": "train", "step", "seconds", "loss", "removed", "total", "learning_rate", "grad_norm"}
    {"event": "eval", "step", "seconds", "removed", "total", "exact_match", "answer_match", "n"}
    {"event": "eval", "step", "seconds", "removed", "total", "emulation_error", "n"}  (an emulator, by layer)
    {"event": "stage", "step", "seconds", "removed", "total", "previous"}
    {"event": "restart", "step", "seconds", "removed", "total", "from_step", "text"}
    {"event": "outcome", "step", "seconds", "removed", "total", "text"}

A restart goes back to the model of `from_step`, and the steps since then are lost; `step` never goes back.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tacit.trace import dump_json, read_records

METRICS = "metrics.jsonl"
TOLD_AGAIN = ("stage", "restart", "outcome")  # events that come after the checkpoint of their step


class Metrics:
    """The metrics file of one training. A resumed training goes on where its checkpoint stood.

    Args:
        path (`Path`): Of the file; it is made with the first line.
        listener (`Callable`, *optional*): Called with each line as a dict, as it is written.

    Attributes:
        stages (`int`): How many have begun by removing more.
    """

    def __init__(self, path: Path, listener: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.path = path
        self.listener = listener
        self.begun = time.monotonic()
        self.stages = 0

    def start(self, step: int) -> None:
        """Begins at an optimizer step: what an earlier process wrote of later steps is dropped, its time is kept.

        Stages, restarts and outcomes come after the checkpoint of their step: those of this step are told again.
        """
        seconds = 0.0
        self.stages = 0
        if step and self.path.exists():
            kept = [line for line in read_records(self.path) if line["step"] <= step - (line["event"] in TOLD_AGAIN)]
            seconds = max((line["seconds"] for line in kept), default=0.0)
            self.stages = sum(line["event"] == "stage" for line in kept)
            part = self.path.with_suffix(".part")
            part.write_text("".join(dump_json(line) + "\n" for line in kept), encoding="utf-8")
            part.replace(self.path)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
        self.begun = time.monotonic() - seconds

    @property
    def seconds(self) -> float:
        """Since training began, time between a stop and its resume left out."""
        return time.monotonic() - self.begun

    def write(self, event: str, step: int, **values: Any) -> None:
        """Appends one line."""
        self.stages += event == "stage"
        line = {"event": event, "step": step, "seconds": round(self.seconds, 3), **values}
        with open(self.path, "a", encoding="utf-8") as out:
            finite = {key: None if _not_finite(value) else value for key, value in line.items()}  # JSON has no NaN
            out.write(dump_json(finite) + "\n")
        if self.listener:
            self.listener(line)


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


class StopOnSignal(TrainerCallback):
    """Ctrl-C (or a polite kill) ends training after the step, with a checkpoint; a second one ends it now."""

    def __init__(self) -> None:
        self.requested: set[int] = set()
        self._previous: dict[int, Any] = {}

    def _request(self, number: int, frame: FrameType | None) -> None:
        if number in self.requested:  # Ctrl-C in a terminal comes as both signals where a parent passes it on
            raise KeyboardInterrupt
        self.requested.add(number)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.requested = set()
        if threading.current_thread() is threading.main_thread():
            self._previous = {n: signal.signal(n, self._request) for n in (signal.SIGINT, signal.SIGTERM)}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.requested:
            control.should_save = True
            control.should_training_stop = True

    def restore(self) -> None:
        """Gives the signals back to whoever had them."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
