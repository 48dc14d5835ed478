"""How a run looks while it goes on: a bar for each cell where a person watches, lines where nobody does.

Usage: `with RunDisplay() as display: carry_out(recipe, folder, listener=display.hear)`.
"""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from tacit.report.words import duration
from tacit.run.rehearsal import REHEARSAL

QUIET_SECONDS = 15.0


class RunDisplay:
    """Shows stage, removed/total, loss, validation exact match and time left of every cell, on stderr."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=18),
            TextColumn("{task.fields[state]}"),
            console=console,
        )
        self.watched = console.is_terminal
        self.tasks: dict[str, TaskID] = {}
        self.seen: dict[str, dict[str, Any]] = {}
        self.told: dict[str, float] = {}
        # Of a training whose steps are done; told with what follows in its cell, when it is complete.
        self.last: dict[str, str] = {}

    def __enter__(self) -> "RunDisplay":
        if self.watched:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.watched:
            self.bars.stop()

    def hear(self, cell: str, line: dict[str, Any]) -> None:
        """Takes a line of a cell's metrics, or a note."""
        if cell != REHEARSAL and REHEARSAL in self.tasks:
            self.bars.remove_task(self.tasks.pop(REHEARSAL))
        if line["event"] == "note":
            self._say(cell, line["text"])
            return
        if line["event"] == "warning":
            self._announce(cell, line["text"])
            return
        state = self.seen.setdefault(cell, {})
        state.update({key: line[key] for key in ("step", "max_steps", "seconds", "removed", "total", "stage")})
        if line["event"] == "train":
            state["loss"] = line["loss"]
        if line["event"] == "eval":
            state.update({key: line[key] for key in ("exact_match", "emulation_error") if key in line})
        self._show(cell, state)
        if line["event"] in ("restart", "outcome"):
            self._announce(cell, line["text"])

    def _say(self, cell: str, text: str) -> None:
        if not self.watched:
            for done in [name for name in self.last if name.partition("/")[0] == cell.partition("/")[0]]:
                _print(done, self.last.pop(done))
            _print(cell, text)
        elif cell in self.tasks:
            self.bars.update(self.tasks[cell], state=text)
        else:
            self.tasks[cell] = self.bars.add_task(cell, total=None, state=text)

    def _announce(self, cell: str, text: str) -> None:
        """Says what must not be missed: it stays on the screen."""
        if self.watched:
            self.bars.console.print(f"{cell}: {text}", markup=False, highlight=False)
        else:
            self._say(cell, text)

    def _show(self, cell: str, state: dict[str, Any]) -> None:
        parts = [f"step {state['step']}/{state['max_steps']}"]
        if state["total"] and (state["stage"] or state["removed"] < state["total"]):  # where chains are written
            parts += [f"stage {state['stage']}", f"removed {state['removed']}/{state['total']}"]
        if "loss" in state:
            parts.append(f"loss {state['loss']:.3f}")
        if "exact_match" in state:
            parts.append(f"val {state['exact_match']:.1%}")
        if "emulation_error" in state:
            errors = [error for error in state["emulation_error"] if error is not None]
            parts.append(f"emulation error {sum(errors) / max(1, len(errors)):.3f}")
        if state["step"]:
            left = state["seconds"] / state["step"] * (state["max_steps"] - state["step"])
            parts.append(f"{duration(left)} left")
        if self.watched:
            if cell not in self.tasks:
                self.tasks[cell] = self.bars.add_task(cell, total=state["max_steps"], state="")
            self.bars.update(
                self.tasks[cell], completed=state["step"], total=state["max_steps"], state="  ".join(parts)
            )
        elif state["step"] == state["max_steps"]:
            self.last[cell] = "  ".join(parts)
        elif time.monotonic() - self.told.get(cell, 0.0) >= QUIET_SECONDS:
            self.told[cell] = time.monotonic()
            _print(cell, "  ".join(parts))


def _print(cell: str, text: str) -> None:
    print(f"{cell}: {text}", file=sys.stderr, flush=True)
