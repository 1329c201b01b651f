"""A child process that cannot outlive this one, however this one ends.

Neither atexit nor a signal handler runs when a process is killed with -9, and Linux's parent-death signal is sent when
the *thread* that started the child ends, which in a test run is often long before the process does. What every kernel
does at every death is close the dead process's descriptors. So a small shell, the *watchdog*, reads from a pipe of
which we hold the other end: at end of file it kills the server, frozen or not, and removes its directory.

Two gaps are closed. Before the watchdog knows the server's process id, the server waits at a gate, a shell that reads
one line and then becomes the server: if we die in between, the gate reads end of file and goes away. And a child made
by fork, which inherits our end of the pipe, closes its copy at once, so that it keeps nothing alive.
"""

from __future__ import annotations

import os
import signal
import subprocess
import weakref
from contextlib import suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["SupervisedProcess"]

_SHELL = "/bin/sh"
_GATE = 'read -r go && exec "$@"'
# $1 is the directory to remove, or nothing. The server may still be writing there when it is killed, hence the retries.
_WATCHDOG = """
server=
while read -r word; do
  case $word in
    done) exit 0 ;;
    none) server= ;;
    *) server=$word ;;
  esac
done
[ -z "$server" ] || kill -s KILL -- "-$server"
[ -n "$1" ] || exit 0
for attempt in 1 2 3 4 5; do
  rm -rf -- "$1" 2>/dev/null && exit 0
  sleep 1
done
"""


class SupervisedProcess:
    """A process that is restarted at will and ends with us.

    Args:
        disposable: A directory to remove if this process dies without `dismiss`; None removes nothing.
    """

    def __init__(self, *, disposable: Path | None) -> None:
        self._owner = os.getpid()
        self._child: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = subprocess.Popen(
            [_SHELL, "-c", _WATCHDOG, "remanence-watchdog", "" if disposable is None else str(disposable)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        _supervised.add(self)

    @property
    def is_ours(self) -> bool:
        """Whether this process started the child; the copy of this object in a child made by fork did not."""
        return os.getpid() == self._owner

    @property
    def pid(self) -> int | None:
        """The child's process id, or None while none runs."""
        child = self._child
        return None if child is None or child.poll() is not None else child.pid

    def spawn(self, arguments: Sequence[str], *, output: IO[bytes], cwd: Path) -> None:
        """Start the child, in a session of its own, its output going to `output`."""
        child = subprocess.Popen(
            [_SHELL, "-c", _GATE, "remanence-gate", *arguments],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=True,
        )
        self._child = child
        self._tell_watchdog(str(child.pid))
        _write_line(child, "go")
        _close_input(child)

    def signal(self, number: int) -> None:
        """Send a signal to the child, if it runs."""
        if self._child is not None and self.is_ours:
            self._child.send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL to the child and to its own children, such as the one that rewrites an append-only file."""
        pid = self.pid
        if self.is_ours and pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def wait_stopped(self) -> bool:
        """Wait until a SIGSTOP that was just sent has taken effect; False if the child ended instead."""
        child = self._child
        if child is None or child.poll() is not None:
            return False
        # A stop or an exit is certain to come, so this needs no deadline.
        try:
            _, status = os.waitpid(child.pid, os.WUNTRACED)
        except ChildProcessError:  # it ended, and another thread asked first
            return False
        if os.WIFSTOPPED(status):
            return True
        child.returncode = os.waitstatus_to_exitcode(status)
        self._tell_watchdog("none")
        return False

    def wait_ended(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the child to end; False if it still runs then."""
        if self._child is None or not self.is_ours:
            return True
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self._child = None
        self._tell_watchdog("none")
        return True

    def dismiss(self) -> None:
        """Send the watchdog home; the child must have ended."""
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is None or not self.is_ours:
            return
        with suppress(OSError):
            _write_line(watchdog, "done")
        _close_input(watchdog)
        watchdog.wait()

    def _tell_watchdog(self, word: str) -> None:
        if self._watchdog is not None:
            _write_line(self._watchdog, word)

    def _release_after_fork(self) -> None:
        if self._watchdog is not None:
            _close_input(self._watchdog)


def _write_line(process: subprocess.Popen[bytes], line: str) -> None:
    if process.stdin is not None:
        process.stdin.write(line.encode() + b"\n")


def _close_input(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


_supervised: weakref.WeakSet[SupervisedProcess] = weakref.WeakSet()


def _release_all_after_fork() -> None:
    for process in list(_supervised):
        process._release_after_fork()  # noqa: SLF001  # the module's own class


os.register_at_fork(after_in_child=_release_all_after_fork)
