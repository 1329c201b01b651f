"""Asynchronous managers behind synchronous calls, so that tests are written once and run in both flavours.

The tests of the modules that are named here run twice: as they stand, and with `RedisWorkingMemoryManager`, `resilient`
and `wrap` in their namespace replaced by what gives awaited managers.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any, Self

import pytest

import remanence
from remanence import AsyncRedisWorkingMemoryManager

MODULES = {
    "test_atomic_updates",
    "test_bounded_time",
    "test_disk_journal",
    "test_guarded_writes",
    "test_mended_outages",
    "test_outages",
    "test_redis",
    "test_server_states_through_the_stack",
    "test_server_time",
    "test_unsettled_writes",
}
WITH_UVLOOP = {"test_outages", "test_redis", "test_bounded_time"}
"""Those that run under uvloop, too: they break connections in every way."""

FLAVOURS = ("sync", "async")


class Loop:
    """One event loop for all of them, in a thread of its own: tests call from several threads."""

    def __init__(self, make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        self.loop = make()
        self._thread = threading.Thread(target=self.loop.run_forever, name="awaited", daemon=True)
        self._thread.start()

    def run(self, awaitable: Any) -> Any:
        """Return what is awaited."""

        async def wait() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(60)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what a function returns that is called in the loop."""

        async def call() -> Any:
            return function(*args, **kwargs)

        return self.run(call())

    def close(self) -> None:
        """End it."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class Awaited:
    """An asynchronous manager whose methods return when they are done."""

    def __init__(self, manager: Any, loop: Loop) -> None:
        self.__dict__.update(manager=manager, _loop=loop)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.manager, name)
        if name == "inner":
            return Awaited(found, self._loop)
        if not inspect.iscoroutinefunction(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._loop.run(found(*args, **kwargs))

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.manager, name, value)

    def close(self, *args: Any, **kwargs: Any) -> None:
        """Close the manager."""
        self._loop.run(self.manager.aclose(*args, **kwargs))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def in_both_flavours(metafunc: pytest.Metafunc) -> None:
    """Have a test run in both flavours, unless it is marked `sync_only`."""
    name = metafunc.module.__name__.rpartition(".")[2]
    if name in MODULES:
        only = metafunc.definition.get_closest_marker("sync_only") is not None
        awaited = (*FLAVOURS, "uvloop") if name in WITH_UVLOOP else FLAVOURS
        metafunc.parametrize("redis_flavour", FLAVOURS[:1] if only else awaited, indirect=True)


def put_in_place(module: Any, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put awaited managers in the place of the others in a test's module."""

    def manager(*args: Any, **kwargs: Any) -> Any:
        return Awaited(AsyncRedisWorkingMemoryManager(*args, **kwargs), loop)

    def decorating(function: Callable[..., Any]) -> Callable[..., Any]:
        def decorate(inner: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(inner, Awaited):
                return function(inner, *args, **kwargs)
            # In the loop: what waits in a journal is looked after from the beginning.
            return Awaited(loop.call(function, inner.manager, *args, **kwargs), loop)

        return decorate

    replaced = {
        "RedisWorkingMemoryManager": manager,
        "resilient": decorating(remanence.resilient),
        "wrap": decorating(remanence.wrap),
    }
    found = {name: value for name, value in replaced.items() if hasattr(module, name)}
    assert "RedisWorkingMemoryManager" in found
    for name, value in found.items():
        assert getattr(module, name) is getattr(remanence, name), f"{name} is something else in this module"
        monkeypatch.setattr(module, name, value)
