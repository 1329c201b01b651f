"""The asyncio flavour of a process: the library's own AsyncDriver awaits what the scheduler decides.

What may wait for a disk is done by one thread of the process, one after the other, while its tasks go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from remanence.decorated import AsyncDecoratedManager
from remanence.errors import CircuitOpenError
from remanence.flow import AsyncDriver, Blocking, Call, Flow
from remanence.journal.memory import MemoryJournal
from remanence.lab.simulation.process import Awaited, Pause, Process, ProcessSettings
from remanence.lab.simulation.shared_journal import SharedJournal
from remanence.policies.breaker_machine import State

if TYPE_CHECKING:
    from remanence.lab.simulation.world import World

__all__ = ["AsyncProcess", "Work"]

_STOP = 0.1


class Work:
    """What a task waits for that the process's thread does.

    Attributes:
        is_done: Whether it has been done.
        result, failure: What came of it.
    """

    __slots__ = ("_todo", "_work", "failure", "is_done", "result")

    def __init__(self, work: Callable[[], Any], todo: list[Work]) -> None:
        self._work = work
        self._todo = todo
        self.is_done = False
        self.result: Any = None
        self.failure: BaseException | None = None
        todo.append(self)

    @property
    def is_next(self) -> bool:
        """Whether the thread is at it."""
        return self._todo[0] is self

    def do(self) -> None:
        """Do it, as the thread does."""
        self._todo.remove(self)
        self.is_done = True
        try:
            self.result = self._work()
        except Exception as error:  # noqa: BLE001 - its flow is told
            self.failure = error


class AsyncProcess(Process):
    """One process with an awaited manager of its own, whose callers are tasks of its loop.

    Attributes:
        task_runs: Whether there is a task that brings pending writes home.
        is_woken: Whether there is to be one.
        is_stopped: Whether there must not be one any more.
        keeper: The caller that is that task.
    """

    chunk = AsyncDecoratedManager._chunk  # noqa: SLF001 - the flavour's own constant

    def __init__(self, world: World, name: str, settings: ProcessSettings, *, skew: float = 0.0) -> None:
        super().__init__(world, name, settings, skew=skew)
        self.task_runs = self.is_woken = False
        self.is_stopped = False
        self.keeper: Any = None
        self._todo: list[Work] = []
        self._drains = 0
        self._breaker = self._flows[-1]
        flows = (*self._flows[:-1], self._watched)
        self._driver = _AwaitingDriver(flows, self._steps, self.clock, ends_in_time=True, todo=self._todo)
        self.fallback.on_pending(self.wake)

    def journal(self) -> Any:
        """Return the process's journal; a step on that of a host may wait for the disk."""
        if self.settings.shares:
            return SharedJournal(self.world.host_journal, self.name, waits=True)
        limits = self.settings.fallback.settings
        return _LeasedJournal(max_entries=limits.max_entries, max_bytes=limits.max_bytes)

    # The driver -------------------------------------------------------------------------------------------------------

    def run(self, call: Call, index: int = 0) -> Flow:
        """Send `call` through the policies from `index` inwards, as the manager's `_submit` does."""
        self._enter()
        return (yield from self._driver.run(call, index).__await__())

    def drive(self, flow: Flow, call: Call | None, index: int) -> Flow:
        """Run `flow`, whose inside begins at policy `index`."""
        if not index:
            self._enter()
        return (yield from self._driver.drive(flow, call, index).__await__())

    def draining(self, flow: Flow) -> Flow:
        """Run a flow of the replayer; when it is over, however it ends, nobody of this process has the lease."""
        self._drains += 1
        try:
            return (yield from self.drive(flow, None, 1))
        finally:
            self._drains -= 1
            if not self._drains and self._leased() is not None:
                self.world.ledger.report("cancel", f"{self.name} drains no more, and has not given the lease back")

    def _leased(self) -> int | None:
        journal: Any = self.fallback.journal
        leased: int | None = journal.leased
        return leased

    def _steps(self, call: Call) -> Any:
        return _Steps(self._perform(call))

    def _watched(self, call: Call) -> Flow:
        """Go through the breaker, and see that it refuses nobody for the sake of a call that is over."""
        try:
            return (yield from self._breaker(call))
        except CircuitOpenError:
            states = {self.breaker.state, self.breaker.write_state}
            if State.HALF_OPEN in states and State.OPEN not in states and not self.attempting:
                self.world.ledger.report("cancel", f"{call.operation} may not probe, and nobody does")
            raise

    # Its task ---------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have a task look after what waits, as `ReplayTask.wake` does."""
        if not self.is_stopped and not self.task_runs:
            self.is_woken = True

    def stopping(self) -> Flow:
        """Cancel the task, and wait a tenth of a second for what its thread has begun, as `ReplayTask.stop` does."""
        self.is_stopped, self.is_woken = True, False
        if self.task_runs:
            self.world.cancellation.cancel_task(self.keeper)
        if self.task_runs:
            yield Pause(self.world.now + _STOP)

    def _enter(self) -> None:
        if not self.fallback.journal.is_idle:
            self.wake()


class _AwaitingDriver(AsyncDriver):
    """The library's, but for the thread."""

    def __init__(self, *args: Any, todo: list[Work], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._todo = todo

    async def _block(self, step: Blocking, cancelled: list[asyncio.CancelledError]) -> tuple[Any, BaseException | None]:
        work = Work(step.work, self._todo)
        while not work.is_done:
            try:
                await Awaited(work)
            except asyncio.CancelledError as error:
                cancelled[:] = [error]
        return work.result, work.failure


class _LeasedJournal(MemoryJournal):
    """The journal in memory, which remembers who drains it.

    Attributes:
        leased: Epoch of the lease that was not given back yet, None for none.
    """

    leased: int | None = None

    def lease(self, now: float, seconds: float) -> int | None:
        epoch = super().lease(now, seconds)
        self.leased = self.leased if epoch is None else epoch
        return epoch

    def release(self, epoch: int) -> None:
        super().release(epoch)
        if epoch == self.leased:
            self.leased = None


class _Steps:
    """Awaits what a generator yields."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Flow) -> None:
        self._steps = steps

    def __await__(self) -> Flow:
        return self._steps
