"""Correct histories pass, and every kind of violation that is planted into one is caught."""

from __future__ import annotations

import random

import pytest

from remanence.lab.history import Status, check
from remanence.lab.history.atomic import Shape, correct_history
from tests.lab.history.planted import PLANTS

SHAPES = {
    "plain": Shape(operations=400, conversations=3),
    "deletes": Shape(operations=400, conversations=3, deletes=0.1),
    "expiry": Shape(operations=400, conversations=3, deletes=0.05, ttl=0.05),
    "outages": Shape(operations=400, conversations=3, outage=0.3),
    "outages and deletes": Shape(operations=400, conversations=3, outage=0.3, deletes=0.05),
}
SEEDS = 40
DECIDED = {"plain": 40, "deletes": 40, "expiry": 40, "outages": 25, "outages and deletes": 4}
"""Of the seeds, those with a clear pass: after an outage it may stay open whether an ambiguous write was applied, and
whether a deletion took a conflict copy along."""


@pytest.mark.parametrize("shape", SHAPES)
def test_a_correct_history_never_fails(shape: str) -> None:
    """No check fails on a correct history, and nearly all of what can be decided is."""
    passed = 0
    for seed in range(SEEDS):
        report = check(correct_history(seed, SHAPES[shape]))
        assert report.status is not Status.FAIL, f"seed {seed}\n{report}"
        passed += report.status is Status.PASS
    assert passed >= DECIDED[shape], "too many are not decided"


PLACES = [
    (name, shape)
    for name in PLANTS
    for shape in SHAPES
    if not (name == "resurrected after delete" and shape in {"plain", "outages"})
    and not (name == "vanished" and shape not in {"plain", "outages"})
]


@pytest.mark.parametrize(("name", "shape"), PLACES)
def test_a_planted_violation_is_caught(name: str, shape: str) -> None:
    """Every check that is there for this violation fails, and its witness holds few calls."""
    planted = 0
    for seed in range(12):
        history = PLANTS[name].plant(correct_history(seed, SHAPES[shape]), random.Random(seed))
        if history is None:
            continue
        planted += 1
        for caught in PLANTS[name].caught_by:
            report = check(history, checks=[caught])
            assert report.status is Status.FAIL, f"seed {seed}: {caught} did not catch it\n{report}"
            witness = report.verdicts[0].witness
            assert witness is not None
            assert len(witness.operations) <= 8, f"seed {seed}\n{witness}"
    assert planted >= 3, "hardly any of these histories has a place for it"
