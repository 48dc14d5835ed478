"""The smallest training that shows everything: multiplication of two digits each, and a model of 20 thousand weights.

Usage: `tiny.trainer(tmp_path, schedule="adaptive").train()`; `tiny.weights(trainer.model)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from tacit import models
from tacit.rendering import Template
from tacit.tasks import get_task
from tacit.trace import Trace, iter_text
from tacit.training.config import StepwiseInternalizationConfig
from tacit.training.trainer import StepwiseInternalizationTrainer

T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (
        "gpt2",
        {"n_layer": 2, "n_embd": 32, "n_head": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    ),
    "llama": (
        "llama",
        {
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 64,
        },
    ),
    "t5": ("t5", T5),
    "flan-t5": ("t5", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "bart": (
        "bart",
        {
            "d_model": 32,
            **dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_attention_heads"), 2),
            "decoder_attention_heads": 2,
            **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 64),
            "dropout": 0.0,
        },
    ),
}
CAUSAL, ENCODER_DECODERS = ("gpt2", "llama"), ("t5", "flan-t5", "bart")
LENGTHS = "1x1,2x1,2x2"  # digits of problems of different lengths
CHAIN = 8  # tokens of the chain of 2x2 digits: three, and "+" with four


def traces(size: int = 36, digits: str = "2x2") -> list[Trace]:
    return get_task("multiplication").make(size, seed=0, digits=digits)


def tokenizer() -> PreTrainedTokenizerBase:
    return models.word_tokenizer([*iter_text(traces()), Template().words])


def model(dropout: float = 0.0, architecture: str = "gpt2", **config: Any) -> PreTrainedModel:
    if architecture in ("gpt2", "t5"):
        shape = dict(FAMILIES[architecture][1])
        config = {**{name: dropout if value == 0.0 else value for name, value in shape.items()}, **config}
    return models.from_config(architecture, config, tokenizer(), positions=32, seed=0)


def family(name: str, of: PreTrainedTokenizerBase, positions: int = 64, seed: int = 0, **config: Any) -> Any:
    """A small model of one of the `FAMILIES`, as its published ones are but for its size; without dropout."""
    architecture, shape = FAMILIES[name]
    made = models.from_config(architecture, {**shape, **config}, of, positions, seed)
    if name == "flan-t5":  # whose files hold a vocabulary head of their own
        head = torch.randn(made.lm_head.weight.shape, generator=torch.Generator().manual_seed(seed))
        made.lm_head.weight = torch.nn.Parameter(head * made.config.d_model**-0.5)
    return made


def settings(folder: Path, **changed: Any) -> StepwiseInternalizationConfig:
    """Short and quiet, on the processor, in float32; a new stage every other step, and 20 steps of 4 examples."""
    chosen = {
        "max_steps": 20,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "removal_per_epoch": 4.5,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
    }
    return StepwiseInternalizationConfig(str(folder), **{**chosen, **changed})


# An adaptive schedule whose stages end by recovery as well as by patience within a few steps.
ADAPTIVE = {
    "schedule": "adaptive",
    "stage_min_steps": 1,
    "stage_patience": 4,
    "explicit_patience": 5,
    "recovery_window": 2,
    "recovery_slack": 0.1,
}


def trainer(
    folder: Path,
    student: Any = None,
    train: Any = None,
    dropout: float = 0.0,
    callbacks: list[TrainerCallback] | None = None,
    evaluated: list[Trace] | None = None,
    architecture: str = "gpt2",
    listener: Callable[[dict[str, Any]], None] | None = None,
    **changed: Any,
) -> StepwiseInternalizationTrainer:
    """A trainer of the tiny model on the tiny task; more keywords are settings."""
    return StepwiseInternalizationTrainer(
        student if student is not None else model(dropout, architecture),
        settings(folder, **changed),
        train_dataset=traces() if train is None else train,
        eval_dataset=evaluated,
        processing_class=None if isinstance(student, str) else tokenizer(),
        callbacks=callbacks,
        listener=listener,
    )


def weights(of: torch.nn.Module) -> torch.Tensor:
    """All weights in one vector."""
    return torch.cat([p.detach().flatten() for p in of.parameters()])


def metrics(folder: Path, *events: str) -> list[dict[str, Any]]:
    """Lines of `metrics.jsonl` without their seconds: of these events, or all."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [
        {key: value for key, value in line.items() if key != "seconds"}
        for line in lines
        if not events or line["event"] in events
    ]
