"""The part of `RedisServer` that puts it into one of its real states, makes sure of it, and heals it again."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, cast

from remanence.lab.control import Control, wait_until
from remanence.lab.errors import LabError, ServerReplyError, ServerStateError
from remanence.lab.resp import Reply, RespConnection
from remanence.lab.server_states import STATES, ServerState, StateFacts
from remanence.lab.state_entry import enter

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from remanence.lab.redis_server import RedisServer

__all__ = ["HeldState", "Stateful"]

_PROBE: Final = "remanence-lab:probe"
# Commands that nobody else sends, so that they can be told apart in the server's statistics. There is no such key, so
# the write, which the server judges like any other, changes nothing.
_READ: Final = ("STRLEN", _PROBE)
_WRITE: Final = ("RPUSHX", _PROBE, "")
_ANSWER_TIMEOUT: Final = 1.0
_SILENCE: Final = 0.05


class HeldState:
    """A state that a server is in.

    Attributes:
        state: Which.
        facts: What it does; see `StateFacts`.
    """

    def __init__(self, server: RedisServer, state: ServerState) -> None:
        self.state = state
        self.facts: StateFacts = STATES[state]
        self._control = Control(server)
        self._way_back = ExitStack()
        self._way_back.callback(self._control.close)

    def command(self, *arguments: str | int) -> Reply:
        """Send one command over the lab's own connection, which the state does not lock out.

        It tells what happened in a state that refuses new connections, passwords or permissions. A server that is
        busy or paused does not answer here either.

        Raises:
            OSError: The server does not answer.
            ServerReplyError: It answered with an error.
        """
        return self._control.command(*arguments)

    def _enter(self) -> None:
        self._way_back.enter_context(enter(self.state, self._control))
        wait_until(self._holds, f"did not get into the state {self.state.name}")

    def _leave(self) -> None:
        server = self._control.server
        server.thaw()
        try:
            self._way_back.close()
        except (OSError, LabError):
            # Killed meanwhile, or out of reach: a restart reads a configuration in which there is no state.
            server.restart()
        try:
            wait_until(self._is_healthy, "did not recover")
        except ServerStateError:
            server.restart()
            wait_until(self._is_healthy, f"did not recover from the state {self.state.name}")

    def _forget(self) -> None:
        self._control.close()
        with suppress(OSError, LabError):
            self._way_back.close()  # closes what it holds; nothing reaches the server any more

    def _holds(self) -> bool:
        facts = self.facts
        expected = [None if failure is None else failure.code for failure in (facts.reads, facts.writes)]
        password = self._control.url_password
        if password is None and self.state is ServerState.WRONGPASS:
            password = "any"  # noqa: S105 - without one of its own the server took whatever was brought
        timeout = _SILENCE if "" in expected else _ANSWER_TIMEOUT
        return [self._answer(command, password, timeout) for command in (_READ, _WRITE)] == expected

    def _is_healthy(self) -> bool:
        password = self._control.url_password
        return all(self._answer(command, password, _ANSWER_TIMEOUT) is None for command in (_READ, _WRITE))

    def _answer(self, command: tuple[str, ...], password: str | None, timeout: float) -> str | None:
        """Return how a client of its own is refused: the error's code, "" for silence, None for not at all."""
        try:
            with RespConnection(self._control.server.port, timeout=timeout, password=password) as client:
                client.command(*command)
        except ServerReplyError as error:
            return error.code
        except TimeoutError:
            return ""
        except OSError as error:
            return type(error).__name__
        return None


class Stateful:
    """What a server can be put into; `server_states.STATES` is the table of it."""

    _lock: threading.RLock
    _held: HeldState | None = None

    def enter(self, state: ServerState | str) -> HeldState:
        """Put the server into a real state; return when it is in it, as a connection of its own sees it.

        LOADING and CLUSTERDOWN restart the server, on the same port and with its data, and CLUSTERDOWN does so again
        on leaving; MAXCLIENTS, NOAUTH and WRONGPASS close the connections of its clients. A `restart` or `kill` inside
        ends most states; they have to be left all the same.

        Args:
            state: Which; a name such as ``"oom"`` will do.

        Raises:
            ServerNotRunningError: It does not run.
            ServerStateError: It is in a state already, or did not get into this one; then it is as it was before.
            ValueError: There is no such state.
        """
        state, server = ServerState(state), cast("RedisServer", self)
        with self._lock:
            if self._held is not None:
                raise ServerStateError(
                    f"The server is in the state {self._held.state.name} and was left there. States exclude one "
                    f"another: leave() it before entering {state.name}."
                )
            _ = server.pid
            held = HeldState(server, state)
            try:
                held._enter()  # noqa: SLF001 - the module's own class
            except BaseException:
                held._leave()  # noqa: SLF001
                raise
            self._held = held
            return held

    def leave(self) -> None:
        """Take the server out of its state; return when it reads and writes again. Does nothing if it is in none.

        A server that was killed inside comes up again, one that was frozen is thawed.

        Raises:
            ServerStateError: It did not recover in time.
        """
        with self._lock:
            held, self._held = self._held, None
            if held is not None:
                held._leave()  # noqa: SLF001 - the module's own class

    @contextmanager
    def state(self, state: ServerState | str) -> Iterator[HeldState]:
        """Have the server in a state for the length of a block, however that ends; see `enter` and `leave`."""
        held = self.enter(state)
        try:
            yield held
        finally:
            self.leave()

    def disconnect_clients(self) -> int:
        """Close every client's connection now, as a failover or a proxy does; return how many there were.

        Raises:
            OSError: It does not answer.
            ServerReplyError: It refuses, being in a state that allows no command.
        """
        return int(str(cast("RedisServer", self).command("CLIENT", "KILL", "TYPE", "normal")))

    def _forget_state(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held._forget()  # noqa: SLF001 - the module's own class
