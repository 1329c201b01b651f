"""A simulated process: the real policies, journal, replay and manager flows, over commands that a scheduler answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import tenacity

from remanence.clock import Clock
from remanence.flow import PROCEED, Call, Flow, Invoke
from remanence.journal.memory import MemoryJournal
from remanence.lab.simulation.shared_journal import SharedJournal
from remanence.managers.redis_attempt import attempt_flow
from remanence.managers.redis_backend import RedisBackend
from remanence.policies.base import Context
from remanence.policies.breaker_machine import BreakerSettings, State
from remanence.policies.circuit_breaker import CircuitBreaker
from remanence.policies.deadline import Deadline
from remanence.policies.fallback import Fallback
from remanence.policies.fallback_calls import FallbackCalls
from remanence.policies.retry import Retry

if TYPE_CHECKING:
    from remanence.lab.simulation.world import World

__all__ = ["Awaited", "Command", "Pause", "Process", "ProcessSettings"]

MAX_BYTES: Final = 10**6
_NO_JITTER: Final = random.Random(0)
_PERMIT_LEASE: Final = BreakerSettings().permit_lease


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """How the simulated processes are set up.

    Args:
        timeout: Seconds of an attempt.
        deadline: Seconds of a call.
        attempts: Attempts of a call.
        retry_wait: Seconds between them.
        breaker_failures: Failures in a row that open the breaker.
        ttl: Seconds that memories live, None for ever.
        fallback: Settings of the `Fallback`.
        shares: Whether the processes share a journal that outlives them, as one on disk.
        awaits: Whether they are of the asyncio flavour.
    """

    timeout: float = 1.0
    deadline: float = 1.5
    attempts: int = 2
    retry_wait: float = 0.1
    breaker_failures: int = 3
    ttl: float | None = None
    fallback: Fallback = field(default_factory=Fallback)
    shares: bool = False
    awaits: bool = False

    def retry(self) -> Retry:
        """Return the retry policy, whose waits do not vary."""
        return Retry(attempts=self.attempts, wait=tenacity.wait_fixed(self.retry_wait))


@dataclass(frozen=True, slots=True)
class Pause:
    """A caller waits until then, in seconds of the world."""

    until: float


class Awaited:
    """Awaits one step of the scheduler."""

    __slots__ = ("_step",)

    def __init__(self, step: Any) -> None:
        self._step = step

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self._step)


class Command:
    """One command, or pipeline, on its way to the store.

    Attributes:
        step: As the backend yields it.
        process: Whose.
        call: The call that it is part of.
        deadline: Seconds of the world at which its caller gives up.
        op: The caller's operation.
        sent_in: Number of the outage, or of the healthy spell, in which it was sent.
        is_again: Whether it repeats what may have been applied already.
    """

    __slots__ = ("call", "deadline", "is_again", "op", "process", "sent_in", "step")

    def __init__(self, step: Any, process: Process, call: Call, deadline: float) -> None:
        self.step = step
        self.process = process
        self.call = call
        self.deadline = deadline
        self.op: Any = None
        self.sent_in = 0
        self.is_again = call.attempts > 1 and call.unsettled_until > 0


class Process:
    """One process with a manager of its own.

    Args:
        world: Where it lives.
        name: For the story.
        settings: Its set-up.
        skew: Seconds by which its wall clock is wrong.

    Attributes:
        chunk: Most entries that it replays at once.
        attempting: Attempts under way.
    """

    chunk = Context().chunk

    guards_plain_writes = True
    prefix = "memory"
    max_memory_bytes = MAX_BYTES

    def __init__(self, world: World, name: str, settings: ProcessSettings, *, skew: float = 0.0) -> None:
        self.world = world
        self.name = name
        self.settings = settings
        self.ttl = settings.ttl
        self.time_limit = settings.deadline
        self.clock: Clock = _ProcessClock(world, skew)
        self.alive = True
        self.closed = False
        self.history = hash(name)
        self.callers = 0
        self.sight: dict[int, str] = {}
        self.seen: dict[bytes, int] = {}
        self.told: dict[int, int] = {}
        self.nothing: set[int] = set()
        self.number = 0
        self.attempting = 0
        self._probes: list[float] = []
        context = Context(clock=self.clock, ttl=settings.ttl, max_memory_bytes=MAX_BYTES, chunk=self.chunk)
        self.breaker = CircuitBreaker(failures=settings.breaker_failures, jitter=0.0, rng=_NO_JITTER)
        self.fallback = FallbackCalls(settings.fallback.settings, context, self.journal())
        self.retry = settings.retry()
        self.backend = RedisBackend(prefix="memory", max_memory_bytes=MAX_BYTES, clock=self.clock)
        self._flows: tuple[Callable[[Call], Flow], ...] = (
            self.fallback.flow,
            Deadline(settings.deadline).bind(context),
            self.retry.bind(context),
            self.breaker.bind(context),
        )

    def has_pending(self, place: int) -> bool:
        """Whether a write of the memory waits here."""
        return self.fallback.journal.get(self.world.keys[place]) is not None

    def journal(self) -> Any:
        """Return the process's journal: one of its own, or that of its host."""
        if self.settings.shares:
            return SharedJournal(self.world.host_journal, self.name)
        limits = self.settings.fallback.settings
        return MemoryJournal(max_entries=limits.max_entries, max_bytes=limits.max_bytes)

    # The third driver -------------------------------------------------------------------------------------------------

    def run(self, call: Call, index: int = 0) -> Flow:
        """Send `call` through the policies from `index` inwards."""
        if index == len(self._flows):
            return (yield from self._perform(call))
        return (yield from self.drive(self._flows[index](call), call, index + 1))

    def drive(self, flow: Flow, call: Call | None, index: int) -> Flow:
        """Run `flow`, whose inside begins at policy `index`."""
        try:
            step = next(flow)
            while True:
                failure: BaseException | None = None
                result: Any = None
                try:
                    if step is PROCEED:
                        result = yield from self.run(call, index)  # type: ignore[arg-type]
                    elif type(step) is Invoke:
                        result = yield from self.run(step.call, index)
                    else:
                        yield Pause(self.world.now + step.seconds)
                except BaseException as error:  # noqa: BLE001 - handed to the flow, which decides
                    failure = error
                step = flow.send(result) if failure is None else flow.throw(failure)
        except StopIteration as stop:
            return stop.value

    def draining(self, flow: Flow) -> Flow:
        """Run a flow of the replayer."""
        return self.drive(flow, None, 1)

    def stopping(self) -> Flow:
        """End the background's replay: a thread is not waited for."""
        yield from ()

    def _perform(self, call: Call) -> Flow:
        flow = attempt_flow(self.backend, call, timeout=self.settings.timeout, may_have_sent=_tells)
        limit = self.world.now + self.settings.timeout
        if call.deadline is not None and call.deadline < limit:
            limit = call.deadline
        begun = self.world.now
        if self.breaker.state is State.HALF_OPEN:
            self._probes.append(begun)
        self.attempting += 1
        try:
            step = next(flow)
            self._check_attempt(call)
            while True:
                failure: BaseException | None = None
                reply: Any = None
                try:
                    reply = yield Command(step, self, call, limit)
                except BaseException as error:  # noqa: BLE001 - handed to the flow, which decides
                    failure = error
                step = flow.send(reply) if failure is None else flow.throw(failure)
        except StopIteration as stop:
            return stop.value
        finally:
            self.attempting -= 1
            if begun in self._probes:
                self._probes.remove(begun)

    def _check_attempt(self, call: Call) -> None:
        """P4: no more attempts than the policy's, none while the breaker is open, one at a time while half-open."""
        report = self.world.ledger.report
        if call.attempts > self.settings.attempts:
            report("P4", f"{call.operation} is attempted {call.attempts} times")
        if self.breaker.state is State.OPEN:
            report("P4", f"{call.operation} is attempted while the breaker is open")
        probes = [begun for begun in self._probes if begun > self.world.now - _PERMIT_LEASE]
        if len(probes) > 1:
            report("P4", f"{len(probes)} probes at a time")


class _ProcessClock:
    """A host's clocks, the wall clock wrong by `skew` seconds; waiting is the scheduler's business."""

    def __init__(self, world: World, skew: float) -> None:
        self._world = world
        self._skew = skew

    def monotonic(self) -> float:
        return self._world.now

    def time(self) -> float:
        return self._world.now + self._skew

    def sleep(self, _: float) -> None:
        raise NotImplementedError("a flow yields Sleep; nothing may block in a simulation.")

    async def sleep_async(self, seconds: float) -> None:
        await Awaited(Pause(self._world.now + seconds))


def _tells(_: BaseException) -> bool:
    """The simulated connections tell whether something was sent."""
    return False
