"""What pytest's own end, and its workers, do to the private servers; with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import wait_until

if TYPE_CHECKING:
    from tests.testing.plugin.conftest import Nested

pytest_plugins = ["pytester"]

HANGS = """
import pathlib, time

def test_hangs(remanence_redis, remanence_redis_factory, remanence_faults):
    servers = remanence_redis, remanence_redis_factory()
    servers[1].freeze()
    told = "\\n".join(f"{server.pid} {server._directory}" for server in servers)
    pathlib.Path("half").write_text(told)
    pathlib.Path("half").rename("servers")
    time.sleep(60)

def test_never_reached():
    pass
"""


@contextmanager
def _hanging(nested: Nested, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[tuple[int, Path]]]]:
    """Give a pytest that hangs in a test, and the processes and folders of its servers."""
    nested.file("test_nested", HANGS)
    told = nested.path / "servers"
    run = subprocess.Popen(
        nested.command(*arguments),
        cwd=nested.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(told.exists, "the test had its servers", 30)
        lines = [line.split() for line in told.read_text("utf-8").splitlines()]
        yield run, [(int(pid), Path(directory)) for pid, directory in lines]
    finally:
        run.kill()
        run.communicate(timeout=30)


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_killed_pytest_leaves_no_server(nested: Nested) -> None:
    """After kill -9 of pytest its servers, frozen or not, are gone within seconds, with their folders."""
    with _hanging(nested) as (run, servers):
        assert len(servers) == 2
        assert not any(_is_gone(pid) for pid, _ in servers)
        run.kill()
        run.wait(10)
        for pid, directory in servers:
            wait_until(lambda pid=pid: _is_gone(pid), "the server was gone")  # type: ignore[misc]
            wait_until(lambda path=directory: not path.exists(), "its folder was gone")  # type: ignore[misc]


def test_interrupted_pytest_leaves_no_server(nested: Nested) -> None:
    """Ctrl-C ends the run at once, as an interruption, and the servers with it."""
    with _hanging(nested) as (run, servers):
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=20)
        assert run.returncode == pytest.ExitCode.INTERRUPTED
        assert "KeyboardInterrupt" in output
        assert all(_is_gone(pid) and not directory.exists() for pid, directory in servers)


def test_each_worker_has_a_server_of_its_own(nested: Nested) -> None:
    """Under xdist tests of two workers break and empty their servers at the same time, and none sees another's."""
    run = nested.run_process(
        """
        import os, pathlib, pytest, time

        @pytest.mark.parametrize("number", range(6))
        def test_it(remanence_redis, remanence_resilient, worker_id, number):
            pathlib.Path(f"port-{worker_id}-{remanence_redis.port}").touch()
            deadline = time.monotonic() + 20
            while len(list(pathlib.Path().glob("port-*"))) < 2:  # both are at work
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert remanence_redis.command("DBSIZE") == 0
            remanence_resilient.store({"conversation_id": "c1", "working_memory": worker_id})
            assert remanence_redis.command("DBSIZE") == 1
            if number % 2:
                remanence_redis.kill()
        """,
        *("-p", "xdist", "-n", "2"),
    )
    assert run.returncode == 0, run.stdout + run.stderr
    ports = sorted(path.name.split("-")[1:] for path in nested.path.glob("port-*"))
    assert [worker for worker, _ in ports] == ["gw0", "gw1"]
    assert ports[0][1] != ports[1][1]
