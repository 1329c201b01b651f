"""What a type checker must know of the public API; checked by mypy, never run."""

from __future__ import annotations

from typing import assert_type

from remanence import (
    AsyncInMemoryManager,
    CircuitBreaker,
    Deadline,
    Fallback,
    IAsyncMemoryManager,
    IMemoryManager,
    InMemoryManager,
    Memories,
    Receipt,
    RedisWorkingMemoryManager,
    Retry,
    create_memory_manager,
    resilient,
    wrap,
)
from remanence.decorated import AsyncDecoratedManager, DecoratedManager

_ITEM = {"conversation_id": "c", "working_memory": "text"}


def _synchronous() -> None:
    manager = resilient(RedisWorkingMemoryManager("redis://127.0.0.1/1"), retry=Retry(attempts=2), deadline=0.5)
    assert_type(manager, DecoratedManager)
    assert_type(manager.store(_ITEM), Receipt)
    assert_type(manager.retrieve(_ITEM), Memories)
    assert_type(manager.store_many([_ITEM]), list[Receipt | Exception])
    assert_type(wrap(InMemoryManager(), Fallback(), Deadline(1.0), Retry(), CircuitBreaker()), DecoratedManager)
    assert_type(create_memory_manager(), InMemoryManager | DecoratedManager)
    _takes_any_manager(manager)
    _takes_any_manager(InMemoryManager())


async def _asynchronous() -> None:
    manager = resilient(AsyncInMemoryManager())
    assert_type(manager, AsyncDecoratedManager)
    assert_type(await manager.store(_ITEM), Receipt)
    assert_type(await manager.retrieve(_ITEM), Memories)
    assert_type(await _takes_any_async_manager(manager), str)


def _takes_any_manager(manager: IMemoryManager) -> str:
    return manager.store(_ITEM)


async def _takes_any_async_manager(manager: IAsyncMemoryManager) -> str:
    return await manager.store(_ITEM)
