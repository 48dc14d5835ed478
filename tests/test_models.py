"""Models and tokenizers: from scratch and from folders, and what cannot be."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from tacit import models
from tacit.errors import TacitError
from tacit.rendering import Template

torch.set_num_threads(1)

TINY = {"n_layer": 1, "n_embd": 16, "n_head": 2}


def build(tokenizer: PreTrainedTokenizerBase, architecture: str = "gpt2", seed: int = 0, **settings: Any) -> Any:
    return models.from_config(architecture, settings or TINY, tokenizer, 32, seed)


def test_words_are_the_tokens() -> None:
    tokenizer = models.word_tokenizer(["b a", "a  c\nd", Template().words])
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == [
        *["<eos>", "<pad>", "<unk>"],
        *["####", "->", "a", "b", "c", "d"],
    ]
    assert tokenizer("a c -> d").input_ids == [5, 7, 4, 8]
    assert tokenizer("a z").input_ids == [5, 2]
    assert tokenizer.decode([5, 7, 0], skip_special_tokens=True) == "a c"
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.padding_side) == (0, 1, "left")
    assert tokenizer.bos_token is None


def test_the_order_of_texts_does_not_matter() -> None:
    texts = ["one two", "three", "two four"]
    assert models.word_tokenizer(texts).get_vocab() == models.word_tokenizer(texts[::-1]).get_vocab()


def test_a_model_takes_its_sizes_from_the_data(words_tokenizer: PreTrainedTokenizerBase) -> None:
    model = build(words_tokenizer)
    assert model.config.vocab_size == len(words_tokenizer)
    assert (model.config.eos_token_id, model.config.pad_token_id) == (0, 1)
    assert models.max_positions(model) == 32
    assert model.dtype == torch.float32
    assert models.parameter_count(model) == sum({id(p): p.numel() for p in model.parameters()}.values())


def test_the_seed_decides_and_the_global_generator_is_left_alone(words_tokenizer: PreTrainedTokenizerBase) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, same, other = (build(words_tokenizer, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.rand(3), expected)
    states = [model.state_dict()["transformer.h.0.mlp.c_fc.weight"] for model in (one, same, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("architecture", "settings", "message"),
    [
        ("gpt22", {}, "unknown model architecture 'gpt22'; did you mean 'gpt2'"),
        ("gpt2", {"n_layers": 2}, "unknown setting of a gpt2 model: 'n_layers'; did you mean 'n_layer'"),
        ("gpt2", {"n_layer": "two"}, "cannot build a gpt2 model from .*expected int, got str"),
        ("gpt2", {**TINY, "n_head": 3}, "cannot build a gpt2 model from"),
        ("gpt2", {"n_embd": -4}, "cannot build a gpt2 model from"),
        ("t5", {}, "cannot build a t5 model from {}: Unrecognized configuration class"),
    ],
)
def test_what_cannot_be_built(
    words_tokenizer: PreTrainedTokenizerBase, architecture: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(TacitError, match=message) as error:
        models.from_config(architecture, settings, words_tokenizer, 32, 0)
    assert len(str(error.value)) < 400


def test_a_saved_model_is_loaded_in_float32(words_tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    """bf16 weights, as the Hub's are, would lose small updates."""
    model = build(words_tokenizer)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    words_tokenizer.save_pretrained(tmp_path)
    loaded, tokenizer = models.load(str(tmp_path))
    assert loaded.dtype == torch.float32
    assert tokenizer.get_vocab() == words_tokenizer.get_vocab()
    assert torch.equal(
        loaded.state_dict()["transformer.wte.weight"], model.float().state_dict()["transformer.wte.weight"]
    )


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(TacitError, match="cannot load a causal language model 'no/such' on the Hub or as a folder"):
        models.load("no/such")
    with pytest.raises(TacitError, match=r"cannot load a causal language model .* in that folder"):
        models.load(str(tmp_path))


def test_pickles_are_not_loaded(words_tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    model = build(words_tokenizer)
    model.save_pretrained(tmp_path)
    words_tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(TacitError, match=r"no file named model\.safetensors"):
        models.load(str(tmp_path))


def test_code_of_a_repository_is_not_run(words_tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    build(words_tokenizer).save_pretrained(tmp_path)
    words_tokenizer.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(
        config.read_text().replace(
            '"model_type": "gpt2"', '"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}'
        )
    )
    (tmp_path / "mine.py").write_text("raise SystemExit('this was run')")
    with pytest.raises(TacitError, match="cannot load a causal language model"):
        models.load(str(tmp_path))


def test_padding_needs_no_token_of_its_own(
    bpe_tokenizer: PreTrainedTokenizerBase, words_tokenizer: PreTrainedTokenizerBase
) -> None:
    assert models.pad_id(bpe_tokenizer) == bpe_tokenizer.eos_token_id
    assert models.pad_id(words_tokenizer) == words_tokenizer.pad_token_id != words_tokenizer.eos_token_id
