"""What only the awaited Redis manager has: cancellation, several event loops, turns for connections."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from remanence import (
    AsyncRedisWorkingMemoryManager,
    CircuitBreaker,
    ConfigurationError,
    RedisWorkingMemoryManager,
    Retry,
    resilient,
)
from remanence.flow import Call, KeptCopy
from remanence.lab import FaultProxy, RedisServer
from remanence.managers.async_redis_connection import (
    AsyncBoundedConnection,
    AsyncBoundedSSLConnection,
    AsyncBoundedUnixConnection,
)
from remanence.operations import ANY_VERSION, store_call
from remanence.record import encode, version_of
from tests.managers.fake_servers import FakeServer, reset, silent
from tests.support import case_id, run_bounded, wait_until

KEY = "memory:WORKING_MEMORY:c"


def item(text: str = "text", conversation_id: str = "c") -> dict[str, Any]:
    """Return an input."""
    return {"conversation_id": conversation_id, "working_memory": text}


def connected(server: RedisServer) -> int:
    """Return how many connections a server has, the one that asks included."""
    return len(str(server.command("CLIENT", "LIST")).strip().splitlines())


@pytest.fixture
def proxy(private_server: RedisServer) -> Iterator[FaultProxy]:
    """A proxy before a server of the test's own."""
    with FaultProxy(private_server.port) as own:
        yield own


def test_both_flavours_write_the_same(redis_url: str) -> None:
    """What one writes is what the other writes, stamps aside, and each reads the other's."""

    async def awaited() -> tuple[Any, ...]:
        async with AsyncRedisWorkingMemoryManager(redis_url) as manager:
            await manager.store(item("h\u00e9llo \ud800"))
            return manager.store_id, (await manager.retrieve(item())).raw

    store_id, raw = run_bounded(awaited())
    with RedisWorkingMemoryManager(redis_url) as manager:
        assert manager.store_id == store_id
        assert manager.retrieve(item()).raw == raw
        manager.store(item("h\u00e9llo \ud800"))
        own = json.loads(manager.retrieve(item()).raw or b"")
        theirs = json.loads(raw)
    assert list(own) == list(theirs)
    assert own["data"] == theirs["data"]


@pytest.mark.parametrize(
    "options",
    [{}, {"decode_responses": True}, {"protocol": 2}, {"protocol": 3, "decode_responses": True}],
    ids=case_id,
)
def test_any_client_will_do(redis_url: str, options: dict[str, Any]) -> None:
    """Whatever form a client that was handed in gives replies in, every operation works over it, and it stays open."""

    async def everything() -> None:
        client = redis.asyncio.Redis.from_url(redis_url, **options)
        async with client, AsyncRedisWorkingMemoryManager(client=client) as manager:
            version = (await manager.store(item())).version
            assert (await manager.retrieve(item()))[0].working_memory == "text"
            assert (await manager.update(item("two"), if_version=version)).outcome == "committed"
            many = [item(name, name) for name in "xyz"]
            assert len(await manager.store_many(many)) == 3
            found: list[Any] = await manager.retrieve_many(many)
            assert [memories[0].working_memory for memories in found] == ["x", "y", "z"]
            kept = KeptCopy(KEY, encode("lost", None, "a", "b"), 9.0)
            assert await manager.perform(Call("keep", items=[kept])) == [None]
            assert [copy.text for copy in (await manager.perform(Call("kept")))[0]] == ["lost"]
            assert await manager.perform(Call("identify"))
            assert (await manager.delete(item())).outcome == "committed"
            await manager.aclose()
            assert await client.ping()

    run_bounded(everything())


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://localhost", AsyncBoundedConnection),
        ("rediss://localhost", AsyncBoundedSSLConnection),
        ("unix:///s", AsyncBoundedUnixConnection),
    ],
)
def test_every_kind_of_url_gets_our_connections(url: str, kind: type) -> None:
    """Over TCP, TLS and a Unix socket."""
    assert AsyncRedisWorkingMemoryManager(url).redis_client.connection_pool.connection_class is kind


def test_a_wrong_option_in_the_url_is_told_at_construction() -> None:
    """It would fail the first call otherwise; the password is not quoted."""
    with pytest.raises(ConfigurationError, match="wrong option") as caught:
        AsyncRedisWorkingMemoryManager("redis://user:canary@localhost?no_such_option=1")
    assert "canary" not in str(caught.value)


def test_cancelled_calls_leave_nothing_that_meets_another(private_server: RedisServer) -> None:
    """Wherever a call is cancelled, the next ones get their own answers, and connections do not run out."""

    async def cancel_everywhere() -> None:
        async with AsyncRedisWorkingMemoryManager(f"{private_server.url}?max_connections=3") as manager:
            for number in range(8):
                await manager.store(item(f"text {number}", f"c{number}"))
            for turns in range(60):
                calls = [asyncio.create_task(manager.retrieve(item("", f"c{n % 8}"))) for n in range(8)]
                for _ in range(turns % 20):
                    await asyncio.sleep(0)
                for call in calls[::2]:
                    call.cancel()
                found = await asyncio.gather(*calls, return_exceptions=True)
                for number, answer in enumerate(found):
                    if not isinstance(answer, asyncio.CancelledError):
                        assert answer[0].working_memory == f"text {number}"  # type: ignore[index]
                assert all(not isinstance(answer, BaseException) for answer in found[1::2])

    run_bounded(cancel_everywhere(), 30.0)


def test_a_cancelled_write_may_still_be_applied_and_says_so(proxy: FaultProxy) -> None:
    """Whoever repeats it has to know: the server may have it."""

    async def cancelled() -> Call:
        async with AsyncRedisWorkingMemoryManager(proxy.url, timeout=5.0) as manager:
            await manager.store(item("before"))
            lost = proxy.drop_reply(key=KEY, nth=2)
            call = store_call(manager, item("after"), ANY_VERSION)
            call.guard, call.guarded = (version_of((await manager.retrieve(item())).raw),), True
            task = asyncio.create_task(manager.perform(call))
            await asyncio.to_thread(lost.wait, 5.0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return call

    assert run_bounded(cancelled()).unsettled_until > time.monotonic()


def test_an_attempt_cut_off_by_the_deadline_is_unsettled(private_server: RedisServer) -> None:
    """The stack's deadline ends the awaiting; what was sent may be applied by a server that wakes up."""

    async def frozen() -> Call:
        async with AsyncRedisWorkingMemoryManager(private_server.url, timeout=5.0) as manager:
            await manager.store(item("before"))
            call = store_call(manager, item("after"), ANY_VERSION)
            private_server.freeze()
            call.deadline = time.monotonic() + 0.2
            begun = time.monotonic()
            with pytest.raises(redis.TimeoutError):
                await manager.perform(call)
            assert time.monotonic() - begun < 0.35
            private_server.thaw()
            return call

    assert run_bounded(frozen()).unsettled_until > 0


def test_a_thousand_tasks_take_turns(private_server: RedisServer) -> None:
    """They wait for one of a few connections instead of being refused."""

    async def crowd() -> int:
        async with AsyncRedisWorkingMemoryManager(f"{private_server.url}?max_connections=4", timeout=20.0) as manager:
            await asyncio.gather(*(manager.store(item(f"text {n}", f"c{n}")) for n in range(1_000)))
            found = await asyncio.gather(*(manager.retrieve(item("", f"c{n}")) for n in range(1_000)))
            assert [memories[0].working_memory for memories in found] == [f"text {n}" for n in range(1_000)]
            return connected(private_server)

    assert run_bounded(crowd(), 40.0) <= 4 + 1


def test_a_call_that_gets_no_turn_ends_in_its_time() -> None:
    """Waiting for a connection is part of the attempt; nothing was sent, so nothing is unsettled."""

    async def wait() -> tuple[float, Call]:
        with FakeServer(silent, "SETEX") as server:
            async with AsyncRedisWorkingMemoryManager(f"{server.url}?max_connections=1", timeout=0.3) as manager:
                first = asyncio.create_task(manager.store(item()))
                await asyncio.sleep(0.1)
                call = store_call(manager, item(), ANY_VERSION)
                call.deadline = time.monotonic() + 0.1
                begun = time.monotonic()
                with pytest.raises(redis.TimeoutError):
                    await manager.perform(call)
                took = time.monotonic() - begun
                with pytest.raises(redis.TimeoutError):
                    await first
                return took, call

    took, call = run_bounded(wait())
    assert took < 0.25
    assert call.unsettled_until == 0.0


def test_those_who_wait_for_a_connection_are_not_tried_once_the_breaker_is_open() -> None:
    """One finds out that the store is away; the others go to the fallback without asking it."""

    async def all_at_once() -> list[Any]:
        async with AsyncRedisWorkingMemoryManager(f"{server.url}?max_connections=1", timeout=5.0) as manager:
            stack = resilient(manager, retry=Retry(attempts=1), circuit_breaker=CircuitBreaker(failures=1, open_for=30))
            reads = [stack.retrieve(item(conversation_id=f"c{number}")) for number in range(20)]
            sources = [memories.source for memories in await asyncio.gather(*reads)]
            assert await _is_free(manager)
            await stack.aclose(timeout=0.01)
            return sources

    async def _is_free(manager: AsyncRedisWorkingMemoryManager) -> bool:
        async with asyncio.timeout(1.0):  # each of those who left has given its turn back
            connections = manager.redis_client._mine()
            connections.drop(await connections.take())
            return True

    with FakeServer(reset, "GET") as server:
        assert run_bounded(all_at_once()) == ["none"] * 20
        assert server.seen.count("GET") == 1


def test_several_loops_use_one_manager(redis_url: str) -> None:
    """One after the other and at the same time, each over connections of its own."""
    manager = AsyncRedisWorkingMemoryManager(redis_url, timeout=10.0)
    failures: list[BaseException] = []

    async def use(worker: int) -> None:
        for number in range(50):
            await manager.store(item(f"{worker}.{number}", f"w{worker}"))
            assert (await manager.retrieve(item("", f"w{worker}")))[0].working_memory == f"{worker}.{number}"

    def loop(worker: int) -> None:
        try:
            asyncio.run(use(worker))
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failures.append(error)

    threads = [threading.Thread(target=loop, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    asyncio.run(use(9))
    asyncio.run(manager.aclose())


async def _stored(manager: AsyncRedisWorkingMemoryManager) -> None:
    await manager.store(item())


def test_closing_in_another_loop_leaves_no_socket(private_server: RedisServer) -> None:
    """The loop that opened a connection may be closed: nothing is left open, and nothing warns of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manager = AsyncRedisWorkingMemoryManager(private_server.url)
        asyncio.run(_stored(manager))
        asyncio.run(manager.aclose())
        del manager
        gc.collect()
    wait_until(lambda: connected(private_server) == 1, "the server has seen the end")


def test_the_stack_survives_an_outage(private_server: RedisServer) -> None:
    """Writes wait while the server is away and come home, and no call is refused."""

    async def outage() -> None:
        inner = AsyncRedisWorkingMemoryManager(private_server.url, timeout=0.2)
        async with inner, resilient(inner) as manager:
            assert (await manager.store(item("one"))).outcome == "committed"
            private_server.freeze()
            receipts = await asyncio.gather(*(manager.store(item(f"text {n}", f"c{n}")) for n in range(100)))
            assert {receipt.outcome for receipt in receipts} == {"journaled"}
            assert (await manager.retrieve(item("", "c7")))[0].working_memory == "text 7"
            private_server.thaw()
            assert not (await manager.replay(20.0)).pending
            raw = (await inner.retrieve(item("", "c7"))).raw
            assert json.loads(raw or b"")["data"] == {"working_memory": "text 7"}

    run_bounded(outage(), 40.0)


@pytest.mark.parametrize("end", [asyncio.run, run_bounded])
def test_a_task_that_is_left_behind_makes_no_noise(private_server: RedisServer, end: Callable[[Any], Any]) -> None:
    """A loop that ends with a call under way ends it as a cancellation."""

    async def leave() -> None:
        task = asyncio.create_task(manager.retrieve(item()))
        await asyncio.sleep(0.02)
        assert not task.done()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manager = AsyncRedisWorkingMemoryManager(private_server.url, timeout=5.0)
        private_server.freeze()
        end(leave())
        private_server.thaw()
        asyncio.run(manager.aclose())
        gc.collect()
