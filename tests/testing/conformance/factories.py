"""Factories for the command line: good ones, and ones that cannot be used."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from remanence import AsyncInMemoryManager, InMemoryManager, IWorkingMemory, RedisWorkingMemoryManager
from tests.support import FakeClock
from tests.testing.conformance.dictionary import World
from tests.testing.conformance.mutants import LacksUpdate, TakesObjectsOnly

MADE: list[Any] = []
CLOCK = FakeClock()
STOPS: dict[int, Callable[[], None]] = {}
NOT_CALLABLE = 7


def counted() -> InMemoryManager:
    """Make a manager, and note it."""
    MADE.append(InMemoryManager())
    return MADE[-1]  # type: ignore[no-any-return]


def with_options(url: str | None = None, *, ttl: float = 60) -> InMemoryManager:
    """Take a URL and a time to live, and note them."""
    MADE.append((url, ttl))
    return InMemoryManager(ttl=ttl, clock=CLOCK)


def on_redis(url: str, ttl: float = 60) -> RedisWorkingMemoryManager:
    """Make a manager on Redis."""
    return RedisWorkingMemoryManager(url, ttl=ttl, timeout=0.5)


def counted_on_redis(url: str) -> RedisWorkingMemoryManager:
    """Make a manager, and at a number that is named do what is to be done."""
    MADE.append(url)
    STOPS.get(len(MADE), lambda: None)()
    return on_redis(url)


async def awaited() -> AsyncInMemoryManager:
    """Make one in a loop."""
    await asyncio.sleep(0)
    return AsyncInMemoryManager()


def in_a_loop() -> AsyncInMemoryManager:
    """Make one that must be made where a loop runs."""
    asyncio.get_running_loop()
    return AsyncInMemoryManager()


@cache
def always_the_same() -> InMemoryManager:
    """Make one, once."""
    return InMemoryManager()


def lacking() -> Any:
    """Make a manager without update."""
    return LacksUpdate(World())


def takes_no_dicts() -> Any:
    """Make a manager that takes objects only."""
    return TakesObjectsOnly(World())


def raising() -> None:
    """Raise, with a secret in the message."""
    message = "cannot connect to redis://user:hunter2@example.invalid"
    raise RuntimeError(message)


def nothing() -> None:
    """Make nothing."""


def the_class() -> type[InMemoryManager]:
    """Forget to call it."""
    return InMemoryManager


def coroutine() -> Any:
    """Call a coroutine function, and leave it to others to await."""
    return awaited()


def exiting() -> None:
    """End the program, as if all were well."""
    sys.exit(0)


def skipping() -> None:
    """Raise what a test runner takes for a skipped test."""
    raise SkippedError


class SkippedError(BaseException):
    """What is no Exception."""


class Exits(InMemoryManager):
    """Its update ends the program."""

    def update(self, input: Any, **_: Any) -> Any:  # noqa: A002, ARG002
        """End it."""
        sys.exit(0)


class Skips(InMemoryManager):
    """Its update skips."""

    def update(self, input: Any, **_: Any) -> Any:  # noqa: A002, ARG002
        """Raise what is no Exception."""
        raise SkippedError


class ExitsAwaited(AsyncInMemoryManager):
    """Its update ends the program, in a loop."""

    async def update(self, input: Any, **_: Any) -> Any:  # noqa: A002, ARG002
        """End it."""
        sys.exit(0)


class Delegates:
    """Its methods are plain functions that return what must be awaited."""

    def __init__(self) -> None:
        self._inner = AsyncInMemoryManager()

    def store(self, input: Any) -> Any:  # noqa: A002
        """Hand it on."""
        return self._inner.store(input)

    def retrieve(self, input: Any) -> Any:  # noqa: A002
        """Hand it on."""
        return self._inner.retrieve(input)

    def update(self, input: Any) -> Any:  # noqa: A002
        """Hand it on."""
        return self._inner.update(input)

    def delete(self, input: Any) -> Any:  # noqa: A002
        """Hand it on."""
        return self._inner.delete(input)


class DelegatesTasks(Delegates):
    """Its methods return tasks, for which a loop must run."""

    def retrieve(self, input: Any) -> Any:  # noqa: A002
        """Hand it on."""
        return asyncio.get_running_loop().create_task(self._inner.retrieve(input))


class CannotBeClosed(InMemoryManager):
    """Its close raises."""

    def close(self) -> None:
        """Raise."""
        raise OSError


class Hangs(InMemoryManager):
    """Its update never ends."""

    def update(self, input: Any, **_: Any) -> Any:  # noqa: A002, ARG002 - the interface's own name
        """Wait for ever."""
        threading.Event().wait()


class HangsInAnExecutor:
    """Its update waits in a thread for which Python waits at its end."""

    async def store(self, _: Any) -> str:
        """Do nothing."""
        return ""

    async def retrieve(self, _: Any) -> list[IWorkingMemory]:
        """Find nothing."""
        return []

    async def update(self, _: Any) -> None:
        """Wait for ever."""
        await asyncio.to_thread(threading.Event().wait)

    async def delete(self, _: Any) -> None:
        """Do nothing."""


class HangsAtOnce(HangsInAnExecutor):
    """So does its retrieve."""

    async def retrieve(self, _: Any) -> list[IWorkingMemory]:
        """Wait for ever."""
        print("a retrieve hangs", flush=True)  # noqa: T201 - a test waits for it
        await asyncio.to_thread(threading.Event().wait)
        return []
