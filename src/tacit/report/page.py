"""The report: one self-contained HTML page about one or more runs, for a reader who has a minute.

Nothing on the page is loaded from elsewhere and nothing on it runs; the same run folders give the same bytes. What
people and models wrote is shown as text, whatever it looks like.

Usage: `write_report([Path("runs/quickstart")], Path("report.html"))`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tacit.errors import TacitError
from tacit.report.comparison import REFERENCE, Comparison, compare
from tacit.report.dialogues import FALLBACKS, Measures, wrong_places
from tacit.report.drawing import LIGHT, STYLE
from tacit.report.emulation import Emulation, emulation_figure
from tacit.report.figures import (
    Line,
    Point,
    Sweep,
    loss_figure,
    marks_stages,
    progress_figure,
    removing,
    rows_figure,
    sweep_figure,
    tradeoff_figure,
)
from tacit.report.finding import SUBJECTS, finding
from tacit.report.reading import Cell, Row, Run, read_run
from tacit.report.thoughts import Thoughts
from tacit.report.words import amount, chance, decimals, display_name, duration, gain, percent, ratio, setting, speed
from tacit.trace import write_lines

OWN_COLORS = ("stepwise", "no_cot", "cot", "socratic", "implicit_kd")  # always the same; others take the rest in turn
ASKED_OTHERWISE = ("oracle", "teacher_questions", "gold_plan", "calculator")  # the students of `socratic` once more
STROKES = {
    "decomposer": "dashed",
    "planner": "dotted",
    "mind_reader": "dashed",
    "emulator": "dotted",
}  # of students; any other line is drawn through
WIDTHS = {"wide": 960, "narrow": 380}  # in pixels: one drawing of each figure for desks, one for telephones


def write_report(runs: list[Path], destination: Path) -> None:
    """Writes one HTML page about these run folders, a section each.

    Args:
        runs (`list[Path]`): Run folders. Each needs a `summary.json`; whatever else is missing is left out.
        destination (`Path`): The file to write; an existing one is replaced.

    Raises:
        TacitError: No run is given, a folder has no readable `summary.json`, or the page cannot be written.
    """
    if not runs:
        raise TacitError("no run folder given; name at least one")
    sections = [_section(read_run(Path(folder))) for folder in runs]
    html = _environment().get_template("page.html.jinja").render(sections=sections, style=Markup(STYLE))
    # Half of a surrogate pair is legal in JSON, but in no file.
    write_lines([html.encode("utf-8", "replace").decode()], destination)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tacit.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        gain=gain,
        chance=chance,
        amount=amount,
        decimals=decimals,
        speed=speed,
        ratio=ratio,
        duration=duration,
        setting=setting,
    )
    return environment


# --- a run's section -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fallback:
    """What went wrong in dialogues, what was done then, and by method in how many of how many."""

    note: str
    done: str
    counts: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Section:
    """What the template shows of one run; figures are SVG by width, empty without data."""

    run: Run
    finding: list[str]
    groups: list[tuple[str, list[Row]]]
    colors: dict[str, int]
    names: dict[str, str]
    batch: str
    grader: str
    varied: str
    comparisons: list[list[Comparison]]
    sweep: dict[str, Markup]
    dialogues: list[tuple[str, list[Row]]]
    wrong: dict[str, Markup]
    fallbacks: list[Fallback]
    thoughts: list[tuple[str, list[Row]]]
    emulation: dict[str, Markup]
    progress: dict[str, Markup]
    removes: bool
    stages: bool
    restarts: bool
    story: list[tuple[str, str]]
    loss: dict[str, Markup]
    tradeoff: dict[str, Markup]
    samples: list[Cell]


def _section(run: Run) -> Section:
    methods = list(dict.fromkeys([row.method for row in run.rows] + [cell.method for cell in run.cells]))
    colors = _colors(methods)
    lines = _lines(run.cells, colors)
    sizes = {row.batch_size for row in run.rows if row.examples_per_second is not None}
    batch = f"batch size {amount(sizes.pop())}" if len(sizes) == 1 and None not in sizes else ""
    marks = _points(run.rows, colors)
    varied = next((key for row in run.rows for key in row.varied), "")
    sweeps = _sweeps(run.rows, colors)
    talked = [row for row in run.rows if row.dialogues != Measures()]
    thought = [row for row in run.rows if row.thoughts != Thoughts()]
    axis_batch = batch or "batch sizes as in the table"
    return Section(
        run=run,
        finding=finding(run.rows),
        groups=_by_method(run.rows),
        colors=colors,
        names={method: display_name(method) for method in methods},
        batch=batch,
        grader=", ".join(dict.fromkeys(row.grader for row in run.rows if row.grader)),
        varied=varied,
        comparisons=_comparisons(run, methods),
        sweep={name: Markup(sweep_figure(sweeps, width, varied)) for name, width in WIDTHS.items()},
        dialogues=_by_method(talked),
        wrong=_wrong(talked, colors),
        fallbacks=_fallbacks(talked),
        thoughts=_by_method(thought),
        emulation=_emulation(thought, colors),
        progress={name: Markup(progress_figure(lines, width)) for name, width in WIDTHS.items()},
        removes=any(map(removing, lines)),
        stages=marks_stages(lines),
        restarts=any(line.curves.restarts for line in lines),
        story=_story(lines),
        loss={name: Markup(loss_figure(lines, width)) for name, width in WIDTHS.items()},
        tradeoff={name: Markup(tradeoff_figure(marks, width, axis_batch)) for name, width in WIDTHS.items()},
        samples=_sampled(run.cells),
    )


def _by_method(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    return [(method, list(members)) for method, members in groupby(rows, key=lambda row: row.method)]


def _colors(methods: list[str]) -> dict[str, int]:
    others = sorted((method for method in methods if method not in OWN_COLORS), key=ASKED_OTHERWISE.__contains__)
    taken = {OWN_COLORS.index(method) for method in methods if method in OWN_COLORS}
    free = [index for index in (3, 4, 5, 0, 1, 2) if index not in taken]
    return {
        method: OWN_COLORS.index(method) if method in OWN_COLORS else free[others.index(method) % len(free)]
        for method in methods
    }


def _comparisons(run: Run, methods: list[str]) -> list[list[Comparison]]:
    """With No CoT; Socratic CoT is meant to beat explicit CoT as well, and ICoT-KD is Stepwise's rival."""
    rivals = {"socratic": "cot", "implicit_kd": "stepwise"}
    compared = []
    for reference in (REFERENCE, *(rivals[method] for method in methods if method in rivals)):
        try:
            compared.append(compare([run], reference))
        except TacitError:  # there is nothing to compare with
            continue
    return [comparisons for comparisons in compared if comparisons]


def _wrong(rows: list[Row], colors: dict[str, int]) -> dict[str, Markup]:
    """Where dialogues left the data first: shares of each method's, a dot for each of its rows."""
    known = [row for row in rows if row.dialogues.first_wrong]
    places = wrong_places([row.dialogues for row in known])
    if not places:
        return {}
    sweeps = [
        Sweep(
            display_name(method),
            colors[method],
            {place: [(row.dialogues.went_wrong_at(place), None, None) for row in members] for place in places},
        )
        for method, members in _by_method(known)
    ]
    title = "Share of dialogues that left the data first at"
    return {name: Markup(rows_figure(sweeps, places, width, title)) for name, width in WIDTHS.items()}


def _fallbacks(rows: list[Row]) -> list[Fallback]:
    measures = {method: [row.dialogues for row in members] for method, members in _by_method(rows)}
    notes = {note for each in measures.values() for one in each for note in one.notes}
    order = [*FALLBACKS, *sorted(notes - set(FALLBACKS))]
    return [
        Fallback(
            note,
            FALLBACKS.get(note, ""),
            {
                method: (sum(one.notes.get(note, 0) for one in each), sum(one.n or 0 for one in each))
                for method, each in measures.items()
            },
        )
        for note in order
        if note in notes
    ]


def _emulation(rows: list[Row], colors: dict[str, int]) -> dict[str, Markup]:
    """How far the emulators are from their teachers, by layer: a panel for each method and value of the varied key."""
    panels: dict[tuple[str, str], list[tuple[float | None, ...]]] = {}
    for row in rows:
        panels.setdefault((row.method, setting(row.varied)), []).append(row.thoughts.emulation_error)
    emulations = [
        Emulation(", ".join(filter(None, [display_name(method), varied])), colors[method], seeds)
        for (method, varied), seeds in panels.items()
    ]
    return {name: Markup(emulation_figure(emulations, width)) for name, width in WIDTHS.items()}


def _label(one: Cell | Row) -> str:
    seed = "" if one.seed is None else f"seed {one.seed}"
    return ", ".join(filter(None, [display_name(one.method), setting(one.varied), seed]))


def _groups(ones: Sequence[Cell | Row]) -> dict[str, str]:
    """What the legends call each method: with the number of its trainings, where there are several."""
    groups = {}
    for method in dict.fromkeys(one.method for one in ones):
        members = [one for one in ones if one.method == method]
        counted = "trainings" if any(one.varied for one in members) else "seeds"
        groups[method] = display_name(method) + (f" ({len(members)} {counted})" if len(members) > 1 else "")
    return groups


def _sweeps(rows: list[Row], colors: dict[str, int]) -> list[Sweep]:
    """The methods with what each value of the varied key gave."""
    sweeps = []
    for method in dict.fromkeys(row.method for row in rows):
        points: dict[Any, list[tuple[float, float | None, float | None]]] = {}
        for row in rows:
            if row.method == method and row.accuracy is not None:
                points.setdefault(row.value, []).append((row.accuracy, row.low, row.high))
        if points:
            sweeps.append(Sweep(display_name(method), colors[method], points))
    return sweeps


def _lines(cells: list[Cell], colors: dict[str, int]) -> list[Line]:
    trained = [cell for cell in cells if cell.trainings]
    groups, looks = _groups(trained), _looks(trained, colors)
    lines = []
    for cell in trained:
        plain = groups[cell.method], colors[cell.method], ""
        group, color, stroke = looks.get(setting(cell.varied), plain)
        lines += [
            Line(_of(group, name), _of(_label(cell), name), color, curves, STROKES.get(name, stroke))
            for name, curves in cell.trainings.items()
        ]
    return lines


def _looks(trained: list[Cell], colors: dict[str, int]) -> dict[str, tuple[str, int, str]]:
    """Where one method alone varies, the name in the legend, the colour and the stroke of each of its values."""
    varied = {cell.method for cell in trained if cell.varied}
    if len(varied) != 1:
        return {}
    (method,) = varied
    others = {color for other, color in colors.items() if other != method}
    free = [colors[method], *(color for color in range(len(LIGHT)) if color not in {*others, colors[method]})]
    prefix = f"{display_name(method)}, " if others else ""
    seeds = Counter(setting(cell.varied) for cell in trained if cell.varied)
    return {
        value: (
            prefix + (f"{value} ({count} seeds)" if count > 1 else value),
            free[place % len(free)],
            ("", "dashed", "dotted")[place // len(free) % 3],
        )
        for place, (value, count) in enumerate(seeds.items())
    }


def _of(cell: str, student: str) -> str:
    """A cell's name, or that of one of its students."""
    return f"{cell}: {student.replace('_', ' ')}" if student else cell


def _story(lines: list[Line]) -> list[tuple[str, str]]:
    """Which training did not go smoothly at which step, and what happened, in words."""
    story = []
    for line in lines:
        story += [(f"{line.label}, step {amount(step)}", text) for step, text in line.curves.restarts]
        if line.curves.outcome:
            story.append((f"{line.label}, at the end", line.curves.outcome))
    return story


def _points(rows: list[Row], colors: dict[str, int]) -> list[Point]:
    groups = _groups(rows)
    points = []
    for row in rows:
        if row.accuracy is not None and row.milliseconds is not None:
            group, color = groups[row.method], colors[row.method]
            points.append(Point(group, _label(row), color, row.milliseconds, row.accuracy, row.low, row.high))
    return points


def _sampled(cells: list[Cell]) -> list[Cell]:
    """The first cell of each method that has predictions, what the run is about before others."""
    first: dict[str, Cell] = {}
    for cell in cells:
        if cell.predictions.right or cell.predictions.wrong:
            first.setdefault(cell.method, cell)
    return sorted(first.values(), key=lambda cell: cell.method not in SUBJECTS)
