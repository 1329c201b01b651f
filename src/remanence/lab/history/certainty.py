"""What an error says of a write: that it was certainly not applied, or nothing."""

from __future__ import annotations

from typing import Any

from remanence.decorated import AsyncDecoratedManager, DecoratedManager
from remanence.errors import (
    CircuitOpenError,
    CorruptRecordError,
    InvalidInputError,
    LateWriteError,
    ManagerClosedError,
    MemoryTooLargeError,
    VersionConflictError,
)
from remanence.lab.history.operation import Kind, Outcome
from remanence.managers.in_memory import AsyncInMemoryManager, InMemoryManager
from remanence.operations import AsyncOperations, Operations
from remanence.policies.fallback import Fallback
from remanence.policies.retry import Retry

__all__ = ["answers_for_the_store", "attempts_once", "outcome_of"]

_REFUSED_AT_ONCE = (
    CircuitOpenError,
    CorruptRecordError,
    InvalidInputError,
    LateWriteError,
    ManagerClosedError,
    VersionConflictError,
)


def attempts_once(manager: Any) -> bool:
    """Whether a call of `manager` is one attempt: it is ours, and neither repeats nor keeps what failed."""
    if isinstance(manager, DecoratedManager | AsyncDecoratedManager):
        return not any(isinstance(policy, Retry | Fallback) for policy in manager.policies)
    return isinstance(manager, Operations | AsyncOperations | InMemoryManager | AsyncInMemoryManager)


def answers_for_the_store(manager: Any) -> bool:
    """Whether every answer of `manager` is one of its store, not of a journal or a copy."""
    if isinstance(manager, DecoratedManager | AsyncDecoratedManager):
        return not manager.has_fallback
    return True


def outcome_of(error: BaseException, kind: Kind, *, once: bool) -> Outcome:
    """Return "failed" where the call has certainly not changed the store and never will, else "ambiguous".

    After several attempts hardly any error is certain. An attempt whose answer was lost may have been applied, and then
    been replaced by somebody else, before the next one ends in VersionConflictError or CircuitOpenError; and a journal
    that is full says nothing of the attempt that came before it. Only what is found wrong with the caller's data before
    anything is sent remains.

    Args:
        error: What the call raised.
        kind: What the call was.
        once: Whether the manager makes one attempt only, see `attempts_once`.
    """
    if kind == "read":
        return "failed"
    if not once:
        # What an update makes is measured at each attempt, so that error may come after one.
        certain = isinstance(error, InvalidInputError) and not isinstance(error, MemoryTooLargeError)
        return "failed" if certain or (isinstance(error, MemoryTooLargeError) and kind == "write") else "ambiguous"
    if isinstance(error, _REFUSED_AT_ONCE):
        return "failed"
    # The server has refused the one command of a store or update; a delete may have sent a second one.
    refused = any(f"{each.__module__}.{each.__qualname__}" == _REPLY for each in type(error).__mro__)
    return "failed" if refused and kind != "delete" else "ambiguous"


_REPLY = "redis.exceptions.ResponseError"
