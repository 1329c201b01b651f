"""FaultInjecting: a policy that makes chosen attempts go wrong, around any manager and without a server."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import ClassVar

from remanence.errors import ConfigurationError
from remanence.flow import PROCEED, Call, Flow
from remanence.forked import reset_after_fork
from remanence.lab.errors import FaultNotFiredError
from remanence.policies.base import Context, Decorator
from remanence.record import split_key
from remanence.settings import positive
from remanence.testing.faults import Attempt, Fault, Fired

__all__ = ["FaultInjecting"]


class FaultInjecting(Decorator):
    """Makes chosen attempts go wrong; innermost, so that all other policies see it as the store's doing.

        faults = FaultInjecting(Fault(on="store", nth=2, then=LostReply()))
        manager = resilient(faults(InMemoryManager()))

    Where several faults have their turn on one attempt, each acts inside the one before it. An object that decorates
    several managers counts the attempts of all.

    Args:
        *faults: What goes wrong; more can be added with `inject`.
        seed: For the faults with a `rate`; None for a new one, which the repr shows.
        timeout: Seconds for which a write whose answer was lost counts as under way, as after a connection reset: the
            repetition waits for that. Much shorter than that of a real manager, so that tests are short.

    Raises:
        ConfigurationError: What is passed is no fault, or a setting is out of range.
    """

    place: ClassVar[int] = 90

    def __init__(self, *faults: Fault, seed: int | None = None, timeout: float = 0.1) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            message = f"seed must be a whole number or None, not of type {type(seed).__name__}."
            raise ConfigurationError(message)
        self.seed = random.randrange(2**32) if seed is None else seed
        self.timeout: float = positive("timeout", timeout)
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []
        self._fired: list[Fired] = []
        self.inject(*faults)
        reset_after_fork(self)

    def inject(self, *faults: Fault) -> None:
        """Add faults, which count from now on; `heal` ends them.

        Raises:
            ConfigurationError: One of them is no fault; none was added.
        """
        for fault in faults:
            if not isinstance(fault, Fault):
                message = f"{type(fault).__name__} is no fault: pass Fault(on=…, then=…)."
                raise ConfigurationError(message)
        with self._lock:
            for fault in faults:
                self._armed.append(_Armed(fault, random.Random(f"{self.seed}/{len(self._armed)}")))

    def heal(self) -> None:
        """End all faults: from now on every attempt reaches the store, until more are added."""
        with self._lock:
            for armed in self._armed:
                armed.active = False

    @property
    def fired(self) -> tuple[Fired, ...]:
        """What was injected so far, in order."""
        with self._lock:
            return tuple(self._fired)

    def assert_all_fired(self) -> None:
        """Check that each fault did its work at least once: a test whose fault never came proves nothing.

        Raises:
            FaultNotFiredError: One did not; the message says which, and how many attempts were of its kind.
        """
        with self._lock:
            idle = [f"{armed.fault} (attempts of its kind: {armed.seen})" for armed in self._armed if not armed.fired]
        if idle:
            message = f"never fired: {'; '.join(idle)}. The seed is {self.seed}."
            raise FaultNotFiredError(message)

    def bind(self, context: Context) -> Callable[[Call], Flow]:
        """Return the flow around every call of one manager."""

        def flow(call: Call) -> Flow:
            armed = self._turns(call, context.prefix)
            return self._around(call, armed, context) if armed else _untouched()

        return flow

    def after_fork(self) -> None:
        """Take a fresh lock in a child process."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        with self._lock:
            faults = "".join(f"{armed.fault}, " for armed in self._armed)
        return f"FaultInjecting({faults}seed={self.seed})"

    def _turns(self, call: Call, prefix: str) -> list[tuple[_Armed, int]]:
        """Count the attempt for every fault that it fits, and return those whose turn it is, with their counts."""
        with self._lock:
            return [
                (armed, armed.seen)
                for armed in self._armed
                if armed.active and _fits(armed.fault, call, prefix) and armed.takes_turn()
            ]

    def _around(self, call: Call, turns: Sequence[tuple[_Armed, int]], context: Context) -> Flow:
        if not turns:
            return (yield PROCEED)
        armed, count = turns[0]

        def fire() -> None:
            with self._lock:
                armed.fired += 1
                self._fired.append(Fired(armed.fault, call.operation, count))

        attempt = Attempt(call, context.clock, self.timeout, fire)
        return (yield from armed.fault.then.around(attempt, self._around(call, turns[1:], context)))


class _Armed:
    """A fault with its counts, which the policy's lock guards."""

    __slots__ = ("_rng", "_turns", "active", "fault", "fired", "seen")

    def __init__(self, fault: Fault, rng: random.Random) -> None:
        self.fault = fault
        self.active = True
        self.seen = 0
        self.fired = 0
        self._turns = 0
        self._rng = rng

    def takes_turn(self) -> bool:
        """Count an attempt; whether it goes wrong. A draw is made only where the number is right."""
        self.seen += 1
        fault = self.fault
        limit = fault.times or (None if fault.nth is None else 1)
        if self.seen < (fault.nth or 1) or (limit is not None and self._turns >= limit):
            return False
        if fault.rate < 1 and self._rng.random() >= fault.rate:
            return False
        self._turns += 1
        return True


def _untouched() -> Flow:
    return (yield PROCEED)


def _fits(fault: Fault, call: Call, prefix: str) -> bool:
    if fault.on is not None and fault.on != call.operation:
        return False
    if fault.conversation_id is None:
        return True
    keys = [item.key for item in call.items] or [call.key]
    return any(key.startswith(f"{prefix}:") and split_key(prefix, key)[1] == fault.conversation_id for key in keys)
