"""How a call travels: flows that decide, drivers that act.

A *flow* is a generator. It yields a step, the driver does it (or awaits it) and sends the result in, or throws what
went wrong. Policies yield `PROCEED` (run what is inside with this call), `Invoke(call)` (run what is inside with
another call), `Sleep(seconds)` and `Blocking(work)` (do what may wait for a disk). Managers yield the commands of
their store. Between two steps a flow is pure: it never blocks, so the same code runs under threads, under asyncio, and
under any other driver.

    def flow(self, call):          # a whole policy: log what took long
        started = self.clock.monotonic()
        result = yield PROCEED
        if self.clock.monotonic() - started > self.threshold:
            self.slow += 1
        return result
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

from remanence.clock import Clock
from remanence.errors import AttemptTimeoutError
from remanence.interface import IMemoryInput

__all__ = [
    "PROCEED",
    "WRITES",
    "AsyncDriver",
    "Blocking",
    "Call",
    "Driver",
    "Flow",
    "Invoke",
    "KeptCopy",
    "Policy",
    "Sleep",
    "WriteItem",
]

Flow = Generator[Any, Any, Any]

WRITES: Final = frozenset({"store", "update", "delete", "store_many", "delete_many", "reconcile", "keep", "drop"})
"""Operations that change the store; the others read."""


class _Proceed:
    __slots__ = ()

    def __repr__(self) -> str:
        return "PROCEED"


PROCEED: Final = _Proceed()


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Blocking:
    """Do what may wait for a disk, and give what it returns: an event loop is not held up by it."""

    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Invoke:
    """Run what is inside with another call."""

    call: Call


class Call:
    """One operation on its way to the store, the same object for every attempt.

    Attributes:
        operation: "store", "retrieve", "update", "delete"; "store_many", "retrieve_many", "delete_many" with `items`;
            inside the library also "reconcile", "keep", "kept", "drop" and "identify".
        key: Key of the memory; "" for calls about many, the cursor of a page of conflict copies.
        input: The caller's input, for managers that are not ours.
        raw: The encoded record of a store; for an update what was encoded last.
        text, metadata, stamp: What an update writes, and the stamp it carries on every attempt.
        ttl: Seconds the record lives, None for ever.
        guard: Digests (or ABSENT) that may be replaced; None replaces anything. For "drop" that of the copy to remove.
        over: Gives the digests that the write was made over, none where that is not known; None without a fallback,
            where a repeated plain write replaces whatever it finds. A function, because hardly any call needs them.
        replaced: For an update, the digest that its last attempt was made over; "" before there was one.
        deleted: For a delete, "committed" or "missing" once the store has answered: only the copies are left to remove.
        known: For an update, the stored bytes as last known here; saves a read.
        deadline: Monotonic time at which the call must have ended, None without one.
        attempts: Attempts made towards the store so far.
        sent: Digests of every value that was sent for this call.
        admitted: For a manager that had to wait for a connection: raises CircuitOpenError where the store has failed in
            that time. None without a circuit breaker.
        unsettled_until: Monotonic time until which an abandoned attempt may still be applied; 0.0 for none.
        guarded: Whether the write must be refused once its time is up; False on a bare manager's plain store.
        sequence: Order of entry among this process's calls for a fallback.
        items: The calls of a batch.
        kept: For a deletion with a fallback, up to which number what waits to be kept goes with the memory.
    """

    __slots__ = (
        "admitted",
        "attempts",
        "deadline",
        "deleted",
        "guard",
        "guarded",
        "input",
        "items",
        "kept",
        "key",
        "known",
        "metadata",
        "operation",
        "over",
        "raw",
        "replaced",
        "sent",
        "sequence",
        "stamp",
        "text",
        "ttl",
        "unsettled_until",
    )

    def __init__(
        self,
        operation: str,
        key: str = "",
        input: IMemoryInput | None = None,  # noqa: A002 - the interface's own name
        *,
        raw: bytes | None = None,
        text: str | None = None,
        metadata: dict[str, Any] | None = None,
        stamp: str = "",
        ttl: float | None = None,
        guard: tuple[str, ...] | None = None,
        guarded: bool = True,
        items: Sequence[Any] = (),
    ) -> None:
        self.operation = operation
        self.key = key
        self.input = input
        self.raw = raw
        self.text = text
        self.metadata = metadata
        self.stamp = stamp
        self.ttl = ttl
        self.guard = guard
        self.known: bytes | None = None
        self.over: Callable[[], tuple[str, ...]] | None = None
        self.replaced = ""
        self.deleted: Literal["", "committed", "missing"] = ""
        self.deadline: float | None = None
        self.attempts = 0
        self.sent: tuple[str, ...] = ()
        self.unsettled_until = 0.0
        self.admitted: Callable[[], None] | None = None
        self.guarded = guarded
        self.sequence = 0
        self.kept = 0
        self.items = items

    def __repr__(self) -> str:
        return f"<Call {self.operation}>"

    @property
    def writes(self) -> bool:
        """Whether the operation changes the store."""
        return self.operation in WRITES


class WriteItem(NamedTuple):
    """One guarded write of a batch: `raw` None deletes, `guard` None replaces anything, `ttl` None lives for ever."""

    key: str
    raw: bytes | None
    ttl: float | None
    guard: tuple[str, ...] | None

    def __repr__(self) -> str:
        return f"<WriteItem ttl={self.ttl}>"


@dataclass(frozen=True, slots=True)
class KeptCopy:
    """A conflict copy to be kept: whose key, the record's bytes (None: a deletion that lost), seconds to keep it."""

    key: str = field(repr=False)
    raw: bytes | None = field(repr=False)
    ttl: float


class Policy(Protocol):
    """A composable decorator: decides what happens around a call."""

    def flow(self, call: Call) -> Flow:
        """Return the flow around `call`."""
        ...


class Driver:
    """Runs flows by blocking.

    Args:
        flows: The policies' `flow`, outermost first.
        perform: Does the innermost call.
        clock: For `Sleep`.
    """

    def __init__(self, flows: Sequence[Callable[[Call], Flow]], perform: Callable[[Call], Any], clock: Clock) -> None:
        self.flows = tuple(flows)
        self.perform = perform
        self._innermost = len(self.flows)
        self.clock = clock

    def run(self, call: Call, index: int = 0) -> Any:
        """Send `call` through the policies from `index` inwards and return its result."""
        if index == len(self.flows):
            return self.perform(call)
        return self.drive(self.flows[index](call), call, index + 1)

    def drive(self, flow: Flow, call: Call | None, index: int) -> Any:
        """Run `flow`, whose inside begins at policy `index`, and return its result."""
        try:
            step = next(flow)
            while True:
                failure: BaseException | None = None
                result: Any = None
                try:
                    if step is PROCEED:
                        if index == self._innermost:
                            result = self.perform(call)  # type: ignore[arg-type]
                        else:
                            result = self.drive(self.flows[index](call), call, index + 1)  # type: ignore[arg-type]
                    elif type(step) is Invoke:
                        result = self.run(step.call, index)
                    elif type(step) is Blocking:
                        result = step.work()
                    else:
                        self.clock.sleep(step.seconds)
                except BaseException as error:  # noqa: BLE001 - handed to the flow, which decides
                    failure = error
                # Outside the except block, whose error would become the context of what the flow raises.
                step = flow.send(result) if failure is None else flow.throw(failure)
        except StopIteration as stop:
            return stop.value
        finally:
            failure = None  # it knows this frame by its traceback: let go, or only the collector frees the two


class AsyncDriver:
    """Runs flows by awaiting; see `Driver`.

    The innermost await is bounded by the call's deadline here, below every policy: what the policies see is a failure
    of the store, and a cancellation that they see is the caller's own. What may wait for a disk is done by one thread,
    and to its end: a cancellation that comes meanwhile is told after that, so that no flow has to guess what was done.

    Args:
        flows, perform, clock: See `Driver`.
        ends_in_time: Whether `perform` ends by the call's deadline by itself.
    """

    def __init__(
        self,
        flows: Sequence[Callable[[Call], Flow]],
        perform: Callable[[Call], Awaitable[Any]],
        clock: Clock,
        *,
        ends_in_time: bool = False,
    ) -> None:
        self.flows = tuple(flows)
        self.perform = perform
        self._ends_in_time = ends_in_time
        self.clock = clock
        self._writer: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Let the thread end, if there is one."""
        if self._writer is not None:
            self._writer.shutdown(wait=False)
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the thread in a child process, where it does not run."""
        self._writer = None

    async def run(self, call: Call, index: int = 0) -> Any:
        """Send `call` through the policies from `index` inwards and return its result."""
        if index == len(self.flows):
            return await self._bounded(call)
        return await self.drive(self.flows[index](call), call, index + 1)

    async def drive(self, flow: Flow, call: Call | None, index: int) -> Any:
        """Run `flow`, whose inside begins at policy `index`, and return its result."""
        cancelled: list[asyncio.CancelledError] = []
        try:
            result = await self._drive(flow, call, index, cancelled)
        except BaseException as error:
            if cancelled and not isinstance(error, GeneratorExit):  # its caller is waiting for that
                raise cancelled.pop() from error
            raise
        if cancelled:
            raise cancelled.pop()
        return result

    async def _drive(self, flow: Flow, call: Call | None, index: int, cancelled: list[asyncio.CancelledError]) -> Any:
        try:
            step = next(flow)
            while True:
                failure: BaseException | None = None
                result: Any = None
                try:
                    if type(step) is Blocking:
                        result, failure = await self._block(step, cancelled)
                    elif cancelled:
                        failure = cancelled.pop()
                    elif step is PROCEED:
                        result = await self.run(call, index)  # type: ignore[arg-type]
                    elif type(step) is Invoke:
                        result = await self.run(step.call, index)
                    else:
                        await self.clock.sleep_async(step.seconds)
                except BaseException as error:  # noqa: BLE001 - handed to the flow, which decides
                    failure = error
                # Outside the except block, whose error would become the context of what the flow raises.
                step = flow.send(result) if failure is None else flow.throw(failure)
        except StopIteration as stop:
            return stop.value
        finally:
            failure = None  # it knows this frame by its traceback: let go, or only the collector frees the two

    async def _block(self, step: Blocking, cancelled: list[asyncio.CancelledError]) -> tuple[Any, BaseException | None]:
        """Have the thread do a step; give its result or failure, and note the cancellation that came meanwhile."""
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, "remanence-journal")
        done = asyncio.get_running_loop().run_in_executor(self._writer, step.work)
        while not done.done():
            try:
                await asyncio.wait((done,))
            except asyncio.CancelledError as error:
                cancelled[:] = [error]
        failure = done.exception()
        return None if failure is not None else done.result(), failure

    async def _bounded(self, call: Call) -> Any:
        if call.deadline is None or self._ends_in_time:
            return await self.perform(call)
        left = call.deadline - self.clock.monotonic()
        scope = asyncio.timeout(max(left, 0.0))
        try:
            async with scope:
                return await self.perform(call)
        except TimeoutError:
            if scope.expired():
                raise AttemptTimeoutError from None
            raise
