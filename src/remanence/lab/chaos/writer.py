"""What one thread or task of a worker does: it writes conversations, and tells what was acknowledged.

The text of a memory is a *clock*: for each writer the last of its writes that whoever wrote the text had seen. So it
can be told from what is left in the end whether a write was lost, or replaced by somebody who had seen it.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from remanence import CorruptRecordError, JournalUnavailableError, RemanenceError
from remanence.lab.chaos.reports import Reporter

__all__ = ["Clock", "Writer"]

_SHARED: Final = 0.12
_LONGEST_THOUGHT: Final = 0.03

Clock = dict[str, int]


class Writer:
    """Conversations of its own, and some that everybody writes.

    Args:
        manager: Its methods are awaited.
        think: Awaited with the seconds for which an agent thinks.
        reporter: Told of each acknowledgement before anything else is done.
        name: Of the writer: its process's, a dot, and its number there.
        job: See `crew`.
        own: The conversations that nobody else writes.
    """

    def __init__(
        self,
        manager: Any,
        think: Callable[[float], Awaitable[None]],
        reporter: Reporter,
        *,
        name: str,
        job: dict[str, Any],
        own: list[str],
    ) -> None:
        self._manager = manager
        self._think = think
        self._reporter = reporter
        self._name = name
        self._own = own
        self._shared: list[str] = job["shared"]
        # A process has seen what one of its writers has read: so one writer of each has these.
        self._contested: list[str] = job["contested"] if name.endswith(".0") else []
        self._rng = random.Random(f"{job['seed']} {name}")
        self._known: dict[str, Clock] = {}
        self._written: Clock = {}
        self._sequence = 0
        self._longest = 0.0
        self._doing: tuple[str, str, float] = ("", "", 0.0)

    async def turn(self) -> None:
        """Do one thing; what fails, or is cancelled in the middle, is told: nobody knows whether it was made."""
        try:
            await self._turn()
        except Exception as error:  # noqa: BLE001 - told
            self._reporter.tell("N" if _is_refusal(error) else "X", type(error).__name__)
        except asyncio.CancelledError:
            kind, conversation, begun = self._doing
            self._reporter.tell("C", conversation, self._name, self._sequence, kind, begun, time.monotonic())
            raise

    async def _turn(self) -> None:
        rng = self._rng
        if self._shared and rng.random() < _SHARED:
            await self._write(rng.choice(self._shared), "mutate")
            return
        if self._contested and rng.random() < _SHARED:
            await self._write(rng.choice(self._contested), "turn")
            return
        conversation = rng.choice(self._own)
        kind = rng.choices(("store", "turn", "update", "delete", "mutate"), (70, 10, 8, 6, 6))[0]
        # Who takes over from a dead process reads first, as an agent does.
        if kind == "turn" or conversation not in self._known:
            self._doing = ("retrieve", conversation, time.monotonic())
            held = await self._manager.retrieve({"conversation_id": conversation})
            self._known[conversation] = _clock(held[0].working_memory if held else None)
        await self._write(conversation, "store" if kind == "turn" else kind)

    async def _write(self, conversation: str, kind: str) -> None:
        self._sequence += 1
        number, begun = self._sequence, time.monotonic()
        self._doing = (kind, conversation, begun)
        clock = self._known.get(conversation, {}) | {self._name: number}
        value: dict[str, Any] = {"conversation_id": conversation}
        if kind == "delete":
            self._reporter.tell("D", conversation, self._name, number, begun)
        try:
            receipt = await self._ask(kind, value, clock)
        finally:
            took = time.monotonic() - begun
            if took > self._longest:
                self._longest = took
                self._reporter.tell("S", begun, begun + took, kind)
        if receipt.outcome == "missing" and kind != "delete":
            self._known[conversation] = {}
            return
        if receipt.outcome != "missing":
            # Before anything else is done: what is not told was not acknowledged.
            ended = time.monotonic()
            self._reporter.tell("A", conversation, self._name, number, kind, receipt.outcome, begun, ended)
        # Only now: a write that failed may have been made or not.
        self._known[conversation] = {} if kind == "delete" else self._written

    async def _ask(self, kind: str, value: dict[str, Any], clock: Clock) -> Any:
        if kind == "delete":
            return await self._manager.delete(value)
        if kind == "mutate":
            own = {self._name: clock[self._name]}
            return await self._manager.mutate(value, lambda text: self._text(self._seen(value, _clock(text)) | own))
        if kind == "turn":
            held = await self._manager.retrieve(value)
            seen = _clock(held[0].working_memory if held else None)
            if held.source != "none":
                self._seen(value, seen)
            text = self._text(seen | {self._name: clock[self._name]})
            if held.degraded:
                # An agent thinks meanwhile, and what another process writes in that time is kept, not replaced.
                await self._think(self._rng.uniform(0.0, _LONGEST_THOUGHT))
            # On a healthy store a plain write replaces whatever it finds; after a degraded read it may not.
            condition = {} if held.degraded else {"if_version": held.version}
            return await self._manager.store({**value, "working_memory": text}, **condition)
        write = self._manager.store if kind == "store" else self._manager.update
        return await write({**value, "working_memory": self._text(clock)})

    def _seen(self, value: dict[str, Any], clock: Clock) -> Clock:
        """Note what was read, whatever becomes of the write: the process has seen it, and may replace it."""
        self._known[value["conversation_id"]] = clock
        return clock

    def _text(self, clock: Clock) -> str:
        self._written = clock
        return json.dumps({"clock": clock, "said": "x" * self._rng.choice((0, 40, 400))})


def _is_refusal(error: Exception) -> bool:
    """Whether a write may fail like that: anything else is a fault of the code under test."""
    if isinstance(error, JournalUnavailableError):
        return "longer than a call may wait" in str(error)
    if isinstance(error, RemanenceError):
        return not isinstance(error, CorruptRecordError)
    return type(error).__module__.startswith("redis") or isinstance(error, OSError)


def _clock(text: str | None) -> Clock:
    return {} if text is None else dict(json.loads(text)["clock"])
