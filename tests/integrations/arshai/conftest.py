"""What the tests against the framework share: the framework, and a manager of ours of either flavour."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from remanence import AsyncRedisWorkingMemoryManager, RedisWorkingMemoryManager
from remanence.lab import RedisServer
from tests.integrations.arshai.framework import SETEX, Framework, load


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the framework's manager call what redis-py would rather not have called."""
    for item in items:
        if "framework" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.filterwarnings(SETEX))


@pytest.fixture
def framework() -> Framework:
    """The framework, imported by the first test that asks for it."""
    return load()


class Called:
    """An asynchronous manager, called as a synchronous one."""

    def __init__(self, manager: Any, runner: asyncio.Runner) -> None:
        self._manager = manager
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._manager, name)
        return lambda *args, **kwargs: self._runner.run(method(*args, **kwargs))


@pytest.fixture(params=["sync", "async"])
def ours(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Any]:
    """A manager of ours on the shared, emptied server, called alike in both flavours."""
    if request.param == "sync":
        with RedisWorkingMemoryManager(redis_url) as manager:
            yield manager
        return
    with asyncio.Runner() as runner:
        awaited = AsyncRedisWorkingMemoryManager(redis_url)
        yield Called(awaited, runner)
        runner.run(awaited.aclose())


@pytest.fixture
def private_server() -> Iterator[RedisServer]:
    """A server of this test's own that loses nothing when it is killed, as `everysec` may while a sync is slow."""
    with RedisServer(durability="always") as own:
        yield own


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    """A plain client for what is stored, as it is stored."""
    with redis.Redis.from_url(redis_url) as plain:
        yield plain


@pytest.fixture
def theirs(framework: Framework, redis_url: str) -> Iterator[Any]:
    """The framework's manager on the same server."""
    with framework.redis_manager(redis_url) as manager:
        yield manager
