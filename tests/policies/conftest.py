"""The two worlds in which every policy is tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from remanence import AsyncInMemoryManager, InMemoryManager
from tests.policies.setting import Setting
from tests.support import AsyncScriptedManager, FakeClock, Script, ScriptedManager, run


@dataclass(frozen=True)
class Flavour:
    """A world: synchronous or asynchronous managers, and how to get an answer from one."""

    is_async: bool

    def manager(self, script: Script | None = None, **options: Any) -> Any:
        """Return an in-memory manager, failing by `script` where one is given."""
        if script is None:
            return AsyncInMemoryManager(**options) if self.is_async else InMemoryManager(**options)
        return AsyncScriptedManager(script, **options) if self.is_async else ScriptedManager(script, **options)

    def run(self, value: Any) -> Any:
        """Return a call's answer."""
        return run(value)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> Flavour:
    """Run the test over the synchronous and the asynchronous in-memory manager."""
    return Flavour(is_async=request.param)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until it is slept on or advanced."""
    return FakeClock()


@pytest.fixture
def make(flavour: Any, clock: FakeClock) -> Iterator[Callable[..., Setting]]:
    """Return the function that makes a setting in either world."""
    made: list[Setting] = []

    def make(*policies: Any, **options: Any) -> Setting:
        made.append(Setting(flavour, clock, *policies, **options))
        return made[-1]

    yield make
    for one in made:
        one.abandon()


@pytest.fixture
def it(make: Callable[..., Setting]) -> Setting:
    """A setting with the default fallback."""
    return make()
