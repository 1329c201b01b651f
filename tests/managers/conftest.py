"""The tests of the Redis manager run twice: as they stand, and with the awaited manager behind the same calls."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any, Self

import pytest

from remanence import AsyncRedisWorkingMemoryManager, RedisWorkingMemoryManager

_BOTH = {
    "test_atomic_updates",
    "test_bounded_time",
    "test_guarded_writes",
    "test_redis",
    "test_server_time",
    "test_unsettled_writes",
}


class _Loop:
    """One event loop for all of them, in a thread of its own: tests call from several threads."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="awaited", daemon=True)
        self._thread.start()

    def run(self, awaitable: Any) -> Any:
        async def wait() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(60)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class Awaited:
    """An asynchronous manager whose methods return when they are done."""

    def __init__(self, manager: Any, loop: _Loop) -> None:
        self.__dict__.update(manager=manager, _loop=loop)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.manager, name)
        if not inspect.iscoroutinefunction(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._loop.run(found(*args, **kwargs))

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.manager, name, value)

    def close(self) -> None:
        """Close the manager."""
        self._loop.run(self.manager.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@pytest.fixture(scope="session")
def _loop() -> Any:
    loop = _Loop()
    yield loop
    loop.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test in both flavours, unless it is marked `sync_only`."""
    if metafunc.module.__name__.rpartition(".")[2] in _BOTH and "flavour" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("sync_only") is not None
        metafunc.parametrize("flavour", ["sync"] if only else ["sync", "async"], indirect=True)


@pytest.fixture(autouse=True)
def flavour(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the awaited manager in the place of the other where a test asks for that."""
    name: str = getattr(request, "param", "sync")
    if name == "async":
        loop = request.getfixturevalue("_loop")

        def awaited(*args: Any, **kwargs: Any) -> Any:
            return Awaited(AsyncRedisWorkingMemoryManager(*args, **kwargs), loop)

        module: Any = request.module
        assert module.RedisWorkingMemoryManager is RedisWorkingMemoryManager
        monkeypatch.setattr(module, "RedisWorkingMemoryManager", awaited)
    return name
