"""A server of the user's own: only keys of the test's own are touched there, and nothing is broken."""

from __future__ import annotations

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
from remanence.testing.server import RedisForTests
from remanence.testing.urls import SecretUrl

__all__ = ["ChaosRefusedError", "OwnServer", "OwnServerError"]

_PATIENCE: Final = 5.0
_CHUNK: Final = 500
# They name no keys and change nothing.
_HARMLESS: Final = frozenset({"DBSIZE", "ECHO", "INFO", "PING", "SCAN", "TIME"})


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
        key_prefix: What every key of the test begins with; long and random, since `remove_keys` removes by it.
        clock: Moved by `advance` as well; None for none.

    Attributes:
        url: As above; its repr leaves out the password.
        key_prefix: As above.
        clock: As above.
        is_private: False.
        lost: Whether it did not answer when keys were to be removed.

    Raises:
        ConfigurationError: The URL is wrong; the message does not quote it.
    """

    is_private: Final = False

    def __init__(self, url: str, *, key_prefix: str, clock: ManualClock | None = None) -> None:
        self.url = SecretUrl(check_url(url))
        self.key_prefix = key_prefix
        self.clock = clock
        self.lost = False
        # Those of the conflict copies of a manager with this prefix, too.
        self._prefixes = (key_prefix, f"{CONFLICT_PREFIX}-{key_prefix}", f"{INDEX_PREFIX}-{key_prefix}")
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
        """Send it one command whose keys all begin with `key_prefix`, or one that only looks.

        Raises:
            ChaosRefusedError: The command could touch something else, and was not sent.
            OwnServerError: It does not answer.
            ServerReplyError: It answered with an error.
        """
        name = str(arguments[0]).upper()
        if name not in _HARMLESS:
            try:
                keys = self._send("COMMAND", "GETKEYS", *arguments)
            except ServerReplyError:
                keys = None
            if not keys or not all(str(key).startswith(self._prefixes) for key in keys):
                raise ChaosRefusedError(f"The command {name}, beyond the keys of this test,")
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
        return [key for key in scan(self._send, f"*{self.key_prefix}*") if key.startswith(self._prefixes)]

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
