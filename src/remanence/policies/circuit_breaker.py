"""CircuitBreaker: stop asking a store that fails, and find out with few calls when it is back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar

from remanence.classify import ErrorClass, classify
from remanence.clock import SYSTEM_CLOCK
from remanence.errors import DeadlineExceededError
from remanence.events import CircuitTransition
from remanence.flow import PROCEED, WRITES, Call, Flow
from remanence.policies.base import Context, Decorator, batch_failures
from remanence.policies.breaker_machine import BreakerMachine, BreakerSettings, Permit, Result, State, Transition
from remanence.settings import refuse_unknown

__all__ = ["CircuitBreaker"]

_SETTINGS = {field.name for field in fields(BreakerSettings)}
_CONNECTION = {
    ErrorClass.TRANSIENT: Result.FAILURE,
    ErrorClass.UNAVAILABLE: Result.NEUTRAL,
    ErrorClass.CONFIGURATION: Result.NEUTRAL,
    ErrorClass.WRITES_REFUSED: Result.SUCCESS,
    ErrorClass.CALLER: Result.SUCCESS,
}


class CircuitBreaker(Decorator):
    """Opens when the store keeps failing, and lets single calls probe it until it is back.

    It keeps one breaker for the connection and one for writes alone, which a store that answers reads but refuses
    writes (read-only, out of memory) opens. An object is the breaker of one store: decorate managers of the same store
    with the same object, of another store with another.

    Args:
        rng: For the jitter; None for one of its own.
        **settings: See `BreakerSettings` for each: failures=5, failure_rate=0.5, minimum_calls=10, window=10.0,
            open_for=1.0, open_for_max=30.0, jitter=0.2, half_open_calls=1, permit_lease=5.0.

    Raises:
        ConfigurationError: An unknown setting or a number out of range.
    """

    place: ClassVar[int] = 50

    def __init__(self, *, rng: random.Random | None = None, **settings: Any) -> None:
        refuse_unknown({name: settings[name] for name in settings.keys() - _SETTINGS}, "CircuitBreaker")
        limits, clock = BreakerSettings(**settings), SYSTEM_CLOCK.monotonic
        self._connection = BreakerMachine("the connection", limits, monotonic=clock, rng=rng)
        self._writes = BreakerMachine("writes", limits, monotonic=clock, rng=rng)
        self._context: Context | None = None

    @property
    def state(self) -> State:
        """State of the connection's breaker."""
        return self._connection.state

    @property
    def write_state(self) -> State:
        """State of the writes' breaker."""
        return self._writes.state

    @property
    def retry_after(self) -> float:
        """Seconds until a write can be tried, 0.0 when it can now."""
        return max(self._connection.retry_after, self._writes.retry_after)

    def force_open(self) -> None:
        """Let nothing through until `reset`; an operator's switch."""
        self._each(BreakerMachine.force_open)

    def disable(self) -> None:
        """Let everything through until `reset`."""
        self._each(BreakerMachine.disable)

    def reset(self) -> None:
        """Close both breakers and forget what happened."""
        self._each(BreakerMachine.reset)

    def reset_locks(self) -> None:
        """Take fresh locks; for a child process after fork."""
        self._connection.reset_locks()
        self._writes.reset_locks()

    def bind(self, context: Context) -> Callable[[Call], Flow]:
        """Return the flow around every call of one manager."""
        if self._context is None:
            # From now on the manager's time; none has been noted before, as nothing has been called.
            self._connection.monotonic = self._writes.monotonic = context.clock.monotonic
        self._context = context
        return _Bound(context, self._connection, self._writes).flow

    def _each(self, method: Callable[[BreakerMachine], Transition | None]) -> None:
        context = self._context or Context()
        for transition in (method(self._connection), method(self._writes)):
            _tell(context, transition)


class _Bound:
    """One manager's calls through the breakers."""

    def __init__(self, context: Context, connection: BreakerMachine, writes: BreakerMachine) -> None:
        self._context = context
        self._connection = connection
        self._writes = writes

    def flow(self, call: Call) -> Flow:
        permits = self._acquire(call)
        call.admitted = partial(self._connection.check, permits[0])
        try:
            result = yield PROCEED
        except BaseException as error:
            self._settle(permits, *_judge(error))
            raise
        failures = batch_failures(result) if call.items else None
        if failures:
            self._settle(permits, *_worst(failures, answered=len(failures) < len(result)))
        else:
            self._settle(permits, Result.SUCCESS, Result.SUCCESS)
        return result

    def _acquire(self, call: Call) -> list[Permit]:
        connection, transition = self._connection.acquire()
        if call.operation not in WRITES:
            _tell(self._context, transition)
            return [connection]
        try:
            writes, of_writes = self._writes.acquire()
        except BaseException:
            self._connection.settle(connection, Result.NEUTRAL)
            _tell(self._context, transition)
            raise
        _tell(self._context, transition)
        _tell(self._context, of_writes)
        return [connection, writes]

    def _settle(self, permits: list[Permit], connection: Result, writes: Result) -> None:
        # Both are settled before anyone is told: a listener may call, and needs no permit that is still held here.
        transition = self._connection.settle(permits[0], connection)
        of_writes = self._writes.settle(permits[1], writes) if len(permits) > 1 else None
        _tell(self._context, transition)
        _tell(self._context, of_writes)


def _judge(error: BaseException) -> tuple[Result, Result]:
    """What a failure says about the connection and about writes."""
    if not isinstance(error, Exception):
        return Result.NEUTRAL, Result.NEUTRAL
    if isinstance(error, DeadlineExceededError):
        return Result.FAILURE, Result.NEUTRAL
    kind = classify(error)
    if kind is ErrorClass.WRITES_REFUSED:
        return Result.SUCCESS, Result.FAILURE
    return _CONNECTION[kind], Result.NEUTRAL


def _worst(failures: list[Exception], *, answered: bool) -> tuple[Result, Result]:
    """What a batch says by its failed items; `answered` if there were others."""
    judged = [_judge(error) for error in failures]
    said = {result for result, _ in judged}
    connection = (
        Result.FAILURE
        if Result.FAILURE in said
        else Result.SUCCESS
        if answered or Result.SUCCESS in said
        else Result.NEUTRAL
    )
    writes = Result.FAILURE if any(w is Result.FAILURE for _, w in judged) else Result.NEUTRAL
    return connection, writes


def _tell(context: Context, transition: Transition | None) -> None:
    if transition is not None:
        context.tell(CircuitTransition(transition.name, transition.before.value, transition.after.value))
