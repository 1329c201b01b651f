"""A manager beside the model: operations are carried out on both, and every answer is compared."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from remanence.classify import is_outage
from remanence.errors import JournalError, VersionConflictError
from remanence.interface import ConversationMemoryType, IMemoryInput, IWorkingMemory
from remanence.managers.foreign import adapt
from remanence.operations import AsyncOperations, Operations
from remanence.testing.fault_injecting import FaultInjecting
from remanence.testing.memory_model import Change, Held, MemoryModel, Name, creating, nothing_done
from remanence.testing.strategies import FrameworkInput, FrameworkMemory, FrameworkMemoryType, Shape

__all__ = ["CAPABILITIES", "Away", "ComparedManager", "Read", "memory_input"]

CAPABILITIES: Final = frozenset({"batches", "dicts", "metadata", "mutate", "versions"})
"""What a manager may have beyond the four methods; the names are those of the conformance kit."""

_OTHER_VERSION: Final = "the version in the receipt of the last write is not the one that is read"


class Away:
    """Stands for an answer where the store was away."""


@dataclass(frozen=True, slots=True)
class Read:
    """An answer that was compared.

    Attributes:
        version: Its token for `if_version`, None where there is nothing, or no such token.
    """

    version: str | None


class ComparedManager:
    """A manager and its model.

    Args:
        factory: Returns the manager, or an awaitable of it; called without arguments.
        capabilities: Some of `CAPABILITIES`, None for what its methods look like.
        faults: What makes its store go away; None where that does not happen.

    Attributes:
        manager: The manager.
        ambiguous: Writes so far of which it is not known whether they were made.
        has_failed: Whether something was found that is not right.

    Raises:
        ConfigurationError: The factory returned no manager.
    """

    def __init__(
        self, factory: Callable[[], Any], capabilities: frozenset[str] | None, faults: FaultInjecting | None
    ) -> None:
        self._loop: asyncio.Runner | None = None
        self._model = MemoryModel()
        self._versions: dict[Name, list[str]] = {}
        self._current: dict[Name, str | None] = {}
        self._faults = faults
        self.ambiguous = 0
        self.has_failed = False
        self.manager = self._wait_for(factory())
        adapt(self.manager)  # it says what is missing
        self._is_ours = isinstance(self.manager, Operations | AsyncOperations)
        # Around a manager of another kind our decorators tell texts only, and not whether there was something.
        self._tells_all = self._is_ours and hasattr(type(getattr(self.manager, "inner", self.manager)), "perform")
        self.capabilities = self._detected() if capabilities is None else capabilities

    # Operations -------------------------------------------------------------------------------------------------------

    def write(self, operation: str, name: Name, change: Change, *args: Any, **options: Any) -> None:
        """Carry out a write on both; `args` and `options` are those of the manager's method."""
        try:
            receipt = self._call(operation, *args, **options)
        except VersionConflictError as error:
            said = f"{name}: {operation} found another version, but stored was {self._said(name)}"
            raise AssertionError(said) from error
        self._written(operation, name, change, receipt)

    def write_many(self, operation: str, changes: Sequence[tuple[Name, Change]], inputs: list[Any]) -> None:
        """Carry out a batch of writes on both, in order."""
        answers = self._call(f"{operation}_many", inputs)
        if isinstance(answers, Away):
            answers = [answers] * len(changes)
        self._expect(len(answers) == len(changes), f"{operation}_many gave another number of answers")
        for (name, change), answer in zip(changes, answers, strict=True):
            self._written(operation, name, change, self._item(answer))

    def read(self, name: Name, shape: Shape = "dto") -> Read | Away:
        """Read and compare; return what was read, `Away` where that was no answer of the store."""
        return self._compared(name, self._call("retrieve", memory_input(name, shape=shape)))

    def read_many(self, names: Sequence[Name]) -> None:
        """Read several and compare."""
        answers = self._call("retrieve_many", [memory_input(name) for name in names])
        if isinstance(answers, Away):
            return
        self._expect(len(answers) == len(names), "retrieve_many gave another number of answers")
        for name, answer in zip(names, answers, strict=True):
            self._compared(name, self._item(answer))

    def earlier_version(self, name: Name, current: str | None) -> str:
        """Return a version that the memory had once, and has not now; where it had none, one that nothing has."""
        return next((known for known in reversed(self._versions.get(name, [])) if known != current), "0" * 40)

    def refuses(self, operation: str, value: Any, version: str | None) -> None:
        """Check that a write over another version than what is stored is refused."""
        try:
            self._call(operation, value, if_version=version)
        except VersionConflictError:
            self.has_failed = False
        else:
            self._expect(holds=False, said=f"{operation} wrote although another version is stored")

    @property
    def can_advance(self) -> bool:
        """Whether the manager's clock can be moved."""
        return callable(getattr(getattr(self.manager, "clock", None), "advance", None))

    def settle(self) -> None:
        """Have the store back, and all of it compared."""
        if self._faults is not None:
            self._faults.heal()
            if self.can_advance:
                self.manager.clock.advance(60.0)
            if getattr(self.manager, "has_fallback", False):
                self._wait_for(self.manager.replay())
        for name in self._model.names:
            is_answer = not isinstance(self.read(name), Away)
            self._expect(is_answer, f"{name}: there is no answer although the store is back")

    def close(self) -> None:
        """Close the manager, if it can be."""
        try:
            close = getattr(self.manager, "aclose", None) or getattr(self.manager, "close", None)
            if callable(close):
                self._wait_for(close())
        finally:
            if self._loop is not None:
                self._loop.close()

    # Comparing --------------------------------------------------------------------------------------------------------

    def _written(self, operation: str, name: Name, change: Change, receipt: Any) -> None:
        if isinstance(receipt, Away):
            self.ambiguous += 1
            self._model.apply(name, change, nothing_done)
            return
        if operation == "store":
            self._expect(isinstance(receipt, str), f"store returned {type(receipt).__name__}, not the key")
        outcome = getattr(receipt, "outcome", None) if self._tells_all else None
        # Where the first answer to a deletion was lost, the repetition cannot tell whether there was something.
        if outcome in {"missing", "committed"} and (
            operation == "update" or (operation == "delete" and self._faults is None)
        ):
            said = f"{name}: the receipt says {outcome!r}, but stored was {self._said(name)}"
            self._expect(self._model.narrow(name, lambda held: (held is None) == (outcome == "missing")), said)
        # An update that is kept for later cannot know whether there is something.
        is_open = operation == "update" and getattr(receipt, "outcome", None) == "journaled"
        self._model.apply(name, *([change, creating(change)] if is_open else [change]))
        self._note_version(name, receipt)
        self._current.pop(name, None)
        if self._faults is None and "versions" in self.capabilities and self._model.states(name) != [None]:
            self._current[name] = getattr(receipt, "version", None)

    def _compared(self, name: Name, answer: Any) -> Read | Away:
        if isinstance(answer, Away):
            return answer
        self._expect(isinstance(answer, list), f"{name}: retrieve returned {type(answer).__name__}, not a list")
        self._expect(len(answer) <= 1, f"{name}: retrieve returned {len(answer)} memories")
        source = getattr(answer, "source", None) if self._faults is not None else None
        if source == "none":
            return Away()
        has_metadata = "metadata" in self.capabilities
        seen = Held(answer[0].working_memory, deepcopy(answer.metadata) if has_metadata else {}) if answer else None
        fits = partial(_is_same, seen, has_metadata=has_metadata)
        said = f"{name}: retrieve gave {_said([seen])}, but stored was {self._said(name)}"
        self._expect(any(map(fits, self._model.states(name))), said)
        if source == "stale":
            return Away()
        self._model.narrow(name, fits)
        self._note_version(name, answer)
        version = getattr(answer, "version", None)
        self._expect(self._current.get(name) in {None, version}, f"{name}: {_OTHER_VERSION}")
        if has_metadata:
            answer.metadata["spoilt"] = 1
        answer.clear()  # it is the caller's own
        return Read(version)

    def _note_version(self, name: Name, answer: Any) -> None:
        version = getattr(answer, "version", None)
        if isinstance(version, str):
            self._versions.setdefault(name, []).append(version)

    def _item(self, answer: Any) -> Any:
        """Return a batch's answer for one item; raise what it holds, unless the store was away."""
        if not isinstance(answer, Exception):
            return answer
        if self._was_away(answer):
            return Away()
        self.has_failed = True
        raise answer

    def _call(self, operation: str, *args: Any, **options: Any) -> Any:
        """Carry out an operation and spoil its inputs, which are the caller's own; `Away` where the store was away."""
        try:
            return self._wait_for(getattr(self.manager, operation)(*args, **options))
        except BaseException as error:
            if self._was_away(error):
                return Away()
            self.has_failed = True
            raise
        finally:
            _spoil(args[0])

    def _was_away(self, error: BaseException) -> bool:
        return self._faults is not None and (is_outage(error) or isinstance(error, JournalError))

    def _wait_for(self, value: Any) -> Any:
        if not inspect.isawaitable(value):
            return value
        if self._loop is None:
            self._loop = asyncio.Runner()

        async def wait() -> Any:
            return await value

        return self._loop.run(wait())

    def _expect(self, holds: object, said: str) -> None:
        if not holds:
            self.has_failed = True
            raise AssertionError(said)

    def _said(self, name: Name) -> str:
        return _said(self._model.states(name))

    def _detected(self) -> frozenset[str]:
        manager = self.manager
        batches = [getattr(manager, f"{name}_many", None) for name in ("store", "retrieve", "delete")]
        has = {
            "batches": all(map(callable, batches)),
            "dicts": self._is_ours,
            "metadata": self._tells_all,
            "mutate": callable(getattr(manager, "mutate", None)),
            "versions": "if_version" in inspect.signature(manager.store).parameters,
        }
        return frozenset(name for name, is_there in has.items() if is_there)


def memory_input(
    name: Name, data: list[str] | None = None, metadata: dict[str, Any] | None = None, shape: Shape = "dto"
) -> Any:
    """Return an input in one of the accepted shapes; nothing of it is anybody else's."""
    own = deepcopy(metadata)
    if shape == "dict":
        plain = {"conversation_id": name.conversation_id, "memory_type": name.memory_type, "metadata": own}
        return plain | ({} if data is None else {"data": [{"working_memory": text} for text in data]})
    if shape == "object":
        kind = FrameworkMemoryType(name.memory_type)
        return FrameworkInput(name.conversation_id, kind, [FrameworkMemory(text) for text in data or ()], own)
    memories = None if data is None else [IWorkingMemory(working_memory=text) for text in data]
    kept = ConversationMemoryType(name.memory_type)
    return IMemoryInput(conversation_id=name.conversation_id, memory_type=kept, data=memories, metadata=own)


def _spoil(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _spoil(item)
        value.clear()
        return
    parts = value if isinstance(value, dict) else {name: getattr(value, name) for name in ("data", "metadata")}
    if parts.get("data") is not None:
        parts["data"][:] = [IWorkingMemory(working_memory="spoilt after the call")]
    if parts.get("metadata") is not None:
        parts["metadata"].clear()
        parts["metadata"]["spoilt"] = "after the call"


def _is_same(seen: Held | None, held: Held | None, *, has_metadata: bool) -> bool:
    if seen is None or held is None:
        return seen is held
    return seen.text == held.text and (not has_metadata or seen.metadata == held.metadata)


def _said(states: Sequence[Held | None]) -> str:
    return " or ".join("nothing" if held is None else ascii((held.text, held.metadata)) for held in states)
