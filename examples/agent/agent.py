"""The framework's own agent, with and without the bridge: two turns, a restart in between, and its second prompt.

Prints what the agent is given in its second turn. Uses the Redis of REDIS_URL, else a private server of its own.
"""

# ruff: noqa: INP001, T201 - an example is no package, and a script prints

from __future__ import annotations

import asyncio
import os
import uuid
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import Any, Final

from remanence import AsyncRedisWorkingMemoryManager, RedisWorkingMemoryManager, resilient
from remanence.integrations.arshai import agent_memory
from remanence.lab import RedisServer

os.environ.setdefault("LOG_LEVEL", "CRITICAL")  # the framework would log, with ids, what is printed here anyhow
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pydantic's, about the framework's models
    from arshai.agents.hub.working_memory import WorkingMemoryAgent
    from arshai.core.interfaces.iagent import IAgentInput
    from arshai.memory.working_memory import redis_memory_manager as framework

SAID: Final = ("I like Python.", "I live in Lisbon.")
Manager = Callable[[str], AbstractAsyncContextManager[Any]]


class ScriptedLLM:
    """A model that needs no network: the new memory is the old one, as the prompt has it, and what was said."""

    def __init__(self) -> None:
        self.prompt = ""

    async def chat(self, given: Any) -> dict[str, str]:
        """Answer a prompt, and keep it to be shown."""
        self.prompt = given.user_message
        lines = [line for line in self.prompt.splitlines() if line]
        memory = lines[lines.index("Current Working Memory:") + 1]
        said = lines[lines.index("New Interaction:") + 1]
        return {"llm_response": said if memory == "No existing memory" else f"{memory} {said}"}


@asynccontextmanager
async def without_bridge(url: str) -> AsyncIterator[Any]:
    """Give the framework's manager as it is."""
    manager = framework.RedisWorkingMemoryManager(url)
    yield manager
    manager.redis_client.close()


@asynccontextmanager
async def with_bridge(url: str) -> AsyncIterator[Any]:
    """Give the resilient manager, as the agent needs it."""
    async with AsyncRedisWorkingMemoryManager(url) as store, resilient(store) as manager:
        yield agent_memory(manager)


async def turn(manager: Manager, url: str, conversation_id: str, said: str) -> tuple[str, str]:
    """Have a new agent with a new manager take one turn; return what it answers, and its prompt."""
    llm = ScriptedLLM()
    async with manager(url) as memory:
        agent = WorkingMemoryAgent(llm, memory_manager=memory)
        answer = await agent.process(IAgentInput(message=said, metadata={"conversation_id": conversation_id}))
    return answer, llm.prompt


def show(title: str, manager: Manager, url: str) -> None:
    """Take two turns and print the second one's prompt."""
    conversation_id = f"example-{uuid.uuid4()}"
    prompt = ""
    print(title)
    for number, said in enumerate(SAID, 1):
        # Nothing but Redis is left of one turn in the next: a new loop, manager, agent and model.
        answer, prompt = asyncio.run(turn(manager, url, conversation_id, said))
        print(f"  turn {number}: {answer}")
    print("  the prompt of turn 2:")
    print("\n".join(f"    {line}" for line in prompt.splitlines() if line))
    with RedisWorkingMemoryManager(url) as cleaner:
        cleaner.delete({"conversation_id": conversation_id})


def main() -> None:
    """Show both."""
    with ExitStack() as ending:
        url = os.environ.get("REDIS_URL") or ending.enter_context(RedisServer()).url
        show("The agent with the framework's manager as it is:", without_bridge, url)
        print()
        show("The agent with agent_memory(resilient(AsyncRedisWorkingMemoryManager(url))):", with_bridge, url)


if __name__ == "__main__":
    main()
