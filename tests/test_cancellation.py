"""A caller that is cancelled at any await, on a real server that is well, dead or frozen: nothing is left half done."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from remanence import AsyncRedisWorkingMemoryManager, CircuitBreaker, Fallback, Retry, resilient
from remanence.lab import RedisServer
from tests.relay import held, value
from tests.support import run_bounded

pytestmark = pytest.mark.chaos

TIMEOUT = 0.3
CONNECTIONS = 50
_MOST = 60
"""No call here awaits as often; a sweep that gets there goes round in circles."""

CALLS: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
    "store": lambda manager: manager.store(value("cancelled")),
    "guarded store": lambda manager: manager.store(value("cancelled"), if_version="0" * 40),
    "retrieve": lambda manager: manager.retrieve(value()),
    "update": lambda manager: manager.update(value("cancelled")),
    "delete": lambda manager: manager.delete(value()),
    "mutate": lambda manager: manager.mutate(value(), lambda _: "cancelled"),
    "store_many": lambda manager: manager.store_many([value("cancelled"), value("cancelled", "d")]),
    "replay": lambda manager: manager.replay(0.1),
    "conflicts": lambda manager: manager.conflicts(),
}


@types.coroutine
def _cancelled_at(coroutine: Coroutine[Any, Any, Any], number: int) -> Generator[Any, Any, Any]:
    """Run a coroutine in this task, which is cancelled as it waits for the `number`th time."""
    task = asyncio.current_task()
    assert task is not None
    steps = coroutine.__await__()
    failure: BaseException | None = None
    waits = 0
    while True:
        try:
            waiting = steps.send(None) if failure is None else steps.throw(failure)
        except StopIteration as stop:
            return stop.value
        waits += 1
        if waits == number:
            task.get_loop().call_soon(task.cancel)
        failure = None
        try:
            yield waiting
        except BaseException as error:  # noqa: BLE001 - handed on
            failure = error


async def _was_cancelled(coroutine: Coroutine[Any, Any, Any], number: int) -> bool:
    """Whether a call was cancelled at an await, and had not ended before; it may fail by itself."""

    async def body() -> Any:
        return await _cancelled_at(coroutine, number)

    task = asyncio.create_task(body())
    await asyncio.wait((task,))
    if task.cancelled():
        return True
    task.exception()  # an outage, perhaps
    return False


def _stack(url: str, journal: Any) -> Any:
    manager = resilient(
        AsyncRedisWorkingMemoryManager(url, timeout=TIMEOUT),
        fallback=Fallback(journal=journal, close_timeout=5.0),
        deadline=1.0,
        retry=Retry(attempts=2),
        circuit_breaker=CircuitBreaker(failures=1, open_for=0.001, open_for_max=0.001, minimum_calls=1_000),
    )
    manager._background.wake = lambda: None  # type: ignore[method-assign,union-attr] # it would take the permit of a call
    return manager


async def _change(server: RedisServer, manager: Any, weather: str) -> None:
    """Make the weather; where it is not good, the breaker knows, and lets one call try."""
    if weather == "frozen":
        server.freeze()
        manager.inner.timeout = 0.05
    elif weather != "well":
        server.kill()
    if weather != "well":
        assert (await manager.store(value("waiting", "w"))).outcome == "journaled"
    if weather == "half-open":
        server.start()
    await asyncio.sleep(0.002)


async def _sees_nothing_left(server: RedisServer, manager: Any, number: int) -> None:
    """Write once more, and see that everything is as if nothing had happened."""
    if not server.running:
        server.start()
    server.thaw()
    manager.inner.timeout = TIMEOUT
    assert (await manager.store(value("after"))).outcome in {"committed", "journaled"}
    counts = await manager.replay(5.0)
    assert (counts.pending, counts.stuck) == (0, 0)
    assert manager._breaker.state.value == "closed"
    text = await asyncio.to_thread(held, server.url)
    copies = [conflict.text for conflict in await manager.conflicts()]
    # Kept as a copy where a deletion that was cut off long ago looks like somebody else's.
    assert text == "after" or copies == ["after"], f"cancelled at await {number}: {text!r}, copies {copies}"
    assert manager.inner.redis_client._mine()._free._value == CONNECTIONS, "a connection is not given back"


@pytest.mark.parametrize(
    ("kept", "call", "weather"),
    [("memory", call, weather) for call in CALLS for weather in ("well", "dead", "half-open")]
    + [("memory", call, "frozen") for call in ("store", "store_many", "replay")]
    # Where the file makes a difference: its thread's steps are awaited, too.
    + [("disk", call, weather) for call in ("store", "mutate", "replay") for weather in ("dead", "half-open")],
)
def test_a_call_that_is_cancelled_at_any_await_leaves_everything_in_order(
    private_server: RedisServer, tmp_path: Path, kept: str, call: str, weather: str
) -> None:
    """What was acknowledged before and after it is there, permits and connections are free, and nothing waits."""

    async def sweep() -> int:
        manager = _stack(private_server.url, "memory" if kept == "memory" else tmp_path / "journal")
        for number in range(1, _MOST):
            assert (await manager.store(value("before"))).outcome in {"committed", "journaled"}
            await _change(private_server, manager, weather)
            was_cancelled = await _was_cancelled(CALLS[call](manager), number)
            await _sees_nothing_left(private_server, manager, number)
            if not was_cancelled:
                await manager.aclose()
                await manager.inner.aclose()
                return number - 1
        raise AssertionError("it never ends")

    awaits = run_bounded(sweep(), 60.0)
    assert awaits >= (0 if (call, weather) == ("replay", "well") else 1)
