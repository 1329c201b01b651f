"""One socket of a connection: what is to be written waits here until its time, then goes out in order."""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from remanence.lab.fault_proxy.loop import READ, WRITE, Loop

__all__ = ["End", "Endpoint", "abort"]

_FULL: Final = 1 << 20
"""Bytes that may wait before the other side is not read any more."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_UNSENT: Final = 0x894B  # SIOCOUTQNSD: bytes that the kernel has not sent yet (Linux)
_FLUSH_LIMIT: Final = 2.0

End = Literal["reset", "eof"]


@dataclass(slots=True)
class _Piece:
    data: memoryview
    due: float
    size: int
    every: float
    end: End | None = None


class Endpoint:
    """A non-blocking socket in the proxy's loop; it closes when both sides have ended.

    Args:
        loop: Whose thread does everything here.
        sock: Connected, or connecting.
        receive: Gets what comes.
        ended: Is told that the other end has ended its side (False), or that the connection is broken (True).
        over: Is told that the socket is closed.
        connected: Whether it is connected already.

    Attributes:
        connected: Whether it was ever connected.
        closed: Whether it is closed.
        peer: The other end of the connection, which is not read while too much waits here.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        *,
        receive: Callable[[bytes], None],
        ended: Callable[[bool], None],
        over: Callable[[], None],
        connected: bool = True,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._receive = receive
        self._ended = ended
        self._over = over
        self._recv_into = sock.recv_into
        self._buffer = loop.buffer
        self._send = sock.send
        self.connected = connected
        self._events = 0
        self._queue: deque[_Piece] = deque()
        self._queued = 0
        self._at_end = False
        self._paused = False
        self._not_before = 0.0
        self._alarm: float | None = None
        self._finished = False
        self.closed = False
        self.peer: Endpoint | None = None
        loop.adopt(sock)
        self._watch()

    @property
    def pending(self) -> bool:
        """Whether something waits here to be written."""
        return bool(self._queue)

    def write(self, data: bytes, *, delay: float = 0.0, size: int = 0, every: float = 0.0) -> None:
        """Write after what was written before, not before `delay`, `size` bytes each `every` seconds (0: all)."""
        if self.closed or self._finished or not data:
            return
        if not self._queue and not delay and not size and self.connected and not self._not_before:
            try:
                sent = self._send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._break()
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._put(_Piece(memoryview(data), time.monotonic() + delay if delay else 0.0, size, every))

    def end(self, how: End, *, delay: float = 0.0) -> None:
        """End this side after what was written before: in an orderly way (half close) or by a reset."""
        if self.closed or self._finished:
            return
        self._finished = True
        self._put(_Piece(memoryview(b""), time.monotonic() + delay if delay else 0.0, 0, 0.0, how))

    def drain(self) -> None:
        """Throw away what still comes."""
        self._receive, self._ended = _ignore, _ignore
        if self.peer is not None:
            self.peer.resume()
            self.peer = None
        self.resume()

    def hurry(self) -> None:
        """Write what waits for its time now."""
        for piece in self._queue:
            piece.due, piece.size = 0.0, 0
        self._not_before = 0.0
        self._flush()

    def pause(self) -> None:
        """Read no more for now."""
        self._paused = True
        self._watch()

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            self._watch()

    def close(self) -> None:
        """Close at once, in the kernel's own way."""
        if self.closed:
            return
        self.closed = True
        self._loop.watch(self._sock, self._events, 0, self.handle)
        self._queue.clear()
        if self.peer is not None:
            self.peer.resume()
        self._loop.release(self._sock)
        self._over()

    def abort(self) -> None:
        """Close at once by a reset; what was not sent is lost."""
        if not self.closed:
            _linger(self._sock)
            self.close()

    def handle(self, mask: int) -> None:
        """Do what the poll says is possible."""
        if mask != WRITE and self.connected and not self._at_end:
            try:
                received = self._recv_into(self._buffer)
            except BlockingIOError:
                pass
            except OSError:
                self._break()
            else:
                if received:
                    self._receive(bytes(self._buffer[:received]))
                else:
                    self._at_end = True
                    self._ended(False)
                    self._see_whether_over()
        if mask != READ and not self.closed:
            self._writable()

    def _writable(self) -> None:
        if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._break()
            return
        self.connected = True
        self._flush()

    def _put(self, piece: _Piece) -> None:
        self._queue.append(piece)
        self._queued += len(piece.data)
        self._flush()
        if self._queued > _FULL and self.peer is not None:
            self.peer.pause()

    def _flush(self) -> None:
        while self._queue and self.connected and not self.closed:
            piece = self._queue[0]
            due = max(piece.due, self._not_before)
            if due > time.monotonic():
                self._wait_until(due)
                break
            self._not_before = 0.0
            if piece.end is not None:
                self._queue.popleft()
                self._finish(piece.end)
            elif not self._send_some(piece):
                break
        if self.peer is not None and self._queued <= _FULL:
            self.peer.resume()
        self._watch()

    def _send_some(self, piece: _Piece) -> bool:
        """Write what is due of a piece; tell whether there may be more to do at once."""
        try:
            sent = self._send(piece.data[: piece.size] if piece.size else piece.data)
        except BlockingIOError:
            return False
        except OSError:
            self._break()
            return False
        self._queued -= sent
        piece.data = piece.data[sent:]
        if piece.size:
            self._not_before = time.monotonic() + piece.every
        if not piece.data:
            self._queue.popleft()
        return True

    def _finish(self, how: End) -> None:
        if how == "reset":
            self._reset_when_sent(time.monotonic() + _FLUSH_LIMIT)
            return
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self._see_whether_over()

    def _reset_when_sent(self, limit: float) -> None:
        # A reset throws away what the kernel still keeps for sending: what was to arrive before it must have left.
        if not self.closed and time.monotonic() < limit and _unsent(self._sock):
            self._loop.at(time.monotonic() + 0.001, lambda: self._reset_when_sent(limit))
        else:
            self.abort()

    def _wait_until(self, due: float) -> None:
        if self._alarm is None or due < self._alarm:
            self._alarm = due
            self._loop.at(due, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._flush()

    def _break(self) -> None:
        self._ended(True)
        self.close()

    def _see_whether_over(self) -> None:
        if self._at_end and self._finished and not self._queue:
            self.close()
        else:
            self._watch()

    def _watch(self) -> None:
        if self.closed:
            return
        writes = not self.connected or (
            bool(self._queue) and max(self._queue[0].due, self._not_before) <= time.monotonic()
        )
        reads = self.connected and not self._paused and not self._at_end
        events = (READ if reads else 0) | (WRITE if writes else 0)
        before, self._events = self._events, events
        self._loop.watch(self._sock, before, events, self.handle)


def abort(sock: socket.socket) -> None:
    """Close a socket that is in no loop yet by a reset."""
    _linger(sock)
    sock.close()


def _linger(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def _unsent(sock: socket.socket) -> bool:
    if sys.platform != "linux":
        return False
    from fcntl import ioctl  # noqa: PLC0415 - there is none on other systems

    try:
        return any(ioctl(sock.fileno(), _UNSENT, bytes(4)))
    except OSError:
        return False


def _ignore(_said: object) -> None:
    pass
