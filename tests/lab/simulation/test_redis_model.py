"""The model of Redis is Redis: every answer, and the whole key space, compared with a real server's.

REMANENCE_TEST_EXAMPLES runs the state machine longer, with other examples each time.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis.exceptions import NoScriptError

from remanence.lab import RedisServer
from remanence.lab.simulation.redis_model import RedisModel
from remanence.managers.redis_backend import Pipeline
from remanence.managers.redis_protocol import GUARDED_WRITE, GUARDED_WRITE_SHA
from remanence.record import ABSENT
from tests.lab.simulation.redis_machine import Machine
from tests.lab.simulation.redis_twins import Twins, url_client
from tests.support import FakeClock, wait_until

EXAMPLES = os.environ.get("REMANENCE_TEST_EXAMPLES")
FAR = 10**17

WATCH = """
local time = redis.call('TIME')
return {time[1] * 1000 + math.floor(time[2] / 1000), redis.call('EXISTS', KEYS[1])}
"""

CLIENTS: dict[str, Callable[[str], Any] | None] = {"redis-py": url_client, "ours": None}

# What the script must not be without: name, what it says, what a broken one says instead.
BROKEN = (
    ("takes late writes", "if now > tonumber(ARGV[3]) then return -now end", ""),
    ("has no guard", "if ARGV[4] then", "if false then"),
    ("looks at one digest of the guard", "for i = 4, #ARGV do", "for i = 4, 4 do"),
    ("knows no absent", "redis.sha1hex(held) or ''", "redis.sha1hex(held) or 'none'"),
    ("takes what is empty for absent", "held and redis.sha1hex", "held and held ~= '' and redis.sha1hex"),
    ("keeps to itself what is held", "return held or ''", "return ''"),
    ("deletes nothing with success", "== 0 then return 0 end", "== 0 then return now end"),
    ("never deletes", "if ARGV[2] == 'DEL' then", "if false then"),
    ("forgets the TTL", ", ARGV[1], 'PX', ARGV[2])", ", ARGV[1])"),
    ("takes ms for s", "'PX'", "'EX'"),
    ("keeps an old TTL", "redis.call('SET', KEYS[1], ARGV[1])", "redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')"),
    ("tells no time", "return now\n", "return 1\n"),
)


def examine(make: Callable[[], Twins], examples: int, **options: Any) -> None:
    """Run the machine."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        database=None,
        derandomize=EXAMPLES is None,
        suppress_health_check=list(HealthCheck),
        **options,
    )
    machine: Any = lambda: Machine(make)  # noqa: E731 - a factory where the signature asks for a class
    run_state_machine_as_test(machine, settings=chosen)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_model_answers_as_a_real_server(
    private_server: RedisServer, client: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is sent, through either client, the answers and the key space are the real server's."""
    caplog.set_level(logging.ERROR)  # keys that only look like conflict copies are reported in numbers
    examine(lambda: Twins(private_server, CLIENTS[client]), int(EXAMPLES or 40))


@pytest.mark.parametrize(("right", "wrong"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_script_is_noticed(private_server: RedisServer, right: str, wrong: str) -> None:
    """With any part of the script changed on the real server only, the same machine fails."""
    script = GUARDED_WRITE.replace(right, wrong)
    assert script != GUARDED_WRITE
    with pytest.raises(AssertionError):
        examine(lambda: Twins(private_server, script=script), 200, phases=[Phase.generate], report_multiple_bugs=False)


UNTOUCHED = ("setex", "k", 10_000, b"v")
EXPIRED: dict[str, Any] = {
    "get": ("get", "k"),
    "delete": ("delete", "k"),
    "scan": {"pattern": "k*", "count": 10},
    "write": ("set", "k", b"w"),
    "guarded write": ("execute_command", "EVAL", GUARDED_WRITE, 1, "k", b"w", "", FAR, ""),
    "guarded delete": ("execute_command", "EVAL", GUARDED_WRITE, 1, "k", b"", "DEL", FAR),
    "sets": Pipeline([("SMEMBERS", "k"), ("SADD", "k", "m")]),
    "expire": Pipeline([("EXPIRE", "k", 100)]),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_what_has_expired_is_gone_for_every_command(private_server: RedisServer, client: str) -> None:
    """Whichever command comes first after the end of a TTL, it finds nothing, as on a real server."""
    for step in EXPIRED.values():
        with closing(Twins(private_server, CLIENTS[client])) as twins:
            twins.step(UNTOUCHED)
            twins.pass_time(20_000)
            if isinstance(step, dict):
                twins.scan(**step)
            else:
                twins.step(step)
            twins.check_state()


def test_the_script_meets_a_set(private_server: RedisServer) -> None:
    """Only the guard looks at what is held: without one a set is replaced and deleted, as on a real server."""
    with closing(Twins(private_server)) as twins:
        for mode, guard in itertools.product(("", 10_000_000, "DEL"), ((), (ABSENT,))):
            twins.step(Pipeline([("SADD", "k", "m"), ("EVAL", GUARDED_WRITE, 1, "k", b"v", mode, FAR, *guard)]))
            twins.check_state()
            twins.step(("delete", "k"))


def test_patterns_mean_the_same(private_server: RedisServer) -> None:
    """A scan finds what the real server's finds, also by patterns that end where a key ends."""
    with closing(Twins(private_server)) as twins:
        for key in ("ab", "a*b", "a\\b", "a?[b", "a\nb", "\u00e9b", "b"):
            twins.step(("set", key, b""))
        for pattern in ("*", "**", "ab*", "a*b", "*b*", "a\\*b", "a\\\\b", "a\\?\\[b", "\u00e9*", "ab\\", "a", ""):
            twins.scan(pattern, 2)


def test_evictions_are_counted_until_a_restart(private_server: RedisServer) -> None:
    """INFO tells how many keys were evicted since the server has started, as on a real server."""
    with closing(Twins(private_server)) as twins:
        for keep_data in (True, False):
            twins.step(UNTOUCHED)
            twins.evict_all()
            twins.check_state()
            assert twins.model.evictions == 1
            twins.restart(keep_data=keep_data)
            twins.check_state()


@pytest.fixture
def clock() -> FakeClock:
    """The model's clock; it moves by `advance`."""
    return FakeClock()


@pytest.fixture
def model(clock: FakeClock) -> RedisModel:
    """An empty model."""
    return RedisModel(now=clock.time)


@contextmanager
def connected(server: RedisServer) -> Iterator[Any]:
    """Give a client of redis-py's."""
    client = url_client(server.url)
    try:
        yield client
    finally:
        client.close()


def write(raw: bytes, mode: str | int = "", not_after: int = FAR, *guard: str) -> tuple[Any, ...]:
    """Return the step of a guarded write to the key "k", which brings the script along."""
    return ("execute_command", "EVAL", GUARDED_WRITE, 1, "k", raw, mode, not_after, *guard)


def test_a_key_lives_through_the_millisecond_of_its_expiry(model: RedisModel, clock: FakeClock) -> None:
    """In the last ms of its TTL a key is there, and in the next it is gone: `now > when` in keyIsExpired of db.c."""
    model.answer(("psetex", "k", 1_000, b"v"))
    clock.advance(1.000_999)
    assert (model.value("k"), model.names(), model.expiry("k")) == (b"v", ["k"], int(clock.epoch * 1_000))
    assert model.answer(("get", "k")) == b"v"
    clock.advance(0.000_001)
    assert (model.value("k"), model.names(), model.expiry("k")) == (None, [], None)
    assert model.answer(("get", "k")) is None


def test_its_time_is_what_its_clock_means(model: RedisModel, clock: FakeClock) -> None:
    """Sums of times, which a float of epoch seconds holds a little too small, are told to the µs all the same."""
    for tenths in range(1, 7):
        clock.advance(0.1)
        assert model.answer(("time",)) == (int(FakeClock().epoch), tenths * 100_000)


def test_a_write_is_in_time_at_its_not_after(server: RedisServer, model: RedisModel, clock: FakeClock) -> None:
    """In the very µs of its not-after a write is accepted, and refused in the next: by the server, and so the model."""
    now = int(clock.epoch * 1e6)
    script = GUARDED_WRITE.replace("time[1] * 1000000 + time[2]", str(now))  # whose time stands still
    assert script != GUARDED_WRITE
    with connected(server) as client:
        assert client.eval(script, 1, "k", b"v", "", now) == now
        assert client.eval(script, 1, "k", b"v", "", now - 1) == -now
        client.delete("k")
    assert model.answer(write(b"v", "", now)) == now
    assert model.answer(write(b"v", "", now - 1)) == -now


def test_a_promoted_replica_has_the_data_and_nothing_else(clock: FakeClock) -> None:
    """It keeps values and expiries; its script cache, its counters and its run id are its own."""
    with (
        RedisServer(config={"repl-diskless-sync-delay": "0", "maxmemory-policy": "allkeys-random"}) as first,
        RedisServer() as second,
        connected(first) as primary,
        connected(second) as replica,
    ):
        primary.set("gone", "v")
        primary.config_set("maxmemory", 1)
        wait_until(lambda: primary.dbsize() == 0, "the server evicted its key")
        primary.config_set("maxmemory", 0)
        now = primary.execute_command(*write(b"v", 100_000)[1:])
        second.command("REPLICAOF", "127.0.0.1", first.port)
        wait_until(lambda: replica.get("k") == b"v", "the replica had the data")
        second.command("REPLICAOF", "NO", "ONE")
        primary.set("late", "v")

        clock.epoch = now / 1e6
        model = RedisModel(now=clock.time)
        model.answer(("set", "gone", b"v"))
        model.evict("gone")
        model.answer(write(b"v", 100_000))
        promoted = model.fork(now=clock.time, run_id="run-2")
        model.answer(("set", "late", b"v"))

        for real, ours in ((primary, model), (replica, promoted)):
            assert sorted(real.keys()) == [name.encode() for name in ours.names()]
            assert real.pexpiretime("k") == ours.expiry("k")
            assert real.info("stats")["evicted_keys"] == ours.answer(("info", "stats"))["evicted_keys"]
        assert replica.info("server")["run_id"] != primary.info("server")["run_id"]
        assert promoted.answer(("info", "server")) != model.answer(("info", "server"))
        with pytest.raises(NoScriptError):
            replica.evalsha(GUARDED_WRITE_SHA, 1, "k", b"", "", FAR)
        with pytest.raises(NoScriptError):
            promoted.answer(("execute_command", "EVALSHA", GUARDED_WRITE_SHA, 1, "k", b"", "", FAR))


def test_a_replica_goes_its_own_way(model: RedisModel, clock: FakeClock) -> None:
    """What is written to either after a fork stays there."""
    model.answer(("set", "k", b"1"))
    replica = model.fork(now=clock.time, run_id="run-2")
    replica.answer(("setex", "k", 10, b"2"))
    assert (model.value("k"), model.expiry("k")) == (b"1", None)
    model.answer(("delete", "k"))
    assert replica.value("k") == b"2"


def test_expiry_is_told_once_and_when_it_is_noticed(model: RedisModel, clock: FakeClock) -> None:
    """Looking for checks tells nothing; a command that meets the expired key, or `expire`, does."""
    told: list[tuple[str, bytes | None, bytes | None]] = []
    model.on_write = lambda *change: told.append(change)
    for key in ("k", "p", "o", "n", "m", "l"):
        model.answer(("setex", key, 10, b"1"))
    clock.advance(10.001)
    assert (model.value("k"), model.names(), list(model.items()), model.expiry("k")) == (None, [], [], None)
    assert told[6:] == []
    model.answer(("set", "k", b"2"))
    assert told[6:] == [("k", b"1", None), ("k", None, b"2")]
    model.expire()
    model.expire()
    assert told[8:] == [(key, b"1", None) for key in "lmnop"]


def test_only_what_is_there_is_evicted(model: RedisModel, clock: FakeClock) -> None:
    """An eviction is told and counted; one of a key that is not there, or has expired, is not counted."""
    told: list[tuple[str, bytes | None, bytes | None]] = []
    model.answer(("set", "k", b"1"))
    model.answer(("setex", "l", 10, b"1"))
    clock.advance(20.0)
    model.on_write = lambda *change: told.append(change)
    for key in ("k", "k", "none", "l"):
        model.evict(key)
    assert (model.evictions, told) == (1, [("k", b"1", None), ("l", b"1", None)])


CHANGES: dict[str, Callable[[RedisModel], object]] = {
    "value": lambda model: model.answer(("setex", "k", 100, b"2")),
    "expiry": lambda model: model.answer(("setex", "k", 101, b"1")),
    "no expiry": lambda model: model.answer(("set", "k", b"1")),
    "member": lambda model: model.command("SADD", "s", "n"),
    "key": lambda model: model.answer(("set", "l", b"")),
    "script": lambda model: model.flush_scripts(),
    "run id": lambda model: model.restart(keep_data=True, run_id="run-2"),
    "eviction": lambda model: [model.answer(("set", "l", b"")), model.evict("l")],  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_tells_states_apart(model: RedisModel, change: str) -> None:
    """Whatever a client could notice changes it."""
    model.answer(write(b"1", 100_000))
    model.command("SADD", "s", "m")
    before = model.fingerprint()
    CHANGES[change](model)
    assert model.fingerprint() != before


def test_the_fingerprint_does_not_tell_how_a_state_came_about(model: RedisModel, clock: FakeClock) -> None:
    """The order of writes, keys that came and went, and expiry that nobody has noticed do not change it."""
    other = RedisModel(now=clock.time)
    model.answer(("set", "k", b"1"))
    model.answer(("set", "l", b"2"))
    model.answer(("setex", "x", 1, b"3"))
    other.answer(("setex", "l", 100, b"0"))
    other.answer(("set", "l", b"2"))
    other.answer(("set", "k", b"1"))
    clock.advance(2.0)
    assert hash(model.fingerprint()) == hash(other.fingerprint())
    assert model.fingerprint() == other.fingerprint()


def test_a_scan_in_pages_gives_everything_that_stays(model: RedisModel) -> None:
    """Each key that is there from beginning to end comes exactly once, whatever comes and goes between the pages."""
    stay = {f"k{number}" for number in range(20)}
    for key in sorted(stay):
        model.answer(("set", key, b""))
    found: list[bytes] = []
    cursor, turn = 0, 0
    while turn == 0 or cursor:
        turn += 1
        cursor, page = model.answer(("scan", cursor, "k*", 3))
        found += page
        model.answer(("delete", f"x{turn - 1}"))
        model.answer(("set", f"x{turn}", b""))
    assert sorted(found) == sorted(key.encode() for key in stay)
    assert turn > 5


def test_keys_of_others_need_not_be_text(model: RedisModel) -> None:
    """A pipeline may name a key by its bytes, which are the same key as their text."""
    model.command("SET", b"\xff", b"1")
    model.command("SET", b"k", b"2")
    _, found = model.answer(("scan", 0, "*", 10))
    assert sorted(found) == [b"k", b"\xff"]
    assert model.answer(Pipeline([("GET", key) for key in sorted(found)])) == [b"2", b"1"]
    assert model.value("k") == b"2"


@pytest.mark.parametrize(
    "step",
    [
        ("getex", "k"),
        ("info", "memory"),
        ("scan", 0, "[a]*", 10),
        ("execute_command", "EVAL", "return 1", 1, "k"),
        Pipeline([("INCR", "k")]),
        Pipeline([("SET", "k", b"", "PX", 1)]),
    ],
    ids=("method", "info", "pattern", "script", "command", "option"),
)
def test_what_it_does_not_know_it_says(model: RedisModel, step: Any) -> None:
    """A step that the managers do not send is an error of the test's own, not an answer of a server."""
    with pytest.raises(NotImplementedError, match="the model of Redis knows"):
        model.answer(step)
