"""A language model that needs no network: its words tell what it was given, and so whether the memory was seen."""

# ruff: noqa: INP001 - an example is no package

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

__all__ = ["ScriptedLLM"]


class ScriptedLLM:
    """Answers word by word, and makes the next memory: one line for each turn, where a real one would summarize.

    Args:
        pause: Seconds to think before each word.
    """

    def __init__(self, *, pause: float) -> None:
        self._pause = pause

    async def answer(self, memory: str | None, message: str) -> AsyncIterator[str]:
        """Give the words of an answer; a memory of None is one that could not be read."""
        if memory is None:
            seen = "I cannot look up what you said before."
        elif not memory:
            seen = "You are new to me."
        else:
            lines = memory.splitlines()
            seen = f"I remember {len(lines)} of your messages, the last one is: {lines[-1]}."
        for word in f"{seen} Now you say: {message}".split():
            await asyncio.sleep(self._pause)
            yield word

    async def remember(self, memory: str, message: str) -> str:
        """Return the memory with this turn in it."""
        await asyncio.sleep(self._pause)
        return f"{memory}\n{' '.join(message.split())}".lstrip()
