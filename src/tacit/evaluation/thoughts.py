"""How well thoughts are emulated, and what they are worth (ICoT-KD, arXiv 2311.01460)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tacit.evaluation.exact_match import one_pass
from tacit.evaluation.statistics import share
from tacit.implicit.modeling import ImplicitModel, MindReadingStudent, ThoughtEmulator
from tacit.implicit.states import ThoughtBatcher
from tacit.stages import Removal


def diagnose(
    student: MindReadingStudent, emulator: ThoughtEmulator, batcher: ThoughtBatcher, batch_size: int = 256
) -> dict[str, Any]:
    """What each of the networks is worth before they are coupled, as JSON values.

        gold_states      exact match of the student with the teacher's true states, as {share, ci95, n}: what it
                         could reach if they were foretold without a fault
        emulated_states  the same with the emulator's
        emulation_error  as `emulation_error` gives it

    Args:
        student (`MindReadingStudent`), emulator (`ThoughtEmulator`): As they were trained, each by itself.
        batcher (`ThoughtBatcher`): Of problems with their chains and the states of the teacher, on their device.
        batch_size (`int`): Problems in one forward pass.
    """
    alone = ThoughtBatcher(batcher.rendered, batcher.pad_id, batcher.device)
    joined = ImplicitModel(emulator.config, student, emulator)  # ty: ignore[invalid-argument-type]
    everything = int(batcher.rendered.chain_lengths.max())
    gold, _ = one_pass(student, batcher, Removal(), everything, batch_size)
    emulated, _ = one_pass(joined, alone, Removal(), everything, batch_size)
    return {
        "gold_states": share(gold),
        "emulated_states": share(emulated),
        "emulation_error": emulation_error(emulator, batcher, batch_size),
    }


@torch.inference_mode()
def emulation_error(emulator: ThoughtEmulator, batcher: ThoughtBatcher, batch_size: int = 256) -> list[float | None]:
    """Of each layer, the squared error of v^_l as a share of that of the mean of v_l: 0 is perfect, 1 is no better.

    Args:
        emulator (`ThoughtEmulator`): Chooses its components itself.
        batcher (`ThoughtBatcher`): Of problems with the states of the teacher, on the emulator's device.
        batch_size (`int`): Problems in one forward pass.

    Returns:
        L shares; None for a layer whose state is the same for all problems, as that of the first layer is where all
        prompts end in the same token at the same position, and for all layers of an emulator that has diverged.
    """
    assert batcher.states is not None
    emulator.eval()
    squares, totals, wrong = (torch.zeros(emulator.config.size, dtype=torch.float64) for _ in range(3))
    count = len(batcher.rendered)
    for first in range(0, count, batch_size):
        examples = np.arange(first, min(first + batch_size, count))
        wanted = batcher.thoughts(examples)
        found, _ = emulator(**batcher.prompts(examples), thought_at=wanted["thought_at"])
        true, found = (part.double().cpu() for part in (wanted["thoughts"], found))
        wrong += (found - true).square().sum(0)
        totals += true.sum(0)
        squares += true.square().sum(0)
    spread = (squares - totals.square() / count).sum(-1)
    errors = wrong.sum(-1) / spread
    known = errors.isfinite() & (spread > 1e-5 * squares.sum(-1))
    return [float(error) if one else None for error, one in zip(errors, known, strict=True)]
