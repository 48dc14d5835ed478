"""Models and tokenizers: from the Hub, from a folder, or from scratch.

Usage: `model, tokenizer = load("openai-community/gpt2")`, or
`build("gpt2", {"n_layer": 2, "n_embd": 128, "n_head": 4}, texts, positions=64, seed=0)`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tacit.errors import TacitError, unknown_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EOS, PAD, UNKNOWN = "<eos>", "<pad>", "<unk>"


def hush() -> None:
    """Keeps transformers' own notices and progress bars off the screen, where ours are."""
    from transformers.utils import logging as notices

    notices.set_verbosity_error()
    notices.disable_progress_bar()


def load(
    name: str, attn_implementation: str | None = None, trust_remote_code: bool = False
) -> tuple[Any, PreTrainedTokenizerBase]:
    """A causal language model in float32 and its tokenizer.

    Args:
        name (`str`): Of the Hub or of a folder.
        attn_implementation (`str`, *optional*): As transformers takes it.
        trust_remote_code (`bool`, *optional*): Runs code from the model's repository. Off unless asked for.

    Raises:
        TacitError: There is no such model, or it is no causal language model.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=torch.float32,  # "auto" would train bf16 checkpoints in bf16, where small updates vanish
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
        )
    except (OSError, ValueError, LookupError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
        where = "in that folder" if Path(name).exists() else "on the Hub or as a folder"
        reason = str(error).strip().split("\n")[0]
        raise TacitError(f"cannot load a causal language model {name!r} {where}: {reason}") from None
    return model, tokenizer  # ty: ignore[invalid-explicit-return]


def word_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """A tokenizer whose tokens are the words of these texts, split at white space.

    The template's own words must be among the texts: see `Template.words`.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = dict.fromkeys(word for text in texts for word in text.split())
    vocabulary = {token: index for index, token in enumerate([EOS, PAD, UNKNOWN, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def from_config(
    architecture: str,
    settings: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    positions: int,
    seed: int,
    attn_implementation: str | None = None,
) -> PreTrainedModel:
    """A causal language model with random weights.

    Args:
        architecture (`str`): A `model_type` of transformers: `gpt2`, `llama`, ...
        settings (`dict`): Fields of its configuration; vocabulary, special ids and positions are set from the data.
        tokenizer: Gives vocabulary size and special ids.
        positions (`int`): The longest sequence that the model must read, in tokens.
        seed (`int`): Of the initialisation; torch's global generator is left as it was.

    Raises:
        TacitError: An unknown architecture or field, or sizes that do not fit together.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if architecture not in CONFIG_MAPPING:
        raise unknown_name("model architecture", architecture, CONFIG_MAPPING.keys())
    base = CONFIG_MAPPING[architecture]()
    for field in settings:
        if not hasattr(base, field):
            raise unknown_name(f"setting of a {architecture} model:", field, base.to_dict())
    logging.getLogger("transformers.configuration_utils").setLevel(logging.ERROR)
    fields: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": positions,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **{base.attribute_map.get(name, name): value for name, value in settings.items()},
    }
    try:
        config = CONFIG_MAPPING[architecture](**fields)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, attn_implementation=attn_implementation
            )
    except (ValueError, TypeError, RuntimeError, AssertionError, ZeroDivisionError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TacitError(f"cannot build a {architecture} model from {dict(settings)}: {reason}") from None


def position_table(model: torch.nn.Module) -> torch.nn.Embedding | None:
    """The learned absolute positions of a model of GPT-2's kind, where it has such a table."""
    tables = [module for name, module in model.named_modules() if name.rpartition(".")[2] == "wpe"]
    return tables[0] if len(tables) == 1 and isinstance(tables[0], torch.nn.Embedding) else None


@torch.no_grad()
def close_gap(model: torch.nn.Module, start: int, gap: int) -> None:
    """Moves the rows of the position table so that counting without a gap gives what positions with one gave.

    Row j becomes row j + gap for j >= start: a model trained on positions 0..start-1, start+gap.. then runs on
    0, 1, 2, ... as `generate` counts them. The last rows, which nothing reaches any more, repeat the very last.

    Args:
        model: With a `position_table`.
        start (`int`): Where the gap begins.
        gap (`int`): How many positions it skips.
    """
    table = position_table(model)
    assert table is not None  # checked before training
    rows = torch.arange(table.num_embeddings, device=table.weight.device)
    rows = torch.where(rows >= start, rows + gap, rows).clamp(max=table.num_embeddings - 1)
    table.weight.copy_(table.weight[rows].clone())


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id to pad with. Pads are masked by length, never by id, so end of sequence serves where there is none."""
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


def parameter_count(model: torch.nn.Module) -> int:
    """Parameters, shared ones once."""
    return sum(p.numel() for p in model.parameters())


def max_positions(model: PreTrainedModel) -> int | None:
    """The longest sequence that the model's positions allow, where its configuration says so."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)
