"""Figures as SVG text, drawn by hand: pure functions from data to a string, which a page with `STYLE` shows as it is.

Each takes the width in pixels for which its text is sized, so that a page can hold one drawing for desks and one for
telephones; each returns "" where there is nothing to draw. Colours follow the reader's light or dark mode.

Usage: `svg = loss_figure([Line("No CoT", "No CoT, seed 1", 1, curves)], width=960)`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tacit.report.reading import Curves, Points

# Okabe and Ito's colours, which colour-blind readers can tell apart; darkened for white paper, lightened for night.
LIGHT = ("#0068a8", "#c84e00", "#00805e", "#a9457f", "#8a6a00", "#4d6a8f")
DARK = ("#5db8f0", "#ff9255", "#3cc79c", "#e99bc6", "#e6bd3a", "#a9bcd6")


def _palette(colors: Sequence[str]) -> str:
    return ":root{" + "".join(f"--series{i}:{color};" for i, color in enumerate(colors)) + "}"


STYLE = (
    _palette(LIGHT)
    + "@media (prefers-color-scheme:dark){"
    + _palette(DARK)
    + "}"
    + "".join(f".series{i}{{--series:var(--series{i})}}" for i in range(len(LIGHT)))
    + """
.figure{display:block;width:100%;height:auto;font-family:inherit;overflow:visible}
.figure text{fill:currentColor;font-size:13px}
.figure .tick{font-size:12px;opacity:.66;font-variant-numeric:tabular-nums}
.figure .note{font-size:12px;opacity:.66}
.figure .panel{font-weight:600}
.figure .grid{stroke:currentColor;stroke-opacity:.11}
.figure .axis{stroke:currentColor;stroke-opacity:.4}
.figure .line{fill:none;stroke:var(--series);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.figure .dashed{stroke-dasharray:6 5}
.figure .faint{stroke-width:1;stroke-opacity:.3}
.figure .stage{stroke:var(--series);stroke-opacity:.16}
.figure .restart{stroke:var(--series);stroke-width:1.5;stroke-dasharray:2 4}
.figure .mark{fill:var(--series)}
.figure .bar{stroke:var(--series);stroke-width:1.5;fill:none}
"""
)


@dataclass(frozen=True)
class Line:
    """One training, as the figures over optimizer steps show it.

    Args:
        group (`str`): Its name in the legend; lines of one group share a colour.
        label (`str`): Its own name, shown on hovering.
        color (`int`): Index into the palette.
        curves (`Curves`): What its metrics tell.
    """

    group: str
    label: str
    color: int
    curves: Curves


@dataclass(frozen=True)
class Point:
    """One evaluated model: accuracy (with its interval) against milliseconds per answer."""

    group: str
    label: str
    color: int
    milliseconds: float
    accuracy: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Sweep:
    """One method over the values of a varied key.

    Args:
        group, color: As of a `Line`.
        points (`Mapping`): By value, (accuracy, low, high) of each seed; under None alone where the key does not reach
            the method.
    """

    group: str
    color: int
    points: Mapping[Any, Sequence[tuple[float, float | None, float | None]]]


def thin(points: Points, limit: int = 600) -> Points:
    """At most `limit` points that look the same: the ends, and the lowest and highest of each of many stretches."""
    if len(points) <= limit:
        return list(points)
    size = math.ceil(len(points) / ((limit - 2) // 2))
    kept = {points[0], points[-1]}
    for begin in range(0, len(points), size):
        stretch = points[begin : begin + size]
        kept |= {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
    return sorted(kept)


def smooth(points: Points, count: int = 150) -> Points:
    """The mean of each of `count` stretches; the points themselves where there are few."""
    if len(points) <= count:
        return list(points)
    size = math.ceil(len(points) / count)
    stretches = [points[begin : begin + size] for begin in range(0, len(points), size)]
    return [(sum(x for x, _ in s) / len(s), sum(y for _, y in s) / len(s)) for s in stretches]


# --- the figures -----------------------------------------------------------------------------------------------------

MARGIN = 46  # left of the panels, for tick labels


def progress_figure(lines: Sequence[Line], width: int) -> str:
    """Two panels over the same optimizer steps: validation exact match, and how much of the chain is removed.

    A faint vertical line through both marks where a stage begins, a dotted one where a collapsed training went back to
    an earlier stage. Nothing is drawn where no training was validated and none removed more than it began with.
    """
    lines = [line for line in lines if line.curves.exact_match or line.curves.removed]
    if not any(line.curves.exact_match or len({amount for _, amount in line.curves.removed}) > 1 for line in lines):
        return ""
    legend, top = _legend(lines, width)
    x = _step_axis(lines, width)
    total = max(max(line.curves.total, *(amount for _, amount in line.curves.removed), 1) for line in lines)
    upper = Axis(0, 1, top + 220, top + 30)
    lower = Axis(0, total, upper.start + 170, upper.start + 50)
    stages, curves = [], []
    for line in _long_first(lines):
        seen = set()
        for step in line.curves.stages:
            if (at := _px(x(step))) not in seen:
                stages.append(_tag("line", x1=at, x2=at, y1=upper.end, y2=lower.start, class_=_series("stage", line)))
                seen.add(at)
        for step, text in line.curves.restarts:
            at, hover = _px(x(step)), _tag("title", _escape(f"{line.label}, step {_plain(step)}: {text}"))
            ends = {"x1": at, "x2": at, "y1": upper.end, "y2": lower.start}
            curves.append(_tag("line", hover, **ends, class_=_series("restart", line)))
        exact_match = line.curves.exact_match
        curves.append(_curve(line, thin(exact_match), x, upper, marks=len(exact_match) <= 80))
        curves.append(_staircase(line, thin(line.curves.removed), x, lower))
    frames = _frame(x, upper, "Validation exact match", _percent) + _frame(
        x, lower, f"Removed from the chain (all of it: {_plain(total)})", _plain, "optimizer steps"
    )
    title = "Validation exact match, and how much of the chain is removed, over optimizer steps"
    return _svg(title, width, lower.start + 44, [legend, *stages, frames, *curves])


def loss_figure(lines: Sequence[Line], width: int) -> str:
    """Training loss over optimizer steps: the mean of short stretches, and faintly what it is the mean of.

    Logarithmic where the losses span a factor of ten or more.
    """
    lines = [line for line in lines if line.curves.loss]
    if not lines:
        return ""
    legend, top = _legend(lines, width)
    lines = _long_first(lines)
    drawn = [(thin(line.curves.loss), smooth(line.curves.loss)) for line in lines]
    values = [y for pair in drawn for points in pair for _, y in points]
    positive = [y for y in values if y > 0]
    floor = min(positive, default=0.0)
    log = bool(positive) and max(positive) >= 10 * floor
    if log:
        y = Axis(floor / 1.15, max(positive) * 1.15, top + 250, top + 30, log=True)
    else:
        y = Axis(min(0.0, *values), max(*values, 1e-9) * 1.05, top + 250, top + 30)
    x = _step_axis(lines, width)
    curves = []
    for line, pair in zip(lines, drawn, strict=True):
        raw, mean = ([(step, max(value, floor) if log else value) for step, value in points] for points in pair)
        if mean != raw:
            curves.append(_curve(line, raw, x, y, faint=True))
        curves.append(_curve(line, mean, x, y, marks=len(mean) == 1))
    frame = _frame(x, y, f"Training loss{' (logarithmic)' if log else ''}", _plain, "optimizer steps")
    return _svg("Training loss over optimizer steps", width, y.start + 44, [legend, frame, *curves])


def tradeoff_figure(points: Sequence[Point], width: int, batch: str) -> str:
    """Accuracy, with bars for its interval, against milliseconds per answer; logarithmic where these span ten.

    Args:
        batch (`str`): How the speed was measured, for the axis: "batch size 256".
    """
    if not points:
        return ""
    times = [point.milliseconds for point in points]
    y = Axis(0, 1, 250, 30)
    if max(times) >= 10 * min(times):
        x = Axis(min(times) / 2, max(times) * 2, MARGIN, width - 16, log=True)
    else:
        x = Axis(0, max(times) * 1.25, MARGIN, width - 16)
    marks, boxes = [], []
    for point in points:
        at, height = x(point.milliseconds), y(point.accuracy)
        hover = _tag("title", _escape(f"{point.label}: {point.accuracy:.2%}, {_plain(point.milliseconds)} ms"))
        bar = ""
        if point.low is not None and point.high is not None:
            bar = _bar(at, y(point.low), y(point.high))
            boxes.append((at - 5, y(point.high), at + 5, y(point.low)))
        marks.append(_tag("g", bar + _marker(point.color, at, height) + hover, class_=f"series{point.color}"))
        boxes.append((at - 7, height - 7, at + 7, height + 7))
    labels = []
    for group in dict.fromkeys(point.group for point in points):
        members = [point for point in points if point.group == group]
        places = [
            (x(point.milliseconds), y(point.accuracy)) for point in sorted(members, key=lambda p: p.milliseconds)
        ]
        anchors = [places[len(places) // 2], places[0], places[-1]]
        labels.append(_place(_shorten(group), anchors, boxes, (MARGIN, 24, width, 250)))
    frame = _frame(x, y, "Accuracy", _percent, f"milliseconds per answer, {batch}")
    return _svg("Accuracy against milliseconds per answer", width, 294, [frame, *marks, *labels])


def sweep_figure(sweeps: Sequence[Sweep], width: int, key: str) -> str:
    """Accuracy against the values of a varied key: the mean over seeds as a line, each seed as a dot.

    Bars are the interval of a single seed. A method that the key does not reach is a dashed line at its mean. The axis
    is logarithmic for powers of two, and for numbers that span ten; texts stand in rows below each other.

    Args:
        key (`str`): For the axis.
    """
    values = list(dict.fromkeys(value for sweep in sweeps for value in sweep.points if value is not None))
    if not values:
        return ""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return _rows_figure(sweeps, values, width, key)
    legend, top = _legend(sweeps, width)
    inner = _value_axis(values, width)
    places = {value: inner(value) for value in values}
    x = Axis(0, 1, MARGIN, width - 16)
    y = Axis(0, _highest(sweeps), top + 250, top + 30)
    reached = [sweep for sweep in sweeps if None not in sweep.points]
    parts = [_level(sweep, x, y) for sweep in sweeps if None in sweep.points]
    for index, sweep in enumerate(reached):
        shift = 7 * (index - (len(reached) - 1) / 2)  # bars of two methods at one value do not cover each other
        parts.append(_swept(sweep, {value: place + shift for value, place in places.items()}, y))
    ticks = [(place, _plain(value)) for value, place in places.items()]
    frame = _frame(x, y, "Accuracy", _percent, f"{key}{' (logarithmic)' if inner.log else ''}", ticks)
    return _svg(f"Accuracy against {key}", width, y.start + 44, [legend, frame, *parts])


def _rows_figure(sweeps: Sequence[Sweep], values: Sequence[Any], width: int, key: str) -> str:
    """A row for each text: its name, below it each seed as a dot and the mean as a stroke."""
    legend, top = _legend(sweeps, width)
    reached = [sweep for sweep in sweeps if None not in sweep.points]
    row = 30 + 14 * len(reached)
    x, y = Axis(0, _highest(sweeps), 4, width - 24), Axis(0, 1, top + 20 + row * len(values), top + 20)
    parts = [_text(f"Accuracy by {key}", 0, top + 6, "panel")]
    for value in x.ticks():
        at = _px(x(value))
        parts.append(_tag("line", x1=at, x2=at, y1=_px(y.end), y2=_px(y.start), class_="grid"))
        parts.append(_text(_percent(value), x(value), y.start + 18, "tick", "start" if value == 0 else "middle"))
    for sweep in sweeps:
        if None in sweep.points:
            at = _px(x(_mean(sweep.points[None])))
            body = _tag("title", _escape(sweep.group)) + _tag(
                "path", d=f"M{at},{_px(y.end)}V{_px(y.start)}", class_="line dashed"
            )
            parts.append(_tag("g", body, class_=f"series{sweep.color}"))
    for index, value in enumerate(values):
        begin = y.end + row * index
        parts.append(_text(_shorten(str(value)), 4, begin + 18))
        for order, sweep in enumerate(reached):
            seeds, at = sweep.points.get(value, ()), begin + 32 + 14 * order
            body = "".join(_tag("circle", cx=_px(x(share)), cy=_px(at), r=4, class_="mark") for share, _, _ in seeds)
            if seeds:
                mean = _px(x(_mean(seeds)))
                body += _tag("path", d=f"M{mean},{_px(at - 8)}V{_px(at + 8)}", class_="line")
            shares = ", ".join(f"{share:.1%}" for share, _, _ in seeds)
            hover = _tag("title", _escape(f"{sweep.group}, {value}: {shares}"))
            parts.append(_tag("g", hover + body, class_=f"series{sweep.color}"))
    return _svg(f"Accuracy by {key}", width, y.start + 30, [legend, *parts])


def _highest(sweeps: Sequence[Sweep]) -> float:
    """Where an axis of accuracy ends."""
    shares = [share for sweep in sweeps for seeds in sweep.points.values() for seed in seeds for share in seed]
    return min(1.0, 1.15 * max((share for share in shares if share), default=1.0))


# --- axes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """Maps values from `low` to `high` onto pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values, as many as there is room for."""
        room = max(2, int(abs(self.end - self.start) / (90 if self.end > self.start else 40)))
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for factors in ((1, 2, 5), (1, 3), (1,)):
                ticks = [f * 10.0**d for d in decades for f in factors if self.low <= f * 10.0**d <= self.high]
                if len(ticks) <= room + 1:
                    return ticks
            return ticks[:: math.ceil(len(ticks) / room)]
        rough = (self.high - self.low) / room
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]


def _last_step(line: Line) -> float:
    known = (line.curves.loss, line.curves.exact_match, line.curves.removed)
    return max((points[-1][0] for points in known if points), default=0.0)


def _long_first(lines: Sequence[Line]) -> list[Line]:
    """The order of drawing: a short training may be the beginning of a long one, which would cover it."""
    return sorted(lines, key=_last_step, reverse=True)


def _step_axis(lines: Iterable[Line], width: int) -> Axis:
    return Axis(0, max(1.0, *map(_last_step, lines)), MARGIN, width - 16)


def _value_axis(values: Sequence[float], width: int) -> Axis:
    """An axis on which these values, and the bars around them, lie inside the panel."""
    low, high = min(values), max(values)
    log = 0 < low < high and (high >= 10 * low or all(math.log2(value) % 1 == 0 for value in values))
    return Axis(low, high if high > low else low + 1, MARGIN + 30, width - 46, log)


def _frame(
    x: Axis,
    y: Axis,
    title: str,
    y_text: Callable[[float], str],
    x_title: str = "",
    x_ticks: Sequence[tuple[float, str]] = (),
) -> str:
    """Title, grid and tick labels of a panel; without `x_title` it shares the axis of the panel below.

    `x_ticks` are (pixel, label) pairs in the place of round values; a label that has no room is left out.
    """
    parts = [_text(title, x.start - MARGIN, y.end - 14, "panel")]
    for value in y.ticks():
        at = _px(y(value))
        parts.append(_tag("line", x1=_px(x.start), x2=_px(x.end), y1=at, y2=at, class_="grid"))
        parts.append(_text(y_text(value), x.start - 8, y(value) + 4, "tick", "end"))
    bottom = _px(y.start)
    parts.append(_tag("line", x1=_px(x.start), x2=_px(x.end), y1=bottom, y2=bottom, class_="axis"))
    taken = -math.inf
    for place, text in x_ticks or [(x(value), _plain(value)) for value in x.ticks() if x_title]:
        parts.append(_tag("line", x1=_px(place), x2=_px(place), y1=bottom, y2=_px(y.start + 4), class_="axis"))
        if place - _text_width(text) / 2 > taken:
            parts.append(_text(text, place, y.start + 18, "tick", "middle"))
            taken = place + _text_width(text) / 2
    if x_title:
        parts.append(_text(x_title, x.end, y.start + 37, "note", "end"))
    return "".join(parts)


def _legend(lines: Sequence[Line | Sweep], width: int) -> tuple[str, float]:
    """One entry per group, wrapped; and the height it takes."""
    parts, at, row = [], 0.0, 14.0
    for group, color in {line.group: line.color for line in lines}.items():
        text = _shorten(group)
        needed = 26 + _text_width(text) + 22
        if at and at + needed > width:
            at, row = 0.0, row + 22
        swatch = _tag("line", x1=_px(at), x2=_px(at + 18), y1=_px(row - 4), y2=_px(row - 4), class_="line")
        parts.append(_tag("g", swatch + _text(text, at + 26, row), class_=f"series{color}"))
        at += needed
    return "".join(parts), row + 14


# --- marks -----------------------------------------------------------------------------------------------------------


def _curve(line: Line, points: Points, x: Axis, y: Axis, faint: bool = False, marks: bool = False) -> str:
    if not points:
        return ""
    where = [(_px(x(step)), _px(y(value))) for step, value in points]
    body = _tag("title", _escape(line.label))
    body += _tag("path", d="M" + "L".join(f"{a},{b}" for a, b in where), class_="line faint" if faint else "line")
    if marks:
        body += "".join(_tag("circle", cx=a, cy=b, r=2.5, class_="mark") for a, b in where)
    return _tag("g", body, class_=f"series{line.color}")


def _staircase(line: Line, points: Points, x: Axis, y: Axis) -> str:
    if not points:
        return ""
    (step, value), *others = points
    path = f"M{_px(x(step))},{_px(y(value))}" + "".join(f"H{_px(x(a))}V{_px(y(b))}" for a, b in others)
    return _tag("path", _tag("title", _escape(line.label)), d=path, class_=_series("line", line))


def _level(sweep: Sweep, x: Axis, y: Axis) -> str:
    """A dashed line at the mean of a method that the varied key does not reach."""
    at = _px(y(_mean(sweep.points[None])))
    body = _tag("path", d=f"M{_px(x.start)},{at}H{_px(x.end)}", class_="line dashed")
    return _tag("g", _tag("title", _escape(sweep.group)) + body, class_=f"series{sweep.color}")


def _swept(sweep: Sweep, places: Mapping[Any, float], y: Axis) -> str:
    """A line through the means of a method at each value, and a dot for each seed."""
    means = (f"{_px(places[value])},{_px(y(_mean(seeds)))}" for value, seeds in sweep.points.items())
    body = _tag("title", _escape(sweep.group)) + _tag("path", d="M" + "L".join(means), class_="line")
    for value, seeds in sweep.points.items():
        for share, low, high in seeds:
            body += _tag("circle", cx=_px(places[value]), cy=_px(y(share)), r=3, class_="mark")
            if len(seeds) == 1 and low is not None and high is not None:
                body += _bar(places[value], y(low), y(high))
    return _tag("g", body, class_=f"series{sweep.color}")


def _mean(seeds: Sequence[tuple[float, float | None, float | None]]) -> float:
    return sum(share for share, _, _ in seeds) / len(seeds)


def _bar(at: float, low: float, high: float) -> str:
    a, b = _px(at - 4), _px(at + 4)
    return _tag("path", d=f"M{a},{_px(low)}H{b}M{a},{_px(high)}H{b}M{_px(at)},{_px(low)}V{_px(high)}", class_="bar")


def _marker(color: int, x: float, y: float) -> str:
    """A shape per colour, so that no reader depends on colour."""
    shapes = (
        _tag("circle", cx=_px(x), cy=_px(y), r=6, class_="mark"),
        _tag("rect", x=_px(x - 5.5), y=_px(y - 5.5), width=11, height=11, class_="mark"),
        _tag("path", d=f"M{_px(x)},{_px(y - 7)}l6.5,12h-13z", class_="mark"),
        _tag("path", d=f"M{_px(x)},{_px(y - 7.5)}l7.5,7.5l-7.5,7.5l-7.5,-7.5z", class_="mark"),
        _tag("path", d=f"M{_px(x)},{_px(y + 7)}l6.5,-12h-13z", class_="mark"),
        _tag("path", d=f"M{_px(x - 2)},{_px(y - 6.5)}h4v4.5h4.5v4h-4.5v4.5h-4v-4.5h-4.5v-4h4.5z", class_="mark"),
    )
    return shapes[color % len(shapes)]


Box = tuple[float, float, float, float]


def _place(text: str, anchors: Sequence[tuple[float, float]], taken: list[Box], bounds: Box) -> str:
    """A label beside one of its points, where it covers nothing; what it covers is added to `taken`."""
    wide = _text_width(text)
    spots = []
    for x, y in anchors:
        spots += [(x + 13, y + 4.5), (x - 13 - wide, y + 4.5), (x - wide / 2, y - 15), (x - wide / 2, y + 24)]
        spots += [(x + 13, y + 4.5 + shift) for shift in (18, -18, 36, -36)]
        spots += [(x - 13 - wide, y + 4.5 + shift) for shift in (18, -18, 36, -36)]

    def box(spot: tuple[float, float]) -> Box:
        return spot[0], spot[1] - 11, spot[0] + wide, spot[1] + 4

    def inside(spot: tuple[float, float]) -> bool:
        a, b, c, d = box(spot)
        return bounds[0] <= a and bounds[1] <= b and c <= bounds[2] and d <= bounds[3]

    def is_free(spot: tuple[float, float]) -> bool:
        a, b, c, d = box(spot)
        return not any(a < r and c > p and b < s and d > q for p, q, r, s in taken)

    possible = [spot for spot in spots if inside(spot)] or spots
    chosen = next(filter(is_free, possible), possible[0])
    taken.append(box(chosen))
    return _text(text, *chosen)


# --- SVG text --------------------------------------------------------------------------------------------------------


def _svg(title: str, width: float, height: float, parts: Iterable[str]) -> str:
    return _tag(
        "svg",
        _tag("title", _escape(title)) + "".join(parts),
        viewBox=f"0 0 {_px(width)} {_px(height)}",
        role="img",
        aria_label=title,
        class_="figure",
    )


def _tag(name: str, content: str = "", **attributes: object) -> str:
    """An element; `content` is SVG already, attribute values are escaped. `class_` and `aria_label` lose their `_`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(str(value))}"' for key, value in attributes.items()
    )
    return f"<{name}{given}>{content}</{name}>"


def _text(text: str, x: float, y: float, class_: str = "", anchor: str = "start") -> str:
    return _tag("text", _escape(text), x=_px(x), y=_px(y), class_=class_, text_anchor=anchor)


def _series(class_: str, line: Line) -> str:
    return f"{class_} series{line.color}"


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def _shorten(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _text_width(text: str) -> float:
    """About what 13-pixel letters of a system font take; wide scripts take twice as much."""
    return sum(7.0 if ord(letter) < 0x1100 else 13.0 for letter in text)


def _px(value: float) -> str:
    text = f"{value:.1f}"
    return text.removesuffix(".0")


def _plain(value: float) -> str:
    if value >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g}\u202f%"
