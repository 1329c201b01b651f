"""The tasks of an async worker: each does turn after turn, and some turns are cancelled in the middle of a call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from remanence.lab.chaos.reports import Reporter
from remanence.lab.chaos.writer import Writer

__all__ = ["work_in_tasks"]

_CANCELLED: Final = 0.06
_INSISTENT: Final = 0.3
_SOONEST, _LATEST = 0.0001, 0.4
"""Seconds into a turn: from before its first command is sent to the end of a call whose server does not answer."""


class CancellationLostError(Exception):
    """A call was cancelled and ended otherwise: whoever cancelled it is not told."""


async def work_in_tasks(
    writers: Sequence[Writer], reporter: Reporter, *, is_over: Callable[[], bool], seed: str
) -> None:
    """Work with a task for each writer until it is over.

    Args:
        writers: What each of the tasks does.
        reporter: Told what is wrong beyond a call's own failure.
        is_over: Asked between turns.
        seed: For the cancellations.
    """

    def unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        reporter.tell("X", f"unhandled:{type(error).__name__}")

    asyncio.get_running_loop().set_exception_handler(unhandled)

    async def work(writer: Writer, rng: random.Random) -> None:
        while not is_over():
            if rng.random() >= _CANCELLED:
                await writer.turn()
                continue
            after = _SOONEST * (_LATEST / _SOONEST) ** rng.random()
            try:
                await _cut_off(writer, after, insists=rng.random() < _INSISTENT)
            except CancellationLostError as error:
                reporter.tell("X", type(error).__name__)

    async with asyncio.TaskGroup() as group:
        for number, writer in enumerate(writers):
            group.create_task(work(writer, random.Random(f"{seed} {number}")))


async def _cut_off(writer: Writer, after: float, *, insists: bool) -> None:
    """Cancel a turn that is not over by then.

    Args:
        writer: Whose.
        after: Seconds.
        insists: Whether it is cancelled in every turn of the loop until it ends, as the cancel scopes of anyio do.
    """
    turn = asyncio.create_task(writer.turn())
    await asyncio.wait((turn,), timeout=after)
    is_cancelled = not turn.done()
    while not turn.done():
        turn.cancel()
        await asyncio.wait((turn,), timeout=0.0 if insists else None)
    if is_cancelled and not turn.cancelled():
        raise CancellationLostError
