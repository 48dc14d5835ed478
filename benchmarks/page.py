"""A result as Markdown tables and as a chart: `python -m benchmarks.page FILE.json --markdown A.md --chart B.svg`.

No number of the docs is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tacit.report.drawing import STYLE, Axis, label, px, svg, tag

LABELS = 520  # pixels


def markdown(result: Mapping[str, Any]) -> str:
    """All tables of a result."""
    parts = [_machine(result)]
    if result["ratios"]:
        rows = (
            (row["what"], _times(row["ratio"]), f"{_times(row['low'])} to {_times(row['high'])}", _wanted(row))
            for row in result["ratios"]
        )
        parts.append(_table(("compared", "ratio", "range of rounds", "wanted"), rows))
    if result.get("training"):
        head = ("training", "loop", "precision", "batch", "examples/s", "tokens/s", "MFU", "peak memory", "outside")
        parts.append(_table(head, map(_training_row, result["training"])))
        if not any(row["loop"] == "official" for row in result["training"]):
            parts.append("Without a copy of the official code: its rows are left out.")
    if result.get("inference"):
        head = ("inference", "writes", "batch", "tokens an answer", "latency", "examples/s")
        parts.append(_table(head, map(_inference_row, result["inference"])))
    if found := result.get("exact_match"):
        parts.append(_exact_match(found))
    if found := result.get("quickstart"):
        when = "never" if found["step"] is None else f"after {found['step']:,} steps and {found['seconds']:.0f} s"
        parts.append(f"Quickstart: {found['target']} exact match with nothing left of the chain {when}.")
    return "\n\n".join(parts)


def _machine(result: Mapping[str, Any]) -> str:
    hardware, versions = result["hardware"], result["versions"]
    where = hardware["gpus"][0] if result["device"] == "cuda" else f"{hardware['cpu']}, {result['threads']} threads"
    return f"{where}; torch {versions['torch']}, transformers {versions['transformers']}."


def _training_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    who = (row["setting"], row["loop"], row["precision"], str(row["batch_size"]))
    if "failed" in row:
        why = " ".join(row["failed"].split())[:80].replace("|", "\\|")
        return (*who, f"failed: {why}", "", "", "", "")
    memory = row["peak_gib"]
    return (
        *who,
        _number(row["examples_per_second"]),
        _number(row["tokens_per_second"]),
        f"{100 * row['mfu']:.0f} %",
        "" if memory is None else f"{memory:.1f} GiB",
        f"{100 * row['outside_model']:.1f} %",
    )


def _inference_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["setting"],
        row["method"],
        str(row["batch_size"]),
        str(row["tokens"]),
        f"{_number(statistics.median(row['milliseconds']))} ms",
        _number(row["examples_per_second"]),
    )


def _exact_match(found: Mapping[str, Any]) -> str:
    ways = [("one pass", statistics.median(found["one_pass_seconds"]), None)]
    ways.append(("our generation, batch 256", found["generation_seconds"], found["generation_agrees"]))
    if "official_seconds" in found:
        ways.append(("official generation, batch 1", found["official_seconds"], found["official_agrees"]))
    n = found["problems"]
    title = f"exact match of {n:,} problems ({100 * found['exact_match']:.1f} % are right)"
    rows = (
        (way, f"{_number(seconds)} s", "" if same is None else f"{same:,} of {n:,}") for way, seconds, same in ways
    )
    return _table((title, "time", "same verdict"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _wanted(row: Mapping[str, Any]) -> str:
    return "" if row["wanted"] is None else f"at least {row['wanted']:g}"


def _times(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def chart(result: Mapping[str, Any], width: int = 960) -> str:
    """Every ratio as a dot with the range of its rounds; a mark where it was wanted. The axis is logarithmic."""
    rows = result["ratios"]
    top, bottom = 30, 30 + 26 * len(rows)
    values = [value for row in rows for value in (row["low"], row["high"], row["wanted"]) if value]
    x = Axis(min(0.5, *values) / 1.1, max(2.0, *values) * 1.1, LABELS, width - 70, log=True)
    parts = []
    for tick in x.ticks():
        at = px(x(tick))
        parts.append(tag("line", x1=at, x2=at, y1=top, y2=bottom, class_="axis" if tick == 1 else "grid"))
        parts.append(label(f"{tick:g}×", x(tick), bottom + 18, "tick", "middle"))
    for index, row in enumerate(rows):
        y = top + 13 + 26 * index
        parts.append(label(row["what"], LABELS - 12, y + 4, "tick", "end"))
        mark = tag("path", d=f"M{px(x(row['low']))},{y}H{px(x(row['high']))}", class_="line")
        mark += tag("circle", cx=px(x(row["ratio"])), cy=y, r=5, class_="mark")
        parts.append(tag("g", mark, class_="series0"))
        if row["wanted"]:
            at = px(x(row["wanted"]))
            parts.append(tag("g", tag("path", d=f"M{at},{y - 8}V{y + 8}", class_="line"), class_="series1"))
        parts.append(label(f"{_times(row['ratio'])}×", width - 8, y + 4, "tick", "end"))
    parts.append(label("times as fast; the upright mark is what was wanted", LABELS, 14, "note"))
    drawing = svg("Speed against the official code, a bare loop, and explicit CoT", width, bottom + 30, parts)
    look = (
        ".figure{font-family:system-ui,sans-serif;color:#1c1c1c}"
        "@media (prefers-color-scheme:dark){.figure{color:#e8e8e8}}"
    )
    opened = drawing.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return opened.replace(">", f"><style>{STYLE}{look}</style>", 1) + "\n"


def main() -> None:
    """Writes what is asked for; without options, prints the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page", description="A result as tables and as a chart."
    )
    parser.add_argument("result", type=Path, help="the JSON")
    parser.add_argument("--markdown", type=Path, help="where the tables go")
    parser.add_argument("--chart", type=Path, help="where the SVG goes")
    options = parser.parse_args()
    result = json.loads(options.result.read_text(encoding="utf-8"))
    if options.markdown:
        options.markdown.write_text(markdown(result) + "\n", encoding="utf-8")
    if options.chart:
        options.chart.write_text(chart(result), encoding="utf-8")
    if not (options.markdown or options.chart):
        print(markdown(result))


if __name__ == "__main__":
    main()
