"""The arithmetic of the benchmark."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.estimate import Estimate, estimate, exact, paired, percentile


def coverage(count: int, cut: int) -> float:
    """Return how often the median of any continuous distribution lies inside, with `cut` samples left out per end."""
    outside: int = 2 * sum(math.comb(count, k) for k in range(cut + 1))
    return 1.0 - outside / (1 << count)


@pytest.mark.parametrize("count", [6, 7, 9, 12, 20, 80, 101])
def test_the_interval_holds_the_median_with_95_percent_confidence_and_is_the_narrowest_that_does(count: int) -> None:
    """The interval leaves out as many samples at each end as 95 % allow, and not one more."""
    found = estimate([float(number) for number in range(count)])
    cut = int(found.low)
    assert found.high == count - 1 - cut
    assert coverage(count, cut) >= 0.95
    assert coverage(count, cut + 1) < 0.95


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_interval_of_few_samples_is_all_of_them(count: int) -> None:
    """Too few samples for 95 % give their extremes."""
    found = estimate([float(number) for number in range(count)])
    assert (found.low, found.high, found.samples) == (0.0, count - 1, count)


def test_the_order_of_samples_does_not_matter() -> None:
    """An estimate is of a set of samples."""
    samples = [3.0, 1.0, 9.0, 2.0, 8.0, 4.0, 7.0]
    shuffled = samples[:]
    random.Random(3).shuffle(shuffled)
    assert estimate(samples) == estimate(shuffled) == Estimate(4.0, 1.0, 9.0, 7)


def test_the_interval_covers_the_true_median_of_skewed_noise() -> None:
    """With noise as on a shared machine (one-sided), the true median is inside in at least 93 of 100 runs."""
    rng = random.Random(5)
    inside = 0
    for _ in range(1_000):
        found = estimate([rng.expovariate(1.0) for _ in range(30)])
        inside += found.low <= math.log(2) <= found.high
    assert inside >= 930


def test_no_samples_are_refused() -> None:
    """An estimate of nothing is an error."""
    with pytest.raises(ValueError, match="at least one"):
        estimate([])


def test_what_was_counted_has_no_interval() -> None:
    """An exact figure is its own interval."""
    assert exact(3.0) == Estimate(3.0, 3.0, 3.0, 1)


def test_batches_are_compared_with_their_neighbours() -> None:
    """A machine that slows down to a third in between leaves the ratios alone."""
    mine, theirs = [10.0, 30.0, 20.0], [5.0, 15.0, 10.0]
    assert paired(mine, theirs) == [2.0, 2.0, 2.0]
    assert paired(mine, theirs, difference=True) == [5.0, 15.0, 10.0]


def test_batches_without_a_neighbour_are_refused() -> None:
    """Series of different lengths cannot be paired."""
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        paired([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2.0), (0.51, 3.0), (0.75, 3.0), (1.0, 4.0), (0.01, 1.0)])
def test_a_percentile_is_a_sample(share: float, expected: float) -> None:
    """The smallest sample that at least this share does not exceed."""
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == expected
