"""While Redis is away: calls behind an open breaker, and the slowest call on a frozen server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.batches import settled_memory
from benchmarks.budget import Budget, at_most
from benchmarks.estimate import Estimate, estimate, exact, percentile
from benchmarks.figure import Figure
from benchmarks.setting import NEEDS_FRAMEWORK, Row, Setting
from benchmarks.workload import TTL, inputs
from remanence import CircuitBreaker, RedisWorkingMemoryManager, resilient

__all__ = ["ROWS", "p50"]

_KNOWN = 3_000
_BATCH = 500
_BATCHES = 30
_FEWEST_BATCHES = 6
_GRACE = 0.05
"""Seconds beyond its deadline that a call may take."""


def measure_open(setting: Setting) -> list[Figure]:
    """Measure each call alone by the wall clock; the breaker is forced open, so that no probe disturbs."""
    known = inputs(setting.size(_KNOWN, 120))
    unknown = inputs(len(known), name="unknown")
    count = setting.size(_BATCHES * _BATCH, 240)
    fresh = inputs(count, name="fresh")
    breaker = CircuitBreaker()
    with _behind(setting, breaker) as manager:
        manager.store_many(known)
        breaker.force_open()
        with settled_memory():
            figures = [
                p50("retrieve, last-known copy", manager.retrieve, known, count, at_most(30.0)),
                p50("retrieve, nothing known", manager.retrieve, unknown, count, at_most(30.0)),
                p50("store, first of its conversation", manager.store, fresh, count, at_most(50.0)),
                p50("store, over a known base", manager.store, known, len(known), at_most(50.0)),
                p50("store, folded into a pending one", manager.store, known, count, at_most(50.0)),
                p50("retrieve, pending write", manager.retrieve, known, count, at_most(30.0)),
            ]
        _heal(breaker, manager)
    return figures


def p50(
    what: str,
    operation: Callable[[Any], object],
    items: Sequence[Any],
    count: int,
    budget: Budget,
    *,
    row: str = "open-breaker",
) -> Figure:
    """Return the median call of each batch, and how the batches vary."""
    medians: list[float] = []
    clock = time.perf_counter_ns
    size = min(_BATCH, count // _FEWEST_BATCHES)
    for begin in range(0, count, size):
        costs = []
        for number in range(begin, begin + size):
            item = items[number % len(items)]
            start = clock()
            operation(item)
            costs.append((clock() - start) / 1000)
        medians.append(percentile(costs, 0.5))
    return Figure(row, f"breaker open: {what}", "µs p50", estimate(medians), budget)


@contextmanager
def _behind(setting: Setting, breaker: CircuitBreaker) -> Iterator[Any]:
    with (
        RedisWorkingMemoryManager(setting.url(3), ttl=TTL) as inner,
        resilient(inner, circuit_breaker=breaker) as manager,
    ):
        try:
            yield manager
        finally:
            breaker.reset()


def _heal(breaker: CircuitBreaker, manager: Any) -> None:
    breaker.reset()
    counts = manager.replay(timeout=60)
    assert not counts.pending, f"{counts.pending} writes did not reach a healthy Redis"


def measure_frozen(setting: Setting) -> list[Figure]:
    """Freeze the server under open connections; every call meets a closed breaker, so none is spared the wait."""
    deadline = 0.3 if setting.quick else 1.5
    items = inputs(setting.size(3, 1), name="frozen")
    breaker = CircuitBreaker()
    with (
        RedisWorkingMemoryManager(setting.url(3), ttl=TTL) as inner,
        resilient(inner, deadline=deadline, circuit_breaker=breaker) as manager,
    ):
        for item in items:
            manager.store(item)
        theirs = None if setting.framework is None else setting.framework.redis_manager(setting.url(0), ttl=TTL)
        if theirs is not None and setting.framework is not None:
            theirs.store(setting.framework.input(items[0]))
        setting.server.freeze()
        try:
            waits = [_timed(breaker, call, item) for item in items for call in (manager.retrieve, manager.store)]
            returned = _still_waiting(setting, theirs, items[0], 2 * deadline)
        finally:
            setting.server.thaw()
            breaker.reset()
    what = f"frozen server, deadline {deadline:g} s"
    return [
        Figure("frozen", f"{what}: slowest of {len(waits)} calls", "s", exact(max(waits)), at_most(deadline + _GRACE)),
        Figure(
            "frozen",
            f"{what}: the framework's manager",
            "s",
            returned,
            note=NEEDS_FRAMEWORK
            if theirs is None
            else ""
            if returned
            else f"had not returned after {2 * deadline:g} s",
        ),
    ]


def _timed(breaker: CircuitBreaker, call: Callable[[Any], object], item: Any) -> float:
    breaker.reset()
    start = time.perf_counter()
    call(item)
    return time.perf_counter() - start


def _still_waiting(setting: Setting, theirs: Any, item: Any, patience: float) -> Estimate | None:
    """Return how long the framework's manager took, None if it did not return within `patience` seconds."""
    if theirs is None or setting.framework is None:
        return None
    request = setting.framework.input(item)
    took: list[float] = []

    def call() -> None:
        start = time.perf_counter()
        try:
            theirs.retrieve(request)
        finally:
            took.append(time.perf_counter() - start)

    # A daemon: the thaw lets it end, and nothing waits for it if that fails.
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(patience)
    return exact(took[0]) if took else None


ROWS = (
    Row("open-breaker", "calls while the breaker is open", measure_open),
    Row("frozen", "the slowest call on a frozen server", measure_frozen),
)
