"""The promises by name, on a real server that is killed, frozen, emptied, cut off and slowed down."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from remanence import CircuitBreaker, Fallback, RedisWorkingMemoryManager, Retry, resilient
from remanence.background import ReplayTask
from remanence.errors import VersionConflictError
from remanence.events import EntryStuck, Event, ReplayFinished
from remanence.lab import FaultProxy, RedisServer
from remanence.record import digest
from tests.relay import held, home, texts, value
from tests.support import threads, wait_until

pytestmark = pytest.mark.chaos

DEADLINE = 0.6
MARGIN = 0.25
"""For a machine with two busy cores; the promise is 0.05."""


@pytest.fixture
def proxy(server: RedisServer, redis_url: str) -> Iterator[FaultProxy]:
    """A proxy in front of the shared, emptied server."""
    assert redis_url
    with FaultProxy(server.port) as made:
        yield made


@pytest.fixture
def stack() -> Iterator[Callable[..., Any]]:
    """Return the function that makes a resilient manager, quick to give up and to probe; all are closed in the end."""
    made: list[Any] = []

    def make(url: str, *, retry: Retry | None = None, listeners: Any = (), **options: Any) -> Any:
        manager = resilient(
            RedisWorkingMemoryManager(url, timeout=0.3, ttl=3600),
            fallback=Fallback(**options),
            deadline=DEADLINE,
            retry=retry or Retry(attempts=2),
            circuit_breaker=CircuitBreaker(open_for=0.1, open_for_max=0.2),
            listeners=listeners,
        )
        made.append(manager)
        return manager

    yield make
    for manager in made:
        manager.close(timeout=0.01)
        manager.inner.close()


@pytest.fixture
def stranger(server: RedisServer, redis_url: str) -> Iterator[Any]:
    """Somebody else, with a bare manager straight to the shared server."""
    assert redis_url
    with RedisWorkingMemoryManager(server.url, ttl=3600) as manager:
        yield manager


def is_over(background: Any) -> bool:
    """Whether a replay's thread, or its task, has ended."""
    if isinstance(background, ReplayTask):
        return background._task is None or background._task.done()
    return background._thread is None


def scripts_run(server: RedisServer) -> int:
    """Return how many scripts the server has run."""
    stats = str(server.command("INFO", "commandstats"))
    lines = [line for line in stats.splitlines() if line.startswith(("cmdstat_evalsha:", "cmdstat_eval:"))]
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in lines)


def test_a_blind_store_against_an_existing_record_leaves_the_stores_value(
    private_server: RedisServer, stack: Callable[..., Any]
) -> None:
    """Killed with -9, restarted with its data: Redis's value stays, ours is listed."""
    with RedisWorkingMemoryManager(private_server.url) as other:
        other.store(value("theirs"))
    private_server.kill()
    manager = stack(private_server.url)
    assert manager.store(value("ours")).outcome == "journaled"
    private_server.restart()
    home(manager)
    assert (held(private_server.url), texts(manager)) == ("theirs", ["ours"])


def test_a_read_in_the_outage_and_a_store_after_it_displace_nothing(
    private_server: RedisServer, stack: Callable[..., Any]
) -> None:
    """The agent read "none", the server came back, the agent wrote."""
    with RedisWorkingMemoryManager(private_server.url) as other:
        other.store(value("theirs"))
    manager = stack(private_server.url)
    private_server.kill()
    assert manager.retrieve(value()).source == "none"
    private_server.restart()
    wait_until(lambda: manager.retrieve(value(conversation="another")).source == "redis", "the store answers again")
    manager.store(value("ours"))
    home(manager)
    assert (held(private_server.url), texts(manager)) == ("theirs", ["ours"])
    assert manager.retrieve(value()).source == "redis"
    assert manager.store(value("seen")).outcome == "committed"


def test_healing_needs_no_traffic(private_server: RedisServer, stack: Callable[..., Any]) -> None:
    """The background replay probes by itself, brings everything home and ends its thread."""
    events: list[Event] = []
    manager = stack(private_server.url, listeners=[events.append])
    private_server.kill()
    for number in range(50):
        manager.store(value(f"text {number}", f"c{number}"))
    assert manager.health().status == "degraded"
    private_server.restart()
    home(manager)
    assert [held(private_server.url, f"c{number}") for number in (0, 49)] == ["text 0", "text 49"]
    assert sum(event.replayed for event in events if isinstance(event, ReplayFinished)) == 50
    wait_until(lambda: is_over(manager._background), "the replay has ended")
    assert manager.health().status == "ready"


def test_a_server_restarted_without_its_data_gets_the_writes(
    private_server: RedisServer, stack: Callable[..., Any]
) -> None:
    """That is no deletion, although this process knew the memory: the entry is written."""
    manager = stack(private_server.url)
    manager.store(value("base"))
    manager.retrieve(value())
    private_server.kill()
    manager.store(value("ours"))
    private_server.restart(keep_data=False)
    home(manager)
    assert (held(private_server.url), texts(manager)) == ("ours", [])


def test_replay_and_the_background_thread_do_not_get_in_each_others_way(
    private_server: RedisServer, stack: Callable[..., Any]
) -> None:
    """Every entry comes home once, whoever brings it, without a conflict."""
    manager = stack(private_server.url)
    private_server.kill()
    for number in range(300):
        manager.store(value("text", f"c{number}"))
    private_server.restart()
    with threads(4, lambda _: manager.replay(timeout=5.0)):
        pass
    home(manager)
    health = manager.health()
    assert (health.replayed, health.conflicts, texts(manager)) == (300, 0, [])


def test_a_frozen_server_costs_each_call_its_deadline_at_most(
    private_server: RedisServer, stack: Callable[..., Any]
) -> None:
    """Reads and writes end in time, and everything is in the store afterwards, once."""
    manager = stack(private_server.url)
    manager.store(value("base"))
    private_server.freeze()
    slowest = 0.0
    for number in range(4):
        begun = time.monotonic()
        manager.store(value(f"frozen {number}", f"c{number}"))
        manager.retrieve(value(conversation=f"d{number}"))
        slowest = max(slowest, time.monotonic() - begun)
    private_server.thaw()
    assert slowest <= 2 * (DEADLINE + MARGIN)
    home(manager)
    assert [held(private_server.url, f"c{number}") for number in range(4)] == [f"frozen {n}" for n in range(4)]
    assert texts(manager) == []


def test_a_write_that_is_delivered_after_the_replay_changes_nothing(
    proxy: FaultProxy, stranger: Any, stack: Callable[..., Any], server: RedisServer
) -> None:
    """The network holds it back, its caller is answered from the journal, others write on; then it is refused."""
    manager = stack(proxy.url, retry=Retry(attempts=1))
    manager.store(value("base"))
    late = proxy.hold(command="EVALSHA")
    assert manager.store(value("late")).outcome == "journaled"
    home(manager)
    assert held(server.url) == "late"
    stranger.store(value("newer"))
    before = scripts_run(server)
    assert late.deliver() == 1
    wait_until(lambda: scripts_run(server) > before, "the late write has arrived")
    assert (held(server.url), texts(manager)) == ("newer", [])


def test_a_write_that_is_delivered_before_the_replay_is_recognised(
    proxy: FaultProxy, stack: Callable[..., Any], server: RedisServer
) -> None:
    """It was applied within its time: the replay finds its own value, and there is no conflict."""
    manager = stack(proxy.url, retry=Retry(attempts=1))
    manager.store(value("base"))
    late = proxy.hold(command="EVALSHA")
    caller = threading.Thread(target=lambda: manager.store(value("held back")))
    caller.start()
    late.wait()
    late.deliver()
    wait_until(lambda: held(server.url) == "held back", "the write is applied")
    caller.join(5)
    home(manager)
    assert (held(server.url), texts(manager)) == ("held back", [])


def test_a_writer_from_another_process_during_the_outage_is_not_overwritten(
    proxy: FaultProxy, stack: Callable[..., Any], server: RedisServer
) -> None:
    """Its text stays, ours is kept, although this process knew the memory."""
    manager = stack(proxy.url)
    manager.store(value("base"))
    proxy.reset()
    assert manager.store(value("ours")).outcome == "journaled"
    program = f"""
        from remanence import RedisWorkingMemoryManager
        with RedisWorkingMemoryManager({server.url!r}) as manager:
            manager.store({{"conversation_id": "c", "working_memory": "theirs"}})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=30)
    proxy.heal()
    home(manager)
    assert (held(server.url), texts(manager)) == ("theirs", ["ours"])


def test_a_deletion_by_somebody_else_during_the_outage_wins(
    proxy: FaultProxy, stranger: Any, stack: Callable[..., Any], server: RedisServer
) -> None:
    """Same server, before its time: nothing is stored again, and ours is kept as a copy."""
    manager = stack(proxy.url)
    manager.store(value("base"))
    proxy.reset()
    manager.store(value("ours"))
    stranger.delete(value())
    proxy.heal()
    home(manager)
    assert (held(server.url), texts(manager)) == (None, ["ours"])


def test_a_dripping_server_is_bounded_and_loses_nothing(
    proxy: FaultProxy, stack: Callable[..., Any], server: RedisServer
) -> None:
    """Bytes that come one by one do not stretch a call beyond its deadline."""
    manager = stack(proxy.url)
    manager.store(value("base"))
    proxy.drip(1, every=0.05)
    for text in ("first", "second"):
        begun = time.monotonic()
        manager.store(value(text))
        manager.retrieve(value(conversation="other"))
        assert time.monotonic() - begun <= 2 * (DEADLINE + MARGIN)
    proxy.heal()
    home(manager)
    assert (held(server.url), texts(manager)) == ("second", [])


def test_an_entry_that_the_server_never_takes_is_set_aside(
    proxy: FaultProxy, stack: Callable[..., Any], server: RedisServer
) -> None:
    """WRONGTYPE: the others come home, it is counted, and comes home by `replay()` once its cause is gone."""
    events: list[Event] = []
    manager = stack(proxy.url, listeners=[events.append])
    proxy.reset()
    key = manager.store(value("ours", "bad"))
    manager.store(value("ours", "good"))
    server.command("RPUSH", str(key), "a list")
    proxy.heal()
    wait_until(lambda: manager.health().stuck == 1 and manager.health().pending == 0, "one is stuck, none pending")
    assert held(server.url, "good") == "ours"
    assert [event.error for event in events if isinstance(event, EntryStuck)] == ["ResponseError"]
    server.command("DEL", str(key))
    assert manager.replay().stuck == 0
    assert held(server.url, "bad") == "ours"


@pytest.mark.parametrize("state", ["OOM", "READONLY"])
def test_writes_that_the_server_refuses_are_kept_while_reads_go_on(
    private_server: RedisServer, stack: Callable[..., Any], state: str
) -> None:
    """The reads' breaker stays closed, and the writes come home when the state is over."""
    manager = stack(private_server.url)
    manager.store(value("base", "other"))
    commands = {
        "OOM": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        "READONLY": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    }[state]
    private_server.command(*commands[0])
    assert manager.store(value("ours")).outcome == "journaled"
    assert manager.retrieve(value(conversation="other")).source == "redis"
    assert manager.retrieve(value()).source == "journal"
    assert manager.health().breaker == "closed"
    private_server.command(*commands[1])
    home(manager)
    assert (held(private_server.url), texts(manager)) == ("ours", [])


def test_a_missing_permission_reaches_the_caller_and_acknowledges_nothing(
    private_server: RedisServer, stack: Callable[..., Any]
) -> None:
    """Hidden by a fallback it would be found a week later."""
    private_server.command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+get", "+time", "+info")
    url = private_server.url.replace("redis://", "redis://reader:pw@")
    manager = stack(url)
    assert manager.retrieve(value()).source == "redis"
    with pytest.raises(redis.ResponseError):
        manager.store(value("a"))
    assert not manager.has_pending_writes


def test_conflict_copies_are_plain_keys_with_a_life(
    proxy: FaultProxy, stranger: Any, stack: Callable[..., Any], server: RedisServer
) -> None:
    """Raw under remanence-conflict:{type}:{id}:{digest}, byte for byte as written; a delete removes them."""
    manager = stack(proxy.url, conflict_ttl=1000.0)
    stranger.store(value("theirs", "a:b"))
    proxy.reset()
    receipt = manager.store(value("ours", "a:b"))
    proxy.heal()
    home(manager)
    with redis.Redis.from_url(server.url) as raw:
        name = f"remanence-conflict:WORKING_MEMORY:a:b:{receipt.version}"
        kept = raw.get(name)
        assert isinstance(kept, bytes)
        assert digest(kept) == receipt.version
        assert 990 < int(raw.ttl(name)) <= 1000
        conflict = manager.conflicts()[0]
        assert (conflict.conversation_id, conflict.text, conflict.digest) == ("a:b", "ours", receipt.version)
        manager.retrieve(value(conversation="a:b"))
        manager.delete(value(conversation="a:b"))
        assert raw.keys("*") == []
    assert manager.conflicts() == []


def test_eight_threads_storing_through_an_outage_lose_nothing(
    private_server: RedisServer, stack: Callable[..., Any]
) -> None:
    """Read, append, store with the version read, and again on a conflict; the server dies and comes back meanwhile."""
    manager = stack(private_server.url)
    done: list[str] = []
    stop = threading.Event()

    def body(number: int) -> None:
        if number == 8:
            for _ in range(2):
                time.sleep(0.25)
                private_server.kill()
                time.sleep(0.25)
                private_server.restart()
            stop.set()
            return
        count = 0
        while not stop.is_set() or count < 20:
            conversation = f"c{number % 2}"
            seen = manager.retrieve(value(conversation=conversation))
            token = f"{number}.{count}"
            text = " ".join([item.working_memory for item in seen] + [token])
            with suppress(VersionConflictError):
                manager.store(value(text, conversation), if_version=seen.version)
                done.append(token)
                count += 1

    with threads(9, body):
        pass
    home(manager)
    everything = " ".join(
        [held(private_server.url, name) or "" for name in ("c0", "c1")] + list(map(str, texts(manager)))
    )
    lost = set(done) - set(everything.split())
    assert len(done) >= 160
    assert not lost
