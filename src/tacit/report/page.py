"""The report: one self-contained HTML page about one or more runs, for a reader who has a minute.

Nothing on the page is loaded from elsewhere and nothing on it runs; the same run folders give the same bytes. What
people and models wrote is shown as text, whatever it looks like.

Usage: `write_report([Path("runs/quickstart")], Path("report.html"))`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tacit.errors import TacitError
from tacit.report.comparison import Comparison, compare
from tacit.report.figures import (
    LIGHT,
    STYLE,
    Line,
    Point,
    Sweep,
    loss_figure,
    progress_figure,
    sweep_figure,
    tradeoff_figure,
)
from tacit.report.reading import Cell, Curves, Row, Run, is_section, read_run
from tacit.trace import write_lines

NAMES = {
    "stepwise": "Stepwise Internalization",
    "no_cot": "No CoT",
    "cot": "Explicit CoT",
    "zero_shot": "Zero-shot",
    "zero_shot_cot": "Zero-shot CoT",
    "few_shot_cot": "Few-shot CoT",
    "random": "Random guessing",
}
OWN_COLORS = ("stepwise", "no_cot", "cot")  # always the same; others take the rest in turn
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
        speed=speed,
        ratio=ratio,
        duration=duration,
        setting=setting,
    )
    return environment


# --- numbers for people ----------------------------------------------------------------------------------------------

DASH = "–"


def percent(share: float | None, digits: int = 1) -> str:
    """`0.974` as `97.4 %`; never rounded to 0 or 100 % unless it is."""
    if share is None:
        return DASH
    text = f"{100 * share:.{digits}f}"
    if digits < 4 and 0 < share < 1 and float(text) in (0, 100):
        return percent(share, digits + 1)
    return f"{text}\u202f%"


def gain(difference: float) -> str:
    """A difference of shares in percentage points: `+12.5`, `−0.3`, `0.0`."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\u2212")


def chance(p: float) -> str:
    """A p-value: `0.34`, `0.034`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def amount(value: float | None) -> str:
    """A count, or the mean of counts: `2,000`, `46.5`."""
    if value is None:
        return DASH
    if 0 < value < 0.05:
        return "< 0.1"
    return f"{value:,.0f}" if round(value, 1) == round(value) else f"{value:,.1f}"


def speed(value: float | None) -> str:
    """Three digits that matter: `12,345`, `81.4`, `0.126`."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value: float | None) -> str:
    """`8.14×`, `1.00×`, `0.12×`."""
    if value is None:
        return DASH
    return f"{value:,.{0 if value >= 100 else 2 if value >= 0.1 else 4}f}×"


def duration(seconds: float | None) -> str:
    """`42 s`, `5 min 50 s`, `1 h 12 min`."""
    if seconds is None:
        return DASH
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def display_name(method: str) -> str:
    """What readers call a method; a name that tacit does not know stands for itself."""
    return NAMES.get(method, method)


def setting(varied: Mapping[str, Any]) -> str:
    """`samples 4` of `{"data.samples": 4}`, a label alone of a section, nothing of nothing."""
    return "".join(
        str(value) if is_section(key) else f"{key.rpartition('.')[2]} {value}" for key, value in varied.items()
    )


# --- the finding -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """A method's rows taken together: means over seeds; None where no row has the value."""

    method: str
    seeds: int
    accuracy: float
    lowest: float
    highest: float
    n: float | None
    reasoning_tokens: float | None
    milliseconds: float | None
    batch_size: float | None


def _outcomes(rows: list[Row]) -> dict[str, Outcome]:
    outcomes = {}
    for method in dict.fromkeys(row.method for row in rows):
        known = [row for row in rows if row.method == method and row.accuracy is not None]
        accuracies = [row.accuracy for row in known if row.accuracy is not None]
        if known:
            outcomes[method] = Outcome(
                method=method,
                seeds=len(known),
                accuracy=sum(accuracies) / len(accuracies),
                lowest=min(accuracies),
                highest=max(accuracies),
                n=_common([row.n for row in known]),
                reasoning_tokens=_mean([row.reasoning_tokens for row in known]),
                milliseconds=_mean([_milliseconds(row) for row in known]),
                batch_size=_common([row.batch_size for row in known]),
            )
    return outcomes


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _common(values: Sequence[float | None]) -> float | None:
    return values[0] if len(set(values)) == 1 else None


def _milliseconds(row: Row) -> float | None:
    return 1000 / row.examples_per_second if row.examples_per_second and row.examples_per_second > 0 else None


def finding(rows: list[Row]) -> list[str]:
    """What the run found: the sentence that matters, then those that put it in its place."""
    if sentence := _sweep_finding(rows):
        return [sentence]
    outcomes = _outcomes(rows)
    if not outcomes:
        return ["No model of this run has been evaluated yet."]
    hero = outcomes.get("stepwise") or max(outcomes.values(), key=lambda outcome: outcome.accuracy)
    plain, chain = (outcomes.get(method) for method in ("no_cot", "cot"))
    first = f"{display_name(hero.method)} answers {_share(hero)} of {_problems(hero)} right{_writing(hero)}"
    if plain and plain is not hero:
        other = "without internalization the same model" if hero.method == "stepwise" else display_name(plain.method)
        first += f"; {other} reaches {percent(plain.accuracy)}"
    sentences = [f"{first}."]
    if chain and chain is not hero:
        tokens = f", {amount(chain.reasoning_tokens)} reasoning tokens" if chain.reasoning_tokens else ""
        sentence = (
            f"Writing the chain of thought out ({display_name('cot')}{tokens}) reaches {percent(chain.accuracy)}"
        )
        same_batch = chain.batch_size is not None and chain.batch_size == hero.batch_size
        if chain.milliseconds and hero.milliseconds and same_batch:
            sentence += f" and takes {chain.milliseconds / hero.milliseconds:.1f} times as long per answer"
        sentences.append(f"{sentence}.")
    return sentences


def _sweep_finding(rows: list[Row]) -> str:
    """How accuracy goes with the varied key, of the method that it changes most; "" where nothing is varied.

    Numbers are told from the first to the last, texts from the worst to the best.
    """
    trends = []
    for method in dict.fromkeys(row.method for row in rows if row.varied):
        values = list(dict.fromkeys(row.value for row in rows if row.method == method))
        of_value = [_outcomes([row for row in rows if (row.method, row.value) == (method, value)]) for value in values]
        known = [(value, found[method]) for value, found in zip(values, of_value, strict=True) if found]
        if not all(isinstance(value, int | float) for value in values):
            known.sort(key=lambda one: one[1].accuracy)
        if len(known) > 1:
            trends.append((known[0], known[-1]))
    if not trends:
        return ""
    (first, before), (last, after) = max(trends, key=lambda ends: abs(ends[1][1].accuracy - ends[0][1].accuracy))
    key = next(key for row in rows for key in row.varied)
    sentence = f"{display_name(after.method)} goes from {percent(before.accuracy)}"
    if is_section(key):
        sentence += f" ({first}) to {percent(after.accuracy)} ({last}) of {_problems(after)} right"
    else:
        sentence += f" to {percent(after.accuracy)} of {_problems(after)} right as {key} goes from {first} to {last}"
    plain = _outcomes([row for row in rows if row.method == "no_cot" and not row.varied]).get("no_cot")
    return f"{sentence}; {display_name('no_cot')} reaches {percent(plain.accuracy)}." if plain else f"{sentence}."


def _share(outcome: Outcome) -> str:
    low, high = percent(outcome.lowest), percent(outcome.highest)
    if outcome.seeds == 1:
        return percent(outcome.accuracy)
    return f"{percent(outcome.accuracy)} ({low} to {high} over {outcome.seeds} seeds)"


def _problems(outcome: Outcome) -> str:
    return "held-out problems" if outcome.n is None else f"{amount(outcome.n)} held-out problems"


def _writing(outcome: Outcome) -> str:
    if outcome.reasoning_tokens is None:
        return ""
    if outcome.reasoning_tokens == 0:
        return " without writing a reasoning token"
    return f", writing {amount(outcome.reasoning_tokens)} reasoning tokens per answer"


# --- a run's section -------------------------------------------------------------------------------------------------


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
    comparisons: list[Comparison]
    sweep: dict[str, Markup]
    progress: dict[str, Markup]
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
    axis_batch = batch or "batch sizes as in the table"
    return Section(
        run=run,
        finding=finding(run.rows),
        groups=[(method, list(rows)) for method, rows in groupby(run.rows, key=lambda row: row.method)],
        colors=colors,
        names={method: display_name(method) for method in methods},
        batch=batch,
        grader=", ".join(dict.fromkeys(row.grader for row in run.rows if row.grader)),
        varied=varied,
        comparisons=_comparisons(run),
        sweep={name: Markup(sweep_figure(sweeps, width, varied)) for name, width in WIDTHS.items()},
        progress={name: Markup(progress_figure(lines, width)) for name, width in WIDTHS.items()},
        story=_story(run.cells),
        loss={name: Markup(loss_figure(lines, width)) for name, width in WIDTHS.items()},
        tradeoff={name: Markup(tradeoff_figure(marks, width, axis_batch)) for name, width in WIDTHS.items()},
        samples=_sampled(run.cells),
    )


def _colors(methods: list[str]) -> dict[str, int]:
    others = [method for method in methods if method not in OWN_COLORS]
    free = range(len(OWN_COLORS), len(LIGHT))
    return {
        method: OWN_COLORS.index(method) if method in OWN_COLORS else free[others.index(method) % len(free)]
        for method in methods
    }


def _comparisons(run: Run) -> list[Comparison]:
    try:
        return compare([run])
    except TacitError:  # there is nothing to compare with
        return []


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
    cells = [cell for cell in cells if cell.curves != Curves()]
    groups = _groups(cells)
    return [Line(groups[cell.method], _label(cell), colors[cell.method], cell.curves) for cell in cells]


def _story(cells: list[Cell]) -> list[tuple[str, str]]:
    """Which training did not go smoothly at which step, and what happened, in words."""
    story = []
    for cell in cells:
        story += [(f"{_label(cell)}, step {amount(step)}", text) for step, text in cell.curves.restarts]
        if cell.curves.outcome:
            story.append((f"{_label(cell)}, at the end", cell.curves.outcome))
    return story


def _points(rows: list[Row], colors: dict[str, int]) -> list[Point]:
    groups = _groups(rows)
    points = []
    for row in rows:
        milliseconds = _milliseconds(row)
        if row.accuracy is not None and milliseconds is not None:
            group, color = groups[row.method], colors[row.method]
            points.append(Point(group, _label(row), color, milliseconds, row.accuracy, row.low, row.high))
    return points


def _sampled(cells: list[Cell]) -> list[Cell]:
    """The first cell of each method that has predictions."""
    first: dict[str, Cell] = {}
    for cell in cells:
        if cell.predictions.right or cell.predictions.wrong:
            first.setdefault(cell.method, cell)
    return list(first.values())
