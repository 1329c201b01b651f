"""Under asyncio: fifty tasks on a healthy Redis beside bare redis-py, and ten thousand of them in an outage."""

from __future__ import annotations

import asyncio
import gc
import json
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

import redis.asyncio

from benchmarks.batches import Batch, interleave
from benchmarks.budget import at_least, at_most
from benchmarks.estimate import estimate, exact, paired
from benchmarks.figure import Figure
from benchmarks.setting import Row, Setting
from benchmarks.workload import TTL, inputs, key, record
from remanence import AsyncRedisWorkingMemoryManager, resilient

__all__ = ["ROWS"]

_TASKS = 50
_CALLS = 2_000
_ROUNDS = 25
_CROWD = 10_000
_DEADLINE = 1.5
_GRACE = 50.0
"""Milliseconds beyond its deadline that a call may take."""

COMMANDS = "bare redis.asyncio, the command alone"
ENCODING = "bare redis.asyncio, with JSON"
MANAGER = "our bare manager"
STACK = "the resilient stack"


def measure(setting: Setting, operation: str) -> list[Figure]:
    """Measure one operation done by fifty tasks at once, by the wall clock: that is the throughput."""
    with asyncio.Runner() as runner:
        contenders, close = runner.run(_contenders(setting, operation, runner.run))
        try:
            times = interleave(
                contenders, rounds=setting.size(_ROUNDS, 2), rng=setting.rng, clock_ns=time.perf_counter_ns
            )
        finally:
            runner.run(close())
    row = f"tasks-{operation}"
    what = f"{_TASKS} tasks, {operation}"
    return [
        *(
            Figure(row, f"{what}: {name}", "calls/s", estimate([1e6 / each for each in found]))
            for name, found in times.items()
        ),
        *(
            Figure(row, f"{what}: stack / {name}", "x", estimate(paired(times[name], times[STACK])), at_least(0.85))
            for name in (COMMANDS, ENCODING)
        ),
    ]


async def _contenders(
    setting: Setting, operation: str, run: Callable[[Any], Any]
) -> tuple[dict[str, Batch], Callable[[], Any]]:
    items = inputs(setting.size(_CALLS, 100))
    ready = [(key(item), record(item)) for item in items]
    stack = AsyncExitStack()
    client: Any = redis.asyncio.Redis.from_url(setting.url(1), max_connections=_TASKS)
    stack.push_async_callback(client.aclose)
    bare = await stack.enter_async_context(AsyncRedisWorkingMemoryManager(setting.url(2), ttl=TTL))
    inner = await stack.enter_async_context(AsyncRedisWorkingMemoryManager(setting.url(3), ttl=TTL))
    decorated = await stack.enter_async_context(resilient(inner))
    for item, (name, raw) in zip(items, ready, strict=True):
        await client.execute_command("SETEX", name, TTL, raw)
        await bare.store(item)
        await decorated.store(item)

    async def set_ready(pair: tuple[str, bytes]) -> None:
        await client.execute_command("SETEX", pair[0], TTL, pair[1])

    async def set_encoded(item: Any) -> None:
        await client.execute_command("SETEX", key(item), TTL, record(item))

    async def get(pair: tuple[str, bytes]) -> None:
        await client.execute_command("GET", pair[0])

    async def get_decoded(item: Any) -> None:
        json.loads(await client.execute_command("GET", key(item)))["data"]["working_memory"]

    def by_fifty(work: Callable[[Any], Awaitable[Any]], over: list[Any]) -> Batch:
        def batch() -> int:
            run(_shared_out(work, over))
            return len(over)

        return batch

    writes = operation == "store"
    return {
        COMMANDS: by_fifty(set_ready if writes else get, ready),
        ENCODING: by_fifty(set_encoded if writes else get_decoded, items),
        MANAGER: by_fifty(getattr(bare, operation), items),
        STACK: by_fifty(getattr(decorated, operation), items),
    }, stack.aclose


async def _shared_out(work: Callable[[Any], Awaitable[Any]], items: Iterable[Any]) -> None:
    left = iter(items)

    async def task() -> None:
        for item in left:
            await work(item)

    await asyncio.gather(*(task() for _ in range(_TASKS)))


def measure_crowd(setting: Setting) -> list[Figure]:
    """Have ten thousand tasks call at once while the server is frozen, and while it is gone."""
    figures: list[Figure] = []
    crowd = setting.size(_CROWD, 200)
    for what, hurt, mend in (
        ("frozen", setting.server.freeze, setting.server.thaw),
        ("killed", setting.server.kill, setting.server.start),
    ):
        late, _, _ = asyncio.run(_crowded(setting, crowd, hurt, mend))
        figures.append(
            Figure(
                "tasks-outage",
                f"{crowd:,} tasks, server {what}: latest call beyond its deadline",
                "ms",
                exact(late),
                at_most(_GRACE),
            )
        )
    few = asyncio.run(_crowded(setting, crowd // 4, setting.server.kill, setting.server.start, traced=True))
    many = asyncio.run(_crowded(setting, crowd, setting.server.kill, setting.server.start, traced=True))
    return [
        *figures,
        Figure("tasks-outage", f"{crowd:,} tasks in an outage: most memory, each", "B", exact(many[1])),
        Figure(
            "tasks-outage",
            f"the same, against a quarter as many: growth of the whole over {crowd / (crowd // 4):g}",
            "x",
            exact(many[1] / few[1]),
            at_most(1.15),
        ),
        Figure(
            "tasks-outage",
            "left afterwards, for a write that waits, beyond its text",
            "B",
            exact(many[2]),
            at_most(600),
        ),
    ]


async def _crowded(
    setting: Setting, crowd: int, hurt: Callable[[], object], mend: Callable[[], object], *, traced: bool = False
) -> tuple[float, float, float]:
    """Return ms that the latest call took beyond its deadline, most bytes a task, bytes left a waiting write."""
    items = inputs(crowd, name="crowd")
    inner = AsyncRedisWorkingMemoryManager(setting.url(3), ttl=TTL)
    manager = resilient(inner, deadline=_DEADLINE, owns_manager=True)
    for item in items[:20]:
        await manager.store(item)
    took: list[float] = []

    async def call(number: int) -> None:
        begun = time.perf_counter()
        await (manager.store if number % 2 else manager.retrieve)(items[number])
        took.append(time.perf_counter() - begun)

    hurt()
    gc.collect()
    if traced:
        tracemalloc.start()
    try:
        await asyncio.gather(*(call(number) for number in range(crowd)))
        gc.collect()
        left, most = tracemalloc.get_traced_memory() if traced else (0, 0)
    finally:
        tracemalloc.stop()
        mend()
    texts = sum(len(item.data[-1].working_memory) for item in items[1::2] if item.data)
    waiting = manager.health().pending or 1
    await manager.replay(timeout=60)
    await manager.aclose()
    return 1e3 * (max(took) - _DEADLINE), most / crowd, (left - texts) / waiting


ROWS = (
    Row("tasks-store", "stores by fifty tasks under asyncio", lambda setting: measure(setting, "store")),
    Row("tasks-retrieve", "retrieves by fifty tasks under asyncio", lambda setting: measure(setting, "retrieve")),
    Row("tasks-outage", "ten thousand tasks while the server is away", measure_crowd),
)
