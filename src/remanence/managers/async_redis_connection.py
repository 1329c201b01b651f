"""Connections for asyncio that tell an attempt what has left the process, and drop what has not.

The awaiting side keeps the time (see `async_redis_client`); here is what `redis_connection` does besides that.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from remanence.managers.redis_connection import ATTEMPT, poll_of

__all__ = [
    "AsyncBoundedConnection",
    "AsyncBoundedSSLConnection",
    "AsyncBoundedUnixConnection",
    "async_bounded_class",
]

_DROP_UNSENT = struct.pack("ii", 1, 0)


class _Bounded:
    """Mixin over redis-py's connections."""

    _reader: Any
    _writer: Any
    _ready = False
    _poll: Any = None

    async def connect(self) -> None:
        await self._opened(super().connect)  # type: ignore[misc]

    async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        # What redis-py 6 and later call, from `connect` too; 5 has `connect` alone.
        await self._opened(super().connect_check_health, *args, **kwargs)  # type: ignore[misc]

    async def _opened(self, connect: Any, *args: Any, **kwargs: Any) -> None:
        was_ready = self._ready
        try:
            await connect(*args, **kwargs)
        except BaseException:
            # Its handshake undone it must not count as connected.
            self.forsake()
            raise
        # The handshake changes nothing in the store: only what comes after it may be applied late.
        if not was_ready and not self._ready:
            self._ready = True
            sock = self._writer.transport.get_extra_info("socket")
            self._poll = None if sock is None else poll_of(sock)
            attempt = ATTEMPT.get()
            if attempt is not None:
                attempt.opened()

    async def disconnect(self, nowait: bool = False, *args: Any, **kwargs: Any) -> None:  # noqa: FBT001, FBT002 - redis-py's
        self._ready = False
        if nowait:
            self._abandon()
        await super().disconnect(nowait, *args, **kwargs)  # type: ignore[misc]

    def forsake(self) -> None:
        """Close the connection at once, whatever is under way on it; its loop may be closed."""
        self._ready = False
        writer = self._writer
        if writer is None:
            return
        self._abandon()
        self._parser.on_disconnect()  # type: ignore[attr-defined]
        self._reader = self._writer = None
        _release(writer.transport)

    def is_quiet(self) -> bool:
        """Whether the connection stands and nothing has come over it unasked."""
        writer, reader = self._writer, self._reader
        if writer is None or reader is None or not self._ready or writer.is_closing() or reader.at_eof():
            return False
        parsed = getattr(self._parser, "_reader", None)  # type: ignore[attr-defined]
        if parsed is not None and hasattr(parsed, "has_data") and parsed.has_data():
            return False
        return not (getattr(reader, "_buffer", b"") or (self._poll is not None and self._poll(0)))

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        if self._writer is None:
            await self.connect()
        attempt = ATTEMPT.get()
        # Not the handshake: it carries no time, and broken off it would leave a connection without its database.
        if attempt is not None and self._ready:
            attempt.check()
            attempt.sent = True
        await super().send_packed_command(command, check_health)  # type: ignore[misc]

    def _abandon(self) -> None:
        # Aborting then resets the connection: what the kernel has not delivered yet is dropped instead of applied late.
        writer = self._writer
        if writer is None:
            return
        sock = writer.transport.get_extra_info("socket")
        with suppress(OSError, AttributeError, ValueError):  # the last is uvloop's, of a transport that is closed
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_UNSENT)
        with suppress(RuntimeError):  # its loop is closed
            writer.transport.abort()


def _release(transport: Any) -> None:
    """Close the socket of a transport whose loop is closed: nothing else will."""
    loop = getattr(transport, "_loop", None)
    sock = getattr(transport, "_sock", None)
    if loop is None or sock is None or not loop.is_closed():
        return
    with suppress(OSError):
        sock.close()
    transport._sock = None  # noqa: SLF001 - or its finalizer warns of a socket that is closed


class AsyncBoundedConnection(_Bounded, Connection):
    """Over TCP."""


class AsyncBoundedSSLConnection(_Bounded, SSLConnection):
    """Over TLS."""


class AsyncBoundedUnixConnection(_Bounded, UnixDomainSocketConnection):
    """Over a Unix socket."""


def async_bounded_class(
    url: str,
) -> type[AsyncBoundedConnection | AsyncBoundedSSLConnection | AsyncBoundedUnixConnection]:
    """Return the connection class for the URL's scheme."""
    if url.startswith("rediss://"):
        return AsyncBoundedSSLConnection
    return AsyncBoundedUnixConnection if url.startswith("unix://") else AsyncBoundedConnection
