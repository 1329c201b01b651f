"""Verdicts: what a noisy measurement says about its budget."""

from __future__ import annotations

import pytest

from benchmarks.budget import Budget, Verdict, at_least, at_most
from benchmarks.estimate import Estimate, exact
from benchmarks.figure import Figure


@pytest.mark.parametrize(
    ("budget", "low", "high", "verdict"),
    [
        (at_most(1.15), 1.05, 1.15, Verdict.MET),
        (at_most(1.15), 1.16, 1.30, Verdict.MISSED),
        (at_most(1.15), 1.15, 1.16, Verdict.INCONCLUSIVE),
        (at_most(1.15), 1.00, 1.20, Verdict.INCONCLUSIVE),
        (at_least(8.0), 8.0, 9.0, Verdict.MET),
        (at_least(8.0), 6.0, 7.9, Verdict.MISSED),
        (at_least(8.0), 7.9, 8.0, Verdict.INCONCLUSIVE),
        (at_least(8.0), 7.0, 12.0, Verdict.INCONCLUSIVE),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(
    budget: Budget, low: float, high: float, verdict: Verdict
) -> None:
    """Noise wider than the margin is inconclusive, whatever the median says."""
    assert budget.judge(Estimate((low + high) / 2, low, high, 30)) is verdict


def test_what_is_only_shown_has_no_verdict() -> None:
    """A figure without a budget, or one that could not be measured, is not judged."""
    assert Figure("row", "what", "x", exact(1.0)).verdict is None
    assert Figure("row", "what", "x", None, at_most(1.0)).verdict is None


def test_a_figure_says_in_json_what_the_table_says() -> None:
    """The JSON has the estimate, the budget and the verdict by name."""
    found = Figure("store", "stack / framework", "x", Estimate(1.2, 1.1, 1.3, 9), at_most(1.15), "note").to_json()
    assert found == {
        "row": "store",
        "what": "stack / framework",
        "unit": "x",
        "value": {"median": 1.2, "low": 1.1, "high": 1.3, "samples": 9},
        "budget": {"limit": 1.15, "upper": True},
        "note": "note",
        "verdict": "inconclusive",
    }
