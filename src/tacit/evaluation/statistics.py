"""Intervals for shares, and whether two students differ on the same problems.

Usage: `wilson(974, 1000)`; `paired(of_one, of_the_other).p`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Z95 = 1.959963984540054


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 % by default (Wilson 1927).

    Args:
        successes (`int`): Out of n.
        n (`int`): At least 1.
        z (`float`): The normal quantile.

    Returns:
        Its lower and upper end, within [0, 1].
    """
    p = successes / n
    centre = p + z * z / (2 * n)
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - reach) / scale
    high = 1.0 if successes == n else (centre + reach) / scale
    return low, high


def share(right: Iterable[Any]) -> dict[str, Any]:
    """The share of verdicts that are true, at least one, with Wilson's 95 % interval: {share, ci95, n}."""
    verdicts = [bool(verdict) for verdict in right]
    count = sum(verdicts)
    return {"share": count / len(verdicts), "ci95": list(wilson(count, len(verdicts))), "n": len(verdicts)}


@dataclass(frozen=True)
class Difference:
    """How much more of the same problems one student gets right than another.

    Args:
        difference (`float`): Of the accuracies.
        ci95 (`tuple[float, float]`): Its 95 % interval: what other problems of this kind would give.
        p (`float`): Two-sided, of no difference.
    """

    difference: float
    ci95: tuple[float, float]
    p: float


def paired(one: Sequence[Sequence[bool]], other: Sequence[Sequence[bool]]) -> Difference:
    """Compares two methods on the same problems, each with one or several seeds.

    Of each problem i the difference d_i of the shares of seeds that are right counts, so that the seeds of a problem
    are not taken for problems of their own. With n problems, s = sum of d_i and q = sum of d_i squared:

        difference  s / n
        interval    c +- 1.96 sqrt(((q + 1) / (n + 2) - c^2) / (n + 2)), c = s / (n + 2), within [-1, 1]
        p           P(|sum of +-d_i| >= |s|) where all signs are equally likely

    The interval is Agresti and Min's (2005) adjustment of the paired Wald interval, which adds half a problem to each
    of the four outcomes of a pair. p is exact; with one seed each it is McNemar's exact test.

    Args:
        one, other: Whether each problem was answered right: a sequence a seed, each in the same order of problems.

    Raises:
        ValueError: The sequences differ in length, or are empty.
    """
    n = len(one[0])
    if not n or any(len(seed) != n for seed in (*one, *other)):
        raise ValueError("paired comparisons need the same problems, and at least one")
    unit = math.lcm(len(one), len(other))  # differences are counted in whole units of 1 / unit
    gains = [
        unit // len(one) * sum(ones) - unit // len(other) * sum(others)
        for ones, others in zip(zip(*one, strict=True), zip(*other, strict=True), strict=True)
    ]
    total = sum(gains)
    centre = total / unit / (n + 2)
    square = sum(gain * gain for gain in gains) / unit**2
    reach = Z95 * math.sqrt(((square + 1) / (n + 2) - centre**2) / (n + 2))
    low, high = max(-1.0, centre - reach), min(1.0, centre + reach)
    return Difference(total / unit / n, (low, high), _sign_flips(gains))


def _sign_flips(gains: Sequence[int]) -> float:
    """The share of all ways to set the signs of whole numbers whose sum is at least as far from 0 as theirs is.

    Numbers of one size are taken together: how many of them get a plus is binomial.
    """
    chances = np.ones(1)  # of each sum, from the lowest to the highest
    for size, count in Counter(abs(gain) for gain in gains if gain).items():
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = [math.comb(count, plus) / 2**count for plus in range(count + 1)]
        chances = np.convolve(chances, steps)
    distances = np.abs(np.arange(len(chances)) - len(chances) // 2)
    return min(1.0, float(chances[distances >= abs(sum(gains))].sum()))
