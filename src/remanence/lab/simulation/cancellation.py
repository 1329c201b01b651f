"""Cancellations: a task is given up by whoever waits for it, at any step, and what it has sent may still be applied."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from remanence.lab.simulation.awaiting import AsyncProcess, Work
from remanence.lab.simulation.caller import DONE, Caller, Idle
from remanence.lab.simulation.process import Command, Pause

if TYPE_CHECKING:
    from remanence.lab.simulation.world import Option, World

__all__ = ["CANCELLATIONS", "Cancellation"]

CANCELLATIONS: Final = frozenset({"cancel", "cancel replay"})
"""The events: one ends a caller's operation, the other the task that replays."""


class Cancellation:
    """What cancels the tasks of one world."""

    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def is_possible(self) -> bool:
        """Whether a task may be cancelled now or later: then each of its awaits counts."""
        return not CANCELLATIONS.isdisjoint(self.world.trouble.events)

    def add(self, event: str, odd: list[Option]) -> None:
        """Add the cancellation of each task that waits for something, and what becomes of its command."""
        for caller in self.world.callers:
            if caller.background is (event == "cancel replay") and _is_under_way(caller):
                odd += [(self._cancel, (event, caller, fate)) for fate in self._fates(caller)]

    def cancel_task(self, keeper: Caller) -> None:
        """Cancel a process's background task, as closing does; what it has sent may arrive later."""
        fates = self._fates(keeper)
        self._give_up(keeper, "late" if "late" in fates else fates[-1])

    def check(self, caller: Caller) -> None:
        """See that a cancelled task asks and waits for nothing more."""
        if caller.is_cancelled and type(caller.state) in {Command, Pause}:
            self.world.ledger.report("cancel", f"{_name(caller)} goes on although it was cancelled")

    def ended(self, caller: Caller, *, told: bool) -> None:
        """Note the end of an operation, or of a task, and whether it was told to have been cancelled."""
        if caller.is_cancelled and not told:
            self.world.ledger.report("cancel", f"{_name(caller)} was cancelled, and does not say so")
        caller.is_cancelled = False

    def _fates(self, caller: Caller) -> tuple[str, ...]:
        return self.world.network.fates_of_cancelled(caller) if type(caller.state) is Command else ("",)

    def _cancel(self, what: tuple[str, Caller, str]) -> None:
        event, caller, fate = what
        self.world.trouble.events.remove(event)
        self._give_up(caller, fate)

    def _give_up(self, caller: Caller, fate: str) -> None:
        world = self.world
        world.tell(caller, "is cancelled")
        caller.is_cancelled = True
        if caller.op is not None:
            # Ambiguous: what it has sent is applied by then, or never.
            caller.op.until = max(caller.op.until, world.now + world.settings.timeout)
        if type(caller.state) is Command:
            world.network.cancel(caller, fate)
            return
        if caller.answered is not None or caller.failure is not None:
            # The answer had come, and nobody will look at it: its connection is dropped.
            caller.answered = None
            caller.connected = -1
        caller.reply, caller.failure = None, asyncio.CancelledError()
        world.network.resume(caller)


def _is_under_way(caller: Caller) -> bool:
    """Whether a task is in the middle of something that can be cancelled, and has not been yet."""
    state = caller.state
    if not isinstance(caller.process, AsyncProcess) or state is DONE or isinstance(state, Idle):
        return False
    if caller.is_cancelled and type(state) is not Work:
        return False  # there it may happen once more
    if caller.background:
        return caller.process.task_runs
    return caller.op is not None and caller.op.completed < 0


def _name(caller: Caller) -> str:
    return "the replay" if caller.op is None else caller.op.word
