"""What redis-py, sync and async, and the bare manager make of each fault, and that a well proxy changes nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio

from remanence import RedisWorkingMemoryManager
from remanence.lab import FaultProxy, RedisServer
from tests.support import run_bounded, threads, wait_until

TIMEOUT = 0.2
KEY = "memory:WORKING_MEMORY:c"


def _is_past(counts: list[int], goal: int) -> bool:
    return sum(counts) >= goal


@pytest.fixture
def proxy(server: RedisServer, redis_url: str) -> Iterator[FaultProxy]:
    """A proxy in front of the shared, emptied server."""
    assert redis_url
    with FaultProxy(server.port, seed=1) as made:
        yield made


@asynccontextmanager
async def async_client(proxy: FaultProxy, protocol: int = 3) -> AsyncIterator[Any]:
    """An asynchronous client through it, without retries; its first connection stands."""
    client = redis.asyncio.Redis.from_url(proxy.url, retry=None, socket_timeout=TIMEOUT, protocol=protocol)
    try:
        await client.ping()
        yield client
    finally:
        await client.aclose()


def sync_error(proxy: FaultProxy, fault: Callable[[FaultProxy], Any]) -> BaseException | None:
    """Return what a SET raises on a used connection while the fault is set."""
    with redis.Redis.from_url(proxy.url, retry=None, socket_timeout=TIMEOUT) as client:
        client.ping()
        fault(proxy)
        try:
            client.set("a", 1)
        except redis.RedisError as error:
            return error
        return None


def async_error(proxy: FaultProxy, fault: Callable[[FaultProxy], Any]) -> BaseException | None:
    """Do the same in an event loop."""

    async def scenario() -> BaseException | None:
        async with async_client(proxy) as client:
            fault(proxy)
            try:
                await client.set("a", 1)
            except redis.RedisError as error:
                return error
            return None

    result: BaseException | None = run_bounded(scenario())
    return result


FAULTS: dict[str, tuple[Callable[[FaultProxy], Any], type[BaseException], str | None]] = {
    "reset": (lambda proxy: proxy.reset(), redis.ConnectionError, None),
    "refuse and reset": (lambda proxy: (proxy.refuse(), proxy.reset()), redis.ConnectionError, None),
    "eof": (lambda proxy: proxy.eof(), redis.ConnectionError, None),
    "reset at the command": (lambda proxy: proxy.reset(command="SET"), redis.ConnectionError, None),
    "requests swallowed": (lambda proxy: proxy.blackhole("requests"), redis.TimeoutError, None),
    "replies swallowed": (lambda proxy: proxy.blackhole("replies"), redis.TimeoutError, "1"),
    "latency": (lambda proxy: proxy.latency(10), redis.TimeoutError, "1"),
    "held": (lambda proxy: proxy.hold(), redis.TimeoutError, None),
    "reply lost, then nothing": (lambda proxy: proxy.drop_reply(), redis.TimeoutError, "1"),
    "reply lost, then reset": (lambda proxy: proxy.drop_reply(then="reset"), redis.ConnectionError, "1"),
    "reply lost, then eof": (lambda proxy: proxy.drop_reply(then="eof"), redis.ConnectionError, "1"),
    "reply truncated": (lambda proxy: proxy.truncate(3), redis.ConnectionError, "1"),
    "loading": (lambda proxy: proxy.error("LOADING Redis is loading"), redis.BusyLoadingError, None),
    "read only": (lambda proxy: proxy.error("READONLY no writes"), redis.ReadOnlyError, None),
    "error after applying": (lambda proxy: proxy.error("ERR x", when="after"), redis.ResponseError, "1"),
}


@pytest.mark.parametrize("attempt", [sync_error, async_error], ids=["sync", "async"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_client_sees_the_class_of_error_and_the_server_what_was_applied(
    proxy: FaultProxy, server: RedisServer, attempt: Callable[..., BaseException | None], name: str
) -> None:
    """And when it is healed, the same works again."""
    fault, kind, stored = FAULTS[name]
    error = attempt(proxy, fault)
    assert isinstance(error, kind)
    assert isinstance(error, redis.TimeoutError) == (kind is redis.TimeoutError)
    assert server.command("GET", "a") == stored
    proxy.heal()
    assert attempt(proxy, lambda _: None) is None


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_well_proxy_changes_nothing(proxy: FaultProxy, server: RedisServer, protocol: int) -> None:
    """Large and small values, pipelines, transactions, scripts, with no fault and with one that never fires."""
    with (
        redis.Redis.from_url(proxy.url, retry=None, protocol=protocol) as through,
        redis.Redis.from_url(server.url, retry=None, protocol=protocol) as direct,
    ):
        for idle in (True, False):
            if not idle:
                proxy.error("ERR never", command="NOTHING", times=None)
            big = bytes(range(256)) * 8_000
            assert through.set("big", big)
            assert through.get("big") == big == direct.get("big")
            through.hset("hash", mapping={"a": "1", "b": "2"})
            assert through.hgetall("hash") == direct.hgetall("hash")
            pipeline = through.pipeline(transaction=True)
            for number in range(500):
                pipeline.rpush("list", f"{number}".encode() * 40)
            pipeline.execute()
            assert through.lrange("list", 0, -1) == direct.lrange("list", 0, -1)
            assert through.eval("return {1, {2, 'x'}, false}", 0) == direct.eval("return {1, {2, 'x'}, false}", 0)
            direct.delete("list")


def test_faults_set_and_healed_under_load_leave_every_reply_with_its_command(proxy: FaultProxy) -> None:
    """Four clients read what they wrote while the proxy changes between looking at bytes and passing them on."""
    stop = threading.Event()
    counts = [0] * 4

    def reader(number: int) -> None:
        with redis.Redis.from_url(proxy.url, retry=None) as client:
            while not stop.is_set():
                pipeline = client.pipeline(transaction=False)
                expected: list[Any] = []
                for step in range(30):
                    text = f"{number}-{counts[number]}-{step}".encode() * (step * step)
                    pipeline.set(f"k{number}", text)
                    pipeline.get(f"k{number}")
                    expected += [True, text]
                assert pipeline.execute() == expected
                counts[number] += 1

    with threads(4, reader):
        for _ in range(60):
            faults = [proxy.latency(0.0001), proxy.error("ERR never", command="NOTHING"), proxy.drip(5_000, 0.0001)]
            goal = sum(counts) + 1
            wait_until(partial(_is_past, counts, goal), "somebody got on")
            for fault in faults:
                fault.cancel()
        stop.set()
    assert min(counts) > 0


def test_a_managers_write_arrives_after_its_caller_has_given_up(proxy: FaultProxy, server: RedisServer) -> None:
    """The socket it was sent over has been reset by then."""
    held = proxy.hold(key=KEY)
    with RedisWorkingMemoryManager(proxy.url, timeout=TIMEOUT, ttl=60) as manager, pytest.raises(redis.TimeoutError):
        manager.store({"conversation_id": "c", "working_memory": "late"})
    assert server.command("EXISTS", KEY) == 0
    held.deliver()
    wait_until(lambda: server.command("EXISTS", KEY) == 1, "the write has arrived")


def test_a_fault_can_be_awaited_beside_the_call_that_it_hits(proxy: FaultProxy, server: RedisServer) -> None:
    """The event loop goes on meanwhile."""

    async def scenario() -> bool:
        async with async_client(proxy) as client:
            held = proxy.hold(command="SET", key="a")
            task = asyncio.create_task(client.set("a", 1))
            await held.wait_async()
            assert server.command("EXISTS", "a") == 0
            held.deliver()
            return bool(await task)

    assert run_bounded(scenario())


def test_a_manager_is_bounded_although_its_reply_drips(proxy: FaultProxy) -> None:
    """It gives up by its own deadline (0.2 s, and 0.3 s for a busy machine), not after the last byte."""
    with RedisWorkingMemoryManager(proxy.url, timeout=TIMEOUT, ttl=60) as manager:
        manager.store({"conversation_id": "c", "working_memory": "x" * 100})
        dripping = proxy.drip(1, every=0.05, command="GET")
        begun = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            manager.retrieve({"conversation_id": "c"})
        assert time.monotonic() - begun < TIMEOUT + 0.3
        assert dripping.fired == 1
