"""The benchmark: `python -m benchmarks --official PATH -o FILE.json`; `--help` lists the options.

Every figure of a comparison comes from runs that take turns. What each row means: README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.inference import exact_match, throughput
from benchmarks.official import Official
from benchmarks.page import markdown
from benchmarks.training import Comparison, Contestant, Setting, gpt2, measure, quickstart
from tacit.environment import environment, fast_bf16
from tacit.errors import TacitError
from tacit.models import hush
from tacit.recipe import load_recipe
from tacit.run import carry_out
from tacit.trace import read_records
from tacit.training.progress import METRICS

PARTS = ("training", "exact-match", "inference", "quickstart")
TARGET = 0.95
Table = tuple[list[Contestant], list[Comparison]]


def main() -> None:
    """Measures what is asked for, writes the JSON and prints the tables."""
    options = parse()
    hush()
    torch.backends.cuda.matmul.allow_tf32 = True  # as the official code has it
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.official is not None:
        Official(options.official)  # refuses another copy before anything is measured
    result: dict[str, Any] = {"schema": 1, **environment(), "device": device.type, "threads": torch.get_num_threads()}
    ratios: list[dict[str, Any]] = []
    result["ratios"] = ratios
    large = gpt2(options.shape, options.digits, options.layers, options.width, options.tokenizer, options.traces)
    small = quickstart(options.traces)
    tables = training_tables(options, large, small)
    if "training" in options.parts:
        result["training"] = []
        for contestants, comparisons in tables:
            rows, found = measure(contestants, comparisons, options.rounds, options.seconds, device, options.official)
            result["training"] += rows
            ratios += found
            write(result, options.output)  # the next table may take all memory
    if "exact-match" in options.parts:
        one_digit = dataclasses.replace(small, name="quickstart model, 4x1", digits="4x1")
        result["exact_match"], found = exact_match(
            one_digit, options.steps, options.problems, options.rounds, device, options.official
        )
        ratios += found
    if "inference" in options.parts:
        rounds = max(2, options.rounds // 2)
        result["inference"], found = throughput([small, large], options.batches, rounds, device)
        ratios += found
    if "quickstart" in options.parts:
        result["quickstart"] = quickstart_to_target(options.run)
    write(result, options.output)
    print(markdown(result))


def write(result: dict[str, Any], path: Path) -> None:
    """The JSON of what has been measured so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    """The command line. A GPU is used where torch sees one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n\n")[2])
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=PARTS[:3], help="what to measure (default: all but quickstart)")
    add("--official", type=Path, help="a fetched copy of the official code; without it its rows are left out")
    add("--run", type=Path, help="for quickstart: the folder of a finished run (default: run it now)")
    add("--tokenizer", default="openai-community/gpt2", help="GPT-2's, by name or folder")
    add("--digits", default="4x4", help="of the large model's multiplication")
    add("--layers", type=int, default=12, help="of the large model")
    add("--width", type=int, default=768, help="of the large model")
    add("--traces", type=int, default=8192, help="to train on")
    add("--batch", type=int, default=16, help="of training; at 32 GPT-2 small's table needs more than 24 GiB")
    add("--best-batch", type=int, help="one more table: our trainer in bf16 at this batch, at its best and plain")
    add("--batches", type=int, nargs="+", default=[1, 16, 256], help="of inference")
    add("--rounds", type=int, default=4, help="of alternating turns; half as many in inference")
    add("--seconds", type=float, default=1.0, help="of a turn of training, about; at least one step")
    add("--problems", type=int, default=1000, help="for exact match")
    add("--steps", type=int, default=300, help="of training before exact match")
    add("-o", "--output", type=Path, default=Path("runs/bench.json"), help="the JSON")
    options = parser.parse_args()
    small = (
        "GPT-2 small" if (options.layers, options.width) == (12, 768) else f"GPT-2 {options.layers}x{options.width}"
    )
    options.shape = f"{small}, {options.digits}"
    return options


def training_tables(options: argparse.Namespace, large: Setting, small: Setting) -> list[Table]:
    """Contestants and comparisons: the large model in fp32, bf16 and at its best; the quickstart's."""

    def of(loop: str, precision: str, setting: Setting = large, size: int = options.batch) -> Contestant:
        return Contestant(loop, precision, setting, size)

    official = of("official", "fp32")  # as published
    fp32 = [
        Comparison(of("trainer", "fp32"), official, "tokens", 1.05),
        Comparison(of("trainer", "fp32"), of("bare", "fp32"), "tokens", 0.97),
    ]
    bf16 = [
        Comparison(of("trainer", "bf16"), official, "tokens", 1.6),
        Comparison(of("trainer", "bf16"), of("official", "bf16"), "tokens"),
        Comparison(of("trainer", "bf16"), of("bare", "bf16"), "tokens", 0.97),
    ]
    tables = [fp32, bf16]
    if options.best_batch:
        eager = of("trainer", "bf16", size=options.best_batch)
        best = dataclasses.replace(eager, compiled=True)
        own_words = dataclasses.replace(large, name=f"{large.name}, vocabulary of its words", tokenizer="words")
        fewer = dataclasses.replace(best, setting=own_words)
        wanted = 8.0 if options.digits == "9x9" else None
        pairs = [Comparison(ours, official, "tokens", wanted) for ours in (fewer, best)]
        tables.append([*pairs, Comparison(best, eager, "tokens")])
    vocabulary = {"name": "the same with GPT-2's vocabulary", "tokenizer": options.tokenizer}
    wide = dataclasses.replace(small, **vocabulary, attn_implementation=None, positions=1024)
    own = "bf16" if fast_bf16("cuda" if torch.cuda.is_available() else "cpu") else "fp32"  # the recipe's default here
    ours = of("trainer", own, small, 32)
    tiny = [
        Comparison(ours, of("official", "fp32", wide, 32), "examples", 10.0),
        Comparison(ours, of("bare", own, small, 32), "examples", 0.97),
    ]
    return [
        (list({c.name: c for pair in table for c in (pair.theirs, pair.ours)}.values()), table)
        for table in (*tables, tiny)
    ]


def quickstart_to_target(folder: Path | None) -> dict[str, Any]:
    """Optimizer steps and seconds until a fully internalized model had 0.95 exact match on the validation problems."""
    if folder is None:
        folder = Path("runs/bench-quickstart")
        recipe = load_recipe(Path(__file__).parents[1] / "recipes" / "quickstart.yaml")
        carry_out(recipe, folder, overwrite=True)
    lines = list(read_records(next(folder.glob("stepwise*")) / METRICS))
    for line in lines:
        if line["event"] == "eval" and line["removed"] == line["total"] and line["exact_match"] >= TARGET:
            return {"folder": folder.name, "target": TARGET, **{key: line[key] for key in ("step", "seconds", "n")}}
    return {"folder": folder.name, "target": TARGET, "step": None, "seconds": lines[-1]["seconds"], "n": None}


if __name__ == "__main__":
    try:
        main()
    except TacitError as error:
        sys.exit(f"error: {error}")
