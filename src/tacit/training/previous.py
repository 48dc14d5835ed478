"""Soft targets: the model as it was when the previous stage ended, which still saw what has been removed since.

It reads each example with what the last removal took away, and its distribution over the tokens that both write
is a target beside the gold tokens: what the removed tokens told it, the student learns to know without them.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch.nn.functional import kl_div

from tacit.models import target_logits

FILE = "previous_stage.safetensors"


class PreviousStage:
    """A frozen copy of a causal model.

    Args:
        model: Which is copied as it stands.
        removed (`int`): How much was removed when the stage ended.
    """

    def __init__(self, model: Any, removed: int) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.removed = removed

    @classmethod
    def load(cls, folder: Path, model: Any, removed: int) -> PreviousStage:
        """What `save` wrote; `model` is one of the same shape."""
        previous = cls(model, removed)
        load_model(previous.model, folder / FILE)
        return previous

    def save(self, folder: Path) -> None:
        """Writes the weights into a resume checkpoint."""
        save_model(self.model, str(folder / FILE))

    def divergence(self, logits: torch.Tensor, rows: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """KL(previous || student), summed over targets.

        Args:
            logits (`torch.Tensor` of shape (targets, vocabulary)): The student's.
            rows (`torch.Tensor` of shape (targets,)): Where this model predicts the same tokens, in the flattened
                positions of its own batch.
            inputs: Its batch.
        """
        with torch.no_grad():
            wanted = target_logits(self.model, self.model.get_output_embeddings(), rows, **inputs)
        return kl_div(logits.float().log_softmax(-1), wanted.float().log_softmax(-1), reduction="sum", log_target=True)
