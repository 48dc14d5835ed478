"""Exact match in one forward pass.

Greedy decoding writes the whole target exactly if and only if every target token is the arg-max given the gold prefix.
So the exact match of a student that writes nothing but its answer needs one forward pass a problem and no generation.
It holds on tokens, without logits processors, and up to ties of the arithmetic. Of a student that writes reasoning it
is a lower bound: another chain may end in the right answer. It says nothing of one that was not taught to write the
rest of a step (`Removal.learn_partial_steps`): that is given here, and the student must go on from it.
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
        gold rest of the chain. Where `removal` does not ask for the rest of a step, that is given, too.
    """
    was_training = model.training
    model.eval()
    rendered = batcher.rendered
    whole, answer = np.empty(len(rendered), dtype=bool), np.empty(len(rendered), dtype=bool)
    order = np.argsort(rendered.lengths, kind="stable")
    for first in range(0, len(order), batch_size):
        examples = order[first : first + batch_size]
        start, length = removal.spans(rendered, examples, removed)
        unasked = removal.unasked(rendered, examples, length)
        batch = batcher.cut(examples, start, length, unasked)
        labels = batch["labels"]
        if rendered.encoder_decoder:  # the model itself shifts the labels for its decoder
            right = right_targets(model(**batch, use_cache=False).logits, labels)
        else:
            rows, head = batcher.predicting(examples, length, unasked), model.get_output_embeddings()
            read = {name: value for name, value in batch.items() if name != "labels"}
            right = right_targets(target_logits(model, head, rows, **read, use_cache=False), labels, rows)
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


def right_targets(logits: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
    """Where the arg-max of a model, given all before, is the label, or there is none.

    Args:
        logits (`torch.Tensor`): One for each label; with `rows`, of shape (targets, vocabulary).
        labels (`torch.Tensor` of shape (B, longest)): -100 where there is none.
        rows (`torch.Tensor` of shape (targets,), *optional*): As `Batcher.predicting` gives them.

    Returns:
        Booleans of the labels' shape.
    """
    if rows is None:
        return (logits.argmax(-1) == labels) | (labels == IGNORED)
    right = torch.ones_like(labels, dtype=torch.bool)
    right.view(-1)[rows + 1] = logits.argmax(-1) == labels.flatten()[rows + 1]
    return right
