"""A manager that is not ours (the framework's, or anyone's): its four methods behind the backend's terms.

It tells texts, not bytes, and has no conditional write: versions are digests of the text, and a guard is a read before
the write, so somebody else may come in between. Conflict copies go to conversations of their own, which only this
process can list.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from remanence.clock import SYSTEM_CLOCK, Clock
from remanence.errors import ConfigurationError
from remanence.flow import Call, Flow, KeptCopy, WriteItem
from remanence.interface import ConversationMemoryType, IMemoryInput, IWorkingMemory
from remanence.managers.operate import memories, operate
from remanence.record import decode, encode, split_key, version_of
from remanence.results import Conflict, Receipt, copy_digest

__all__ = ["AsyncForeignManager", "ForeignCall", "ForeignManager", "adapt"]

MAX_MEMORY_BYTES: Final = 8 * 1024 * 1024
_METHODS = ("store", "retrieve", "update", "delete")
_UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class ForeignCall:
    """Call one of the manager's own methods."""

    method: str
    input: IMemoryInput


class ForeignBackend:
    """See `operate.Backend`; "bytes" are a record made of the text alone, so that equal texts have equal digests."""

    max_memory_bytes = MAX_MEMORY_BYTES

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._lock = threading.Lock()
        self._kept: dict[str, dict[str, bytes | None]] = {}

    def read(self, call: Call, key: str) -> Flow:  # noqa: ARG002 - one shape for all backends
        """Ask the manager."""
        return _record_of((yield ForeignCall("retrieve", self._input(key, None))))

    def put(self, call: Call, key: str, raw: bytes, ttl: float | None) -> Flow:  # noqa: ARG002
        """Store; the manager has a TTL of its own."""
        yield ForeignCall("store", self._input(key, raw))

    def discard(self, call: Call, key: str) -> Flow:  # noqa: ARG002
        """Delete; whether there was something is not told."""
        yield ForeignCall("delete", self._input(key, None))
        return True

    def write(self, call: Call, item: WriteItem) -> Flow:
        """Compare by a read, then write."""
        if item.guard is not None:
            held = yield from self.read(call, item.key)
            if version_of(held) not in item.guard:
                return held or b""
        if item.raw is None:
            yield from self.discard(call, item.key)
        else:
            yield from self.put(call, item.key, item.raw, item.ttl)
        return None

    def read_many(self, call: Call, keys: Sequence[str]) -> Flow:
        """Read one after the other."""
        return (yield from _one_by_one([self.read(call, key) for key in keys]))

    def write_many(self, call: Call, items: Sequence[WriteItem]) -> Flow:
        """Write one after the other."""
        return (yield from _one_by_one([self.write(call, item) for item in items]))

    def keep(self, call: Call, copies: Sequence[KeptCopy]) -> Flow:  # noqa: ARG002
        """Store each copy as a conversation of its own."""
        return (yield from _one_by_one([self._keep(copy) for copy in copies]))

    def _keep(self, copy: KeptCopy) -> Flow:
        name = copy_digest(copy.raw)
        if copy.raw is not None:
            yield ForeignCall("store", self._input(copy.key, copy.raw, copy=name))
        with self._lock:
            self._kept.setdefault(copy.key, {})[name] = copy.raw

    def kept(self, call: Call, cursor: int) -> Flow:  # noqa: ARG002
        """List what this process kept, on one page."""
        with self._lock:
            copies = [(key, name, raw) for key, kept in self._kept.items() for name, raw in kept.items()]
        return [self._conflict(*copy) for copy in copies], 0
        yield

    def drop_kept(self, call: Call, *keys: str) -> Flow:  # noqa: ARG002
        """Delete what this process kept."""
        results = yield from _one_by_one([self._drop_kept(key) for key in keys])
        return {key: result for key, result in zip(keys, results, strict=True) if result is not None}

    def _drop_kept(self, key: str) -> Flow:
        with self._lock:
            names = list(self._kept.get(key, ()))
        for name in names:
            yield from self.drop(None, key, name)

    def drop(self, call: Call | None, key: str, name: str) -> Flow:  # noqa: ARG002
        """Delete one copy, which this process may have kept or an earlier one."""
        yield ForeignCall("delete", self._input(key, None, copy=name))
        with self._lock:
            kept = self._kept.get(key, {})
            kept.pop(name, None)
            if not kept:
                self._kept.pop(key, None)

    def identify(self, call: Call) -> Flow:  # noqa: ARG002
        """Not known."""
        return None
        yield

    def _conflict(self, key: str, name: str, raw: bytes | None) -> Conflict:
        memory_type, conversation_id = split_key(self.prefix, key)
        record = None if raw is None else decode(raw, key)
        return Conflict(
            conversation_id=conversation_id,
            memory_type=ConversationMemoryType(memory_type),
            text=None if record is None else record.text,
            digest=name,
            metadata={} if record is None else record.metadata,
        )

    def _input(self, key: str, raw: bytes | None, *, copy: str = "") -> IMemoryInput:
        memory_type, conversation_id = split_key(self.prefix, key)
        record = None if raw is None else decode(raw, key)
        return IMemoryInput(
            conversation_id=f"remanence-conflict:{conversation_id}:{copy}" if copy else conversation_id,
            memory_type=ConversationMemoryType(memory_type),
            data=None if record is None else [IWorkingMemory(working_memory=record.text)],
            metadata=(record.metadata or None) if record is not None else None,
        )


def _one_by_one(flows: Sequence[Flow]) -> Flow:
    results: list[Any] = []
    for flow in flows:
        try:
            result = yield from flow
        except Exception as error:  # noqa: BLE001 - a batch settles per item
            result = error
        results.append(result)
    return results


def _record_of(answer: Sequence[Any]) -> bytes | None:
    return encode(answer[-1].working_memory, None, _UNKNOWN, _UNKNOWN) if answer else None


def _canonical(raw: bytes) -> bytes:
    """Return the record that reading it back from the manager would give."""
    return encode(decode(raw, "").text, None, _UNKNOWN, _UNKNOWN)


def _plain(backend: ForeignBackend, call: Call) -> Flow:
    """Pass an unconditional operation on as the caller made it."""
    answer = yield ForeignCall(call.operation, call.input)  # type: ignore[arg-type]
    if call.operation == "delete":
        failures = yield from backend.drop_kept(call, call.key)
        if failures:
            raise failures[call.key]
    if call.operation == "retrieve":
        return memories(_record_of(answer), call.key)
    written = None if call.operation == "delete" else encode(call.text or "", None, _UNKNOWN, _UNKNOWN)
    return Receipt(answer if isinstance(answer, str) and answer else call.key, "committed", written)


def _foreign_flow(backend: ForeignBackend, call: Call) -> Flow:
    if call.operation in _METHODS and call.guard is None:
        call.attempts += 1
        return _plain(backend, call)
    return _canonical_receipts(operate(backend, call))


def _canonical_receipts(flow: Flow) -> Flow:
    result = yield from flow
    return [_canonical_receipt(item) for item in result] if isinstance(result, list) else _canonical_receipt(result)


def _canonical_receipt(result: Any) -> Any:
    if isinstance(result, Receipt) and result.raw is not None:
        return Receipt(result, result.outcome, _canonical(result.raw))
    return result


class _Foreign:
    guards_plain_writes = True
    prefix = "memory"
    max_memory_bytes = MAX_MEMORY_BYTES
    canonical = staticmethod(_canonical)

    def __init__(self, manager: Any, clock: Clock = SYSTEM_CLOCK) -> None:
        self.manager = manager
        self.clock = clock
        ttl = getattr(manager, "ttl", None)
        self.ttl = ttl if isinstance(ttl, int | float) and ttl > 0 else None
        self.backend = ForeignBackend(self.prefix)


class ForeignManager(_Foreign):
    """Adapts a synchronous manager."""

    def perform(self, call: Call) -> Any:
        """Carry out `call` with the manager's own methods."""
        flow = _foreign_flow(self.backend, call)
        try:
            step = next(flow)
            while True:
                try:
                    answer = getattr(self.manager, step.method)(step.input)
                except BaseException as error:  # noqa: BLE001 - handed to the flow, which decides
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            return stop.value


class AsyncForeignManager(_Foreign):
    """Adapts an asynchronous manager."""

    async def perform(self, call: Call) -> Any:
        """Carry out `call` with the manager's own methods."""
        flow = _foreign_flow(self.backend, call)
        try:
            step = next(flow)
            while True:
                try:
                    answer = await getattr(self.manager, step.method)(step.input)
                except BaseException as error:  # noqa: BLE001 - handed to the flow, which decides
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            return stop.value


def adapt(manager: Any) -> Any:
    """Return `manager`, or an adapter when it is not one of ours.

    Raises:
        ConfigurationError: It is no memory manager, or one whose methods are partly asynchronous.
    """
    # Asked of the class: a double in a unit test has every attribute.
    if callable(getattr(type(manager), "perform", None)):
        return manager
    missing = [name for name in _METHODS if not callable(getattr(manager, name, None))]
    if missing or isinstance(manager, type):
        lacks = ", ".join(missing) or "instance"
        message = f"{type(manager).__name__} is no memory manager: it has no {lacks}. Pass an instance."
        raise ConfigurationError(message)
    awaited = [name for name in _METHODS if inspect.iscoroutinefunction(getattr(manager, name))]
    if 0 < len(awaited) < len(_METHODS):
        message = (
            f"{type(manager).__name__} is half asynchronous: {', '.join(awaited)} must be awaited, the others not. "
            "Make all four the same."
        )
        raise ConfigurationError(message)
    return AsyncForeignManager(manager) if awaited else ForeignManager(manager)
