"""Drawing by hand: a picture as SVG text, made of tags, labels and marks; `STYLE` is what the page around it needs.

Everything is in pixels, from the upper left corner. Colours follow the reader's light or dark mode.

Usage: `svg("Title", 960, 40, [label("hello", 10, 20), tag("circle", cx=px(x(3)), cy=30, r=5, class_="mark")])`, with
`x = Axis(0, 10, 46, 900)`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
.figure .dotted{stroke-dasharray:1 5}
.figure .faint{stroke-width:1;stroke-opacity:.3}
.figure .stage{stroke:var(--series);stroke-opacity:.16}
.figure .restart{stroke:var(--series);stroke-width:1.5;stroke-dasharray:2 4}
.figure .mark{fill:var(--series)}
.figure .column{fill:var(--series);fill-opacity:.3}
.figure .bar{stroke:var(--series);stroke-width:1.5;fill:none}
"""
)


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


# --- SVG text --------------------------------------------------------------------------------------------------------


def svg(title: str, width: float, height: float, parts: Iterable[str]) -> str:
    """A whole picture; it scales with the page, and `title` is what those who do not see it are told."""
    return tag(
        "svg",
        tag("title", escape(title)) + "".join(parts),
        viewBox=f"0 0 {px(width)} {px(height)}",
        role="img",
        aria_label=title,
        class_="figure",
    )


def tag(name: str, content: str = "", **attributes: object) -> str:
    """An element; `content` is SVG already, attribute values are escaped. `class_` and `aria_label` lose their `_`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items()
    )
    return f"<{name}{given}>{content}</{name}>"


def label(text: str, x: float, y: float, class_: str = "", anchor: str = "start") -> str:
    """Text at a point, which is its start, middle or end."""
    return tag("text", escape(text), x=px(x), y=px(y), class_=class_, text_anchor=anchor)


def escape(text: str) -> str:
    """Any text as the content of an element."""
    return html.escape(text, quote=True)


def shorten(text: str, limit: int = 40) -> str:
    """At most so many letters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def text_width(text: str) -> float:
    """About what 13-pixel letters of a system font take; wide scripts take twice as much."""
    return sum(7.0 if ord(letter) < 0x1100 else 13.0 for letter in text)


def px(value: float) -> str:
    """Pixels, to a tenth."""
    text = f"{value:.1f}"
    return text.removesuffix(".0")


# --- marks -----------------------------------------------------------------------------------------------------------


def interval(at: float, low: float, high: float) -> str:
    """An upright bar from `low` to `high`, with a stroke across each end."""
    a, b = px(at - 4), px(at + 4)
    return tag("path", d=f"M{a},{px(low)}H{b}M{a},{px(high)}H{b}M{px(at)},{px(low)}V{px(high)}", class_="bar")


def marker(color: int, x: float, y: float) -> str:
    """A shape per colour, so that no reader depends on colour."""
    shapes = (
        tag("circle", cx=px(x), cy=px(y), r=6, class_="mark"),
        tag("rect", x=px(x - 5.5), y=px(y - 5.5), width=11, height=11, class_="mark"),
        tag("path", d=f"M{px(x)},{px(y - 7)}l6.5,12h-13z", class_="mark"),
        tag("path", d=f"M{px(x)},{px(y - 7.5)}l7.5,7.5l-7.5,7.5l-7.5,-7.5z", class_="mark"),
        tag("path", d=f"M{px(x)},{px(y + 7)}l6.5,-12h-13z", class_="mark"),
        tag("path", d=f"M{px(x - 2)},{px(y - 6.5)}h4v4.5h4.5v4h-4.5v4.5h-4v-4.5h-4.5v-4h4.5z", class_="mark"),
    )
    return shapes[color % len(shapes)]


Box = tuple[float, float, float, float]


def place_label(text: str, anchors: Sequence[tuple[float, float]], taken: list[Box], bounds: Box) -> str:
    """A label beside one of its points, where it covers nothing; what it covers is added to `taken`."""
    wide = text_width(text)
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
    return label(text, *chosen)
