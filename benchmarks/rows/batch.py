"""Many memories at once: `store_many`, the documentation's loop, and a pipeline of bare redis-py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import redis

from benchmarks.batches import Batch, cpu_of, settled_memory
from benchmarks.budget import at_least
from benchmarks.estimate import estimate, paired
from benchmarks.figure import Figure
from benchmarks.setting import NEEDS_FRAMEWORK, Row, Setting
from benchmarks.workload import TTL, inputs, key, record
from remanence import IMemoryInput, RedisWorkingMemoryManager, resilient

__all__ = ["CHUNK", "ROWS", "pipeline"]

_MANY = 10_000
_ROUNDS = 9
CHUNK = 1_000
"""Commands sent in one go, by us and by the bare pipeline."""


def measure(setting: Setting) -> list[Figure]:
    """Measure a batch as a whole; the inputs are ready, so that the DTOs' cost is nobody's."""
    items = inputs(setting.size(_MANY, 300))
    with ExitStack() as stack:
        client = redis.from_url(setting.url(1))
        stack.callback(client.close)
        inner = stack.enter_context(RedisWorkingMemoryManager(setting.url(3), ttl=TTL))
        ours = stack.enter_context(resilient(inner))
        contenders: dict[str, Batch] = {
            "stack": lambda: _stored(ours.store_many(items)),
            "pipeline": lambda: pipeline(client, items, _encoded),
        }
        if setting.framework is not None:
            theirs = setting.framework.redis_manager(setting.url(0), ttl=TTL)
            stack.callback(theirs.redis_client.close)
            their_items = [setting.framework.input(item) for item in items]
            contenders["loop"] = lambda: _loop(theirs, their_items)
        return _figures(_rounds(contenders, setting), len(items))


def _rounds(contenders: dict[str, Batch], setting: Setting) -> dict[str, list[tuple[float, float]]]:
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    order = list(contenders)
    with settled_memory():
        for number in range(-1, setting.size(_ROUNDS, 2)):
            setting.rng.shuffle(order)
            for name in order:
                cost = cpu_of(contenders[name])
                if number >= 0:
                    costs[name].append(cost)
    return costs


def _figures(costs: dict[str, list[tuple[float, float]]], count: int) -> list[Figure]:
    cpu = {name: [cost for cost, _ in pairs] for name, pairs in costs.items()}
    wall = {name: [cost for _, cost in pairs] for name, pairs in costs.items()}
    what = f"store_many of {count:,}"
    loop = "loop" in costs
    return [
        *(Figure("store_many", f"{what}: {name}", "µs CPU each", estimate(cost)) for name, cost in cpu.items()),
        Figure(
            "store_many",
            f"{what}: documentation's loop / stack",
            "x faster",
            estimate(paired(cpu["loop"], cpu["stack"])) if loop else None,
            at_least(8.0),
            "CPU" if loop else NEEDS_FRAMEWORK,
        ),
        *(
            [
                Figure(
                    "store_many",
                    "the same by the wall clock",
                    "x faster",
                    estimate(paired(wall["loop"], wall["stack"])),
                )
            ]
            if loop
            else []
        ),
        Figure(
            "store_many",
            f"{what}: speed against a bare pipeline",
            "x",
            estimate(paired(cpu["pipeline"], cpu["stack"])),
            at_least(0.8),
            "CPU; the pipeline encodes the same records",
        ),
    ]


def pipeline(client: Any, items: Sequence[Any], encoded: Callable[[Any], tuple[str, bytes]]) -> int:
    """Store `items` as a user of redis-py would: SETEX in pipelines without a transaction."""
    for begin in range(0, len(items), CHUNK):
        with client.pipeline(transaction=False) as pipe:
            for item in items[begin : begin + CHUNK]:
                name, raw = encoded(item)
                pipe.execute_command("SETEX", name, TTL, raw)
            pipe.execute()
    return len(items)


def _encoded(item: IMemoryInput) -> tuple[str, bytes]:
    return key(item), record(item)


def _loop(manager: Any, items: Sequence[Any]) -> int:
    for item in items:
        manager.store(item)
    return len(items)


def _stored(results: Sequence[object]) -> int:
    assert not any(isinstance(result, Exception) for result in results), "a batch on a healthy Redis failed"
    return len(results)


ROWS = (Row("store_many", "a batch, against the documentation's loop and a bare pipeline", measure),)
