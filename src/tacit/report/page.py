"""The report: one self-contained HTML page about one or more runs, for a reader who has a minute.

Nothing on the page is loaded from elsewhere and nothing on it runs; the same run folders give the same bytes. What
people and models wrote is shown as text, whatever it looks like.

Usage: `write_report([Path("runs/quickstart")], Path("report.html"))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tacit.errors import TacitError
from tacit.report.figures import LIGHT, STYLE, Line, Point, loss_figure, progress_figure, tradeoff_figure
from tacit.report.reading import Cell, Row, Run, read_run
from tacit.trace import write_lines

NAMES = {"stepwise": "Stepwise Internalization", "no_cot": "No CoT", "cot": "Explicit CoT"}
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
    environment.filters.update(percent=percent, amount=amount, speed=speed, ratio=ratio, duration=duration)
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
    progress: dict[str, Markup]
    loss: dict[str, Markup]
    tradeoff: dict[str, Markup]
    samples: list[Cell]


def _section(run: Run) -> Section:
    methods = list(dict.fromkeys([row.method for row in run.rows] + [cell.method for cell in run.cells]))
    colors = _colors(methods)
    lines = _lines(run.cells, colors)
    sizes = {row.batch_size for row in run.rows if row.examples_per_second is not None}
    batch = f"batch size {amount(sizes.pop())}" if len(sizes) == 1 and None not in sizes else ""
    points = _points(run.rows, colors)
    axis_batch = batch or "batch sizes as in the table"
    return Section(
        run=run,
        finding=finding(run.rows),
        groups=[(method, list(rows)) for method, rows in groupby(run.rows, key=lambda row: row.method)],
        colors=colors,
        names={method: display_name(method) for method in methods},
        batch=batch,
        progress={name: Markup(progress_figure(lines, width)) for name, width in WIDTHS.items()},
        loss={name: Markup(loss_figure(lines, width)) for name, width in WIDTHS.items()},
        tradeoff={name: Markup(tradeoff_figure(points, width, axis_batch)) for name, width in WIDTHS.items()},
        samples=_sampled(run.cells),
    )


def _colors(methods: list[str]) -> dict[str, int]:
    """The known methods always have the same colour; others take the rest in turn."""
    known = list(NAMES)
    others = [method for method in methods if method not in NAMES]
    free = range(len(known), len(LIGHT))
    return {
        method: known.index(method) if method in NAMES else free[others.index(method) % len(free)]
        for method in methods
    }


def _label(method: str, seed: int | None) -> str:
    return display_name(method) if seed is None else f"{display_name(method)}, seed {seed}"


def _lines(cells: list[Cell], colors: dict[str, int]) -> list[Line]:
    return [
        Line(
            group=display_name(cell.method),
            label=_label(cell.method, cell.seed),
            color=colors[cell.method],
            loss=cell.curves.loss,
            exact_match=cell.curves.exact_match,
            removed=cell.curves.removed,
            stages=cell.curves.stages,
            total=cell.curves.total,
        )
        for cell in cells
    ]


def _points(rows: list[Row], colors: dict[str, int]) -> list[Point]:
    points = []
    for row in rows:
        milliseconds = _milliseconds(row)
        if row.accuracy is not None and milliseconds is not None:
            label = _label(row.method, row.seed)
            group = display_name(row.method)
            points.append(Point(group, label, colors[row.method], milliseconds, row.accuracy, row.low, row.high))
    return points


def _sampled(cells: list[Cell]) -> list[Cell]:
    """The first cell of each method that has predictions."""
    first: dict[str, Cell] = {}
    for cell in cells:
        if cell.predictions.right or cell.predictions.wrong:
            first.setdefault(cell.method, cell)
    return list(first.values())
