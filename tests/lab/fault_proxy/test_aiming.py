"""Faults hit exactly the commands they are for: by name, key, number, connection and chance."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import redis

from remanence import RedisWorkingMemoryManager
from remanence.lab import FaultProxy, RedisServer
from tests.lab.fault_proxy.wires import SyncWire, packed

SCRIPT = "redis.call('SET', KEYS[1], ARGV[1]) return ARGV[1]"


@pytest.fixture
def proxy(server: RedisServer, redis_url: str) -> Iterator[FaultProxy]:
    """A proxy in front of the shared, emptied server."""
    assert redis_url
    with FaultProxy(server.port, seed=7) as made:
        yield made


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[redis.Redis]:
    """A client through it, without retries; its first connection stands."""
    with redis.Redis.from_url(proxy.url, retry=None, socket_timeout=0.3, decode_responses=True) as made:
        made.ping()
        yield made


def test_the_reply_to_the_second_script_on_a_key_is_lost(
    proxy: FaultProxy, client: redis.Redis, server: RedisServer
) -> None:
    """Other scripts, other keys and handshakes in between do not count."""
    sha = client.script_load(SCRIPT)
    lost = proxy.drop_reply(command="evalsha", key="mine", nth=2, then="reset")

    def write(key: str, text: str) -> None:
        assert client.evalsha(sha, 1, key, text) == text

    write("mine", "1")
    write("other", "2")
    client.set("mine", "3")
    client.eval(SCRIPT, 1, "mine", "4")
    client.connection_pool.disconnect()
    write("other", "5")
    assert lost.fired == 0
    with pytest.raises(redis.ConnectionError):
        write("mine", "6")
    assert server.command("GET", "mine") == "6"
    write("mine", "7")
    assert (lost.fired, lost.seen) == (1, 2)


def test_each_command_of_a_pipeline_counts_by_itself(proxy: FaultProxy, client: redis.Redis) -> None:
    """The third GET of one pipeline gets the error, the others get their own replies."""
    client.mset({f"k{number}": number for number in range(5)})
    proxy.error("ERR third", command="GET", nth=3)
    pipeline = client.pipeline(transaction=False)
    for number in range(5):
        pipeline.get(f"k{number}")
    replies = pipeline.execute(raise_on_error=False)
    assert [str(reply) for reply in replies] == ["0", "1", "third", "3", "4"]


def test_a_fault_fires_as_often_as_it_may(proxy: FaultProxy, client: redis.Redis) -> None:
    """From the nth on, `times` times."""
    fault = proxy.error("ERR no", command="PING", nth=2, times=2)
    assert [_answers(client) for _ in range(5)] == [True, False, False, True, True]
    assert (fault.fired, fault.seen) == (2, 3)


def test_a_fault_without_a_limit_fires_until_it_is_cancelled(proxy: FaultProxy, client: redis.Redis) -> None:
    """On every command but those of a handshake."""
    fault = proxy.error("ERR no")
    client.connection_pool.disconnect()
    assert [_answers(client) for _ in range(3)] == [False] * 3
    assert [entry.command for entry in proxy.log if entry.what == "error"] == ["PING"] * 3
    fault.cancel()
    assert _answers(client)


def test_a_handshake_is_meant_where_it_is_named(proxy: FaultProxy, client: redis.Redis) -> None:
    """By one word or two, and nothing else is."""
    setinfo = proxy.error("ERR unknown subcommand", command="client setinfo", times=None)
    hello = proxy.drop_reply(command="HELLO", then="reset")
    assert _answers(client)
    client.connection_pool.disconnect()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    assert hello.fired == 1
    assert _answers(client)
    assert setinfo.fired == 2
    assert proxy.commands["HELLO"] == 3


def test_a_connection_is_meant_by_its_number(proxy: FaultProxy) -> None:
    """In the order of accepting."""
    first, second = SyncWire(proxy.port), SyncWire(proxy.port)
    for wire in (first, second):
        wire.send(packed("PING"))
        assert wire.read(100) == b"+PONG\r\n"
    proxy.error("ERR no", connection=2)
    answers = []
    for wire in (first, second, second, first):
        wire.send(packed("PING"))
        answers.append(wire.read(100)[:1])
    assert answers == [b"+", b"-", b"-", b"+"]
    first.close()
    second.close()


def test_chance_is_drawn_from_the_seed(server: RedisServer) -> None:
    """The same commands meet the same faults again; each fault draws for itself."""

    def pattern(seed: int, *, others: bool = False) -> list[bool]:
        with (
            FaultProxy(server.port, seed=seed) as proxy,
            redis.Redis.from_url(proxy.url, retry=None) as client,
        ):
            proxy.error("ERR no", command="PING", times=None, probability=0.5)
            if others:
                proxy.latency(0.001, jitter=0.001)
                proxy.error("ERR also", command="GET", times=None, probability=0.5)
            found = []
            for _ in range(40):
                if others:
                    _tries(client, "GET", "a")
                found.append(_answers(client))
            return found

    first = pattern(3)
    assert pattern(3) == first
    assert pattern(3, others=True) == first
    assert pattern(4) != first
    assert 8 <= first.count(False) <= 32


@pytest.mark.parametrize(
    ("command", "key", "meant"),
    [
        (("GET", "a"), "a", True),
        (("GET", "b"), "a", False),
        (("MGET", "b", "a"), "a", True),
        (("DEL", "b", "a"), b"a", True),
        (("MSET", "b", "a", "c", "d"), "a", False),
        (("MSET", "b", "d", "a", "c"), "a", True),
        (("SET", "b", "a"), "a", False),
        (("EVAL", "return 1", 1, "a", "x"), "a", True),
        (("EVAL", "return 1", 1, "x", "a"), "a", False),
        (("EVAL", "return 1", 2, "x", "a"), "a", True),
        (("EVAL", "return 1", 0, "a"), "a", False),
        (("OBJECT", "ENCODING", "a"), "a", True),
        (("PUBLISH", "a", "x"), "a", False),
        (("GET", "é"), "é", True),
        (("GET", b"\xff\r\n$1"), b"\xff\r\n$1", True),
        (("GET", ""), "", True),
    ],
)
def test_a_key_is_looked_for_where_the_command_has_its_keys(
    proxy: FaultProxy, command: tuple[str | bytes | int, ...], key: str | bytes, *, meant: bool
) -> None:
    """A value that looks like the key is none."""
    fault = proxy.error("ERR meant", key=key)
    wire = SyncWire(proxy.port)
    wire.send(packed(*command))
    assert (wire.read(100) == b"-ERR meant\r\n", fault.fired) == (meant, int(meant))
    wire.close()


def test_a_manager_is_hit_at_its_second_write_of_a_memory(proxy: FaultProxy, server: RedisServer) -> None:
    """By the key that the memory has."""
    with RedisWorkingMemoryManager(proxy.url, ttl=60) as manager:
        lost = proxy.drop_reply(key="memory:WORKING_MEMORY:c", nth=2, then="reset")
        for conversation, text in (("c", "1"), ("d", "1")):
            manager.store({"conversation_id": conversation, "working_memory": text})
        with pytest.raises(redis.ConnectionError):
            manager.store({"conversation_id": "c", "working_memory": "2"})
        assert lost.fired == 1
        assert '"2"' in str(server.command("GET", "memory:WORKING_MEMORY:c"))


def test_what_was_done_is_counted(proxy: FaultProxy, client: redis.Redis) -> None:
    """Commands by name, faults by the method that set them, in a log without keys and texts."""
    client.set("secret", "text")
    proxy.error("ERR no", command="GET", key="secret")
    assert not _tries(client, "GET", "secret")
    assert proxy.commands["SET"] == proxy.commands["GET"] == 1
    assert proxy.faults == {"error": 1}
    assert proxy.connections == 1
    assert [(entry.what, entry.connection, entry.command) for entry in proxy.log] == [
        ("connected", 1, None),
        ("error", 1, "GET"),
    ]
    assert "secret" not in repr(proxy.log)


@pytest.mark.parametrize(
    ("method", "arguments", "options"),
    [
        ("blackhole", ("sideways",), {}),
        ("latency", (-1,), {}),
        ("latency", (float("nan"),), {}),
        ("latency", (0.1,), {"jitter": 0.2}),
        ("latency", (0.1,), {"direction": "up"}),
        ("drip", (0,), {}),
        ("drip", (1, -0.1), {}),
        ("slow_close", (-1,), {}),
        ("truncate", (-1,), {}),
        ("truncate", (1,), {"then": "close"}),
        ("drop_reply", (), {"then": "nothing"}),
        ("error", ("two\r\nlines",), {}),
        ("error", ("",), {}),
        ("error", ("ERR",), {"when": "before"}),
        ("hold", (), {"nth": 0}),
        ("hold", (), {"times": 0}),
        ("hold", (), {"times": -1}),
        ("hold", (), {"probability": 0}),
        ("hold", (), {"probability": 1.5}),
        ("hold", (), {"connection": 0}),
        ("hold", (), {"command": "a b c"}),
        ("hold", (), {"command": ""}),
    ],
)
def test_a_value_out_of_range_is_refused(
    proxy: FaultProxy, method: str, arguments: tuple[object, ...], options: dict[str, object]
) -> None:
    """Before anything happens: the proxy works on as before."""
    with pytest.raises(ValueError, match=r"\w"):
        getattr(proxy, method)(*arguments, **options)
    assert _still_works(proxy)


@pytest.mark.parametrize("options", [{"cmd": "GET"}, {"key": 1}, {"nth": 1.5}, {"times": True}, {"command": b"GET"}])
def test_an_option_of_the_wrong_kind_is_refused(proxy: FaultProxy, options: dict[str, object]) -> None:
    """Unknown ones as well; the message says what there is."""
    with pytest.raises(TypeError):
        proxy.hold(**options)  # type: ignore[arg-type]
    assert _still_works(proxy)


def _answers(client: redis.Redis) -> bool:
    return _tries(client, "PING")


def _tries(client: redis.Redis, *command: str) -> bool:
    try:
        client.execute_command(*command)  # type: ignore[no-untyped-call]
    except redis.ResponseError:
        return False
    return True


def _still_works(proxy: FaultProxy) -> bool:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as one:
        one.sendall(packed("PING"))
        return one.recv(100) == b"+PONG\r\n" and not proxy.faults
