"""The proxy's listening socket, which can be gone while its port stays the proxy's own."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from typing import Final

from remanence.lab.errors import ProxyPortTakenError
from remanence.lab.fault_proxy.loop import READ, Loop

__all__ = ["Door"]

_HOST: Final = "127.0.0.1"
_BACKLOG: Final = 512

# Linux refuses connects to a port that is bound but not listened on, and lets nobody else have it. Elsewhere two
# sockets cannot share the port, and the proxy relies on its port being outside the range of outgoing connections.
_RESERVES: Final = sys.platform == "linux"


class Door:
    """Lets clients in, or has the kernel refuse them.

    Args:
        loop: In whose thread clients are accepted; `open` and `close` are for that thread as well.
        port: On 127.0.0.1.
        accept: Gets each client's socket, not blocking.

    Raises:
        ProxyPortTakenError: Something else uses the port.
    """

    def __init__(self, loop: Loop, port: int, accept: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._port = port
        self._accept = accept
        self._listener: socket.socket | None = None
        self._reservation: socket.socket | None = None
        if _RESERVES:
            self._reservation = self._bind()
            loop.adopt(self._reservation)
        self.open()

    @property
    def is_open(self) -> bool:
        """Whether clients are let in."""
        return self._listener is not None

    def open(self) -> None:
        """Let clients in."""
        if self._listener is None:
            self._share_port(yes=True)
            self._listener = self._listen()
            self._loop.adopt(self._listener)
            self._loop.watch(self._listener, 0, READ, self._on_clients)

    def close(self) -> None:
        """Have clients refused; those that the kernel has let in already, and nobody has accepted, are reset."""
        if self._listener is not None:
            self._loop.watch(self._listener, READ, 0, self._on_clients)
            self._loop.release(self._listener)
            self._listener = None
            self._share_port(yes=False)

    def _on_clients(self, _mask: int) -> None:
        while self._listener is not None:
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # it has gone already
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._accept(client)

    def _share_port(self, *, yes: bool) -> None:
        if self._reservation is not None:
            self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, yes)

    def _listen(self) -> socket.socket:
        listener = self._bind()
        try:
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise ProxyPortTakenError(self._port) from None
            raise
        return listener

    def _bind(self) -> socket.socket:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((_HOST, self._port))
        except OSError as error:
            one.close()
            if error.errno == errno.EADDRINUSE:
                raise ProxyPortTakenError(self._port) from None
            raise
        return one
