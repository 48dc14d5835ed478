"""The networks of ICoT-KD (arXiv 2311.01460): a student that reads its teacher's mind, and an emulator of that mind.

Reasoning becomes vertical: at the last position of the prompt, each of the L layers of the student is given one vector
in the place of its own state. While the student learns, these are states v_l of a teacher that wrote a chain of
thought; afterwards they are what the emulator foretells of them from the prompt alone.

This file needs torch and transformers and nothing of tacit: it lies beside the weights of every `ImplicitModel`, so
that `AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)` runs it. Symbols: L layers, H hidden size,
B examples, K components; `thought_at` is where the prompt ends.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)


class ImplicitConfig(PreTrainedConfig):
    """What the networks are made of.

    Args:
        text_config (`dict` or `PreTrainedConfig`): Of the language models, which all are of one shape.
        components (`int`): K, of the emulator's mixture; 1 is a single Gaussian.
        component_temperature (`float`): tau, of the choice among them.
    """

    model_type = "tacit_implicit"
    sub_configs = {"text_config": AutoConfig}

    text_config: dict | PreTrainedConfig | None = None
    components: int = 1
    component_temperature: float = 0.05

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.text_config, dict):
            settings = dict(self.text_config)
            self.text_config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        if self.text_config is not None:
            kwargs.setdefault("tie_word_embeddings", getattr(self.text_config, "tie_word_embeddings", False))
            kwargs.setdefault("attn_implementation", self.text_config._attn_implementation)  # else it would be reset
        super().__post_init__(**kwargs)

    @property
    def size(self) -> tuple[int, int]:
        """L and H. Raises `ValueError` where there is no `text_config`."""
        if self.text_config is None:
            raise ValueError("the configuration says nothing of a language model (text_config)")
        text = self.get_text_config()
        return text.num_hidden_layers, text.hidden_size


def layers_of(model: Any) -> nn.ModuleList:
    """The blocks of a decoder, in their order: GPT-2's `h`, Llama's `layers`, ...

    Raises:
        ValueError: They cannot be told from the other parts of the model.
    """
    count = model.config.get_text_config().num_hidden_layers
    found = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    outer = [part for part in found if not any(part is not other and part in other.modules() for other in found)]
    if len(outer) != 1:
        raise ValueError(
            f"the layers of a {type(model).__name__} cannot be found: {len(outer)} lists have {count} parts"
        )
    return outer[0]


@contextmanager
def before_each_layer(model: nn.Module, change: Callable[[int, torch.Tensor], torch.Tensor | None]) -> Generator[None]:
    """Shows the states that enter each block to `change`, which may return others to go in instead.

    Args:
        change (`Callable`): Takes the number of the block, from 0, and its input of shape (B, T, H).
    """

    def hook(layer: int) -> Callable:
        def before(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
            changed = change(layer, args[0] if args else kwargs["hidden_states"])
            if changed is None:
                return None
            return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

        return before

    handles = [
        block.register_forward_pre_hook(hook(layer), with_kwargs=True) for layer, block in enumerate(layers_of(model))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def states_at(hidden: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The states of shape (B, H) at one position of each example; `places` is int64 of shape (B,)."""
    return hidden[torch.arange(len(hidden), device=hidden.device), places]


def put(hidden: torch.Tensor, places: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Those of shape (B, T, H) with one position of each example replaced."""
    here = torch.arange(hidden.shape[1], device=hidden.device) == places[:, None]
    return torch.where(here[:, :, None], states[:, None].to(hidden.dtype), hidden)


def _mlp(width: int, inputs: int) -> nn.Sequential:
    """`inputs` to 4H to H, with a ReLU between."""
    return nn.Sequential(nn.Linear(inputs, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))


class _Network(PreTrainedModel):
    """What the networks have in common: their configuration, and how what is not a language model begins."""

    config_class = ImplicitConfig
    base_model_prefix = ""
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def train(self, mode: bool = True) -> Self:
        """Dropout stays off, as in the official code: a state that stands for a whole chain has nothing to spare."""
        return super().train(False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Linear maps keep the variance of what they read: what they write stands in for states of a layer."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
        elif isinstance(module, nn.LSTMCell):
            module.reset_parameters()


class MindReadingStudent(_Network, GenerationMixin):
    """A language model whose states at the end of the prompt are read from somebody else's mind.

    Just before block l, the state there is replaced by `MLP_l(v_l)`, for every l; answer tokens see it by attention.
    """

    def __init__(self, config: ImplicitConfig, language_model: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        layers, width = config.size
        self.readers = nn.ModuleList(_mlp(width, width) for _ in range(layers))
        if language_model is None:
            language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.language_model = language_model
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        thoughts: torch.Tensor | None = None,
        thought_at: torch.Tensor | None = None,
        **others: Any,
    ) -> Any:
        """As the language model's own.

        Args:
            input_ids (`torch.Tensor` of shape (B, T)): The prompt, and perhaps what follows it.
            thoughts (`torch.Tensor` of shape (B, L, H)): v, one state a layer. Without them, which is so after the
                prompt, nothing is replaced.
            thought_at (`torch.Tensor` of shape (B,)): Where the prompt ends.
            others: Of the language model.
        """
        if thoughts is None:
            return self.language_model(input_ids=input_ids, **others)
        assert thought_at is not None

        def read(layer: int, hidden: torch.Tensor) -> torch.Tensor:
            return put(hidden, thought_at, self.readers[layer](thoughts[:, layer]))

        with before_each_layer(self.language_model, read):
            return self.language_model(input_ids=input_ids, **others)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module | None:
        return self.language_model.get_output_embeddings()


class ThoughtEmulator(_Network):
    """Foretells the teacher's states from the prompt alone, layer by layer.

    With u_l the state that enters block l at the end of the prompt and c_l a vector of the mixture,

        v^_l = MLP_l([u_l; c_l])                     the prediction of v_l
        r_l  = LSTM(v^_l + a_{l-1})                  its state is carried from layer to layer
        a_l  = sum_{j<l} softmax_j(q_l . k_j) k_j    with k_j = W_k r_j, q_l = W_q r_l, and a_0 = 0

    and block l goes on from `W_o [r_l; a_l]`. Each of the K components is a vector, chosen by `softmax(E u_l / tau)`.
    """

    def __init__(self, config: ImplicitConfig, language_model: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        layers, width = config.size
        self.predictors = nn.ModuleList(_mlp(width, 2 * width) for _ in range(layers))
        self.components = nn.Embedding(config.components, width)
        self.recurrence = nn.LSTMCell(width, width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.write = nn.Linear(2 * width, width, bias=False)
        own = AutoModel.from_config(config.text_config) if language_model is None else language_model.base_model
        self.language_model = own
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        thought_at: torch.Tensor,
        components: torch.Tensor | None = None,
        **others: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Its thoughts.

        Args:
            input_ids (`torch.Tensor` of shape (B, T)): The prompts; what stands behind `thought_at` is not seen.
            thought_at (`torch.Tensor` of shape (B,)): Where each ends.
            components (`torch.Tensor` of shape (B, L), int64, *optional*): Which component it is at each layer; by
                default the emulator chooses.
            others: Of the language model.

        Returns:
            v^ of shape (B, L, H), and the logits of the components, (B, L, K); None where K = 1.
        """
        table = self.components.weight
        thoughts: list[torch.Tensor] = []
        logits: list[torch.Tensor] = []
        keys: list[torch.Tensor] = []
        memory: tuple[torch.Tensor, torch.Tensor] | None = None
        attended: torch.Tensor | None = None

        def think(layer: int, hidden: torch.Tensor) -> torch.Tensor:
            nonlocal memory, attended
            state = states_at(hidden, thought_at)
            if len(table) > 1:
                logits.append(nn.functional.linear(state, table))
            if len(table) == 1:
                mixture = table.expand(len(state), -1)
            elif components is not None:
                mixture = self.components(components[:, layer])
            else:
                mixture = (logits[-1].float() / self.config.component_temperature).softmax(-1).to(table.dtype) @ table
            thought = self.predictors[layer](torch.cat([state, mixture.to(state.dtype)], -1))
            thoughts.append(thought)
            memory = self.recurrence(thought if attended is None else thought + attended, memory)
            recurrent = memory[0]
            if keys:
                earlier = torch.stack(keys, 1)
                share = (earlier @ self.query(recurrent)[:, :, None]).softmax(1)
                attended = (share * earlier).sum(1)
            else:
                attended = torch.zeros_like(recurrent)
            keys.append(self.key(recurrent))
            return put(hidden, thought_at, self.write(torch.cat([recurrent, attended], -1)))

        with before_each_layer(self.language_model, think):
            self.language_model(input_ids=input_ids, use_cache=False, **others)
        return torch.stack(thoughts, 1), torch.stack(logits, 1) if logits else None


class ImplicitModel(_Network, GenerationMixin):
    """Emulator and student coupled: a language model that thinks before it writes, and not in words.

    The emulator runs once, where the prompt is read; all later tokens come from the student alone, with its cache.
    """

    def __init__(
        self,
        config: ImplicitConfig,
        student: MindReadingStudent | None = None,
        emulator: ThoughtEmulator | None = None,
    ) -> None:
        super().__init__(config)
        self.student = student or MindReadingStudent(config)
        self.emulator = emulator or ThoughtEmulator(config)
        self.student.config = self.emulator.config = config
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        thought_at: torch.Tensor | None = None,
        prompt_width: int | None = None,
        **others: Any,
    ) -> Any:
        """As a causal language model's.

        Args:
            input_ids (`torch.Tensor` of shape (B, T)): The prompt, and perhaps what follows it; with a cache, what
                comes next.
            thought_at (`torch.Tensor` of shape (B,), *optional*): Where the prompt ends; by default, where the ids
                do.
            prompt_width (`int`, *optional*): How far the longest prompt reaches: the emulator need not read further,
                where it would see nothing of use.
            others: Of the student's language model.
        """
        others |= {"attention_mask": attention_mask, "position_ids": position_ids, "past_key_values": past_key_values}
        if past_key_values is not None and past_key_values.get_seq_length() > 0:
            return self.student(input_ids, **others)
        if thought_at is None:
            thought_at = torch.full((len(input_ids),), input_ids.shape[1] - 1, device=input_ids.device)

        def prompt(part: torch.Tensor | None) -> torch.Tensor | None:
            return None if part is None else part[:, :prompt_width]

        thoughts, _ = self.emulator(
            prompt(input_ids), thought_at, attention_mask=prompt(attention_mask), position_ids=prompt(position_ids)
        )
        return self.student(input_ids, thoughts, thought_at, **others)

    def generate(self, inputs: torch.Tensor | None = None, **others: Any) -> Any:  # ty: ignore[incompatible-method-override]
        """As transformers' own; the prompt ends where the ids end that it is given."""
        ids = inputs if inputs is not None else others.get("input_ids")
        if ids is not None:
            others.setdefault("thought_at", torch.full((len(ids),), ids.shape[1] - 1, device=ids.device))
        return super().generate(inputs, **others)  # ty: ignore[invalid-argument-type]

    def get_input_embeddings(self) -> nn.Module:
        return self.student.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module | None:
        return self.student.get_output_embeddings()


ImplicitConfig.register_for_auto_class()
ImplicitModel.register_for_auto_class("AutoModelForCausalLM")
AutoConfig.register(ImplicitConfig.model_type, ImplicitConfig, exist_ok=True)
AutoModelForCausalLM.register(ImplicitConfig, ImplicitModel, exist_ok=True)
