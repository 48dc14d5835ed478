"""Grading: take the answer out of a model's text, normalise it, compare it.

Usage: `extract_answer("5 + 2 #### 7") == "7"`; `same_answer("1,000", "1000")`.
"""

MARKER = "####"


def extract_answer(text: str, marker: str = MARKER) -> str:
    """What stands behind the last answer marker; the whole text where there is none."""
    return text.rpartition(marker)[2].strip()


def normalise(answer: str) -> str:
    """White space folded to single spaces and commas removed, as the official evaluation compares answers."""
    return " ".join(answer.replace(",", "").split())


def same_answer(answer: str, gold: str) -> bool:
    """Exact match after `normalise`. No numeric tolerance: "18.0" is not "18"."""
    return normalise(answer) == normalise(gold)
