"""Figures as SVG text: pure functions from data to a string, which a page with `drawing.STYLE` shows as it is.

Each takes the width in pixels for which its text is sized, so that a page can hold one drawing for desks and one for
telephones; each returns "" where there is nothing to draw.

Usage: `figure = loss_figure([Line("No CoT", "No CoT, seed 1", 1, curves)], width=960)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tacit.report.drawing import Axis, escape, interval, label, marker, place_label, px, shorten, svg, tag, text_width
from tacit.report.reading import Curves, Points


@dataclass(frozen=True)
class Line:
    """One training, as the figures over optimizer steps show it.

    Args:
        group (`str`): Its name in the legend; lines of one group share a colour.
        label (`str`): Its own name, shown on hovering.
        color (`int`): Index into the palette.
        curves (`Curves`): What its metrics tell.
        stroke (`str`): "dashed", "dotted", or drawn through: students of one method share its colour, and so do values
            of a varied key where there are more of them than colours.
    """

    group: str
    label: str
    color: int
    curves: Curves
    stroke: str = ""


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

    The lower one is left out where no training removes more than it began with. Of a few trainings, a faint vertical
    line marks where a stage begins; a dotted one, where a collapsed training went back to an earlier stage.
    """
    removes = any(map(removing, lines))
    lines = [line for line in lines if line.curves.exact_match or (removes and line.curves.removed)]
    if not lines:
        return ""
    legend, top = _legend(lines, width)
    x = _step_axis(lines, width)
    upper = Axis(0, 1, top + 220, top + 30)
    total = max(max(line.curves.total, *(amount for _, amount in line.curves.removed), 1) for line in lines)
    lower = Axis(0, total, upper.start + 170, upper.start + 50) if removes else upper
    stages, curves, marked = [], [], marks_stages(lines)
    for line in _long_first(lines):
        seen = set()
        for step in line.curves.stages if marked else ():
            if (at := px(x(step))) not in seen:
                stages.append(tag("line", x1=at, x2=at, y1=upper.end, y2=lower.start, class_=_series("stage", line)))
                seen.add(at)
        for step, text in line.curves.restarts:
            at, hover = px(x(step)), tag("title", escape(f"{line.label}, step {_plain(step)}: {text}"))
            ends = {"x1": at, "x2": at, "y1": upper.end, "y2": lower.start}
            curves.append(tag("line", hover, **ends, class_=_series("restart", line)))
        exact_match = line.curves.exact_match
        curves.append(_curve(line, thin(exact_match), x, upper, marks=len(exact_match) <= 80))
        if removes:
            curves.append(_staircase(line, thin(line.curves.removed), x, lower))
    if removes:
        title = "Validation exact match, and how much of the chain is removed, over optimizer steps"
        frames = panel_frame(x, upper, "Validation exact match", _percent)
        frames += panel_frame(
            x, lower, f"Removed from the chain (all of it: {_plain(total)})", _plain, "optimizer steps"
        )
    else:
        title = "Validation exact match over optimizer steps"
        frames = panel_frame(x, upper, "Validation exact match", _percent, "optimizer steps")
    return svg(title, width, lower.start + 44, [legend, *stages, frames, *curves])


def removing(line: Line) -> bool:
    """Whether a training removes more of the chain than it began with."""
    return len({amount for _, amount in line.curves.removed}) > 1


def marks_stages(lines: Sequence[Line]) -> bool:
    """Whether so few trainings remove anything that marks where their stages begin can be told from each other."""
    return sum(map(removing, lines)) <= 6


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
    frame = panel_frame(x, y, f"Training loss{' (logarithmic)' if log else ''}", _plain, "optimizer steps")
    return svg("Training loss over optimizer steps", width, y.start + 44, [legend, frame, *curves])


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
        hover = tag("title", escape(f"{point.label}: {point.accuracy:.2%}, {_plain(point.milliseconds)} ms"))
        bar = ""
        if point.low is not None and point.high is not None:
            bar = interval(at, y(point.low), y(point.high))
            boxes.append((at - 5, y(point.high), at + 5, y(point.low)))
        marks.append(tag("g", bar + marker(point.color, at, height) + hover, class_=f"series{point.color}"))
        boxes.append((at - 7, height - 7, at + 7, height + 7))
    labels = []
    for group in dict.fromkeys(point.group for point in points):
        members = [point for point in points if point.group == group]
        places = [
            (x(point.milliseconds), y(point.accuracy)) for point in sorted(members, key=lambda p: p.milliseconds)
        ]
        anchors = [places[len(places) // 2], places[0], places[-1]]
        labels.append(place_label(shorten(group), anchors, boxes, (MARGIN, 24, width, 250)))
    frame = panel_frame(x, y, "Accuracy", _percent, f"milliseconds per answer, {batch}")
    return svg("Accuracy against milliseconds per answer", width, 294, [frame, *marks, *labels])


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
        return rows_figure(sweeps, values, width, f"Accuracy by {key}")
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
    frame = panel_frame(x, y, "Accuracy", _percent, f"{key}{' (logarithmic)' if inner.log else ''}", ticks)
    return svg(f"Accuracy against {key}", width, y.start + 44, [legend, frame, *parts])


def rows_figure(sweeps: Sequence[Sweep], values: Sequence[Any], width: int, title: str) -> str:
    """A row for each value: its name, below it each seed of each method as a dot, and the mean as a stroke."""
    legend, top = _legend(sweeps, width)
    reached = [sweep for sweep in sweeps if None not in sweep.points]
    row = 30 + 14 * len(reached)
    x, y = Axis(0, _highest(sweeps), 4, width - 24), Axis(0, 1, top + 20 + row * len(values), top + 20)
    parts = [label(title, 0, top + 6, "panel")]
    for value in x.ticks():
        at = px(x(value))
        parts.append(tag("line", x1=at, x2=at, y1=px(y.end), y2=px(y.start), class_="grid"))
        parts.append(label(_percent(value), x(value), y.start + 18, "tick", "start" if value == 0 else "middle"))
    for sweep in sweeps:
        if None in sweep.points:
            at = px(x(_mean(sweep.points[None])))
            body = tag("title", escape(sweep.group)) + tag(
                "path", d=f"M{at},{px(y.end)}V{px(y.start)}", class_="line dashed"
            )
            parts.append(tag("g", body, class_=f"series{sweep.color}"))
    for index, value in enumerate(values):
        begin = y.end + row * index
        parts.append(label(shorten(str(value)), 4, begin + 18))
        for order, sweep in enumerate(reached):
            seeds, at = sweep.points.get(value, ()), begin + 32 + 14 * order
            body = "".join(tag("circle", cx=px(x(share)), cy=px(at), r=4, class_="mark") for share, _, _ in seeds)
            if seeds:
                mean = px(x(_mean(seeds)))
                body += tag("path", d=f"M{mean},{px(at - 8)}V{px(at + 8)}", class_="line")
            shares = ", ".join(f"{share:.1%}" for share, _, _ in seeds)
            hover = tag("title", escape(f"{sweep.group}, {value}: {shares}"))
            parts.append(tag("g", hover + body, class_=f"series{sweep.color}"))
    return svg(title, width, y.start + 30, [legend, *parts])


def _highest(sweeps: Sequence[Sweep]) -> float:
    """Where an axis of accuracy ends."""
    shares = [share for sweep in sweeps for seeds in sweep.points.values() for seed in seeds for share in seed]
    return min(1.0, 1.15 * max((share for share in shares if share), default=1.0))


# --- axes ------------------------------------------------------------------------------------------------------------


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


def panel_frame(
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
    parts = [label(title, x.start - MARGIN, y.end - 14, "panel")]
    for value in y.ticks():
        at = px(y(value))
        parts.append(tag("line", x1=px(x.start), x2=px(x.end), y1=at, y2=at, class_="grid"))
        parts.append(label(y_text(value), x.start - 8, y(value) + 4, "tick", "end"))
    bottom = px(y.start)
    parts.append(tag("line", x1=px(x.start), x2=px(x.end), y1=bottom, y2=bottom, class_="axis"))
    taken = -math.inf
    for place, text in x_ticks or [(x(value), _plain(value)) for value in x.ticks() if x_title]:
        parts.append(tag("line", x1=px(place), x2=px(place), y1=bottom, y2=px(y.start + 4), class_="axis"))
        if place - text_width(text) / 2 > taken:
            parts.append(label(text, place, y.start + 18, "tick", "middle"))
            taken = place + text_width(text) / 2
    if x_title:
        parts.append(label(x_title, x.end, y.start + 37, "note", "end"))
    return "".join(parts)


def _legend(lines: Sequence[Line | Sweep], width: int) -> tuple[str, float]:
    """One entry per group, wrapped; and the height it takes."""
    parts, at, row = [], 0.0, 14.0
    for line in {line.group: line for line in lines}.values():
        text = shorten(line.group)
        needed = 26 + text_width(text) + 22
        if at and at + needed > width:
            at, row = 0.0, row + 22
        class_ = _stroke(line) if isinstance(line, Line) else "line"
        swatch = tag("line", x1=px(at), x2=px(at + 18), y1=px(row - 4), y2=px(row - 4), class_=class_)
        parts.append(tag("g", swatch + label(text, at + 26, row), class_=f"series{line.color}"))
        at += needed
    return "".join(parts), row + 14


# --- marks -----------------------------------------------------------------------------------------------------------


def _curve(line: Line, points: Points, x: Axis, y: Axis, faint: bool = False, marks: bool = False) -> str:
    if not points:
        return ""
    where = [(px(x(step)), px(y(value))) for step, value in points]
    body = tag("title", escape(line.label))
    class_ = f"{_stroke(line)} faint" if faint else _stroke(line)
    body += tag("path", d="M" + "L".join(f"{a},{b}" for a, b in where), class_=class_)
    if marks:
        body += "".join(tag("circle", cx=a, cy=b, r=2.5, class_="mark") for a, b in where)
    return tag("g", body, class_=f"series{line.color}")


def _staircase(line: Line, points: Points, x: Axis, y: Axis) -> str:
    if not points:
        return ""
    (step, value), *others = points
    path = f"M{px(x(step))},{px(y(value))}" + "".join(f"H{px(x(a))}V{px(y(b))}" for a, b in others)
    return tag("path", tag("title", escape(line.label)), d=path, class_=_series(_stroke(line), line))


def _level(sweep: Sweep, x: Axis, y: Axis) -> str:
    """A dashed line at the mean of a method that the varied key does not reach."""
    at = px(y(_mean(sweep.points[None])))
    body = tag("path", d=f"M{px(x.start)},{at}H{px(x.end)}", class_="line dashed")
    return tag("g", tag("title", escape(sweep.group)) + body, class_=f"series{sweep.color}")


def _swept(sweep: Sweep, places: Mapping[Any, float], y: Axis) -> str:
    """A line through the means of a method at each value, and a dot for each seed."""
    means = (f"{px(places[value])},{px(y(_mean(seeds)))}" for value, seeds in sweep.points.items())
    body = tag("title", escape(sweep.group)) + tag("path", d="M" + "L".join(means), class_="line")
    for value, seeds in sweep.points.items():
        for share, low, high in seeds:
            body += tag("circle", cx=px(places[value]), cy=px(y(share)), r=3, class_="mark")
            if len(seeds) == 1 and low is not None and high is not None:
                body += interval(places[value], y(low), y(high))
    return tag("g", body, class_=f"series{sweep.color}")


def _mean(seeds: Sequence[tuple[float, float | None, float | None]]) -> float:
    return sum(share for share, _, _ in seeds) / len(seeds)


def _series(class_: str, line: Line) -> str:
    return f"{class_} series{line.color}"


def _stroke(line: Line) -> str:
    return f"line {line.stroke}".rstrip()


def _plain(value: float) -> str:
    if value >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g}\u202f%"
