"""Connections whose every connect, send and receive ends within the time that the attempt has left.

redis-py's timeout holds for each receive, so a server that drips bytes stretches it without end, and a fresh connection
costs several round trips with a timeout each. The time left travels in a context variable instead.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError

from remanence.managers.redis_protocol import ServerTime

__all__ = [
    "ATTEMPT",
    "Attempt",
    "BoundedConnection",
    "BoundedSSLConnection",
    "BoundedUnixConnection",
    "NewConnectionError",
    "bounded_class",
    "poll_of",
]

_SLACK = 0.02
"""Seconds by which a socket's timeout may be off before it is set anew: setting it is a system call."""

_DROP_UNSENT = struct.pack("ii", 1, 0)


class Attempt:
    """One attempt towards the server.

    Attributes:
        deadline: Monotonic time at which it must have ended.
        sent: Whether a command may have left this process that changes something.
        spell: The spell of the server's time in which the next command is made.
        timed: Whether it carries a time of the server, as estimated in that spell.
        admitted: The call's; see there.

    Args:
        deadline: As above.
        server_time: Unlearned when a connection is opened.
    """

    __slots__ = ("_server_time", "admitted", "deadline", "sent", "spell", "timed")

    def __init__(self, deadline: float, server_time: ServerTime, admitted: Callable[[], None] | None = None) -> None:
        self.deadline = deadline
        self.admitted = admitted
        self.sent = False
        self.spell = server_time.spell
        self.timed = False
        self._server_time = server_time

    def opened(self) -> None:
        """A connection was opened for this attempt: it may lead to another server, with a clock of its own.

        Raises:
            NewConnectionError: The next command counts on the clock of the one before. Nothing of it was sent.
        """
        self.spell = self._server_time.forget()
        if self.timed:
            self.timed = False
            raise NewConnectionError

    def check(self) -> None:
        """Make sure that the next command's time is still one of the server that connections lead to now.

        Another thread may have opened this very connection since the time was estimated.

        Raises:
            NewConnectionError: It is not. Nothing of the command was sent.
        """
        if self.timed and self.spell != self._server_time.spell:
            self.timed = False
            raise NewConnectionError


class NewConnectionError(Exception):
    """The server's time has to be asked for again; inside the manager only."""


ATTEMPT: ContextVar[Attempt | None] = ContextVar("remanence_attempt", default=None)


def _left(limit: float | None) -> float | None:
    attempt = ATTEMPT.get()
    if attempt is None:
        return limit
    left = max(attempt.deadline - time.monotonic(), 0.001)
    return left if limit is None else min(limit, left)


def _nothing_pending() -> int:
    return 0


class _BoundedSocket:
    """A socket that knows the attempt's deadline."""

    def __init__(self, sock: Any, limit: float | None) -> None:
        self._sock = sock
        # redis-py looks these up on every command, and __getattr__ is slow, above all to say that there is none.
        self.fileno = sock.fileno
        self.pending = getattr(sock, "pending", _nothing_pending)
        self._recv_into = sock.recv_into
        self._sendall = sock.sendall
        self._limit = limit
        self._armed = sock.gettimeout()
        self._abandoned = False
        self.ready = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv_into(self, *args: Any) -> int:
        self._arm(ATTEMPT.get())
        try:
            received: int = self._recv_into(*args)
        except BlockingIOError:
            raise  # nothing to read, as asked
        except BaseException:
            self._abandon()
            raise
        return received

    def recv(self, *args: Any) -> bytes:
        self._arm(ATTEMPT.get())
        try:
            received: bytes = self._sock.recv(*args)
        except BlockingIOError:
            raise
        except BaseException:
            self._abandon()
            raise
        return received

    def sendall(self, data: Any) -> None:
        attempt = ATTEMPT.get()
        self._arm(attempt)
        if attempt is not None and self.ready:
            attempt.sent = True
        try:
            self._sendall(data)
        except BaseException:
            self._abandon()
            raise

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)
        self._armed = seconds

    def shutdown(self, how: int) -> None:
        # Shutting down would ask for an orderly end first; closing alone resets what was abandoned.
        if not self._abandoned:
            self._sock.shutdown(how)

    def _arm(self, attempt: Attempt | None) -> None:
        armed = self._armed
        if armed == 0:
            return  # an older redis-py looks, without waiting, whether there is something to read
        if attempt is not None and armed is not None and -_SLACK < attempt.deadline - time.monotonic() - armed < _SLACK:
            return
        if attempt is None:
            left = self._limit
        else:
            left = attempt.deadline - time.monotonic()
            if left <= 0:
                self._abandon()
                message = "no time left for this attempt"
                raise TimeoutError(message)
        if left is None or self._armed is None:
            if left is not self._armed:
                self.settimeout(left)
        elif not -_SLACK < left - self._armed < _SLACK:
            self.settimeout(left)

    def _abandon(self) -> None:
        # Closing then resets the connection: what the kernel has not delivered yet is dropped instead of applied late.
        self._abandoned = True
        with suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_UNSENT)


class _Bounded:
    """Mixin over redis-py's connections."""

    _sock: Any

    # redis-py's own attributes: since 8.0 its constructor sets them without asking the properties below.
    _socket_connect_timeout: float | None = None
    _socket_timeout: float | None = None

    # redis-py reads these for every address it tries and once connected: each read is the time left by then.
    @property
    def socket_connect_timeout(self) -> float | None:
        return _left(self._socket_connect_timeout)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, seconds: float | None) -> None:
        self._socket_connect_timeout = seconds

    @property
    def socket_timeout(self) -> float | None:
        return _left(self._socket_timeout)

    @socket_timeout.setter
    def socket_timeout(self, seconds: float | None) -> None:
        self._socket_timeout = seconds

    def _connect(self) -> Any:
        return _BoundedSocket(super()._connect(), self._socket_timeout)  # type: ignore[misc]

    _poll: Any = None

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
        except BaseException:
            # redis-py does so for its own errors only; in the pool it would count as connected, its handshake undone.
            self.disconnect()  # type: ignore[attr-defined]
            raise
        # The handshake changes nothing in the store: only what comes after it may be applied late.
        if isinstance(self._sock, _BoundedSocket) and not self._sock.ready:
            self._sock.ready = True
            self._poll = poll_of(self._sock)
            attempt = ATTEMPT.get()
            if attempt is not None:
                attempt.opened()

    def is_quiet(self) -> bool:
        """Whether the connection stands and nothing has come over it unasked."""
        sock, reader = self._sock, getattr(self._parser, "_reader", None)  # type: ignore[attr-defined]
        if sock is None:
            return False
        if reader is not None and self._poll is not None:
            return not (reader.has_data() or sock.pending() or self._poll(0))
        try:
            return not self.can_read(timeout=0)  # type: ignore[attr-defined]
        except RedisError:
            return False

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        if not self._sock:
            self.connect()
        attempt = ATTEMPT.get()
        # Not the handshake: it carries no time, and broken off it would leave a connection without its database.
        if attempt is not None and getattr(self._sock, "ready", False):
            attempt.check()
        super().send_packed_command(command, check_health)  # type: ignore[misc]


def poll_of(sock: Any) -> Any:
    """Return a poll for something to read; None where the system has none, and redis-py's own way is taken."""
    if not hasattr(select, "poll") or sock.fileno() < 0:  # lost just after its handshake
        return None
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return poll.poll


class BoundedConnection(_Bounded, Connection):
    """Over TCP."""


class BoundedSSLConnection(_Bounded, SSLConnection):
    """Over TLS."""


class BoundedUnixConnection(_Bounded, UnixDomainSocketConnection):
    """Over a Unix socket."""


def bounded_class(url: str) -> type[BoundedConnection | BoundedSSLConnection | BoundedUnixConnection]:
    """Return the connection class for the URL's scheme."""
    if url.startswith("rediss://"):
        return BoundedSSLConnection
    return BoundedUnixConnection if url.startswith("unix://") else BoundedConnection
