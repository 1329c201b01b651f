"""The framework's own agent over our managers: what its second prompt contains."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from remanence import AsyncRedisWorkingMemoryManager, RedisWorkingMemoryManager
from remanence.integrations.arshai import agent_memory
from tests.integrations.arshai.framework import Framework, ScriptedLLM
from tests.integrations.arshai.stacks import FLAVOURS, ask, home, stack
from tests.support import run_bounded

NOTHING = "No existing memory"
ID = {"conversation_id": "c"}

each_flavour = pytest.mark.parametrize("flavour", FLAVOURS)


@each_flavour
def test_a_turn_after_a_restart_is_shown_the_turn_before(framework: Framework, redis_url: str, flavour: str) -> None:
    """A new model, agent, bridge, stack and manager: the prompt contains what the first turn made."""

    async def converse(said: str) -> ScriptedLLM:
        llm = ScriptedLLM()
        async with stack(redis_url, flavour) as manager:
            assert await framework.turn(llm, agent_memory(manager), said, user="u") == "success"
        return llm

    assert NOTHING in run_bounded(converse("my name is Ada")).prompts[0]
    (prompt,) = run_bounded(converse("and I like tea")).prompts
    assert f"Current Working Memory:\n{NOTHING} | my name is Ada\n" in prompt
    with RedisWorkingMemoryManager(redis_url) as plain:
        found = plain.retrieve(ID)
        assert found[0].working_memory == f"{NOTHING} | my name is Ada | and I like tea"
        assert found.metadata == {**ID, "user": "u"}


def test_without_the_bridge_the_framework_stores_nothing(framework: Framework, theirs: Any, client: Any) -> None:
    """Its own manager in its own agent: each turn fails so, and the second prompt knows nothing of the first.

    Should this fail, then the framework was mended: see which of the bridge's reasons are left.
    """
    llm = ScriptedLLM()
    failure = "error: storage failed - 'dict' object has no attribute 'data'"
    assert [run_bounded(framework.turn(llm, theirs, said)) for said in ("one", "two")] == [failure, failure]
    assert [NOTHING in prompt for prompt in llm.prompts] == [True, True]
    assert client.dbsize() == 0


def test_without_the_bridge_ours_loses_the_memory_of_the_turn_before(framework: Framework, redis_url: str) -> None:
    """Ours takes dicts, so the synchronous one stores before the `await` fails, and every turn begins from nothing."""
    llm = ScriptedLLM()
    with RedisWorkingMemoryManager(redis_url) as manager:
        for said in ("one", "two"):
            said_of_it = run_bounded(framework.turn(llm, manager, said))
            assert said_of_it == "error: storage failed - object Receipt can't be used in 'await' expression"
        assert manager.retrieve(ID)[0].working_memory == f"{NOTHING} | two"


def test_their_managers_work_in_their_agent_through_the_bridge(
    framework: Framework, theirs: Any, redis_url: str
) -> None:
    """The one on Redis and the one in memory, bare."""
    for manager in (theirs, framework.memory_manager()):
        llm = ScriptedLLM()
        for said in ("one", "two"):
            assert run_bounded(framework.turn(llm, agent_memory(manager), said)) == "success"
        assert f"{NOTHING} | one\n" in llm.prompts[1]
    with RedisWorkingMemoryManager(redis_url) as ours:
        assert ours.retrieve(ID)[0].working_memory == f"{NOTHING} | one | two"


@each_flavour
def test_of_two_turns_at_once_the_loser_is_kept(framework: Framework, redis_url: str, flavour: str) -> None:
    """Both read the same memory; the second to store is told so by the agent, and is a conflict copy."""

    async def race() -> tuple[Any, ...]:
        async with stack(redis_url, flavour) as manager:
            memory = agent_memory(manager)
            await framework.turn(ScriptedLLM(), memory, "begun")
            read, stored = asyncio.Event(), asyncio.Event()

            async def meanwhile() -> None:
                read.set()
                await stored.wait()

            slow = asyncio.create_task(framework.turn(ScriptedLLM(meanwhile), memory, "slow"))
            await read.wait()
            fast = await framework.turn(ScriptedLLM(), memory, "fast")
            stored.set()
            kept = await slow, await home(manager)
            return fast, *kept, (await memory.retrieve(ID))[0].working_memory

    fast, slow, conflicts, held = run_bounded(race())
    assert fast == "success"
    assert slow.startswith("error: storage failed - another turn of the conversation was stored meanwhile")
    assert (held, conflicts) == (f"{NOTHING} | begun | fast", [f"{NOTHING} | begun | slow"])


@each_flavour
def test_conversations_at_once_do_not_mix(framework: Framework, redis_url: str, flavour: str) -> None:
    """Thirty conversations under one bridge, three turns each, every turn in the middle of all the others."""

    async def talk(memory: Any, name: str, together: asyncio.Barrier) -> list[str]:
        llm = ScriptedLLM(together.wait)
        return [await framework.turn(llm, memory, f"{name}.{n}", conversation=name) for n in range(3)]

    async def gather() -> list[str]:
        names = [f"c{n}" for n in range(30)]
        together = asyncio.Barrier(len(names))
        async with stack(redis_url, flavour) as manager:
            memory = agent_memory(manager)
            answers = await asyncio.gather(*(talk(memory, name, together) for name in names))
            assert answers == [["success"] * 3] * 30
            found = await ask(manager.retrieve_many, [{"conversation_id": name} for name in names])
        return [memories[0].working_memory for memories in found]

    held = run_bounded(gather(), 30.0)
    assert held == [f"{NOTHING} | c{n}.0 | c{n}.1 | c{n}.2" for n in range(30)]


@each_flavour
def test_agents_in_threads_with_loops_of_their_own(framework: Framework, redis_url: str, flavour: str) -> None:
    """One stack under `asyncio.to_thread`: each thread runs the agent in a loop of its own, two on one conversation."""

    async def serve() -> tuple[list[str], str, list[str | None]]:
        async with stack(redis_url, flavour) as manager:
            memory = agent_memory(manager)
            both = threading.Barrier(2)

            async def meanwhile() -> None:
                both.wait(10)  # both have read

            def turn(name: str, said: str, llm: ScriptedLLM) -> str:
                return asyncio.run(framework.turn(llm, memory, said, conversation=name))

            calls = [("c", "x", ScriptedLLM(meanwhile)), ("c", "y", ScriptedLLM(meanwhile)), ("d", "z", ScriptedLLM())]
            answers = await asyncio.gather(*(asyncio.to_thread(turn, *call) for call in calls))
            held = (await memory.retrieve(ID))[0].working_memory
            return sorted(answers), held, await home(manager)

    answers, held, conflicts = run_bounded(serve(), 20.0)
    assert [answer[:23] for answer in answers] == ["error: storage failed -", "success", "success"]
    assert sorted([held, *map(str, conflicts)]) == [f"{NOTHING} | x", f"{NOTHING} | y"]


def test_a_turn_that_is_cancelled_leaves_nothing_behind(framework: Framework, redis_url: str) -> None:
    """While the model thinks, as at the end of a request: the next turn of the same task is a turn like any other."""

    async def cancelled() -> list[str]:
        async with AsyncRedisWorkingMemoryManager(redis_url) as manager:
            memory = agent_memory(manager)
            await framework.turn(ScriptedLLM(), memory, "one")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await framework.turn(ScriptedLLM(asyncio.Event().wait), memory, "never")
            other = AsyncRedisWorkingMemoryManager(redis_url)
            await other.store({**ID, "working_memory": "from elsewhere"})
            await other.aclose()
            llm = ScriptedLLM()
            assert await framework.turn(llm, memory, "two") == "success"
            return [(await memory.retrieve(ID))[0].working_memory, *llm.prompts]

    held, prompt = run_bounded(cancelled())
    assert held == "from elsewhere | two"
    assert "Working Memory:\nfrom elsewhere\n" in prompt


def test_a_turn_whose_model_fails_stores_nothing(framework: Framework, redis_url: str) -> None:
    """The agent says so; the memory is what it was."""

    async def fail() -> None:
        message = "the model is away"
        raise OSError(message)

    async def turns() -> Any:
        async with AsyncRedisWorkingMemoryManager(redis_url) as manager:
            memory = agent_memory(manager)
            await framework.turn(ScriptedLLM(), memory, "one")
            assert await framework.turn(ScriptedLLM(fail), memory, "two") == "error: the model is away"
            return await memory.retrieve(ID)

    assert run_bounded(turns())[0].working_memory == f"{NOTHING} | one"


def test_a_turn_within_a_turn_is_not_overwritten(framework: Framework, redis_url: str) -> None:
    """A model that has the agent take a turn of the same conversation: the outer turn has not seen what that stored."""

    async def turns() -> tuple[str, str, list[str | None]]:
        async with stack(redis_url, "async") as manager:
            memory = agent_memory(manager)

            async def within() -> None:
                assert await framework.turn(ScriptedLLM(), memory, "inner") == "success"

            said = await framework.turn(ScriptedLLM(within), memory, "outer")
            return said, (await memory.retrieve(ID))[0].working_memory, await home(manager)

    said, held, conflicts = run_bounded(turns())
    assert said.startswith("error: storage failed - another turn")
    assert (held, conflicts) == (f"{NOTHING} | inner", [f"{NOTHING} | outer"])
