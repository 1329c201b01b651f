"""A few lines of the Redis protocol (RESP2), so that the lab needs no client library to look after its server.

A client of its own also keeps the lab honest: what it sees of the server does not pass through the code under test.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, BinaryIO

from remanence.lab.errors import ServerReplyError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Reply", "RespConnection"]

Reply = str | int | None | list["Reply"]


class RespConnection:
    """One connection to a server on this machine; a context manager.

    Args:
        port: The server's port on 127.0.0.1.
        timeout: Seconds that connecting, and each receive, may take.
        password: For ``requirepass``; None where there is none.

    Raises:
        OSError: Nobody answers there.
        ServerReplyError: The password is wrong.
    """

    def __init__(self, port: int, *, timeout: float, password: str | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._replies: BinaryIO = self._socket.makefile("rb")
        try:
            if password is not None:
                self.command("AUTH", password)
        except BaseException:
            self.close()
            raise

    def command(self, *arguments: str | int) -> Reply:
        """Send one command and wait for its reply; bulk strings come as text.

        Raises:
            OSError: The connection failed or timed out, or the server closed it.
            ServerReplyError: The server answered with an error.
        """
        parts = [str(argument).encode("utf-8", "surrogateescape") for argument in arguments]
        message = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(b"*%d\r\n%b" % (len(parts), message))
        return self._read()

    def close(self) -> None:
        """Close the connection."""
        self._replies.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> Reply:
        line = self._replies.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("The server closed the connection before it had answered.")
        kind, rest = line[:1], line[1:-2].decode("utf-8", "surrogateescape")
        if kind == b"+":
            return rest
        if kind == b"-":
            raise ServerReplyError(rest)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return self._read_bulk(int(rest))
        if kind == b"*":
            return None if rest == "-1" else [self._read() for _ in range(int(rest))]
        raise ConnectionError("What listens on the server's port does not speak the Redis protocol.")

    def _read_bulk(self, length: int) -> str | None:
        if length < 0:
            return None
        body = self._replies.read(length + 2)
        if len(body) != length + 2:
            raise ConnectionResetError("The server closed the connection in the middle of a reply.")
        return body[:-2].decode("utf-8", "surrogateescape")
