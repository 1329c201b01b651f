"""What two managers must not have in common."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import redis
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from redis.backoff import NoBackoff
from redis.retry import Retry

from remanence import InMemoryManager, RedisWorkingMemoryManager, resilient, wrap
from remanence.testing.conformance import sharing
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


class Repository:
    """A part of a manager, with a container."""

    def __init__(self, held: Any) -> None:
        self.held = held


class Counter:
    """What a library for metrics has: a lock, and what it counted."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: dict[str, int] = {}

    def inc(self) -> None:
        """Count."""
        self.counts["stores"] = self.counts.get("stores", 0) + 1


class Speaks:
    """A client that is never closed."""

    def __init__(self) -> None:
        self.host = "h"

    def execute(self, command: str) -> None:
        """Do it."""


class InTheClass:
    """Has one dictionary for all of its objects."""

    _data: ClassVar[dict[str, Any]] = {}


def shared(one: object, other: object, use: Callable[[], object] = lambda: None) -> list[str]:
    """Ask for a memory of the conversation "my-id" with the text "my-text"."""
    return sharing.shared(one, other, use, ("my-id", "my-text"))


@pytest.mark.parametrize("client", [redis.Redis(), Speaks()], ids=lambda client: type(client).__name__)
def test_a_client_is_reported(client: Any) -> None:
    """By the attribute's name and its kind; also where it is the class's."""
    found = shared(Holder(_thing=client), Holder(_other_name=client))
    assert found == [f"_thing (a {type(client).__name__})"]
    cls = type("InItsClass", (), {"_client": client})
    assert shared(cls(), cls()) == [f"_client (a {type(client).__name__})"]


@pytest.mark.parametrize(
    ("held", "add"),
    [
        ({}, lambda held: held.update(k=1)),
        ({"a": {}}, lambda held: held["a"].update(k=1)),
        ({"n": 1_000}, lambda held: held.update(n=1_001)),
        ([], lambda held: held.append(1)),
        (set(), lambda held: held.add(1)),
        (deque([1], maxlen=1), lambda held: held.append(2)),
    ],
)
def test_a_container_that_the_use_of_one_changes_is_reported(held: Any, add: Callable[[Any], object]) -> None:
    """Whatever is put into it; one that stays as it is is a constant."""
    one, other = Holder(_thing=held), Holder(_thing=held)
    assert shared(one, other) == []
    assert shared(one, other, lambda: add(held)) == [f"_thing (a {type(held).__name__})"]


def test_a_container_of_the_class_is_reported() -> None:
    """It is the same for all managers, though none has it as its own."""
    assert shared(InTheClass(), InTheClass()) == []
    used = shared(InTheClass(), InTheClass(), lambda: InTheClass._data.update(k=1))
    assert used == ["_data (a dict)"]


@pytest.mark.parametrize(
    "entry",
    [
        ("key:my-id", 1),
        ("k", "my-text"),
        ("k", b"{my-text}"),
        (("kind", "my-id"), 1),
        ("k", SimpleNamespace(t="my-text")),
    ],
)
def test_a_memory_in_a_container_of_a_part_is_reported(entry: tuple[Any, Any]) -> None:
    """In a part that is shared, or in two parts around one container."""
    held: dict[Any, Any] = {}
    one, other = Holder(repository=Repository(held)), Holder(repository=Repository(held))
    assert shared(one, other, lambda: held.__setitem__(*entry)) == ["repository.held (a dict)"]
    held.clear()
    part = Repository(held)
    assert shared(Holder(p=part), Holder(p=part), lambda: held.__setitem__(*entry)) == ["p.held (a dict)"]


def test_what_a_part_counts_is_its_own_concern() -> None:
    """A metric is made to be shared, with its lock; its use changes it."""
    counter = Counter()
    assert shared(Holder(counter=counter), Holder(counter=counter), counter.inc) == []
    assert counter.counts == {"stores": 1}


def test_what_opentelemetry_and_asyncio_share_is_not_reported() -> None:
    """A tracer with its processor and exporter, the running loop, a logger."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    tracer = provider.get_tracer("t")
    loop = asyncio.new_event_loop()
    try:
        for thing in (tracer, loop, logging.getLogger("x"), logging.StreamHandler()):
            assert shared(Holder(thing=thing), Holder(thing=thing)) == []
    finally:
        loop.close()
        provider.shutdown()


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
    assert shared(wrapped[0], wrapped[1]) == ["_native.redis_client (a Redis)"]
    inner = InMemoryManager()
    assert "inner (a InMemoryManager)" in shared(wrap(inner), wrap(inner))


@pytest.mark.parametrize(
    "thing",
    [
        None,
        7,
        "text",
        (1, 2),
        frozenset({1}),
        int,
        len,
        Setting(),
        LockedClock(),
        SimpleNamespace,
        threading.Lock(),
        json,
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_nobody_changes_is_not_reported(thing: Any) -> None:
    """Values, functions, classes, modules; and clocks and locks, which are there to be shared."""
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
    one, other, client = Holder(), Holder(), Speaks()
    one.__dict__.update(part=Holder(owner=one, client=client))
    other.__dict__.update(part=Holder(owner=other, client=client))
    assert shared(one, other) == ["part.client (a Speaks)"]
