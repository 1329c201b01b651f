"""What is stored: memories as agents write them, made of the conversations that come with the package."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime

from remanence import ConversationMemoryType, IMemoryInput, IWorkingMemory
from remanence.lab.memory_text import KEPT_TURNS, rewrite
from remanence.lab.transcripts import sample

__all__ = ["TTL", "inputs", "key", "record", "texts"]

TTL = 60 * 60 * 12
"""Seconds, the framework's default."""


def texts(count: int) -> list[str]:
    """Return `count` memories: the last turns of a conversation in full, older ones by number."""
    return list(itertools.islice(itertools.cycle(_memories()), count))


def inputs(count: int, *, name: str = "bench", shift: int = 0) -> list[IMemoryInput]:
    """Return inputs for `count` conversations.

    Args:
        count: How many.
        name: First part of their ids.
        shift: Another one gives the same conversations other texts.
    """
    return [
        IMemoryInput(
            conversation_id=f"{name}-{number:06d}",
            memory_type=ConversationMemoryType.WORKING_MEMORY,
            data=[IWorkingMemory(working_memory=text)],
        )
        for number, text in enumerate(texts(count + shift)[shift:])
    ]


def key(item: IMemoryInput) -> str:
    """Return the key under which every contender stores it."""
    return f"memory:{item.memory_type}:{item.conversation_id}"


def record(item: IMemoryInput) -> bytes:
    """Return the bytes of its record as anybody would write them."""
    now = datetime.now(UTC).isoformat()
    text = item.data[-1].working_memory if item.data else ""
    return json.dumps(
        {"data": {"working_memory": text}, "metadata": {}, "created_at": now, "last_update": now}
    ).encode()


def _memories() -> Iterator[str]:
    for conversation in sample():
        memory: str | None = None
        for number, turn in enumerate(conversation.turns):
            memory = rewrite(memory, number, turn)
            if number >= KEPT_TURNS:
                yield memory
