"""Small decoders of every kind that ICoT-KD is tested on, and its networks as slow loops over one example at a time.

Usage: `student = MindReadingStudent(config, decoder("llama", tokenizer))`, then
`read_slowly(student, ids, thoughts, at)` gives the logits that `student` must give.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import floor
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tacit import models
from tacit.implicit.modeling import ImplicitConfig, ImplicitModel, MindReadingStudent, ThoughtEmulator

WIDTH = 16
_LLAMA = {"hidden_size": WIDTH, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
DECODERS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": WIDTH, "n_head": 2},
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "mistral": {**_LLAMA, "head_dim": 8},
    "gpt_neox": {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 32},
}


@torch.no_grad()
def enliven(model: Any, seed: int = 0) -> Any:
    """A model whose random weights are so large that all that it reads matters, and that no two logits are close."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model.eval()


def decoder(
    name: str, tokenizer: PreTrainedTokenizerBase, layers: int = 4, seed: int = 0, lively: bool = True, **config: Any
) -> Any:
    shape = {**DECODERS[name], "num_hidden_layers": layers, **config}
    made = models.from_config(name, shape, tokenizer, positions=40, seed=seed)
    return enliven(made, seed) if lively else made.eval()


def emulator(name: str, tokenizer: PreTrainedTokenizerBase, layers: int = 4, **config: Any) -> ThoughtEmulator:
    """One with parameters that do not show how they began."""
    language_model = decoder(name, tokenizer, layers, lively=False)
    return enliven(ThoughtEmulator(ImplicitConfig(text_config=language_model.config, **config), language_model), 1)


def coupled(name: str, tokenizer: PreTrainedTokenizerBase, layers: int = 4, **config: Any) -> ImplicitModel:
    """Likewise."""
    text = decoder(name, tokenizer, layers, lively=False).config
    return enliven(ImplicitModel(ImplicitConfig(text_config=text, **config)), 2)


def place(layer: int, layers: int, first: int, last: int, subset: str, stride: int | str) -> tuple[int, int]:
    """Which state a layer is given, as the method says: the block that it enters, and its position."""
    row = {"top_row": layers - 1, "bottom_row": 0}.get(subset, layer)
    if subset in ("first_column", "last_column"):
        return row, first if subset == "first_column" else last
    if stride == "dynamic":
        gap = Fraction(last - first, layers - 1) if layers > 1 else Fraction(0)
        return row, floor(first + layer * gap + Fraction(1, 2))
    return row, min(first + int(stride) * layer, last)


def _changed(model: Any, change: Callable[[int, torch.Tensor], torch.Tensor], at: int) -> Any:
    """A copy of a decoder whose block l is given `change(l, h)` for the state h at one position of its one example."""
    model = copy.deepcopy(model)
    body = model.base_model
    for layer, block in enumerate(body.h if hasattr(body, "h") else body.layers):

        def forward(
            hidden: torch.Tensor, *args: Any, own: Any = block.forward, layer: int = layer, **rest: Any
        ) -> Any:
            new = change(layer, hidden[0, at])
            return own(torch.cat([hidden[0, :at], new[None], hidden[0, at + 1 :]])[None], *args, **rest)

        block.forward = forward
    return model


def _mlp(parts: Any, value: torch.Tensor) -> torch.Tensor:
    inner = parts[0].weight @ value + parts[0].bias
    return parts[2].weight @ inner.clamp(min=0) + parts[2].bias


def read_slowly(student: MindReadingStudent, ids: Sequence[int], thoughts: torch.Tensor, at: int) -> torch.Tensor:
    """The logits of shape (T, V) of a student that has thoughts of shape (L, H) at one position."""
    model = _changed(student.language_model, lambda layer, state: _mlp(student.readers[layer], thoughts[layer]), at)
    return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]


def emulate_slowly(
    network: ThoughtEmulator, prompt: Sequence[int], components: Sequence[int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """v^ of shape (L, H), and the logits of the components, (L, K), of one prompt; the equations as they stand."""
    table, cell, width = network.components.weight, network.recurrence, network.config.size[1]
    thoughts, logits, keys = [], [], []
    state, cell_state, attended = torch.zeros(width), torch.zeros(width), torch.zeros(width)

    def think(layer: int, own: torch.Tensor) -> torch.Tensor:
        nonlocal state, cell_state, attended
        logits.append(torch.stack([row @ own for row in table]))
        if components is not None:
            mixture = table[components[layer]]
        else:
            share = (logits[-1] / network.config.component_temperature).softmax(0)
            mixture = sum(part * row for part, row in zip(share, table, strict=True))
        thoughts.append(_mlp(network.predictors[layer], torch.cat([own, mixture])))
        gates = cell.weight_ih @ (thoughts[-1] + attended) + cell.bias_ih + cell.weight_hh @ state + cell.bias_hh
        into, forget, new, out = gates.chunk(4)
        cell_state = forget.sigmoid() * cell_state + into.sigmoid() * new.tanh()
        state = out.sigmoid() * cell_state.tanh()
        query = network.query.weight @ state
        attended = torch.zeros(width)
        for key, share in zip(keys, torch.tensor([query @ key for key in keys]).softmax(0), strict=True):
            attended = attended + share * key
        keys.append(network.key.weight @ state)
        return network.write.weight @ torch.cat([state, attended])

    with torch.no_grad():
        _changed(network.language_model, think, len(prompt) - 1)(torch.tensor([list(prompt)]), use_cache=False)
    return torch.stack(thoughts), torch.stack(logits)
