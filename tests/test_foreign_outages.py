"""A manager that is not ours inside the stack, with its server cut off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from remanence import CircuitBreaker, Fallback, wrap
from remanence.lab import FaultProxy, RedisServer
from tests.relay import home, texts, value

pytestmark = pytest.mark.chaos


@pytest.fixture
def proxy(server: RedisServer, redis_url: str) -> Iterator[FaultProxy]:
    """A proxy in front of the shared, emptied server."""
    assert redis_url
    with FaultProxy(server.port) as made:
        yield made


class Foreign:
    """A manager with the four methods on a plain client, as people write them."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url, socket_timeout=0.3, decode_responses=True)

    def store(self, input: Any) -> str:  # noqa: A002 - the interface's own name
        """Write the text."""
        self.client.set(f"mine:{input.conversation_id}", input.data[-1].working_memory)
        return f"mine:{input.conversation_id}"

    def retrieve(self, input: Any) -> list[Any]:  # noqa: A002
        """Read it."""
        text = self.client.get(f"mine:{input.conversation_id}")
        return [] if text is None else [_Text(text)]

    def update(self, input: Any) -> str | None:  # noqa: A002
        """Replace it."""
        return self.store(input) if self.retrieve(input) else None

    def delete(self, input: Any) -> None:  # noqa: A002
        """Remove it."""
        self.client.delete(f"mine:{input.conversation_id}")


class _Text:
    def __init__(self, text: Any) -> None:
        self.working_memory = text


class AsyncForeign:
    """The same, awaited."""

    def __init__(self, url: str) -> None:
        self.sync = Foreign(url)

    async def store(self, input: Any) -> str:  # noqa: A002
        """Write the text."""
        return self.sync.store(input)

    async def retrieve(self, input: Any) -> list[Any]:  # noqa: A002
        """Read it."""
        return self.sync.retrieve(input)

    async def update(self, input: Any) -> str | None:  # noqa: A002
        """Replace it."""
        return self.sync.update(input)

    async def delete(self, input: Any) -> None:  # noqa: A002
        """Remove it."""
        self.sync.delete(input)


def test_a_foreign_manager_inside_the_stack(proxy: FaultProxy, server: RedisServer) -> None:
    """Its writes are acknowledged, read back, brought home; what others wrote stays, and ours is kept."""
    foreign, direct = Foreign(proxy.url), Foreign(server.url)
    manager: Any = wrap(foreign, Fallback(), CircuitBreaker(failures=2, open_for=0.1, open_for_max=0.2))
    manager.store(value("base", "known"))
    direct.client.set("mine:blind", "theirs")
    proxy.reset()
    for conversation in ("known", "blind", "new"):
        assert manager.store(value("ours", conversation)).outcome == "journaled"
    version = manager.retrieve(value(conversation="known")).version
    assert manager.retrieve(value(conversation="known"))[0].working_memory == "ours"
    proxy.heal()
    home(manager)
    assert [direct.client.get(f"mine:{name}") for name in ("known", "blind", "new")] == ["ours", "theirs", "ours"]
    assert texts(manager) == ["ours"]
    assert manager.store(value("next", "known"), if_version=version).outcome == "committed"
    assert manager.store(value("again", "new")).outcome == "committed"
    manager.close()
    foreign.client.close()
    direct.client.close()


def test_an_asynchronous_foreign_manager_inside_the_stack(proxy: FaultProxy, server: RedisServer) -> None:
    """The same, with the replay as a task of the loop."""
    foreign, direct = AsyncForeign(proxy.url), Foreign(server.url)

    async def scenario() -> list[str | None]:
        manager: Any = wrap(foreign, Fallback(), CircuitBreaker(failures=2, open_for=0.1, open_for_max=0.2))
        await manager.store(value("base", "known"))
        direct.client.set("mine:blind", "theirs")
        proxy.reset()
        for conversation in ("known", "blind"):
            assert (await manager.store(value("ours", conversation))).outcome == "journaled"
        assert (await manager.retrieve(value(conversation="known")))[0].working_memory == "ours"
        proxy.heal()
        deadline = time.monotonic() + 10
        while manager.has_pending_writes and time.monotonic() < deadline:  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0.01)
        kept = [conflict.text for conflict in await manager.conflicts()]
        await manager.aclose()
        return kept

    assert asyncio.run(scenario()) == ["ours"]
    assert [direct.client.get(f"mine:{name}") for name in ("known", "blind")] == ["ours", "theirs"]
    foreign.sync.client.close()
    direct.client.close()
