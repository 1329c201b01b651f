"""The reference manager on Redis, done right: drop-in and byte-compatible."""

from __future__ import annotations

from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from remanence.flow import Call, Flow
from remanence.managers.redis_attempt import attempt_flow
from remanence.managers.redis_backend import Pipeline
from remanence.managers.redis_base import RedisManager, wrong_option
from remanence.managers.redis_client import bounded_client
from remanence.managers.redis_connection import bounded_class
from remanence.operations import Operations

try:
    from redis.maint_notifications import MaintNotificationsConfig
except ImportError:  # redis-py before 6.5 has none
    MaintNotificationsConfig = None  # type: ignore[assignment,misc]

__all__ = ["RedisWorkingMemoryManager"]


class RedisWorkingMemoryManager(RedisManager, Operations):
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

    def _connect(self, url: str, connect_timeout: float, timeout: float) -> Any:
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
            raise wrong_option(error) from None
        return bounded_client(client, url)

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
