"""Recovery: how a collapsed training is told from a slow one, and where it goes back to.

Internalization sometimes dies (the curves of arXiv 2405.14838 touch zero), and a healthy training looks dead for a
while: right after a removal its exact match may be 0.00 for more than a thousand steps. `Recovery` is fed with the
validation exact match of one training, and says which stage was the last good one and whether there is anything left
to hope for. It knows no model and writes no file: the trainer does what it says.

Usage: `if recovery.observe(step, removed, exact_match): ...  # save a checkpoint`; `recovery.collapse(total)`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FLOOR = 0.05  # exact match below which no stage is worth going back to


@dataclass(frozen=True)
class Evaluation:
    """The exact match (0 to 1) after an optimizer step, with so much removed.

    `step` counts from the beginning of the training as if nothing had been lost, as checkpoints do; `spent` counts all
    optimizer steps. `within_step`: what is left of a step was given, not asked for; the model cannot write it.
    """

    step: int
    spent: int
    removed: int
    exact_match: float
    within_step: bool = False


@dataclass
class Recovery:
    """Watches one training and its restarts.

    A stage is good while its exact match is at least `FLOOR` and `restart_below` times the best so far, and its model
    can write all that is left. The last good stage is the one with most removed; at the same removal, the evaluation
    with the highest exact match.

    Args:
        max_restarts (`int`): How often a training may go back; with 0 it is watched, no more.
        collapse_below (`float`): Share of the best exact match below which a training may have collapsed.
        collapse_patience (`int`): Optimizer steps in a row that it stays there without rising, until it has.
        restart_below (`float`): Share of the best exact match below which a training must not end.

    Attributes:
        restarts (`int`): How often it went back.
        lost (`int`): Optimizer steps that were spent on what was given up.
        max_steps (`int`, *optional*): The last step, where a restart has moved it.
    """

    max_restarts: int = 2
    collapse_below: float = 0.1
    collapse_patience: int = 2000
    restart_below: float = 0.5

    def __post_init__(self) -> None:
        self.best = 0.0
        self.last: Evaluation | None = None
        self.good: Evaluation | None = None
        self.low: list[tuple[int, float]] = []  # (step, exact match) since it fell below the threshold
        self.restarts = 0
        self.lost = 0
        self.max_steps: int | None = None

    @property
    def on(self) -> bool:
        """Whether a training goes back at all."""
        return self.max_restarts > 0

    @property
    def threshold(self) -> float:
        """The exact match below which a training may have collapsed."""
        return self.collapse_below * self.best

    def observe(self, step: int, removed: int, exact_match: float, within_step: bool = False) -> bool:
        """Takes note of an evaluation. Returns whether it is the last good one from now on."""
        self.last = Evaluation(step, self.lost + step, removed, exact_match, within_step)
        self.best = max(self.best, exact_match)
        if exact_match < self.threshold:
            self.low.append((step, exact_match))
        else:
            self.low.clear()
        further = self.good is None or (removed, exact_match) > (self.good.removed, self.good.exact_match)
        if further and self._is_good(self.last):
            self.good = self.last
            return True
        return False

    def _is_good(self, found: Evaluation) -> bool:
        return not found.within_step and found.exact_match >= max(FLOOR, self.restart_below * self.best)

    def collapse(self, total: int) -> str | None:
        """Why the training has collapsed, in words; None while there is hope, or nothing to go back to.

        Args:
            total (`int`): The longest chain: everything.
        """
        if self.good is None or self.last is None:
            return None
        long_ago = [step for step, _ in self.low if step <= self.last.step - self.collapse_patience]
        if not long_ago:
            return None
        middle = (long_ago[-1] + self.last.step) / 2
        earlier = max(match for step, match in self.low if long_ago[-1] <= step < middle)
        if max(match for step, match in self.low if step >= middle) > earlier:  # it rises
            return None
        stayed = self.last.step - self.low[0][0]
        return (
            f"validation exact match stayed below {self.threshold:.2g} for {stayed:,} steps at "
            f"{self.last.removed} of {total} removed"
        )

    def failure(self, total: int) -> str | None:
        """Why a training that has used all its steps counts as collapsed, in words; else None."""
        if self.good is None or self.last is None or self._is_good(self.last):
            return None
        if self.last.within_step:
            return (
                f"training ended within a step, at {self.last.removed} of {total} removed: the model cannot write the "
                "rest of the step, which it only read"
            )
        return (
            f"training ended with a validation exact match of {self.last.exact_match:.2f} (best: {self.best:.2f}) at "
            f"{self.last.removed} of {total} removed"
        )

    def restart(self, spent: int, max_steps: int) -> None:
        """Begins again at the last good stage, with twice the steps that were left there.

        Args:
            spent (`int`): All optimizer steps so far.
            max_steps (`int`): The last step that was in force.
        """
        assert self.good is not None  # else there is nothing to go back to
        self.restarts += 1
        self.lost = spent - self.good.step
        self.max_steps = self.good.step + 2 * (max_steps - self.good.step)

    def tell_restart(self, reason: str) -> str:
        """The sentence about the restart that has just begun."""
        assert self.good is not None
        return (
            f"collapsed: {reason}; back to step {self.good.spent:,} ({self.good.removed} removed, exact match "
            f"{self.good.exact_match:.2f}), at half the pace (restart {self.restarts} of {self.max_restarts})"
        )

    def tell_given_up(self, reason: str, total: int) -> str:
        """The sentence about a training that has used up its restarts."""
        assert self.good is not None
        return (
            f"collapsed again after {_count(self.restarts)}: {reason}; what is kept is the last good stage, of step "
            f"{self.good.spent:,}: {self.good.removed} of {total} removed, validation exact match "
            f"{self.good.exact_match:.2f}"
        )

    def tell_end(self, total: int) -> str | None:
        """The sentence about a training that has used all its steps and did not fail; None if all went smoothly."""
        if self.last is None:
            return None
        if self.good is None:
            found = f"no stage reached a validation exact match of {FLOOR} (best: {self.best:.3f})"
            return f"{found}: there was nothing to go back to" if self.on else found
        if self.last.removed < total:
            return (
                f"the steps ran out at {self.last.removed} of {total} removed, with a validation exact match of "
                f"{self.last.exact_match:.2f}: a larger max_steps would go on"
                + (f" (after {_count(self.restarts)}; {self._lost})" if self.restarts else "")
            )
        if self.restarts:
            return (
                f"all {total} removed after {_count(self.restarts)}, with a validation exact match of "
                f"{self.last.exact_match:.2f}; {self._lost}"
            )
        return None

    @property
    def _lost(self) -> str:
        assert self.last is not None
        return f"{self.lost:,} of {self.last.spent:,} steps were lost"

    def state_dict(self) -> dict[str, Any]:
        """What has to be saved for an exact resume, as JSON values."""
        return {
            "best": self.best,
            "last": self.last and asdict(self.last),
            "good": self.good and asdict(self.good),
            "low": list(self.low),
            "restarts": self.restarts,
            "lost": self.lost,
            "max_steps": self.max_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a saved state."""
        self.best, self.low = state["best"], [(step, match) for step, match in state["low"]]
        self.last, self.good = (state[key] and Evaluation(**state[key]) for key in ("last", "good"))
        self.restarts, self.lost, self.max_steps = state["restarts"], state["lost"], state["max_steps"]


def _count(restarts: int) -> str:
    return "1 restart" if restarts == 1 else f"{restarts} restarts"
