"""The checks on the real thing: two processes of threads on a real server, healthy and breaking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from remanence.lab import RedisServer
from remanence.lab.history import Status, check
from remanence.lab.history.trial import HEALTHY, IN_OUTAGES, run_trial

if TYPE_CHECKING:
    from pathlib import Path

    from remanence.lab.history.trial import Outage

pytestmark = pytest.mark.slow
SECONDS = 0.5


def test_the_bare_manager_is_a_register(server: RedisServer, redis_url: str, tmp_path: Path) -> None:
    """Stores, updates, deletes, conditional writes and mutations on a healthy server fit one register."""
    assert redis_url
    report = check(run_trial(server, tmp_path, manager="bare", seed=1, seconds=SECONDS), checks=HEALTHY)
    assert report.status is Status.PASS, report
    assert report.operations > 100


def test_the_reference_manager_is_caught_losing_updates(server: RedisServer, redis_url: str, tmp_path: Path) -> None:
    """Two processes that read, think and write with the framework's algorithm overwrite what they have not seen."""
    assert redis_url
    history = run_trial(server, tmp_path, manager="reference", seed=1, seconds=SECONDS)
    assert check(history).status is Status.PASS, "as a register the server itself is sound"
    report = check(history, checks=["acknowledged"], overwrites=False)
    assert report.status is Status.FAIL, report


@pytest.mark.chaos
@pytest.mark.parametrize("outage", ["kill", "freeze"])
def test_the_stack_keeps_its_promises_in_outages(private_server: RedisServer, tmp_path: Path, outage: Outage) -> None:
    """Nothing acknowledged is lost, and no process reads something older, while the server is killed or frozen."""
    history = run_trial(private_server, tmp_path, seed=1, seconds=2 * SECONDS, outage=outage, deletes=0.0)
    journaled = sum(each.answer == "journaled" for each in history.operations)
    assert journaled, "the outage was not felt"
    report = check(history, checks=IN_OUTAGES)
    assert report.status is not Status.FAIL, report
    for verdict in report.verdicts:
        assert verdict.checked > 50, report
