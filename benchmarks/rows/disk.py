"""The journal on disk: calls while Redis is away, the way home, a start over what a dead process has left."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.batches import settled_memory
from benchmarks.budget import at_least, at_most
from benchmarks.estimate import estimate, exact
from benchmarks.figure import Figure
from benchmarks.rows.outage import p50
from benchmarks.rows.replay import drained
from benchmarks.setting import Row, Setting
from benchmarks.workload import TTL, inputs
from remanence import AsyncInMemoryManager, CircuitBreaker, Fallback, RedisWorkingMemoryManager, resilient
from remanence.journal.disk import DiskJournal

__all__ = ["ROWS"]

_KNOWN = 3_000
_CALLS = 9_000
_ENTRIES = 10_000
_ROUNDS = 7
_LEFT = 100_000
_TEXT = 1_000
_LOOPED = 3_000


def measure_calls(setting: Setting) -> list[Figure]:
    """Measure each call alone by the wall clock, behind a breaker that is forced open."""
    known = inputs(setting.size(_KNOWN, 120))
    count = setting.size(_CALLS, 240)
    fresh = inputs(count, name="fresh")
    breaker = CircuitBreaker()
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisWorkingMemoryManager(setting.url(3), ttl=TTL) as inner,
        resilient(inner, journal=Path(folder, "journal"), circuit_breaker=breaker) as manager,
    ):
        manager.store_many(known)
        breaker.force_open()
        with settled_memory():
            figures = [
                p50(
                    "store to the disk journal, first of its conversation",
                    manager.store,
                    fresh,
                    count,
                    at_most(250),
                    row="disk-journal",
                ),
                p50(
                    "store to the disk journal, over a known base",
                    manager.store,
                    known,
                    len(known),
                    at_most(250),
                    row="disk-journal",
                ),
                p50(
                    "store to the disk journal, folded into a pending one",
                    manager.store,
                    known,
                    count,
                    at_most(250),
                    row="disk-journal",
                ),
                p50("retrieve, pending on disk", manager.retrieve, known, count, at_most(250), row="disk-journal"),
            ]
        breaker.reset()
        assert not manager.replay(timeout=60).pending
    return figures


def measure_replay(setting: Setting) -> list[Figure]:
    """Rewrite known conversations behind an open breaker, then close it and drain."""
    count = setting.size(_ENTRIES, 200)
    before, after = inputs(count), inputs(count, shift=7)
    costs = [_drained(setting, before, after) for _ in range(setting.size(_ROUNDS, 2))]
    return [
        Figure(
            "disk-replay",
            f"replay of {count:,} from disk: speed",
            "entries/s",
            estimate([1e6 / wall for _, wall in costs]),
            at_least(20_000),
        ),
        Figure("disk-replay", f"replay of {count:,} from disk", "µs CPU each", estimate([cpu for cpu, _ in costs])),
    ]


def _drained(setting: Setting, before: Sequence[Any], after: Sequence[Any]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        return drained(setting, before, after, journal=Path(folder, "journal"))


def measure_start(setting: Setting) -> list[Figure]:
    """Open a journal full of what a dead process has left."""
    count = setting.size(_LEFT, 500)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        breaker = CircuitBreaker()
        options: dict[str, Any] = {
            "fallback": Fallback(journal=path, close_timeout=0.001),
            "circuit_breaker": breaker,
        }
        with RedisWorkingMemoryManager(setting.url(3), ttl=TTL) as inner, resilient(inner, **options) as manager:
            breaker.force_open()
            for number in range(count):
                text = f"{number:06d} ".ljust(_TEXT, "x")
                manager.store({"conversation_id": f"left-{number:06d}", "working_memory": text})
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        seconds = [_opened(path, inner.store_id, count) for _ in range(setting.size(_ROUNDS, 2))]
    what = f"{count:,} pending conversations"
    return [
        Figure("disk-start", f"{what}: opened and counted", "s", estimate(seconds), at_most(1.0)),
        Figure("disk-start", f"{what}: file beyond the texts", "B each", exact(size / count - _TEXT), at_most(600)),
    ]


def _opened(path: Path, store: str, count: int) -> float:
    begin = time.perf_counter()
    journal = DiskJournal(path, store=store, max_entries=10**6, max_bytes=10**9)
    held = len(journal)
    took = time.perf_counter() - begin
    journal.close()
    assert held == count, f"{held} of {count} are there"
    return took


def measure_loop(setting: Setting) -> list[Figure]:
    """Store and replay under asyncio while a task looks how long the loop was away from it.

    Around the manager in memory: what is measured is the journal. By the wall clock the kernel's scheduler is in it,
    which takes a core from an idle loop, too: that loop is measured beside the others, for as long.
    """
    runs = [asyncio.run(_looped(setting.size(_LOOPED, 60))) for _ in range(setting.size(_ROUNDS, 2))]
    held = [
        Figure(
            "disk-loop",
            f"event loop, {what}: longest turn",
            "ms CPU",
            estimate([run[what].cpu for run in runs]),
            at_most(2.0) if what != _IDLE else None,
        )
        for what in runs[0]
    ]
    waited = [
        Figure("disk-loop", f"event loop, {what}: longest wait", "ms", estimate([run[what].wall for run in runs]))
        for what in runs[0]
    ]
    return held + waited


_IDLE = "nothing to do"


class _Turn(NamedTuple):
    cpu: float
    wall: float


async def _looped(count: int) -> dict[str, _Turn]:
    breaker = CircuitBreaker()
    items = inputs(count)
    turns: dict[str, _Turn] = {}
    with tempfile.TemporaryDirectory() as folder:
        inner = AsyncInMemoryManager(ttl=TTL)
        manager = resilient(inner, journal=Path(folder, "journal"), circuit_breaker=breaker)
        breaker.force_open()
        with settled_memory():

            async def store() -> None:
                for item in items:
                    await manager.store(item)

            begun = time.perf_counter()
            turns[f"{count:,} stores to the disk journal"] = await _longest_turn(store)
            took = time.perf_counter() - begun
            breaker.reset()
            turns[f"replay of {count:,} from disk"] = await _longest_turn(lambda: manager.replay(timeout=60))
            turns[_IDLE] = await _longest_turn(lambda: asyncio.sleep(took))
        await manager.aclose()
    return turns


async def _longest_turn(work: Callable[[], Awaitable[Any]]) -> _Turn:
    """Return the longest times between two turns of a task while something works, in milliseconds."""
    cpu = wall = 0.0
    task = asyncio.ensure_future(work())
    last = time.perf_counter(), time.thread_time()
    while not task.done():
        await asyncio.sleep(0)
        now = time.perf_counter(), time.thread_time()
        wall, cpu = max(wall, now[0] - last[0]), max(cpu, now[1] - last[1])
        last = now
    await task
    return _Turn(1e3 * cpu, 1e3 * wall)


ROWS = (
    Row("disk-journal", "calls that the disk journal takes", measure_calls),
    Row("disk-replay", "pending writes on their way home from disk", measure_replay),
    Row("disk-start", "a start over 100 000 pending conversations", measure_start),
    Row("disk-loop", "how long the disk journal holds up an event loop", measure_loop),
)
