"""Faults: which attempts go wrong, and how.

A fault stands for what a store and its network do. What the policies can know afterwards is therefore what they know
of a real store: a write that may have been applied says so in `Call.unsettled_until`, as the Redis managers' do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Protocol

import redis.exceptions

from remanence.clock import Clock
from remanence.errors import ConfigurationError, VersionConflictError
from remanence.flow import WRITES, Call, Flow, Sleep
from remanence.settings import fraction, positive, whole

__all__ = [
    "OPERATIONS",
    "Delay",
    "Failure",
    "Fault",
    "Fired",
    "Hang",
    "InjectedConnectionError",
    "InjectedTimeoutError",
    "LostReply",
]

OPERATIONS: Final = WRITES | {"retrieve", "retrieve_many", "kept", "identify"}
"""What reaches a store. `mutate` does so as "retrieve" and then "store" or "update"; a replay as "reconcile"."""

ErrorLike = Exception | type[Exception]


class InjectedConnectionError(redis.exceptions.ConnectionError, ConnectionError):
    """The store cannot be reached, or went away; redis-py's error and Python's own, so that either is caught."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or ("injected: no connection to the store",)))


class InjectedTimeoutError(redis.exceptions.TimeoutError, TimeoutError):
    """The store did not answer in time; redis-py's error and Python's own, so that either is caught."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or ("injected: the store did not answer in time",)))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that a fault is for.

    Attributes:
        call: What is attempted.
        clock: The manager's.
        timeout: Seconds after which the attempt counts as given up, where the call has no deadline before.
        fire: To be called when the fault does its work.
    """

    call: Call
    clock: Clock
    timeout: float
    fire: Callable[[], None]

    def may_be_applied(self, until: float) -> None:
        """Tell the policies, as a manager does, until when a write may still be applied."""
        if self.call.writes:
            self.call.unsettled_until = max(self.call.unsettled_until, until)

    def wait(self, seconds: float) -> Flow:
        """Wait for the store with a write under way: who ends the wait cannot know what becomes of it."""
        until = self.clock.monotonic() + seconds
        try:
            yield Sleep(max(seconds, 0.0))
        except BaseException:
            self.may_be_applied(until)
            raise


class Effect(Protocol):
    """What becomes of an attempt."""

    def around(self, attempt: Attempt, inside: Flow) -> Flow:
        """Return the flow that goes wrong; `inside` reaches the store."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """Raises before the store is reached: nothing is applied, and that is certain.

    Args:
        error: An exception or its class; default: no connection.

    Raises:
        ConfigurationError: `error` is neither, or its class wants arguments.
    """

    error: ErrorLike = InjectedConnectionError

    def __post_init__(self) -> None:
        _check_error(self.error)

    def __repr__(self) -> str:
        return _repr(self, self.error)

    def around(self, attempt: Attempt, inside: Flow) -> Flow:  # noqa: ARG002 - one shape for all
        """Fail."""
        attempt.fire()
        attempt.call.attempts += 1  # the store's own code would have counted it
        raise _new(self.error)
        yield


@dataclass(frozen=True, slots=True)
class LostReply:
    """Raises after the store has done its work: it is applied, but nobody can know.

    An attempt that fails by itself keeps its own error, for there is no answer to lose.

    Args:
        error: An exception or its class; default: the connection went away.

    Raises:
        ConfigurationError: `error` is neither, or its class wants arguments.
    """

    error: ErrorLike = InjectedConnectionError

    def __post_init__(self) -> None:
        _check_error(self.error)

    def __repr__(self) -> str:
        return _repr(self, self.error)

    def around(self, attempt: Attempt, inside: Flow) -> Flow:
        """Have it done, and lose the answer."""
        call, begun = attempt.call, attempt.clock.monotonic()
        before = [(each, each.deleted) for each in (call, *call.items) if isinstance(each, Call)]
        with suppress(VersionConflictError):  # a refusal is an answer too
            yield from inside
        attempt.fire()
        for each, deleted in before:
            each.deleted = deleted  # only an answer could have told
        until = begun + attempt.timeout
        attempt.may_be_applied(until if call.deadline is None else min(until, call.deadline))
        raise _new(self.error)


@dataclass(frozen=True, slots=True)
class Delay:
    """Lets the store be reached only after a while; beyond the call's deadline it is not reached at all.

    Args:
        seconds: By the manager's clock, more than 0.

    Raises:
        ConfigurationError: `seconds` is out of range.
    """

    seconds: float

    def __post_init__(self) -> None:
        positive("seconds", self.seconds)

    def around(self, attempt: Attempt, inside: Flow) -> Flow:
        """Wait, then go on."""
        deadline = attempt.call.deadline
        if deadline is not None and attempt.clock.monotonic() + self.seconds >= deadline:
            return (yield from Hang().around(attempt, inside))
        attempt.fire()
        yield from attempt.wait(self.seconds)
        return (yield from inside)


@dataclass(frozen=True, slots=True)
class Hang:
    """Answers nothing until the call's deadline, or where there is none until the attempt's `timeout`.

    Nothing is applied, but the policies cannot know.
    """

    def around(self, attempt: Attempt, inside: Flow) -> Flow:  # noqa: ARG002 - one shape for all
        """Wait until the time is up."""
        call, now = attempt.call, attempt.clock.monotonic()
        end = now + attempt.timeout if call.deadline is None else call.deadline
        attempt.fire()
        call.attempts += 1
        yield from attempt.wait(end - now)
        attempt.may_be_applied(end)
        raise InjectedTimeoutError


@dataclass(frozen=True, slots=True)
class Fault:
    """Which attempts go wrong, and how.

    Every attempt that fits `on` and `conversation_id` is counted from 1, and each repetition by `Retry` is an attempt.
    Without `nth` and `times` all of them go wrong.

    Args:
        on: The operation, one of `OPERATIONS`; None for any.
        nth: The first that goes wrong; the only one unless `times` is given.
        times: How many go wrong; without `nth` the first ones.
        rate: Probability for each of those, above 0 to 1.
        conversation_id: Only attempts about this conversation, alone or in a batch; None for any.
        then: What happens: `Failure`, `LostReply`, `Delay` or `Hang`.

    Raises:
        ConfigurationError: There is no such operation, a number is out of range, or `then` is none of these.
    """

    on: str | None = None
    _: KW_ONLY
    nth: int | None = None
    times: int | None = None
    rate: float = 1.0
    conversation_id: str | None = field(default=None, repr=False)
    then: Effect = field(default_factory=Failure)

    def __post_init__(self) -> None:
        on: Any = self.on
        if on is not None and (not isinstance(on, str) or on not in OPERATIONS):
            hint = " A mutate reaches the store as a retrieve and a store or update." if on == "mutate" else ""
            message = f"on={on!r} is no operation that reaches a store: {', '.join(sorted(OPERATIONS))}.{hint}"
            raise ConfigurationError(message)
        whole("nth", self.nth, optional=True)
        whole("times", self.times, optional=True)
        positive("rate", fraction("rate", self.rate))
        about: Any = self.conversation_id
        if about is not None and not isinstance(about, str):
            message = f"conversation_id must be a text or None, not of type {type(about).__name__}."
            raise ConfigurationError(message)
        if isinstance(self.then, type) or not callable(getattr(self.then, "around", None)):
            message = f"then={self.then!r} is no effect: pass Failure(), LostReply(), Delay(seconds) or Hang()."
            raise ConfigurationError(message)

    def __repr__(self) -> str:
        said = [
            "" if self.on is None else f"on={self.on!r}",
            "" if self.nth is None else f"nth={self.nth}",
            "" if self.times is None else f"times={self.times}",
            "" if self.rate == 1 else f"rate={self.rate}",
            "" if self.conversation_id is None else "conversation_id=...",
            f"then={self.then!r}",
        ]
        return f"Fault({', '.join(part for part in said if part)})"


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault that did its work.

    Attributes:
        fault: Which.
        operation: On what.
        count: The how manieth of those that fit it this was.
    """

    fault: Fault
    operation: str
    count: int


def _check_error(error: Any) -> None:
    if isinstance(error, Exception):
        return
    if isinstance(error, type) and issubclass(error, Exception):
        try:
            error()
        except TypeError:
            message = f"{error.__name__} cannot be made without arguments: pass an instance."
            raise ConfigurationError(message) from None
        return
    message = f"error must be an exception or its class, not {type(error).__name__}."
    raise ConfigurationError(message)


def _repr(effect: object, error: ErrorLike) -> str:
    kind = error if isinstance(error, type) else type(error)  # not its message, which may quote anything
    return f"{type(effect).__name__}({'' if error is InjectedConnectionError else kind.__name__})"


def _new(error: ErrorLike) -> Exception:
    # One object raised many times would drag the frames of all those calls along.
    return error.with_traceback(None) if isinstance(error, Exception) else error()
