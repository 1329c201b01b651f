"""The bridge to the framework's agent: turns as it makes them, on a real server and in outages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from remanence import (
    AsyncInMemoryManager,
    AsyncRedisWorkingMemoryManager,
    CircuitBreaker,
    ConfigurationError,
    Deadline,
    InMemoryManager,
    MemoryUnavailableError,
    RedisWorkingMemoryManager,
    VersionConflictError,
    resilient,
)
from remanence.integrations.arshai import AgentMemory, TurnLostError, TurnRefusedError, agent_memory
from remanence.lab import RedisServer
from tests.support import run_bounded

ID = {"conversation_id": "c"}


async def turn(memory: Any, said: str, think: Callable[[], Awaitable[Any]] | None = None) -> Any:
    """Do what the framework's agent does: read, swallow what fails, think, store a dict with the input's metadata."""
    current = ""
    try:
        found = await memory.retrieve(dict(ID))
        if found:
            current = found[0].working_memory
    except Exception:  # noqa: BLE001, S110 - as the agent does
        pass
    if think is not None:
        await think()
    await memory.store({**ID, "working_memory": f"{current} {said}".strip(), "metadata": dict(ID)})
    return current


def both(url: str) -> list[Any]:
    """Return a bare manager of each flavour."""
    return [RedisWorkingMemoryManager(url), AsyncRedisWorkingMemoryManager(url)]


@pytest.mark.parametrize("flavour", [0, 1], ids=["sync", "async"])
@pytest.mark.parametrize("is_resilient", [False, True], ids=["bare", "stack"])
def test_a_turn_begins_with_the_memory_of_the_turn_before(redis_url: str, flavour: int, *, is_resilient: bool) -> None:
    """A restart in between changes nothing."""

    async def converse(said: str) -> Any:
        inner = both(redis_url)[flavour]
        memory = agent_memory(resilient(inner) if is_resilient else inner)
        before = await turn(memory, said)
        await _close(memory.manager, inner)
        return before

    assert run_bounded(converse("one")) == ""
    assert run_bounded(converse("two")) == "one"
    with RedisWorkingMemoryManager(redis_url) as plain:
        found = plain.retrieve(ID)
        assert (found[0].working_memory, found.metadata) == ("one two", ID)


async def _close(*managers: Any) -> None:
    for manager in managers:
        close = getattr(manager, "aclose", None) or manager.close
        ended = close()
        if ended is not None:
            await ended


@pytest.mark.parametrize("make", [InMemoryManager, AsyncInMemoryManager, lambda: resilient(AsyncInMemoryManager())])
def test_of_two_turns_at_once_the_loser_is_kept(make: Callable[[], Any]) -> None:
    """The one that stores last is told so, and its text is a conflict copy."""

    async def race() -> tuple[Any, Any]:
        manager = make()
        memory = agent_memory(manager)
        await turn(memory, "begun")
        read, stored = asyncio.Event(), asyncio.Event()

        async def think() -> None:
            read.set()
            await stored.wait()

        slow = asyncio.create_task(turn(memory, "slow", think))
        await read.wait()
        await turn(memory, "fast")
        stored.set()
        with pytest.raises(TurnLostError, match="kept as a conflict copy") as caught:
            await slow
        assert caught.value.kept
        assert isinstance(caught.value, VersionConflictError)
        return await memory.retrieve(ID), await _conflicts(manager)

    found, conflicts = run_bounded(race())
    assert found[0].working_memory == "begun fast"
    assert [conflict.text for conflict in conflicts] == ["begun slow"]


async def _conflicts(manager: Any) -> Any:
    listed = resilient(manager).conflicts() if not hasattr(manager, "conflicts") else manager.conflicts()
    return await listed if asyncio.iscoroutine(listed) else listed


def test_a_turn_that_read_nothing_loses_against_one_that_stored_meanwhile() -> None:
    """Two first turns of a conversation are turns at once, too."""

    async def race() -> Any:
        memory = agent_memory(AsyncInMemoryManager())

        async def meanwhile() -> None:
            await asyncio.create_task(turn(memory, "other"))

        with pytest.raises(TurnLostError):
            await turn(memory, "mine", meanwhile)
        return await memory.retrieve(ID)

    assert run_bounded(race())[0].working_memory == "other"


def stack(server: RedisServer, **fallback: Any) -> Any:
    """Return a stack with short times."""
    inner = AsyncRedisWorkingMemoryManager(server.url, timeout=0.2)
    return inner, resilient(inner, deadline=Deadline(0.3), circuit_breaker=CircuitBreaker(open_for=0.05), **fallback)


def test_a_turn_whose_memory_is_unknown_is_refused(private_server: RedisServer) -> None:
    """The server is away and nothing is known here: what the agent made from nothing does not reach the memory."""

    async def outage() -> Any:
        with RedisWorkingMemoryManager(private_server.url) as before:
            before.store({**ID, "working_memory": "real"})
        inner, manager = stack(private_server)
        memory = agent_memory(manager)
        private_server.freeze()
        with pytest.raises(TurnRefusedError, match="repeat the turn"):
            await turn(memory, "from nothing")
        private_server.thaw()
        assert await turn(memory, "again") == "real"
        found = await memory.retrieve(ID)
        await _close(manager, inner)
        return found

    assert run_bounded(outage(), 20.0)[0].working_memory == "real again"


def test_it_is_stored_blind_where_that_is_asked_for(private_server: RedisServer) -> None:
    """It waits, and meets the real memory as a blind write does: neither is lost."""

    async def outage() -> Any:
        with RedisWorkingMemoryManager(private_server.url) as before:
            before.store({**ID, "working_memory": "real"})
        inner, manager = stack(private_server)
        memory = agent_memory(manager, on_degraded="continue")
        private_server.freeze()
        await turn(memory, "from nothing")
        private_server.thaw()
        await manager.replay(10.0)
        held, copies = await inner.retrieve(ID), await manager.conflicts()
        await _close(manager, inner)
        return held[0].working_memory, [copy.text for copy in copies]

    held, copies = run_bounded(outage(), 20.0)
    assert {held, *copies} == {"real", "from nothing"}


def test_turns_go_on_in_an_outage_on_what_is_known(private_server: RedisServer) -> None:
    """A last-known copy and a write that waits are read and built on; it all comes home."""

    async def outage() -> Any:
        inner, manager = stack(private_server)
        memory = agent_memory(manager)
        assert await turn(memory, "one") == ""
        private_server.freeze()
        assert await turn(memory, "two") == "one"
        assert await turn(memory, "three") == "one two"
        private_server.thaw()
        await manager.replay(10.0)
        held, copies = await inner.retrieve(ID), await manager.conflicts()
        await _close(manager, inner)
        return held[0].working_memory, copies

    assert run_bounded(outage(), 20.0) == ("one two three", [])


def test_a_read_that_raised_refuses_the_turn() -> None:
    """The agent swallows the error; the write does not."""

    class Failing(AsyncInMemoryManager):
        async def retrieve(self, input: Any) -> Any:  # noqa: A002, ARG002
            raise MemoryUnavailableError

    async def fail() -> None:
        memory = agent_memory(Failing())
        with pytest.raises(TurnRefusedError):
            await turn(memory, "x")
        # The read is used up: who stores without one means it.
        await memory.store({**ID, "working_memory": "plain"})

    run_bounded(fail())


def test_a_managers_own_inputs_work(redis_url: str) -> None:
    """DTOs, update and delete; the truth value is that of a manager, not of its length."""

    async def use() -> None:
        async with AsyncRedisWorkingMemoryManager(redis_url) as manager:
            memory = agent_memory(manager)
            assert memory
            assert "conversation" not in repr(memory)
            await memory.store({**ID, "working_memory": "x"})
            assert (await memory.update({**ID, "working_memory": "y"})).outcome == "committed"
            assert (await memory.retrieve(ID))[0].working_memory == "y"
            assert (await memory.delete(ID)).outcome == "committed"
            assert not await memory.retrieve(ID)

    run_bounded(use())


def test_wrong_arguments_are_refused() -> None:
    """At construction."""
    with pytest.raises(ConfigurationError):
        agent_memory(object())
    with pytest.raises(ConfigurationError):
        agent_memory(InMemoryManager)
    with pytest.raises(ConfigurationError):
        agent_memory(InMemoryManager(), on_degraded="perhaps")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        agent_memory(agent_memory(InMemoryManager()))
    assert isinstance(agent_memory(InMemoryManager()), AgentMemory)
