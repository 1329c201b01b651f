"""The private server between tests: whatever one test has done to it, the next one gets it healthy and empty."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from remanence.lab import STATES, PortTakenError, ServerReplyError
from remanence.lab.resp import RespConnection
from remanence.testing import RedisForTests
from tests.support import wait_until

if TYPE_CHECKING:
    from tests.testing.plugin.conftest import Nested

pytest_plugins = ["pytester"]


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisForTests]:
    """A server that the tests of this module hurt one after the other, and heal."""
    with RedisForTests() as server:
        yield server


def _run_for_ever(server: RedisForTests) -> None:
    server.command("CONFIG", "SET", "busy-reply-threshold", "1")

    def spin() -> None:
        with suppress(OSError), RespConnection(server.port, timeout=20) as connection:
            connection.command("EVAL", "while true do end", 0)

    threading.Thread(target=spin, daemon=True).start()
    wait_until(lambda: _is_busy(server), "the script ran")


def _is_busy(server: RedisForTests) -> bool:
    try:
        server.command("PING")
    except ServerReplyError as error:
        return error.code == "BUSY"
    return False


def _fill_databases(server: RedisForTests) -> None:
    with RespConnection(server.port, timeout=5) as connection:
        connection.command("SET", "left", "over")
        connection.command("SELECT", 3)
        connection.command("SET", "left", "over")


def _kill_in_a_state(server: RedisForTests) -> None:
    server.enter("oom")
    server.kill()


def _freeze_in_a_state(server: RedisForTests) -> None:
    server.enter("readonly")
    server.freeze()


HURTS: dict[str, Callable[[RedisForTests], object]] = {
    "killed": RedisForTests.kill,
    "stopped": RedisForTests.stop,
    "frozen": RedisForTests.freeze,
    "frozen behind its back": lambda server: os.kill(server.pid, signal.SIGSTOP),
    "filled": _fill_databases,
    "configured": lambda server: server.command("CONFIG", "SET", "maxmemory", "1"),
    "made a replica": lambda server: server.command("REPLICAOF", "127.0.0.1", "1"),
    "given a user": lambda server: server.command("ACL", "SETUSER", "eve", "on", ">secret", "+@all"),
    "paused": lambda server: server.command("CLIENT", "PAUSE", 60_000, "ALL"),
    "running a script without end": _run_for_ever,
    "killed in a state": _kill_in_a_state,
    "frozen in a state": _freeze_in_a_state,
    "taught a script": lambda server: server.command("SCRIPT", "LOAD", "return 1"),
}


@pytest.mark.parametrize("hurt", HURTS)
def test_reset_undoes_it(shared: RedisForTests, hurt: str) -> None:
    """However a test leaves the server, reset() brings it back on its port: writable, empty, configured as before."""
    shared.reset()
    before = shared.command("CONFIG", "GET", "maxmemory")
    HURTS[hurt](shared)
    shared.reset()
    assert shared.command("SET", "probe", "1") == "OK"
    assert re.findall(r"db\d+:keys=\d+", str(shared.command("INFO", "keyspace"))) == ["db0:keys=1"]
    assert shared.command("CONFIG", "GET", "maxmemory") == before
    assert str(shared.command("ACL", "LIST")).count("user ") == 1
    assert shared.command("SCRIPT", "EXISTS", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db") == [0]


@pytest.mark.parametrize("state", [state for state in STATES if state not in {"loading", "clusterdown"}])
def test_reset_leaves_every_state(shared: RedisForTests, state: str) -> None:
    """A state that a test did not leave is left for it."""
    shared.reset()
    shared.enter(state)
    shared.reset()
    assert shared.command("SET", "probe", "1") == "OK"


def test_reset_costs_no_restart_where_nothing_was_broken(shared: RedisForTests) -> None:
    """A server that was only written to keeps its process."""
    shared.reset()
    pid = shared.pid
    shared.command("SET", "left", "over")
    shared.reset()
    assert shared.pid == pid
    assert shared.command("DBSIZE") == 0


def test_data_of_a_wider_scope_can_be_kept(shared: RedisForTests) -> None:
    """Inside keep_data() a reset heals and spares the keys; after it they go."""
    shared.reset()
    with shared.keep_data():
        shared.command("SET", "of a module", "1")
        shared.freeze()
        shared.reset()
        assert shared.command("GET", "of a module") == "1"
    shared.reset()
    assert shared.command("GET", "of a module") is None


def test_a_port_that_was_taken_meanwhile_is_named() -> None:
    """A server that cannot come back because its port is taken says so, and does not stay half started."""
    with RedisForTests() as server:
        server.kill()
        with socket.create_server(("127.0.0.1", server.port)):
            with pytest.raises(PortTakenError, match=str(server.port)):
                server.reset()
            assert not server.running
        server.reset()
        assert server.command("PING") == "PONG"


def test_each_test_gets_it_whole_and_the_run_ends_it(nested: Nested) -> None:
    """Tests that kill, freeze and fill the one server of the run do not meet; at its end process and files are gone."""
    result = nested.run(
        """
        import os, pathlib, pytest

        def pytest_generate_tests(metafunc):
            metafunc.parametrize("number", range(5))

        def test_it_is_hurt(remanence_redis, number):
            assert remanence_redis.command("DBSIZE") == 0
            remanence_redis.command("SET", "left", "over")
            pathlib.Path("seen").write_text(f"{remanence_redis.pid} {remanence_redis._directory}")
            (remanence_redis.kill, remanence_redis.freeze, remanence_redis.stop,
                lambda: remanence_redis.enter("noauth"), lambda: None)[number]()
        """
    )
    assert result.parseoutcomes() == {"passed": 5}
    pid, directory = (nested.path / "seen").read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert not Path(directory).exists()


def test_fixtures_of_wider_scopes_can_have_it_and_replace_it(nested: Nested) -> None:
    """A module's fixture takes the session's server, whose kind a fixture of the same name decides for all tests."""
    nested.file(
        "conftest",
        """
        import pytest
        from remanence.testing import RedisForTests

        @pytest.fixture(scope="session")
        def remanence_redis_session():
            with RedisForTests(config={"maxmemory": "20mb"}) as server:
                yield server
        """,
    )
    result = nested.run(
        """
        import pytest

        @pytest.fixture(scope="module")
        def seeded(remanence_redis_session):
            with remanence_redis_session.keep_data():
                remanence_redis_session.command("SET", "seed", "1")
                yield remanence_redis_session

        def test_kept(seeded, remanence_redis):
            assert remanence_redis is seeded
            assert remanence_redis.command("GET", "seed") == "1"
            assert remanence_redis.command("CONFIG", "GET", "maxmemory") == ["maxmemory", str(20 * 1024 * 1024)]

        def test_healed_for_those_who_only_look(seeded, remanence_redis):
            remanence_redis.freeze()

        def test_in_between(seeded):
            assert seeded.command("PING") == "PONG"
        """
    )
    assert result.parseoutcomes() == {"passed": 3}


def test_a_replacement_of_another_kind_is_named(nested: Nested) -> None:
    """A fixture in the session server's place that gives something else is told what to give."""
    result = nested.run(
        """
        import pytest

        @pytest.fixture(scope="session")
        def remanence_redis_session():
            return object()

        def test_it(remanence_redis):
            pass
        """
    )
    assert result.parseoutcomes() == {"errors": 1}
    result.stdout.fnmatch_lines(["ConfigurationError: *must yield a remanence.testing.RedisForTests, not object*"])


def test_further_servers_end_with_their_test(nested: Nested) -> None:
    """The factory makes servers with the options that it is given and ends them; errors are the test's own."""
    result = nested.run(
        """
        import os, pathlib, pytest
        from remanence.lab import PortTakenError

        def test_many(remanence_redis_factory):
            one, other = remanence_redis_factory(), remanence_redis_factory(config={"requirepass": "pw"})
            assert one.port != other.port
            assert other.command("PING") == "PONG"
            one.freeze()
            pathlib.Path("pids").write_text(f"{one.pid} {other.pid}")
            with pytest.raises(PortTakenError):
                remanence_redis_factory(port=other.port)
            with pytest.raises(ValueError, match="durability"):
                remanence_redis_factory(durability="often")

        def test_gone():
            for pid in pathlib.Path("pids").read_text().split():
                with pytest.raises(ProcessLookupError):
                    os.kill(int(pid), 0)
        """
    )
    assert result.parseoutcomes() == {"passed": 2}


def test_durability_is_a_setting(nested: Nested) -> None:
    """The ini file chooses what a killed server keeps; a wrong word is named in one line."""
    nested.ini("remanence_redis_durability = always\n")
    text = """
        def test_kept(remanence_redis):
            remanence_redis.command("SET", "k", "v")
            remanence_redis.kill()
            assert remanence_redis.start().command("GET", "k") == "v"
        """
    assert nested.run(text).parseoutcomes() == {"passed": 1}
    nested.ini("remanence_redis_durability = often\n")
    result = nested.run(text)
    assert result.parseoutcomes() == {"errors": 1}
    result.stdout.fnmatch_lines(["ValueError: durability='often' is none of off, everysec, always."])
    assert "During handling" not in str(result.stdout)
