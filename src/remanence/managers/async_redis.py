"""The reference manager on Redis for asyncio."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, Self

import redis
import redis.asyncio
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from remanence.flow import Call, Flow
from remanence.managers.async_redis_client import CONNECTIONS, AsyncClient
from remanence.managers.async_redis_connection import async_bounded_class
from remanence.managers.redis_attempt import attempt_flow
from remanence.managers.redis_backend import Pipeline
from remanence.managers.redis_base import RedisManager, wrong_option
from remanence.managers.redis_connection import ATTEMPT
from remanence.operations import AsyncOperations

try:
    from redis.maint_notifications import MaintNotificationsConfig
except ImportError:  # redis-py before 6.5 has none
    MaintNotificationsConfig = None  # type: ignore[assignment,misc]

__all__ = ["AsyncRedisWorkingMemoryManager"]


class AsyncRedisWorkingMemoryManager(RedisManager, AsyncOperations):
    """Memories in Redis, for asyncio; settings as for `RedisWorkingMemoryManager`.

    Any number of event loops may use one, each over connections of its own: at most 50, or the URL's
    `max_connections`. `client` is a `redis.asyncio` client here, and belongs to one loop.
    """

    bounds_time = True
    """An attempt ends when its time is up, whoever's client it is: awaiting ends."""

    async def perform(self, call: Call) -> Any:
        """Carry out `call` in one attempt; for the decorators.

        Raises:
            redis.exceptions.RedisError: As redis-py raised it.
        """
        flow = attempt_flow(self.backend, call, timeout=self.timeout, may_have_sent=self._may_have_sent)
        return await self._drive(flow)

    _submit = perform

    async def aclose(self) -> None:
        """Close the connections that the manager opened; one that was handed in stays open."""
        if self._owns_client:
            await self.redis_client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _connect(self, url: str, connect_timeout: float, timeout: float) -> Any:  # noqa: ARG002 - `perform` keeps it
        options: dict[str, Any] = {
            "socket_connect_timeout": connect_timeout,
            "socket_timeout": None,
            # redis-py would resend a command whose reply was lost, whether or not it was applied.
            "retry": Retry(NoBackoff(), 0),
        }
        takes = inspect.signature(AbstractConnection.__init__).parameters
        if MaintNotificationsConfig is not None and "maint_notifications_config" in takes:
            options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
        try:
            pool = redis.asyncio.ConnectionPool.from_url(url, **options)
            pool.connection_class = async_bounded_class(url)
            # A connection object, not a connection: an option that it does not know would fail the first call.
            pool.make_connection()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError) as error:
            raise wrong_option(error) from None
        limit = pool.max_connections if "max_connections" in url else CONNECTIONS
        return AsyncClient(pool, max_connections=limit)

    async def _drive(self, flow: Flow) -> Any:
        client, clock = self.redis_client, self.clock
        try:
            step = next(flow)
            attempt = ATTEMPT.get()
            while True:
                left = self.timeout if attempt is None else attempt.deadline - clock.monotonic()
                try:
                    result = await _within(left, _run_pipeline if type(step) is Pipeline else _call, client, step)
                except BaseException as error:  # noqa: BLE001 - handed to the flow, which decides
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as stop:
            return stop.value


async def _within(seconds: float, perform: Any, client: Any, step: Any) -> Any:
    """Await for so long; what was under way is then cut off."""
    if seconds <= 0:
        message = "no time left for this attempt"
        raise redis.TimeoutError(message)
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            return await perform(client, step)
    except TimeoutError:
        if scope.expired():
            message = "the server did not answer in time"
            raise redis.TimeoutError(message) from None
        raise


async def _call(client: Any, step: tuple[Any, ...]) -> Any:
    name, *args = step
    if name == "execute_command":
        return await client.execute_command(*args)
    # redis-py warns about its method setex; the command is as good as ever.
    if isinstance(client, AsyncClient) or name == "setex":
        if name == "scan":
            cursor, pattern, count = args
            args = [cursor, "MATCH", pattern, "COUNT", count]
        return await client.execute_command("DEL" if name == "delete" else name.upper(), *args)
    return await getattr(client, name)(*args)


async def _run_pipeline(client: Any, step: Pipeline) -> list[Any]:
    if isinstance(client, AsyncClient):
        return await client.execute_many(step.commands)
    async with client.pipeline(transaction=False) as pipe:
        for command in step.commands:
            pipe.execute_command(*command)
        # Errors are returned, not raised: redis-py's message for a pipeline quotes the key and the value.
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies
