"""A figure as SVG text: how far an emulator is from its teacher's states, layer by layer.

Usage: `emulation_figure([Emulation("ICoT-KD", 4, [(None, 0.31, 0.72)])], width=960)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tacit.report.drawing import Axis, escape, label, px, shorten, svg, tag, text_width
from tacit.report.figures import MARGIN, panel_frame

CUT = 2.0  # where the axis ends at the latest: an error far above 1 would press all others flat
MEAN = "predicting the mean"
CONSTANT = "constant"


@dataclass(frozen=True)
class Emulation:
    """A panel of the figure.

    Args:
        title (`str`): The method, and the value of a varied key.
        color (`int`): Index into the palette.
        seeds (`Sequence`): Of each training, the error of each layer; None for a layer whose state is constant.
    """

    title: str
    color: int
    seeds: Sequence[Sequence[float | None]]


def emulation_figure(emulations: Sequence[Emulation], width: int) -> str:
    """A panel below the other for each of them, with a bar for each layer: the mean, and each of several seeds a dot.

    A dashed line at 1 is what the mean of the states would be as a prediction. What rises above the axis is cut, with
    an arrow and its value. A constant layer has no error, and says so.
    """
    emulations = [one for one in emulations if any(one.seeds)]
    if not emulations:
        return ""
    known = [error for one in emulations for seed in one.seeds for error in seed if error is not None]
    high = min(max(1.15, 1.15 * max(known, default=1.0)), CUT)
    x, parts, top = Axis(0, 1, MARGIN, width - 16), [_legend()], 22.0
    for one in emulations:
        y = Axis(0, high, top + 170, top + 30)
        parts.append(_panel(one, x, y))
        top = y.start + 44
    return svg("Emulation error by layer", width, top, parts)


def _legend() -> str:
    swatch = tag("path", d="M0,10H22", class_="axis dashed")
    return swatch + label(f"1: no better than {MEAN}", 30, 14, "note")


def _panel(one: Emulation, x: Axis, y: Axis) -> str:
    count = max(map(len, one.seeds))
    slot = (x.end - x.start) / count
    places = [x.start + slot * (layer + 0.5) for layer in range(count)]
    ticks = [(place, str(layer)) for layer, place in enumerate(places)]
    parts = [panel_frame(x, y, shorten(one.title), "{:g}".format, "layer", ticks)]
    for layer, place in enumerate(places):
        found = [seed[layer] for seed in one.seeds if len(seed) > layer]
        errors = [error for error in found if error is not None]
        parts.append(_bar(one, layer, place, slot, errors, y) if errors else _constant(layer, place, y))
    at = px(y(1))
    parts.append(tag("path", d=f"M{px(x.start)},{at}H{px(x.end)}", class_="axis dashed"))
    return "".join(parts)


def _bar(one: Emulation, layer: int, place: float, slot: float, errors: Sequence[float], y: Axis) -> str:
    """The mean as a bar, each of several errors as a dot, and above them the mean as a number where it has room."""
    mean = sum(errors) / len(errors)
    is_cut = mean > y.high
    end, wide = y(min(mean, y.high)), 0.6 * slot
    told = ", ".join(map(_short, errors))
    parts = [tag("title", escape(f"{one.title}, layer {layer}: {told}"))]
    size = {"x": px(place - wide / 2), "y": px(end), "width": px(wide), "height": px(y.start - end)}
    parts.append(tag("rect", **size, class_="column"))
    dots = [error for error in errors if error <= y.high] if len(errors) > 1 else []
    parts += [tag("circle", cx=px(place), cy=px(y(error)), r=3, class_="mark") for error in dots]
    text = f"↑ {_short(mean)}" if is_cut else _short(mean)
    if text_width(text) > slot:
        text = "↑" if is_cut else ""
    above = end + 14 if is_cut else y(max([mean, *dots])) - 6
    return tag("g", "".join([*parts, label(text, place, above, "tick", "middle")]), class_=f"series{one.color}")


def _constant(layer: int, place: float, y: Axis) -> str:
    """A word from the bottom up."""
    turned = {"transform": f"rotate(-90 {px(place + 4)} {px(y.start - 8)})", "class_": "note"}
    hover = tag("title", f"layer {layer}: the same state for all problems")
    return tag("text", hover + CONSTANT, x=px(place + 4), y=px(y.start - 8), **turned)


def _short(error: float) -> str:
    return f"{error:.2f}" if error < 10 else f"{error:,.0f}"
