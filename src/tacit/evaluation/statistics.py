"""Intervals for shares."""

import math


def wilson(successes: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
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
