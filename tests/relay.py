"""A relay in front of a real server, and small questions to both ends: for the tests of outages."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any

from remanence import RedisWorkingMemoryManager
from tests.support import wait_until

__all__ = ["Relay", "held", "home", "texts", "value"]


class Relay:
    """A TCP relay in front of a server: it can cut, hold back what clients send and deliver it later, and drip."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.holding = False
        self.dripping = False
        self._held: list[tuple[socket.socket, bytes]] = []
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """Break all connections, and every new one at once."""
        self._cut = True
        for pair in self._pairs:
            _close(*pair)
        self._pairs.clear()

    def mend(self) -> None:
        """Let connections through again."""
        self._cut = False

    def deliver(self) -> int:
        """Send the server what was held back; return the number of pieces."""
        pieces, self._held = self._held, []
        for server, data in pieces:
            server.sendall(data)
        return len(pieces)

    def close(self) -> None:
        """End it."""
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._cut:
                _close(client)
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._pairs.append((client, server))
            threading.Thread(target=self._upwards, args=(client, server), daemon=True).start()
            threading.Thread(target=self._downwards, args=(client, server), daemon=True).start()

    def _upwards(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self.holding:
                    self._held.append((server, data))
                else:
                    server.sendall(data)
        if not any(held is server for held, _ in self._held):
            _close(client, server)

    def _downwards(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                for piece in (bytes([byte]) for byte in data) if self.dripping else (data,):
                    client.sendall(piece)
                    if self.dripping:
                        time.sleep(0.05)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def value(text: str | None = None, conversation: str = "c") -> dict[str, Any]:
    """Return an input."""
    return {"conversation_id": conversation} | ({} if text is None else {"working_memory": text})


def held(url: str, conversation: str = "c") -> str | None:
    """Return what the server holds, asked directly."""
    with RedisWorkingMemoryManager(url) as manager:
        found = manager.retrieve(value(conversation=conversation))
        return found[0].working_memory if found else None


def home(manager: Any) -> None:
    """Wait until nothing is pending any more, without any call to the store."""
    wait_until(lambda: not manager.has_pending_writes, "everything came home")


def texts(manager: Any) -> list[str | None]:
    """Return the texts of the conflict copies."""
    return sorted((conflict.text for conflict in manager.conflicts()), key=str)
