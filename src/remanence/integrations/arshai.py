"""A memory manager as arshai's `WorkingMemoryAgent` uses one: awaited, with dicts, a read and a write for each turn.

The agent swallows a read that fails, makes a memory from nothing, and stores that over the real one. It also stores
over what another turn of the conversation has stored since it read. Here each turn's write is made on what the turn has
read. The framework itself is not imported.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, Literal

from remanence.decorated import AsyncDecoratedManager, DecoratedManager
from remanence.errors import (
    ConfigurationError,
    RemanenceError,
    UnavailableError,
    VersionConflictError,
)
from remanence.flow import Call, KeptCopy
from remanence.interface import MemoryInputLike
from remanence.operations import ANY_VERSION, AsyncOperations, Operations, key_call, store_call
from remanence.results import Memories, Receipt
from remanence.stack import wrap

__all__ = ["AgentMemory", "TurnLostError", "TurnRefusedError", "agent_memory"]

_COPY_TTL: Final = 7 * 24 * 3600.0
_READS: Final = 16
"""Reads that a task may have open: a turn reads one conversation and stores it."""


class TurnRefusedError(UnavailableError):
    """The turn began without the stored memory, so what it made is not stored over that."""

    def __init__(self) -> None:
        super().__init__(
            "this turn's memory was not read: the read failed, or the store is away and nothing is known here. What is "
            'stored was kept, and this turn was not stored over it; repeat the turn, or pass on_degraded="continue".'
        )


class TurnLostError(VersionConflictError):
    """Another turn of the conversation was stored since this one had read it.

    Attributes:
        kept: Whether this turn's memory is now a conflict copy, to be had by `conflicts()`.
    """

    def __init__(self, *, kept: bool) -> None:
        done = "was kept as a conflict copy" if kept else "could not be kept as a conflict copy either"
        RemanenceError.__init__(
            self,
            "another turn of the conversation was stored meanwhile, or its memory was deleted, and that stands. This "
            f"one's memory {done}; repeat the turn, or merge the two with resolve_conflict().",
        )
        self.current = None
        self.kept = kept


class AgentMemory:
    """See `agent_memory`."""

    def __init__(self, manager: Any, on_degraded: Literal["refuse", "continue"]) -> None:
        self.manager = manager
        self._continues = on_degraded == "continue"
        self._is_async = isinstance(manager, AsyncOperations)
        self._mine = object()

    def __bool__(self) -> bool:
        return True  # the agent leaves out a manager that is false, whatever that may mean

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {type(self.manager).__name__}>"

    async def retrieve(self, input: MemoryInputLike) -> Memories:  # noqa: A002 - the interface's own name
        """Return the memory, and remember for this turn what was read."""
        key = key_call(self.manager, "retrieve", input).key
        self._note(key, None)
        memories: Memories = await self._ask(self.manager.retrieve, input)
        self._used(key)
        self._note(key, memories)
        return memories

    async def store(self, input: MemoryInputLike) -> Receipt:  # noqa: A002
        """Write the memory over what the turn has read.

        Without a read in this task it replaces whatever is there, as a manager does.

        Raises:
            TurnRefusedError: The read had failed, or nothing was known; nothing was written.
            TurnLostError: Another turn was stored since the read.
        """
        key = key_call(self.manager, "store", input).key
        if not self._has_read(key):
            return await self._store(input, ANY_VERSION)
        memories = self._used(key)
        if memories is not None and memories.source != "none":
            return await self._store(input, memories.version)
        if not self._continues:
            raise TurnRefusedError
        return await self._store(input, ANY_VERSION)

    async def update(self, input: MemoryInputLike) -> Receipt:  # noqa: A002
        """Replace the text of an existing memory."""
        receipt: Receipt = await self._ask(self.manager.update, input)
        return receipt

    async def delete(self, input: MemoryInputLike) -> Receipt:  # noqa: A002
        """Remove the memory."""
        receipt: Receipt = await self._ask(self.manager.delete, input)
        return receipt

    async def _store(self, value: MemoryInputLike, version: Any) -> Receipt:
        try:
            receipt: Receipt = await self._ask(self.manager.store, value, if_version=version)
        except VersionConflictError:
            raise TurnLostError(kept=await self._keep(value)) from None
        return receipt

    async def _keep(self, value: MemoryInputLike) -> bool:
        """Have the store keep what lost."""
        call = store_call(self.manager, value, ANY_VERSION)
        copy = KeptCopy(call.key, call.raw, _COPY_TTL)
        try:
            results = await self._ask(self.manager._submit, Call("keep", items=[copy]))  # noqa: SLF001 - the package's own
        except Exception:  # noqa: BLE001 - told by the caller
            return False
        return not any(isinstance(result, Exception) for result in results)

    async def _ask(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._is_async:
            return await method(*args, **kwargs)
        return await asyncio.to_thread(method, *args, **kwargs)

    def _has_read(self, key: str) -> bool:
        return any(read[:2] == (self._mine, key) for read in _reads.get())

    def _note(self, key: str, memories: Memories | None) -> None:
        # Never changed in place: tasks that this one starts have the same reads to begin with.
        _reads.set((*_reads.get()[1 - _READS :], (self._mine, key, memories)))

    def _used(self, key: str) -> Memories | None:
        """Take back the last read of `key`: a turn may have begun, and stored, within another."""
        reads = list(_reads.get())
        for place in reversed(range(len(reads))):
            if reads[place][:2] == (self._mine, key):
                _, _, memories = reads.pop(place)
                _reads.set(tuple(reads))
                return memories
        return None


_reads: ContextVar[tuple[tuple[object, str, Memories | None], ...]] = ContextVar("remanence_turns", default=())


def agent_memory(manager: Any, *, on_degraded: Literal["refuse", "continue"] = "refuse") -> AgentMemory:
    """Return `manager` as arshai's agent needs it.

    Args:
        manager: Any memory manager, synchronous or not; `resilient(…)` for outages. A synchronous one is called in
            threads. The caller closes it.
        on_degraded: What becomes of a turn whose read had failed, or found nothing known in an outage: "refuse" has
            its `store` raise TurnRefusedError, "continue" stores it all the same.

    Raises:
        ConfigurationError: `manager` is none, or `on_degraded` is something else.
    """
    if on_degraded not in {"refuse", "continue"}:
        message = f'on_degraded is "refuse" or "continue", not {on_degraded!r}.'
        raise ConfigurationError(message)
    if isinstance(manager, AgentMemory):
        message = "this is an agent's memory already: pass the manager inside it."
        raise ConfigurationError(message)
    ours = isinstance(manager, Operations | AsyncOperations | DecoratedManager | AsyncDecoratedManager)
    if inspect.isclass(manager) or not ours:
        manager = wrap(manager)  # which tells what is wrong with it
    return AgentMemory(manager, on_degraded)
