"""The framework's own managers inside our policies: their four methods, and a real outage.

A manager that is not ours tells texts and has no conditional write. So versions and guards are about texts, a guard is
a read before the write, and metadata cannot be read. A write that was acknowledged is brought home all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from remanence import (
    CircuitBreaker,
    CircuitOpenError,
    Deadline,
    Fallback,
    RedisWorkingMemoryManager,
    Retry,
    VersionConflictError,
    resilient,
    wrap,
)
from remanence.events import RetryScheduled
from remanence.flow import Call, KeptCopy
from remanence.lab import RedisServer
from remanence.record import encode
from tests.integrations.arshai.framework import Framework
from tests.relay import held, texts, value

POLICIES: dict[str, Callable[[], list[Any]]] = {
    "none": list,
    "fallback": lambda: [Fallback()],
    "deadline": lambda: [Deadline(5.0)],
    "retry": lambda: [Retry()],
    "breaker": lambda: [CircuitBreaker()],
    "all": lambda: [Fallback(), Deadline(5.0), Retry(), CircuitBreaker()],
}


@pytest.fixture(params=["redis", "memory"])
def foreign(request: pytest.FixtureRequest, framework: Framework) -> Any:
    """Either manager of theirs."""
    return framework.memory_manager() if request.param == "memory" else request.getfixturevalue("theirs")


@pytest.mark.parametrize("policies", POLICIES)
def test_their_managers_do_all_four_operations(foreign: Any, framework: Framework, policies: str) -> None:
    """In each policy alone and in all of them, by dict and by their DTO, with answers of ours."""
    manager: Any = wrap(foreign, *POLICIES[policies]())
    assert list(manager.retrieve(value())) == []
    receipt = manager.store(framework.input("one", metadata={"m": 1}))
    assert (receipt, receipt.outcome) == ("memory:WORKING_MEMORY:c", "committed")
    found = manager.retrieve(framework.input())
    assert ([memory.working_memory for memory in found], found.source) == (["one"], "redis")
    assert found.version == receipt.version is not None
    manager.update(value("two"))
    assert foreign.retrieve(framework.input())[0].working_memory == "two"
    assert manager.retrieve(value())[0].working_memory == "two"
    manager.delete(value())
    assert foreign.retrieve(framework.input()) == []
    with pytest.raises(ValueError, match="no data"):
        manager.store(framework.input())
    manager.close()


def test_versions_are_about_texts(foreign: Any) -> None:
    """A write on a version is refused once the text is another; metadata is written, and cannot be read."""
    manager: Any = resilient(foreign)
    first = manager.store({**value("one"), "metadata": {"m": 1}})
    assert manager.retrieve(value()).metadata == {}
    second = manager.store(value("two"), if_version=first.version)
    with pytest.raises(VersionConflictError):
        manager.store(value("three"), if_version=first.version)
    with pytest.raises(VersionConflictError):
        manager.store(value("three"), if_version=None)
    assert manager.retrieve(value()).version == second.version
    manager.mutate(value(), lambda text: f"{text}!")
    assert manager.retrieve(value())[0].working_memory == "two!"
    manager.close()


def test_the_deadline_says_what_it_cannot_do(foreign: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An attempt of a synchronous manager that is not ours cannot be interrupted."""
    with caplog.at_level(logging.WARNING, "remanence"):
        wrap(foreign, Deadline(1.0)).close()
    assert "cannot be interrupted" in caplog.text


@contextmanager
def away(server: RedisServer, framework: Framework, *policies: Any, **options: Any) -> Iterator[tuple[Any, Any]]:
    """Give their manager inside policies, with one memory stored; the server is killed then."""
    with framework.redis_manager(server.url) as foreign:
        manager: Any = wrap(foreign, *policies, **options)
        foreign.store(framework.input("real"))
        foreign.store(framework.input("other", conversation="d"))
        manager.retrieve(value())
        server.kill()
        try:
            yield manager, foreign
        finally:
            server.start()
            manager.close(0.0)


@pytest.mark.chaos
def test_an_outage_is_survived(framework: Framework, private_server: RedisServer) -> None:
    """Acknowledged writes of every kind are read back, and come home; their manager reads them then."""
    breaker = CircuitBreaker(failures=2, open_for=0.05)
    with away(private_server, framework, Fallback(), Deadline(5.0), Retry(attempts=2), breaker) as (manager, foreign):
        found = manager.retrieve(value())
        assert (found[0].working_memory, found.source) == ("real", "stale")
        assert manager.retrieve(value(conversation="unknown")).source == "none"
        assert manager.store({**value("new", "n"), "metadata": {"m": 1}}).outcome == "journaled"
        assert manager.update(value("real, updated")).outcome == "journaled"
        assert manager.delete(value(conversation="d")).outcome == "journaled"
        assert [manager.retrieve(value(conversation=name)).source for name in "ncd"] == ["journal"] * 3
        assert manager.retrieve(value(conversation="n"))[0].working_memory == "new"
        private_server.start()
        assert manager.replay(10.0).pending == 0
        assert [held(private_server.url, name) for name in "ncd"] == ["new", "real, updated", "other"]
        # Never read here, so the deletion was blind: what stands is not removed unseen, and the deletion is told.
        assert texts(manager) == [None]
        assert foreign.retrieve(framework.input(conversation="n"))[0].working_memory == "new"
    with RedisWorkingMemoryManager(private_server.url) as ours:
        assert ours.retrieve(value(conversation="n")).metadata == {"m": 1}


@pytest.mark.chaos
def test_what_somebody_else_stored_is_not_overwritten(framework: Framework, private_server: RedisServer) -> None:
    """A write made on an older text in an outage becomes a conflict copy, a conversation of theirs."""
    breaker = CircuitBreaker()
    with away(private_server, framework, Fallback(), breaker) as (manager, foreign):
        breaker.force_open()  # so that nothing is brought home before somebody else has stored
        assert manager.store(value("ours")).outcome == "journaled"
        private_server.start()
        foreign.store(framework.input("theirs"))
        breaker.reset()
        assert manager.replay(10.0).pending == 0
        assert foreign.retrieve(framework.input())[0].working_memory == "theirs"
        assert texts(manager) == ["ours"]
        (copy,) = manager.conflicts()
        name = f"remanence-conflict:c:{copy.digest}"
        assert foreign.retrieve(framework.input(conversation=name))[0].working_memory == "ours"


def test_a_delete_removes_the_conflict_copies(foreign: Any, framework: Framework) -> None:
    """They are conversations of the manager's own, with what a user may want to have gone."""
    manager: Any = resilient(foreign)
    raw = encode("lost", None, "", "")
    manager.store(value("held"))
    manager._submit(Call("keep", items=[KeptCopy("memory:WORKING_MEMORY:c", raw, 60.0)]))
    (copy,) = manager.conflicts()
    name = f"remanence-conflict:c:{copy.digest}"
    assert foreign.retrieve(framework.input(conversation=name))[0].working_memory == "lost"
    manager.delete(value())
    manager.close()
    assert foreign.retrieve(framework.input(conversation=name)) == []


@pytest.mark.chaos
def test_retry_repeats_until_the_server_is_back(framework: Framework, private_server: RedisServer) -> None:
    """The server comes back between the attempts."""
    told: list[Any] = []

    def listen(event: Any) -> None:
        told.append(event)
        private_server.start()

    with away(private_server, framework, Retry(), listeners=[listen]) as (manager, _):
        assert manager.store(value("again")).outcome == "committed"
    assert [type(event) for event in told] == [RetryScheduled]
    assert held(private_server.url) == "again"


@pytest.mark.chaos
def test_the_breaker_stops_asking(framework: Framework, private_server: RedisServer) -> None:
    """It opens on the errors that their client raises, which come through unchanged until then."""
    with away(private_server, framework, CircuitBreaker(failures=2, open_for=60)) as (manager, _):
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                manager.retrieve(value())
        private_server.start()
        with pytest.raises(CircuitOpenError):
            manager.store(value("never sent"))
    assert held(private_server.url) == "real"
