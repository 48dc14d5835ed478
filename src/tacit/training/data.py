"""What the trainer reads: traces as token ids, checked against model and settings, and the order they come in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_pt_utils import get_length_grouped_indices

from tacit.errors import TacitError
from tacit.models import is_encoder_decoder, max_positions
from tacit.rendering import Renderings, Unrepresentable, render, representable
from tacit.trace import Trace, from_dataset
from tacit.training.config import StepwiseInternalizationConfig

if TYPE_CHECKING:
    import datasets


class Indices(Dataset):
    """A data set of example numbers: batches are gathered from the renderings once the stage is known."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index

    @staticmethod
    def collate(indices: Sequence[int]) -> dict[str, np.ndarray]:
        return {"examples": np.array(indices, dtype=np.int64)}  # no tensor: it stays on the host


class ByLength(Sampler[int]):
    """Examples of about the same length together; the order is a function of the seed and the epoch alone.

    Args:
        lengths (`list[int]`): Of the examples.
        batch_size (`int`): Of an optimizer step, on all devices together.
        seed (`int`): Of the order.
        epoch (`Callable`): Gives the number of the epoch that begins. A loader that resumes on several devices wraps
            its sampler too often for `set_epoch` to reach it.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


def render_training(
    traces: Sequence[Trace],
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    args: StepwiseInternalizationConfig,
) -> tuple[Renderings, dict[str, int]]:
    """Training traces as tokens, and how many of them were left out, by the reason in words.

    Those are left out that hold characters which the tokenizer cannot represent, or that are longer than `max_length`.

    Raises:
        TacitError: A trace cannot be rendered for another reason or is longer than the model's positions, all would be
            left out, none has steps although the schedule keeps or removes them, or the settings do not go with an
            encoder-decoder.
    """
    if is_encoder_decoder(model):
        _check_encoder_decoder(model, args)
    template, left_out = args.make_template(tokenizer), {}
    try:
        rendered = render(traces, tokenizer, template, is_encoder_decoder(model))
    except Unrepresentable:
        known = np.flatnonzero(representable(traces, tokenizer, template))
        if not len(known):
            raise
        left_out["with characters that the tokenizer lacks"] = len(traces) - len(known)
        traces = [traces[index] for index in known]
        rendered = render(traces, tokenizer, template, is_encoder_decoder(model))
    if args.max_length is not None:
        keep = np.flatnonzero(rendered.positions <= args.max_length)
        if not len(keep):
            raise TacitError(f"every trace has more than max_length={args.max_length} tokens")
        if len(keep) < len(rendered):
            left_out["longer than max_length"] = len(rendered) - len(keep)
            rendered, traces = rendered.select(keep), [traces[index] for index in keep]
    check_positions(rendered, traces, model)
    if args.schedule != "remove_all" and not rendered.step_counts.any():
        raise TacitError("no training trace has steps: there is no reasoning to learn (method no_cot needs none)")
    return rendered, left_out


def check_positions(rendered: Renderings, traces: Sequence[Trace], model: PreTrainedModel) -> None:
    """Raises `TacitError` where a trace is longer than the model's positions."""
    positions = max_positions(model)
    if positions is not None and (longest := int(rendered.positions.max())) > positions:
        over = int((rendered.positions > positions).sum())
        trace = traces[int(rendered.positions.argmax())]
        raise TacitError(
            f"{over} of {len(rendered)} traces are longer than the model's {positions} positions (the longest, "
            f"trace {trace.id}, has {longest} tokens); max_length={positions} leaves such training traces out"
        )


def as_traces(rows: Iterable[Trace] | datasets.Dataset) -> list[Trace]:
    """Traces as they are; the rows of a data set as traces."""
    rows = list(rows)
    return from_dataset(rows) if rows and not isinstance(rows[0], Trace) else rows


def _check_encoder_decoder(model: Any, args: StepwiseInternalizationConfig) -> None:
    """What the decoder's shift of the labels needs."""
    if getattr(model.config, "decoder_start_token_id", None) is None:
        raise TacitError(
            "the encoder-decoder's configuration has no decoder_start_token_id, the token that its decoder begins "
            "with; set it (T5 takes its padding token)"
        )
    if args.label_smoothing_factor:
        raise TacitError("label_smoothing_factor goes with causal models only")
    if not args.learn_partial_steps:  # what is no label, the decoder does not read either
        raise TacitError("learn_partial_steps: false goes with causal models only")
