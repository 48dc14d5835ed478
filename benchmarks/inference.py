"""Answers: how fast a silent student is beside one that writes its chain, and exact match beside the official code.

Usage: `rows, ratios = throughput([setting], (1, 16, 256), rounds=3, device=device)`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.machine import alternate, ratio
from benchmarks.official import Official
from benchmarks.training import Setting
from tacit.evaluation.exact_match import one_pass
from tacit.models import pad_id, word_tokenizer
from tacit.rendering import Template, render
from tacit.stages import Batcher, Removal
from tacit.student import Student
from tacit.trace import Trace, iter_text
from tacit.training.config import StepwiseInternalizationConfig
from tacit.training.trainer import StepwiseInternalizationTrainer

if TYPE_CHECKING:
    from transformers import GenerationConfig

PUBLISHED = {"9x9": 11.0}  # times faster than explicit CoT at batch 1 (arXiv 2405.14838)


@dataclass
class Forced(Student):
    """Writes exactly `max_new_tokens`: how fast it is does not depend on what it has learned."""

    def generation_config(self, max_new_tokens: int) -> GenerationConfig:
        """The student's own, with its end of sequence held back until the last token."""
        config = super().generation_config(max_new_tokens)
        config.min_new_tokens = max_new_tokens
        return config


def throughput(
    settings: Sequence[Setting], batch_sizes: Sequence[int], rounds: int, device: torch.device
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows and ratios of untrained models that write as many tokens as trained ones: with the chain, or without."""
    rows, ratios = [], []
    for setting in settings:
        traces = setting.traces()
        model, tokenizer = setting.build(traces)
        rendered = render(traces[: max(batch_sizes)], tokenizer, StepwiseInternalizationConfig().make_template())
        chain = round(rendered.chain_lengths.mean())
        answer = round((rendered.lengths - rendered.prompt_lengths).mean()) - chain
        students = {
            "silent": Forced(model.to(device), tokenizer, max_new_tokens=answer),
            "explicit CoT": Forced(model, tokenizer, max_new_tokens=chain + answer),
        }
        prompts = [rendered[index].prompt for index in range(len(rendered))]
        for size in batch_sizes:
            work = {name: partial(_answer, student, prompts[:size]) for name, student in students.items()}
            Forced(model, tokenizer, max_new_tokens=2).generate(prompts[:size], size)  # to warm up
            times = alternate(work, rounds)
            for name, student in students.items():
                rows.append(
                    {
                        "setting": setting.name,
                        "method": name,
                        "batch_size": size,
                        "tokens": student.max_new_tokens,
                        "milliseconds": [1000 * time for time in times[name]],
                        "examples_per_second": size / statistics.median(times[name]),
                    }
                )
            what = f"{setting.name}: silent against explicit CoT, batch {size} (latency)"
            wanted = PUBLISHED.get(setting.digits) if size == 1 else None
            ratios.append(ratio(what, times["silent"], times["explicit CoT"], wanted))
    return rows, ratios


def _answer(student: Student, prompts: Sequence[np.ndarray]) -> float:
    begin = time.perf_counter()
    student.generate(prompts, len(prompts))
    return time.perf_counter() - begin


# --- exact match -----------------------------------------------------------------------------------------------------

# The official layout when nothing is left of the chain: `QUESTION SEP SEP #### ANSWER SEP`, where SEP is its end of
# sequence. Here SEP is a word, which the tokenizer that the official code is given calls its end of sequence.
SEP = "|"
TEMPLATE = Template(f"{{question}} {SEP}", marker=f"{SEP} ####")


def exact_match(
    setting: Setting, steps: int, problems: int, rounds: int, device: torch.device, official: Path | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One pass, our generation, and the official generation at batch 1: one model, the same problems.

    The model is trained for a few steps only, so that some of its answers are right and some are wrong.
    """
    traces = [replace(trace, steps=(), answer=f"{trace.answer} {SEP}", id="") for trace in setting.traces()]
    tokenizer = word_tokenizer([TEMPLATE.words, *iter_text(traces)])
    student = _train(replace(setting, tokenizer="words"), tokenizer, traces[problems:], steps, device)
    held_out = traces[:problems]
    rendered = render(held_out, tokenizer, TEMPLATE)
    batcher = Batcher(rendered, pad_id(tokenizer), device)
    right = _pass(student.model, batcher)[0]  # and to warm up
    times = alternate({"one pass": lambda: _pass(student.model, batcher)[1]}, rounds)["one pass"]
    begin = time.perf_counter()
    written = student.generate([rendered[index].prompt for index in range(problems)], 256)
    result: dict[str, Any] = {
        "setting": setting.name,
        "problems": problems,
        "exact_match": float(right.mean()),
        "one_pass_seconds": times,
        "generation_seconds": time.perf_counter() - begin,
        "generation_agrees": agreeing(right, map(np.array_equal, written, (one.answer for one in rendered))),
    }
    if official is None:
        return result, []
    with tempfile.TemporaryDirectory() as folder:
        student.model.save_pretrained(folder)
        tokenizer.eos_token = SEP
        tokenizer.save_pretrained(folder)
        problems_of_theirs = setting.traces()[:problems]
        verdicts, seconds = Official(official).verdicts(
            Path(folder), problems_of_theirs, int(rendered.lengths.max()), device
        )
    result |= {"official_seconds": seconds, "official_agrees": agreeing(right, verdicts)}
    what = f"exact match of {problems:,} problems: one pass against official generation at batch 1"
    return result, [ratio(what, times, [seconds] * rounds, 30.0)]


def _train(setting: Setting, tokenizer: Any, traces: list[Trace], steps: int, device: torch.device) -> Student:
    with tempfile.TemporaryDirectory() as folder:
        args = StepwiseInternalizationConfig(
            folder,
            schedule="remove_all",
            prompt=TEMPLATE.prompt,
            marker=TEMPLATE.marker,
            max_steps=steps,
            learning_rate=2e-3,
            optimizer="muon",
            use_cpu=device.type == "cpu",
            save_strategy="no",
            disable_tqdm=True,
        )
        model = setting.model(tokenizer)
        trainer = StepwiseInternalizationTrainer(
            model, args, traces, processing_class=tokenizer, listener=lambda _: None
        )
        trainer.train()
        return trainer.student()


def _pass(model: Any, batcher: Batcher) -> tuple[np.ndarray, float]:
    begin = time.perf_counter()
    right, _ = one_pass(model, batcher, Removal(), 0)
    return right, time.perf_counter() - begin


def agreeing(ours: Iterable[bool], theirs: Iterable[bool]) -> int:
    """How many verdicts are the same."""
    return sum(bool(a) == bool(b) for a, b in zip(ours, theirs, strict=True))
