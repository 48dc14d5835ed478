"""What a teacher has in mind along its chain of thought: one state a layer, picked from an L x T grid.

`h_l^t` is the state that enters block l (from 0) at position t, while the teacher reads prompt, chain and the first
token of the answer segment. p1 is the last position of the prompt, p2 that of this token. Layer l is given

    diagonal       h_l^{t_l}
    first_column   h_l^{p1}
    last_column    h_l^{p2}
    top_row        h_{L-1}^{t_l}
    bottom_row     h_0^{t_l}

without its mean and at unit variance over H, as `v_l`. With the dynamic stride,
`t_l = p1 + round(l (p2 - p1) / (L - 1))`, halves up, for each example by its own chain; with a fixed stride d,
`t_l = min(p1 + d l, p2)` (arXiv 2311.01460, section 3.1, and the options of its official code). A chain that is
shorter than the layers are many is read more than once at some positions; without a chain there are two, p1 and p2.

Usage: `states = TeacherStates(Mind(teacher), rendered, pad_id)`; `states.of(np.arange(32))`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import layer_norm
from transformers import PreTrainedModel

from tacit.errors import TacitError, unknown_name
from tacit.implicit.modeling import ImplicitConfig, before_each_layer, layers_of, states_at
from tacit.models import is_encoder_decoder
from tacit.rendering import Renderings
from tacit.stages import Batcher

SUBSETS = ("diagonal", "first_column", "last_column", "top_row", "bottom_row")
Stride = int | str  # "dynamic"


def columns(first: np.ndarray, last: np.ndarray, layers: int, stride: Stride) -> np.ndarray:
    """t_l of each example, of shape (B, L), int64.

    Args:
        first, last (`np.ndarray` of shape (B,)): p1 and p2.
        layers (`int`): L.
        stride (`int` or `"dynamic"`): delta.
    """
    layer, first, last = np.arange(layers), first[:, None], last[:, None]
    if stride == "dynamic":
        gaps = max(1, layers - 1)
        return first + (2 * layer * (last - first) + gaps) // (2 * gaps)
    return np.minimum(first + stride * layer, last)


@dataclass
class Mind:
    """A teacher, and which of its states are read.

    Args:
        teacher: A causal language model that was taught to write chains of thought. It is not trained any more.
        subset (`str`): One of `SUBSETS`.
        stride (`int` or `"dynamic"`): delta.

    Raises:
        TacitError: There is no such subset, the stride is neither, or the layers of the teacher cannot be found.
    """

    teacher: Any
    subset: str = "diagonal"
    stride: Stride = "dynamic"

    def __post_init__(self) -> None:
        check_choice(self.subset, self.stride)
        self.layers = check_student(self.teacher)
        self.teacher.eval().requires_grad_(False)

    def check(self, config: ImplicitConfig) -> None:
        """Raises `TacitError` where the teacher is not of the depth and width of a network that reads its mind."""
        text = self.teacher.config.get_text_config()
        if (self.layers, text.hidden_size) != config.size:
            layers, width = config.size
            raise TacitError(
                f"the teacher has {self.layers} layers of width {text.hidden_size}, the student {layers} of {width}: "
                "states are matched layer by layer, so both must be alike"
            )


def check_choice(subset: str, stride: Stride) -> None:
    """Raises `TacitError` where there are no such states."""
    if subset not in SUBSETS:
        raise unknown_name("subset of states", subset, SUBSETS)
    if stride != "dynamic" and (isinstance(stride, bool) or not isinstance(stride, int) or stride < 1):
        raise TacitError(f"the stride must be 'dynamic' or a whole number of at least 1; got {stride!r}")


def check_student(model: Any) -> int:
    """How many layers a language model has. Raises `TacitError` where no thoughts can be put into them."""
    if is_encoder_decoder(model):
        raise TacitError("ICoT-KD goes with models that are decoders only, such as gpt2 or llama; this has an encoder")
    if not isinstance(model, PreTrainedModel):
        raise TacitError(
            f"ICoT-KD needs a model of transformers as it is; a {type(model).__name__} wraps or compiles it"
        )
    if isinstance(model.config, ImplicitConfig):
        raise TacitError("a student of ICoT-KD is two networks: ICoT-KD cannot begin with it once more")
    if model._is_stateful and not hasattr(model.config.get_text_config(), "num_attention_heads"):
        raise TacitError(f"ICoT-KD goes with models that have attention; a {type(model).__name__} has none")
    try:
        return len(layers_of(model.base_model))
    except ValueError as error:
        raise TacitError(str(error)) from None


READ_AT_ONCE = 256  # sequences in one pass of the teacher


class TeacherStates:
    """The states of a teacher for some sequences, kept or computed anew each time.

    Args:
        mind (`Mind`): Whose, and which.
        rendered (`Renderings`): The sequences, with their chains.
        pad_id (`int`): As `Batcher` takes it.
    """

    def __init__(self, mind: Mind, rendered: Renderings, pad_id: int) -> None:
        self.mind = mind
        self.rendered = rendered
        self.batcher = Batcher(rendered, pad_id, mind.teacher.device)
        self.kept: torch.Tensor | None = None

    def places(self, examples: np.ndarray) -> tuple[list[int], np.ndarray]:
        """Which state each layer is given: the number of the block that it enters, and its position, (B, L)."""
        layers, first = self.mind.layers, self.rendered.prompt_lengths[examples] - 1
        last = first + 1 + self.rendered.chain_lengths[examples]
        rows = {"top_row": [layers - 1] * layers, "bottom_row": [0] * layers}.get(self.mind.subset, [*range(layers)])
        first, last = {"first_column": (first, first), "last_column": (last, last)}.get(
            self.mind.subset, (first, last)
        )
        return rows, columns(first, last, layers, self.mind.stride)

    def components(self, examples: np.ndarray) -> torch.Tensor:
        """The tokens at t_l, of shape (B, L), int64: which component of a mixture each thought is of."""
        index = self.rendered.offsets[examples][:, None] + self.places(examples)[1]
        return self.batcher.ids[torch.from_numpy(index).to(self.batcher.device)].long()

    def of(self, examples: np.ndarray) -> torch.Tensor:
        """v, of shape (B, L, H), float32."""
        if self.kept is None:
            return self._read(examples)
        return self.kept[torch.from_numpy(examples).to(self.kept.device)].float()

    @property
    def bytes_kept(self) -> int:
        """What it takes to keep all of them: two bytes a number."""
        return 2 * len(self.rendered) * self.mind.layers * self.mind.teacher.config.get_text_config().hidden_size

    def keep(self, progress: Callable[[int], None] = lambda count: None) -> None:
        """Computes all of them once, in half precision, on the device of the teacher.

        Args:
            progress (`Callable`, *optional*): Called about ten times, with how many sequences have been read.
        """
        kept, count = [], len(self.rendered)
        for first in range(0, count, READ_AT_ONCE):
            last = min(first + READ_AT_ONCE, count)
            kept.append(self._read(np.arange(first, last)).half())
            if 10 * last // count > 10 * first // count:
                progress(last)
        self.kept = torch.cat(kept)

    @torch.no_grad()
    def _read(self, examples: np.ndarray) -> torch.Tensor:
        rows, places = self.places(examples)
        where = torch.from_numpy(places).to(self.batcher.device)
        # A causal model sees nothing behind a position: what is read need not reach further than the last one.
        batch = self.batcher.until(examples, places.max(1) + 1)
        found: dict[int, torch.Tensor] = {}

        def look(layer: int, hidden: torch.Tensor) -> None:
            for slot, row in enumerate(rows):
                if row == layer:
                    state = states_at(hidden, where[:, slot]).float()
                    found[slot] = layer_norm(state, state.shape[-1:])

        model = self.mind.teacher.base_model
        with before_each_layer(model, look):
            model(**batch, use_cache=False)
        return torch.stack([found[slot] for slot in range(len(rows))], 1)


class ThoughtBatcher(Batcher):
    """Batches of prompt and answer for a network that has thoughts at the end of the prompt.

    Args:
        states (`TeacherStates`, *optional*): Those of the same sequences, for a network that reads a teacher's mind.
        others: As for `Batcher`.
    """

    def __init__(
        self,
        rendered: Renderings,
        pad_id: int,
        device: torch.device | str = "cpu",
        states: TeacherStates | None = None,
    ) -> None:
        super().__init__(rendered, pad_id, device)
        self.states = states

    def cut(
        self, examples: np.ndarray, start: np.ndarray, length: np.ndarray, unasked: np.ndarray | int = 0
    ) -> dict[str, Any]:
        """`Batcher`'s, with `thought_at` of shape (B,) and `thoughts` of shape (B, L, H), where a mind is read; else
        with `prompt_width`."""
        return {**super().cut(examples, start, length, unasked), **self.thoughts(examples)}

    def thoughts(self, examples: np.ndarray) -> dict[str, Any]:
        """Where each prompt ends, and what is to stand there; without a mind to read, how far the longest reaches."""
        lengths = self.rendered.prompt_lengths[examples]
        found = {"thought_at": torch.from_numpy(lengths - 1).to(self.device, non_blocking=True)}
        if self.states is None:
            return {**found, "prompt_width": int(lengths.max())}
        return {**found, "thoughts": self.states.of(examples).to(self.device)}

    def prompts(self, examples: np.ndarray) -> dict[str, torch.Tensor]:
        """The prompts alone: `input_ids` and `attention_mask`, int64 of shape (B, longest)."""
        return self.until(examples, self.rendered.prompt_lengths[examples])


class PromptBatcher(ThoughtBatcher):
    """Batches of prompts alone, with the thoughts that an emulator is to have there."""

    def cut(
        self, examples: np.ndarray, start: np.ndarray, length: np.ndarray, unasked: np.ndarray | int = 0
    ) -> dict[str, Any]:
        """The prompts, with `thought_at`, `thoughts` and `components`, the last of shape (B, L); all else is left."""
        assert self.states is not None
        components = self.states.components(examples).to(self.device)
        return {**self.prompts(examples), **self.thoughts(examples), "components": components}
