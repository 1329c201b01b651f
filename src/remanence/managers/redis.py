"""The reference manager on Redis, done right: drop-in and byte-compatible."""

from __future__ import annotations

import logging
import os
from typing import Any, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from remanence.clock import SYSTEM_CLOCK, Clock
from remanence.errors import ConfigurationError
from remanence.flow import Call, Flow
from remanence.managers.redis_attempt import attempt_flow
from remanence.managers.redis_backend import Pipeline, RedisBackend
from remanence.managers.redis_client import bounded_client
from remanence.managers.redis_connection import bounded_class
from remanence.managers.urls import DEFAULT_URL, check_url
from remanence.operations import Operations
from remanence.settings import key_part, positive, refuse_unknown, whole

try:
    from redis.maint_notifications import MaintNotificationsConfig
except ImportError:  # redis-py before 6.5 has none
    MaintNotificationsConfig = None  # type: ignore[assignment,misc]

__all__ = ["RedisWorkingMemoryManager"]

_log = logging.getLogger("remanence")

DEFAULT_TTL: Final = 60 * 60 * 12
MAX_MEMORY_BYTES: Final = 8 * 1024 * 1024


_NOT_CONNECTED: Final = (" connecting to ", "Too many connections", "No connection available")
"""What redis-py says when it could not connect, and when its pools are exhausted."""


class RedisWorkingMemoryManager(Operations):
    """Memories in Redis, one key per conversation and kind.

    Bare, redis-py's exceptions come through unchanged; `resilient()` and the decorators add everything else. A
    subclass that sets only `redis_client`, `prefix` and `ttl` works.

    Args:
        storage_url: `redis://`, `rediss://` or `unix://`; None: the environment's REDIS_URL, else localhost with a
            warning.
        client: Any redis-py client instead of a URL; the manager does not close it. If it retries by itself, the time
            limits are best effort.
        ttl: Seconds that a memory lives after its last write, more than 0; None for ever. Default 12 hours, the
            framework's.
        key_prefix: First part of the keys.
        connect_timeout: Seconds that connecting may take, of `timeout`.
        timeout: Seconds that one attempt may take in all, connecting included.
        max_memory_bytes: Limit of an encoded record.
        clock: For tests.
        redis_url, prefix: The documentation's other spellings of `storage_url` and `key_prefix`.

    Raises:
        ConfigurationError: A wrong URL, an unknown keyword, a number out of range.
    """

    # Class-wide defaults, for subclasses that do not call our constructor.
    prefix: str = "memory"
    ttl: float | None = DEFAULT_TTL
    max_memory_bytes: int = MAX_MEMORY_BYTES
    timeout: float = 1.0
    clock: Clock = SYSTEM_CLOCK
    guards_plain_writes = False
    redis_client: Any
    _backend: RedisBackend | None = None
    _owns_client = False

    def __init__(
        self,
        storage_url: str | None = None,
        *,
        client: Any = None,
        ttl: float | None = DEFAULT_TTL,
        key_prefix: str = "memory",
        connect_timeout: float = 1.0,
        timeout: float = 1.0,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
        clock: Clock = SYSTEM_CLOCK,
        **other: Any,
    ) -> None:
        storage_url, key_prefix = _other_spellings(storage_url, key_prefix, other)
        self.ttl = positive("ttl", ttl, optional=True)
        self.timeout = positive("timeout", timeout)
        self.max_memory_bytes = whole("max_memory_bytes", max_memory_bytes)
        self.prefix = key_part("key_prefix", key_prefix)
        self.clock = clock
        positive("connect_timeout", connect_timeout)
        if client is not None:
            if storage_url is not None:
                message = "both a URL and client= are given: pass one of them."
                raise ConfigurationError(message)
            self.redis_client = client
            _report_retries(client)
        else:
            self.redis_client = _connect(check_url(storage_url or _url_from_environment()), connect_timeout, timeout)
            self._owns_client = True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} ttl={self.ttl}>"

    @property
    def bounds_time(self) -> bool:
        """Whether an attempt ends when its time is up; a client that was handed in has timeouts of its own."""
        return self._owns_client

    @property
    def store_id(self) -> str:
        """Which store this is: address, database and prefix, no credentials."""
        options = getattr(getattr(self.redis_client, "connection_pool", None), "connection_kwargs", None)
        if not isinstance(options, dict):  # a cluster, or a double in a unit test
            return f"redis#{self.prefix}"
        address = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        return f"{address}/{options.get('db') or 0}#{self.prefix}"

    @property
    def backend(self) -> RedisBackend:
        """How the operations reach Redis; for the decorators."""
        if self._backend is None:
            self._backend = RedisBackend(prefix=self.prefix, max_memory_bytes=self.max_memory_bytes, clock=self.clock)
        return self._backend

    def perform(self, call: Call) -> Any:
        """Carry out `call` in one attempt; for the decorators.

        Raises:
            redis.exceptions.RedisError: As redis-py raised it.
        """
        flow = attempt_flow(self.backend, call, timeout=self.timeout, may_have_sent=self._may_have_sent)
        return self._drive(flow)

    _submit = perform

    def close(self) -> None:
        """Close the connections that the manager opened; one that was handed in stays open."""
        if self._owns_client:
            self.redis_client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _drive(self, flow: Flow) -> Any:
        client = self.redis_client
        try:
            step = next(flow)
            while True:
                try:
                    result = _run_pipeline(client, step) if type(step) is Pipeline else _call(client, step)
                except BaseException as error:  # noqa: BLE001 - handed to the flow, which decides
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as stop:
            return stop.value

    def _may_have_sent(self, error: BaseException) -> bool:
        """Connections that are not ours do not tell; only without a connection it is certain that nothing was sent."""
        if self._owns_client:
            return False
        return not (isinstance(error, redis.RedisError) and any(sign in str(error) for sign in _NOT_CONNECTED))


def _call(client: Any, step: tuple[Any, ...]) -> Any:
    if step[0] == "execute_command":
        return client.execute_command(*step[1:])
    if step[0] == "get" and hasattr(type(client), "execute_many"):
        return client.execute_command("GET", step[1])
    # redis-py warns about its method setex; the command is as good as ever, and doubles in unit tests know the method.
    if step[0] == "setex" and issubclass(type(client), (redis.Redis, redis.RedisCluster)):
        return client.execute_command("SETEX", *step[1:])
    return getattr(client, step[0])(*step[1:])


def _run_pipeline(client: Any, step: Pipeline) -> list[Any]:
    if hasattr(type(client), "execute_many"):
        return client.execute_many(step.commands)  # type: ignore[no-any-return]
    with client.pipeline(transaction=False) as pipe:
        for command in step.commands:
            pipe.execute_command(*command)
        # Errors are returned, not raised: redis-py's message for a pipeline quotes the key and the value.
        replies: list[Any] = pipe.execute(raise_on_error=False)
        return replies


def _connect(url: str, connect_timeout: float, timeout: float) -> Any:
    options: dict[str, Any] = {
        "socket_connect_timeout": connect_timeout,
        "socket_timeout": timeout,
        # redis-py would resend a command whose reply was lost, whether or not it was applied.
        "retry": Retry(NoBackoff(), 0),
    }
    if MaintNotificationsConfig is not None:
        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    try:
        client = redis.from_url(url, **options)
        if issubclass(type(client), redis.Redis):  # no double of a unit test
            # A connection object, not a connection: an option that it does not know would fail the first call.
            bounded_class(url)(**client.connection_pool.connection_kwargs)
    except (ValueError, TypeError) as error:
        message = (
            f"the Redis URL has a wrong option ({type(error).__name__}). Write redis://[user:password@]host:port/db."
        )
        raise ConfigurationError(message) from None
    return bounded_client(client, url)


def _url_from_environment() -> str:
    url = os.environ.get("REDIS_URL")
    if url:
        return url
    _log.warning("REDIS_URL is not set and no URL was given: using %s", DEFAULT_URL)
    return DEFAULT_URL


def _other_spellings(storage_url: str | None, key_prefix: str, other: dict[str, Any]) -> tuple[str | None, str]:
    if "redis_url" in other:
        if storage_url is not None:
            message = "both storage_url and redis_url are given: pass one of them."
            raise ConfigurationError(message)
        storage_url = other.pop("redis_url")
    if "prefix" in other:
        key_prefix = other.pop("prefix")
    refuse_unknown(other, "RedisWorkingMemoryManager")
    return storage_url, key_prefix


def _report_retries(client: Any) -> None:
    retry: Any = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {}).get("retry")
    # Private, because get_retries() came with redis-py 6.
    retries = getattr(retry, "_retries", 0)
    if isinstance(retries, int) and retries:  # no number: a double in a unit test
        _log.warning(
            "the Redis client that was handed in retries %d times by itself: time limits are best effort, and attempts "
            "multiply. Give it retry=Retry(NoBackoff(), 0).",
            retries,
        )
