"""Each fault as it arrives at a socket, and as the server's own data prove it."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from remanence.lab import FaultNotFiredError, FaultProxy, NothingHeldError, RedisServer
from tests.lab.fault_proxy.wires import AsyncWire, SyncWire, Wire, packed
from tests.support import wait_until

PONG = b"+PONG\r\n"
OK = b"+OK\r\n"
SILENCE = 0.1
"""Seconds without a byte that count as none coming; the server answers in well under a millisecond."""


@pytest.fixture
def proxy(server: RedisServer, redis_url: str) -> Iterator[FaultProxy]:
    """A proxy in front of the shared, emptied server, with a fixed seed."""
    assert redis_url
    with FaultProxy(server.port, seed=1) as made:
        yield made


@pytest.fixture(params=[SyncWire, AsyncWire], ids=["socket", "asyncio"])
def connect(request: pytest.FixtureRequest, proxy: FaultProxy) -> Iterator[Callable[[], Wire]]:
    """Return the function that connects to the proxy, over both kinds of socket in turn."""
    made: list[Wire] = []

    def make() -> Wire:
        made.append(request.param(proxy.port))
        return made[-1]

    yield make
    for wire in made:
        wire.close()


@pytest.fixture
def wire(connect: Callable[[], Wire]) -> Wire:
    """One connection that has been used."""
    made = connect()
    assert ask(made, "PING") == PONG
    return made


def ask(wire: Wire, *parts: str | bytes | int) -> bytes:
    """Send a command and return what comes first."""
    wire.send(packed(*parts))
    return wire.read(65_536)


def read_all(wire: Wire, size: int) -> bytes:
    """Read exactly so many bytes."""
    data = b""
    while len(data) < size:
        piece = wire.read(size - len(data))
        assert piece, "the stream ended"
        data += piece
    return data


def silent(wire: Wire) -> bool:
    """Whether nothing comes."""
    try:
        wire.read(1, SILENCE)
    except TimeoutError:
        return True
    return False


def is_reset(wire: Wire) -> bool:
    """Whether the connection was reset, or something else came; the end of the stream fails."""
    try:
        assert wire.read(65_536) != b""
    except ConnectionResetError:
        return True
    return False


def assert_reset(wire: Wire) -> None:
    """Fail unless the connection was reset."""
    with pytest.raises(ConnectionResetError) as caught:
        wire.read(1)
    assert caught.value.errno == errno.ECONNRESET


def test_refused_connects_get_econnrefused_while_existing_connections_go_on(
    proxy: FaultProxy, connect: Callable[[], Wire], wire: Wire
) -> None:
    """The listener is gone, the port is the same when it is back."""
    refused = proxy.refuse()
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError) as caught:
            connect()
        assert caught.value.errno == errno.ECONNREFUSED
    assert ask(wire, "PING") == PONG
    refused.cancel()
    assert ask(connect(), "PING") == PONG


def test_an_aimed_refusal_begins_with_its_command(
    proxy: FaultProxy, connect: Callable[[], Wire], wire: Wire, server: RedisServer
) -> None:
    """The command is applied, and nobody can connect from then on."""
    refused = proxy.refuse(command="SET", nth=2)
    assert ask(wire, "SET", "a", 1) == OK
    connect().close()
    assert ask(wire, "SET", "a", 2) == OK
    assert refused.fired == 1
    with pytest.raises(ConnectionRefusedError):
        connect()
    assert server.command("GET", "a") == "2"
    proxy.heal()
    connect()


def test_a_reset_reaches_an_idle_pooled_connection_as_econnreset(proxy: FaultProxy, wire: Wire) -> None:
    """Not as an end of file."""
    proxy.reset()
    assert_reset(wire)


def test_a_reset_reaches_every_new_connection_while_it_is_set(
    proxy: FaultProxy, connect: Callable[[], Wire], wire: Wire
) -> None:
    """They are accepted, and reset; afterwards they work."""
    reset = proxy.reset()
    assert_reset(wire)
    for _ in range(2):
        with suppress(ConnectionResetError):  # it can be there before the connect has returned
            assert_reset(connect())
    assert reset.fired == 3
    proxy.heal()
    assert ask(connect(), "PING") == PONG


def test_a_reset_may_mean_one_connection(proxy: FaultProxy, connect: Callable[[], Wire], wire: Wire) -> None:
    """The others go on."""
    second = connect()
    assert ask(second, "PING") == PONG
    proxy.reset(connection=1)
    assert_reset(wire)
    assert ask(second, "PING") == PONG


def test_an_aimed_reset_keeps_the_command_from_the_server(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """The commands before it in the same pipeline are applied, it is not, and those behind it never came."""
    proxy.reset(command="SET", key="b")
    behind = proxy.hold(key="c")
    wire.send(packed("SET", "a", 1) + packed("SET", "b", 1) + packed("SET", "c", 1))
    wait_until(lambda: is_reset(wire), "the reset is there")
    wait_until(lambda: server.command("GET", "a") == "1", "the first command is applied")
    assert [server.command("GET", key) for key in "bc"] == [None, None]
    assert behind.seen == 0


def test_an_end_of_file_reaches_old_and_new_connections(
    proxy: FaultProxy, connect: Callable[[], Wire], wire: Wire
) -> None:
    """The client reads b"", and what it still sends disturbs nobody."""
    proxy.eof()
    assert wire.read(1) == b""
    new = connect()
    assert new.read(1) == b""
    new.send(packed("PING"))
    assert new.read(1) == b""


def test_a_half_closed_connection_still_takes_commands(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """The client reads the end, the server gets what is sent after it."""
    proxy.eof(half=True)
    assert wire.read(1) == b""
    wire.send(packed("SET", "a", 1))
    wait_until(lambda: server.command("GET", "a") == "1", "the command is applied")


def test_an_aimed_half_close_lets_its_command_through(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """Its reply is lost in an orderly way."""
    proxy.eof(half=True, command="SET")
    assert ask(wire, "SET", "a", 1) == b""
    wait_until(lambda: server.command("GET", "a") == "1", "the command is applied")


def test_a_slow_close_delays_the_end_of_file(proxy: FaultProxy, wire: Wire) -> None:
    """QUIT is answered at once, the end comes later (lower bound; 1 ms for the clocks)."""
    slow = proxy.slow_close(0.2)
    begun = time.monotonic()
    assert ask(wire, "QUIT") == OK
    assert time.monotonic() - begun < 0.15
    assert wire.read(1) == b""
    assert time.monotonic() - begun >= 0.199
    assert slow.fired == 1


def test_swallowed_requests_reach_nobody_and_connects_are_accepted(
    proxy: FaultProxy, connect: Callable[[], Wire], wire: Wire, server: RedisServer
) -> None:
    """The client waits in vain, on an old connection and on a new one; the server has seen nothing."""
    hole = proxy.blackhole("requests")
    new = connect()
    for number, one in enumerate((wire, new)):
        one.send(packed("SET", f"k{number}", 1))
        assert silent(one)
    assert [server.command("GET", key) for key in ("k0", "k1")] == [None, None]
    assert hole.fired == 2
    proxy.heal()
    assert_reset(wire)
    assert ask(connect(), "PING") == PONG


def test_swallowed_replies_belong_to_commands_that_were_applied(
    proxy: FaultProxy, wire: Wire, server: RedisServer
) -> None:
    """The client waits in vain, the server has done it."""
    hole = proxy.blackhole("replies")
    wire.send(packed("SET", "a", 1))
    hole.wait()
    assert silent(wire)
    assert server.command("GET", "a") == "1"


def test_a_connection_of_which_nothing_was_swallowed_goes_on_after_a_blackhole(proxy: FaultProxy, wire: Wire) -> None:
    """Only those that cannot be right again are reset."""
    proxy.blackhole()
    proxy.heal()
    assert ask(wire, "PING") == PONG


def test_an_aimed_blackhole_swallows_from_its_command_on(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """The replies to the commands before it arrive, nothing behind it is applied."""
    hole = proxy.blackhole("requests", key="b")
    wire.send(packed("SET", "a", 1) + packed("SET", "b", 1) + packed("SET", "c", 1))
    hole.wait()
    assert read_all(wire, 5) == OK
    assert silent(wire)
    assert [server.command("GET", key) for key in "abc"] == ["1", None, None]
    hole.cancel()
    assert_reset(wire)


@pytest.mark.parametrize("direction", ["requests", "replies"])
def test_latency_delays_a_direction(proxy: FaultProxy, wire: Wire, server: RedisServer, direction: str) -> None:
    """Round trips take so long at least; a delayed request is not applied before, the command of a delayed reply is."""
    delay = proxy.latency(0.2, direction=direction)  # type: ignore[arg-type]
    begun = time.monotonic()
    wire.send(packed("SET", "a", 1))
    delay.wait()
    if direction == "replies":
        assert server.command("GET", "a") == "1"
    elif time.monotonic() - begun < 0.1:
        assert server.command("GET", "a") is None
    assert wire.read(100) == OK
    assert time.monotonic() - begun >= 0.199
    proxy.heal()
    begun = time.monotonic()
    assert ask(wire, "PING") == PONG
    assert time.monotonic() - begun < 0.15


def test_healing_sends_at_once_what_is_delayed(proxy: FaultProxy, wire: Wire) -> None:
    """Nobody waits for a latency that is over."""
    delay = proxy.latency(30)
    wire.send(packed("PING"))
    delay.wait()
    proxy.heal()
    assert wire.read(100) == PONG


def test_aimed_latency_delays_one_reply_and_those_behind_it(proxy: FaultProxy, wire: Wire) -> None:
    """The one before it comes at once, and the order is kept."""
    proxy.latency(0.2, command="ECHO")
    begun = time.monotonic()
    wire.send(packed("PING") + packed("ECHO", "x") + packed("PING"))
    assert read_all(wire, 7) == PONG
    assert time.monotonic() - begun < 0.15
    assert read_all(wire, 14) == b"$1\r\nx\r\n" + PONG
    assert time.monotonic() - begun >= 0.199


def test_jitter_is_drawn_from_the_seed(server: RedisServer) -> None:
    """The same seed draws the same delays; another one draws others."""

    def drawn(seed: int) -> list[float]:
        with FaultProxy(server.port, seed=seed) as proxy:
            fault = proxy.latency(0.1, jitter=0.1)
            return [fault.effect.delay(fault.rng) for _ in range(20)]  # type: ignore[union-attr]

    first = drawn(1)
    assert drawn(1) == first
    assert drawn(2) != first
    assert all(0 <= delay <= 0.2 for delay in first)


@pytest.mark.parametrize("aim", [{}, {"command": "PING"}])
def test_a_dripping_reply_comes_byte_by_byte(proxy: FaultProxy, wire: Wire, aim: dict[str, str]) -> None:
    """Each read gives one byte, and the last comes no sooner than six pauses after the first."""
    proxy.drip(1, every=0.03, **aim)  # type: ignore[arg-type]
    begun = time.monotonic()
    wire.send(packed("PING"))
    pieces = [wire.read(100) for _ in range(7)]
    assert pieces == [b"+", b"P", b"O", b"N", b"G", b"\r", b"\n"]
    assert time.monotonic() - begun >= 6 * 0.03 - 0.001


def test_a_dripping_request_is_applied_when_it_is_complete(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """In pieces of ten bytes."""
    proxy.drip(10, every=0.05, direction="requests", command="SET")
    command = packed("SET", "a", "x" * 20)
    begun = time.monotonic()
    wire.send(command)
    assert wire.read(100) == OK
    assert time.monotonic() - begun >= (len(command) // 10 - 1) * 0.05
    assert server.command("GET", "a") == "x" * 20


@pytest.mark.parametrize("then", ["eof", "reset", "hang"])
def test_a_truncated_reply_ends_after_so_many_bytes(
    proxy: FaultProxy, wire: Wire, server: RedisServer, then: str
) -> None:
    """The beginning arrives whole, then the end, a reset, or nothing."""
    server.command("SET", "a", "x" * 200_000)
    cut = proxy.truncate(150_000, then=then, command="GET")  # type: ignore[arg-type]
    wire.send(packed("GET", "a"))
    beginning = b"$200000\r\n" + b"x" * (150_000 - 9)
    if then == "reset" and isinstance(wire, AsyncWire):
        # asyncio's reader forgets what it has buffered when a reset comes.
        wait_until(lambda: is_reset(wire), "the reset is there")
        return
    assert read_all(wire, 150_000) == beginning
    assert cut.fired == 1
    if then == "eof":
        assert wire.read(1) == b""
    elif then == "reset":
        assert_reset(wire)
    else:
        assert silent(wire)


def test_a_held_request_is_applied_when_it_is_delivered(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """Absent before, present after, and its client gets the reply."""
    held = proxy.hold(command="set", key=b"a")
    wire.send(packed("SET", "a", 1))
    held.wait()
    assert silent(wire)
    assert server.command("GET", "a") is None
    assert held.deliver() == 1
    assert wire.read(100) == OK
    assert server.command("GET", "a") == "1"


@pytest.mark.parametrize("leave", ["close", "reset", "finish"])
def test_a_held_request_is_delivered_after_its_client_has_gone(
    proxy: FaultProxy, wire: Wire, server: RedisServer, leave: str
) -> None:
    """However it went; so is what it had sent behind it."""
    held = proxy.hold(command="SET")
    wire.send(packed("SET", "a", 1) + packed("APPEND", "a", 2))
    held.wait()
    getattr(wire, leave)()
    assert server.command("GET", "a") is None
    assert held.deliver() == 1
    wait_until(lambda: server.command("GET", "a") == "12", "what was held is applied")
    core = proxy._core
    assert core is not None
    if leave != "finish":
        wait_until(lambda: not core._connections, "nothing is left of the connection")


def test_a_held_request_outlives_a_reset_by_the_proxy(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """It is on its way, whatever becomes of its sender."""
    held = proxy.hold(command="SET")
    wire.send(packed("SET", "a", 1))
    held.wait()
    proxy.reset()
    assert_reset(wire)
    assert server.command("GET", "a") is None
    held.deliver()
    wait_until(lambda: server.command("GET", "a") == "1", "what was held is applied")


def test_a_dropped_request_is_never_applied(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """Its client, which still waits, is reset."""
    held = proxy.hold(command="SET")
    wire.send(packed("SET", "a", 1))
    held.wait()
    assert held.drop() == 1
    assert_reset(wire)
    assert server.command("GET", "a") is None
    with pytest.raises(NothingHeldError):
        held.deliver()


def test_healing_drops_what_is_held(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """A healed network holds nothing back, and delivers nothing late."""
    held = proxy.hold(command="SET")
    wire.send(packed("SET", "a", 1))
    held.wait()
    proxy.heal()
    assert_reset(wire)
    with pytest.raises(NothingHeldError):
        held.deliver()
    assert server.command("GET", "a") is None


def test_an_unaimed_hold_holds_every_connection_until_it_is_delivered(
    proxy: FaultProxy, connect: Callable[[], Wire], wire: Wire, server: RedisServer
) -> None:
    """Delivering ends it: what is sent later goes through."""
    held = proxy.hold()
    second = connect()
    wire.send(packed("RPUSH", "list", 1))
    held.wait()
    second.send(packed("RPUSH", "list", 2))
    held.wait(times=2)
    assert held.deliver() == 2
    assert (wire.read(100), second.read(100)) == (b":1\r\n", b":2\r\n")
    assert ask(wire, "RPUSH", "list", 3) == b":3\r\n"
    assert server.command("LRANGE", "list", 0, -1) == ["1", "2", "3"]


def test_a_cancelled_hold_keeps_what_it_holds(proxy: FaultProxy, connect: Callable[[], Wire], wire: Wire) -> None:
    """New requests pass, the held one waits for its delivery."""
    held = proxy.hold()
    wire.send(packed("PING"))
    held.wait()
    held.cancel()
    assert ask(connect(), "PING") == PONG
    assert silent(wire)
    held.deliver()
    assert wire.read(100) == PONG


@pytest.mark.parametrize("then", ["hang", "reset", "eof"])
def test_a_reply_is_lost_after_its_command_was_applied(
    proxy: FaultProxy, wire: Wire, server: RedisServer, then: str
) -> None:
    """The server proves it; the client sees nothing, a reset or the end."""
    lost = proxy.drop_reply(command="SET", then=then)  # type: ignore[arg-type]
    wire.send(packed("SET", "a", 1))
    lost.wait()
    assert server.command("GET", "a") == "1"
    if then == "hang":
        assert silent(wire)
    elif then == "reset":
        assert_reset(wire)
    else:
        assert wire.read(1) == b""


def test_an_error_comes_instead_of_the_command(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """In its place among the replies of a pipeline; the command is not applied."""
    failed = proxy.error("-LOADING Redis is loading the dataset in memory", key="b")
    wire.send(packed("SET", "a", 1) + packed("SET", "b", 1) + packed("PING"))
    expected = OK + b"-LOADING Redis is loading the dataset in memory\r\n" + PONG
    assert read_all(wire, len(expected)) == expected
    assert failed.fired == 1
    assert [server.command("GET", key) for key in "ab"] == ["1", None]


def test_an_error_comes_after_the_command_was_applied(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """The reply is replaced."""
    proxy.error("READONLY no writes here", when="after", command="SET")
    assert ask(wire, "SET", "a", 1) == b"-READONLY no writes here\r\n"
    assert server.command("GET", "a") == "1"


def test_commands_on_their_way_when_a_fault_is_set_keep_their_replies(
    proxy: FaultProxy, wire: Wire, server: RedisServer
) -> None:
    """The reply that is replaced is that of the later command."""
    wire.send(packed("BLPOP", "queue", 5))
    wait_until(lambda: "cmd=blpop" in str(server.command("CLIENT", "LIST")), "the server has the first command")
    proxy.error("ERR replaced", when="after", command="ECHO")
    wire.send(packed("ECHO", "x"))
    wait_until(lambda: proxy.commands["ECHO"] == 1, "the proxy has the second command")
    server.command("RPUSH", "queue", "y")
    expected = b"*2\r\n$5\r\nqueue\r\n$1\r\ny\r\n" + b"-ERR replaced\r\n"
    assert read_all(wire, len(expected)) == expected


def test_a_push_before_a_reply_is_not_taken_for_it(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """The push comes as it is, the reply behind it is replaced."""
    assert ask(wire, "HELLO", 3).startswith(b"%")
    assert ask(wire, "CLIENT", "TRACKING", "ON", "BCAST") == OK
    proxy.error("ERR replaced", when="after", command="BLPOP")
    wire.send(packed("BLPOP", "queue", 5))
    wait_until(lambda: "cmd=blpop" in str(server.command("CLIENT", "LIST")), "the server has the command")
    server.command("SET", "a", 1)
    push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n"
    assert read_all(wire, len(push)) == push
    server.command("RPUSH", "queue", "y")
    assert read_all(wire, 15) == b"-ERR replaced\r\n"


def test_a_fault_that_is_cancelled_before_the_reply_comes_does_nothing_to_it(
    proxy: FaultProxy, wire: Wire, server: RedisServer
) -> None:
    """Although its turn had come."""
    lost = proxy.drop_reply(command="BLPOP", then="reset")
    wire.send(packed("BLPOP", "queue", 5))
    wait_until(lambda: "cmd=blpop" in str(server.command("CLIENT", "LIST")), "the server has the command")
    lost.cancel()
    server.command("RPUSH", "queue", "y")
    assert wire.read(1) == b"*"
    assert lost.fired == 0


def test_a_delayed_request_is_applied_although_its_client_has_reset_its_connection(
    proxy: FaultProxy, wire: Wire, server: RedisServer
) -> None:
    """What is on its way arrives."""
    delay = proxy.latency(0.1, direction="requests")
    wire.send(packed("SET", "a", 1))
    delay.wait()
    wire.reset()
    wait_until(lambda: server.command("GET", "a") == "1", "the command is applied")


def test_faults_meet_on_one_command(proxy: FaultProxy, wire: Wire, server: RedisServer) -> None:
    """Held back, then applied, then its reply lost."""
    held = proxy.hold(command="SET")
    lost = proxy.drop_reply(command="SET", then="reset")
    wire.send(packed("SET", "a", 1))
    held.wait()
    assert (server.command("GET", "a"), lost.fired) == (None, 0)
    held.deliver()
    assert_reset(wire)
    assert (server.command("GET", "a"), lost.fired) == ("1", 1)


def test_an_earlier_fault_that_keeps_a_command_back_leaves_nothing_to_later_ones(proxy: FaultProxy, wire: Wire) -> None:
    """The later one counts the command, but fires on the next."""
    first = proxy.error("FIRST", command="PING")
    second = proxy.error("SECOND", command="PING")
    assert [ask(wire, "PING") for _ in range(3)] == [b"-FIRST\r\n", b"-SECOND\r\n", PONG]
    assert (first.fired, second.fired, second.seen) == (1, 1, 2)


def test_waiting_for_a_fault_that_does_not_fire_says_what_it_has_seen(proxy: FaultProxy, wire: Wire) -> None:
    """A test cannot pass because its fault never happened; the key is not shown."""
    fault = proxy.drop_reply(command="GET", key="secret", nth=2)
    assert ask(wire, "GET", "secret") == b"$-1\r\n"
    with pytest.raises(FaultNotFiredError, match=r"commands that it was for: 1\.") as caught:
        fault.wait(0.01)
    assert "secret" not in f"{caught.value} {fault!r} {proxy!r} {proxy.log}"
