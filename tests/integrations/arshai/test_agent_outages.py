"""The framework's agent while Redis is away: what the memory holds afterwards was never made from nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from remanence import RedisWorkingMemoryManager
from remanence.integrations.arshai import agent_memory
from remanence.lab import RedisServer
from tests.integrations.arshai.framework import Framework, ScriptedLLM
from tests.integrations.arshai.stacks import FLAVOURS, home, stack
from tests.support import run_bounded

pytestmark = pytest.mark.chaos

ID = {"conversation_id": "c"}
REFUSED = "error: storage failed - this turn's memory was not read"


class Outage:
    """A server that goes away in one way and comes back with its data, and the flavour of the managers on it."""

    def __init__(self, server: RedisServer, flavour: str, how: str) -> None:
        self.server = server
        self.flavour = flavour
        self._timeout = 5.0 if how == "kill" else 0.3  # nobody waits for a refused connection
        self.begin: Callable[[], Any] = server.kill if how == "kill" else server.freeze
        self.end: Callable[[], Any] = server.start

    def stack(self) -> Any:
        """Return a new process's stack."""
        return stack(self.server.url, self.flavour, timeout=self._timeout)

    async def begins(self) -> None:
        """Go away, in the middle of something awaited."""
        self.begin()

    async def ends(self) -> None:
        """Come back."""
        self.end()

    async def passes(self) -> None:
        """Go away and come back."""
        self.begin()
        self.end()

    def put(self, text: str) -> None:
        """Store as another process."""
        with RedisWorkingMemoryManager(self.server.url) as other:
            other.store({**ID, "working_memory": text})

    def held(self) -> str:
        """Return what Redis itself holds."""
        with RedisWorkingMemoryManager(self.server.url) as plain:
            return plain.retrieve(ID)[0].working_memory


@pytest.fixture(params=[("sync", "kill"), ("async", "freeze")], ids="-".join)
def outage(request: pytest.FixtureRequest, private_server: RedisServer) -> Outage:
    """A server of the test's own."""
    return Outage(private_server, *request.param)


all_four = pytest.mark.parametrize("outage", [*product(FLAVOURS, ["kill", "freeze"])], ids="-".join, indirect=True)


def test_an_outage_between_two_turns_changes_nothing(framework: Framework, outage: Outage) -> None:
    """The second prompt contains the first turn's memory."""

    async def turns() -> tuple[ScriptedLLM, list[Any]]:
        llm = ScriptedLLM()
        async with outage.stack() as manager:
            memory = agent_memory(manager)
            assert await framework.turn(llm, memory, "one") == "success"
            await outage.passes()
            assert await framework.turn(llm, memory, "two") == "success"
            return llm, await home(manager)

    llm, conflicts = run_bounded(turns(), 20.0)
    assert "No existing memory | one\n" in llm.prompts[1]
    assert (outage.held(), conflicts) == ("No existing memory | one | two", [])


@all_four
def test_turns_in_an_outage_go_on_from_what_is_known(framework: Framework, outage: Outage) -> None:
    """Two turns while Redis is away: each is shown the one before, and both come home."""

    async def turns() -> tuple[list[str], list[Any]]:
        async with outage.stack() as manager:
            memory, llm = agent_memory(manager), ScriptedLLM()
            await framework.turn(llm, memory, "one")
            outage.begin()
            said = [await framework.turn(llm, memory, text) for text in ("two", "three")]
            outage.end()
            return said, await home(manager)

    assert run_bounded(turns(), 20.0) == (["success", "success"], [])
    assert outage.held() == "No existing memory | one | two | three"


@all_four
@pytest.mark.parametrize("heals", ["afterwards", "while the model thinks"])
def test_a_turn_that_could_not_read_is_refused(framework: Framework, outage: Outage, heals: str) -> None:
    """Nothing is known in a new process: its turn is not stored, though Redis is back by then; repeated, it is."""

    async def turns() -> list[str]:
        async with outage.stack() as manager:
            memory = agent_memory(manager)
            outage.begin()
            llm = ScriptedLLM(outage.ends if heals != "afterwards" else None)
            said = await framework.turn(llm, memory, "from nothing")
            assert "No existing memory" in llm.prompts[0]
            outage.end()
            assert await home(manager) == []
            first = outage.held()
            again = ScriptedLLM()
            return [said, first, await framework.turn(again, memory, "again"), *again.prompts]

    outage.put("real")
    said, first, again, prompt = run_bounded(turns(), 20.0)
    assert said.startswith(REFUSED)
    assert (first, again) == ("real", "success")
    assert "Working Memory:\nreal\n" in prompt
    assert outage.held() == "real | again"


def test_a_bare_manager_refuses_too(framework: Framework, outage: Outage) -> None:
    """Without policies the read raises, which the agent swallows; the write that follows is refused."""

    async def turns() -> str:
        async with outage.stack() as manager:
            outage.begin()
            return await framework.turn(ScriptedLLM(outage.ends), agent_memory(manager.inner), "from nothing")

    outage.put("real")
    assert run_bounded(turns(), 20.0).startswith(REFUSED)
    assert outage.held() == "real"


@pytest.mark.parametrize("thinks", ["begins", "passes"])
def test_a_turn_whose_outage_begins_after_its_read_is_kept(framework: Framework, outage: Outage, thinks: str) -> None:
    """Stored on what it read: at once if Redis is back, else from the journal."""

    async def turns() -> tuple[str, list[Any]]:
        async with outage.stack() as manager:
            said = await framework.turn(ScriptedLLM(getattr(outage, thinks)), agent_memory(manager), "one")
            outage.end()
            return said, await home(manager)

    outage.put("real")
    assert run_bounded(turns(), 20.0) == ("success", [])
    assert outage.held() == "real | one"


def test_what_another_process_stored_during_the_turn_stands(framework: Framework, outage: Outage) -> None:
    """The turn read before that, and was stored in an outage: its text becomes a conflict copy."""

    async def meanwhile() -> None:
        outage.put("from elsewhere")
        outage.begin()

    async def turns() -> tuple[str, list[Any]]:
        async with outage.stack() as manager:
            said = await framework.turn(ScriptedLLM(meanwhile), agent_memory(manager), "one")
            outage.end()
            return said, await home(manager)

    outage.put("real")
    assert run_bounded(turns(), 20.0) == ("success", ["real | one"])
    assert outage.held() == "from elsewhere"


def test_continue_stores_blind_and_loses_neither(framework: Framework, outage: Outage) -> None:
    """Asked for, a turn from nothing is acknowledged; the real memory stands, and the turn is a conflict copy."""

    async def turns() -> tuple[str, list[Any]]:
        async with outage.stack() as manager:
            outage.begin()
            memory = agent_memory(manager, on_degraded="continue")
            said = await framework.turn(ScriptedLLM(), memory, "from nothing")
            outage.end()
            return said, await home(manager)

    outage.put("real")
    assert run_bounded(turns(), 20.0) == ("success", ["No existing memory | from nothing"])
    assert outage.held() == "real"


@pytest.mark.parametrize(("flavour", "seed"), [("sync", 1), ("async", 2)])
def test_whatever_happens_when_no_turn_is_lost_or_made_from_nothing(
    framework: Framework, private_server: RedisServer, flavour: str, seed: int
) -> None:
    """Two processes take turns while the server comes and goes before, within and after them.

    The memory goes on from the real one, and what every successful turn said is in it or in a conflict copy.
    """
    draw = random.Random(seed)
    print(f"seed {seed}")  # noqa: T201 - of a failing run
    moves: list[Callable[[], Any]] = [private_server.kill, private_server.freeze, *[private_server.start] * 3]

    async def move() -> None:
        if private_server.running or draw.random() < 0.5:
            draw.choice(moves)() if private_server.running else private_server.start()

    async def turns() -> tuple[list[str], list[Any]]:
        url, done = private_server.url, []
        async with stack(url, flavour, timeout=0.2) as one, stack(url, flavour, timeout=0.2) as two:
            for n in range(10):
                await move()
                memory = agent_memory(draw.choice([one, two]))
                if await framework.turn(ScriptedLLM(move), memory, f"<{n}>") == "success":
                    done.append(f"<{n}>")
            private_server.start()
            copies = [*await home(one), *await home(two)]
        return done, copies

    Outage(private_server, flavour, "kill").put("real")
    done, copies = run_bounded(turns(), 30.0)
    held = Outage(private_server, flavour, "kill").held()
    assert held.startswith("real")
    assert all(copy.startswith("real") for copy in copies)
    assert [said for said in done if said not in " ".join([held, *copies])] == []
    assert len(done) >= 3, "the schedule shows something"
