"""Time in tests: the clock that moves on command, and keys that expire on command."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from remanence import InMemoryManager, resilient
from remanence.lab.resp import RespConnection
from remanence.testing import ManualClock, RedisForTests
from tests.support import threads

if TYPE_CHECKING:
    from tests.testing.plugin.conftest import Nested

pytest_plugins = ["pytester"]


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisForTests]:
    """A server of this module."""
    with RedisForTests() as server:
        yield server


@pytest.fixture
def server(shared: RedisForTests) -> RedisForTests:
    """The same, emptied."""
    shared.reset()
    return shared


def test_time_stands_still() -> None:
    """A clock shows the same until it is moved, and both its times move by the same."""
    clock = ManualClock()
    monotonic, epoch = clock.monotonic(), clock.time()
    assert (clock.monotonic(), clock.time()) == (monotonic, epoch)
    clock.advance(12.5)
    assert (clock.monotonic(), clock.time()) == (monotonic + 12.5, epoch + 12.5)


def test_sleeping_is_over_at_once() -> None:
    """Whoever sleeps on the clock moves it and goes on, awaited or not; what was slept can be read."""
    clock = ManualClock(monotonic=0, epoch=0)
    clock.sleep(3_600)
    asyncio.run(clock.sleep_async(0.5))
    clock.sleep(-1)  # a backoff whose time is up already
    assert clock.monotonic() == 3_600.5
    assert clock.slept == [3_600, 0.5, -1]


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_time_does_not_run_backwards(server: RedisForTests, seconds: float) -> None:
    """Neither a clock nor a server goes back; both refuse and stay as they were."""
    clock = ManualClock()
    before = clock.monotonic()
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(seconds)
    with pytest.raises(ValueError, match="backwards"):
        server.advance(seconds)
    assert clock.monotonic() == before


def test_threads_lose_no_time() -> None:
    """Advances from several threads add up."""
    clock = ManualClock(monotonic=0)

    def hurry(_: int) -> None:
        for _second in range(2_000):
            clock.advance(1)

    with threads(4, hurry):
        pass
    assert clock.monotonic() == 8_000


def test_a_manager_in_this_process_lives_on_it() -> None:
    """A memory in a manager in this process expires when the clock says so, through the stack as well."""
    clock = ManualClock()
    with resilient(InMemoryManager(ttl=60, clock=clock)) as manager:
        manager.store({"conversation_id": "c1", "working_memory": "Likes Python."})
        clock.advance(59)
        assert manager.retrieve({"conversation_id": "c1"})
        clock.advance(1)
        assert not manager.retrieve({"conversation_id": "c1"})


def test_advance_brings_expiry_forward(server: RedisForTests) -> None:
    """What would have expired by then is gone, what expires later does so earlier, what never expires stays."""
    for key, arguments in {"soon": ("EX", 10), "late": ("EX", 1_000), "never": ()}.items():
        server.command("SET", key, "1", *arguments)
    server.advance(10.5)
    assert server.command("EXISTS", "soon") == 0
    assert server.command("TTL", "never") == -1
    assert 980_000 < int(str(server.command("PTTL", "late"))) <= 989_500


def test_advance_reaches_all_databases_and_pages(server: RedisForTests) -> None:
    """Keys of every database move, each once, also where SCAN needs many pages to tell them."""
    with RespConnection(server.port, timeout=5) as connection:
        for database in (0, 5):
            connection.command("SELECT", database)
            connection.command("EVAL", "for i = 1, 3000 do redis.call('SET', 'k' .. i, '', 'EX', 1000) end", 0)
        server.advance(600)
        for database in (0, 5):
            connection.command("SELECT", database)
            assert connection.command("DBSIZE") == 3_000
            assert 300 < int(str(connection.command("TTL", "k3000"))) <= 400
        server.advance(400)
        assert connection.command("DBSIZE") == 0


def test_advance_moves_the_tests_clock_with_the_server(nested: Nested) -> None:
    """remanence_redis.advance moves remanence_clock too, each test's own; the clock alone leaves the server alone."""
    result = nested.run(
        """
        import pytest

        MEMORY = {"conversation_id": "c1", "working_memory": "Likes Python."}

        @pytest.mark.parametrize("number", range(2))
        def test_it(remanence_redis, remanence_clock, remanence_resilient, number):
            begun = remanence_clock.monotonic()
            assert begun == 1000
            remanence_resilient.store(MEMORY)
            remanence_clock.advance(90_000)
            assert remanence_resilient.retrieve(MEMORY)
            remanence_redis.advance(90_000)
            assert not remanence_resilient.retrieve(MEMORY)
            assert remanence_clock.monotonic() == begun + 180_000

        def test_given_back(remanence_redis_session):
            assert remanence_redis_session.clock is None
        """
    )
    assert result.parseoutcomes() == {"passed": 3}
