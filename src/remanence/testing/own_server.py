"""A server of the user's own: only keys of the test's own are touched there, and nothing is broken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from remanence.errors import ConfigurationError
from remanence.lab.errors import LabError, ServerReplyError
from remanence.lab.resp import Reply
from remanence.managers.redis_backend import CONFLICT_PREFIX, INDEX_PREFIX
from remanence.managers.urls import check_url
from remanence.testing.clock import ManualClock, check_seconds
from remanence.testing.expiry import bring_forward, scan
from remanence.testing.prefixes import is_random_prefix
from remanence.testing.server import RedisForTests
from remanence.testing.urls import SecretUrl

__all__ = ["ChaosRefusedError", "OwnServer", "OwnServerError"]

_PATIENCE: Final = 5.0
_CHUNK: Final = 500
# They name no keys and change nothing.
_HARMLESS: Final = frozenset({"DBSIZE", "ECHO", "INFO", "PING", "SCAN", "TIME"})
# They touch the keys that they name and nothing else. A list, because the keys that a command names do not tell:
# scripts and functions do anything, SORT looks at further keys, COPY, MOVE and MIGRATE reach further databases.
_PLAIN: Final = frozenset(
    """
    DEL DUMP EXISTS EXPIRE EXPIREAT EXPIRETIME OBJECT PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PTTL RENAME RENAMENX TOUCH
    TTL TYPE UNLINK
    APPEND DECR DECRBY GET GETDEL GETEX GETRANGE GETSET INCR INCRBY INCRBYFLOAT MGET MSET MSETNX PSETEX SET SETEX SETNX
    SETRANGE STRLEN SUBSTR
    BITCOUNT BITFIELD BITFIELD_RO BITOP BITPOS GETBIT SETBIT
    HDEL HEXISTS HEXPIRE HGET HGETALL HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HPERSIST HPEXPIRE HPTTL HRANDFIELD
    HSCAN HSET HSETNX HSTRLEN HTTL HVALS
    LINDEX LINSERT LLEN LMOVE LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM RPOP RPOPLPUSH RPUSH RPUSHX
    SADD SCARD SDIFF SDIFFSTORE SINTER SINTERCARD SINTERSTORE SISMEMBER SMEMBERS SMISMEMBER SMOVE SPOP SRANDMEMBER SREM
    SSCAN SUNION SUNIONSTORE
    ZADD ZCARD ZCOUNT ZINCRBY ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANGESTORE ZRANK
    ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE
    PFADD PFCOUNT XADD XDEL XLEN XRANGE XREVRANGE XTRIM
    """.split()  # noqa: SIM905 - easier to read
)


class OwnServerError(LabError):
    """The user's own server cannot be used, or did not answer."""


class ChaosRefusedError(LabError):
    """Something was to be done to the user's own server that others could notice; it was not done."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} was refused and nothing was done: this test runs on a server of your own (the setting "
            "remanence_redis_url), which is never broken or emptied. Run it without that setting, or take a private "
            "server from remanence_redis_factory."
        )


class OwnServer:
    """The user's own server, as far as one test may use it; it has the methods of `RedisForTests` and refuses most.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        key_prefix: What every key of the test begins with: one of `new_key_prefix`, or what begins with one.
        clock: Moved by `advance` as well; None for none.
        session_prefix: Another one, of the keys that wider scopes put there: `command` may name them too, but nothing
            here removes them or moves their time. None for none.

    Attributes:
        url: As above; its repr leaves out the password.
        key_prefix: As above.
        clock: As above.
        is_private: False.
        lost: Whether it did not answer when keys were to be removed.

    Raises:
        ConfigurationError: A prefix is not random, so that others may have keys that begin so; or the URL is wrong, and
            the message does not quote it.
    """

    is_private: Final = False

    def __init__(
        self, url: str, *, key_prefix: str, clock: ManualClock | None = None, session_prefix: str | None = None
    ) -> None:
        self.url = SecretUrl(check_url(url))
        self._key_prefix = _checked(key_prefix)
        self.clock = clock
        self.lost = False
        self._removable = _with_copies(key_prefix)
        self._usable = self._removable + (() if session_prefix is None else _with_copies(_checked(session_prefix)))
        try:
            self._client = redis.Redis.from_url(
                url,
                decode_responses=True,
                encoding_errors="surrogateescape",
                retry=Retry(NoBackoff(), 0),
                socket_connect_timeout=_PATIENCE,
                socket_timeout=_PATIENCE,
            )
            self._client.connection_pool.make_connection()  # an option that it does not know fails only here
        except (ValueError, TypeError):
            message = "the Redis URL has a wrong option. Write redis://[user:password@]host:port/db."
            raise ConfigurationError(message) from None
        self._client.response_callbacks.clear()  # replies as the server gives them, as `RedisServer.command` does

    @property
    def key_prefix(self) -> str:
        """As it was given; it cannot be changed, for what begins with it is removed."""
        return self._key_prefix

    @property
    def port(self) -> int | None:
        """Its port; None for a Unix socket."""
        parts = urlsplit(self.url)
        return None if parts.scheme == "unix" else parts.port or 6379

    def check(self) -> None:
        """Make sure that it answers.

        Raises:
            OwnServerError: It does not.
        """
        self._send("PING")

    def command(self, *arguments: str | int) -> Reply:
        """Send it a plain read or write of keys that all begin with a prefix of the test, or a command that only looks.

        Scripts and functions are refused whatever keys they name.

        Raises:
            ChaosRefusedError: The command could touch something else, and was not sent.
            OwnServerError: It does not answer.
            ServerReplyError: It answered with an error.
        """
        name = str(arguments[0]).upper()
        if name not in _HARMLESS:
            keys = self._keys_of(*arguments) if name in _PLAIN else []
            if not keys or not all(key.startswith(self._usable) for key in keys):
                raise ChaosRefusedError(f"The command {name}, which may reach beyond the keys of this test,")
        reply: Reply = self._send(*arguments)
        return reply

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass for those keys of this test that expire, and on `clock`; 0 or more.

        Raises:
            OwnServerError: It does not answer.
            ServerReplyError: It refuses, or is older than Redis 7.
            ValueError: Time would run backwards.
        """
        check_seconds(seconds)
        bring_forward(self._send, self._keys(), seconds)
        if self.clock is not None:
            self.clock.advance(seconds)

    def remove_keys(self) -> int:
        """Remove the keys of this test, conflict copies included, and return how many there were.

        Raises:
            OwnServerError: It does not answer; the message says which keys may be left.
        """
        try:
            keys = self._keys()
            for start in range(0, len(keys), _CHUNK):
                self._send("DEL", *keys[start : start + _CHUNK])
        except LabError as error:
            self.lost = True
            raise OwnServerError(f"{error} Keys with {self.key_prefix} in their names may be left there.") from None
        return len(keys)

    @contextmanager
    def keep_data(self) -> Iterator[None]:
        """Do nothing, for the length of a block: only a private server is emptied between tests."""
        yield

    def close(self) -> None:
        """Close the connection to it; the server goes on."""
        self._client.close()

    def __getattr__(self, name: str) -> NoReturn:
        if not name.startswith("_") and hasattr(RedisForTests, name):
            raise ChaosRefusedError(f"{name} of remanence_redis")
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"<OwnServer {self.url!r} key_prefix={self.key_prefix}>"

    def _keys(self) -> list[str]:
        # Only the server's work is less by the pattern; whose keys they are is decided here.
        pattern = re.sub(r"[][*?\\^]", "?", self.key_prefix)
        return [key for key in scan(self._send, f"*{pattern}*") if key.startswith(self._removable)]

    def _keys_of(self, *arguments: str | int) -> list[str]:
        try:
            return [str(key) for key in self._send("COMMAND", "GETKEYS", *arguments)]
        except ServerReplyError:
            return []

    def _send(self, *arguments: str | int) -> Any:
        try:
            return self._client.execute_command(*arguments)  # type: ignore[no-untyped-call]
        except redis.AuthenticationError as error:
            raise OwnServerError(
                f"Your server at {self._place} refused the user or the password of the URL ({type(error).__name__})."
            ) from None
        except redis.ResponseError as error:
            raise ServerReplyError(str(error)) from None
        except (redis.RedisError, OSError) as error:
            raise OwnServerError(
                f"Your server at {self._place} does not answer ({type(error).__name__}). Start it, or leave out the "
                "setting remanence_redis_url: then tests get a private server."
            ) from None

    @property
    def _place(self) -> str:
        parts = urlsplit(self.url)
        return parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{self.port}"


def _checked(key_prefix: str) -> str:
    if not is_random_prefix(key_prefix):
        message = (
            f"the key prefix {key_prefix!r} was refused and nothing was done: this test runs on a server of your own "
            "(the setting remanence_redis_url), where all keys with the test's prefix are removed afterwards, and keys "
            "that begin so may belong to others. Leave the fixture remanence_key_prefix as it is, add to the end of "
            "what it gives, or run without that setting."
        )
        raise ConfigurationError(message)
    return key_prefix


def _with_copies(key_prefix: str) -> tuple[str, ...]:
    """Return what keys begin with, the conflict copies of a manager with this prefix included."""
    return (key_prefix, f"{CONFLICT_PREFIX}-{key_prefix}", f"{INDEX_PREFIX}-{key_prefix}")
