"""One attempt towards Redis, as a flow: its time for the sockets, and afterwards whether it may still be applied."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

from remanence.errors import RemanenceError
from remanence.flow import Call, Flow
from remanence.managers.operate import operate
from remanence.managers.redis_backend import RedisBackend
from remanence.managers.redis_connection import ATTEMPT, Attempt

__all__ = ["attempt_flow"]


def attempt_flow(
    backend: RedisBackend, call: Call, *, timeout: float, may_have_sent: Callable[[BaseException], bool]
) -> Flow:
    """Return the flow that carries `call` out in one attempt; it yields the commands of `RedisBackend`.

    Args:
        backend: How the operations reach Redis.
        call: What to do; a write that fails and may still be applied gets its `unsettled_until`.
        timeout: Seconds that the attempt may take, the call's own deadline aside.
        may_have_sent: Whether a failure may have left a command under way, for connections that do not tell.
    """
    deadline = backend.clock.monotonic() + timeout
    if call.deadline is not None and call.deadline < deadline:
        deadline = call.deadline
    attempt = Attempt(deadline, backend.server_time, call.admitted)
    token = ATTEMPT.set(attempt)
    try:
        return (yield from operate(backend, call))
    except (ResponseError, RemanenceError):
        raise  # the server has answered: nothing is left under way
    except BaseException as error:
        if call.writes and not _was_answered(call, error) and (attempt.sent or may_have_sent(error)):
            call.unsettled_until = max(call.unsettled_until, deadline)
        if isinstance(error, RedisError):
            backend.server_time.forget()
        raise
    finally:
        with suppress(ValueError):  # of a task that never ends: the collector closes it, in a context of its own
            ATTEMPT.reset(token)


def _was_answered(call: Call, error: BaseException) -> bool:
    """Whether the server itself said no; of a batch it has then refused one command, and may carry out the next."""
    return isinstance(error, BusyLoadingError | AuthenticationError) and not call.items
