"""The tables of docs/data.md, grading.md, recipes.md, socratic.md name all that there is; their examples are true."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from tacit.evaluation.prompting import BASELINES
from tacit.evaluation.socratic import summarise_dialogues
from tacit.formats import FORMATS, WRITABLE
from tacit.grading import GRADERS, NUMBER, NUMBER_AS_TEXT, TEXT, WORD, YES_NO, letters
from tacit.recipe import METHODS, OTHERWISE, Socratic
from tacit.rendering import CHAT, TEMPLATES, Template
from tacit.socratic import pipeline
from tacit.socratic.rows import GUIDANCE, Wording, guide, read_turns
from tacit.tasks import CUSTOM, TASKS, DataSet
from tacit.trace import Trace

ROOT = Path(__file__).parents[1]


def rows(page: str, begin: str, end: str = "") -> list[list[str]]:
    """The cells of the table rows behind a text of a page, without their code marks; the heading is left out."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(begin)[2].split(end or "\n\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[1:]]


def test_every_data_set_is_there() -> None:
    published = [task for task in TASKS.values() if isinstance(task, DataSet)]
    for task, row in zip(published, rows("data.md", "<!-- data sets: begin -->", "<!-- data sets"), strict=True):
        name, sizes, answer, files, hub, licence = row
        assert (name, sizes) == (f"`{task.name}`", "{:,} / {:,}".format(*task.sizes))
        assert (answer, hub) == (task.format.name, f"`{task.hub}`" if task.hub else "none")
        assert licence == task.licence.split("published problems: ")[-1]
        for file in task.files[0]:
            assert f"`{file}`" in files


def test_every_generator_is_there() -> None:
    generated = [task for task in TASKS.values() if task.options]
    for task, (name, options, _) in zip(generated, rows("data.md", "\n## Generators"), strict=True):
        shown = [f"`--{option} {str(task.options[option].default).lower()}`" for option in task.options]
        assert (name, options) == (f"`{task.name}`", ", ".join(shown))


def test_every_format_is_there() -> None:
    found = rows("data.md", "\n## Other formats")
    assert [(name, written) for name, *_, written in found] == [
        (f"`{name}`", "yes" if name in WRITABLE else "no") for name in FORMATS
    ]


def test_every_template_is_there() -> None:
    found = rows("data.md", "\n## How a trace becomes")
    *named, (chat, _, marker) = found
    assert [tuple(cell.strip("`") for cell in row) for row in named] == [
        (name, template.prompt.replace("\n", "\\n"), template.marker) for name, template in TEMPLATES.items()
    ]
    assert (chat, marker) == (f"`{CHAT}`", f"`{Template().marker}`")


def test_the_examples_of_grading_are_true() -> None:
    formats = {format.name: format for format in (NUMBER, YES_NO, WORD, TEXT, letters("E"))}
    formats["number as text"] = NUMBER_AS_TEXT
    examples = rows("grading.md", "<!-- examples: begin -->", "<!-- examples")
    assert len(examples) > 10
    for text, gold, name, *verdicts in examples:
        format, gold = formats[name], gold.strip("`")
        for grader, verdict in zip(GRADERS, verdicts, strict=True):
            right = format.same(format.extract(text.strip("`"), grader), gold, grader)
            assert verdict == ("right" if right else "wrong"), f"{text}: {grader}"


# --- recipes.md and socratic.md --------------------------------------------------------------------------------------


def pears() -> Trace:
    """The worked example of docs/socratic.md."""
    text = (ROOT / "docs" / "socratic.md").read_text(encoding="utf-8")
    return Trace.from_dict(json.loads(text.split("<!-- trace: begin -->\n```json\n")[1].split("```")[0]))


def test_every_method_is_there() -> None:
    found = [name.strip("`") for name, *_ in rows("recipes.md", "\n## Methods")]
    assert [name for name in found if name in (*METHODS, *OTHERWISE, *BASELINES)] == [*METHODS, *OTHERWISE, *BASELINES]
    socratic = " ".join(cell for cell, _ in rows("socratic.md", "\n## Train", "\n\n##"))
    others = ("stepwise", "implicit_kd")
    assert [name for name in METHODS if name not in others and f"`{name}`" not in socratic] == []
    assert [name for name in OTHERWISE if not re.search(f"`{name}[`:]", socratic)] == []


def test_every_setting_of_socratic_is_there() -> None:
    found = [row[:2] for row in rows("recipes.md", "<!-- socratic: begin -->", "<!-- socratic")]
    assert found == [[f"`{field.name}`", f"`{field.default}`"] for field in dataclasses.fields(Socratic)]


def test_the_rows_of_socratic_students_are_true() -> None:
    made = []
    for role, names, wording in (
        ("decomposer", ["decomposer"], Wording()),
        ("decomposer", ["decomposer, guided"], Wording("operators")),
        ("planner", ["planner"], Wording("operators")),
        ("solver", ["solver, step 1", "solver, step 2"], Wording()),
        ("solver", ["", "solver, step 2, `history: answers`"], Wording(history="answers")),
        ("unified", ["unified"], Wording()),
        ("cumulative", ["cumulative, step 1", "cumulative, step 2"], Wording()),
    ):
        for name, row in zip(names, wording.rows(role, pears()), strict=True):
            read = row.question.replace(pears().question, "P")
            made.append([name, f"`{read}`", f"`{Template().write_target(row)[0].strip()}`"])
    shown = rows("socratic.md", "<!-- rows: begin -->", "<!-- rows")
    for row, above in zip(shown[1:], shown, strict=False):
        row[2] = above[2] if row[2] == "the same" else row[2]
    assert shown == [row for row in made if row[0]]


def test_every_kind_of_guidance_is_there() -> None:
    found = [[name.strip("`"), plan.strip("`")] for name, plan in rows("socratic.md", "\n## A plan for")]
    assert found == [[name, guide(pears(), name)] for name in GUIDANCE]


def test_every_note_of_a_dialogue_is_there() -> None:
    words = {name: value for name, value in vars(pipeline).items() if name.isupper() and isinstance(value, str)}
    notes = [value for name, value in words.items() if name not in ("ASK", "TELL")]
    assert [note for note, *_ in rows("socratic.md", "<!-- notes: begin -->", "<!-- notes")] == notes


def test_every_measure_of_dialogues_is_there() -> None:
    said = pipeline.Dialogue(pears().question, asked=["How many?"], turns=read_turns(pears()))
    measures = {*summarise_dialogues([said], [pears()], CUSTOM), "gold_history"} - {"n", "gold"}
    named = " ".join(cell for _, cell, _ in rows("socratic.md", "\n## Evaluate"))
    assert {*re.findall(r"`([a-z_]+)`", named)} == measures


def test_the_results_of_the_word_problems_stand_in_a_record() -> None:
    record = ROOT / "records" / "word-problems"
    known = json.loads((record / "summary.json").read_text(encoding="utf-8"))["rows"]
    table = rows("socratic.md", "<!-- results: begin -->", "<!-- results: end -->")
    assert len(table) == len({row["method"] for row in known})
    for name, accuracy, tokens, _ in table:
        own = [row for row in known if f"`{row['method']}`" in name]
        assert accuracy == ", ".join(f"{row['accuracy']:.4f}" for row in own)
        assert tokens == f"{sum(row['generated_tokens'] for row in own) / len(own):.1f}"
        assert all(row["n"] >= 2000 for row in own)


def test_the_results_of_gsm8k_stand_in_a_record() -> None:
    record = ROOT / "records" / "socratic-gsm8k"
    known = json.loads((record / "summary.json").read_text(encoding="utf-8"))["rows"]
    table = rows("socratic.md", "<!-- gsm8k: begin -->", "<!-- gsm8k: end -->")
    assert [name for name, *_ in table] == [f"`{method}`" for method in dict.fromkeys(row["method"] for row in known)]
    for name, *accuracies in table:
        for model, accuracy in zip(("gpt2", "llama", "neox"), accuracies, strict=True):
            own = [row for row in known if f"`{row['method']}`" == name and row["varied"] == {"model": model}]
            assert accuracy == ", ".join(f"{row['accuracy']:.4f}" for row in own)
            assert [(row["seed"], row["n"]) for row in own] == [(0, 1319), (1, 1319), (2, 1319)]


@pytest.mark.parametrize(("name", "size"), [("implicit-kd", ""), ("implicit-kd-3x3", " 3x3")])
def test_the_results_of_icot_kd_stand_in_a_record(name: str, size: str) -> None:
    known = json.loads((ROOT / "records" / name / "summary.json").read_text(encoding="utf-8"))["rows"]
    assert all(row["n"] >= 2000 for row in known)
    table = rows("implicit-kd.md", f"<!-- results{size}: begin -->", f"<!-- results{size}: end -->")
    assert len(table) == len({row["method"] for row in known})
    for method, steps, accuracy, _ in table:
        own = [row for row in known if f"`{row['method']}`" in method]
        assert accuracy == ", ".join(f"{row['accuracy']:.4f}" for row in own)
        assert {steps.split(" ")[0]} == {f"{row['train_steps']:,}" for row in own}
    thoughts = [row["thoughts"] for row in known if row["method"] == "implicit_kd"]
    lines = rows("implicit-kd.md", f"<!-- thoughts{size}: begin -->", f"<!-- thoughts{size}: end -->")
    for index, line in enumerate(lines):
        parts = [thoughts[index][key]["share"] for key in ("teacher", "gold_states", "emulated_states")]
        assert line[1:4] == [f"{part:.4f}" for part in parts]


ABLATIONS = [("ablations-3x3", "multiplication-3x3", 24), ("ablations-4x2", "quickstart", 12)]


@pytest.mark.parametrize(("name", "full", "chain"), ABLATIONS)
def test_the_ablations_stand_in_a_record(name: str, full: str, chain: int) -> None:
    """Accuracy, the step at which all is removed, the evaluation from which 0.95 is kept; the full method first."""
    known = json.loads((ROOT / "records" / name / "summary.json").read_text(encoding="utf-8"))["rows"]
    whole = json.loads((ROOT / "records" / full / "summary.json").read_text(encoding="utf-8"))["rows"]
    whole = [row for row in whole if row["method"] == "stepwise" and row["seed"] < 3]
    table = rows("performance.md", f"<!-- {name}: begin -->", f"<!-- {name}: end -->")
    names = list(dict.fromkeys(row["varied"]["methods.stepwise"] for row in known))
    assert len(table) == len(names) + 1
    assert table[0][0] == f"**full method** (`records/{full}`)"
    for shown, removed, reached, accuracy in table:
        own_name = max((one for one in names if shown.startswith(one)), key=len, default="full method")
        own = [row for row in known if row["varied"]["methods.stepwise"] == own_name] or whole
        assert [(row["seed"], row["n"]) for row in own] == [(0, 2000), (1, 2000), (2, 2000)]
        assert accuracy == ", ".join(f"{row['accuracy']:.4f}" for row in own)
        place = full if own is whole else name
        cell = "stepwise" if own is whole else f"stepwise-{own_name.replace(' ', '_')}"
        found = [course(ROOT / "records" / place / f"{cell}-seed{seed}" / "metrics.jsonl", chain) for seed in range(3)]
        ends = ", ".join(f"{at:,}" if at else str(left) for at, left, _ in found)
        assert removed == (ends if all(at for at, *_ in found) else f"{ends} of {chain} at the end")
        assert reached == ", ".join(f"{step:,}" if step else "-" for *_, step in found)


@pytest.mark.parametrize(("name", "size"), [("partial-3x3", 2), ("larger-batches-3x3", 3)])
def test_other_ways_on_3x3_digits_stand_in_records(name: str, size: int) -> None:
    """Examples to wait for, larger batches, slower linear removal: each a record beside the full method's."""
    table = rows("performance.md", f"<!-- {name}: begin -->", f"<!-- {name}: end -->")
    assert len(table) == size
    for shown, *figures in table:
        folder = ROOT / "records" / shown.split("`records/")[1].split("`")[0]
        known = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["rows"]
        assert figures == three_seeds([row for row in known if row["method"] == "stepwise"], folder / "stepwise", 24)


def test_larger_batches_stand_in_a_record() -> None:
    folder = ROOT / "records" / "larger-batches-4x2"
    known = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["rows"]
    names = list(dict.fromkeys(row["varied"]["methods.stepwise"] for row in known))
    table = rows("performance.md", "<!-- larger-batches-4x2: begin -->", "<!-- larger-batches-4x2: end -->")
    assert len(table) == len(names)
    for shown, *figures in table:
        name = max((one for one in names if shown.startswith(one)), key=len)
        own = [row for row in known if row["varied"]["methods.stepwise"] == name]
        assert figures == three_seeds(own, folder / f"stepwise-{name.replace(' ', '_')}", 12)


def test_what_failed_with_larger_batches_stands_in_logs() -> None:
    names = [
        "batch-128-patience-450",
        "batch-128-rate-8e-3",
        "batch-128-patience-230",
        "batch-128-linear-98",
        "batch-128-patience-500-rest-at-once",
        "rest-at-once",
    ]
    table = rows("performance.md", "<!-- batch-128-3x3: begin -->", "<!-- batch-128-3x3: end -->")
    for name, (_, *figures) in zip(names, table[1:], strict=True):  # the first is a record's
        path = ROOT / "records" / "stepwise-search" / f"3x3-{name}-seed0.jsonl"
        about, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        begun = {line["removed"]: f"{line['step']:,}" for line in lines if line["event"] == "stage"}
        ends = begun.get(24, f"{max(begun)} of 24")
        accuracy = about["note"].split(" of 2,000")[0] + (", the rest written" if 24 not in begun else "")
        assert figures == [f"{about['train']['max_steps']:,}", begun[12], begun[17], ends, accuracy]
        assert lines[-1]["step"] == about["train"]["max_steps"]


def test_what_linear_removal_did_stands_in_logs() -> None:
    """Sooner decay on two seeds, and a slower rate: the figures below the table."""
    text = " ".join((ROOT / "docs" / "performance.md").read_text(encoding="utf-8").split())
    ours = [5200, 4500, 5700]
    search = ROOT / "records" / "stepwise-search"
    known = [course(ROOT / "records" / "linear-3x3" / f"stepwise-seed{s}" / "metrics.jsonl", 24)[2] for s in range(3)]
    assert f"need {sum(ours) / sum(known):.2f} times as many steps**, 5,133 against {sum(known) / 3:,.0f}" in text
    sooner = [search / f"3x3-linear-446-15000-steps-seed{seed}.jsonl" for seed in (1, 2)]
    ends = [course(path, 24)[2] for path in sooner]
    accuracies = [re.search(r'"note": "(0\.\d+) of 2,000', path.read_text(encoding="utf-8"))[1] for path in sooner]
    assert f"from {ends[0]:,} and {ends[1]:,} ({accuracies[0]}, {accuracies[1]};" in text
    assert f"need {sum(ours[1:]) / sum(ends):.2f} times as many for these two" in text
    lines = (search / "3x3-linear-586-seed0.jsonl").read_text(encoding="utf-8").splitlines()
    found = {line["step"]: line["exact_match"] for line in map(json.loads, lines[1:]) if line["event"] == "eval"}
    assert [f"{found[step]:.2f}" for step in (16000, 16200, 16400, 16600, 16800)] == [
        "0.95",
        "0.96",
        "0.95",
        "0.96",
        "0.94",
    ]


def three_seeds(own: list[dict], cell: Path, chain: int) -> list[str]:
    """Steps, when all is removed, the evaluation from which 0.95 is kept, accuracy: of seeds 0, 1, 2 of a record."""
    assert [(row["seed"], row["n"]) for row in own] == [(0, 2000), (1, 2000), (2, 2000)]
    (steps,) = {f"{row['train_steps']:,}" for row in own}
    found = [course(cell.with_name(f"{cell.name}-seed{seed}") / "metrics.jsonl", chain) for seed in range(3)]
    return [
        steps,
        ", ".join(f"{at:,}" if at else "-" for at, *_ in found),
        ", ".join(f"{step:,}" if step else "-" for *_, step in found),
        ", ".join(f"{row['accuracy']:.4f}" for row in own),
    ]


def course(metrics: Path, chain: int) -> tuple[int | None, int, int | None]:
    """When all of the chain is removed, how much is at the end, and the evaluation from which 0.95 is kept."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if "event" in line]  # a log begins with its settings
    ends = [line["step"] for line in lines if line["event"] == "stage" and line["removed"] == chain]
    kept = None
    for line in reversed([line for line in lines if line["event"] == "eval"]):
        if line["removed"] < chain or line["exact_match"] < 0.95:
            break
        kept = line["step"]
    return (ends[0] if ends else None), lines[-1]["removed"], kept
