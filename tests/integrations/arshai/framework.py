"""The framework itself, imported without leaving a trace in the logging of other tests, and its agent's two sides."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Self
from unittest.mock import patch

__all__ = ["SETEX", "Framework", "ScriptedLLM", "load"]

SETEX = "ignore:.*setex.*:DeprecationWarning"
"""redis-py warns about its method `setex`, which the framework's manager calls."""


@dataclass(frozen=True, slots=True)
class Framework:
    """What these tests use of the framework.

    Attributes:
        redis_module: Module of its manager on Redis, whose clock can be set.
        memory_manager: Class of its manager in memory.
        interface: Module of its DTOs.
        enum: Its managers' own enum of memory types, which is not the interface's.
        agent: Class `WorkingMemoryAgent`.
        agent_input: Class of that agent's input.
    """

    redis_module: Any
    memory_manager: Any
    interface: Any
    enum: Any
    agent: Any
    agent_input: Any

    @contextmanager
    def redis_manager(self, url: str, **options: Any) -> Iterator[Any]:
        """Give its manager on Redis; the connections are closed afterwards, which it cannot do."""
        manager = self.redis_module.RedisWorkingMemoryManager(url, **options)
        try:
            yield manager
        finally:
            manager.redis_client.close()

    def input(
        self, *texts: str, conversation: str = "c", kind: str = "WORKING_MEMORY", metadata: dict[str, Any] | None = None
    ) -> Any:
        """Return its own DTO; without a text, of a read or a delete."""
        return self.interface.IMemoryInput(
            conversation_id=conversation,
            memory_type=kind,
            data=[self.interface.IWorkingMemory(working_memory=text) for text in texts] or None,
            metadata=metadata,
        )

    @contextmanager
    def frozen_at(self, now: datetime) -> Iterator[None]:
        """Have its manager on Redis write one time of the clock."""

        class Stopped(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Self:
                assert tz is None, "its stamps are naive"
                return cls(now.year, now.month, now.day, now.hour, now.minute, now.second, now.microsecond)

        with patch.object(self.redis_module, "datetime", Stopped):
            yield

    async def turn(self, llm: ScriptedLLM, memory: Any, said: str, *, conversation: str = "c", **extra: Any) -> str:
        """Have a new agent take one turn; returns what it says about it: "success", or "error: …"."""
        agent = self.agent(llm, memory_manager=memory)
        metadata = {"conversation_id": conversation, **extra}
        said_of_it: str = await agent.process(self.agent_input(message=said, metadata=metadata))
        return said_of_it


class ScriptedLLM:
    """A language model as the agent calls one: it repeats the memory that it is shown, and adds what was said.

    Args:
        meanwhile: Awaited while the model "thinks": between the turn's read and its write.
    """

    def __init__(self, meanwhile: Callable[[], Awaitable[Any]] | None = None) -> None:
        self.prompts: list[str] = []
        self._meanwhile = meanwhile

    async def chat(self, asked: Any) -> dict[str, Any]:
        """Answer one prompt."""
        self.prompts.append(asked.user_message)
        if self._meanwhile is not None:
            await self._meanwhile()
        known = between(asked.user_message, "Current Working Memory:\n", "\n\nConversation History:")
        said = between(asked.user_message, "New Interaction:\n", "\n\nPlease generate")
        return {"llm_response": f"{known} | {said}", "usage": None}


def between(text: str, begin: str, end: str) -> str:
    """Return what stands between two parts of a prompt."""
    _, found, rest = text.partition(begin)
    inside, also_found, _ = rest.partition(end)
    assert found, f"the framework's prompt has no {begin!r} any more"
    assert also_found, f"the framework's prompt has no {end!r} any more"
    return inside


@cache
def load() -> Framework:
    """Import the framework once a process; every logger is afterwards what it was."""
    loggers = [logging.getLogger(), *(known for known in _known_loggers())]
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its models use settings that pydantic no longer knows
            loaded = Framework(
                redis_module=importlib.import_module("arshai.memory.working_memory.redis_memory_manager"),
                memory_manager=importlib.import_module("arshai.memory.working_memory").InMemoryManager,
                interface=importlib.import_module("arshai.core.interfaces.imemorymanager"),
                enum=importlib.import_module("arshai.memory.memory_types").ConversationMemoryType,
                agent=importlib.import_module("arshai.agents").WorkingMemoryAgent,
                agent_input=importlib.import_module("arshai.agents").IAgentInput,
            )
            # Its own output goes to the stream that stood for the standard output during the import: a test's capture.
            importlib.import_module("loguru").logger.remove()
    finally:
        for logger, handlers, level in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
        for logger in _known_loggers():
            if logger not in loggers:
                logger.handlers.clear()
    return loaded


def _known_loggers() -> list[logging.Logger]:
    return [known for known in logging.root.manager.loggerDict.values() if isinstance(known, logging.Logger)]
