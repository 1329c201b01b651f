"""Inputs, and small questions to a manager and to the server behind it: for the tests of outages."""

from __future__ import annotations

from typing import Any

from remanence import RedisWorkingMemoryManager
from tests.support import wait_until

__all__ = ["held", "home", "texts", "value"]


def value(text: str | None = None, conversation: str = "c") -> dict[str, Any]:
    """Return an input."""
    return {"conversation_id": conversation} | ({} if text is None else {"working_memory": text})


def held(url: str, conversation: str = "c") -> str | None:
    """Return what the server holds, asked directly."""
    with RedisWorkingMemoryManager(url) as manager:
        found = manager.retrieve(value(conversation=conversation))
        return found[0].working_memory if found else None


def home(manager: Any) -> None:
    """Wait until nothing is pending any more, without any call to the store."""
    wait_until(lambda: not manager.has_pending_writes, "everything came home")


def texts(manager: Any) -> list[str | None]:
    """Return the texts of the conflict copies."""
    return sorted((conflict.text for conflict in manager.conflicts()), key=str)
