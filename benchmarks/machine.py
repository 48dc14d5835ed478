"""What figures are measured against, and with: the device, its peak, its memory, alternating rounds, a stopwatch.

Usage: `matmul_peak(torch.device("cpu"), "bf16")`; `alternate({"a": run_a, "b": run_b}, rounds=5)`.
"""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


LONG = 0.1  # seconds of a product that is large enough


def matmul_peak(device: torch.device, precision: str) -> float:
    """Floating-point operations a second of a large square matrix product: the best of eight, after two to warm up.

    Large is 8192 on a GPU and 2048 on a processor; less where a product takes long before, as in a precision that a
    processor has no instructions for: at 2048 it would take a minute.
    """
    largest, size = 8192 if device.type == "cuda" else 2048, 256

    def seconds() -> float:
        left, right = torch.randn(2, size, size, device=device, dtype=DTYPES[precision])
        synchronize(device)
        begin = time.perf_counter()
        left @ right
        synchronize(device)
        return time.perf_counter() - begin

    while size < largest and seconds() < LONG:
        size *= 2
    return 2 * size**3 / min([seconds() for _ in range(10)][2:])


def peak_memory(device: torch.device) -> float | None:
    """GiB that this process has taken at most: resident memory, or the GPU's where there is one.

    Resident memory is known on Linux; elsewhere the answer is None.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    status = Path("/proc/self/status")  # `ru_maxrss` would begin with what the parent process had
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(found[1]) / 2**20 if found else None


def alternate(work: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each piece of work returns in each round; in every round all have their turn."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for _, (name, run) in itertools.product(range(rounds), work.items()):
        found[name].append(run())
    return found


def ratio(what: str, ours: Sequence[float], theirs: Sequence[float], wanted: float | None = None) -> dict[str, Any]:
    """Seconds of theirs over seconds of ours, round by round: median, lowest and highest."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {
        "what": what,
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "rounds": len(ratios),
        "wanted": wanted,
    }


class Stopwatch:
    """Seconds between `start` and `stop`, added up; of pairs inside one another, the outermost.

    Args:
        device: Is waited for before the clock is read.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, 0.0
        self._depth, self._begun = 0, 0.0

    def start(self, *_: Any) -> None:
        """Begins; takes whatever a hook is given."""
        self._depth += 1
        if self._depth == 1:
            synchronize(self.device)
            self._begun = time.perf_counter()

    def stop(self, *_: Any) -> None:
        """Ends what the last `start` began."""
        self._depth -= 1
        if not self._depth:
            synchronize(self.device)
            self.seconds += time.perf_counter() - self._begun

    @contextmanager
    def around(self, *functions: tuple[Any, str]) -> Generator[None]:
        """Times these functions, given by the class or module that holds them and their name, and all optimizers."""
        originals = [(owner, name, getattr(owner, name)) for owner, name in functions]
        hooks = [register_optimizer_step_pre_hook(self.start), register_optimizer_step_post_hook(self.stop)]
        for owner, name, inner in originals:
            setattr(owner, name, self._timed(inner))
        try:
            yield
        finally:
            for owner, name, inner in originals:
                setattr(owner, name, inner)
            for hook in hooks:
                hook.remove()

    def _timed(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.start()
            try:
                return inner(*args, **kwargs)
            finally:
                self.stop()

        return call
