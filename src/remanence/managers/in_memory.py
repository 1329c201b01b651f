"""Memories in this process: the semantics of the Redis manager without Redis, for development and tests."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final, Self

from remanence.clock import SYSTEM_CLOCK, Clock
from remanence.flow import Call, Flow, KeptCopy, WriteItem
from remanence.interface import ConversationMemoryType
from remanence.managers.operate import operate
from remanence.operations import AsyncOperations, Operations
from remanence.record import decode, split_key, version_of
from remanence.results import Conflict, copy_digest
from remanence.settings import key_part, positive, refuse_unknown, whole

__all__ = ["AsyncInMemoryManager", "InMemoryManager"]

DEFAULT_TTL: Final = 60 * 60 * 12
MAX_MEMORY_BYTES: Final = 8 * 1024 * 1024


def _immediate(method: Callable[..., Any]) -> Callable[..., Flow]:
    """Turn a method that needs no I/O into a flow that asks for none."""

    @wraps(method)
    def flow(*args: Any) -> Flow:
        return method(*args)
        yield

    return flow


class InMemoryBackend:
    """See `operate.Backend`; thread-safe.

    Entries stand in the order in which they were written. With one TTL for all that is the order of expiry too, so
    expired ones are found at the front, at a cost of O(1) a write.
    """

    def __init__(
        self, *, prefix: str, max_memory_bytes: int, max_entries: int | None, max_bytes: int | None, clock: Clock
    ) -> None:
        self.prefix = prefix
        self.max_memory_bytes = max_memory_bytes
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[bytes, float | None]] = OrderedDict()
        self._bytes = 0
        self._evictions = 0
        self._kept: dict[str, dict[str, tuple[bytes | None, float]]] = {}

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._entries)

    @_immediate
    def read(self, call: Call, key: str) -> bytes | None:  # noqa: ARG002 - one shape for all backends
        """Give the stored bytes, None for nothing."""
        with self._lock:
            return self._get(key)

    @_immediate
    def put(self, call: Call, key: str, raw: bytes, ttl: float | None) -> None:  # noqa: ARG002
        """Write unguarded."""
        with self._lock:
            self._set(key, raw, ttl)

    @_immediate
    def discard(self, call: Call, key: str) -> bool:  # noqa: ARG002
        """Delete unguarded."""
        with self._lock:
            return self._remove(key)

    @_immediate
    def write(self, call: Call, item: WriteItem) -> bytes | None:  # noqa: ARG002
        """Write or delete under the guard."""
        with self._lock:
            return self._write(item)

    @_immediate
    def read_many(self, call: Call, keys: Sequence[str]) -> list[bytes | None]:  # noqa: ARG002
        """Read."""
        with self._lock:
            return [self._get(key) for key in keys]

    @_immediate
    def write_many(self, call: Call, items: Sequence[WriteItem]) -> list[bytes | None]:  # noqa: ARG002
        """Write or delete each under its guard."""
        with self._lock:
            return [self._write(item) for item in items]

    @_immediate
    def keep(self, call: Call, copies: Sequence[KeptCopy]) -> list[None]:  # noqa: ARG002
        """Keep conflict copies."""
        now = self._clock.monotonic()
        with self._lock:
            self._kept = {key: left for key, kept in self._kept.items() if (left := _unexpired(kept, now))}
            for copy in copies:
                self._kept.setdefault(copy.key, {})[copy_digest(copy.raw)] = (copy.raw, now + copy.ttl)
        return [None] * len(copies)

    @_immediate
    def kept(self, call: Call, cursor: int) -> tuple[list[Conflict], int]:  # noqa: ARG002
        """List the conflict copies, on one page."""
        now = self._clock.monotonic()
        with self._lock:
            copies = [
                (key, name, raw) for key, kept in self._kept.items() for name, (raw, _) in _unexpired(kept, now).items()
            ]
        return [_conflict(self.prefix, key, name, raw) for key, name, raw in copies], 0

    @_immediate
    def drop_kept(self, call: Call, *keys: str) -> None:  # noqa: ARG002
        """Remove the conflict copies of memories."""
        with self._lock:
            for key in keys:
                self._kept.pop(key, None)

    @_immediate
    def drop(self, call: Call, key: str, name: str) -> None:  # noqa: ARG002
        """Remove one conflict copy."""
        with self._lock:
            kept = self._kept.get(key, {})
            kept.pop(name, None)
            if not kept:
                self._kept.pop(key, None)

    @_immediate
    def identify(self, call: Call) -> tuple[str, int]:  # noqa: ARG002
        """Give an identity that holds while the process lives."""
        return (f"in-memory-{id(self)}", self._evictions)

    def _write(self, item: WriteItem) -> bytes | None:
        held = self._get(item.key)
        if item.guard is not None and version_of(held) not in item.guard:
            return held or b""
        if item.raw is not None:
            self._set(item.key, item.raw, item.ttl)
            return None
        return None if self._remove(item.key) else b""

    def _get(self, key: str) -> bytes | None:
        held = self._entries.get(key)
        if held is None:
            return None
        if held[1] is not None and held[1] <= self._clock.monotonic():
            self._remove(key)
            return None
        return held[0]

    def _set(self, key: str, raw: bytes, ttl: float | None) -> None:
        self._expire()
        self._remove(key)
        self._entries[key] = (raw, None if ttl is None else self._clock.monotonic() + ttl)
        self._bytes += len(raw)
        while self._over_limit():
            self._evictions += 1
            self._remove(next(iter(self._entries)))

    def _over_limit(self) -> bool:
        if len(self._entries) <= 1:
            return False
        return (self._max_entries is not None and len(self._entries) > self._max_entries) or (
            self._max_bytes is not None and self._bytes > self._max_bytes
        )

    def _remove(self, key: str) -> bool:
        held = self._entries.pop(key, None)
        if held is None:
            return False
        self._bytes -= len(held[0])
        return held[1] is None or held[1] > self._clock.monotonic()

    def _expire(self) -> None:
        now = self._clock.monotonic()
        while self._entries:
            key, (_, expires) = next(iter(self._entries.items()))
            if expires is None or expires > now:
                break
            self._remove(key)


def _unexpired(kept: dict[str, tuple[bytes | None, float]], now: float) -> dict[str, tuple[bytes | None, float]]:
    return {name: copy for name, copy in kept.items() if copy[1] > now}


def _conflict(prefix: str, key: str, name: str, raw: bytes | None) -> Conflict:
    memory_type, conversation_id = split_key(prefix, key)
    record = None if raw is None else decode(raw, key)
    return Conflict(
        conversation_id=conversation_id,
        memory_type=ConversationMemoryType(memory_type),
        text=None if record is None else record.text,
        digest=name,
        last_update=None if record is None else record.last_update,
        metadata={} if record is None else record.metadata,
    )


class _InMemory:
    """What both flavours share."""

    guards_plain_writes = True

    def __init__(
        self,
        *,
        ttl: float | None = DEFAULT_TTL,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        key_prefix: str = "memory",
        max_memory_bytes: int = MAX_MEMORY_BYTES,
        clock: Clock = SYSTEM_CLOCK,
        **other: Any,
    ) -> None:
        refuse_unknown(other, type(self).__name__)
        self.ttl: float | None = positive("ttl", ttl, optional=True)
        self.prefix = key_part("key_prefix", key_prefix)
        self.max_memory_bytes: int = whole("max_memory_bytes", max_memory_bytes)
        self.clock = clock
        self.backend = InMemoryBackend(
            prefix=key_prefix,
            max_memory_bytes=self.max_memory_bytes,
            max_entries=whole("max_entries", max_entries, optional=True),
            max_bytes=whole("max_bytes", max_bytes, optional=True),
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} ttl={self.ttl}>"

    def _carry_out(self, call: Call) -> Any:
        try:
            next(operate(self.backend, call))
        except StopIteration as stop:
            return stop.value
        message = "an in-memory operation asked for I/O"
        raise AssertionError(message)


class InMemoryManager(_InMemory, Operations):
    """Memories in this process, for threads.

    Args:
        ttl: Seconds that a memory lives after its last write, more than 0; None for ever.
        max_entries: Memories to keep, None for no limit; beyond it the one written longest ago goes.
        max_bytes: Encoded bytes to keep, None for no limit.
        key_prefix: First part of the keys.
        max_memory_bytes: Limit of an encoded record.
        clock: For tests.

    Raises:
        ConfigurationError: An unknown keyword or a number out of range.
    """

    def perform(self, call: Call) -> Any:
        """Carry out `call`; for the decorators."""
        return self._carry_out(call)

    _submit = perform

    def close(self) -> None:
        """Nothing to close: the memories go with the object."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class AsyncInMemoryManager(_InMemory, AsyncOperations):
    """Memories in this process, for asyncio; settings as for `InMemoryManager`."""

    async def perform(self, call: Call) -> Any:
        """Carry out `call`; for the decorators."""
        return self._carry_out(call)

    _submit = perform

    async def aclose(self) -> None:
        """Nothing to close: the memories go with the object."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
