"""Stages: how much of the chain of thought is removed at an optimizer step, and the removal itself.

A stage answers four questions. What of the trace is *kept*: `Removal`. What stands *in place* of what is not: nothing,
`cut` closes the gap. What the *targets* are: the gold tokens, `cut` makes the labels. *When* the next stage begins:
the schedules.

Stepwise Internalization (arXiv 2405.14838, section 3) at iteration t, with T iterations an epoch and Delta tokens an
epoch: `s(t) = floor(Delta t / T)` tokens are removed, plus a random offset o with `P(o) ~ exp(-lambda o)` per example
("removal smoothing").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from tacit.rendering import Renderings

# --- when: schedules -------------------------------------------------------------------------------------------------


class Schedule:
    """Optimizer step -> how much is removed; the base of those that are pure functions of the step.

    Attributes:
        total (`int`): The longest chain: everything.
    """

    total: int

    def removed(self, step: int) -> int:
        """How many tokens (or steps) are removed at an optimizer step, 0 to `total`; called once a step, in order."""
        raise NotImplementedError

    def smoothed(self, step: int) -> bool:
        """Whether removal smoothing acts at this step."""
        return True

    def observe(self, step: int, loss: float, exact_match: float | None = None) -> None:
        """Takes note of an earlier step: of its mean training loss, and of the share of its examples that were right.

        The latter is of those at the stage itself, without a random offset; None where that is not asked for, or there
        were none.
        """

    def slow_down(self, step: int) -> None:
        """From this step on at half the pace: for a training that went back to an earlier stage."""

    def state_dict(self) -> dict[str, Any]:
        """What has to be saved for an exact resume, as JSON values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a saved state."""
        for key in self.state_dict():
            setattr(self, key, state[key])


@dataclass
class ConstantSchedule(Schedule):
    """The same removal all along: 0 is explicit CoT, `total` is No CoT."""

    total: int
    amount: int

    def removed(self, step: int) -> int:
        return min(self.amount, self.total)

    def smoothed(self, step: int) -> bool:
        return False


@dataclass
class LinearSchedule(Schedule):
    """The paper's schedule: `s(t) = start + floor(Delta t / T)`.

    Args:
        total (`int`): The longest chain.
        per_epoch (`float`): Delta, removed an epoch.
        steps_per_epoch (`int`): T, in optimizer steps.
        start (`int`): Removed from the first step on.
        explicit_steps (`int`): Steps before t begins to count; without smoothing.
        remove_all_after (`float`): b_max: from this s on, everything is removed.
    """

    total: int
    per_epoch: float
    steps_per_epoch: int
    start: int = 0
    explicit_steps: int = 0
    remove_all_after: float = math.inf

    def __post_init__(self) -> None:
        self.origin, self.amount, self.pace = self.explicit_steps, self.start, 1.0

    def removed(self, step: int) -> int:
        t = max(0, step - self.origin)
        s = self.amount + math.floor(self.pace * self.per_epoch * t / self.steps_per_epoch)
        return self.total if s >= self.remove_all_after else min(s, self.total)

    def smoothed(self, step: int) -> bool:
        return step >= self.explicit_steps

    def slow_down(self, step: int) -> None:
        self.amount = self.removed(step)
        self.origin = max(step, self.origin)
        self.pace /= 2

    def state_dict(self) -> dict[str, Any]:
        return {"origin": self.origin, "amount": self.amount, "pace": self.pace}


@dataclass
class StagedSchedule(Schedule):
    """Stages of a given length, each removing `growth` times what the one before it removed.

    With growth 2 this is geometric removal (arXiv 2605.28600): a chain of m tokens is gone after about log2 m stages.

    Args:
        total (`int`): The longest chain.
        chunk (`int`): Removed by the first removal.
        growth (`float`): Ratio of two successive removals, each rounded and at least 1: above 1 they grow, below 1
            they shrink.
        patience (`int`): The longest stage, in optimizer steps.
        explicit_patience (`int`): The longest first stage, before any removal; without smoothing.
        start (`int`): Removed from the first step on.
        remove_all_after (`float`): b_max: from this removal on, everything is removed.
    """

    total: int
    chunk: int = 1
    growth: float = 1.0
    patience: int = 500
    explicit_patience: int = 2000
    start: int = 0
    remove_all_after: float = math.inf

    def __post_init__(self) -> None:
        self.current = self._clamp(self.start)
        self.stage = 0
        self.stage_start = 0
        self.pace = 1.0

    def _clamp(self, amount: int) -> int:
        return self.total if amount >= self.remove_all_after else min(amount, self.total)

    def removed(self, step: int) -> int:
        if self.current < self.total and self._over(step - self.stage_start):
            self._begin_stage(step)
        return self.current

    def _over(self, elapsed: int) -> bool:
        """Whether the stage ends after so many steps."""
        return elapsed * self.pace >= (self.patience if self.stage else self.explicit_patience)

    def _begin_stage(self, step: int) -> None:
        chunk = max(1, round(min(self.chunk * self.growth**self.stage, self.total)))
        self.current = self._clamp(self.current + chunk)
        self.stage += 1
        self.stage_start = step

    def smoothed(self, step: int) -> bool:
        return self.stage > 0  # the explicit stage shows whole chains

    def slow_down(self, step: int) -> None:
        self.stage_start = step
        self.pace /= 2

    def state_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("current", "stage", "stage_start", "pace")}


@dataclass
class AdaptiveSchedule(StagedSchedule):
    """As `StagedSchedule`, and a stage ends early when training has recovered from the removal.

    Within a stage the training loss is smoothed exponentially (time constant `window` steps). It has recovered when it
    is at most `tolerance` times the lowest loss with which an earlier stage ended, plus `slack`: a stage that ran out
    of patience does not lower the bar. The explicit stage ends when the loss is at most `explicit_loss`.

    With `exact_match`, each stage ends, in place of that, when this share of the training examples is right, smoothed
    in the same way.

    Args:
        tolerance (`float`), slack (`float`): The gate, as above; `slack` in nats per token.
        min_steps (`int`): The shortest stage, in optimizer steps.
        explicit_loss (`float`): The gate of the first stage.
        window (`int`): Of the smoothing.
        exact_match (`float`, *optional*): The share of examples.
    """

    tolerance: float = 1.1
    slack: float = 0.05
    min_steps: int = 30
    explicit_loss: float = 0.05
    window: int = 10
    exact_match: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.loss: float | None = None
        self.right: float | None = None
        self.reference: float | None = None

    @property
    def gate(self) -> float:
        """The loss at which the stage has recovered."""
        return self.explicit_loss if self.reference is None else self.tolerance * self.reference + self.slack

    @property
    def recovered(self) -> bool:
        """Whether the stage has reached its gate."""
        if self.exact_match is not None:
            return self.right is not None and self.right >= self.exact_match
        return self.loss is not None and self.loss <= self.gate

    def _over(self, elapsed: int) -> bool:
        return (elapsed * self.pace >= self.min_steps and self.recovered) or super()._over(elapsed)

    def _begin_stage(self, step: int) -> None:
        super()._begin_stage(step)
        ended = self.explicit_loss if self.loss is None else self.loss
        self.reference = ended if self.reference is None else min(self.reference, ended)
        self.loss = self.right = None

    def observe(self, step: int, loss: float, exact_match: float | None = None) -> None:
        if step < self.stage_start:  # the reading of a step before the removal arrives after it
            return
        self.loss = self._smooth(self.loss, loss)
        if exact_match is not None:
            self.right = self._smooth(self.right, exact_match)

    def _smooth(self, before: float | None, value: float) -> float:
        weight = 1 / self.window
        return value if before is None else (1 - weight) * before + weight * value

    def slow_down(self, step: int) -> None:
        super().slow_down(step)
        self.loss = self.right = None

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "loss": self.loss, "right": self.right, "reference": self.reference}


# --- what is kept: removal -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Removal:
    """Which part of a chain goes when `removed` of it are to go.

    Args:
        unit (`"token"` or `"step"`): What `removed` counts.
        side (`"left"` or `"right"`): From which end of the chain.
        smoothing (`float`): lambda; `inf` is off.
        seed (`int`): Of the random offsets.
        learn_partial_steps (`bool`): Whether what is left of a partly removed step is a target.
    """

    unit: Literal["token", "step"] = "token"
    side: Literal["left", "right"] = "left"
    smoothing: float = math.inf
    seed: int = 0
    learn_partial_steps: bool = True

    def total(self, rendered: Renderings) -> int:
        """The longest chain, in units."""
        return int((rendered.chain_lengths if self.unit == "token" else rendered.step_counts).max())

    def offsets(self, step: int, examples: np.ndarray) -> np.ndarray:
        """o, the random extra removal of each example: `P(o) = (1 - exp(-lambda)) exp(-lambda o)`.

        A function of (seed, step, example) alone: neither accumulation, nor the number of processes, nor a resume
        changes it.
        """
        if math.isinf(self.smoothing):
            return np.zeros(len(examples), dtype=np.int64)
        uniform = (_hash(self.seed, step, examples) >> np.uint64(11)) * 2.0**-53
        return np.floor(-np.log1p(-uniform) / self.smoothing).astype(np.int64)

    def spans(
        self, rendered: Renderings, examples: np.ndarray, removed: np.ndarray | int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Start and length, in tokens of its sequence, of what is removed from each example.

        Args:
            examples (`np.ndarray` of shape (B,)): Indices into `rendered`.
            removed (`int` or `np.ndarray` of shape (B,)): In units; what exceeds a chain is ignored.

        Returns:
            Two arrays of shape (B,), int64.
        """
        first = rendered.prompt_lengths[examples]
        chain = rendered.chain_lengths[examples]
        if self.unit == "token":
            length = np.minimum(removed, chain)
        else:
            steps = rendered.step_counts[examples]
            count = np.minimum(removed, steps)
            border = rendered.start_offsets[examples] + (count if self.side == "left" else steps - count)
            length = rendered.starts[border] - first
            if self.side == "right":
                length = chain - length
        start = first if self.side == "left" else first + chain - length
        return start, length.astype(np.int64)

    def unasked(self, rendered: Renderings, examples: np.ndarray, length: np.ndarray) -> np.ndarray:
        """How many tokens behind a span removed from the left are no targets: the rest of the step in which it ends.

        Nothing needs them once the step is gone, and without the digits before them they are harder to foretell than
        what follows.

        Args:
            examples, length (`np.ndarray` of shape (B,)): Indices into `rendered`, and the lengths that `spans` gave.

        Returns:
            An array of shape (B,), int64: zeros where partial steps are learned.
        """
        if self.learn_partial_steps:
            return np.zeros_like(length)
        steps = rendered.step_counts[examples][:, None]
        nth = np.minimum(np.arange(steps.max() + 1), steps)
        starts = rendered.starts[rendered.start_offsets[examples][:, None] + nth]  # of each step, and of the answer
        end = rendered.prompt_lengths[examples] + length
        return np.where(starts < end[:, None], starts[:, -1:], starts).min(1) - end


def _hash(seed: int, step: int, examples: np.ndarray) -> np.ndarray:
    """64 well-mixed bits for each (seed, step, example): SplitMix64 over them, vectorised."""
    mixed = np.asarray(examples, dtype=np.uint64)
    for key in (step, seed):
        mixed = _splitmix(mixed + np.uint64(key * 0x9E3779B97F4A7C15 % 2**64))
    return mixed


def _splitmix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


# --- in its place, and the targets -----------------------------------------------------------------------------------

IGNORED = -100


class Batcher:
    """Gathers shortened batches from renderings: one `gather` per batch, on the device that holds the ids.

    Args:
        rendered (`Renderings`): The sequences.
        pad_id (`int`): Written after the end of shorter sequences; never a target, never attended to.
        device: Where the batches live.
        keep_positions (`bool`): Tokens behind the removed span keep the positions that they had with it (the paper's
            appendix C); otherwise positions are counted without gaps.
    """

    def __init__(
        self, rendered: Renderings, pad_id: int, device: torch.device | str = "cpu", keep_positions: bool = False
    ) -> None:
        self.rendered = rendered
        self.pad_id = pad_id
        self.keep_positions = keep_positions
        self.device = torch.device(device)
        self.ids = torch.from_numpy(rendered.ids).to(self.device)

    def cut(
        self, examples: np.ndarray, start: np.ndarray, length: np.ndarray, unasked: np.ndarray | int = 0
    ) -> dict[str, torch.Tensor]:
        """The batch of these examples without the span that `Removal.spans` names.

        Args:
            examples, start, length (`np.ndarray` of shape (B,)): Indices into the renderings, and the spans.
            unasked (`int` or `np.ndarray` of shape (B,)): So many tokens behind the prompt are no targets; of causal
                models alone, since the decoder of others reads nothing but its targets.

        Returns:
            `input_ids`, `attention_mask` and `labels`, int64 of shape (B, longest): padded on the right; labels are
            -100 on the prompt, on what is not asked, and on padding. With kept positions, `position_ids` as well. For
            an encoder-decoder the first two hold the prompt and are of another width than the labels, which hold the
            rest.
        """
        offsets, prompt = self.rendered.offsets[examples], self.rendered.prompt_lengths[examples]
        kept = self.rendered.lengths[examples] - length
        if self.rendered.encoder_decoder:
            ids, real, _ = self._gather(offsets, prompt, prompt, np.zeros_like(prompt))
            targets, target, _ = self._gather(offsets + prompt, kept - prompt, start - prompt, length)
            labels = self._labels(targets, target, np.zeros_like(prompt))
            return {"input_ids": ids, "attention_mask": real.long(), "labels": labels}
        ids, real, original = self._gather(offsets, kept, start, length)
        labels = self._labels(ids, real, prompt + unasked)
        batch = {"input_ids": ids, "attention_mask": real.long(), "labels": labels}
        return {**batch, "position_ids": original} if self.keep_positions else batch

    def _labels(self, ids: torch.Tensor, real: torch.Tensor, border: np.ndarray) -> torch.Tensor:
        """The ids that are real and stand at their row's border or behind it."""
        borders = torch.from_numpy(border).to(self.device, non_blocking=True)[:, None]
        behind = torch.arange(ids.shape[1], device=self.device) >= borders
        return ids.masked_fill(~(real & behind), IGNORED)

    def until(self, examples: np.ndarray, lengths: np.ndarray) -> dict[str, torch.Tensor]:
        """The first so many ids of these examples: `input_ids` and `attention_mask`, int64 of shape (B, longest)."""
        ids, real, _ = self._gather(self.rendered.offsets[examples], lengths, lengths, np.zeros_like(lengths))
        return {"input_ids": ids, "attention_mask": real.long()}

    def predicting(self, examples: np.ndarray, length: np.ndarray, unasked: np.ndarray | int = 0) -> torch.Tensor:
        """Where a causal model predicts a target, in the batch that `cut` makes of these examples.

        From the lengths alone, on the host: asking the labels would wait for the device.

        Args:
            examples, length, unasked: As `cut` takes them.

        Returns:
            Indices into its flattened (B * longest) positions, int64 of shape (targets,): each is the one before a
            label.
        """
        border, kept = self.rendered.prompt_lengths[examples] + unasked, self.rendered.lengths[examples] - length
        targets = kept - border
        ends = targets.cumsum()
        first = np.arange(len(examples)) * kept.max() + border - 1
        rows = np.arange(ends[-1]) + np.repeat(first - (ends - targets), targets)
        return torch.from_numpy(rows).to(self.device, non_blocking=True)

    def _gather(
        self, base: np.ndarray, kept: np.ndarray, start: np.ndarray, gap: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows of `kept` ids from `base` on, without the `gap` ids from `start` on.

        Returns:
            The ids, which of them are real, and the positions that they had, all of shape (B, longest).
        """
        bases, lengths, begin, skip = torch.from_numpy(np.stack([base, kept, start, gap])).to(
            self.device, non_blocking=True
        )[:, :, None]
        position = torch.arange(int(kept.max()), device=self.device)
        real = position < lengths
        original = (position + skip * (position >= begin)).masked_fill(~real, 0)
        ids = self.ids[bases + original].long().masked_fill(~real, self.pad_id)
        return ids, real, original
