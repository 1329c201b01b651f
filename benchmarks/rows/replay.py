"""Bringing pending writes home, against a pipeline of bare redis-py that writes the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from benchmarks.batches import cpu_of, settled_memory
from benchmarks.budget import at_least
from benchmarks.estimate import estimate, paired
from benchmarks.figure import Figure
from benchmarks.rows.batch import pipeline
from benchmarks.setting import Row, Setting
from benchmarks.workload import TTL, inputs, key, record
from remanence import CircuitBreaker, IMemoryInput, RedisWorkingMemoryManager, resilient

__all__ = ["ROWS", "drained"]

_ENTRIES = 10_000
_ROUNDS = 7


def measure(setting: Setting) -> list[Figure]:
    """Rewrite known conversations behind an open breaker, then close it and drain."""
    count = setting.size(_ENTRIES, 200)
    before, after = inputs(count), inputs(count, shift=7)
    ready = [(key(item), record(item)) for item in after]
    ours: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    client = redis.from_url(setting.url(1))
    try:
        for _ in range(setting.size(_ROUNDS, 2)):
            ours.append(drained(setting, before, after))
            with settled_memory():
                bare.append(cpu_of(lambda: pipeline(client, ready, lambda pair: pair)))
    finally:
        client.close()
    cpu = [cost for cost, _ in ours]
    return [
        Figure(
            "replay",
            f"replay of {count:,}: speed",
            "entries/s",
            estimate([1e6 / wall for _, wall in ours]),
            at_least(20_000),
        ),
        Figure("replay", f"replay of {count:,}: stack", "µs CPU each", estimate(cpu)),
        Figure("replay", f"replay of {count:,}: bare pipeline", "µs CPU each", estimate([cost for cost, _ in bare])),
        Figure(
            "replay",
            f"replay of {count:,}: speed against a bare pipeline",
            "x",
            estimate(paired([cost for cost, _ in bare], cpu)),
            at_least(0.5),
            "CPU; the pipeline compares nothing",
        ),
    ]


def drained(
    setting: Setting,
    before: Sequence[IMemoryInput],
    after: Sequence[IMemoryInput],
    *,
    journal: str | Path = "memory",
) -> tuple[float, float]:
    """Return the CPU and wall time of each entry."""
    breaker = CircuitBreaker()
    with (
        RedisWorkingMemoryManager(setting.url(3), ttl=TTL) as inner,
        resilient(inner, journal=journal, circuit_breaker=breaker) as manager,
    ):
        manager.store_many(before)
        breaker.force_open()
        for item in after:
            manager.store(item)
        breaker.reset()
        with settled_memory():
            return cpu_of(lambda: _replayed(manager, len(after)))


def _replayed(manager: Any, count: int) -> int:
    counts = manager.replay(timeout=60)
    assert counts.replayed == count, f"{counts.replayed} of {count} writes were replayed"
    assert not counts.conflicts, "a replay without another writer made conflicts"
    return count


ROWS = (Row("replay", "pending writes on their way home", measure),)
