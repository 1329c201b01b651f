"""Our stacks for the framework's agent, whose breaker asks again soon; a new one is a new process: it knows nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from remanence import (
    AsyncRedisWorkingMemoryManager,
    CircuitBreaker,
    CircuitOpenError,
    Deadline,
    RedisWorkingMemoryManager,
    Retry,
    resilient,
)

__all__ = ["FLAVOURS", "ask", "home", "stack"]

FLAVOURS = ("sync", "async")


@asynccontextmanager
async def stack(url: str, flavour: str, *, timeout: float = 5.0) -> AsyncIterator[Any]:  # noqa: ASYNC109 - an attempt's
    """Give `resilient(…)` around a manager of ours, and end both.

    Args:
        url: Of the server.
        flavour: One of `FLAVOURS`.
        timeout: Seconds that an attempt may take: short where the server freezes, else long enough for a busy machine.
    """
    kind: Any = RedisWorkingMemoryManager if flavour == "sync" else AsyncRedisWorkingMemoryManager
    inner = kind(url, timeout=timeout)
    manager: Any = resilient(
        inner, deadline=Deadline(1.5 * timeout), retry=Retry(attempts=2), circuit_breaker=CircuitBreaker(open_for=0.05)
    )
    try:
        yield manager
    finally:
        for each in (manager, inner):
            await (asyncio.to_thread(each.close) if flavour == "sync" else each.aclose())


async def ask(method: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a method of either flavour without holding the loop up."""
    if asyncio.iscoroutinefunction(method):
        return await method(*args, **kwargs)
    return await asyncio.to_thread(method, *args, **kwargs)


async def home(manager: Any) -> list[str | None]:
    """Have everything that waits brought home; returns the texts of the conflict copies, sorted."""
    counts = await ask(manager.replay, 10.0)
    assert (counts.pending, counts.stuck) == (0, 0)
    async with asyncio.timeout(10):
        while True:
            try:
                return sorted((conflict.text for conflict in await ask(manager.conflicts)), key=str)
            except CircuitOpenError as error:  # the server is back, and the breaker has not asked it yet
                await asyncio.sleep(max(error.retry_after, 0.01))
