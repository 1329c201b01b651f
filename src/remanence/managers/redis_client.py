"""The redis-py client behind a URL: the same commands over the same connections, at two thirds of the processor time.

On every command redis-py takes a connection from its pool and gives it back, with a look for unread data, four reports
to its metrics and a closure for retries that are switched off here. This client keeps the connections that it took,
and sends the few commands that a call consists of itself; everything else goes redis-py's own way.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import ResponseError

from remanence.managers.redis_connection import NewConnectionError, bounded_class

try:
    from hiredis import pack_command
    from redis._parsers.hiredis import NOT_ENOUGH_DATA, _HiredisParser
except ImportError:  # no hiredis, or a redis-py that arranges it otherwise
    NOT_ENOUGH_DATA = _HiredisParser = pack_command = None  # type: ignore[assignment,misc]

__all__ = ["DIRECT", "bounded_client", "packed"]

DIRECT = frozenset({"EVAL", "EVALSHA", "GET", "PSETEX", "SET", "SETEX"})
"""Their replies need no translation."""


def bounded_client(client: Any, url: str) -> Any:
    """Return a client with our connections for what `redis.from_url` gave; a double in a unit test stays what it is."""
    client.connection_pool.connection_class = bounded_class(url)
    return _Redis.from_pool(client.connection_pool) if type(client) is redis.Redis else client


class _Redis(redis.Redis):
    """See the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: deque[Any] = deque()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its reply."""
        if options or args[0] not in DIRECT:
            self._give_back()
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        connection = self._take()
        try:
            connection.send_packed_command(connection.pack_command(*args))
            reply = connection.read_response()
        except (ResponseError, NewConnectionError):
            self._idle.append(connection)
            raise
        except BaseException:
            self._drop(connection)
            raise
        self._idle.append(connection)
        return reply

    def execute_many(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one go and return their replies, errors among them."""
        connection = self._take()
        try:
            connection.send_packed_command([packed(connection, commands)])
            replies = _read(connection, len(commands))
        except NewConnectionError:
            self._idle.append(connection)
            raise
        except OSError as error:
            self._drop(connection)
            message = f"{type(error).__name__} while the replies were read"
            kind = redis.TimeoutError if isinstance(error, TimeoutError) else redis.ConnectionError
            raise kind(message) from None
        except BaseException:
            self._drop(connection)  # what is left unread must meet no other call
            raise
        self._idle.append(connection)
        return replies

    def close(self) -> None:
        """Close the connections."""
        self._give_back()
        super().close()

    def _take(self) -> Any:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self.connection_pool.get_connection()
        if connection.pid == os.getpid() and connection.is_quiet():
            return connection
        self._drop(connection)
        return self.connection_pool.get_connection()

    def _drop(self, connection: Any) -> None:
        connection.disconnect()
        self.connection_pool.release(connection)

    def _give_back(self) -> None:
        """Let redis-py find the connections in its pool, rather than open others beside them."""
        while self._idle:
            try:
                self.connection_pool.release(self._idle.pop())
            except IndexError:  # another thread took the last one
                return


def packed(connection: Any, commands: Sequence[tuple[Any, ...]]) -> bytes:
    """Return commands as they are sent; with hiredis at a third of what a connection's own packing costs."""
    if pack_command is not None:
        return b"".join([pack_command(command) for command in commands])
    return b"".join([part for command in commands for part in connection.pack_command(*command)])


def _read(connection: Any, count: int) -> list[Any]:
    """Read the replies to as many commands; with hiredis straight from its reader, which halves the cost of a batch."""
    parser: Any = connection._parser  # noqa: SLF001 - guarded: another parser, or another redis-py, takes the public way
    if _HiredisParser is None or type(parser) is not _HiredisParser:
        return [_reply(connection) for _ in range(count)]
    lower: Any = parser
    gets, fill = lower._reader.gets, lower.read_from_socket  # noqa: SLF001
    push = getattr(lower, "_hiredis_PushNotificationType", None)  # redis-py 5 knows none
    replies: list[Any] = []
    while len(replies) < count:
        reply = gets()
        if reply is NOT_ENOUGH_DATA:
            fill()
        elif type(reply) is push:
            lower.handle_push_response(reply)
        elif isinstance(reply, redis.ConnectionError):
            raise reply
        else:
            replies.append(reply)
    return replies


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
