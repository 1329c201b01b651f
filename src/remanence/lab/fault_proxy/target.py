"""The server behind the proxy: where it is, how to connect, and whether it takes connections."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["Target"]

_DEFAULT_PORT: Final = 6379
_HIGHEST_PORT: Final = 65_535
_PROBE_TIMEOUT: Final = 0.05


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server is.

    Attributes:
        host: Its name or address.
        port: Its port.
        credentials: What stands before the @ of its URL, the @ included; or nothing.
        path: What stands behind the port.
    """

    host: str
    port: int
    credentials: str = ""
    path: str = "/0"

    @classmethod
    def of(cls, place: int | str) -> Target:
        """Read a port of 127.0.0.1 or a redis:// URL.

        Raises:
            TypeError: It is neither.
            ValueError: The port is out of range, or the URL is of a kind that cannot be taken apart.
        """
        if isinstance(place, bool) or not isinstance(place, int | str):
            raise TypeError(f"The target is of type {type(place).__name__}; it is a port or a redis:// URL.")
        if isinstance(place, int):
            return cls("127.0.0.1", check_port(place))
        try:
            parts = urlsplit(place)
            port = parts.port
        except ValueError:
            raise ValueError("The target's URL has no valid host and port.") from None
        if parts.scheme != "redis":
            raise ValueError(
                f"The proxy takes redis:// URLs, not {parts.scheme or 'what has no scheme'}: it must read what is said."
            )
        credentials, at, _ = parts.netloc.rpartition("@")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return cls(
            parts.hostname or "127.0.0.1", check_port(_DEFAULT_PORT if port is None else port), credentials + at, path
        )

    def url_through(self, port: int) -> str:
        """Return the URL of the same database through a port of 127.0.0.1."""
        return f"redis://{self.credentials}127.0.0.1:{port}{self.path}"

    def connect(self) -> socket.socket:
        """Begin to connect.

        Raises:
            OSError: That cannot even begin.
        """
        family, address = self._address()
        one = socket.socket(family, socket.SOCK_STREAM)
        try:
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(BlockingIOError):
                one.connect(address)
        except BaseException:
            one.close()
            raise
        return one

    def answers(self) -> bool:
        """Whether it takes connections; one that says nothing at all is taken to do so."""
        try:
            family, address = self._address()
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.settimeout(_PROBE_TIMEOUT)
                probe.connect(address)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True

    def _address(self) -> tuple[int, Any]:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        # "localhost" often means ::1 first, where Redis often does not listen.
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        return family, address


def check_port(port: int) -> int:
    """Return a port that can be one.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range.
    """
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port is of type {type(port).__name__}; it is a whole number.")
    if not 0 < port <= _HIGHEST_PORT:
        raise ValueError(f"port={port} is not between 1 and {_HIGHEST_PORT}.")
    return port
