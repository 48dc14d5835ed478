"""Training programs that take turns, each in a process of its own that waits after a step while others work.

So whole programs can be compared under the same noise, each alone in its process as people run it: all they have to do
is to call a function after each optimizer step.

Usage: `turns = Turns({"a": (begin, "a"), "b": (begin, "b")}, device)`; `turns.take("a", steps=5).seconds`.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.machine import Stopwatch, peak_memory, synchronize
from tacit.errors import TacitError


@dataclass
class Work:
    """A program that trains.

    Args:
        loop (`Callable`): Trains until the function that it is given, to be called after each step, raises.
        inside (`list`): What is timed in a watched turn beside the optimizer: (class or module, name) of functions.
        facts (`Callable`): Figures that are known once it has made a step.
    """

    loop: Callable[[Callable[[], None]], None]
    inside: Sequence[tuple[Any, str]]
    facts: Callable[[], dict[str, float]]


@dataclass(frozen=True)
class Turn:
    """Some steps of a program: their seconds, those of them inside of what is watched, its peak memory, its facts."""

    seconds: float
    inside: float
    peak_gib: float | None
    facts: dict[str, float]


class Turns:
    """Programs that take turns.

    Args:
        programs (`dict`): By name, a function that makes a `Work` in the new process, and its arguments.
        device: Is waited for before a clock is read.
    """

    def __init__(self, programs: Mapping[str, tuple[Any, ...]], device: torch.device) -> None:
        self.programs, self.device = programs, device
        self._running: dict[str, tuple[Any, Connection]] = {}

    def begin(self) -> None:
        """Starts all programs at once; each gets ready, and waits for its first turn."""
        for name in self.programs:
            self._running[name] = self._start(name)

    def take(self, name: str, steps: int, watched: bool = False) -> Turn:
        """The next `steps` steps of a program; its first turn starts it, if it has not begun.

        Raises:
            TacitError: It failed, or was killed.
        """
        if name not in self._running:
            self._running[name] = self._start(name)
        process, pipe = self._running[name]
        try:
            with suppress(OSError):  # it may have ended, and told why
                pipe.send((steps, watched))
            found = pipe.recv()
        except (EOFError, OSError):
            process.join()
            found = f"its process ended with status {process.exitcode}"
        if isinstance(found, Turn):
            return found
        del self._running[name]
        raise TacitError(f"{name}: {found}")

    def _start(self, name: str) -> tuple[Any, Connection]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.device, *self.programs[name]), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def close(self) -> None:
        """Ends the programs that have begun."""
        for process, pipe in self._running.values():
            with suppress(OSError):  # it has ended
                pipe.send((0, False))
            process.join()


class _Over(BaseException):
    """Ends a program from within; no `except Exception` holds it up."""


def _serve(pipe: Connection, device: torch.device, begin: Callable[..., Work], *arguments: Any) -> None:
    try:
        work = begin(*arguments)
        clock = _Clock(pipe, device, work)
        clock.wait()
        work.loop(clock.after_step)
        pipe.send("it ended by itself")
    except _Over:
        pass
    except BaseException as error:
        with suppress(OSError):  # nobody listens any more
            pipe.send(f"{type(error).__name__}: {error}")


class _Clock:
    """Times the turns of a program in its process."""

    def __init__(self, pipe: Connection, device: torch.device, work: Work) -> None:
        self.pipe, self.device, self.work = pipe, device, work

    def wait(self) -> None:
        """Until the next turn. A GPU's memory is left to the others meanwhile, but for what the program holds."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.left, self.watched = self.pipe.recv()
        if not self.left:
            raise _Over
        self.watching = ExitStack()
        self.settling = self.device.type == "cuda"  # its first step takes the memory again, and is not timed
        self.start()

    def start(self) -> None:
        """Starts the clock."""
        self.watch = Stopwatch(self.device)
        if self.watched and not self.settling:
            self.watching.enter_context(self.watch.around(*self.work.inside))
        synchronize(self.device)
        self.begun = time.perf_counter()

    def after_step(self) -> None:
        """Ends the turn with its last step."""
        if self.settling:
            self.settling = False
            self.start()
            return
        self.left -= 1
        if not self.left:
            synchronize(self.device)
            seconds = time.perf_counter() - self.begun
            self.watching.close()
            self.pipe.send(Turn(seconds, self.watch.seconds, peak_memory(self.device), self.work.facts()))
            self.wait()
