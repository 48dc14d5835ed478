"""Models and tokenizers: from the Hub, from a folder, or from scratch; causal ones and encoder-decoders.

Usage: `model, tokenizer = load("google/flan-t5-small")`, or
`from_config("gpt2", {"n_layer": 2, "n_embd": 128, "n_head": 4}, word_tokenizer(texts), positions=64, seed=0)`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tacit.errors import TacitError, unknown_name

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

EOS, PAD, UNKNOWN = "<eos>", "<pad>", "<unk>"


def hush() -> None:
    """Keeps transformers' own notices and progress bars off the screen, where ours are."""
    from transformers.utils import logging as notices

    notices.set_verbosity_error()
    notices.disable_progress_bar()


def load(
    name: str, attn_implementation: str | None = None, trust_remote_code: bool = False
) -> tuple[Any, PreTrainedTokenizerBase]:
    """A causal or an encoder-decoder language model in float32, as its configuration says, and its tokenizer.

    Args:
        name (`str`): Of the Hub or of a folder.
        attn_implementation (`str`, *optional*): As transformers takes it.
        trust_remote_code (`bool`, *optional*): Runs code from the model's repository. Off unless asked for.

    Raises:
        TacitError: There is no such model, or it is of neither kind.
    """
    from transformers import AutoConfig

    with loading("a language model", name):
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
        tokenizer = load_tokenizer(name, trust_remote_code)
        model = _auto_class(config).from_pretrained(
            name,
            config=config,
            dtype=torch.float32,  # "auto" would train bf16 checkpoints in bf16, where small updates vanish
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
        )
    return _fuse_activations(model), tokenizer


def load_tokenizer(name: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """A model's tokenizer, from the Hub or from a folder. Raises `TacitError` where there is none."""
    from transformers import AutoTokenizer

    with loading("the tokenizer", name):
        return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)  # ty: ignore[invalid-explicit-return]


@contextmanager
def loading(what: str, name: str) -> Generator[None]:
    """Turns all that loading can raise into one line.

    Args:
        what (`str`): With its article, for people.
        name (`str`): Of the Hub or of a folder.
    """
    from safetensors import SafetensorError

    try:
        yield
    except TacitError:
        raise
    except (OSError, ValueError, LookupError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
        where = "in that folder" if Path(name).exists() else "on the Hub or as a folder"
        reason = str(error).strip().split("\n")[0]
        raise TacitError(f"cannot load {what} {name!r} {where}: {reason}") from None


def is_encoder_decoder(model: Any) -> bool:
    """Whether a model (or a configuration) reads the prompt with an encoder and writes with a decoder, as T5 does."""
    return bool(getattr(getattr(model, "config", model), "is_encoder_decoder", False))


def _auto_class(config: PreTrainedConfig) -> Any:
    """Which of transformers' classes builds a model that writes text. Raises `ValueError` where none does."""
    from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    if is_encoder_decoder(config):
        return AutoModelForSeq2SeqLM
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        raise ValueError(
            f"a {config.model_type} model is an encoder, which sees the words that it should write; take a causal "
            "model such as gpt2 or an encoder-decoder such as t5"
        )
    return AutoModelForCausalLM


def word_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """A tokenizer whose tokens are the words of these texts, split at white space.

    The template's own words must be among the texts: see `Template.words`.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = dict.fromkeys(word for text in texts for word in text.split())
    vocabulary = {token: index for index, token in enumerate([EOS, PAD, UNKNOWN, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _own_tokenizer(tokenizer, unk_token=UNKNOWN)


BPE_SIZE = 2000


def bpe_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer with at most `BPE_SIZE` tokens, trained on these texts; it can represent any text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_SIZE,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _own_tokenizer(tokenizer)


def _own_tokenizer(tokenizer: Any, **special: str) -> PreTrainedTokenizerBase:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        **special,
    )


def from_config(
    architecture: str,
    settings: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    positions: int,
    seed: int,
    attn_implementation: str | None = None,
) -> PreTrainedModel:
    """A causal or an encoder-decoder language model with random weights.

    Args:
        architecture (`str`): A `model_type` of transformers: `gpt2`, `llama`, `t5`, ...
        settings (`dict`): Fields of its configuration; vocabulary, special ids and positions are set from the data.
        tokenizer: Gives vocabulary size and special ids.
        positions (`int`): The longest sequence that the model must read, in tokens; where positions are relative, as
            T5's, there is no limit.
        seed (`int`): Of the initialisation; torch's global generator is left as it was.

    Raises:
        TacitError: An unknown architecture or field, a model that does not write text, or sizes that do not fit
            together.
    """
    from huggingface_hub.errors import StrictDataclassError
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
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if hasattr(base, "max_position_embeddings"):
        fields["max_position_embeddings"] = positions
    if is_encoder_decoder(base):
        fields["pad_token_id"] = fields["decoder_start_token_id"] = pad_id(tokenizer)
        fields["forced_eos_token_id"] = None  # BART's would be an id of another vocabulary
    fields |= {base.attribute_map.get(name, name): value for name, value in settings.items()}
    try:
        config = CONFIG_MAPPING[architecture](**fields)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _auto_class(config).from_config(
                config, dtype=torch.float32, attn_implementation=attn_implementation
            )
            return _fuse_activations(model)
    except (ValueError, TypeError, RuntimeError, AssertionError, ZeroDivisionError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TacitError(f"cannot build a {architecture} model from {dict(settings)}: {reason}") from None


def _fuse_activations(model: Any) -> Any:
    """GPT-2's GELU as the one kernel that torch has for it, in place of eight; the configuration stays as it is."""
    from transformers.activations import NewGELUActivation

    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))
    return model


def target_logits(model: Any, head: torch.nn.Module | None, rows: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """Logits of a causal model at some positions, without projecting the others to the vocabulary.

    What the model does to logits, such as a soft cap, it does as ever. The batch is padded on the right.

    Args:
        model: The model, which may be wrapped for several processes or compiled.
        head (`torch.nn.Module` or None): What its `get_output_embeddings` gives; without one, all are projected.
        rows (`torch.Tensor` of shape (targets,)): Indices into the flattened positions of the batch.
        inputs: Of the model.

    Returns:
        `torch.Tensor` of shape (targets, vocabulary).
    """
    with _padded_on_the_right():
        if head is None:
            return model(**inputs).logits.flatten(0, 1)[rows]
        hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0].flatten(0, 1)[rows][None],))
        try:
            return model(**inputs).logits[0]
        finally:
            hook.remove()


_padding_is_right = ContextVar("padding_is_right", default=False)


@contextmanager
def _padded_on_the_right() -> Generator[None]:
    """Within it, fused causal attention (sdpa) is not told of the padding, which stands where no token looks.

    So it takes torch's fastest kernels, which know no padding, and nobody asks the device whether there is any.
    """
    _mask_fused_attention_ourselves()
    token = _padding_is_right.set(True)
    try:
        yield
    finally:
        _padding_is_right.reset(token)


@functools.cache
def _mask_fused_attention_ourselves() -> None:
    """Puts our mask function in place of transformers' own, which it is outside of `_padded_on_the_right`."""
    from transformers import AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    def mask(*sizes: Any, **others: Any) -> torch.Tensor | None:
        if _padding_is_right.get() and others.get("allow_is_causal_skip"):  # else a mask is more than causal
            others["attention_mask"] = None
        return sdpa_mask(*sizes, **others)

    AttentionMaskInterface.register("sdpa", mask)


def layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers of a model. Raises `TacitError` where it has none of transformers' kind."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    found = {name: part for name, part in model.named_modules() if isinstance(part, GradientCheckpointingLayer)}
    if not found:
        raise TacitError(
            f"torch_compile: a {type(model).__name__} has no layers as transformers' own models have them"
        )
    return [part for name, part in found.items() if not any(name.startswith(f"{other}.") for other in found)]


@contextmanager
def compiled(parts: Iterable[torch.nn.Module], **settings: Any) -> Generator[None]:
    """Within it, each of these parts of a model is compiled by itself; weights and checkpoints stay as they are.

    Layers are alike, so torch compiles one for all, and what changes with every batch stays outside of them: which
    positions are projected to the vocabulary.

    Args:
        settings: Of `torch.compile`.
    """
    for part in parts:
        part.compile(**settings)
    try:
        yield
    finally:
        for part in parts:
            part._compiled_call_impl = None


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


def max_positions(model: Any) -> int | None:
    """The longest sequence that the positions of a model (or of a configuration) allow, where that is known."""
    return getattr(getattr(model, "config", model).get_text_config(), "max_position_embeddings", None)
