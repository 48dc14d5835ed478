"""Training loops beside one another: our Trainer, a bare PyTorch loop of the same model, the official loop.

Usage: `rows, ratios = measure([Contestant("trainer", "bf16", setting, 32), ...], comparisons, options)`.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback

from benchmarks.machine import DTYPES, matmul_peak, ratio
from benchmarks.official import PUBLISHED_EPOCH, Official
from benchmarks.turns import Turn, Turns, Work
from tacit.errors import TacitError
from tacit.models import from_config, hush, load_tokenizer, pad_id, target_logits, word_tokenizer
from tacit.recipe import load_recipe
from tacit.rendering import render
from tacit.stages import Batcher
from tacit.tasks import get_task
from tacit.trace import Trace, iter_text
from tacit.training.config import StepwiseInternalizationConfig
from tacit.training.memory import keep_freed_memory
from tacit.training.optimizers import MuonAdamW, hidden_matrices
from tacit.training.trainer import StepwiseInternalizationTrainer

QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"


@dataclass(frozen=True)
class Setting:
    """A GPT-2 from scratch and what it is trained on.

    Args:
        name (`str`): In the table.
        digits (`str`): Of the multiplication.
        config (`dict`): Of the model.
        tokenizer (`str`): A name or folder, or "words", those of the traces.
        training (`dict`): Fields of `StepwiseInternalizationConfig`.
        size (`int`): Traces.
        attn_implementation (`str`, *optional*): Of our loops.
        positions (`int`): Of the model.
    """

    name: str
    digits: str
    config: Mapping[str, Any]
    tokenizer: str
    training: Mapping[str, Any]
    size: int
    attn_implementation: str | None = None
    positions: int = 1024

    def traces(self) -> list[Trace]:
        """The training traces."""
        return get_task("multiplication").make(self.size, seed=0, digits=self.digits, ordered=True)

    def build(self, traces: Sequence[Trace]) -> tuple[Any, Any]:
        """The model with random weights, and its tokenizer."""
        if self.tokenizer == "words":
            words = StepwiseInternalizationConfig(**self.training).make_template().words
            tokenizer = word_tokenizer([words, *iter_text(traces)])
        else:
            tokenizer = load_tokenizer(self.tokenizer)
        return self.model(tokenizer), tokenizer

    def model(self, tokenizer: Any) -> Any:
        """The model for the vocabulary of a tokenizer."""
        return from_config("gpt2", self.config, tokenizer, self.positions, 0, self.attn_implementation)


def gpt2(name: str, digits: str, layers: int, width: int, tokenizer: str, size: int) -> Setting:
    """GPT-2's shape at the published settings for multiplication."""
    config = {"n_layer": layers, "n_embd": width, "n_head": max(1, width // 64)}
    pace = {"removal_per_epoch": 8 * size / PUBLISHED_EPOCH}
    return Setting(name, digits, config, tokenizer, pace, size)


def quickstart(size: int) -> Setting:
    """The model and the optimizer of the quickstart, with the whole chain."""
    recipe = load_recipe(QUICKSTART)
    settings = {**recipe.train, **recipe.methods["stepwise"]}
    own = ("optimizer", "learning_rate", "weight_decay", "keep_positions")
    return Setting(
        "quickstart model, 4x2",
        "4x2",
        recipe.model.config,
        recipe.model.tokenizer,
        {"schedule": "keep_all", **{key: settings[key] for key in own if key in settings}},
        size,
        recipe.model.attn_implementation,
        positions=64,
    )


@dataclass(frozen=True)
class Contestant:
    """One loop: "trainer", "bare" or "official"; its precision, "fp32" or "bf16"; its setting and batch.

    The trainer's layers can be `compiled`.
    """

    loop: str
    precision: str
    setting: Setting
    batch_size: int
    compiled: bool = False

    @property
    def name(self) -> str:
        """As the table shows it."""
        return f"{self.setting.name}: {self.shown}, {self.precision}, batch {self.batch_size}"

    @property
    def shown(self) -> str:
        """The loop, and whether it is compiled."""
        return f"{self.loop} (compiled)" if self.compiled else self.loop


@dataclass(frozen=True)
class Comparison:
    """What is compared: two contestants by "tokens" or "examples" a second, and the ratio that is wanted."""

    ours: Contestant
    theirs: Contestant
    unit: str
    wanted: float | None = None

    @property
    def name(self) -> str:
        """As the table shows it."""
        a, b = self.ours, self.theirs
        against = f"{b.shown}, {b.precision}" + (f", batch {b.batch_size}" if a.batch_size != b.batch_size else "")
        size = f", batch {a.batch_size}" if a.batch_size != b.batch_size else ""
        return f"{a.setting.name}: {a.shown}, {a.precision}{size}, against {against} ({self.unit}/s)"


def begin(contestant: Contestant, device: torch.device, official: Path | None, folder: Path) -> Work:
    """The program of a contestant, ready to run; it writes into the folder."""
    hush()
    torch.backends.cuda.matmul.allow_tf32 = True  # as the official code has it
    traces = contestant.setting.traces()
    model, tokenizer = contestant.setting.build(traces)

    def facts(length: float) -> dict[str, float]:
        return {"tokens_per_example": length, "flops_per_token": flops_per_token(*_sizes(model), length)}

    inside: list[tuple[Any, str]] = [(torch.Tensor, "backward")]
    if contestant.loop == "official":
        assert official is not None
        code = Official(official)
        saved = folder / "gpt2"
        model.save_pretrained(saved)
        tokenizer.save_pretrained(saved)
        loop = partial(code.train, saved, traces, contestant.batch_size, contestant.precision)
        inside.append((code.model_class, "compute_loss"))
        return Work(loop, inside, lambda: facts(code.tokens_per_example))
    settings: dict[str, Any] = {
        **contestant.setting.training,
        "output_dir": str(folder),
        "max_steps": 10**9,
        "per_device_train_batch_size": contestant.batch_size,
        "bf16": contestant.precision == "bf16",
        "use_cpu": device.type == "cpu",
        "save_strategy": "no",
        "disable_tqdm": True,
        "torch_compile": contestant.compiled,
    }
    args = StepwiseInternalizationConfig(**settings)
    rendered = render(traces, tokenizer, args.make_template(tokenizer))
    train, owner, name = LOOPS[contestant.loop]
    loop = partial(train, model, tokenizer, traces, args)
    return Work(loop, [*inside, (owner, name)], lambda: facts(float(rendered.lengths.mean())))


def train_by_trainer(
    model: Any, tokenizer: Any, traces: Sequence[Trace], args: StepwiseInternalizationConfig, after_step: Any
) -> None:
    """Our Trainer."""

    class AfterStep(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            after_step()

    StepwiseInternalizationTrainer(
        model, args, train_dataset=traces, processing_class=tokenizer, callbacks=[AfterStep()], listener=lambda _: None
    ).train()


def train_bare(
    model: Any, tokenizer: Any, traces: Sequence[Trace], args: StepwiseInternalizationConfig, after_step: Any
) -> None:
    """The same batches, forward pass, optimizer, clipping and precision in a loop that does nothing else."""
    if args.device.type == "cpu":
        keep_freed_memory()
    rendered = render(traces, tokenizer, args.make_template(tokenizer))
    model = model.to(args.device).train()
    batcher = Batcher(rendered, pad_id(tokenizer), args.device, args.keep_positions)
    size = args.per_device_train_batch_size
    schedule = args.make_schedule(rendered, len(rendered) // size)
    if args.optimizer == "muon":
        optimizer = MuonAdamW(model, args.learning_rate, args.weight_decay)
    else:
        optimizer = torch.optim.AdamW(
            model.parameters(), args.learning_rate, weight_decay=args.weight_decay, fused=True
        )
    batches = itertools.chain.from_iterable(torch.randperm(len(rendered)).split(size) for _ in itertools.count())
    for step, batch in enumerate(batches):
        examples = batch.numpy()
        extra = args.removal.offsets(step, examples) if schedule.smoothed(step) else 0
        start, length = args.removal.spans(rendered, examples, schedule.removed(step) + extra)
        inputs, rows = batcher.cut(examples, start, length), batcher.predicting(examples, length)
        with torch.autocast(args.device.type, torch.bfloat16, enabled=bool(args.bf16)):
            loss = bare_loss(model, rows, **inputs, use_cache=False)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        after_step()


def bare_loss(model: Any, rows: torch.Tensor, labels: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """The mean loss, from logits at the targets alone, as the Trainer takes it."""
    logits = target_logits(model, model.get_output_embeddings(), rows, **inputs)
    return cross_entropy(logits.float(), labels.flatten()[rows + 1])


# The loops of our own, and what takes the loss in them.
LOOPS: dict[str, tuple[Callable[..., None], Any, str]] = {
    "trainer": (train_by_trainer, StepwiseInternalizationTrainer, "compute_loss"),
    "bare": (train_bare, sys.modules[__name__], "bare_loss"),
}


def _sizes(model: Any) -> tuple[int, int, int]:
    """Parameters that multiply every token, layers, and width."""
    weights = sum(matrix.numel() for matrix in hidden_matrices(model)) + model.get_output_embeddings().weight.numel()
    return weights, model.config.num_hidden_layers, model.config.hidden_size


def flops_per_token(weights: int, layers: int, width: int, length: float) -> float:
    """Of forward and backward pass: 6 a weight, and 12 a layer, dimension and token of the sequence for attention.

    What a loop leaves out (positions behind the causal mask, the vocabulary where there is no loss) is counted, so
    that all loops are held against the same work.
    """
    return 6 * weights + 12 * layers * width * length


def measure(
    contestants: Sequence[Contestant],
    comparisons: Sequence[Comparison],
    rounds: int,
    seconds: float,
    device: torch.device,
    official: Path | None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows and ratios of a table; the row of a contestant that fails says why.

    Args:
        contestants, comparisons: Those of the official loop are left out without a copy of it.
        rounds (`int`): In each, everybody has a turn.
        seconds (`float`): About how long a turn lasts; at least one step.
        device: Where all run.
        official (`Path`, *optional*): A copy of the official code.
    """
    here = [c for c in contestants if official is not None or c.loop != "official"]
    with tempfile.TemporaryDirectory() as folder:
        programs = {c.name: (begin, c, device, official, Path(folder) / str(place)) for place, c in enumerate(here)}
        failed: dict[str, str] = {}
        with closing(Turns(programs, device)) as turns:

            def everybody(steps: Mapping[str, int], watched: bool = False) -> dict[str, Turn]:
                """A turn of each that still runs."""
                found = {}
                for name in [name for name in programs if name not in failed]:
                    try:
                        found[name] = turns.take(name, steps[name], watched)
                    except TacitError as error:  # such as too little memory: the others go on
                        failed[name] = str(error).removeprefix(f"{name}: ")
                return found

            turns.begin()
            everybody(dict.fromkeys(programs, 2))  # until all have prepared their data: whoever is timed is alone
            single = everybody(dict.fromkeys(programs, 1))
            steps = {name: max(1, round(seconds / turn.seconds)) for name, turn in single.items()}
            timed = [everybody(steps) for _ in range(rounds)]
            last = everybody(steps, watched=True)
    times = {name: [one[name].seconds / steps[name] for one in timed] for name in last}
    absent = [_failed(c, failed[c.name]) for c in here if c.name in failed]
    here = [c for c in here if c.name in last]
    peaks = {precision: matmul_peak(device, precision) for precision in DTYPES}
    per_unit = {}
    for c in here:
        per_unit[c.name, "examples"] = [time / c.batch_size for time in times[c.name]]
        tokens = c.batch_size * last[c.name].facts["tokens_per_example"]
        per_unit[c.name, "tokens"] = [time / tokens for time in times[c.name]]
    rows = [_row(c, times[c.name], last[c.name], peaks[c.precision]) for c in here]
    ratios = [
        ratio(pair.name, per_unit[pair.ours.name, pair.unit], per_unit[pair.theirs.name, pair.unit], pair.wanted)
        for pair in comparisons
        if pair.ours in here and pair.theirs in here
    ]
    return rows + absent, ratios


def _failed(contestant: Contestant, why: str) -> dict[str, Any]:
    """The row of one that could not run."""
    return {
        "setting": contestant.setting.name,
        "loop": contestant.shown,
        "precision": contestant.precision,
        "batch_size": contestant.batch_size,
        "failed": why,
    }


def _row(contestant: Contestant, times: Sequence[float], last: Turn, peak: float) -> dict[str, Any]:
    examples = contestant.batch_size / statistics.median(times)
    tokens = examples * last.facts["tokens_per_example"]
    return {
        "setting": contestant.setting.name,
        "loop": contestant.shown,
        "precision": contestant.precision,
        "batch_size": contestant.batch_size,
        "step_milliseconds": [1000 * time for time in times],
        "tokens_per_example": last.facts["tokens_per_example"],
        "examples_per_second": examples,
        "tokens_per_second": tokens,
        "mfu": tokens * last.facts["flops_per_token"] / peak,
        "peak_gib": last.peak_gib,
        "outside_model": 1 - last.inside / last.seconds,
    }
