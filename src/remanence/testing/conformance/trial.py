"""One try of a manager: what a requirement is given."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any, Final

from remanence.interface import ConversationMemoryType, IMemoryInput, IWorkingMemory
from remanence.testing.conformance.bounded import bounded
from remanence.testing.conformance.callers import Caller
from remanence.testing.conformance.errors import FactoryError, NotMetError, NotTestableError
from remanence.testing.conformance.hooks import Hooks

__all__ = ["METHODS", "WORKING", "Subject", "Trial"]

METHODS: Final = ("store", "retrieve", "update", "delete")
WORKING: Final = ConversationMemoryType.WORKING_MEMORY
_PREFIX: Final = "remanence-conformance-"


class Subject:
    """The manager under test, called as if it were synchronous.

    Attributes:
        manager: The manager itself.
    """

    def __init__(self, manager: Any, caller: Caller) -> None:
        self.manager = manager
        self._caller = caller

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """Call a method; NotMetError where there is none."""
        method = getattr(self.manager, name, None)
        if not callable(method):
            raise NotMetError(f"there is no method {name}()")
        return _called(self._caller, method, *args, **options)

    def store(self, item: Any, **options: Any) -> Any:
        """Call the method store."""
        return self.call("store", item, **options)

    def retrieve(self, item: Any) -> Any:
        """Call the method retrieve."""
        return self.call("retrieve", item)

    def update(self, item: Any, **options: Any) -> Any:
        """Call the method update."""
        return self.call("update", item, **options)

    def delete(self, item: Any) -> Any:
        """Call the method delete."""
        return self.call("delete", item)

    def held(self, item: Any) -> str | None:
        """Return the text that is retrieved, None where there is none.

        Lenient about what "none" looks like: other requirements are strict about that.
        """
        memories = self.retrieve(item)
        return memories[0].working_memory if memories else None


class Trial:
    """A fresh manager, and what is needed to try it.

    Args:
        hooks: Make managers, move time, take the store away.
        caller: Calls the manager.
    """

    def __init__(self, hooks: Hooks, caller: Caller) -> None:
        self.hooks = hooks
        self._caller = caller
        self._lock = threading.Lock()
        self._subject: Subject | None = None
        self._made: list[Any] = []
        self._used: dict[tuple[str, ConversationMemoryType], None] = {}

    @property
    def subject(self) -> Subject:
        """The manager under test."""
        # Not a cached_property: before Python 3.12 those of all instances have one lock, which a factory that hangs
        # would hold for ever.
        with self._lock:
            if self._subject is None:
                self._subject = self.another()
            return self._subject

    def another(self) -> Subject:
        """Make one more manager."""
        return self._make("make_manager")

    def with_ttl(self, seconds: int) -> Subject:
        """Make the manager under test with a time to live."""
        self._subject = self._make("make_manager_with_ttl", seconds)
        return self._subject

    def _make(self, hook: str, *args: Any) -> Subject:
        try:
            manager = self._caller.call(getattr(self.hooks, hook), *args)
        except (NotMetError, NotTestableError, FactoryError):
            raise
        except (Exception, SystemExit) as error:
            raise FactoryError(f"{hook}() raised {type(error).__name__}: make it return a manager") from error
        if not any(callable(getattr(manager, name, None)) for name in METHODS) or isinstance(manager, type):
            kind = f"the class {manager.__name__}" if isinstance(manager, type) else type(manager).__name__
            raise FactoryError(f"{hook}() returned {kind}, which is no manager: return an object with {_listed()}")
        if not any(manager is each for each in self._made):
            self._made.append(manager)
        return Subject(manager, self._caller)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function where the manager's methods are called."""
        return _called(self._caller, function, *args)

    # Inputs -----------------------------------------------------------------------------------------------------------

    def new_id(self, ending: str = "") -> str:
        """Return the id of a conversation that nobody has used."""
        name = f"{_PREFIX}{secrets.token_hex(8)}{ending}"
        self._used[name, WORKING] = None
        return name

    def about(
        self,
        conversation_id: str,
        *texts: str,
        kind: ConversationMemoryType = WORKING,
        metadata: Mapping[str, Any] | None = None,
    ) -> IMemoryInput:
        """Return an input for a conversation; with texts, one to write."""
        self._used[conversation_id, kind] = None
        return IMemoryInput(
            conversation_id=conversation_id,
            memory_type=kind,
            data=[IWorkingMemory(working_memory=text) for text in texts] or None,
            metadata=None if metadata is None else dict(metadata),
        )

    # Circumstances ----------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass for the store."""
        self.hooks.advance(seconds)

    def outage(self) -> AbstractContextManager[Any]:
        """Take the store away."""
        return self.hooks.outage()

    def silence(self) -> AbstractContextManager[Any]:
        """Let the store be silent."""
        return self.hooks.silence()

    def together(self, *functions: Callable[[], object]) -> None:
        """Run the functions at once, each in a thread, and raise what the first of them raised.

        Calls to an asynchronous manager become tasks of its loop.
        """
        barrier = threading.Barrier(len(functions))
        errors: list[BaseException] = []

        def body(function: Callable[[], object]) -> None:
            try:
                barrier.wait(self.hooks.time_limit)
                function()
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

        threads = [threading.Thread(target=body, args=(each,), daemon=True) for each in functions]
        until = time.monotonic() + self.hooks.time_limit
        with self._caller.frequent_switches():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
        if errors:
            raise errors[0]
        if any(thread.is_alive() for thread in threads):
            raise NotMetError("calls of several threads do not end: are they waiting for each other?")

    def ends_within(self, seconds: float, function: Callable[[], object]) -> bool:
        """Tell whether a function ends in time, and raise what it raised; one that does not is left to itself."""
        is_over, error = bounded(function, seconds)
        if error is not None:
            raise error
        return is_over

    def until(self, is_met: Callable[[], object], reason: str, seconds: float | None = None) -> None:
        """Wait for a condition; NotMetError with `reason` where it is not met in time.

        Args:
            is_met: Asked now and again; what it raises counts as "not yet".
            reason: What is wrong otherwise.
            seconds: At most; None for the hooks' `recovery_limit`.
        """
        limit = self.hooks.recovery_limit if seconds is None else seconds
        until = time.monotonic() + limit
        while True:
            with suppress(Exception):
                if is_met():
                    return
            if time.monotonic() >= until:
                raise NotMetError(f"{reason}, {limit:g} s after it was to be")
            time.sleep(0.02)

    # Afterwards -------------------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Delete what was written: the server may be somebody's own."""
        if not self._made:
            return
        subject = Subject(self._made[0], self._caller)
        for conversation_id, kind in list(self._used):
            with suppress(Exception):
                subject.delete(self.about(conversation_id, kind=kind))

    def close(self) -> None:
        """Close the managers that were made."""
        for manager in self._made:
            self._caller.call(self.hooks.close_manager, manager)


def _called(caller: Caller, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function of the manager's; it may raise what is an Exception, or be interrupted or cancelled."""
    try:
        return caller.call(function, *args, **options)
    except (Exception, KeyboardInterrupt, asyncio.CancelledError):
        raise
    except BaseException as error:
        # SystemExit, or a test runner's way to skip: passed on, it would end the run, or hide the failure.
        name = type(error).__name__
        raise NotMetError(f"a method raised {name}, which is no Exception and would end its caller") from error


def _listed() -> str:
    return ", ".join(METHODS[:-1]) + f" and {METHODS[-1]}"
