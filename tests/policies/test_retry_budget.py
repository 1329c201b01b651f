"""The budget of retries: what it allows at most, at least, and under threads."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.policies.retry_budget import RetryBudget
from tests.support import FakeClock, threads


def budget(clock: FakeClock, *, ratio: float = 0.2, per_second: float = 3.0) -> RetryBudget:
    """Return a budget on the test's clock."""
    return RetryBudget(ratio=ratio, per_second=per_second, monotonic=clock.monotonic)


def taken(allowance: RetryBudget, times: int) -> int:
    """Ask for `times` retries; give how many were allowed."""
    return sum(allowance.take() for _ in range(times))


@given(
    ratio=st.floats(0, 1),
    per_second=st.floats(0.1, 10),
    steps=st.lists(st.tuples(st.floats(0, 20), st.integers(0, 200), st.integers(0, 200)), max_size=20),
)
def test_it_never_allows_more_than_calls_and_time_have_earned(
    ratio: float, per_second: float, steps: list[tuple[float, int, int]]
) -> None:
    """Whatever happens, the retries are at most one second's worth, a share per call and a few per second."""
    clock = FakeClock()
    allowance = budget(clock, ratio=ratio, per_second=per_second)
    calls = allowed = 0
    for seconds, new_calls, wanted in steps:
        clock.advance(seconds)
        for _ in range(new_calls):
            allowance.count_call()
        calls += new_calls
        allowed += taken(allowance, wanted)
        assert allowed <= per_second + ratio * calls + per_second * (clock.now - 1_000.0) + 1e-6


@pytest.mark.parametrize("per_second", [3.0, 0.05])
def test_a_few_per_second_are_always_allowed(clock: FakeClock, per_second: float) -> None:
    """Without any other calls, asking ten times a second for 100 s gets the seconds' worth, also of a small rate."""
    allowance = budget(clock, ratio=0.0, per_second=per_second)
    allowed = 0
    for _ in range(1_000):
        clock.advance(0.1)
        allowed += allowance.take()
    assert 100 * per_second - 1 <= allowed <= 101 * per_second


def test_a_share_of_the_calls_is_allowed(clock: FakeClock) -> None:
    """A thousand calls within a moment earn two hundred retries."""
    allowance = budget(clock)
    for _ in range(1_000):
        allowance.count_call()
    clock.advance(0.01)
    assert 200 <= taken(allowance, 1_000) <= 203


def test_what_calls_earned_fades(clock: FakeClock) -> None:
    """Retries earned by the traffic of a busy minute are not left for a burst in a quiet one."""
    allowance = budget(clock)
    for _ in range(600):
        clock.advance(0.1)
        for _ in range(100):
            allowance.count_call()
        assert allowance.available <= 30 + 2_000
    assert allowance.available > 1_500
    clock.advance(60.0)
    assert taken(allowance, 10_000) < 50


def test_a_pause_bounds_the_burst(clock: FakeClock) -> None:
    """An hour without calls is worth ten seconds of retries, not an hour's."""
    allowance = budget(clock)
    clock.advance(3_600.0)
    assert taken(allowance, 1_000) == 30


def test_a_clock_that_goes_back_takes_nothing_away(clock: FakeClock) -> None:
    """Time that runs backwards neither earns nor costs retries."""
    allowance = budget(clock)
    clock.advance(-1_000.0)
    assert taken(allowance, 100) == 3
    clock.advance(1.0)
    assert taken(allowance, 100) == 3


def test_threads_together_get_no_more_than_one(clock: FakeClock) -> None:
    """Twenty threads that take at once get what is there, once."""
    allowance = budget(clock, ratio=0.0)
    clock.advance(5.0)
    allowed: list[int] = []

    with threads(20, lambda _: allowed.append(taken(allowance, 100))):
        pass
    assert sum(allowed) == 18


def test_a_thread_that_lags_behind_never_makes_the_budget_larger(clock: FakeClock) -> None:
    """A count written late, over one that has been spent already, does not count those calls twice."""
    allowance = budget(clock, ratio=1.0)
    for _ in range(100):
        allowance.count_call()
    before = allowance._calls
    assert taken(allowance, 1_000) == 103
    allowance._calls = before + 1  # what a thread does that read the count before it was spent
    assert taken(allowance, 1_000) == 1
    allowance._calls = before - 50
    assert allowance.available == pytest.approx(0.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_after_fork_can_take_though_the_parent_held_the_lock(clock: FakeClock) -> None:
    """A fork while another thread takes a retry does not leave the child with a lock that nobody frees."""
    allowance = budget(clock)
    with allowance._lock:
        child = os.fork()
        if child == 0:
            # No lock of the test's process may be waited for here: the answer is the exit status alone.
            os._exit(0 if allowance._lock.acquire(blocking=False) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
