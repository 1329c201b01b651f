"""A tiny server that speaks just enough of Redis's protocol to misbehave in the middle of a reply."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Self

__all__ = ["Behaviour", "FakeServer", "close_after", "drip", "half_a_reply", "reset", "silent"]

Behaviour = Callable[["FakeServer", socket.socket, bytes], None]
"""Sends a reply, or something else."""

_TEXT = b'{"data": {"working_memory": "' + b"x" * 2_000 + b'"}, "metadata": {}, "created_at": "", "last_update": ""}'
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FakeServer:
    """Answers every command as a healthy server would, except those that a behaviour is given for.

    Args:
        behaviour: What is done instead of replying; None is a healthy server.
        commands: Names of the commands that it is done for; none: all.
    """

    def __init__(self, behaviour: Behaviour | None = None, *commands: str) -> None:
        self.behaviour = behaviour
        self.commands = frozenset(commands)
        self.seen: list[str] = []
        self.ends: list[str] = []
        self.closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._threads = [threading.Thread(target=self._accept)]
        self._connections: list[socket.socket] = []
        self._threads[0].start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            try:
                while command := _read_command(stream):
                    name = command[0].decode()
                    self.seen.append(name)
                    reply = _reply(command)
                    if self.behaviour is not None and (not self.commands or name in self.commands):
                        self.behaviour(self, connection, reply)
                    else:
                        connection.sendall(reply)
                self.ends.append("closed")
            except ConnectionResetError:
                self.ends.append("reset")
            except (OSError, ValueError):
                self.ends.append("broken")


def silent(_server: FakeServer, _connection: socket.socket, _reply: bytes) -> None:
    """Never answer, but go on reading."""


def drip(server: FakeServer, connection: socket.socket, reply: bytes) -> None:
    """Answer with one byte each 150 ms: every receive is in time, the reply never is."""
    for byte in reply:
        connection.sendall(bytes([byte]))
        if server.closing.wait(0.15):
            return


def half_a_reply(_server: FakeServer, connection: socket.socket, reply: bytes) -> None:
    """Answer with a half, and never with the rest."""
    connection.sendall(reply[: len(reply) // 2])


def reset(_server: FakeServer, connection: socket.socket, _reply: bytes) -> None:
    """Reset the connection instead of answering."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    socket.close(connection.detach())
    raise ConnectionAbortedError


def close_after(_server: FakeServer, connection: socket.socket, reply: bytes) -> None:
    """Hang up after half of the answer."""
    connection.sendall(reply[: len(reply) // 2])
    connection.shutdown(socket.SHUT_RDWR)


def _read_command(stream: IO[bytes]) -> list[bytes]:
    head = stream.readline()
    if not head:
        return []
    parts = []
    for _ in range(int(head[1:])):
        length = int(stream.readline()[1:])
        parts.append(stream.read(length + 2)[:length])
    return parts


def _reply(command: Sequence[bytes]) -> bytes:
    name = command[0].decode()
    micros = time.time_ns() // 1000
    replies = {
        # Padded, so that it drips for longer than any timeout here.
        "HELLO": b"%2\r\n$5\r\nproto\r\n:3\r\n$7\r\npadding\r\n" + _bulk(b"x" * 100),
        "TIME": b"*2\r\n" + _bulk(b"%d" % (micros // 1_000_000)) + _bulk(b"%d" % (micros % 1_000_000)),
        "EVAL": b":%d\r\n" % micros,
        "EVALSHA": b":%d\r\n" % micros,
        "GET": _bulk(_TEXT),
        "SMEMBERS": b"*0\r\n",
        "DEL": b":1\r\n",
    }
    return replies.get(name, b"+OK\r\n")


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)
