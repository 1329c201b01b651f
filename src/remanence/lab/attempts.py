"""Counts what a redis-py client sends: each connection attempt and each command, in one way for every manager."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import redis

__all__ = ["count_attempts"]


def count_attempts(client: redis.Redis) -> deque[float]:
    """Note the time of every attempt that the client makes from now on.

    Connections of its pool are closed first, so that none escapes the count.

    Returns:
        The queue that receives one `time.monotonic()` per connection attempt and per command (the handshake's too).
    """
    noted: deque[float] = deque()
    pool: Any = client.connection_pool
    base: Any = pool.connection_class

    # A subclass of whatever class the pool uses, so that the manager keeps its own behaviour.
    class Counted(base):  # type: ignore[misc]
        def _connect(self) -> Any:
            noted.append(time.monotonic())
            return super()._connect()

        def send_packed_command(self, *args: Any, **kwargs: Any) -> Any:
            noted.append(time.monotonic())
            return super().send_packed_command(*args, **kwargs)

    pool.disconnect()
    pool.connection_class = Counted
    return noted
