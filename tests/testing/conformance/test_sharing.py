"""What two managers must not have in common."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from remanence import InMemoryManager, RedisWorkingMemoryManager, resilient, wrap
from remanence.testing.conformance.sharing import shared
from tests.support import FakeClock


class Holder:
    """A manager, as far as this is concerned."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    """One without a dictionary of attributes."""

    __slots__ = ("_client",)

    def __init__(self, client: Any) -> None:
        self._client = client


class LockedClock(FakeClock):
    """A clock that several threads may set."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Setting:
    """An object without a state that changes."""

    limit = 7


@pytest.mark.parametrize(
    "thing",
    [{}, [], set(), threading.Lock(), threading.RLock(), threading.Condition(), asyncio.Lock(), redis.Redis()],
    ids=lambda thing: type(thing).__name__,
)
def test_a_container_a_lock_or_a_client_is_reported(thing: Any) -> None:
    """By the attribute's name and its kind."""
    found = shared(Holder(_thing=thing), Holder(_other_name=thing))
    assert found == [f"_thing (a {type(thing).__name__})"]


def test_a_connection_of_a_compiled_class_is_reported() -> None:
    """Although it shows no attributes."""
    with closing(sqlite3.connect(":memory:")) as connection:
        assert shared(Holder(db=connection), Holder(db=connection)) == ["db (a Connection)"]


def test_the_same_manager_is_reported() -> None:
    """Twice the same is the most that can be shared."""
    manager = InMemoryManager()
    assert shared(manager, manager) == ["the manager itself"]


def test_what_parts_of_them_hold_is_reported() -> None:
    """A repository around the client, a policy around the manager, a class with slots."""
    client = redis.Redis()
    one, other = (Holder(repository=SimpleNamespace(session=Slotted(client))) for _ in range(2))
    assert shared(one, other) == ["repository.session._client (a Redis)"]
    client = redis.Redis(retry=Retry(NoBackoff(), 0), socket_timeout=1)
    wrapped = [wrap(RedisWorkingMemoryManager(client=client)) for _ in range(2)]
    assert shared(*wrapped) == ["_native.redis_client (a Redis)"]
    inner = InMemoryManager()
    assert "inner (a InMemoryManager)" in shared(wrap(inner), wrap(inner))


@pytest.mark.parametrize(
    "thing",
    [None, 7, "text", (1, 2), frozenset({1}), int, len, Setting(), LockedClock(), SimpleNamespace],
    ids=lambda thing: type(thing).__name__,
)
def test_what_nobody_changes_is_not_reported(thing: Any) -> None:
    """Values, functions, classes; and clocks, which are there to be shared."""
    assert shared(Holder(thing=thing), Holder(thing=thing)) == []


def test_equal_things_are_not_shared_things() -> None:
    """Each may have an empty dictionary of its own."""
    assert shared(Holder(a={}, b=[]), Holder(a={}, b=[])) == []


def test_our_managers_share_nothing() -> None:
    """However they are made."""
    assert shared(InMemoryManager(), InMemoryManager()) == []
    assert shared(resilient(InMemoryManager()), resilient(InMemoryManager())) == []
    url = "redis://127.0.0.1:1/0"
    with RedisWorkingMemoryManager(url) as one, RedisWorkingMemoryManager(url) as other:
        assert shared(one, other) == []
        assert shared(resilient(one), resilient(other)) == []


def test_what_goes_round_in_circles_is_looked_at_once() -> None:
    """Parts may know their owner."""
    one, other, lock = Holder(), Holder(), threading.Lock()
    one.__dict__.update(part=Holder(owner=one, lock=lock))
    other.__dict__.update(part=Holder(owner=other, lock=lock))
    assert shared(one, other) == ["part.lock (a lock)"]
