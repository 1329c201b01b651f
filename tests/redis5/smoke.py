"""The stack on the redis-py that stands first on PYTHONPATH, as a program: both flavours, an outage, replay, an agent.

Run with redis-py 5.3, which is what the framework pins. It ends with an assertion where something does not work.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Callable
from typing import Any

import redis

from remanence import (
    AsyncRedisWorkingMemoryManager,
    CircuitBreaker,
    Deadline,
    RedisWorkingMemoryManager,
    VersionConflictError,
    resilient,
)
from remanence.integrations.arshai import agent_memory
from remanence.lab import RedisServer

ID = {"conversation_id": "c"}


def main() -> None:
    """Do everything once in each flavour, on one server; each has an outage of its own."""
    assert sys.argv[1:] == [redis.__version__], f"this is redis-py {redis.__version__} at {redis.__file__}"
    warnings.simplefilter("error")
    with RedisServer(durability="always") as server:
        asyncio.run(use(RedisWorkingMemoryManager(server.url, timeout=5.0), server, server.kill))
        asyncio.run(use(AsyncRedisWorkingMemoryManager(server.url, timeout=0.3), server, server.freeze))
    print(f"redis-py {redis.__version__}: both flavours work")  # noqa: T201 - a program's output


async def use(inner: Any, server: RedisServer, begin: Callable[[], None]) -> None:
    """Healthy, away, back again; then two turns as an agent takes them."""
    manager: Any = resilient(
        inner, deadline=Deadline(1.5 * inner.timeout), circuit_breaker=CircuitBreaker(open_for=0.05)
    )
    first = await done(manager.store({**ID, "working_memory": "one", "metadata": {"m": 1}}))
    assert first.outcome == "committed"
    assert (await done(manager.update({**ID, "working_memory": "two"}))).outcome == "committed"
    found = await done(manager.retrieve(ID))
    assert (found[0].working_memory, found.metadata, found.source) == ("two", {"m": 1}, "redis")
    try:
        await done(manager.store({**ID, "working_memory": "never"}, if_version=first.version))
    except VersionConflictError:
        pass
    else:
        raise AssertionError("a write on an old version was taken")
    await done(manager.mutate(ID, lambda text: f"{text}!"))
    many = [{"conversation_id": f"many-{n}", "working_memory": "x"} for n in range(50)]
    assert {receipt.outcome for receipt in await done(manager.store_many(many))} == {"committed"}
    assert {receipt.outcome for receipt in await done(manager.delete_many(many))} == {"committed"}

    begin()
    assert (await done(manager.retrieve(ID))).degraded
    assert (await done(manager.store({**ID, "working_memory": "three"}))).outcome == "journaled"
    server.start()
    assert (await done(manager.replay(10.0))).pending == 0
    assert (await done(inner.retrieve(ID)))[0].working_memory == "three"

    memory = agent_memory(manager)
    for said in ("four", "five"):
        known = (await memory.retrieve(dict(ID)))[0].working_memory
        await memory.store({**ID, "working_memory": f"{known} {said}"})
    assert (await done(inner.retrieve(ID)))[0].working_memory == "three four five"
    assert (await done(manager.delete(ID))).outcome == "committed"
    for each in (manager, inner):
        await done(each.aclose() if hasattr(each, "aclose") else each.close())


async def done(answer: Any) -> Any:
    """Return an answer of either flavour; the calls of the synchronous one hold the loop up, which nobody else uses."""
    return await answer if asyncio.iscoroutine(answer) else answer


if __name__ == "__main__":
    main()
