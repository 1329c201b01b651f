"""The managers that the demo compares, behind one face: read a memory, write it back.

`reference` follows the framework's algorithm: a client without timeouts, SETEX and GET of a JSON record.
`documented` puts around it what the framework's documentation recommends for errors: a write is tried three times with
waits of 1 s and 2 s on `ConnectionError`, a read that ends in one is answered with "no memories".
`resilient` is this package's recommended stack, `memory-journal` the same where the other has its journal on disk.
"""

from __future__ import annotations

import importlib
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import redis

from remanence.lab.attempts import count_attempts

__all__ = ["IN_MEMORY", "NAMES", "Contender", "LostRaceError", "Read", "Status", "build"]

NAMES = ("resilient", "reference", "documented")

IN_MEMORY = "memory-journal"
"""The resilient manager with its journal in memory, to compare with the one whose journal outlives its process."""

_TTL_S = 12 * 60 * 60
_BLIND = object()


class LostRaceError(Exception):
    """Somebody else wrote between the read and the write; nothing was written."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a read answered.

    Attributes:
        text: The memory, or None for "no memory".
        answered: "redis", or what answered in its place: "journal", "stale", "none".
        version: What the manager offers to write on, or the mark of a manager without versions.
    """

    text: str | None
    answered: str = "redis"
    version: Any = field(default=_BLIND, repr=False)


@dataclass(frozen=True, slots=True)
class Status:
    """What a manager says about itself: writes pending, writes replayed so far, set aside, and its breaker's state."""

    pending: int
    replayed: int
    stuck: int
    breaker: str | None


class Contender(Protocol):
    """One manager under test, used by many threads of one process."""

    attempts: deque[float]

    def read(self, conversation_id: str) -> Read:
        """Read a memory; whatever the manager raises comes through."""

    def write(self, conversation_id: str, text: str, base: Read) -> str:
        """Write the memory made from `base`; return "redis" or "journaled" as soon as the caller is acknowledged.

        Raises:
            LostRaceError: The manager found that `base` is no longer what it holds.
        """

    def status(self) -> Status | None:
        """Return what the manager says about itself, None where it says nothing."""

    def drain(self, timeout: float) -> None:
        """Give pending writes up to `timeout` seconds to reach Redis."""

    def close(self) -> None:
        """Let go of the connections."""


class Reference:
    """The framework's algorithm: no timeout, no retry, and a write replaces whatever is there."""

    def __init__(self, url: str) -> None:
        # The framework pins a redis-py whose default is to wait for ever and to speak RESP2.
        self._redis = redis.Redis.from_url(url, socket_timeout=None, socket_connect_timeout=None, protocol=2)
        self.attempts = count_attempts(self._redis)

    def read(self, conversation_id: str) -> Read:
        raw: Any = self._redis.get(_key(conversation_id))
        return Read(json.loads(raw)["data"]["working_memory"] if raw else None)

    def write(self, conversation_id: str, text: str, base: Read) -> str:  # noqa: ARG002 - it writes over anything
        now = datetime.now().isoformat()  # noqa: DTZ005 - as the framework stamps
        record = {"data": {"working_memory": text}, "metadata": {}, "created_at": now, "last_update": now}
        self._redis.setex(_key(conversation_id), _TTL_S, json.dumps(record))
        return "redis"

    def status(self) -> Status | None:
        return None

    def drain(self, timeout: float) -> None:
        """Nothing is ever pending."""

    def close(self) -> None:
        self._redis.close()


class Documented(Reference):
    """The reference in the documentation's wrapper for errors."""

    _TRIES = 3

    def read(self, conversation_id: str) -> Read:
        try:
            return super().read(conversation_id)
        except redis.ConnectionError:
            return Read(None)

    def write(self, conversation_id: str, text: str, base: Read) -> str:
        for attempt in range(self._TRIES - 1):
            try:
                return super().write(conversation_id, text, base)
            except redis.ConnectionError:
                time.sleep(2**attempt)
        return super().write(conversation_id, text, base)


class Resilient:
    """`resilient(RedisWorkingMemoryManager(url), journal=…)`.

    Args:
        url: Where Redis is.
        journal: "memory", or the path of a file.
    """

    def __init__(self, url: str, journal: str = "memory") -> None:
        # Imported here: the lab's other managers run without the core.
        import remanence  # noqa: PLC0415

        self._core = remanence
        self._replayed = 0
        inner = remanence.RedisWorkingMemoryManager(url)
        self.attempts = count_attempts(inner.redis_client)
        self._manager = remanence.resilient(inner, journal=journal)

    def read(self, conversation_id: str) -> Read:
        got = self._manager.retrieve(self._input(conversation_id))
        return Read(got[0].working_memory if got else None, got.source, got.version)

    def write(self, conversation_id: str, text: str, base: Read) -> str:
        item = self._input(conversation_id, text)
        try:
            if base.version is _BLIND:
                receipt = self._manager.store(item)
            else:
                receipt = self._manager.store(item, if_version=base.version)
        except self._core.VersionConflictError as error:
            raise LostRaceError from error
        return "redis" if receipt.outcome == "committed" else receipt.outcome

    def status(self) -> Status | None:
        health = self._manager.health()
        return Status(health.pending, health.replayed, health.stuck, health.breaker)

    def drain(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while _waiting(self._manager.health()) and (left := deadline - time.monotonic()) > 0:
            self._manager.replay(timeout=left)
            time.sleep(0.02)

    def close(self) -> None:
        self._manager.close(timeout=1.0)

    def _input(self, conversation_id: str, text: str | None = None) -> Any:
        data = [] if text is None else [self._core.IWorkingMemory(working_memory=text)]
        kind = self._core.ConversationMemoryType.WORKING_MEMORY
        return self._core.IMemoryInput(conversation_id=conversation_id, memory_type=kind, data=data)


_BUILDERS: dict[str, Callable[[str], Contender]] = {
    "resilient": Resilient,
    IN_MEMORY: Resilient,
    "reference": Reference,
    "documented": Documented,
}


def build(name: str, url: str, *, journal: str | None = None) -> Contender:
    """Build a manager under test.

    Args:
        name: One of `NAMES`, `IN_MEMORY`, or `module:factory` for one of your own; the factory is called with the URL.
        url: Where Redis is.
        journal: File for the journal of `resilient`, None for one in memory; the others have none to put there.
    """
    if name == "resilient" and journal is not None:
        return Resilient(url, journal)
    if ":" not in name:
        return _BUILDERS[name](url)
    module, _, factory = name.partition(":")
    contender: Contender = getattr(importlib.import_module(module), factory)(url)
    return contender


def _waiting(health: Any) -> bool:
    # What Redis refuses for good would be waited for in vain.
    return bool(health.pending > health.stuck)


def _key(conversation_id: str) -> str:
    return f"memory:WORKING_MEMORY:{conversation_id}"
