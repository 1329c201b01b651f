"""The manager without Redis: the same semantics, bounded, safe under threads, never scanning everything."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from remanence import (
    AsyncInMemoryManager,
    ConfigurationError,
    CorruptRecordError,
    InMemoryManager,
    VersionConflictError,
)
from remanence.flow import Call, KeptCopy, WriteItem
from remanence.record import encode
from tests.support import FakeClock, run, threads

KINDS = [InMemoryManager, AsyncInMemoryManager]
KEY = "memory:WORKING_MEMORY:c"


def item(text: str = "text", conversation_id: str = "c", **more: Any) -> dict[str, Any]:
    """Return an input."""
    return {"conversation_id": conversation_id, "working_memory": text, **more}


@pytest.mark.parametrize("kind", KINDS)
class TestBoth:
    """What holds for the synchronous and the asynchronous one."""

    def test_the_operations(self, kind: Any) -> None:
        """Store, retrieve, update, delete and their outcomes are those of the Redis manager."""
        manager = kind()
        assert run(manager.update(item())).outcome == "missing"
        first = run(manager.store(item("one", metadata={"a": 1})))
        assert first == KEY
        created = run(manager.retrieve(item())).created_at
        second = run(manager.update(item("two", metadata={"b": 2}), if_version=first.version))
        answer = run(manager.retrieve(item()))
        assert (answer[0].working_memory, answer.metadata, answer.version) == ("two", {"a": 1, "b": 2}, second.version)
        assert (answer.created_at, answer.source) == (created, "redis")
        assert run(manager.delete(item())).outcome == "committed"
        assert run(manager.delete(item())).outcome == "missing"
        assert run(manager.retrieve(item())) == []

    def test_versions(self, kind: Any) -> None:
        """Absent, this one, stale."""
        manager = kind()
        version = run(manager.store(item("one"), if_version=None)).version
        with pytest.raises(VersionConflictError):
            run(manager.store(item("two"), if_version=None))
        run(manager.store(item("two"), if_version=version))
        with pytest.raises(VersionConflictError):
            run(manager.update(item("three"), if_version=version))
        assert run(manager.retrieve(item()))[0].working_memory == "two"

    def test_mutate(self, kind: Any) -> None:
        """From nothing, and on top of what is there."""
        manager = kind()
        for expected in ("None+", "None++"):
            run(manager.mutate(item(), lambda text: f"{text}+"))
            assert run(manager.retrieve(item()))[0].working_memory == expected

    def test_memories_expire(self, kind: Any) -> None:
        """At the end of the TTL, not before; writing renews it; an expired one cannot be updated or deleted."""
        clock = FakeClock()
        manager = kind(ttl=10, clock=clock)
        run(manager.store(item("one")))
        clock.advance(9)
        assert run(manager.retrieve(item()))
        run(manager.update(item("two")))
        clock.advance(9.5)
        assert run(manager.retrieve(item()))
        clock.advance(0.5)
        assert run(manager.delete(item())).outcome == "missing"
        assert run(manager.update(item("three"))).outcome == "missing"
        run(manager.store(item("four")))
        clock.advance(10)
        assert not run(manager.retrieve(item()))
        assert run(manager.store(item("five"), if_version=None)).outcome == "committed"

    def test_without_a_ttl_they_live_for_ever(self, kind: Any) -> None:
        """None means never."""
        clock = FakeClock()
        manager = kind(ttl=None, clock=clock)
        run(manager.store(item()))
        clock.advance(10**9)
        assert run(manager.retrieve(item()))

    def test_the_oldest_written_goes_when_there_are_too_many(self, kind: Any) -> None:
        """The limit of memories holds, reading does not save one, writing does."""
        manager = kind(max_entries=3)
        for name in "abc":
            run(manager.store(item("t", name)))
        run(manager.retrieve(item("", "a")))
        run(manager.store(item("t", "b")))
        run(manager.store(item("t", "d")))
        found = [bool(run(manager.retrieve(item("", name)))) for name in "abcd"]
        assert found == [False, True, True, True]
        assert run(manager.perform(Call("identify")))[1] == 1

    def test_the_oldest_written_goes_when_they_are_too_large(self, kind: Any) -> None:
        """The limit of bytes holds; a single memory stays even if it is larger."""
        size = len(encode("x" * 1_000, None, "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"))
        manager = kind(max_bytes=3 * size, clock=FakeClock())
        for name in "abcd":
            run(manager.store(item("x" * 1_000, name)))
        assert [bool(run(manager.retrieve(item("", name)))) for name in "abcd"] == [False, True, True, True]
        run(manager.store(item("x" * 10_000, "large")))
        assert run(manager.retrieve(item("", "large")))
        assert len(manager.backend) == 1
        run(manager.delete(item("", "large")))
        for name in "abc":
            run(manager.store(item("x" * 1_000, name)))
        assert len(manager.backend) == 3

    def test_a_store_makes_room_from_the_expired_first(self, kind: Any) -> None:
        """What has expired is gone without being asked for, and counts as no eviction."""
        clock = FakeClock()
        manager = kind(ttl=10, max_entries=2, clock=clock)
        run(manager.store(item("t", "a")))
        run(manager.store(item("t", "b")))
        clock.advance(10)
        run(manager.store(item("t", "c")))
        assert len(manager.backend) == 1
        assert run(manager.perform(Call("identify")))[1] == 0

    def test_conflict_copies_are_listed_until_they_expire_or_go_with_the_memory(self, kind: Any) -> None:
        """As in Redis."""
        clock = FakeClock()
        manager = kind(clock=clock)
        copies = [KeptCopy(KEY, encode("lost", None, "a", "b"), 10.0), KeptCopy(KEY, None, 20.0)]
        assert run(manager.perform(Call("keep", items=copies))) == [None, None]
        assert {copy.text for copy in run(manager.perform(Call("kept")))[0]} == {"lost", None}
        clock.advance(10)
        assert [copy.text for copy in run(manager.perform(Call("kept")))[0]] == [None]
        run(manager.perform(Call("keep", items=[KeptCopy("memory:WORKING_MEMORY:d", None, 99.0)])))
        assert [len(kept) for kept in manager.backend._kept.values()] == [1, 1]
        run(manager.delete(item()))
        assert [copy.conversation_id for copy in run(manager.perform(Call("kept")))[0]] == ["d"]
        run(manager.delete_many([item("", "d")]))
        assert run(manager.perform(Call("kept")))[0] == []

    def test_a_record_that_cannot_be_read(self, kind: Any) -> None:
        """It is an error here as well."""
        manager = kind()
        run(manager.perform(Call("reconcile", items=[WriteItem(KEY, b"rubbish", None, None)])))
        with pytest.raises(CorruptRecordError):
            run(manager.retrieve(item()))
        assert isinstance(run(manager.retrieve_many([item()]))[0], CorruptRecordError)

    @pytest.mark.parametrize("options", [{"max_entries": 0}, {"max_entries": 1.5}, {"max_bytes": -1}])
    def test_limits_are_whole_and_positive(self, kind: Any, options: dict[str, Any]) -> None:
        """Checked at construction."""
        with pytest.raises(ConfigurationError):
            kind(**options)

    def test_the_repr_shows_no_memory(self, kind: Any) -> None:
        """Nothing of what is stored, no key."""
        manager = kind()
        run(manager.store(item("canary-text", "canary-id")))
        assert "canary" not in f"{manager!r} {manager.backend!r}"


def test_both_are_context_managers() -> None:
    """Each in its own world."""
    with InMemoryManager() as manager:
        manager.store(item())

    async def use() -> bool:
        async with AsyncInMemoryManager() as manager:
            await manager.store(item())
            return bool(await manager.retrieve(item()))

    assert asyncio.run(use())


def test_the_asynchronous_one_has_the_same_operations() -> None:
    """No operation of one is missing in the other, and their parameters are the same."""
    for name in ("store", "retrieve", "update", "delete", "mutate", "store_many", "retrieve_many", "delete_many"):
        ours, theirs = getattr(InMemoryManager, name), getattr(AsyncInMemoryManager, name)
        assert inspect.iscoroutinefunction(theirs)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


@pytest.fixture
def restless() -> Iterator[None]:
    """Let threads change places as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_threads_lose_nothing() -> None:
    """Eight threads that each add fifty marks leave four hundred, and the books are right."""
    manager = InMemoryManager(max_entries=50, max_bytes=10**6)

    def work(number: int) -> None:
        for turn in range(50):
            mark = f"{number}.{turn} "
            manager.mutate(item(), _appending(mark))
            manager.store(item("t", f"{number}.{turn % 5}"))
            manager.retrieve(item("", f"{(number + 1) % 8}.{turn % 5}"))
            manager.delete(item("", f"{number}.{(turn + 1) % 5}"))

    with threads(8, work):
        pass
    kept = manager.retrieve(item())[0].working_memory.split()
    assert sorted(kept) == sorted(f"{number}.{turn}" for number in range(8) for turn in range(50))
    backend = manager.backend
    assert backend._bytes == sum(len(raw) for raw, _ in backend._entries.values())


def test_a_store_does_not_look_at_all_the_others() -> None:
    """Expired memories are found at the front, so the cost of a write does not grow with what is stored."""
    clock = FakeClock()
    manager = InMemoryManager(ttl=1_000, clock=clock)
    for number in range(300):
        manager.store(item("t", f"c{number}"))
        clock.advance(1)
    looked = 0

    class Counting(dict[str, Any]):
        def items(self) -> Any:
            nonlocal looked
            for pair in super().items():
                looked += 1
                yield pair

    entries = manager.backend._entries
    manager.backend._entries = Counting(entries)  # type: ignore[assignment]
    manager.store(item("t", "one more"))
    assert 1 <= looked <= 2


def _appending(mark: str) -> Callable[[str | None], str]:
    return lambda text: (text or "") + mark
