"""Exact match in one forward pass.

Greedy decoding writes the whole target exactly if and only if every target token is the arg-max given the gold prefix.
So the exact match of a student that writes nothing but its answer needs one forward pass a problem and no generation.
It holds on tokens, without logits processors, and up to ties of the arithmetic. Of a student that writes reasoning it
is a lower bound: another chain may end in the right answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tacit.models import target_logits
from tacit.stages import IGNORED, Batcher, Removal


@torch.inference_mode()
def one_pass(
    model: Any, batcher: Batcher, removal: Removal, removed: int, batch_size: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Which targets the model would write token by token.

    Args:
        model: A language model.
        batcher (`Batcher`): The problems, on the model's device.
        removal (`Removal`): What is left out of each target; its smoothing is not used.
        removed (`int`): How much.
        batch_size (`int`): Problems in one forward pass.

    Returns:
        Two boolean arrays of shape (N,): the whole remaining target is exact; the answer segment is exact given the
        gold rest of the chain.
    """
    was_training = model.training
    model.eval()
    rendered = batcher.rendered
    whole, answer = np.empty(len(rendered), dtype=bool), np.empty(len(rendered), dtype=bool)
    order = np.argsort(rendered.lengths, kind="stable")
    for first in range(0, len(order), batch_size):
        examples = order[first : first + batch_size]
        start, length = removal.spans(rendered, examples, removed)
        batch = batcher.cut(examples, start, length)
        labels = batch["labels"]
        if rendered.encoder_decoder:  # the model itself shifts the labels for its decoder
            right = (model(**batch, use_cache=False).logits.argmax(-1) == labels) | (labels == IGNORED)
        else:
            right = _right(model, batch, batcher.predicting(examples, length))
        begin = rendered.chain_lengths[examples] - length
        if not rendered.encoder_decoder:  # the prompt stands before
            begin += rendered.prompt_lengths[examples]
        before = (
            torch.arange(labels.shape[1], device=labels.device) < torch.from_numpy(begin).to(labels.device)[:, None]
        )
        whole[examples] = right.all(1).cpu().numpy()
        answer[examples] = (right | before).all(1).cpu().numpy()
    model.train(was_training)
    return whole, answer


def _right(model: Any, batch: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """Where the arg-max of a causal model, given all before, is the label, or there is none; of the labels' shape."""
    labels = batch.pop("labels")
    targets = labels.flatten()[rows + 1]
    right = torch.ones_like(labels, dtype=torch.bool)
    logits = target_logits(model, model.get_output_embeddings(), rows, **batch, use_cache=False)
    right.view(-1)[rows + 1] = logits.argmax(-1) == targets
    return right
