"""What each operation does, as flows over a backend: the same for Redis, for memory and for a foreign manager.

A backend's methods are generators that yield the commands of their store, so they too run under every driver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol

from remanence.classify import ErrorClass, classify
from remanence.errors import VersionConflictError
from remanence.flow import Call, Flow, KeptCopy, WriteItem
from remanence.interface import IWorkingMemory
from remanence.record import ABSENT, check_size, decode, digest, revise, version_of
from remanence.results import Conflict, Memories, Receipt

__all__ = ["Backend", "memories", "operate"]


class Backend(Protocol):
    """A store, in the terms that the operations need.

    `write` returns None when written, or what is held instead (b"" for nothing) when that is not one of the guard's
    digests. The `_many` methods return one such result, or an exception, for each item.
    """

    max_memory_bytes: int

    def read(self, call: Call, key: str) -> Flow:
        """Give the stored bytes, None for nothing."""
        ...

    def put(self, call: Call, key: str, raw: bytes, ttl: float | None) -> Flow:
        """Write unguarded, as the reference does."""
        ...

    def discard(self, call: Call, key: str) -> Flow:
        """Delete unguarded; gives whether there was something."""
        ...

    def write(self, call: Call, item: WriteItem) -> Flow:
        """Write or delete under the guard and the call's not-after; deleting nothing gives ABSENT's b""."""
        ...

    def read_many(self, call: Call, keys: Sequence[str]) -> Flow:
        """Give a list of stored bytes, None or an exception."""
        ...

    def write_many(self, call: Call, items: Sequence[WriteItem]) -> Flow:
        """Give a list of results as of `write`, or exceptions."""
        ...

    def keep(self, call: Call, copies: Sequence[KeptCopy]) -> Flow:
        """Keep conflict copies; gives a list of None or exceptions."""
        ...

    def kept(self, call: Call, cursor: int) -> Flow:
        """Give a page of conflict copies, and the cursor of the next one, 0 when this was the last."""
        ...

    def drop_kept(self, call: Call, *keys: str) -> Flow:
        """Remove the conflict copies of memories; gives the exceptions by key, or None when there was none."""
        ...

    def drop(self, call: Call, key: str, name: str) -> Flow:
        """Remove the one conflict copy of a memory that has this digest, if there is one."""
        ...

    def identify(self, call: Call) -> Flow:
        """Give (run id, evictions so far), None where that is not known."""
        ...


def operate(backend: Backend, call: Call) -> Flow:
    """Return the flow that carries `call` out."""
    call.attempts += 1
    return _OPERATIONS[call.operation](backend, call)


def _store(backend: Backend, call: Call) -> Flow:
    raw: bytes = call.raw  # type: ignore[assignment]
    if not call.guarded:
        yield from backend.put(call, call.key, raw, call.ttl)
        return Receipt(call.key, "committed", raw)
    guard = _guard_again(call, call) if call.attempts > 1 else call.guard
    held = yield from backend.write(call, WriteItem(call.key, raw, call.ttl, guard))
    if held is not None:
        raise VersionConflictError(held)
    return Receipt(call.key, "committed", raw)


def _guard_again(item: Call, call: Call) -> tuple[str, ...] | None:
    """Return what a repeated store or delete may replace.

    Where an earlier attempt may have been applied, somebody may have seen it and built on it: then only that attempt's
    own value, or what the store was made over, may be replaced.
    """
    own = version_of(item.raw)
    if item.guard is not None:
        return (*item.guard, own)
    return (*item.over(), own) if call.unsettled_until and item.over is not None else None


def _retrieve(backend: Backend, call: Call) -> Flow:
    raw = yield from backend.read(call, call.key)
    return memories(raw, call.key)


def _update(backend: Backend, call: Call) -> Flow:
    if call.attempts > 1 and call.raw is not None:
        call.sent += (digest(call.raw),)
    raw: bytes | None = call.known
    if raw is None:
        raw = yield from backend.read(call, call.key)
    # As for a store: an earlier attempt may have been applied, and somebody may have built on it.
    allowed = call.guard
    if allowed is None and call.unsettled_until and call.over is not None:
        allowed = (call.replaced,) if call.replaced else call.over()
    while raw:
        base = digest(raw)
        if base in call.sent:
            return Receipt(call.key, "committed", raw)
        if allowed is not None and base not in allowed:
            raise VersionConflictError(raw)
        call.replaced = base
        call.raw = check_size(
            revise(raw, call.key, call.text or "", call.metadata, call.stamp), backend.max_memory_bytes
        )
        held = yield from backend.write(call, WriteItem(call.key, call.raw, call.ttl, (base,)))
        if held is None:
            return Receipt(call.key, "committed", call.raw)
        raw = held
    if call.guard is not None and ABSENT not in call.guard:
        raise VersionConflictError(b"")
    return Receipt(call.key, "missing")


def _delete(backend: Backend, call: Call) -> Flow:
    if not call.guarded:
        found = yield from backend.discard(call, call.key)
        return Receipt(call.key, "committed" if found else "missing")
    if not call.deleted:
        guard = _guard_again(call, call) if call.attempts > 1 else call.guard
        held = yield from backend.write(call, WriteItem(call.key, None, None, guard))
        if held:
            raise VersionConflictError(held)
        call.deleted = _deleted(held, call)
    failures = yield from backend.drop_kept(call, call.key)
    if failures and not _may_not_keep(failures[call.key]):
        raise failures[call.key]
    return Receipt(call.key, call.deleted)


def _deleted(held: bytes | None, call: Call) -> Literal["committed", "missing"]:
    # After an attempt whose answer was lost, "nothing there" is most likely our own work.
    return "committed" if held is None or call.attempts > 1 else "missing"


def _store_many(backend: Backend, call: Call) -> Flow:
    items: Sequence[Any] = call.items  # a call has the fields of a WriteItem
    if call.unsettled_until:
        items = [WriteItem(item.key, item.raw, item.ttl, _guard_again(item, call)) for item in call.items]
    results = yield from backend.write_many(call, items)
    return [
        Receipt(item.key, "committed", item.raw)
        if held is None
        else held
        if isinstance(held, Exception)
        else VersionConflictError(held)
        for item, held in zip(call.items, results, strict=True)
    ]


def _retrieve_many(backend: Backend, call: Call) -> Flow:
    raws = yield from backend.read_many(call, [item.key for item in call.items])
    return [
        raw if isinstance(raw, Exception) else _attempt(memories, raw, item.key)
        for item, raw in zip(call.items, raws, strict=True)
    ]


def _delete_many(backend: Backend, call: Call) -> Flow:
    again = bool(call.unsettled_until)
    left: list[Call] = [item for item in call.items if not item.deleted]
    items = [WriteItem(item.key, None, None, _guard_again(item, call) if again else item.guard) for item in left]
    results = yield from backend.write_many(call, items)
    errors: dict[int, Exception] = {}
    for item, held in zip(left, results, strict=True):
        if isinstance(held, Exception):
            errors[id(item)] = held
        elif held:
            errors[id(item)] = VersionConflictError(held)
        else:
            item.deleted = _deleted(held, call)
    gone = dict.fromkeys(item.key for item in call.items if item.deleted)
    failures = (yield from backend.drop_kept(call, *gone)) if gone else None
    failed = {key: error for key, error in (failures or {}).items() if not _may_not_keep(error)}
    return [
        errors.get(id(item)) or failed.get(item.key) or Receipt(item.key, item.deleted or "missing")
        for item in call.items
    ]


def _may_not_keep(error: Exception) -> bool:
    """Whether this user has no access to conflict copies at all: then the delete has done what it could."""
    return classify(error) is ErrorClass.CONFIGURATION


def _reconcile(backend: Backend, call: Call) -> Flow:
    return (yield from backend.write_many(call, call.items))


def _keep(backend: Backend, call: Call) -> Flow:
    return (yield from backend.keep(call, call.items))


def _kept(backend: Backend, call: Call) -> Flow:
    found: tuple[list[Conflict], int] = yield from backend.kept(call, int(call.key or 0))
    return found


def _drop(backend: Backend, call: Call) -> Flow:
    # Repeating it is harmless, and so is an attempt that comes late: the digest names what was to be removed.
    for name in call.guard or ():
        yield from backend.drop(call, call.key, name)


def _identify(backend: Backend, call: Call) -> Flow:
    return (yield from backend.identify(call))


def memories(raw: bytes | None, key: str) -> Memories:
    """Return the store's answer for what it holds."""
    if raw is None:
        return Memories()
    record = decode(raw, key)
    return Memories((IWorkingMemory(working_memory=record.text),), record=record)


def _attempt(fn: Callable[..., Any], *args: Any) -> Any:
    try:
        return fn(*args)
    except Exception as error:  # noqa: BLE001 - a batch settles per item
        return error


_OPERATIONS: Final[dict[str, Callable[[Backend, Call], Flow]]] = {
    "store": _store,
    "retrieve": _retrieve,
    "update": _update,
    "delete": _delete,
    "store_many": _store_many,
    "retrieve_many": _retrieve_many,
    "delete_many": _delete_many,
    "reconcile": _reconcile,
    "keep": _keep,
    "kept": _kept,
    "drop": _drop,
    "identify": _identify,
}
