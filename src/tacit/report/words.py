"""Numbers and names as people read them, in tables, figures and sentences.

Usage: `percent(0.974)` is `97.4 %`; `display_name("oracle")` is `Socratic, gold questions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tacit.report.reading import is_section

NAMES = {
    "stepwise": "Stepwise Internalization",
    "no_cot": "No CoT",
    "cot": "Explicit CoT",
    "unified": "Socratic, unified",
    "cumulative": "Socratic, cumulative",
    "socratic": "Socratic CoT",
    "implicit_kd": "ICoT-KD",
    "oracle": "Socratic, gold questions",
    "teacher_questions": "Socratic, teacher's questions",
    "gold_plan": "Socratic, gold plan",
    "calculator": "Socratic, calculator",
    "zero_shot": "Zero-shot",
    "zero_shot_cot": "Zero-shot CoT",
    "few_shot_cot": "Few-shot CoT",
    "random": "Random guessing",
}
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


def decimals(value: float | None, digits: int) -> str:
    """A mean with so many digits behind the point."""
    return DASH if value is None else f"{value:,.{digits}f}"


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
