"""One text for tests at socket level, over plain sockets and over asyncio's streams."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol

__all__ = ["AsyncWire", "SyncWire", "Wire", "packed"]

PATIENCE = 5.0


def packed(*parts: str | bytes | int) -> bytes:
    """Return a command's bytes."""
    raw = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"*%d\r\n%b" % (len(raw), b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in raw))


class Wire(Protocol):
    """A connection at socket level; what the operating system says arrives as it is."""

    def __init__(self, port: int) -> None: ...

    def send(self, data: bytes) -> None:
        """Send."""

    def read(self, size: int, timeout: float = PATIENCE) -> bytes:
        """Return what is there, at least a byte; b"" at the end of the stream; TimeoutError when nothing comes."""

    def finish(self) -> None:
        """End the sending side."""

    def reset(self) -> None:
        """Close by a reset."""

    def close(self) -> None:
        """Close."""


class SyncWire:
    """Over a socket."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)

    def send(self, data: bytes) -> None:
        """Send."""
        self._socket.sendall(data)

    def read(self, size: int, timeout: float = PATIENCE) -> bytes:
        """Read."""
        self._socket.settimeout(timeout)
        return self._socket.recv(size)

    def finish(self) -> None:
        """End the sending side."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close by a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Close."""
        self._socket.close()


class AsyncWire:
    """Over asyncio's streams, in an event loop that runs while it is asked for something."""

    def __init__(self, port: int) -> None:
        self._closed = False
        self._runner = asyncio.Runner()
        try:
            self._reader: asyncio.StreamReader
            self._writer: asyncio.StreamWriter
            self._reader, self._writer = self._run(asyncio.open_connection("127.0.0.1", port))
        except BaseException:
            self._runner.close()
            raise

    def send(self, data: bytes) -> None:
        """Send."""

        async def send() -> None:
            self._writer.write(data)
            await self._writer.drain()

        self._run(send())

    def read(self, size: int, timeout: float = PATIENCE) -> bytes:
        """Read."""

        async def read() -> bytes:
            async with asyncio.timeout(timeout):
                return await self._reader.read(size)

        result: bytes = self._run(read())
        return result

    def finish(self) -> None:
        """End the sending side."""

        async def finish() -> None:
            self._writer.write_eof()

        self._run(finish())

    def reset(self) -> None:
        """Close by a reset."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close."""

        async def close() -> None:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()

        if not self._closed:
            self._closed = True
            self._run(close())
            self._runner.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)
