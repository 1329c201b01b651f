"""The circuit breaker's states, without calls or I/O: closed, open, half-open.

The lock guards memory only; who settles a permit learns of the transition and tells the listeners afterwards.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from remanence.errors import CircuitOpenError, ConfigurationError
from remanence.settings import fraction, positive

__all__ = ["BreakerMachine", "BreakerSettings", "Permit", "Result", "State", "Transition"]

_SLICES = 10


class State(Enum):
    """A breaker's state; DISABLED lets everything through and learns nothing, FORCED_OPEN nothing."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


class Result(Enum):
    """What a call says about its target; NEUTRAL says nothing (a cancellation, the caller's own mistake)."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state."""

    name: str
    before: State
    after: State


class Permit:
    """The right to make one call, settled once; belongs to one generation of the breaker's state."""

    __slots__ = ("expires", "generation")

    def __init__(self, generation: int, expires: float) -> None:
        self.generation = generation
        self.expires = expires


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When a breaker opens, and how it closes.

    Args:
        failures: Consecutive failures that open it.
        failure_rate: Share of failures that opens it, above 0 up to 1, once there were `minimum_calls` in the window.
        minimum_calls: Calls in the window before the rate counts.
        window: Seconds over which the rate is taken.
        open_for: Seconds that it stays open at first; doubled after each failed probe.
        open_for_max: Limit of that.
        jitter: Share by which the open time varies, so that processes do not probe together; 0 to 1.
        half_open_calls: Calls let through at a time when half-open; as many successes close it.
        permit_lease: Seconds after which a probe that has not come back is given up.
    """

    failures: int = 5
    failure_rate: float = 0.5
    minimum_calls: int = 10
    window: float = 10.0
    open_for: float = 1.0
    open_for_max: float = 30.0
    jitter: float = 0.2
    half_open_calls: int = 1
    permit_lease: float = 5.0

    def __post_init__(self) -> None:
        for name in (
            "failures",
            "minimum_calls",
            "window",
            "open_for",
            "open_for_max",
            "half_open_calls",
            "permit_lease",
        ):
            positive(name, getattr(self, name))
        for name in ("failures", "minimum_calls", "half_open_calls"):
            if getattr(self, name) % 1:
                message = f"{name} counts calls: it must be a whole number, not {getattr(self, name)!r}."
                raise ConfigurationError(message)
        fraction("failure_rate", positive("failure_rate", self.failure_rate))
        fraction("jitter", self.jitter)


class BreakerMachine:
    """One target's breaker.

    Args:
        name: Of the target, for errors and transitions.
        settings: See `BreakerSettings`.
        monotonic: The clock; may be replaced before the first permit.
        rng: For the jitter.
    """

    def __init__(
        self, name: str, settings: BreakerSettings, *, monotonic: Callable[[], float], rng: random.Random | None = None
    ) -> None:
        self.name = name
        self._settings = settings
        self.monotonic = monotonic
        self._rng = rng or random.Random()
        self._lock = threading.Lock()
        self._state = State.CLOSED
        self._generation = 0
        self._consecutive = 0
        self._window = _Window(settings.window)
        self._opened_times = 0
        self._open_until = 0.0
        self._probes: set[Permit] = set()
        self._probe_successes = 0
        # One permit for all calls of a closed generation; None when each needs one of its own.
        self._open_door: Permit | None = Permit(0, 0.0)

    def reset_locks(self) -> None:
        """Take a fresh lock; for a child process after fork, whose parent may have held the old one."""
        self._lock = threading.Lock()

    @property
    def state(self) -> State:
        """The state now; an open breaker stays open until somebody asks for a permit after its time."""
        return self._state

    @property
    def retry_after(self) -> float:
        """Seconds until a permit can be had, 0.0 when one can."""
        with self._lock:
            return self._retry_after(self.monotonic())

    def acquire(self) -> tuple[Permit, Transition | None]:
        """Return a permit, and the transition that granting it made.

        Raises:
            CircuitOpenError: No call may be made now.
        """
        permit = self._open_door
        if permit is not None:
            return permit, None
        with self._lock:
            if self._state is State.CLOSED or self._state is State.DISABLED:
                return Permit(self._generation, 0.0), None
            now = self.monotonic()
            transition = None
            if self._state is State.OPEN and now >= self._open_until:
                transition = self._move(State.HALF_OPEN)
            if self._state is State.HALF_OPEN:
                self._probes = {probe for probe in self._probes if probe.expires > now}
                if len(self._probes) + self._probe_successes < self._settings.half_open_calls:
                    permit = Permit(self._generation, now + self._settings.permit_lease)
                    self._probes.add(permit)
                    return permit, transition
            raise CircuitOpenError(self.name, self._retry_after(now))

    def check(self, permit: Permit) -> None:
        """Refuse a call that has waited since it got its permit, and need not be tried any more.

        Raises:
            CircuitOpenError: The breaker has opened meanwhile.
        """
        if permit is self._open_door:
            return
        with self._lock:
            if permit.generation != self._generation and self._state not in {State.CLOSED, State.DISABLED}:
                raise CircuitOpenError(self.name, self._retry_after(self.monotonic()))

    def settle(self, permit: Permit, result: Result) -> Transition | None:
        """Count the result of a permit's call; return the transition that it made.

        A result of an earlier generation, or of a lease that ran out, changes nothing.
        """
        if permit is self._open_door and result is Result.SUCCESS:
            with self._lock:
                if permit is self._open_door:
                    self._consecutive = 0
                    self._window.count(self.monotonic(), failed=False)
            return None
        with self._lock:
            if permit.generation != self._generation:
                return None
            if self._state is State.CLOSED:
                return self._settle_closed(result)
            if self._state is State.HALF_OPEN and permit in self._probes:
                self._probes.discard(permit)
                # One that ran out has been, or may be, replaced: its result must not depend on which came first.
                return self._settle_probe(result) if permit.expires > self.monotonic() else None
            return None

    def force_open(self) -> Transition | None:
        """Let nothing through until `reset`."""
        with self._lock:
            return self._move(State.FORCED_OPEN)

    def disable(self) -> Transition | None:
        """Let everything through until `reset`."""
        with self._lock:
            return self._move(State.DISABLED)

    def reset(self) -> Transition | None:
        """Close and forget."""
        with self._lock:
            self._opened_times = 0
            return self._move(State.CLOSED)

    def _settle_closed(self, result: Result) -> Transition | None:
        if result is Result.NEUTRAL:
            return None
        failed = result is Result.FAILURE
        self._window.count(self.monotonic(), failed=failed)
        if not failed:
            self._consecutive = 0
            return None
        self._consecutive += 1
        calls, failures = self._window.totals()
        too_many = calls >= self._settings.minimum_calls and failures >= calls * self._settings.failure_rate
        return self._open() if too_many or self._consecutive >= self._settings.failures else None

    def _settle_probe(self, result: Result) -> Transition | None:
        if result is Result.FAILURE:
            return self._open()
        if result is Result.SUCCESS:
            self._probe_successes += 1
            if self._probe_successes >= self._settings.half_open_calls:
                self._opened_times = 0
                return self._move(State.CLOSED)
        return None

    def _open(self) -> Transition | None:
        base = min(self._settings.open_for * 2**self._opened_times, self._settings.open_for_max)
        self._opened_times = min(self._opened_times + 1, 60)
        spread = self._settings.jitter * (2 * self._rng.random() - 1)
        self._open_until = self.monotonic() + base * (1 + spread)
        return self._move(State.OPEN)

    def _move(self, state: State) -> Transition | None:
        before, self._state = self._state, state
        self._generation += 1
        self._open_door = Permit(self._generation, 0.0) if state in {State.CLOSED, State.DISABLED} else None
        self._consecutive = 0
        self._window.clear()
        self._probes.clear()
        self._probe_successes = 0
        return Transition(self.name, before, state) if before is not state else None

    def _retry_after(self, now: float) -> float:
        if self._state is State.OPEN:
            return max(0.0, self._open_until - now)
        if self._state is State.FORCED_OPEN:
            return self._settings.open_for_max
        return 0.0


class _Window:
    """Calls and failures of the last seconds, in slices."""

    def __init__(self, seconds: float) -> None:
        self._slice = seconds / _SLICES
        self._counts: list[list[int]] = [[0, 0] for _ in range(_SLICES)]
        self._current = 0

    def count(self, now: float, *, failed: bool) -> None:
        index = int(now / self._slice)
        if index != self._current:
            self._advance(index)
        counts = self._counts[index % _SLICES]
        counts[0] += 1
        counts[1] += failed

    def totals(self) -> tuple[int, int]:
        return sum(c[0] for c in self._counts), sum(c[1] for c in self._counts)

    def clear(self) -> None:
        for counts in self._counts:
            counts[0] = counts[1] = 0

    def _advance(self, index: int) -> None:
        for passed in range(self._current + 1, min(index, self._current + _SLICES) + 1):
            self._counts[passed % _SLICES][:] = [0, 0]
        self._current = index
