"""The client behind a URL for asyncio: a few connections for each event loop, and calls that wait for one in turn.

redis-py's pool belongs to one loop, and refuses the call that finds no connection free. Here each loop that calls has
connections of its own, and a call waits for one until its time is up: a thousand tasks need no thousand connections.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import redis
import redis.asyncio
from redis.exceptions import ResponseError

from remanence.managers.redis_client import DIRECT, packed
from remanence.managers.redis_connection import ATTEMPT, NewConnectionError

__all__ = ["AsyncClient"]

CONNECTIONS: Final = 50
"""Of one loop, unless the URL says otherwise (`max_connections`): more do not make one server faster."""


class AsyncClient:
    """Sends commands from any loop.

    Args:
        pool: redis-py's, for the settings of its connections alone.
        max_connections: Of each loop.
    """

    def __init__(self, pool: Any, *, max_connections: int = CONNECTIONS) -> None:
        self.connection_pool = pool
        self._translate = redis.asyncio.Redis(connection_pool=pool).response_callbacks
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Connections] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    async def execute_command(self, *args: Any) -> Any:
        """Send one command and return its reply."""
        mine = self._mine()
        connection = await mine.take()
        try:
            await connection.send_packed_command(packed(connection, (args,)))
            reply = await connection.read_response()
        except (ResponseError, NewConnectionError):
            mine.give(connection)
            raise
        except BaseException:
            mine.drop(connection)
            raise
        mine.give(connection)
        translate = None if args[0] in DIRECT else self._translate.get(args[0])
        return reply if translate is None else translate(reply)

    async def execute_many(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one go and return their replies, errors among them."""
        mine = self._mine()
        connection = await mine.take()
        try:
            await connection.send_packed_command(packed(connection, commands))
            replies = [await _reply(connection) for _ in commands]
        except NewConnectionError:
            mine.give(connection)
            raise
        except BaseException:
            mine.drop(connection)  # what is left unread must meet no other call
            raise
        mine.give(connection)
        return replies

    async def aclose(self) -> None:
        """Close every connection: those of other loops are cut off."""
        with self._lock:
            loops, self._loops = dict(self._loops), weakref.WeakKeyDictionary()
        here = asyncio.get_running_loop()
        for loop, connections in loops.items():
            if loop is here:
                await connections.close()
            elif loop.is_closed():
                connections.forsake()
            else:
                loop.call_soon_threadsafe(connections.forsake)

    def _mine(self) -> _Connections:
        loop = asyncio.get_running_loop()
        mine = self._loops.get(loop)
        if mine is None:
            with self._lock:
                mine = self._loops.setdefault(loop, _Connections(self.connection_pool, self._max_connections))
        return mine


class _Connections:
    """Those of one loop."""

    def __init__(self, pool: Any, limit: int) -> None:
        self._pool = pool
        self._idle: deque[Any] = deque()
        self._free = asyncio.Semaphore(limit)
        self._closed = False

    async def take(self) -> Any:
        if self._free.locked():
            await self._free.acquire()
            self._admit()
        else:
            await self._free.acquire()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.forsake()
        try:
            return self._pool.make_connection()
        except BaseException:
            self._free.release()
            raise

    def _admit(self) -> None:
        """Let those who have waited for their turn go where the store has failed meanwhile: it would be in vain."""
        attempt = ATTEMPT.get()
        try:
            if attempt is not None and attempt.admitted is not None:
                attempt.admitted()
        except BaseException:
            self._free.release()
            raise

    def give(self, connection: Any) -> None:
        if self._closed:
            connection.forsake()
        else:
            self._idle.append(connection)
        self._free.release()

    def drop(self, connection: Any) -> None:
        connection.forsake()
        self._free.release()

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().disconnect()

    def forsake(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().forsake()


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        if isinstance(error, redis.ConnectionError):
            raise
        return error
