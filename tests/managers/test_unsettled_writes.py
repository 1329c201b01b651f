"""What an abandoned write may still do: whether that is known, and what the server does with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from remanence import LateWriteError, RedisWorkingMemoryManager, VersionConflictError
from remanence.flow import Call
from remanence.lab import RedisServer
from remanence.lab.ports import choose_port
from remanence.operations import ANY_VERSION, key_call, store_call, update_call
from tests.managers.fake_servers import FakeServer, close_after, drip, half_a_reply, reset, silent
from tests.support import wait_until

MARGIN = 0.15
TEXT = {"conversation_id": "c", "working_memory": "text"}
OUTAGE = (redis.ConnectionError, redis.TimeoutError)
_HANDSHAKE = ("HELLO", "CLIENT")


class TestUnsettled:
    """Whether an abandoned write may still be applied."""

    def attempt(self, url: str, call: Callable[[RedisWorkingMemoryManager], Call]) -> tuple[Call, float, BaseException]:
        """Return a failed call, when its time began, and its error."""
        with RedisWorkingMemoryManager(url, timeout=0.3) as manager:
            made = call(manager)
            begin = time.monotonic()
            with pytest.raises(OUTAGE) as caught:
                manager.perform(made)
            return made, begin, caught.value

    def test_a_refused_connection_leaves_nothing_under_way(self) -> None:
        """What never left this process cannot be applied."""
        url = f"redis://127.0.0.1:{choose_port()}/0"
        call, _, _ = self.attempt(url, lambda manager: store_call(manager, TEXT, ANY_VERSION))
        assert call.unsettled_until == 0.0

    @pytest.mark.parametrize("behaviour", [silent, drip, half_a_reply, reset])
    def test_a_handshake_that_fails_leaves_nothing_under_way(self, behaviour: Any) -> None:
        """The handshake is no write."""
        with FakeServer(behaviour, *_HANDSHAKE) as server:
            call, _, _ = self.attempt(server.url, lambda manager: store_call(manager, TEXT, ANY_VERSION))
        assert call.unsettled_until == 0.0

    @pytest.mark.parametrize("behaviour", [silent, drip, half_a_reply, reset, close_after])
    @pytest.mark.parametrize("kind", ["store", "guarded", "update", "delete", "store_many"])
    def test_a_write_without_an_answer_may_be_applied_until_its_time_is_over(self, kind: str, behaviour: Any) -> None:
        """The call tells until when: the end of the attempt, which is its not-after."""

        def made(manager: RedisWorkingMemoryManager) -> Call:
            if kind == "update":
                return update_call(manager, TEXT, ANY_VERSION)
            if kind == "delete":
                return key_call(manager, "delete", TEXT)
            if kind == "store_many":
                return Call("store_many", items=[store_call(manager, TEXT, ANY_VERSION)])
            return store_call(manager, TEXT, ANY_VERSION if kind == "store" else None)

        with FakeServer(behaviour, "SETEX", "EVAL", "EVALSHA", "DEL") as server:
            call, begin, _ = self.attempt(server.url, made)
        assert begin + 0.3 <= call.unsettled_until < begin + 0.3 + MARGIN

    def test_a_read_leaves_nothing_under_way(self) -> None:
        """Reads change nothing."""
        with FakeServer(silent, "GET") as server:
            call, _, _ = self.attempt(server.url, lambda manager: key_call(manager, "retrieve", TEXT))
        assert call.unsettled_until == 0.0

    @pytest.mark.sync_only
    def test_an_answer_settles_the_write(self, redis_url: str) -> None:
        """A refusal by the server, of whatever kind, is an end: nothing can be applied after it."""
        with RedisWorkingMemoryManager(redis_url, timeout=5.0) as manager:
            manager.store(TEXT)
            conflict = store_call(manager, TEXT, "0" * 40)
            with pytest.raises(VersionConflictError):
                manager.perform(conflict)
            manager.redis_client.set("memory:WORKING_MEMORY:list", "canary")
            manager.redis_client.delete("memory:WORKING_MEMORY:list")
            manager.redis_client.lpush("memory:WORKING_MEMORY:list", 1)
            wrong_type = store_call(manager, {**TEXT, "conversation_id": "list"}, None)
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                manager.perform(wrong_type)
            late = store_call(manager, TEXT, None)
            manager.backend.server_time = _Behind()  # type: ignore[assignment]
            with pytest.raises(LateWriteError):
                manager.perform(late)
        assert [call.unsettled_until for call in (conflict, wrong_type, late)] == [0.0, 0.0, 0.0]

    @pytest.mark.parametrize("failure", ["refused", "silent"])
    def test_a_client_handed_in_is_judged_by_its_error(self, failure: str) -> None:
        """Its connections do not tell whether something was sent: only a failed connect is certain."""
        with ExitStack() as stack:
            server = stack.enter_context(FakeServer(silent, "SETEX"))
            url = server.url if failure == "silent" else f"redis://127.0.0.1:{choose_port()}/0"
            client = stack.enter_context(redis.from_url(url, socket_timeout=0.1))
            manager = RedisWorkingMemoryManager(client=client)
            call = store_call(manager, TEXT, ANY_VERSION)
            with pytest.raises(OUTAGE):
                manager.perform(call)
        assert bool(call.unsettled_until) == (failure == "silent")

    def test_an_exhausted_pool_leaves_nothing_under_way(self, redis_url: str) -> None:
        """A pool without a free connection sends nothing."""
        pool = redis.ConnectionPool.from_url(redis_url, max_connections=1)
        held = pool.get_connection()
        manager = RedisWorkingMemoryManager(client=redis.Redis(connection_pool=pool))
        call = store_call(manager, TEXT, ANY_VERSION)
        with pytest.raises(redis.ConnectionError, match="Too many connections"):
            manager.perform(call)
        assert call.unsettled_until == 0.0
        pool.release(held)
        pool.disconnect()


class _Behind:
    """A notion of the server's time that stays an hour behind, whatever is observed."""

    known = True
    spell = 0

    def observe(self, server: int, begin: float, end: float, spell: int) -> None:
        """Learn nothing."""

    def forget(self) -> None:
        """Forget nothing."""

    def at(self, _monotonic: float) -> int:
        """Return a time long past."""
        return int((time.time() - 3600) * 1e6)


class TestAfterTheFreeze:
    """What a write that timed out on a frozen server does once the server runs on."""

    def test_a_guarded_write_is_refused_and_a_plain_one_applied(self, private_server: RedisServer) -> None:
        """The kernel has delivered both; the guarded one carries its not-after, so the server itself refuses it.

        The plain one is the reference's SETEX and has nothing to be refused by: it is applied seconds later, over
        whatever is there by then. That is why the policies write guarded.
        """
        guarded, plain = ({"conversation_id": name, "working_memory": "late"} for name in ("guarded", "plain"))
        with (
            RedisWorkingMemoryManager(private_server.url, timeout=0.2) as manager,
            RedisWorkingMemoryManager(private_server.url, timeout=0.2) as other,
            redis.Redis.from_url(private_server.url) as raw,
        ):
            other.store({**plain, "working_memory": "first"})
            version = manager.store({**guarded, "working_memory": "first"}, if_version=None).version
            calls_before = _calls(raw)
            private_server.freeze()
            with pytest.raises(OUTAGE):
                manager.store(guarded, if_version=version)
            with pytest.raises(OUTAGE):
                other.store(plain)
            private_server.thaw()
            wait_until(lambda: _calls(raw) == tuple(n + 1 for n in calls_before), "both have reached the server")
            assert manager.retrieve(guarded)[0].working_memory == "first"
            assert manager.retrieve(plain)[0].working_memory == "late"


def _calls(raw: redis.Redis) -> tuple[int, int]:
    stats: Any = raw.info("commandstats")
    return stats.get("cmdstat_evalsha", {}).get("calls", 0), stats.get("cmdstat_setex", {}).get("calls", 0)
