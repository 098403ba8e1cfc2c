"""Confidence intervals that the figures of training stages carry."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054  # the standard normal's 97.5% point


def wilson(successes: float, trials: int) -> dict[str, float | int | None]:
    """A share with its Wilson 95% score interval (Wilson 1927), as `{"value", "low", "high", "n"}`.

    The interval stays within [0, 1] and holds for small counts. Without trials all but `n` are None.
    """
    if trials == 0:
        return {"value": None, "low": None, "high": None, "n": 0}
    share = successes / trials
    scale = 1 + Z95**2 / trials
    centre = (share + Z95**2 / (2 * trials)) / scale
    half = Z95 * math.sqrt(share * (1 - share) / trials + Z95**2 / (4 * trials**2)) / scale
    return {"value": share, "low": max(centre - half, 0.0), "high": min(centre + half, 1.0), "n": trials}


def mean_interval(values: Sequence[float]) -> dict[str, float | int | None]:
    """A mean with its 95% interval, mean -+ 1.96 s/sqrt(n) with Bessel's s, as `{"mean", "low", "high", "n"}`.

    One value has no interval (None), no value no mean.
    """
    count = len(values)
    if count == 0:
        return {"mean": None, "low": None, "high": None, "n": 0}
    mean = math.fsum(values) / count
    if count == 1:
        return {"mean": mean, "low": None, "high": None, "n": 1}
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = Z95 * deviation / math.sqrt(count)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": count}


def paired_difference(left: Sequence[float], right: Sequence[float]) -> dict[str, float | int | None]:
    """The mean of left - right over pairs (the same prompt or row) with its 95% interval, as `mean_interval`."""
    return mean_interval([a - b for a, b in zip(left, right, strict=True)])
