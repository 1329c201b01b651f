"""The lab's own way to a server that is being put into a state: a connection that the state does not lock out."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from remanence.lab.errors import ServerStateError
from remanence.lab.resp import Reply, RespConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from remanence.lab.redis_server import RedisServer

__all__ = ["COMMAND_TIMEOUT", "WAIT", "Control", "configured", "wait_until"]

COMMAND_TIMEOUT: Final = 5.0
WAIT = 10.0
"""Seconds that a server gets for each step."""

_POLL: Final = 0.002


class Control:
    """The lab's own connection to a server while that is in a state.

    Args:
        server: The server; it must run.

    Attributes:
        server: The server.
        url_password: The one that its clients bring; None for none.
        password: The one that opens it now; None for none.

    Raises:
        OSError: The server does not answer.
    """

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        password = urlsplit(server.url).password
        self.url_password = None if password is None else unquote(password)
        self.password = self.url_password
        self._connection = self._connect()
        self._is_spoilt = False

    def command(self, *arguments: str | int) -> Reply:
        """Send one command, over a new connection where the old one was lost.

        Raises:
            OSError: The server does not answer.
            ServerReplyError: It answered with an error.
        """
        if self._is_spoilt:
            self.reconnect()
        try:
            return self._connection.command(*arguments)
        except ConnectionError:
            self.reconnect()
            return self._connection.command(*arguments)
        except TimeoutError:
            # The answer may still come, and would be taken for the next command's.
            self._connection.close()
            self._is_spoilt = True
            raise

    def reconnect(self) -> None:
        """Take a new connection, as after a restart."""
        self._connection.close()
        self._is_spoilt = True
        self._connection = self._connect()
        self._is_spoilt = False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, setting: str) -> str:
        """Return a setting of the server."""
        reply = self.command("CONFIG", "GET", setting)
        if not isinstance(reply, list) or len(reply) != 2:  # noqa: PLR2004 - name and value
            raise ServerStateError(
                f"The server does not know the setting {setting}, so it was left as it is. Use Redis 7 or Valkey."
            )
        return str(reply[1])

    def info(self, name: str) -> str:
        """Return a field of INFO."""
        lines = str(self.command("INFO")).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line).get(name, "")

    def _connect(self) -> RespConnection:
        return RespConnection(self.server.port, timeout=COMMAND_TIMEOUT, password=self.password)


@contextmanager
def configured(control: Control, settings: Mapping[str, str | int]) -> Iterator[None]:
    """Have the server run with these settings, applied in this order and taken back in the reverse one."""
    before = {name: control.get(name) for name in settings}
    try:
        for name, value in settings.items():
            control.command("CONFIG", "SET", name, value)
        yield
    finally:
        for name, held in reversed(before.items()):
            control.command("CONFIG", "SET", name, held)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition` holds.

    Raises:
        ServerStateError: It does not within `WAIT` seconds; `what` says what the server did not do.
    """
    deadline = time.monotonic() + WAIT
    while not condition():
        if time.monotonic() > deadline:
            raise ServerStateError(f"The server {what} within {WAIT:g} s; its data is kept. Restart it.")
        time.sleep(_POLL)
