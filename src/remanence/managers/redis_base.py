"""What the Redis managers have in common, awaited or not: their settings, and what they are in a decorator's terms."""

from __future__ import annotations

import logging
import os
from typing import Any, Final

import redis

from remanence.clock import SYSTEM_CLOCK, Clock
from remanence.errors import ConfigurationError
from remanence.managers.redis_backend import RedisBackend
from remanence.managers.urls import DEFAULT_URL, check_url
from remanence.settings import key_part, positive, refuse_unknown, whole

__all__ = ["RedisManager", "wrong_option"]

_log = logging.getLogger("remanence")

DEFAULT_TTL: Final = 60 * 60 * 12
MAX_MEMORY_BYTES: Final = 8 * 1024 * 1024


_NOT_CONNECTED: Final = (" connecting to ", "Too many connections", "No connection available")
"""What redis-py says when it could not connect, and when its pools are exhausted."""


class RedisManager:
    """See `RedisWorkingMemoryManager`."""

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
        storage_url, key_prefix = _other_spellings(storage_url, key_prefix, other, type(self).__name__)
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
            self.redis_client = self._connect(
                check_url(storage_url or _url_from_environment()), connect_timeout, timeout
            )
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

    def _connect(self, url: str, connect_timeout: float, timeout: float) -> Any:
        """Return the client for a URL.

        Raises:
            ConfigurationError: An option in it is wrong.
        """
        raise NotImplementedError

    def _may_have_sent(self, error: BaseException) -> bool:
        """Connections that are not ours do not tell; only without a connection it is certain that nothing was sent."""
        if self._owns_client:
            return False
        return not (isinstance(error, redis.RedisError) and any(sign in str(error) for sign in _NOT_CONNECTED))


def wrong_option(error: Exception) -> ConfigurationError:
    """Return what to raise for a URL that redis-py cannot use; its own message may quote the password."""
    return ConfigurationError(
        f"the Redis URL has a wrong option ({type(error).__name__}). Write redis://[user:password@]host:port/db."
    )


def _url_from_environment() -> str:
    url = os.environ.get("REDIS_URL")
    if url:
        return url
    _log.warning("REDIS_URL is not set and no URL was given: using %s", DEFAULT_URL)
    return DEFAULT_URL


def _other_spellings(
    storage_url: str | None, key_prefix: str, other: dict[str, Any], name: str
) -> tuple[str | None, str]:
    if "redis_url" in other:
        if storage_url is not None:
            message = "both storage_url and redis_url are given: pass one of them."
            raise ConfigurationError(message)
        storage_url = other.pop("redis_url")
    if "prefix" in other:
        key_prefix = other.pop("prefix")
    refuse_unknown(other, name)
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
