"""A real Redis or Valkey server that can be killed, frozen, put into its states and brought back, on the same port."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from remanence.lab.errors import (
    LabError,
    PortTakenError,
    ServerNotRunningError,
    ServerReplyError,
    ServerStartError,
    ServerStopError,
)
from remanence.lab.ports import choose_port, is_free
from remanence.lab.resp import Reply, RespConnection
from remanence.lab.server_binary import find_server_binary
from remanence.lab.server_settings import Durability, check_settings, render_settings
from remanence.lab.stateful import Stateful
from remanence.lab.supervision import SupervisedProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["Durability", "RedisServer"]

_POLL = 0.005
_COMMAND_TIMEOUT = 5.0
_PROBE_TIMEOUT = 0.5
_LOG_LINES = 8


class RedisServer(Stateful):
    """A private server on 127.0.0.1, which ends with this process however that ends.

    It is a context manager: entering starts it, leaving closes it. Its port is chosen at construction and never
    changes. Its methods may be called from several threads: changes of its state wait for one another.

    Args:
        port: The port on 127.0.0.1; None chooses a free one.
        durability: What survives `kill` and `restart`: ``"everysec"`` and ``"always"`` keep an append-only file, synced
            to the disk each second or before each reply. A clean stop loses nothing with either. A kill loses nothing
            with ``"always"``; with ``"everysec"`` it loses what was acknowledged while a sync was under way (seen in
            about one kill of 300 shortly after a start). ``"off"`` keeps nothing.
        directory: Where its configuration, log and data are kept, and left when it is closed; None makes a temporary
            one, removed when it is closed.
        config: More lines of redis.conf, such as ``{"maxmemory": "1mb"}``, written as they are.
        start_timeout: Seconds in which it must answer, its data loaded.
        stop_timeout: Seconds in which a clean shutdown must be over.

    Raises:
        ServerNotFoundError: There is no server on this machine; the message says what to install.
        ValueError: An argument is not valid, or `config` sets what this class sets.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        durability: Durability = "everysec",
        directory: str | Path | None = None,
        config: Mapping[str, str] | None = None,
        start_timeout: float = 10.0,
        stop_timeout: float = 10.0,
    ) -> None:
        check_settings(durability, config or {})
        self._binary = find_server_binary()
        self._port = choose_port() if port is None else port
        self._durability = durability
        self._config = dict(config or {})
        self._config_once: Mapping[str, str] = {}
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._version: str | None = None
        self._frozen = False
        # Held across a start or a stop, unlike any lock of the library: whoever closes the server while another thread
        # restarts it must wait, or would leave that one running.
        self._lock = threading.RLock()
        self._keep_directory = directory is not None
        self._directory = _make_directory(directory)
        self._process = SupervisedProcess(disposable=None if self._keep_directory else self._directory)
        # Runs at close, at exit or when the last reference goes, whichever is first.
        self._release = weakref.finalize(
            self, _release, self._process, None if self._keep_directory else self._directory
        )

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1, the same for its whole life."""
        return self._port

    @property
    def url(self) -> str:
        """The URL of its database 0, with the password where `config` sets one."""
        password = self._config.get("requirepass")
        credentials = "" if password is None else f":{quote(password, safe='')}@"
        return f"redis://{credentials}127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            ServerNotRunningError: It does not run.
        """
        pid = self._process.pid
        if pid is None:
            raise ServerNotRunningError("The server does not run; start() or restart() brings it up.")
        return pid

    @property
    def running(self) -> bool:
        """Whether its process exists, frozen or not."""
        return self._process.pid is not None

    @property
    def version(self) -> str:
        """What runs, as ``redis 7.0.15`` or ``valkey 8.1.8``; known once it has started.

        Raises:
            ServerNotRunningError: It was never started.
        """
        if self._version is None:
            raise ServerNotRunningError("The server's version is known once it has started; start() brings it up.")
        return self._version

    def start(self, *, wait: bool = True) -> Self:
        """Make it run and answer, its data loaded; one that is frozen is thawed, one that answers is left alone.

        Args:
            wait: False returns as soon as the process exists, for those who want to see it loading.

        Raises:
            PortTakenError: Something else listens on its port.
            ServerStartError: It ended, or did not become ready in time; it was killed then, and its data is kept.
        """
        with self._lock:
            if not self._release.alive:
                raise ServerNotRunningError("This server was closed, and its directory removed; make another.")
            self.thaw()
            if not self.running:
                self._spawn()
            if wait:
                self.wait_ready()
        return self

    def stop(self) -> None:
        """Shut it down cleanly, thawing it first; does nothing if it does not run.

        Raises:
            ServerStopError: It did not end in time and was killed.
        """
        with self._lock:
            if not self.running:
                return
            self.thaw()
            self._ask_to_shut_down()
            if not self._process.wait_ended(self._stop_timeout):
                self.kill()
                raise ServerStopError(
                    f"The server did not shut down within {self._stop_timeout:g} s and was killed; what it had not yet "
                    f"written to its append-only file is lost. The end of its log: {self._log_end()}",
                )

    def kill(self) -> None:
        """Kill it with -9, frozen or not, and wait until it is gone; does nothing if it does not run."""
        with self._lock:
            self._process.kill()
            # Not even a frozen process resists, but one that waits for a disk may take a while.
            if not self._process.wait_ended(self._stop_timeout):
                raise ServerStopError("The server did not end after SIGKILL: it is waiting for the operating system.")
            self._frozen = False

    def freeze(self) -> None:
        """Stop it with SIGSTOP, and return when it has stopped: connects still succeed, answers do not come.

        Raises:
            ServerNotRunningError: It does not run.
        """
        with self._lock:
            if self._frozen:
                return
            _ = self.pid
            self._process.signal(signal.SIGSTOP)
            if not self._process.wait_stopped():
                raise ServerNotRunningError("The server ended before it could be frozen.")
            self._frozen = True

    def thaw(self) -> None:
        """Let a frozen server run on; does nothing if it is not frozen."""
        with self._lock:
            if self._frozen:
                self._process.signal(signal.SIGCONT)
                self._frozen = False

    def restart(self, *, keep_data: bool = True, wait: bool = True, config: Mapping[str, str] | None = None) -> Self:
        """Bring it up again on the same port, after a clean shutdown if it runs.

        Args:
            keep_data: False empties it, as a server comes back that lost its disk.
            wait: As in `start`.
            config: More lines of redis.conf, over the constructor's, until the next start.

        Raises:
            ServerStartError: As in `start`.
            ServerStopError: As in `stop`.
            ValueError: `config` sets what this class sets.
        """
        check_settings(self._durability, config or {})
        with self._lock:
            if keep_data:
                self.stop()
            else:
                self.kill()
                shutil.rmtree(self._data, ignore_errors=True)
            self._config_once = dict(config or {})
            return self.start(wait=wait)

    def close(self) -> None:
        """End it and remove its temporary directory; with a `directory` of yours, shut it down cleanly first."""
        with self._lock:
            try:
                self._forget_state()
                if self._keep_directory:
                    self.stop()
            finally:
                self._release()
                self._frozen = False

    def command(self, *arguments: str | int) -> Reply:
        """Send it one command over a connection of its own, for looking at it or putting it into a state.

        Raises:
            OSError: It does not answer.
            ServerReplyError: It answered with an error.
        """
        with self._connect(_COMMAND_TIMEOUT) as connection:
            return connection.command(*arguments)

    def wait_ready(self) -> None:
        """Wait until it answers and has loaded its data.

        Raises:
            PortTakenError: Something else listens on its port.
            ServerStartError: It ended, or was not ready within `start_timeout`; it was killed then, its data is kept.
        """
        deadline = time.monotonic() + self._start_timeout
        while not self._is_ready():
            if not self.running:
                self.kill()
                raise self._start_failure("ended before it was ready")
            if time.monotonic() > deadline:
                self.kill()
                raise self._start_failure(f"was not ready within {self._start_timeout:g} s, and was killed")
            time.sleep(_POLL)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "frozen" if self._frozen else "running" if self.running else "down"
        return f"<RedisServer port={self._port} durability={self._durability} {state}>"

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _log(self) -> Path:
        return self._directory / "server.log"

    def _ask_to_shut_down(self) -> None:
        try:
            # NOSAVE is obeyed even while a script runs, and the append-only file is synced all the same.
            self.command("SHUTDOWN", "NOSAVE")
        except ConnectionResetError:
            return  # it obeys by hanging up
        except (OSError, ServerReplyError):
            # It takes no connection or refuses the command: the signal asks for the same, at its next tick.
            self._process.signal(signal.SIGTERM)

    def _spawn(self) -> None:
        if not is_free(self._port):
            raise PortTakenError(self._port)
        self._data.mkdir(exist_ok=True)
        # Written anew each time, so that a state put by CONFIG SET does not outlive a restart; a file, so that a
        # password in it shows in no list of processes.
        configuration = self._directory / "redis.conf"
        configuration.touch(mode=0o600)
        settings = {**self._config, **self._config_once}
        self._config_once = {}
        configuration.write_text(render_settings(self._port, self._durability, settings), "utf-8")
        with self._log.open("wb") as log:
            self._process.spawn([str(self._binary), str(configuration)], output=log, cwd=self._data)

    def _connect(self, timeout: float) -> RespConnection:
        return RespConnection(self._port, timeout=timeout, password=self._config.get("requirepass"))

    def _is_ready(self) -> bool:
        try:
            with self._connect(_PROBE_TIMEOUT) as connection:
                # INFO rather than PING: it is answered while loading, and proves that this is our server.
                info = _parse_info(connection.command("INFO"))
        except (OSError, ServerReplyError):
            return False
        if info.get("process_id") != str(self._process.pid):
            return False
        name = info.get("server_name", "redis")
        self._version = f"{name} {info.get(f'{name}_version', info.get('redis_version', 'unknown'))}"
        return info.get("loading") == "0"

    def _start_failure(self, what: str) -> ServerStartError:
        if not is_free(self._port):
            return PortTakenError(self._port)
        return ServerStartError(f"The server {what}; its data is kept. The end of its log: {self._log_end()}")

    def _log_end(self) -> str:
        with suppress(OSError):
            lines = self._log.read_text("utf-8", "replace").splitlines()
            return " | ".join(line.strip() for line in lines[-_LOG_LINES:] if line.strip()) or "(empty)"
        return "(none)"


def _make_directory(directory: str | Path | None) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="remanence-lab-"))
    path = Path(directory).resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


def _parse_info(reply: Reply) -> dict[str, str]:
    if not isinstance(reply, str):
        raise LabError("The server answered INFO with something other than text.")
    return dict(line.split(":", 1) for line in reply.splitlines() if ":" in line and not line.startswith("#"))


def _release(process: SupervisedProcess, disposable: Path | None) -> None:
    if not process.is_ours:  # a child made by fork goes away, not the server's owner
        return
    process.kill()
    process.wait_ended(_COMMAND_TIMEOUT)
    process.dismiss()
    if disposable is not None:
        shutil.rmtree(disposable, ignore_errors=True)
