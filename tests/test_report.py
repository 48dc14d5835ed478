"""The report page: what it says, what it survives, and how a real browser takes it."""

import json
import random
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from tacit.errors import TacitError
from tacit.evaluation.prompting import BASELINES
from tacit.evaluation.socratic import LAST, NOWHERE, TOO_FEW, TOO_MANY
from tacit.recipe import METHODS, OTHERWISE
from tacit.report import dialogues, reading, thoughts, write_report
from tacit.report.comparison import compare
from tacit.report.drawing import Axis
from tacit.report.emulation import Emulation, emulation_figure
from tacit.report.figures import (
    Line,
    Point,
    Sweep,
    loss_figure,
    progress_figure,
    smooth,
    sweep_figure,
    thin,
    tradeoff_figure,
)
from tacit.report.finding import finding
from tacit.report.page import ASKED_OTHERWISE, _colors, _lines
from tacit.report.reading import Cell, Curves, Predictions, Row, cell_name, read_run
from tacit.report.words import NAMES, amount, chance, duration, gain, percent, ratio, speed
from tacit.run import implicit
from tacit.socratic import pipeline

EVIL = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
TOTAL = 20

Json = dict[str, object]


def row(method: str, seed: int = 1, **values: object) -> Json:
    accuracy, tokens, rate = {"stepwise": (0.974, 0, 9800), "no_cot": (0.031, 0, 10000), "cot": (0.998, 23, 1250)}.get(
        method, (0.5, 10, 5000)
    )
    return {
        "method": method,
        "seed": seed,
        "accuracy": accuracy,
        "ci95": [accuracy - 0.01, accuracy + 0.001],
        "n": 2000,
        "reasoning_tokens": tokens,
        "generated_tokens": tokens + 9,
        "batch_size": 256,
        "examples_per_second": rate,
        "relative_speed": rate / 10000,
        "train_seconds": 350.2,
        "train_steps": 6200,
        "train_examples": 396800,
        **values,
    }


def metrics(method: str, seed: int = 1, steps: int = 600) -> list[Json]:
    """A training that removes one unit every 20 steps from step 200 on."""
    noise = random.Random(seed)
    records, removed = [], TOTAL if method == "no_cot" else 0
    for step in range(steps):
        at = {"step": step, "seconds": step / 20, "total": TOTAL}
        if method == "stepwise" and step >= 200 and step % 20 == 0 and removed < TOTAL:
            records.append({"event": "stage", **at, "removed": removed + 1, "previous": removed})
            removed += 1
        loss = 2.5 * 0.98**step + 0.01 + 0.01 * noise.random()
        records.append({"event": "train", **at, "loss": loss, "removed": removed, "learning_rate": 1e-3})
        if step % 50 == 0:
            right = 0.03 if method == "no_cot" else min(0.98, step / 150)
            records.append({"event": "eval", **at, "removed": removed, "exact_match": right, "n": 500})
    return records


def prediction(index: int, correct: bool, **values: object) -> Json:
    return {
        "id": f"{index:04x}",
        "question": f"{index % 10} 2 8 4 * 7 3",
        "shown_question": f"482{index % 10} * 37",
        "gold": "7 7 3 8 7 1",
        "answer": "7 7 3 8 7 1" if correct else "0 7 3 8 7 1",
        "text": f"#### 7 7 3 8 7 1 ({index})",
        "correct": correct,
        "reasoning_tokens": 0,
        "generated_tokens": 9,
        **values,
    }


def dialogue(index: int, correct: bool, notes: tuple[str, ...] = (), **turn: object) -> Json:
    """A prediction of two turns."""
    asked = {"question": f"How many has Ada ? ({index})", "text": "<< 4 + 3 = 7 >> 7 pears", "answer": "7", **turn}
    last = {"question": "How many has Cleo ?", "text": "<< 7 * 2 = 1 4 >> 1 4 pears", "answer": "1 4"}
    return prediction(index, correct, turns=[asked, last], notes=list(notes))


def measured(share: float, wrong: dict[str, int], notes: dict[str, int]) -> Json:
    """What `summarise_dialogues` may say of 100 dialogues."""
    found = {"share": share, "ci95": [share - 0.05, share + 0.04], "n": 100}
    return {
        "n": 100, "questions": 2.5, "notes": notes, "gold": 100, "gold_questions": 3.25, "same_count": found,
        "count_difference": -0.75, "same_questions": found, "bleu": 47.73, "bleu_signature": "nrefs:1",
        "first_wrong": {"nowhere": 100 - sum(wrong.values()), **wrong}, "steps": {**found, "by_step": [found]},
    }  # fmt: skip


def make_socratic(folder: Path, seeds: tuple[int, ...] = (1, 2)) -> Path:
    """No CoT, CoT, the unified student, a decomposer with a solver, and these with the gold questions."""
    folder.mkdir(parents=True)
    right = {"no_cot": 10, "cot": 30, "unified": 36, "socratic": 48, "oracle": 54}  # of 60
    rows = []
    for seed in seeds:
        for method, count in right.items():
            cell = folder / (f"{method}-seed{seed}" if len(seeds) > 1 else method)
            of_several = {"socratic": ["decomposer", "solver"], "oracle": []}.get(method, [""])
            for student in of_several:
                write_lines(cell / student / "metrics.jsonl", metrics("cot", seed, steps=60))
            talks = method in ("socratic", "oracle")
            make = dialogue if talks else prediction
            write_lines(cell / "predictions.jsonl", [make(i, i < count) for i in range(60)])
            values: Json = {"accuracy": count / 60, "ci95": [count / 60 - 0.01, count / 60 + 0.02], "n": 60}
            if talks:
                wrong = {"step 1": 10 * seed, "step 2": 5, "too few questions": 1}
                notes = {"repeated question": 3, "unmarked answer": 1} if method == "socratic" else {}
                values["dialogues"] = measured(0.5, wrong if method == "socratic" else {"last step": 8}, notes)
            if method == "oracle":
                values |= dict.fromkeys(("examples_per_second", "relative_speed"))
                values |= dict.fromkeys(("train_seconds", "train_steps", "train_examples"), 0)
            rows.append(row(method, seed, **values))
    write_summary(folder, rows, task="word_problems")
    return folder


def make_implicit(folder: Path, seeds: tuple[int, ...] = (1, 2), teacher: float = 0.95) -> Path:
    """No CoT, CoT, Stepwise and ICoT-KD; the latter's cost counts that of CoT."""
    make_run(folder, ("no_cot", "cot", "stepwise", "implicit_kd"), seeds)
    rows = [row(method, seed) for seed in seeds for method in ("no_cot", "cot", "stepwise")]
    for seed in seeds:
        cell = folder / (f"implicit_kd-seed{seed}" if len(seeds) > 1 else "implicit_kd")
        write_lines(cell / "mind_reader" / "metrics.jsonl", metrics("no_cot", seed, steps=60))
        errors = {"emulation_error": [None, 0.5, 0.75], "n": 50}
        lines = [{**line, **errors} if line["event"] == "eval" else line for line in metrics("no_cot", seed, 60)]
        for line in lines:
            line.pop("exact_match", None)
        write_lines(cell / "emulator" / "metrics.jsonl", lines)
        found = worth(teacher, gold=0.8, emulated=0.25, errors=[None, 0.25 * seed, 0.5, 1.25, 166.0, 0.9])
        cost = {"train_steps": 24800, "reasoning_tokens": 0, "examples_per_second": 7000}
        rows.append(row("implicit_kd", seed, accuracy=0.6 + seed / 100, thoughts=found, **cost))
    write_summary(folder, rows)
    return folder


def worth(teacher: float, gold: float, emulated: float, errors: object) -> Json:
    """What a run may say of the networks of ICoT-KD."""
    shares = {"teacher": teacher, "gold_states": gold, "emulated_states": emulated}
    found = {name: {"share": share, "ci95": [share - 0.02, share + 0.01], "n": 100} for name, share in shares.items()}
    return {**found, "emulation_error": errors}


def write_lines(path: Path, records: Iterable[Json]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def make_sweep(folder: Path, values: tuple[object, ...] = (1, 2, 4, 8), seeds: tuple[int, ...] = (1, 2, 3)) -> Path:
    """CoT over the values of a key, more and more right; No CoT, which the key does not reach; and a guess."""
    folder.mkdir(parents=True)
    rows = []
    for seed in seeds:
        for index, value in enumerate(values):
            right = {i for i in range(60) if (i + seed) % 10 < 2 + 2 * index}
            varied = {"data.samples": value}
            cell = folder / cell_name("cot", seed if len(seeds) > 1 else None, varied)
            write_lines(cell / "metrics.jsonl", metrics("cot", seed, steps=60))
            write_lines(cell / "predictions.jsonl", [prediction(i, i in right) for i in range(60)])
            rows.append(row("cot", seed, accuracy=len(right) / 60, n=60, varied=varied))
        cell = folder / cell_name("no_cot", seed if len(seeds) > 1 else None, {})
        write_lines(cell / "predictions.jsonl", [prediction(i, i % 4 == 0) for i in range(60)])
        rows.append(row("no_cot", seed, accuracy=0.25, n=60))
    guessed = row("random", seeds[0], accuracy=0.1, n=60, examples_per_second=None, relative_speed=None)
    write_summary(folder, [*rows, guessed])
    return folder


def make_run(folder: Path, methods: tuple[str, ...] = ("stepwise", "no_cot", "cot"), seeds: tuple[int, ...] = (1,)):
    folder.mkdir(parents=True)
    for method in methods:
        for seed in seeds:
            cell = folder / (method if len(seeds) == 1 else f"{method}-seed{seed}")
            write_lines(cell / "metrics.jsonl", metrics(method, seed))
            write_lines(cell / "predictions.jsonl", [prediction(i, i % 3 > 0) for i in range(60)])
    write_summary(folder, [row(method, seed) for seed in seeds for method in methods])
    (folder / "recipe.yaml").write_text("name: demo\nmethods: [stepwise]\n")
    (folder / "environment.json").write_text(json.dumps({"platform": None, "memory": {"free_gib": 1.5, "gpus": []}}))
    return folder


def write_summary(folder: Path, rows: object, **values: object) -> None:
    summary = {"schema": 1, "task": "multiplication", "hardware": "2 cores", "versions": {"torch": "2.13.0"}}
    (folder / "summary.json").write_text(json.dumps({**summary, "rows": rows, **values}))


def page_of(*runs: Path) -> str:
    destination = runs[0].parent / "report.html"
    write_report(list(runs), destination)
    return destination.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Checks that the tags of a page are balanced, and keeps the text and the tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open, self.open
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_says_what_the_run_found(tmp_path: Path):
    outline = Outline(page_of(make_run(tmp_path / "demo")))
    assert (
        "Stepwise Internalization answers 97.4 % of 2,000 held-out problems right without writing a reasoning token; "
        "without internalization the same model reaches 3.1 %." in outline.text
    )
    assert "(Explicit CoT, 23 reasoning tokens) reaches 99.8 % and takes 7.8 times as long per answer." in outline.text
    for cell in ("96.4 % to 97.5 %", "9,800", "0.98×", "5 min 50 s", "6,200", "396,800", "batch size 256", "2 cores"):
        assert cell in outline.text
    assert "torch 2.13.0" in outline.text
    assert "free gib 1.5, gpus none" in outline.text
    assert "tacit run recipe.yaml" in outline.text
    assert "methods: [stepwise]" in outline.text
    assert "Right: the first 8 of 40" in outline.text
    assert "Wrong: the first 8 of 20" in outline.text
    assert "4821 * 371 2 8 4 * 7 3" in outline.text  # as people write it, and below it as the model reads it
    assert outline.tags.count("svg") == 6  # three figures, each for wide and for narrow screens
    assert outline.tags.count("h1") == 1


def test_same_input_same_bytes(tmp_path: Path):
    run = make_run(tmp_path / "demo", seeds=(1, 2))
    assert page_of(run) == page_of(run)


def test_page_loads_nothing_and_runs_nothing(tmp_path: Path):
    page = page_of(make_run(tmp_path / "demo"))
    outline = Outline(page)
    assert re.findall(r"https?://[^\s\"'<]+", page) == ["https://arxiv.org/abs/2405.14838"]
    assert not {"script", "link", "img", "iframe", "object", "image", "use"} & set(outline.tags)
    assert not {"src", "srcset", "xlink:href", "onload"} & {name for name, _ in outline.attributes}
    assert "url(" not in page
    assert "@import" not in page


def test_foreign_text_is_text(tmp_path: Path):
    run = make_run(tmp_path / "demo", methods=("stepwise",))
    write_summary(run, [row("stepwise"), row(EVIL)], name=EVIL, task=EVIL, hardware=EVIL, versions={EVIL: EVIL})
    evil = dict.fromkeys(("question", "shown_question", "gold", "answer", "text"), EVIL)
    write_lines(run / "stepwise" / "predictions.jsonl", [prediction(0, True, **evil), prediction(1, False, **evil)])
    write_lines(run / "<b onclick=x>" / "metrics.jsonl", metrics("cot"))
    (run / "recipe.yaml").write_text(f"# {EVIL}\n")
    page = page_of(run)
    outline = Outline(page)
    assert "<script" not in page
    assert "<b " not in page
    assert "onclick" not in {name for name, _ in outline.attributes}
    assert outline.text.count(EVIL) >= 15


def test_lone_surrogates_and_odd_characters(tmp_path: Path):
    run = make_run(tmp_path / "demo", methods=("stepwise",))
    write_lines(run / "stepwise" / "predictions.jsonl", [prediction(0, True, text="\ud800 \x00 \u2028 日本")])
    assert "日本" in page_of(run)


def test_several_seeds(tmp_path: Path):
    run = make_run(tmp_path / "demo", seeds=(1, 2, 3))
    rows = [row("stepwise", seed, accuracy=0.96 + seed / 100) for seed in (1, 2, 3)]
    write_summary(run, rows + [row("no_cot", seed) for seed in (1, 2, 3)])
    outline = Outline(page_of(run))
    assert "answers 98.0 % (97.0 % to 99.0 % over 3 seeds) of 2,000 held-out problems right" in outline.text
    assert "Stepwise Internalization (3 seeds)" in outline.text
    assert "Stepwise Internalization, seed 2" in outline.text  # the hover text of its line
    assert len(read_run(run).cells) == 9  # with the folders of cot, which have no row


def test_several_runs(tmp_path: Path):
    runs = [make_run(tmp_path / name, methods=("stepwise", "no_cot")) for name in ("first", "second")]
    outline = Outline(page_of(*runs))
    assert "2 runs" in outline.text
    assert outline.tags.count("section") == 2
    assert ("href", "#run2") in outline.attributes
    assert ("id", "run2") in outline.attributes


def test_missing_and_odd_values_become_dashes(tmp_path: Path):
    run = tmp_path / "bare"
    run.mkdir()
    odd = {"accuracy": "high", "ci95": [0.1], "n": True, "train_seconds": float("nan"), "train_steps": 10**400}
    write_summary(run, [{"method": "stepwise"}, row("no_cot", relative_speed=None, examples_per_second=0, **odd)])
    outline = Outline(page_of(run))
    assert "No model of this run has been evaluated yet." in outline.text
    assert "–" in outline.text
    assert "nan" not in outline.text
    assert "svg" not in outline.tags


@pytest.mark.parametrize("rows", [None, [], "rows", [1, "two", None]])
def test_summary_without_rows(tmp_path: Path, rows: object):
    run = make_run(tmp_path / "demo")
    write_summary(run, rows)
    outline = Outline(page_of(run))
    assert "No model of this run has been evaluated yet." in outline.text
    assert outline.tags.count("svg") == 4  # what the folders hold is drawn


@pytest.mark.parametrize("piece", ["recipe.yaml", "environment.json", "stepwise", "stepwise/metrics.jsonl"])
def test_missing_pieces(tmp_path: Path, piece: str):
    run = make_run(tmp_path / "demo", methods=("stepwise",))
    path = run / piece
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "97.4" in Outline(page_of(run)).text


def test_no_summary_is_an_error(tmp_path: Path):
    with pytest.raises(TacitError, match="no such run folder"):
        page_of(tmp_path / "nowhere")
    run = make_run(tmp_path / "demo")
    for content in ("", "[]", "{", '"summary"', "[" * 100_000):
        (run / "summary.json").write_text(content)
        with pytest.raises(TacitError, match=r"summary\.json: not a JSON object"):
            page_of(run)
    write_summary(run, [], schema=2)
    with pytest.raises(TacitError, match="schema 2"):
        page_of(run)
    (run / "summary.json").unlink()
    with pytest.raises(TacitError, match=r"has no readable summary\.json"):
        page_of(run)
    with pytest.raises(TacitError, match="no run folder given"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(TacitError, match="cannot write"):
        write_report([make_run(tmp_path / "good")], tmp_path / "no" / "report.html")


def test_truncated_and_repeated_lines(tmp_path: Path):
    run = make_run(tmp_path / "demo", methods=("stepwise",))
    path = run / "stepwise" / "metrics.jsonl"
    whole = read_run(run).cells[0].curves
    lines = path.read_bytes().splitlines(keepends=True)
    # Killed in the middle of a line, which the resumed run continues, from a checkpoint 100 lines before.
    path.write_bytes(b"".join(lines[:300]) + lines[300][:20] + b"\xff\n" + b"".join(lines[200:]) + b'{"event": "tra')
    assert read_run(run).cells[0].curves == whole
    predictions = run / "stepwise" / "predictions.jsonl"
    predictions.write_bytes(predictions.read_bytes()[:-30] + b"\n[]\n\n{}\nnull\n")
    assert read_run(run).cells[0].predictions.right_count == 39
    page_of(run)


def test_method_names_do_not_lead_out_of_the_run(tmp_path: Path):
    make_run(tmp_path / "secret")
    run = make_run(tmp_path / "demo", methods=("stepwise",))
    write_summary(run, [row("../secret/stepwise"), row("."), row("")])
    assert [cell.method for cell in read_run(run).cells] == ["stepwise"]


def test_curves(tmp_path: Path):
    curves = read_run(make_run(tmp_path / "demo", methods=("stepwise",))).cells[0].curves
    assert len(curves.loss) == 600
    assert len(curves.exact_match) == 12
    assert curves.stages == list(range(200, 600, 20))
    assert curves.removed == [(0, 0), *((200 + 20 * i, i + 1) for i in range(20)), (599, 20)]
    assert curves.total == TOTAL


def test_long_metrics_are_thinned(tmp_path: Path):
    run = make_run(tmp_path / "demo", methods=("stepwise",))
    write_lines(run / "stepwise" / "metrics.jsonl", metrics("stepwise", steps=50_000))
    page = page_of(run)
    assert len(page) < 150_000
    assert max(path.count("L") for path in re.findall(r' d="([^"]*)"', page)) <= 600


def test_thin_keeps_ends_and_extremes():
    noise = random.Random(0)
    points = [(float(i), noise.random()) for i in range(12_345)]
    points[777] = (777.0, 9.0)
    kept = thin(points)
    assert len(kept) <= 600
    assert kept == sorted(kept)
    assert {points[0], points[777], points[-1]} <= set(kept)
    assert thin(points[:600]) == points[:600]
    assert len(smooth(points)) <= 150
    assert smooth(points[:10]) == points[:10]


def test_finding_with_methods_missing():
    plain, chain, own = (Row(m, accuracy=a, n=500) for m, a in (("no_cot", 0.0), ("cot", 1.0), ("mine", 0.9)))
    assert finding([own]) == ["mine answers 90.0\u202f% of 500 held-out problems right."]
    assert finding([own, plain])[0].endswith("right; No CoT reaches 0.0\u202f%.")
    assert finding([chain, plain])[0].startswith("Explicit CoT answers 100.0\u202f% of 500")
    mixed = finding([Row("stepwise", accuracy=0.5, n=10, reasoning_tokens=1.5), chain])
    assert mixed[0].endswith("of 10 held-out problems right, writing 1.5 reasoning tokens per answer.")
    assert "Explicit CoT" in mixed[1]
    assert "times as long" not in mixed[1]  # no speed was measured
    assert finding([plain])[0] == "No CoT answers 0.0\u202f% of 500 held-out problems right."


def test_numbers_for_people():
    assert [percent(x) for x in (None, 0, 1, 0.9996, 0.0004, 0.974)] == [
        "–",
        *(f"{x}\u202f%" for x in ("0.0", "100.0", "99.96", "0.04", "97.4")),
    ]
    assert [amount(x) for x in (None, 0, 2000.0, 46.5, 0.001)] == ["–", "0", "2,000", "46.5", "< 0.1"]
    assert [speed(x) for x in (None, 12345.6, 81.44, 0.1259)] == ["–", "12,346", "81.4", "0.126"]
    assert [ratio(x) for x in (None, 1, 0.119, 0.0041, 8.136, 250)] == [
        "–", "1.00×", "0.12×", "0.0041×", "8.14×", "250×",
    ]  # fmt: skip
    assert [duration(x) for x in (None, 0.4, 59.6, 350, 4321)] == ["–", "0 s", "1 min 0 s", "5 min 50 s", "1 h 12 min"]

    assert [gain(x) for x in (0.125, -0.0034, 0.0001, -0.0001)] == ["+12.5", "\u22120.3", "0.0", "0.0"]
    assert [chance(x) for x in (1.0, 0.5, 0.0344, 0.001, 0.0009, 0.0)] == [
        "1.00", "0.50", "0.034", "0.001", "< 0.001", "< 0.001",
    ]  # fmt: skip


# --- a varied key ----------------------------------------------------------------------------------------------------


def test_a_sweep_is_told_and_drawn(tmp_path: Path):
    outline = Outline(page_of(make_sweep(tmp_path / "demo")))
    assert (
        "Explicit CoT goes from 20.0 % to 80.0 % of 60 held-out problems right as data.samples goes from 1 to 8; "
        "No CoT reaches 25.0 %." in outline.text
    )
    assert "Accuracy against data.samples" in outline.text
    assert "data.samples (logarithmic)" in outline.text
    assert "Explicit CoT, samples 4, seed 2" in outline.text  # the hover text of its loss
    assert "Explicit CoT, samples 4 (3 seeds)" in outline.text  # in the legend of its loss
    assert "Explicit CoT (12 trainings)" in outline.text  # beside its points
    assert "No CoT (3 seeds)" in outline.text
    assert "Random guessing" in outline.text
    assert outline.text.count("\u2013 1 25.0 %") == 1  # no value, seed 1


def test_the_values_of_a_sweep_are_told_apart():
    """Each by colour, or by colour and stroke; a method that the key does not reach keeps its own colour."""
    few = [Cell("cot", seed, {"data.k": k}, Curves([(0, 1.0)]), Predictions()) for k in range(4) for seed in (1, 2)]
    plain = Cell("no_cot", 1, {}, Curves([(0, 1.0)]), Predictions())
    lines = _lines([*few, plain], _colors(["cot", "no_cot"]))
    assert [line.group for line in lines[::2]] == [*(f"Explicit CoT, k {k} (2 seeds)" for k in range(4)), "No CoT"]
    looks = {(line.color, line.stroke) for line in lines}
    assert len(looks) == 5
    assert {stroke for _, stroke in looks} == {""}
    assert {"cot": lines[0].color, "no_cot": lines[-1].color} == _colors(["cot", "no_cot"])
    many = [Cell("cot", 1, {"data.k": k}, Curves([(0, 1.0)]), Predictions()) for k in range(14)]
    looks = {(line.color, line.stroke) for line in _lines(many, _colors(["cot"]))}
    assert len(looks) == 14
    both = [*few, Cell("no_cot", 1, {"data.k": 1}, Curves([(0, 1.0)]), Predictions())]
    assert len({line.color for line in _lines(both, _colors(["cot", "no_cot"]))}) == 2  # by method


@pytest.mark.parametrize(("seeds", "marked"), [((1, 2, 3), True), (tuple(range(7)), False)])
def test_stages_of_a_few_trainings_are_marked(seeds: tuple[int, ...], marked: bool, tmp_path: Path):
    page = page_of(make_run(tmp_path / "demo", ("stepwise", "no_cot"), seeds))
    assert ('class="stage ' in page) == ("Faint vertical lines" in page) == marked


def test_no_column_for_a_speed_that_nothing_is_measured_against(tmp_path: Path):
    run = make_run(tmp_path / "demo", ("stepwise",))
    assert "Speed vs No CoT" in Outline(page_of(run)).text.replace("Speedvs", "Speed vs")
    write_summary(run, [row("stepwise", relative_speed=None)])
    assert "vs No CoT" not in Outline(page_of(run)).text


def test_the_grader_is_named(tmp_path: Path):
    run = make_run(tmp_path / "demo", methods=("cot",))
    write_summary(run, [row("cot", grader="original")])
    assert "whose final answer is right, by the task's original grader." in Outline(page_of(run)).text
    write_summary(run, [row("cot", grader=[EVIL])])
    assert "<script" not in page_of(run)


def test_rows_of_a_sweep_come_by_method_value_and_seed(tmp_path: Path):
    run = read_run(make_sweep(tmp_path / "demo", values=(8, 2)))
    assert [(row.method, row.value, row.seed) for row in run.rows] == [
        *[("cot", value, seed) for value in (8, 2) for seed in (1, 2, 3)],
        *[("no_cot", None, seed) for seed in (1, 2, 3)],
        ("random", None, 1),
    ]
    assert [(cell.method, dict(cell.varied), cell.seed) for cell in run.cells][:2] == [
        ("cot", {"data.samples": 8}, 1),
        ("cot", {"data.samples": 8}, 2),
    ]


@pytest.mark.parametrize("varied", [{"k": [1]}, {"k": None}, {}, [1], "k", {"a": 1, "b": 2}, {"k": float("nan")}])
def test_odd_values_of_a_varied_key(tmp_path: Path, varied: object):
    run = make_run(tmp_path / "demo", methods=("cot",))
    write_summary(run, [row("cot", varied=varied)])
    assert read_run(run).rows[0].varied == {}
    assert "Explicit CoT answers" in Outline(page_of(run)).text


def sweep(values: Iterable[object], **extra: object) -> list[Sweep]:
    points = {value: [(0.1 + 0.01 * index, 0.05, 0.2)] for index, value in enumerate(values)}
    return [Sweep("one", 0, points), Sweep(EVIL, 1, {None: [(0.3, None, None), (0.1, 0.0, 0.2)]})]


@pytest.mark.parametrize("width", [380, 960])
@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [
        ((1, 2, 4, 8), True),
        ((0.5, 1), True),
        ((2, 3, 5), False),
        ((1e-3, 3e-3, 1e-2), True),
        ((0, 1, 2), False),
        ((7,), False),
    ],
)
def test_values_stand_where_they_belong(width: int, values: tuple, logarithmic: bool):
    svg = sweep_figure(sweep(values), width, "some.key")
    root = ET.fromstring(svg)
    assert ("(logarithmic)" in svg) == logarithmic
    _, _, right, bottom = map(float, root.get("viewBox", "").split())
    dots = [float(circle.get("cx", "")) for circle in root.iter("circle")]
    assert len(dots) == len(values)
    assert all(0 < dot < right for dot in dots)
    places = [dots[i] for i in sorted(range(len(values)), key=lambda i: values[i])]
    assert places == sorted(places)
    if values == (1, 2, 4, 8):
        gaps = [b - a for a, b in pairwise(places)]
        assert max(gaps) - min(gaps) < 0.2, "doubling is one step"
    (dashed,) = [path for path in root.iter("path") if "dashed" in path.get("class", "")]
    assert len(set(re.findall(r"[MV]?[\d.]+,([\d.]+)", dashed.get("d", "")))) == 1, "a level line"
    for text in root.iter("text"):
        assert 0 <= float(text.get("x", "")) <= right
        assert 0 <= float(text.get("y", "")) <= bottom
    assert sweep_figure(sweep(())[1:], width, "k") == sweep_figure([], width, "k") == ""


@pytest.mark.parametrize("width", [380, 960])
@pytest.mark.parametrize("values", [("adamw", "muon", EVIL), (True, False), ("full method", 1)])
def test_texts_stand_in_rows(width: int, values: tuple):
    root = ET.fromstring(sweep_figure(sweep(values), width, "some.key"))
    _, _, right, bottom = map(float, root.get("viewBox", "").split())
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in root.iter("circle")]
    names = [text for text in root.iter("text") if text.get("x") == "4" and text.get("class") == ""]
    assert [text.text for text in names] == [str(value) for value in values]
    assert len(dots) == len(values)
    assert [y for _, y in dots] == sorted({y for _, y in dots}), "one below the other"
    assert [x for x, _ in dots] == sorted(x for x, _ in dots), "more accuracy lies further right"
    for text, (_, y) in zip(names, dots, strict=True):
        assert 0 < y - float(text.get("y", "")) < 30, "below its name"
    (dashed,) = [path for path in root.iter("path") if "dashed" in path.get("class", "")]
    at = float(re.match(r"M([\d.]+),", dashed.get("d", ""))[1])
    assert dots[-1][0] < at < right, "the level of 0.2"
    assert all(0 <= float(text.get("y", "")) <= bottom for text in root.iter("text"))


def test_labels_are_told_from_the_worst_to_the_best(tmp_path: Path):
    run = make_run(tmp_path / "demo", methods=("cot",))
    shares = {"full method": 0.9, "no smoothing": 0.1, "faster": 0.5}
    write_summary(run, [row("cot", accuracy=share, varied={"methods.cot": label}) for label, share in shares.items()])
    outline = Outline(page_of(run))
    assert "Explicit CoT goes from 10.0 % (no smoothing) to 90.0 % (full method) of" in outline.text
    assert "Accuracy by methods.cot" in outline.text


def test_bars_belong_to_single_seeds():
    alone = Sweep("a", 0, {1: [(0.5, 0.4, 0.6)], 2: [(0.6, 0.5, 0.7)]})
    several = Sweep("b", 1, {1: [(0.5, 0.4, 0.6), (0.7, 0.6, 0.8)], 2: [(0.6, 0.5, 0.7)]})
    drawn = ET.fromstring(sweep_figure([alone, several], 960, "k"))
    assert len([path for path in drawn.iter("path") if path.get("class") == "bar"]) == 3
    assert len(list(drawn.iter("circle"))) == 5


# --- dialogues -------------------------------------------------------------------------------------------------------


def test_every_method_and_fallback_has_words():
    assert set(NAMES) == {*METHODS, *OTHERWISE, *BASELINES}
    assert len(set(NAMES.values())) == len(NAMES)
    assert ASKED_OTHERWISE == OTHERWISE
    assert (*pipeline.STUDENTS, *implicit.KINDS) == reading.STUDENTS
    assert (dialogues.NOWHERE, dialogues.LAST_PLACES) == (NOWHERE, (LAST, TOO_FEW, TOO_MANY))
    words = {name: value for name, value in vars(pipeline).items() if name.isupper() and isinstance(value, str)}
    assert list(dialogues.FALLBACKS) == [value for name, value in words.items() if name not in ("ASK", "TELL")]


def test_a_socratic_run_is_told_against_its_rivals(tmp_path: Path):
    text = Outline(page_of(make_socratic(tmp_path / "demo"))).text
    assert (
        "Socratic CoT answers 80.0 % (80.0 % to 80.0 % over 2 seeds) of 60 held-out problems right, writing 10 "
        "reasoning tokens per answer; No CoT reaches 16.7 %. Writing the chain of thought out without sub-questions "
        "(Explicit CoT, 23 reasoning tokens) reaches 50.0 % and takes 4.0 times as long per answer. One student that "
        "asks and answers in one pass (Socratic, unified) reaches 60.0 %. Asked the gold sub-questions in place of "
        "the decomposer's, the same solver reaches 90.0 %, which bounds what better questions could bring." in text
    )
    assert "Socratic, gold questions 1 90.0 %89.0 % to 92.0 % 60 10 19 – – – – –" in text, "no speed, no training"
    assert "Socratic CoT 1 2.50 3.25 50.0 % 50.0 % 47.7 50.0 %45.0 % to 54.0 % –" in text, "no gold history here"
    assert "repeated questionit was asked once 6 of 200 –" in text
    assert "Socratic CoT 80.0 % 16.7 % +63.3" in text, "beside No CoT"
    assert "Socratic CoT 80.0 % 50.0 % +30.0" in text, "beside explicit CoT"
    assert "arXiv 2212.00193" in text


def test_what_a_pair_is_told_by():
    plain, chain, pair, gold = (
        Row(method, accuracy=share, n=10, batch_size=1, examples_per_second=speed)
        for method, share, speed in (
            ("no_cot", 0.1, 9), ("cot", 0.3, 4), ("socratic", 0.2, 1), ("oracle", 0.1, None),
        )
    )  # fmt: skip
    told = finding([plain, chain, pair, gold])
    assert told[0].startswith("Socratic CoT answers 20.0")
    assert told[1].endswith("(Explicit CoT) reaches 30.0\u202f% and is 4.0 times as fast.")
    assert told[2].endswith("the same solver reaches 10.0\u202f%."), "less than with the student's own bounds nothing"
    told = finding([Row("stepwise", accuracy=0.5, n=10), pair])
    assert told == [
        "Stepwise Internalization answers 50.0\u202f% of 10 held-out problems right.",
        "Socratic CoT reaches 20.0\u202f%.",
    ]


def test_dialogues_are_shown_turn_by_turn(tmp_path: Path):
    run = make_socratic(tmp_path / "demo", seeds=(1,))
    said = [dialogue(0, True), dialogue(1, False, ("repeated question", "repeated question", EVIL), question=EVIL)]
    write_lines(run / "socratic" / "predictions.jsonl", said)
    page = page_of(run)
    outline = Outline(page)
    assert "<script" not in page
    assert "How many has Ada ? (0) << 4 + 3 = 7 >> 7 pears 7 How many has Cleo ? << 7 * 2 = 1 4 >> 1 4 pears 1 4" in (
        re.sub(r"\s+", " ", re.sub(r"<[^<> ][^<>]*>", " ", page).replace("&lt;", "<").replace("&gt;", ">"))
    )
    assert outline.text.count(EVIL) == 2, "a sub-question and a note"
    assert f"repeated question, {EVIL}" in outline.text, "each note once"
    samples = outline.text[outline.text.index("Sample predictions") :]
    assert samples.index("Socratic CoT") < samples.index("No CoT"), "what the run is about comes first"


ODD: list[object] = [None, 7, [], {}, {"n": "many"}, {"first_wrong": [], "notes": {"a": "b", "c": -1}}]
ODD += [{"n": 0, "notes": {EVIL: 3}, "first_wrong": {EVIL: 2, "step x": 1, "step 99999999999999": 1}}]
ODD += [{"bleu": float("nan"), "same_count": 3, "steps": {"share": 0.5, "ci95": [1]}, "gold_history": None}]


@pytest.mark.parametrize("odd", ODD)
def test_odd_measures_and_turns(tmp_path: Path, odd: object):
    run = make_socratic(tmp_path / "demo", seeds=(1,))
    write_summary(run, [row("socratic", dialogues=odd), row("oracle", dialogues=measured(0.5, {"step 1": 1}, {}))])
    turns = [odd, [odd], [{"question": odd}], [{"answer": EVIL}, 3]]
    lines = [prediction(i, False, turns=turn, notes=odd) for i, turn in enumerate(turns)]
    write_lines(run / "socratic" / "predictions.jsonl", lines)
    page = page_of(run)
    outline = Outline(page)
    assert "Socratic CoT answers 50.0 %" in outline.text
    assert "nan" not in outline.text.replace("finance", "")
    assert "<script" not in page
    assert EVIL in outline.text


def test_places_stand_in_their_order_and_dots_at_their_shares(tmp_path: Path):
    run = make_socratic(tmp_path / "demo")
    found = dialogues.read_measures(measured(0.5, {"too few questions": 4, "step 10": 1, "step 2": 20, "x": 1}, {}))
    more = dialogues.read_measures(measured(0.5, {"last step": 1, "step 1": 2}, {}))
    assert dialogues.wrong_places([found, more]) == [
        "step 1", "step 2", "step 10", "last step", "too few questions", "x",
    ]  # fmt: skip
    drawn = re.search(r'<svg[^>]*aria-label="Share of dialogues[^>]*>.*?</svg>', page_of(run))
    assert drawn
    hovers = [title.text for title in ET.fromstring(drawn[0]).iter("title")][1:]
    assert hovers == [
        "Socratic CoT, step 1: 10.0%, 20.0%", "Socratic, gold questions, step 1: 0.0%, 0.0%",
        "Socratic CoT, step 2: 5.0%, 5.0%", "Socratic, gold questions, step 2: 0.0%, 0.0%",
        "Socratic CoT, last step: 0.0%, 0.0%", "Socratic, gold questions, last step: 8.0%, 8.0%",
        "Socratic CoT, too few questions: 1.0%, 1.0%", "Socratic, gold questions, too few questions: 0.0%, 0.0%",
    ]  # fmt: skip


def test_students_of_one_method_have_lines_of_their_own(tmp_path: Path):
    run = make_socratic(tmp_path / "demo")
    (cell,) = [cell for cell in read_run(run).cells if cell.method == "socratic" and cell.seed == 1]
    assert list(cell.trainings) == ["decomposer", "solver"]
    assert len(cell.trainings["solver"].loss) == 60
    page = page_of(run)
    outline = Outline(page)
    assert "Socratic CoT (2 seeds): decomposer" in outline.text
    assert "Socratic CoT, seed 2: solver" in outline.text
    assert "Accuracy during training" in outline.text, "no chain disappears"
    assert "Removed from the chain" not in outline.text
    loss = re.search(r'<svg[^>]*aria-label="Training loss[^>]*>.*?</svg>', page)
    assert loss
    dashed = [path for path in ET.fromstring(loss[0]).iter("path") if "dashed" in path.get("class", "")]
    assert len(dashed) == 2, "the decomposer of each seed"
    (run / "summary.json").write_text("{}")  # before the first evaluation
    assert {cell.method for cell in read_run(run).cells} >= {"socratic", "cot"}
    write_lines(run / "socratic-seed1" / "solver" / "metrics.jsonl", [
        {"event": "restart", "step": 3, "text": "back to stage 1"}, {"event": "outcome", "text": "gave up", "step": 9},
    ])  # fmt: skip
    text = Outline(page_of(run)).text
    assert "Socratic CoT, seed 1: solver, step 3: back to stage 1." in text
    assert "Socratic CoT, seed 1: solver, at the end: gave up." in text


def test_colours_are_told_apart():
    methods = ["no_cot", "cot", "unified", "socratic", "oracle", "calculator"]
    assert len(set(_colors(methods).values())) == len(methods)
    assert _colors(["implicit_kd", "random"])["implicit_kd"] == _colors([*methods, "implicit_kd"])["implicit_kd"]
    assert _colors(["cot", "random", "stepwise"]) == {"cot": 2, "random": 3, "stepwise": 0}
    assert _colors([*methods, "cumulative"])["cumulative"] != _colors([*methods, "cumulative"])["unified"]


# --- thoughts --------------------------------------------------------------------------------------------------------


def test_an_implicit_run_is_told_with_what_it_cost(tmp_path: Path):
    page = page_of(make_implicit(tmp_path / "demo"))
    text = Outline(page).text
    assert "Stepwise Internalization answers 97.4 %" in text
    assert "ICoT-KD reaches 61.5 % (61.0 % to 62.0 % over 2 seeds) without writing a reasoning token." in text
    assert (
        "Given its teacher's own states instead of emulated ones, the student of ICoT-KD reaches 80.0 %, which bounds "
        "what better emulation could bring. Optimizer steps: ICoT-KD 24,800 (teacher, mind-reading student, emulator "
        "and coupling together), No CoT 6,200, Explicit CoT 6,200, Stepwise Internalization 6,200." in text
    )
    shown = "1 95.0 %93.0 % to 96.0 % 80.0 %78.0 % to 81.0 % 25.0 %23.0 % to 26.0 % 61.0 %"
    assert f"ICoT-KD {shown}" in text
    assert "ICoT-KD 66.7 % 66.7 % 0.0" in text, "beside No CoT and Stepwise"
    assert "weak teacher" not in text.lower()
    assert "ICoT-KD (2 seeds): mind reader" in text
    assert "ICoT-KD, seed 2: emulator" in text
    assert "ICoT-KD, seed 2: coupled" in text
    assert "arXiv 2311.01460" in text
    cell = next(cell for cell in read_run(tmp_path / "demo").cells if cell.method == "implicit_kd")
    assert list(cell.trainings) == ["mind_reader", "emulator", "coupled"]
    assert cell.trainings["emulator"].exact_match == []
    assert len(cell.trainings["emulator"].loss) == 60


def test_a_run_about_icot_kd_alone():
    plain, own = (Row(m, accuracy=a, n=10, train_steps=5) for m, a in (("no_cot", 0.1), ("implicit_kd", 0.6)))
    assert finding([plain, own]) == [
        "ICoT-KD answers 60.0\u202f% of 10 held-out problems right; No CoT reaches 10.0\u202f%."
    ], "nothing to say of equal budgets"
    dearer = finding([plain, Row("implicit_kd", accuracy=0.6, n=10, train_steps=6)])
    assert dearer[-1].startswith("Optimizer steps: ICoT-KD 6 (")
    assert dearer[-1].endswith("together), No CoT 5.")


def test_a_weak_teacher_is_warned_of(tmp_path: Path):
    assert thoughts.WEAK == implicit.WEAK
    text = Outline(page_of(make_implicit(tmp_path / "demo", seeds=(1,), teacher=0.899))).text
    assert "A weak teacher: the student that writes its chain of thought is right on 89.9 % of problems." in text
    text = Outline(page_of(make_implicit(tmp_path / "good", seeds=(1,), teacher=0.9))).text
    assert "weak teacher" not in text.lower()


ODD_THOUGHTS: list[object] = [None, 7, [], {}, {"teacher": 3}, {"gold_states": {"share": EVIL, "ci95": EVIL}}]
ODD_THOUGHTS += [{"emulation_error": odd} for odd in (EVIL, {}, [EVIL], [[1]], [True], [-1], [None] * 2000)]
ODD_THOUGHTS += [{"teacher": {"share": 0.5, "ci95": [1]}, "emulation_error": [float("nan"), 10**400]}]


@pytest.mark.parametrize("odd", ODD_THOUGHTS)
def test_odd_thoughts(tmp_path: Path, odd: object):
    run = make_implicit(tmp_path / "demo", seeds=(1,))
    write_summary(run, [row("implicit_kd", thoughts=odd)])
    page = page_of(run)
    assert "ICoT-KD answers 50.0 %" in Outline(page).text
    assert "Emulation error by layer" not in page, "what is no error is not drawn"
    assert "<script" not in page
    assert "nan" not in page.replace("finance", "")


@pytest.mark.parametrize("width", [380, 960])
def test_bars_are_as_high_as_errors(width: int):
    seeds = [(None, 0.25, 0.5, 150.0), (None, 0.75, 0.5, 250.0)]
    root = ET.fromstring(emulation_figure([Emulation(EVIL, 4, seeds), Emulation("odd", 4, [(), (None,)])], width))
    heights = [float(bar.get("height", "")) for bar in root.iter("rect")]
    assert len(heights) == 3, "a constant layer has none"
    assert heights[0] == heights[1], "means"
    assert heights[2] == pytest.approx(4 * heights[0], abs=0.2), "cut at 2"
    texts = [text.text or "" for text in root.iter("text")]
    assert texts.count("0.50") == 2
    assert "↑ 200" in texts
    constant = [text for text in root.iter("text") if "".join(text.itertext()).endswith("constant")]
    assert len(constant) == 2
    assert len(list(root.iter("circle"))) == 4, "no dot beyond the axis"
    _, _, right, bottom = map(float, root.get("viewBox", "").split())
    for text in root.iter("text"):
        assert 0 <= float(text.get("x", "")) <= right
        assert 0 <= float(text.get("y", "")) <= bottom
    assert emulation_figure([Emulation("none", 0, [()])], width) == emulation_figure([], width) == ""


# --- differences -----------------------------------------------------------------------------------------------------


def test_methods_are_compared_on_the_same_problems(tmp_path: Path):
    compared = compare([read_run(make_sweep(tmp_path / "demo"))])
    assert [(each.one.method, each.one.value, each.other.method) for each in compared] == [
        ("cot", value, "no_cot") for value in (1, 2, 4, 8)
    ]
    last = compared[-1].to_dict()
    assert (last["accuracy"], last["against"]["accuracy"], last["n"]) == (0.8, 0.25, 60)
    assert last["difference"] == pytest.approx(0.55)
    assert last["varied"] == {"data.samples": 8}
    assert last["seeds"] == last["against"]["seeds"] == [1, 2, 3]
    assert len(last["by_seed"]) == 3
    assert last["ci95"][0] > 0
    assert last["p"] < 1e-4
    text = Outline(page_of(tmp_path / "demo")).text
    assert f"80.0 % 25.0 % +55.0{gain(last['ci95'][0])} to {gain(last['ci95'][1])} < 0.001" in text


def test_comparisons_are_by_problem_not_by_line(tmp_path: Path):
    run = make_run(tmp_path / "demo", methods=("cot", "no_cot"))
    right = [prediction(i, i < 40) for i in range(60)]
    write_lines(run / "cot" / "predictions.jsonl", right)
    write_lines(run / "no_cot" / "predictions.jsonl", [*reversed(right[:30]), prediction(99, True)])
    (each,) = compare([read_run(run)])
    assert (each.n, each.result.difference, each.result.p) == (30, 0, 1)
    twice = [prediction(0, True), prediction(0, False)]  # one question twice is two problems, in their order
    for method, lines in (("cot", twice), ("no_cot", twice[:1])):
        write_lines(run / method / "predictions.jsonl", lines)
    (each,) = compare([read_run(run)])
    assert (each.n, each.accuracies) == (1, (1, 1))
    write_lines(run / "no_cot" / "predictions.jsonl", [prediction(77, True)])
    with pytest.raises(TacitError, match=r"demo/cot and .*demo/no_cot have no problem in common"):
        compare([read_run(run)])
    assert "Differences" not in Outline(page_of(run)).text


def test_the_reference_may_be_another(tmp_path: Path):
    sweep_run = read_run(make_sweep(tmp_path / "sweep"))
    other = read_run(make_run(tmp_path / "other", methods=("stepwise",)))
    compared = compare([sweep_run], against="cot")
    assert [(each.one.method, each.other.value) for each in compared] == [("no_cot", value) for value in (1, 2, 4, 8)]
    compared = compare([other, sweep_run])
    assert [(each.one.run.name, each.other.run.name) for each in compared] == [
        ("other", "sweep"),
        *[("sweep", "sweep")] * 4,
    ]
    assert compared[0].by_seed == [], "they have one seed in common"
    both = [read_run(make_run(tmp_path / name, methods=("cot", "no_cot"))) for name in ("a", "b")]
    compared = compare(both, against=f"{tmp_path}/b/no_cot")
    assert [(each.one.path, each.other.run.name) for each in compared] == [
        *[(f"{tmp_path}/a/{method}", "b") for method in ("cot", "no_cot")],
        (f"{tmp_path}/b/cot", "b"),
    ]
    with pytest.raises(TacitError, match=r"no method 'zero_shot' to compare with \(there are: cot, no_cot\)"):
        compare([sweep_run], against="zero_shot")
    with pytest.raises(TacitError, match="no method 'no_cot' to compare with"):
        compare([other])


def test_ticks_are_round_and_within():
    assert Axis(0, 1, 200, 0).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert Axis(0, 23, 170, 50).ticks() == [0, 10, 20]
    assert Axis(0.01, 10, 0, 900, log=True).ticks() == pytest.approx([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10])
    for high in (1, 7, 23, 6200, 1e6, 3e-5):
        ticks = Axis(0, high, 46, 944).ticks()
        assert 4 <= len(ticks) <= 12
        assert ticks[0] == 0
        assert ticks[-1] <= high * 1.001


LINES = [
    Line("one", "one, seed 1", 0, Curves(loss=[(0, 2.0)], exact_match=[(0, 0.5)], removed=[(0, 0.0)])),
    Line(EVIL, EVIL, 1, Curves(loss=[(5, 0.0), (9, 0.001)], removed=[(0, 1.0), (9, 3.0)], stages=[9], total=3)),
    Line("empty", "empty", 5, Curves()),
]
POINTS = [Point("one", "one", 0, 0.1, 1.0, 0.9, 1.0), Point(EVIL * 5, EVIL, 1, 80.0, 0.0), Point("c", "c", 9, 81, 0.0)]


@pytest.mark.parametrize("width", [380, 960])
def test_figures_are_whole_and_labelled(width: int):
    figures = [progress_figure(LINES, width), loss_figure(LINES, width), tradeoff_figure(POINTS, width, "batch 1")]
    for svg in figures:
        root = ET.fromstring(svg)
        assert root.get("role") == "img"
        assert root.findtext("title") == root.get("aria-label")
        _, _, right, bottom = map(float, root.get("viewBox", "").split())
        for text in root.iter("text"):
            assert 0 <= float(text.get("x", "")) <= right
            assert 0 <= float(text.get("y", "")) <= bottom
        assert "nan" not in svg
    assert progress_figure([], width) == loss_figure(LINES[2:], width) == tradeoff_figure([], width, "") == ""


def test_labels_do_not_cover_each_other():
    points = [Point(f"method {i}", f"method {i}", i, 0.1 + i / 1000, 0.97) for i in range(4)]
    texts = [t for t in ET.fromstring(tradeoff_figure(points, 960, "")).iter("text") if "method" in (t.text or "")]
    places = [(float(t.get("x", "")), float(t.get("y", ""))) for t in texts]
    assert len(places) == 4
    assert all(
        abs(ay - by) > 14 or abs(ax - bx) > 55 for ax, ay in places for bx, by in places if (ax, ay) != (bx, by)
    )


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
def test_a_real_browser_shows_the_page(tmp_path: Path):
    run = make_run(tmp_path / "demo")
    image = "<img src=x onerror=alert(1)>"
    evil = [prediction(0, True, shown_question=image, text=EVIL), dialogue(1, True, (image,), question=image)]
    write_lines(run / "stepwise" / "predictions.jsonl", evil)
    page_of(run)
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom",
    ]  # fmt: skip
    shown = subprocess.run(
        [str(BROWSER), *flags, (tmp_path / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert 'table class="results"' in shown.stdout
    assert shown.stdout.count("<svg") == 6
    assert shown.stdout.count("&lt;img src=x onerror=alert(1)&gt;") == 3
    assert "<img" not in shown.stdout
    assert "<script" not in shown.stdout
    assert shown.stdout.rstrip().endswith("</html>")
    assert ":CONSOLE" not in shown.stderr, shown.stderr
