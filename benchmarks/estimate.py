"""The arithmetic: what a handful of noisy measurements says, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Estimate", "estimate", "exact", "paired", "percentile"]

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median and the interval that holds the true one with at least 95 % confidence.

    Attributes:
        median: Of the samples.
        low, high: The interval; the extremes of the samples where they are too few for 95 % (fewer than 6).
        samples: How many there were.
    """

    median: float
    low: float
    high: float
    samples: int


def estimate(samples: Sequence[float]) -> Estimate:
    """Return the samples' median and its interval.

    The interval comes from order statistics: how often a fair coin falls at most k times of n says how often the true
    median lies outside the k-th smallest and largest sample. It assumes nothing of the noise's shape, which on a shared
    machine is skewed.

    Args:
        samples: At least one.

    Raises:
        ValueError: There is none.
    """
    if not samples:
        message = "an estimate needs at least one sample"
        raise ValueError(message)
    ordered = sorted(samples)
    cut = _cut(len(ordered))
    return Estimate(statistics.median(ordered), ordered[cut], ordered[-1 - cut], len(ordered))


def exact(value: float) -> Estimate:
    """Return the estimate for what was counted rather than sampled."""
    return Estimate(value, value, value, 1)


def paired(mine: Sequence[float], theirs: Sequence[float], *, difference: bool = False) -> list[float]:
    """Return the ratio (or the difference) of each batch to the one that ran beside it.

    A machine that slows down slows both of a pair, so the pairs vary less than either does.

    Raises:
        ValueError: The two are not of the same length.
    """
    pairs = zip(mine, theirs, strict=True)
    return [a - b if difference else a / b for a, b in pairs]


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least `share` (above 0, up to 1) of the samples do not exceed."""
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


def _cut(count: int) -> int:
    """Return how many samples at each end lie outside the interval."""
    tail, outside = 0.0, 0
    for k in range(count // 2):
        tail += math.comb(count, k) / 2**count
        if 2 * tail > 1 - _CONFIDENCE:
            break
        outside = k
    return outside
