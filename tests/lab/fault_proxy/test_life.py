"""The proxy's own life: its port, its target, its end, and what is left of it."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from remanence.lab import (
    FaultProxy,
    NothingHeldError,
    ProxyError,
    ProxyNotRunningError,
    ProxyPortTakenError,
    RedisServer,
)
from remanence.lab.fault_proxy.effects import Direction
from tests.lab.fault_proxy.wires import SyncWire, packed
from tests.support import wait_until

PONG = b"+PONG\r\n"
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc, or is only so on Linux")


@pytest.fixture
def proxy(server: RedisServer, redis_url: str) -> Iterator[FaultProxy]:
    """A proxy in front of the shared, emptied server."""
    assert redis_url
    with FaultProxy(server.port) as made:
        yield made


@pytest.fixture
def connect() -> Iterator[Callable[[int], SyncWire]]:
    """Return the function that connects to a port."""
    made: list[SyncWire] = []

    def make(port: int) -> SyncWire:
        made.append(SyncWire(port))
        return made[-1]

    yield make
    for wire in made:
        wire.close()


def ask(wire: SyncWire, *parts: str | int) -> bytes:
    """Send a command and return what comes first."""
    wire.send(packed(*parts))
    return wire.read(65_536)


def is_refused(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        SyncWire(port).close()
    except ConnectionRefusedError:
        return True
    return False


def test_it_is_at_its_port_while_it_runs(server: RedisServer, connect: Callable[[int], SyncWire]) -> None:
    """The port is known before, and the same after a restart."""
    proxy = FaultProxy(server.port)
    port = proxy.port
    for _ in range(2):
        with proxy, redis.Redis.from_url(proxy.url, retry=None) as client:
            assert client.ping()
            assert proxy.port == port
        with pytest.raises(ConnectionRefusedError):
            connect(port)


@linux
def test_closing_leaves_no_thread_and_no_descriptor(server: RedisServer, connect: Callable[[int], SyncWire]) -> None:
    """With clients, held requests and faults of all kinds; closing twice is fine."""
    before = set(Path("/proc/self/fd").iterdir()), set(threading.enumerate())
    proxy = FaultProxy(server.port).start()
    wires = [connect(proxy.port) for _ in range(4)]
    held = proxy.hold(command="SET")
    proxy.latency(5, command="GET")
    for wire, command in zip(wires, ("SET", "GET", "PING"), strict=False):
        wire.send(packed(command, "a", "1"))
    held.wait()
    proxy.eof(connection=3)
    proxy.refuse()
    proxy.close()
    proxy.close()
    for wire in wires:
        wire.close()
    assert (set(Path("/proc/self/fd").iterdir()), set(threading.enumerate())) == before
    with pytest.raises(ProxyNotRunningError):
        held.deliver()


def test_a_closed_proxy_takes_no_faults(server: RedisServer) -> None:
    """It says what to do."""
    proxy = FaultProxy(server.port)
    for action in (proxy.refuse, proxy.heal, proxy.wait_ready, lambda: proxy.commands):
        with pytest.raises(ProxyNotRunningError, match=r"start\(\)"):
            action()


def test_a_taken_port_is_said_to_be_taken(server: RedisServer, connect: Callable[[int], SyncWire]) -> None:
    """Whoever listens there goes on, and nothing of the proxy is left."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        threads = threading.active_count()
        with pytest.raises(ProxyPortTakenError, match=str(port)):
            FaultProxy(server.port, port=port).start()
        assert threading.active_count() == threads
        connect(port).close()


@linux
def test_the_port_stays_its_own_while_connects_are_refused(
    proxy: FaultProxy, connect: Callable[[int], SyncWire]
) -> None:
    """Not even a socket that shares addresses gets it."""
    proxy.refuse()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use") as caught:
            other.bind(("127.0.0.1", proxy.port))
        assert caught.value.errno == errno.EADDRINUSE
    proxy.heal()
    assert ask(connect(proxy.port), "PING") == PONG


@pytest.mark.parametrize(
    "target", ["rediss://127.0.0.1:1", "unix:///run/redis.sock", "127.0.0.1:6379", "redis://h:99999", 0, 70_000]
)
def test_a_target_that_it_cannot_read_is_refused(target: int | str) -> None:
    """At construction."""
    with pytest.raises(ValueError, match=r"redis://|port"):
        FaultProxy(target)


@pytest.mark.parametrize("target", [None, True, 1.5, b"redis://h"])
def test_a_target_of_the_wrong_type_is_refused(target: object) -> None:
    """At construction."""
    with pytest.raises(TypeError):
        FaultProxy(target)  # type: ignore[arg-type]


def test_its_own_port_is_no_target() -> None:
    """It would connect to itself without end."""
    with pytest.raises(ValueError, match="own"):
        FaultProxy(12_345, port=12_345)


def test_the_url_keeps_credentials_and_database_and_the_repr_hides_them(server: RedisServer) -> None:
    """So that a manager is given `proxy.url` and nothing else."""
    proxy = FaultProxy(f"redis://user:p%40ss@localhost:{server.port}/3?protocol=2", seed=5)
    assert proxy.url == f"redis://user:p%40ss@127.0.0.1:{proxy.port}/3?protocol=2"
    assert repr(proxy) == f"<FaultProxy port={proxy.port} target_port={server.port} seed=5 closed>"


def test_clients_of_a_dead_server_are_refused_as_it_would_refuse_them(
    private_server: RedisServer, connect: Callable[[int], SyncWire]
) -> None:
    """Not accepted and hung up on; when it is back, so is the proxy."""
    with FaultProxy(private_server.port) as proxy:
        wire = connect(proxy.port)
        assert ask(wire, "PING") == PONG
        private_server.kill()
        with suppress(ConnectionResetError):
            assert wire.read(1) == b""
        wait_until(lambda: is_refused(proxy.port), "the proxy has noticed")
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                connect(proxy.port)
        private_server.start()
        proxy.wait_ready()
        assert ask(connect(proxy.port), "PING") == PONG


@pytest.mark.parametrize("direction", ["requests", "replies", "both"])
def test_a_proxy_may_be_started_before_its_server(
    private_server: RedisServer, connect: Callable[[int], SyncWire], direction: Direction
) -> None:
    """Clients are refused until then, unless what they say disappears; waiting for it is bounded."""
    private_server.kill()
    with FaultProxy(private_server.port) as proxy:
        with pytest.raises(ConnectionRefusedError):
            connect(proxy.port)
        with pytest.raises(ProxyError, match=r"0\.01 s"):
            proxy.wait_ready(0.01)
        hole = proxy.blackhole(direction)
        wire = connect(proxy.port)
        with pytest.raises(TimeoutError):
            wire.read(1, 0.1)
        wire.send(packed("PING"))
        with pytest.raises(TimeoutError):
            wire.read(1, 0.1)
        assert hole.fired == (0 if direction == "replies" else 1)
        private_server.start()
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            wire.read(1)
        assert ask(connect(proxy.port), "PING") == PONG


def test_a_request_whose_connection_the_server_ended_cannot_be_delivered(
    proxy: FaultProxy, server: RedisServer, connect: Callable[[int], SyncWire]
) -> None:
    """It says so instead of pretending."""
    wire = connect(proxy.port)
    assert ask(wire, "CLIENT", "SETNAME", "mine") == b"+OK\r\n"
    held = proxy.hold(command="SET")
    wire.send(packed("SET", "a", 1))
    held.wait()
    server.command("CLIENT", "KILL", "TYPE", "normal")
    assert wire.read(1) == b""
    with pytest.raises(NothingHeldError):
        held.deliver()


def test_a_client_that_ends_its_side_gets_its_replies(proxy: FaultProxy, connect: Callable[[int], SyncWire]) -> None:
    """As `printf … | nc` does it; then the end comes."""
    wire = connect(proxy.port)
    wire.send(packed("PING") + packed("ECHO", "x"))
    wire.finish()
    data = b""
    while piece := wire.read(100):
        data += piece
    assert data == PONG + b"$1\r\nx\r\n"


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_nothing_is_kept_of_a_client_that_has_gone(
    proxy: FaultProxy, server: RedisServer, leave: str, connect: Callable[[int], SyncWire]
) -> None:
    """Neither in the proxy nor at the server."""
    before = str(server.command("CLIENT", "LIST")).count("\n")
    wires = [connect(proxy.port) for _ in range(5)]
    for wire in wires:
        assert ask(wire, "PING") == PONG
    for wire in wires:
        getattr(wire, leave)()
    core = proxy._core
    assert core is not None
    wait_until(lambda: not core._connections, "the proxy has forgotten them")
    wait_until(lambda: str(server.command("CLIENT", "LIST")).count("\n") <= before, "the server has let them go")


def test_the_server_is_not_read_ahead_of_a_client_that_does_not_read(
    proxy: FaultProxy, server: RedisServer, connect: Callable[[int], SyncWire]
) -> None:
    """A few MiB wait in the proxy at most, and all of it arrives when it is read."""
    server.command("SET", "big", "x" * 20_000_000)
    wire = connect(proxy.port)
    wire.send(packed("GET", "big") * 3)
    core = proxy._core
    assert core is not None
    wait_until(lambda: any(one._server._paused for one in core._connections), "the proxy has stopped reading")
    assert sum(one._client._queued for one in core._connections) < 4_000_000
    left = 3 * (20_000_000 + len("$20000000\r\n\r\n"))
    while left:
        piece = wire.read(1_000_000)
        assert piece
        left -= len(piece)
    assert ask(wire, "PING") == PONG
    server.command("DEL", "big")


def test_what_is_no_redis_goes_through_unread(
    proxy: FaultProxy, server: RedisServer, connect: Callable[[int], SyncWire]
) -> None:
    """The server says what it thinks of it; faults for commands are not for it."""
    proxy.error("ERR never")
    wire = connect(proxy.port)
    wire.send(b"*1\r\n+what\r\n")
    assert wire.read(1_000).startswith(b"-ERR Protocol error")
    assert server.command("PING") == "PONG"


def test_a_client_may_be_in_another_process(proxy: FaultProxy) -> None:
    """Its connection is reset there."""
    program = f"""
        import redis
        client = redis.Redis(port={proxy.port}, retry=None)
        client.ping()
        try:
            client.set("a", 1)
        except redis.ConnectionError as error:
            print(type(error.__cause__ or error.__context__).__name__)
    """
    lost = proxy.drop_reply(command="SET", then="reset")
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=True
    )
    assert run.stdout.strip() == "ConnectionResetError"
    lost.wait()


FORKING = """
import os, socket, sys, time, warnings
warnings.simplefilter("ignore")  # that a process with threads forks is what is tested
from pathlib import Path
from remanence.lab import FaultProxy, ProxyNotRunningError
port = int(sys.argv[1])
proxy = FaultProxy(port).start()
wire = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
wire.sendall(b"PING\\r\\n")
assert wire.recv(100) == b"+PONG\\r\\n"
child = os.fork()
if not child:
    wire.close()
    try:
        proxy.refuse()
    except ProxyNotRunningError:
        proxy.close()
        print("child", flush=True)
    time.sleep(30)
    os._exit(0)
sys.stdin.readline()  # the child has done its part, and lives
wire.sendall(b"PING\\r\\n")
assert wire.recv(100) == b"+PONG\\r\\n", "the child's copy closed the connection"
proxy.eof()
assert wire.recv(100) == b"", "the child's copy keeps the connection open"
proxy.heal()
proxy.refuse()
try:
    socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
except ConnectionRefusedError:
    print("refused", flush=True)
proxy.close()
os.kill(child, 9)
os.waitpid(child, 0)
"""


@linux
def test_a_forked_childs_copy_does_nothing(server: RedisServer, tmp_path: Path) -> None:
    """It neither breaks the parent's connections nor keeps alive what the parent has closed."""
    program = tmp_path / "forking.py"
    program.write_text(FORKING, "utf-8")
    with subprocess.Popen(
        [sys.executable, str(program), str(server.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "child\n"
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "refused\n"
            assert process.wait(10) == 0
        finally:
            process.kill()
