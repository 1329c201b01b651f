"""Pending writes at the end of a process, and in the processes that it forks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from remanence.lab import RedisServer
from tests.relay import held

pytestmark = pytest.mark.chaos


def run_program(program: str, *arguments: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run a program of this interpreter."""
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", textwrap.dedent(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


_PENDING = """
    import logging, sys, time
    from remanence import CircuitBreaker, Deadline, Fallback, RedisWorkingMemoryManager, resilient
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    manager = resilient(
        RedisWorkingMemoryManager(sys.argv[1], timeout=0.3), fallback=Fallback(close_timeout=float(sys.argv[2])),
        deadline=0.6, circuit_breaker=CircuitBreaker(open_for=0.1, open_for_max=0.2),
    )
    for number in range(5):
        manager.store({"conversation_id": f"c{number}", "working_memory": "secret"})
    if sys.argv[3] == "wait":
        print("pending", flush=True)
        sys.stdin.readline()
    print(time.time(), flush=True)
"""


def test_pending_work_holds_the_exit_no_longer_than_its_limit(private_server: RedisServer) -> None:
    """With a dead server the process ends within `close_timeout`, and the log says how many writes end with it."""
    private_server.kill()
    result = run_program(_PENDING, private_server.url, "1.0", "go")
    left = time.time() - float(result.stdout.split()[-1])
    assert result.returncode == 0, result.stderr
    assert left <= 1.0 + 1.0
    assert "5 acknowledged write(s) did not reach the store" in result.stderr
    assert "secret" not in result.stderr


def test_a_frozen_server_holds_the_exit_no_longer_either(private_server: RedisServer) -> None:
    """The attempt that is under way is bounded by what is left of the limit."""
    private_server.freeze()
    result = run_program(_PENDING, private_server.url, "1.0", "go")
    private_server.thaw()
    assert result.returncode == 0, result.stderr
    assert time.time() - float(result.stdout.split()[-1]) <= 1.0 + 1.0
    assert "5 acknowledged write(s)" in result.stderr


def test_pending_work_comes_home_at_the_exit(private_server: RedisServer) -> None:
    """When the server is there again by then."""
    private_server.kill()
    command = [sys.executable, "-c", textwrap.dedent(_PENDING), private_server.url, "5.0", "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"pending\n"
        private_server.restart()
        _, errors = child.communicate(b"\n", timeout=20)
    assert (child.returncode, errors) == (0, b"")
    assert held(private_server.url, "c4") == "secret"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_leaves_the_pending_writes_to_the_parent(private_server: RedisServer) -> None:
    """The child starts empty with locks that work, although another thread held them; the parent's come home once."""
    private_server.kill()
    program = """
        import os, sys, threading, time, warnings
        warnings.simplefilter("ignore")
        from remanence import CircuitBreaker, RedisWorkingMemoryManager, resilient
        manager = resilient(
            RedisWorkingMemoryManager(sys.argv[1], timeout=0.3), deadline=0.6,
            circuit_breaker=CircuitBreaker(open_for=0.1, open_for_max=0.2),
        )
        manager.store({"conversation_id": "parent", "working_memory": "parent"})
        fallback = manager._fallback
        locks = [fallback.journal._lock, fallback.knowledge._lock, manager._background._lock]
        held, go = threading.Event(), threading.Event()
        def hold():
            for lock in locks: lock.acquire()
            held.set(); go.wait()
            for lock in locks: lock.release()
        threading.Thread(target=hold).start(); held.wait()
        child = os.fork()
        if child == 0:
            assert manager.health().pending == 0, manager.health()
            assert manager.retrieve({"conversation_id": "parent"}).source == "none"
            manager.store({"conversation_id": "child", "working_memory": "child"})
            assert manager.health().pending == 1, manager.health()
            print("forked", flush=True)
            deadline = time.monotonic() + 10
            while manager.has_pending_writes and time.monotonic() < deadline: time.sleep(0.01)
            os._exit(0 if manager.health().replayed == 1 else 1)
        go.set()
        _, status = os.waitpid(child, 0)
        deadline = time.monotonic() + 10
        while manager.has_pending_writes and time.monotonic() < deadline: time.sleep(0.01)
        print(os.waitstatus_to_exitcode(status), manager.health().replayed, manager.health().conflicts, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), private_server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "forked\n"
        private_server.restart()
        out, errors = parent.communicate(timeout=30)
    assert (out, errors) == ("0 1 0\n", "")
    assert (held(private_server.url, "parent"), held(private_server.url, "child")) == ("parent", "child")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_end_of_a_child_of_multiprocessing_is_an_end_too(private_server: RedisServer, method: str) -> None:
    """Such a child ends without `atexit`: its pending writes are tried once more and reported all the same."""
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    private_server.kill()
    program = """
        import logging, multiprocessing, sys, warnings
        warnings.simplefilter("ignore")
        from remanence import CircuitBreaker, Fallback, RedisWorkingMemoryManager, resilient

        def child(url):
            logging.basicConfig(level=logging.ERROR, format="%(message)s")
            manager = resilient(
                RedisWorkingMemoryManager(url, timeout=0.3), fallback=Fallback(close_timeout=0.3), deadline=0.6,
                circuit_breaker=CircuitBreaker(open_for=0.1, open_for_max=0.2),
            )
            manager.store({"conversation_id": "c", "working_memory": "child"})

        if __name__ == "__main__":
            process = multiprocessing.get_context(sys.argv[2]).Process(target=child, args=(sys.argv[1],))
            process.start()
            process.join()
            sys.exit(process.exitcode)
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "program.py"  # a file: spawned children import it
        path.write_text(textwrap.dedent(program), "utf-8")
        command = [sys.executable, str(path), private_server.url, method]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
    assert "1 acknowledged write(s) did not reach the store" in result.stderr
