"""Faults that were found and mended, on a real server or with real threads and tasks: what must not come back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from remanence import CircuitBreaker, Fallback, InMemoryManager, RedisWorkingMemoryManager, resilient, wrap
from remanence.errors import ManagerClosedError
from remanence.flow import Call, KeptCopy, WriteItem
from remanence.lab import RedisServer
from remanence.record import encode
from tests.support import AsyncScriptedManager, Script, ScriptedManager, run_bounded, wait_until

DEADLINE = 0.6


@pytest.fixture
def stack() -> Iterator[Callable[..., Any]]:
    """Return the function that makes a resilient manager on a server; all are closed in the end."""
    made: list[Any] = []

    def make(url: str, **options: Any) -> Any:
        breaker = CircuitBreaker(open_for=0.1, open_for_max=0.2)
        manager = resilient(RedisWorkingMemoryManager(url, **options), deadline=DEADLINE, circuit_breaker=breaker)
        made.append(manager)
        return manager

    yield make
    for manager in made:
        manager.close(timeout=0.01)
        manager.inner.close()


def value(text: str | None = None, conversation: str = "c") -> dict[str, Any]:
    """Return an input."""
    return {"conversation_id": conversation} | ({} if text is None else {"working_memory": text})


def restricted(server: RedisServer, *permissions: str) -> str:
    """Return the URL of a user that has only these permissions."""
    server.command("ACL", "SETUSER", "app", "on", ">pw", *permissions)
    return server.url.replace("redis://", "redis://app:pw@")


def conflict(manager: Any, url: str) -> None:
    """Have the manager lose "ours" to somebody else's "theirs"."""
    breaker = manager.policies[-1]
    breaker.force_open()
    manager.store(value("ours"))
    with RedisWorkingMemoryManager(url, key_prefix=manager.inner.prefix) as other:
        other.store(value("theirs"))
    breaker.reset()
    wait_until(lambda: not manager.has_pending_writes, "everything came home")


def texts(manager: Any) -> list[str | None]:
    """Return the texts of the conflict copies."""
    return [copy.text for copy in manager.conflicts()]


# Closing while a call is under way ----------------------------------------------------------------------------------


class Held:
    """A store that holds a call back until it is let go, and then fails; others fail at once until it is healed."""

    def __init__(self) -> None:
        self.inside, self.go = threading.Event(), threading.Event()
        self.script = Script(self.hold, then=ConnectionError("away"))

    def hold(self, call: Call) -> None:
        """Wait, then fail."""
        call.attempts += 1
        self.inside.set()
        assert self.go.wait(10)
        raise ConnectionError


def test_a_write_that_fails_after_the_close_is_refused() -> None:
    """Nobody would bring it home any more, so its caller must know."""
    held = Held()
    manager = wrap(ScriptedManager(held.script), Fallback())
    ends: list[Any] = []

    def store() -> None:
        try:
            ends.append(manager.store(value("a")).outcome)
        except ManagerClosedError:
            ends.append("refused")

    thread = threading.Thread(target=store)
    thread.start()
    assert held.inside.wait(10)
    manager.close()
    held.go.set()
    thread.join(10)
    assert ends == ["refused"]


def test_an_awaited_write_that_fails_after_the_close_is_refused() -> None:
    """The same between the tasks of a loop."""

    async def scenario() -> None:
        inside, go = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            inside.set()
            await go.wait()
            raise ConnectionError

        manager = wrap(AsyncScriptedManager(Script(lambda _: hold())), Fallback())
        store = asyncio.create_task(manager.store(value("a")))
        await inside.wait()
        await manager.aclose()
        go.set()
        with pytest.raises(ManagerClosedError):
            await store

    run_bounded(scenario())


@pytest.mark.parametrize("heals", [True, False])
def test_a_write_that_fails_during_the_close_is_brought_home_or_reported(
    caplog: pytest.LogCaptureFixture, *, heals: bool
) -> None:
    """It is acknowledged, so closing looks after it as after those from before."""
    held = Held()
    inner = ScriptedManager(held.script)
    manager = wrap(inner, Fallback())
    outcomes: list[str] = []
    caller = threading.Thread(target=lambda: outcomes.append(manager.store(value("late")).outcome))
    caller.start()
    assert held.inside.wait(10)
    assert manager.store(value("before", "d")).outcome == "journaled"
    closing = threading.Thread(target=manager.close, args=(10.0 if heals else 1.0,))
    closing.start()
    wait_until(lambda: manager.health().status == "unready", "it is closing")
    held.go.set()
    caller.join(10)
    assert outcomes == ["journaled"]
    if heals:
        held.script.then = None
    closing.join(20)
    assert not closing.is_alive()
    home = InMemoryManager()
    home.backend = inner.backend
    left = [record.getMessage() for record in caplog.records if "did not reach the store" in record.getMessage()]
    found = [home.retrieve(value(conversation=name)) for name in ("c", "d")]
    if heals:
        assert ([answer[0].working_memory for answer in found], left) == (["late", "before"], [])
    else:
        assert [message.split(" ", 1)[0] for message in left] == ["2"]


# Conflict copies ----------------------------------------------------------------------------------------------------


@pytest.mark.chaos
def test_tenants_of_one_database_have_conflict_copies_of_their_own(
    server: RedisServer, redis_url: str, stack: Callable[..., Any]
) -> None:
    """With another key_prefix they are neither listed nor deleted; the default one has the documented names."""
    plain, first, second = stack(redis_url), *(stack(redis_url, key_prefix=name) for name in ("one", "two"))
    conflict(first, redis_url)
    assert (texts(plain), texts(first), texts(second)) == ([], ["ours"], [])
    conflict(plain, redis_url)
    (copy,) = plain.conflicts()
    for name in (f"remanence-conflict:WORKING_MEMORY:c:{copy.digest}", "remanence-conflicts:WORKING_MEMORY:c"):
        assert server.command("EXISTS", name) == 1
    for other in (plain, second):
        other.retrieve(value())
        other.delete(value())
    assert (texts(plain), texts(first), texts(second)) == ([], ["ours"], [])
    first.retrieve(value())
    first.delete(value())
    assert texts(first) == []


@pytest.mark.chaos
def test_all_pages_of_conflict_copies_are_listed(redis_url: str, stack: Callable[..., Any]) -> None:
    """A scan gives about a thousand at a time."""
    manager = stack(redis_url)
    raw = encode("ours", None, "", "")
    copies = [KeptCopy(f"memory:WORKING_MEMORY:c{number}", raw, 100.0) for number in range(2_500)]
    with RedisWorkingMemoryManager(redis_url, timeout=10.0) as patient:
        patient.perform(Call("keep", items=copies))
    assert {copy.conversation_id for copy in manager.conflicts()} == {f"c{number}" for number in range(2_500)}


# Users with few permissions -----------------------------------------------------------------------------------------


@pytest.mark.chaos
def test_a_user_without_access_to_conflict_copies_deletes_memories(
    private_server: RedisServer, stack: Callable[..., Any]
) -> None:
    """It has done what it could: the memory is gone, and that is what the receipt says."""
    manager = stack(restricted(private_server, "~memory:*", "+@all"))
    for name in ("c", "d", "e"):
        manager.store(value("text", name))
    assert manager.delete(value()).outcome == "committed"
    outcomes = [receipt.outcome for receipt in manager.delete_many([value(conversation=n) for n in ("d", "e")])]
    assert outcomes == ["committed", "committed"]
    assert private_server.command("KEYS", "*") == []
    assert not manager.has_pending_writes


@pytest.mark.chaos
def test_a_pipeline_whose_first_command_is_refused_still_writes_the_others(private_server: RedisServer) -> None:
    """That command was to bring the script along, and the server had forgotten it."""
    url = restricted(private_server, "~memory:WORKING_MEMORY:new*", "+@all")
    raw = encode("text", None, "", "")
    names = ("old", "new1", "new2")
    items = [WriteItem(f"memory:WORKING_MEMORY:{name}", raw, 100.0, None) for name in names]
    with RedisWorkingMemoryManager(url) as manager:
        private_server.command("SCRIPT", "FLUSH")
        refused, *written = manager.perform(Call("reconcile", items=items))
    assert type(refused).__name__ == "NoPermissionError"
    assert written == [None, None]
    assert [private_server.command("EXISTS", item.key) for item in items] == [0, 1, 1]


# A frozen server ----------------------------------------------------------------------------------------------------


@pytest.mark.chaos
def test_a_read_and_a_write_in_one_share_one_deadline(private_server: RedisServer, stack: Callable[..., Any]) -> None:
    """`mutate` on a frozen server takes the time of one call, and is acknowledged."""
    manager = stack(private_server.url)
    manager.store(value("a"))
    private_server.freeze()
    begun = time.monotonic()
    receipt = manager.mutate(value(), lambda text: f"{text}b")
    took = time.monotonic() - begun
    private_server.thaw()
    assert receipt.outcome == "journaled"
    assert took <= DEADLINE + 0.15
    assert manager.replay().pending == 0
    assert manager.retrieve(value())[0].working_memory == "ab"


@pytest.mark.chaos
def test_a_batch_of_several_chunks_shares_one_deadline(private_server: RedisServer, stack: Callable[..., Any]) -> None:
    """On a frozen server too, and each item is acknowledged and comes home."""
    manager = stack(private_server.url)
    manager.store(value("a"))
    items = [value("text", f"c{number}") for number in range(3_000)]
    private_server.freeze()
    begun = time.monotonic()
    receipts = manager.store_many(items)
    took = time.monotonic() - begun
    pending = manager.health().pending
    private_server.thaw()
    assert {receipt.outcome for receipt in receipts} == {"journaled"}
    assert (len(receipts), pending) == (3_000, 3_000)
    assert took <= 2 * DEADLINE + 0.3, "a deadline for each of the three chunks would be three of them"
    assert manager.replay().pending == 0
    assert private_server.command("DBSIZE") == 3_001
