"""Single calls on a healthy Redis: the framework's manager, bare redis-py, our bare manager, our stack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import redis

from benchmarks.batches import Batch, interleave, over
from benchmarks.budget import at_most
from benchmarks.estimate import estimate, paired
from benchmarks.figure import Figure
from benchmarks.setting import NEEDS_FRAMEWORK, Row, Setting
from benchmarks.workload import TTL, inputs, key, record
from remanence import IMemoryInput, RedisWorkingMemoryManager, resilient

__all__ = ["ROWS"]

_BATCH = 100
_ROUNDS = 80
_LIMITS = {"store": 1.15, "retrieve": 1.15, "update": 0.75}

FRAMEWORK = "the framework's manager"
REDIS = "bare redis-py"
MANAGER = "our bare manager"
STACK = "the resilient stack"


def measure(setting: Setting, operation: str) -> list[Figure]:
    """Measure one operation; every contender has a database of its own, filled with the same conversations."""
    with _contenders(setting, operation) as contenders:
        costs = interleave(contenders, rounds=setting.size(_ROUNDS, 4), rng=setting.rng)
    figures = [Figure(operation, f"{operation}: {name}", "µs CPU", estimate(cost)) for name, cost in costs.items()]
    against = estimate(paired(costs[STACK], costs[FRAMEWORK])) if FRAMEWORK in costs else None
    return [
        *figures,
        Figure(
            operation,
            f"{operation}: stack / framework",
            "x",
            against,
            at_most(_LIMITS[operation]),
            "" if against else NEEDS_FRAMEWORK,
        ),
        Figure(operation, f"{operation}: stack / bare redis-py", "x", estimate(paired(costs[STACK], costs[REDIS]))),
    ]


@contextmanager
def _contenders(setting: Setting, operation: str) -> Iterator[dict[str, Batch]]:
    # Two texts for each conversation, in turn: a write that changes nothing might be cheaper.
    items = [*inputs(_BATCH // 2), *inputs(_BATCH // 2, shift=7)]
    with ExitStack() as stack:
        found: dict[str, Batch] = {}
        if setting.framework is not None:
            theirs = setting.framework.redis_manager(setting.url(0), ttl=TTL)
            stack.callback(theirs.redis_client.close)
            found[FRAMEWORK] = _calls(theirs, operation, [setting.framework.input(item) for item in items])
        client = redis.from_url(setting.url(1))
        stack.callback(client.close)
        found[REDIS] = _commands(client, operation, items)
        bare = stack.enter_context(RedisWorkingMemoryManager(setting.url(2), ttl=TTL))
        found[MANAGER] = _calls(bare, operation, items)
        inner = stack.enter_context(RedisWorkingMemoryManager(setting.url(3), ttl=TTL))
        found[STACK] = _calls(stack.enter_context(resilient(inner)), operation, items)
        yield found


def _calls(manager: Any, operation: str, items: Sequence[Any]) -> Batch:
    for item in items:
        manager.store(item)
    return over(getattr(manager, operation), items)


def _commands(client: Any, operation: str, items: Sequence[IMemoryInput]) -> Batch:
    """The commands and no more: a store's bytes are ready; an update has to decode and encode to be one at all."""
    execute = client.execute_command
    pairs = [(key(item), record(item)) for item in items]

    def store(pair: tuple[str, bytes]) -> None:
        execute("SETEX", pair[0], TTL, pair[1])

    def retrieve(pair: tuple[str, bytes]) -> None:
        execute("GET", pair[0])

    def update(pair: tuple[str, bytes]) -> None:
        document = json.loads(execute("GET", pair[0]))
        document["data"]["working_memory"] = "changed"
        execute("SETEX", pair[0], TTL, pair[1])

    operations: dict[str, Callable[[tuple[str, bytes]], None]] = {
        "store": store,
        "retrieve": retrieve,
        "update": update,
    }
    for pair in pairs:
        store(pair)
    return over(operations[operation], pairs)


def _row(operation: str, about: str) -> Row:
    return Row(operation, about, lambda setting: measure(setting, operation))


ROWS = (
    _row("store", "one store on a healthy Redis"),
    _row("retrieve", "one retrieve on a healthy Redis"),
    _row(
        "update", "one update whose base the stack knows: one round trip, atomic; the framework takes two, not atomic"
    ),
)
