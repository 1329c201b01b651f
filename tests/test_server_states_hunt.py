"""States come and go at random under many threads of two managers: every acknowledged write is accounted for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from remanence.lab import RedisServer
from tests.hunt import DEADLINE, Hunt


@pytest.fixture(scope="module")
def own() -> Iterator[RedisServer]:
    """A server that loses nothing when it is killed."""
    with RedisServer(durability="always") as made:
        yield made


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [3, 8])
def test_nothing_acknowledged_is_lost_while_states_come_and_go(own: RedisServer, seed: int) -> None:
    """The account of `tests.hunt`: nothing lost, nothing displaced unseen, no call late, nothing left pending."""
    own.command("FLUSHALL")
    hunt = Hunt(own, seed)
    verdict = hunt.run()
    assert not verdict.violations, hunt.report()
    # A dozen threads on a machine that may be busy: only a call that hangs is told apart here from one that waits its
    # turn. How long a single call takes in each state is in the tests of the states.
    assert verdict.slowest < 10 * DEADLINE, hunt.report()
    assert verdict.counts["committed"] > 10
    assert verdict.counts["journaled"] > 10
