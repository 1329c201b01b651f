"""The public operations of every manager, bare or decorated: inputs become calls here, once for sync and async."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

from remanence.clock import Clock
from remanence.errors import InvalidInputError, ManagerClosedError, VersionConflictError
from remanence.flow import AsyncDriver, Call, Driver, Flow, Invoke, Sleep
from remanence.interface import IMemoryInput, IWorkingMemory, MemoryInputLike, coerce
from remanence.record import ABSENT, check_size, encode, key_for, own_metadata, stamp
from remanence.results import Memories, Receipt

__all__ = ["ANY_VERSION", "AsyncOperations", "Operations", "Owner"]

BATCH_ITEMS: Final = 1_000
BATCH_BYTES: Final = 4 * 1024 * 1024
"""A batch goes out in chunks of at most this many items and encoded bytes, each under a deadline of its own."""

_MUTATE_ATTEMPTS: Final = 100
_MUTATE_WAIT: Final = 0.02


class _AnyVersion:
    __slots__ = ()

    def __repr__(self) -> str:
        return "ANY_VERSION"


ANY_VERSION: Final = _AnyVersion()
"""Default of `if_version`: write whatever is stored. None means that nothing may be stored yet."""

IfVersion = str | None | _AnyVersion


class Owner(Protocol):
    """What building a call needs to know of the manager."""

    prefix: str
    ttl: float | None
    max_memory_bytes: int
    clock: Clock
    guards_plain_writes: bool
    time_limit: float | None


def store_call(owner: Owner, value: MemoryInputLike, if_version: IfVersion) -> Call:
    """Return the call that stores `value`, its record encoded."""
    item = coerce(value)
    if not item.data:
        raise _no_data("store")
    text = item.data[-1].working_memory
    now = stamp(owner.clock.time())
    raw = check_size(encode(text, item.metadata, now, now), owner.max_memory_bytes)
    guard = _guard(if_version)
    return Call(
        "store",
        key_for(owner.prefix, item.memory_type.value, item.conversation_id),
        item,
        raw=raw,
        text=text,
        metadata=item.metadata,
        stamp=now,
        ttl=owner.ttl,
        guard=guard,
        guarded=owner.guards_plain_writes or guard is not None,
    )


def update_call(owner: Owner, value: MemoryInputLike, if_version: IfVersion) -> Call:
    """Return the call that updates the memory with `value`."""
    item = coerce(value)
    if not item.data:
        raise _no_data("update")
    metadata = own_metadata(item.metadata)
    text = item.data[-1].working_memory
    now = stamp(owner.clock.time())
    # The record around the text is known only later; a text that is too long by itself is refused here.
    # No character takes more than 12 bytes, so most need not be encoded to know.
    if metadata or 12 * len(text) + 200 > owner.max_memory_bytes:
        check_size(encode(text, metadata, now, now), owner.max_memory_bytes)
    return Call(
        "update",
        key_for(owner.prefix, item.memory_type.value, item.conversation_id),
        item,
        text=text,
        metadata=metadata,
        stamp=now,
        ttl=owner.ttl,
        guard=_guard(if_version),
    )


def key_call(owner: Owner, operation: str, value: MemoryInputLike) -> Call:
    """Return the call of a read or a delete."""
    item = coerce(value)
    key = key_for(owner.prefix, item.memory_type.value, item.conversation_id)
    return Call(operation, key, item, guarded=owner.guards_plain_writes)


def mutate_flow(owner: Owner, value: MemoryInputLike, fn: Callable[[str | None], str]) -> Flow:
    """Return the flow of a read-modify-write that is repeated until nobody wrote in between."""
    item = coerce(value)
    for attempt in range(_MUTATE_ATTEMPTS):
        deadline = None if owner.time_limit is None else owner.clock.monotonic() + owner.time_limit
        seen: Memories = yield Invoke(_until(deadline, key_call(owner, "retrieve", item)))
        text = fn(seen[0].working_memory if seen else None)
        if not isinstance(text, str):
            message = f"fn returned {type(text).__name__}, not a text. Nothing was written."
            raise InvalidInputError(message)
        changed = item.model_copy(update={"data": [IWorkingMemory(working_memory=text)]})
        try:
            return (yield Invoke(_until(deadline, _mutation(owner, changed, seen))))
        except VersionConflictError:
            # Full jitter, or the losers of one round meet again in the next.
            yield Sleep(random.uniform(0, _MUTATE_WAIT * min(attempt + 1, 10)))
    raise VersionConflictError


def _until(deadline: float | None, call: Call) -> Call:
    """Give the calls of one operation one deadline together."""
    call.deadline = deadline
    return call


def _mutation(owner: Owner, item: IMemoryInput, seen: Memories) -> Call:
    if seen.version is None:
        return store_call(owner, item, None)
    call = update_call(owner, item, seen.version)
    call.known = seen.raw
    return call


def chunks(calls: Iterable[Call]) -> Iterator[list[Call]]:
    """Split the calls of a batch into chunks within the limits."""
    chunk: list[Call] = []
    size = 0
    for call in calls:
        length = len(call.raw or b"")
        if chunk and (len(chunk) >= BATCH_ITEMS or size + length > BATCH_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(call)
        size += length
    if chunk:
        yield chunk


def batch_flow(owner: Owner, operation: str, values: Sequence[MemoryInputLike]) -> Flow:
    """Return the flow of a batch: a result or an error for each of `values`, in order."""
    # All are built first: one bad item refuses the batch before anything is written.
    if operation == "store":
        calls = [store_call(owner, value, ANY_VERSION) for value in values]
    else:
        calls = [key_call(owner, operation, value) for value in values]
    results: list[Any] = []
    is_late = False
    for chunk in chunks(calls):
        call = Call(f"{operation}_many", items=chunk, guarded=owner.guards_plain_writes)
        begun = owner.clock.monotonic()
        if is_late:
            call.deadline = begun
        try:
            answers = yield Invoke(call)
        except ManagerClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - what earlier chunks answered must not be lost with it
            answers = [error] * len(chunk)
        # Once a chunk has used its time up, the store is away: the others must not wait for it as long again.
        if owner.time_limit is not None and owner.clock.monotonic() - begun >= owner.time_limit:
            is_late = True
        results += answers
    return results


def _guard(if_version: object) -> tuple[str, ...] | None:
    if isinstance(if_version, _AnyVersion):
        return None
    if if_version is None:
        return (ABSENT,)
    if not (isinstance(if_version, str) and if_version):
        message = "if_version must be a version that was read, or None for nothing stored. Nothing was written."
        raise InvalidInputError(message)
    return (if_version,)


def _no_data(operation: str) -> InvalidInputError:
    return InvalidInputError(f"no data to {operation}: 'data' is empty. Nothing was written; pass [IWorkingMemory(…)].")


class Operations:
    """The operations of a synchronous manager; `_submit` carries them out."""

    prefix: str
    ttl: float | None
    max_memory_bytes: int
    clock: Clock
    guards_plain_writes: bool
    time_limit: float | None = None

    def _submit(self, call: Call) -> Any:
        raise NotImplementedError

    def store(self, input: MemoryInputLike, *, if_version: IfVersion = ANY_VERSION) -> Receipt:  # noqa: A002
        """Write the memory, replacing any.

        Args:
            input: `IMemoryInput`, the framework's, or a dict; of several `data` items the last one counts.
            if_version: Write only over this version (from `retrieve` or a receipt); None: only where nothing is stored.

        Returns:
            The receipt, a str equal to the key.

        Raises:
            InvalidInputError: Before anything is written.
            VersionConflictError: Something else is stored.
        """
        receipt: Receipt = self._submit(store_call(self, input, if_version))
        return receipt

    def retrieve(self, input: MemoryInputLike) -> Memories:  # noqa: A002
        """Return the memory as a list of one, or an empty list; `.source` says who answered.

        Raises:
            CorruptRecordError: What is stored is not a memory.
        """
        memories: Memories = self._submit(key_call(self, "retrieve", input))
        return memories

    def update(self, input: MemoryInputLike, *, if_version: IfVersion = ANY_VERSION) -> Receipt:  # noqa: A002
        """Replace the text of an existing memory atomically: merges metadata, keeps `created_at`, renews the TTL.

        Args:
            input: As for `store`.
            if_version: As for `store`.

        Returns:
            The receipt; its outcome is "missing" where there is nothing to update.

        Raises:
            InvalidInputError: Before anything is written.
            VersionConflictError: `if_version` is given and something else is stored.
        """
        receipt: Receipt = self._submit(update_call(self, input, if_version))
        return receipt

    def delete(self, input: MemoryInputLike) -> Receipt:  # noqa: A002
        """Remove the memory; the receipt's outcome is "missing" where there was none."""
        receipt: Receipt = self._submit(key_call(self, "delete", input))
        return receipt

    def mutate(self, input: MemoryInputLike, fn: Callable[[str | None], str]) -> Receipt:  # noqa: A002
        """Change the memory by `fn`, losing nobody's concurrent change.

        Args:
            input: Names the memory; its metadata is merged, its data ignored.
            fn: Gets the text, or None where there is none, and returns the new one. Runs again after a conflict,
                outside all policies and locks, so it must be free of side effects.

        Raises:
            VersionConflictError: 100 conflicts in a row.
        """
        receipt: Receipt = Driver((), self._submit, self.clock).drive(mutate_flow(self, input, fn), None, 0)
        return receipt

    def store_many(self, inputs: Sequence[MemoryInputLike]) -> list[Receipt | Exception]:
        """Write many memories in pipelines of up to 1 000; returns a receipt or an error for each, in order.

        Raises:
            InvalidInputError: One of them is not valid; none was written.
        """
        results: list[Any] = Driver((), self._submit, self.clock).drive(batch_flow(self, "store", inputs), None, 0)
        return results

    def retrieve_many(self, inputs: Sequence[MemoryInputLike]) -> list[Memories | Exception]:
        """Read many memories in pipelines; returns an answer or an error for each, in order."""
        results: list[Any] = Driver((), self._submit, self.clock).drive(batch_flow(self, "retrieve", inputs), None, 0)
        return results

    def delete_many(self, inputs: Sequence[MemoryInputLike]) -> list[Receipt | Exception]:
        """Remove many memories in pipelines; returns a receipt or an error for each, in order."""
        results: list[Any] = Driver((), self._submit, self.clock).drive(batch_flow(self, "delete", inputs), None, 0)
        return results


class AsyncOperations:
    """The operations of an asynchronous manager; see `Operations`."""

    prefix: str
    ttl: float | None
    max_memory_bytes: int
    clock: Clock
    guards_plain_writes: bool
    time_limit: float | None = None

    async def _submit(self, call: Call) -> Any:
        raise NotImplementedError

    async def _follow(self, flow: Flow) -> Any:
        """Run a flow of whole calls."""
        # Each call ends in its time by itself: cut off out here, it would never come to its fallback.
        return await AsyncDriver((), self._submit, self.clock, ends_in_time=True).drive(flow, None, 0)

    async def store(self, input: MemoryInputLike, *, if_version: IfVersion = ANY_VERSION) -> Receipt:  # noqa: A002
        """See `Operations.store`."""
        receipt: Receipt = await self._submit(store_call(self, input, if_version))
        return receipt

    async def retrieve(self, input: MemoryInputLike) -> Memories:  # noqa: A002
        """See `Operations.retrieve`."""
        memories: Memories = await self._submit(key_call(self, "retrieve", input))
        return memories

    async def update(self, input: MemoryInputLike, *, if_version: IfVersion = ANY_VERSION) -> Receipt:  # noqa: A002
        """See `Operations.update`."""
        receipt: Receipt = await self._submit(update_call(self, input, if_version))
        return receipt

    async def delete(self, input: MemoryInputLike) -> Receipt:  # noqa: A002
        """See `Operations.delete`."""
        receipt: Receipt = await self._submit(key_call(self, "delete", input))
        return receipt

    async def mutate(self, input: MemoryInputLike, fn: Callable[[str | None], str]) -> Receipt:  # noqa: A002
        """See `Operations.mutate`; `fn` is a plain function."""
        receipt: Receipt = await self._follow(mutate_flow(self, input, fn))
        return receipt

    async def store_many(self, inputs: Sequence[MemoryInputLike]) -> list[Receipt | Exception]:
        """See `Operations.store_many`."""
        results: list[Any] = await self._follow(batch_flow(self, "store", inputs))
        return results

    async def retrieve_many(self, inputs: Sequence[MemoryInputLike]) -> list[Memories | Exception]:
        """See `Operations.retrieve_many`."""
        results: list[Any] = await self._follow(batch_flow(self, "retrieve", inputs))
        return results

    async def delete_many(self, inputs: Sequence[MemoryInputLike]) -> list[Receipt | Exception]:
        """See `Operations.delete_many`."""
        results: list[Any] = await self._follow(batch_flow(self, "delete", inputs))
        return results
