"""The server's time is that of the server at the other end: a new connection has it asked for anew; on real servers."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from remanence import RedisWorkingMemoryManager, resilient
from remanence.flow import Call, WriteItem
from remanence.lab import RedisServer
from remanence.managers.redis_attempt import attempt_flow
from remanence.managers.redis_backend import RedisBackend
from remanence.managers.redis_connection import ATTEMPT, NewConnectionError
from remanence.managers.redis_protocol import ServerTime
from remanence.record import encode

KEY = "memory:WORKING_MEMORY:c"


def an_hour_ahead() -> ServerTime:
    """Return what an earlier server's clock has taught, an hour ahead of the one that answers now."""
    ahead = ServerTime()
    ahead.observe(int((time.time() + 3600) * 1e6), time.monotonic(), time.monotonic(), 0)
    return ahead


def write_one(manager: RedisWorkingMemoryManager) -> None:
    """Store one memory, guarded as the policies' writes are."""
    raw = encode("text", None, "now", "now")
    manager.perform(Call("store", KEY, raw=raw, ttl=60.0))


def write_many(manager: RedisWorkingMemoryManager) -> None:
    """Write a pipeline, as the replay does."""
    raw = encode("text", None, "now", "now")
    manager.perform(Call("reconcile", items=[WriteItem(KEY, raw, 60.0, None)]))


def update(manager: RedisWorkingMemoryManager) -> None:
    """Update, and so read on the same connection first."""
    manager.update({"conversation_id": "c", "working_memory": "more"})


@pytest.mark.parametrize("write", [write_one, write_many, update])
def test_a_write_over_a_new_connection_does_not_trust_the_old_time(write: Callable[[Any], None]) -> None:
    """The server was replaced between two calls, and nothing failed: its clock may be another one all the same."""
    with (
        RedisServer(config={"slowlog-log-slower-than": "0"}) as server,
        RedisWorkingMemoryManager(server.url, timeout=10.0) as manager,
    ):
        write_one(manager)
        manager.backend.server_time = an_hour_ahead()
        server.restart()
        write(manager)
        limits = _not_afters(server)
        assert limits
        assert all(abs(limit - time.time()) < 60.0 for limit in limits), limits


def test_a_write_over_a_kept_connection_trusts_it(private_server: RedisServer) -> None:
    """Asking each time would double the cost of every write."""
    with RedisWorkingMemoryManager(private_server.url, timeout=10.0) as manager:
        write_one(manager)
        write_one(manager)
        asked = _calls(private_server, "time")
        write_one(manager)
        # TIME is also what the script calls, once each.
        assert _calls(private_server, "time") == asked + 1


def test_a_delete_goes_on_over_a_new_connection(private_server: RedisServer) -> None:
    """Only a write carries a time; the copies that a delete looks for do not, so any connection will do."""
    with RedisWorkingMemoryManager(private_server.url, timeout=10.0) as manager:
        write_one(manager)
        manager.backend.server_time = an_hour_ahead()
        private_server.restart()
        assert manager.perform(Call("delete", KEY)) == KEY
        assert manager.retrieve({"conversation_id": "c"}) == []


@pytest.mark.sync_only
def test_a_connection_that_another_thread_has_opened_is_a_new_one_too(private_server: RedisServer) -> None:
    """The time was estimated, another thread's call found the server replaced, and this one gets its connection."""
    with RedisWorkingMemoryManager(private_server.url, timeout=10.0) as manager:
        write_one(manager)
        manager.backend.server_time = an_hour_ahead()
        client = manager.redis_client
        raw = encode("text", None, "now", "now")
        flow = attempt_flow(manager.backend, Call("store", KEY, raw=raw), timeout=10.0, may_have_sent=lambda _: False)

        def reply(step: Any) -> Any:
            return client.execute_command(*step[1:]) if step[0] == "execute_command" else getattr(client, step[0])()

        command = next(flow)
        attempt = ATTEMPT.get()
        private_server.restart()
        other = threading.Thread(target=write_one, args=(manager,))
        other.start()
        other.join(10)
        assert client._idle
        with pytest.raises(NewConnectionError):
            reply(command)
        assert attempt is not None
        assert not attempt.sent
        again = flow.throw(NewConnectionError())
        assert again[7] < command[7] - 3_000_000_000
        with pytest.raises(StopIteration) as end:
            flow.send(reply(again))
        assert end.value.value.outcome == "committed"


@pytest.fixture
def locked() -> Iterator[RedisServer]:
    """A server with a password."""
    with RedisServer(config={"requirepass": "secret"}) as server:
        yield server


def test_a_handshake_goes_on_whatever_time_is_worth(locked: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off, it would leave a connection without its password and its database in the pool, for good."""
    with RedisWorkingMemoryManager(locked.url.removesuffix("/0") + "/5", timeout=10.0) as manager:
        write_one(manager)
        locked.restart()
        estimate = RedisBackend._not_after

        def overtaken(self: RedisBackend, call: Call) -> int:
            """Estimate, and have another thread open a connection before this one does."""
            monkeypatch.undo()
            before = estimate(self, call)
            self.server_time.forget()
            return before

        monkeypatch.setattr(RedisBackend, "_not_after", overtaken)
        write_one(manager)
    assert _keys(locked) == {0: 0, 5: 1}


@pytest.mark.sync_only
def test_threads_whose_connections_are_killed_stay_in_their_database(locked: RedisServer) -> None:
    """Each is opened anew while others learn the time, and none takes a connection that is half open."""
    with (
        RedisWorkingMemoryManager(locked.url.removesuffix("/0") + "/5", timeout=10.0) as manager,
        resilient(manager) as stack,
    ):

        def store(number: int) -> None:
            for turn in range(10):
                stack.store({"conversation_id": f"{number}.{turn}", "working_memory": "text"})

        for _ in range(5):
            workers = [threading.Thread(target=store, args=(number,)) for number in range(6)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(30)
            locked.command("CLIENT", "KILL", "TYPE", "normal")
    assert _keys(locked) == {0: 0, 5: 60}


def test_threads_that_each_open_a_connection_all_write(private_server: RedisServer) -> None:
    """Each asks for the time on its own connection, and none is refused or repeated."""
    with RedisWorkingMemoryManager(private_server.url, timeout=10.0) as manager, resilient(manager) as stack:
        barrier = threading.Barrier(4)
        outcomes: list[str] = []

        def store(number: int) -> None:
            barrier.wait(10)
            outcomes.extend(
                stack.store({"conversation_id": f"{number}.{turn}", "working_memory": "text"}).outcome
                for turn in range(20)
            )

        threads = [threading.Thread(target=store, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert outcomes == ["committed"] * 80


def _calls(server: RedisServer, command: str) -> int:
    """Return how often the server has carried a command out."""
    stats = str(server.command("INFO", "commandstats"))
    line = next((line for line in stats.splitlines() if line.startswith(f"cmdstat_{command}:")), "calls=0,")
    return int(line.partition("calls=")[2].partition(",")[0])


def _keys(server: RedisServer) -> dict[int, int]:
    """Return how many keys the databases 0 and 5 have."""
    space = str(server.command("INFO", "keyspace"))
    found = {int(number): int(keys) for number, keys in re.findall(r"db(\d+):keys=(\d+)", space)}
    return {0: 0, 5: 0} | found


def _not_afters(server: RedisServer) -> list[float]:
    """Return the not-after, in epoch seconds, of every guarded write that has reached the server."""
    entries: Any = server.command("SLOWLOG", "GET", 100)
    commands = [entry[3] for entry in entries]
    return [int(words[6]) / 1e6 for words in commands if words[0] in {"EVAL", "EVALSHA"}]
