"""Remanence keeps an AI agent's conversation memory available, correct and observable while Redis comes and goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remanence.decorated import AsyncDecoratedManager, DecoratedManager
from remanence.errors import (
    AttemptTimeoutError,
    CircuitOpenError,
    ConfigurationError,
    CorruptRecordError,
    DeadlineExceededError,
    InvalidInputError,
    InvalidMetadataError,
    JournalError,
    JournalFullError,
    JournalUnavailableError,
    LateWriteError,
    ManagerClosedError,
    MemoryTooLargeError,
    MemoryUnavailableError,
    PolicyOrderError,
    RemanenceError,
    UnavailableError,
    VersionConflictError,
)
from remanence.interface import (
    ConversationMemoryType,
    IAsyncMemoryManager,
    IMemoryInput,
    IMemoryManager,
    IWorkingMemory,
)
from remanence.journal.replay import concatenate
from remanence.managers.in_memory import AsyncInMemoryManager, InMemoryManager
from remanence.operations import ANY_VERSION
from remanence.policies.circuit_breaker import CircuitBreaker
from remanence.policies.deadline import Deadline
from remanence.policies.fallback import Fallback
from remanence.policies.retry import Retry
from remanence.results import Conflict, Health, Memories, Receipt, ReplayCounts
from remanence.stack import create_memory_manager, resilient, wrap

if TYPE_CHECKING:
    from remanence.managers.async_redis import AsyncRedisWorkingMemoryManager
    from remanence.managers.redis import RedisWorkingMemoryManager

__version__ = "0.1.0"

__all__ = [
    "ANY_VERSION",
    "AsyncDecoratedManager",
    "AsyncInMemoryManager",
    "AsyncRedisWorkingMemoryManager",
    "AttemptTimeoutError",
    "CircuitBreaker",
    "CircuitOpenError",
    "ConfigurationError",
    "Conflict",
    "ConversationMemoryType",
    "CorruptRecordError",
    "Deadline",
    "DeadlineExceededError",
    "DecoratedManager",
    "Fallback",
    "Health",
    "IAsyncMemoryManager",
    "IMemoryInput",
    "IMemoryManager",
    "IWorkingMemory",
    "InMemoryManager",
    "InvalidInputError",
    "InvalidMetadataError",
    "JournalError",
    "JournalFullError",
    "JournalUnavailableError",
    "LateWriteError",
    "ManagerClosedError",
    "Memories",
    "MemoryTooLargeError",
    "MemoryUnavailableError",
    "PolicyOrderError",
    "Receipt",
    "RedisWorkingMemoryManager",
    "RemanenceError",
    "ReplayCounts",
    "Retry",
    "UnavailableError",
    "VersionConflictError",
    "concatenate",
    "create_memory_manager",
    "resilient",
    "wrap",
]


def __getattr__(name: str) -> Any:
    # Lazily, because they import redis, which a program with another manager does not need.
    if name == "RedisWorkingMemoryManager":
        from remanence.managers.redis import RedisWorkingMemoryManager  # noqa: PLC0415

        return RedisWorkingMemoryManager
    if name == "AsyncRedisWorkingMemoryManager":
        from remanence.managers.async_redis import AsyncRedisWorkingMemoryManager  # noqa: PLC0415

        return AsyncRedisWorkingMemoryManager
    message = f"module 'remanence' has no attribute {name!r}"
    raise AttributeError(message)
