"""Managers that record every call and otherwise do what the manager inside does."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any, Final, Literal, Self

from remanence.decorated import AsyncDecoratedManager, DecoratedManager
from remanence.errors import InvalidInputError, VersionConflictError
from remanence.flow import Call
from remanence.interface import IMemoryInput, MemoryInputLike, coerce
from remanence.lab.history.certainty import answers_for_the_store, attempts_once, outcome_of
from remanence.lab.history.operation import ANY, Answer, Kind, Outcome
from remanence.lab.history.recorder import Recorder, hashed
from remanence.operations import ANY_VERSION

__all__ = ["AsyncRecordingManager", "RecordingManager"]

_Batch = Literal["store_many", "retrieve_many", "delete_many"]
_KINDS: Final[dict[str, Kind]] = {
    "store": "write",
    "store_many": "write",
    "retrieve": "read",
    "retrieve_many": "read",
    "update": "update",
    "delete": "delete",
    "delete_many": "delete",
}


class _Recording:
    """What both flavours share.

    Args:
        manager: The manager that does the work. Errors and answers are understood best of the package's own; of
            others, every error of a write is ambiguous, and every answer is taken for the store's.
        recorder: Where the calls are noted.
        ttl: Seconds that a written value lives; None for the manager's own.
        not_after_s: Seconds after the beginning of a call from which the store refuses what is left of it; count
            generously. Infinity where nothing ever refuses it, as with the plain `store` of a bare manager.
    """

    def __init__(self, manager: Any, recorder: Recorder, *, ttl: float | None = None, not_after_s: float = inf) -> None:
        self.inner = manager
        self.recorder = recorder
        self._ttl: float | None = getattr(manager, "ttl", None) if ttl is None else ttl
        self._not_after_s = not_after_s
        self._once = attempts_once(manager)
        self._direct = answers_for_the_store(manager)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {type(self.inner).__name__}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def store(self, input: MemoryInputLike, **options: Any) -> Any:  # noqa: A002 - the interface's own name
        """See `IMemoryManager.store`."""
        return self._one("store", input, options)

    def retrieve(self, input: MemoryInputLike) -> Any:  # noqa: A002
        """See `IMemoryManager.retrieve`."""
        return self._one("retrieve", input, {})

    def update(self, input: MemoryInputLike, **options: Any) -> Any:  # noqa: A002
        """See `IMemoryManager.update`."""
        return self._one("update", input, options)

    def delete(self, input: MemoryInputLike) -> Any:  # noqa: A002
        """See `IMemoryManager.delete`."""
        return self._one("delete", input, {})

    def store_many(self, inputs: Sequence[MemoryInputLike]) -> Any:
        """Write many; each is recorded as an operation that lasts as long as the batch."""
        return self._many("store_many", inputs)

    def retrieve_many(self, inputs: Sequence[MemoryInputLike]) -> Any:
        """Read many, recorded as `store_many` is."""
        return self._many("retrieve_many", inputs)

    def delete_many(self, inputs: Sequence[MemoryInputLike]) -> Any:
        """Remove many, recorded as `store_many` is."""
        return self._many("delete_many", inputs)

    def _one(self, method: str, item: MemoryInputLike, options: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _many(self, method: _Batch, items: Sequence[MemoryInputLike]) -> Any:
        raise NotImplementedError

    def _session(self) -> str:
        return self.recorder.session()

    def _begin(self, method: str, item: MemoryInputLike, options: dict[str, Any]) -> int | None:
        """Note the call; None where the input names no conversation, so that there is nothing to note."""
        try:
            given = coerce(item)
        except InvalidInputError:
            return None
        kind = _KINDS[method]
        version = options.get("if_version", ANY_VERSION)
        return self.recorder.begin(
            kind,
            key_of(given),
            hashed(given.data[-1].working_memory) if given.data and kind in {"write", "update"} else None,
            session=self._session(),
            expected=ANY if version is ANY_VERSION else self.recorder.value_of(version),
            ttl=self._ttl if kind in {"write", "update"} else None,
            not_after_s=self._not_after_s,
        )

    def _ended(self, method: str, number: int | None, item: MemoryInputLike, result: Any) -> None:
        if number is None:
            return
        if isinstance(result, Exception):
            self._raised(method, number, result)
        elif _KINDS[method] == "read":
            value = hashed(result[0].working_memory) if result else None
            self.recorder.end(number, "ok", getattr(result, "source", "redis"), value=value)
            self.recorder.learn_version(getattr(result, "version", None), value)
        else:
            self.recorder.end(number, "ok", self._answer(_KINDS[method], result))
            data = coerce(item).data
            if data:
                self.recorder.learn_version(getattr(result, "version", None), hashed(data[-1].working_memory))

    def _answer(self, kind: Kind, receipt: Any) -> Answer:
        outcome: Answer | None = getattr(receipt, "outcome", None)
        if outcome is None:
            return "" if kind == "update" and not receipt else "committed"
        if outcome == "missing" and kind == "update" and not self._direct:
            return ""  # the store may have said so, or a deletion that waits in the journal
        if outcome == "committed" and kind == "delete" and self._once and self._direct:
            return "deleted"
        return outcome

    def _raised(self, method: str, number: int | None, error: BaseException) -> None:
        if number is not None:
            self.recorder.end(number, outcome_of(error, _KINDS[method], once=self._once))


class _Rounds:
    """A `mutate`: each call of its function is a read, and the write that it leads to is conditional on that."""

    def __init__(self, recording: _Recording, item: MemoryInputLike, fn: Callable[[str | None], str]) -> None:
        self._of = recording
        self._recorder = recording.recorder
        self._key = key_of(coerce(item))
        self._fn = fn
        self._session = recording._session()  # noqa: SLF001 - of this module
        self._since = self._seen_at = self._recorder.monotonic()
        self.source: Answer = ""
        self._source: Answer = ""
        self._seen: str | None = None
        self._read: int | None = None
        self._write: int | None = None

    def __call__(self, text: str | None) -> str:
        """Do what the caller's function does, and note it."""
        of = self._of
        self._settle(outcome_of(VersionConflictError(), "write", once=of._once), "")  # noqa: SLF001
        # Only now: the round before had an answer of its own.
        self._source = "redis" if of._direct else self.source  # noqa: SLF001
        self._seen = hashed(text)
        self._seen_at = self._recorder.monotonic()
        self._read = self._recorder.begin("read", self._key, session=self._session, invoked=self._since)
        new = self._fn(text)
        if isinstance(new, str):
            self._write = self._recorder.begin(
                "write",
                self._key,
                hashed(new),
                session=self._session,
                expected=self._seen,
                ttl=of._ttl,  # noqa: SLF001
                not_after_s=of._not_after_s,  # noqa: SLF001
            )
        self._since = self._recorder.monotonic()
        return new

    def failed(self, error: BaseException) -> None:
        """Note that the last round ended in `error`."""
        self._settle(outcome_of(error, "write", once=self._of._once), "")  # noqa: SLF001

    def ended(self, receipt: Any) -> None:
        """Note that the last round ended well."""
        self._settle("ok", getattr(receipt, "outcome", "committed"))

    def _settle(self, outcome: Outcome, answer: Answer) -> None:
        read, write = self._read, self._write
        self._read = self._write = None
        if write is not None:
            self._recorder.end(write, outcome, answer)
        if read is not None:
            self._recorder.end(read, "ok", self._source, value=self._seen, completed=self._seen_at)


class _Watched:
    """A decorated manager as its own `mutate` sees it, with an eye on who answered the read of each round."""

    def __init__(self, manager: Any, rounds: _Rounds) -> None:
        self._manager = manager
        self._rounds = rounds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def _submit(self, call: Call) -> Any:
        result = self._manager._submit(call)  # noqa: SLF001 - what `mutate` itself calls
        return self._note(call, result) if not inspect.isawaitable(result) else self._note_later(call, result)

    async def _note_later(self, call: Call, result: Awaitable[Any]) -> Any:
        return self._note(call, await result)

    def _note(self, call: Call, result: Any) -> Any:
        if call.operation == "retrieve":
            self._rounds.source = result.source
        return result


def _mutate(manager: Any, item: MemoryInputLike, rounds: _Rounds) -> Any:
    if isinstance(manager, DecoratedManager | AsyncDecoratedManager):
        return type(manager).mutate(_Watched(manager, rounds), item, rounds)  # type: ignore[arg-type]
    return manager.mutate(item, rounds)


class RecordingManager(_Recording):
    """A synchronous manager whose calls are recorded; a session is a thread. See `_Recording` for the arguments."""

    def mutate(self, input: MemoryInputLike, fn: Callable[[str | None], str]) -> Any:  # noqa: A002
        """See `DecoratedManager.mutate`."""
        rounds = _Rounds(self, input, fn)
        try:
            receipt = _mutate(self.inner, input, rounds)
        except BaseException as error:
            rounds.failed(error)
            raise
        rounds.ended(receipt)
        return receipt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.inner.close()

    def _one(self, method: str, item: MemoryInputLike, options: dict[str, Any]) -> Any:
        number = self._begin(method, item, options)
        try:
            result = getattr(self.inner, method)(item, **options)
        except BaseException as error:
            self._raised(method, number, error)
            raise
        self._ended(method, number, item, result)
        return result

    def _many(self, method: _Batch, items: Sequence[MemoryInputLike]) -> Any:
        numbers = [self._begin(method, item, {}) for item in items]
        try:
            results = getattr(self.inner, method)(items)
        except BaseException as error:
            for number in numbers:
                self._raised(method, number, error)
            raise
        for number, item, result in zip(numbers, items, results, strict=True):
            self._ended(method, number, item, result)
        return results


class AsyncRecordingManager(_Recording):
    """An asynchronous manager whose calls are recorded; a session is a task. See `_Recording` for the arguments."""

    async def mutate(self, input: MemoryInputLike, fn: Callable[[str | None], str]) -> Any:  # noqa: A002
        """See `AsyncDecoratedManager.mutate`."""
        rounds = _Rounds(self, input, fn)
        try:
            receipt = await _mutate(self.inner, input, rounds)
        except BaseException as error:
            rounds.failed(error)
            raise
        rounds.ended(receipt)
        return receipt

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.inner.aclose()

    async def _one(self, method: str, item: MemoryInputLike, options: dict[str, Any]) -> Any:
        number = self._begin(method, item, options)
        try:
            result = await getattr(self.inner, method)(item, **options)
        except BaseException as error:
            self._raised(method, number, error)
            raise
        self._ended(method, number, item, result)
        return result

    async def _many(self, method: _Batch, items: Sequence[MemoryInputLike]) -> Any:
        numbers = [self._begin(method, item, {}) for item in items]
        try:
            results = await getattr(self.inner, method)(items)
        except BaseException as error:
            for number in numbers:
                self._raised(method, number, error)
            raise
        for number, item, result in zip(numbers, items, results, strict=True):
            self._ended(method, number, item, result)
        return results

    def _session(self) -> str:
        task = asyncio.current_task()
        if task is None:
            return self.recorder.session()
        name = _tasks.get(task)
        if name is None:
            name = _tasks[task] = self.recorder.new_session()
        return name


_tasks: weakref.WeakKeyDictionary[asyncio.Task[Any], str] = weakref.WeakKeyDictionary()


def key_of(item: IMemoryInput) -> str:
    """Return the hash by which a history knows a conversation's memory of one kind."""
    return hashed(f"{item.memory_type.value}:{item.conversation_id}") or ""
