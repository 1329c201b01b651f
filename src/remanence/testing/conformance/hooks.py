"""What the kit asks of whoever has a manager tested: to make one, and for some capabilities a little more."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from remanence.testing.conformance.errors import NotMetError, NotTestableError

__all__ = ["Hooks"]


class Hooks:
    """Override `make_manager`, and of the others what the declared capabilities need.

    Every hook but `advance`, `outage` and `silence` may be a coroutine function where the manager is asynchronous; it
    is then awaited in the event loop in which the manager is used.

    Attributes:
        capabilities: What the manager declares, names of `CAPABILITIES`.
        asynchronous: Whether the manager's methods are coroutine functions.
        time_limit: Seconds that one requirement may take.
        call_limit: Seconds that a call may take while the store is silent.
        recovery_limit: Seconds after which a store that is back must be in use again.
    """

    capabilities: ClassVar[Collection[str]] = ()
    asynchronous: bool = False
    time_limit: float = 10.0
    call_limit: float = 10.0
    recovery_limit: float = 10.0

    def make_manager(self) -> Any:
        """Return a new manager; several may use one server."""
        message = "make_manager() is not overridden: return a new manager from it"
        raise NotImplementedError(message)

    def close_manager(self, manager: Any) -> Any:
        """Close a manager of `make_manager`: calls its close(), of an asynchronous one its aclose() or close()."""
        names = ("aclose", "close") if self.asynchronous else ("close",)
        for name in names:
            close = getattr(manager, name, None)
            if callable(close):
                return close()
        return None

    def make_manager_with_ttl(self, seconds: int) -> Any:  # noqa: ARG002 - for those who override it
        """Return a new manager whose memories live for so many seconds (capability `ttl`)."""
        raise NotMetError("ttl is declared, but make_manager_with_ttl() is not overridden")

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass; override it where the store has a clock that can be set."""
        time.sleep(seconds)

    def outage(self) -> AbstractContextManager[Any]:
        """Return a context manager that takes the store away and gives it back with its data (capability `faults`)."""
        raise NotMetError("faults is declared, but outage() is not overridden")

    def silence(self) -> AbstractContextManager[Any]:
        """Return one during which the store takes calls and never answers; where it cannot be had, leave this out."""
        raise NotTestableError("nobody can silence the store: silence() is not overridden")
