"""What the explorer's callers do: operations, their commands, and processes with the real flows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import tenacity

from remanence import Fallback, Retry
from remanence.events import Event
from remanence.flow import PROCEED, Call, Flow, Invoke, KeptCopy, WriteItem
from remanence.managers.operate import operate
from remanence.policies.base import Context
from remanence.record import decode
from tests.explorer.callers import Wait, interrupt

__all__ = ["Applied", "Command", "Op", "OutageError", "Process", "text_of"]

TIMEOUT: Final = 1.0
SHARED = {
    "knowledge": ("number", "view", "learn_read", "learn_write", "learn_replay", "forget", "mark", "unsettle"),
    "journal": (
        "get",
        "record",
        "supersede",
        "lease",
        "release",
        "due",
        "mark_sent",
        "settle",
        "postpone",
        "unmark_sent",
    ),
}


class OutageError(ConnectionError):
    """The store did not answer; `sent` says whether the command may be applied."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__("the store did not answer")
        self.sent = sent


@dataclass
class Op:
    """One operation of a caller, and what became of it.

    Attributes:
        kind: "store", "update", "delete", "retrieve", "mutate", "rewrite" (read, then store what was read and the
            token), "swap" (read, then the same with `if_version`), "create" (store where nothing is), "external"
            (another program's plain write) or "replay".
        token: What its text contains and no other's does.
    """

    kind: str
    token: str = ""
    process: Any = None
    invoked: int = -1
    completed: int = -1
    acknowledged: bool = False
    degraded: int = 0
    result: Any = None

    @property
    def is_conditional(self) -> bool:
        """Whether it writes over a version that it has read."""
        return self.kind in {"mutate", "swap", "create"}

    @property
    def is_write(self) -> bool:
        """Whether it is to be accounted for."""
        return self.kind not in {"retrieve", "replay"}


@dataclass(frozen=True)
class Applied:
    """A change of the store: by which operation's value, and how it came."""

    at: int
    before: bytes | None
    after: bytes | None
    by: Op | None
    process: Any
    how: str


@dataclass
class Command:
    """One command on its way to the store."""

    kind: str
    items: Sequence[Any]
    process: Any
    call: Call
    deadline: float
    how: str = ""

    @property
    def changes(self) -> bool:
        """Whether it may be applied without an answer."""
        return self.kind in {"write", "keep", "drop"}


class _Backend:
    """The operations' backend whose commands are yielded to the scheduler."""

    max_memory_bytes = 10**6

    def read(self, _: Call, key: str) -> Flow:
        return (yield ("read", [key]))

    def write(self, _: Call, item: WriteItem) -> Flow:
        return (yield ("write", [item]))[0]

    def read_many(self, _: Call, keys: Sequence[str]) -> Flow:
        return (yield ("read_many", keys))

    def write_many(self, _: Call, items: Sequence[WriteItem]) -> Flow:
        return (yield ("write", items))

    def keep(self, _: Call, copies: Sequence[KeptCopy]) -> Flow:
        return (yield ("keep", copies))

    def kept(self, _: Call) -> Flow:
        return (yield ("kept", []))

    def drop_kept(self, _: Call, key: str) -> Flow:
        yield ("drop", [key])

    def identify(self, _: Call) -> Flow:
        return (yield ("identify", []))


class Process:
    """A process with its own fallback (and retry) around the shared store."""

    guards_plain_writes = True
    time_limit: float | None = None
    prefix = "memory"
    max_memory_bytes = 10**6

    def __init__(
        self, world: Any, name: str, *, retry: bool = False, ttl: float | None = None, **settings: Any
    ) -> None:
        self.world = world
        self.name = name
        self.clock = world.clock
        self.ttl = ttl
        self.events: list[Event] = []
        self.backend = _Backend()
        context = Context(clock=world.clock, listeners=(self.events.append,), ttl=ttl)
        self.fallback = Fallback(**settings).attach(context)
        self.flows: list[Callable[[Call], Flow]] = [self.fallback.flow]
        if retry:
            self.flows.append(Retry(attempts=2, wait=tenacity.wait_none(), budget_per_second=10**6).bind(context))
        self.seen: set[str | None] = set()
        self.sights: list[int] = []
        world.processes.append(self)
        if world.fine:
            for shared, methods in SHARED.items():
                interrupt(getattr(self.fallback, shared), methods, world)

    def run(self, call: Call, index: int = 0) -> Flow:
        """Send `call` through the policies from `index` inwards."""
        if index == len(self.flows):
            return (yield from self.perform(call))
        return (yield from self.drive(self.flows[index](call), call, index + 1))

    def drive(self, flow: Flow, call: Call | None, index: int) -> Flow:
        """Run `flow`, whose inside begins at policy `index`: the third driver."""
        try:
            step = next(flow)
            while True:
                try:
                    if step is PROCEED:
                        assert call is not None
                        result = yield from self.run(call, index)
                    elif isinstance(step, Invoke):
                        result = yield from self.run(step.call, index)
                    else:
                        # Rounded up, so that jitter does not make a schedule unrepeatable.
                        result = yield Wait(self.clock.monotonic() + math.ceil(step.seconds * 4) / 4)
                except Exception as error:  # noqa: BLE001 - handed to the flow, which decides
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as stop:
            return stop.value

    def perform(self, call: Call) -> Flow:
        """Carry out `call` in one attempt, as the manager on Redis does."""
        deadline = self.clock.monotonic() + TIMEOUT
        if call.deadline is not None:
            deadline = min(deadline, call.deadline)
        flow = operate(self.backend, call)  # type: ignore[arg-type]
        how = "replay" if call.operation == "reconcile" else "plain" if call.guard is None else "guarded"
        try:
            kind, items = next(flow)
            while True:
                if kind == "write" and how != "replay":
                    self.seen |= {text_of(item.raw) for item in items}
                result = yield Command(kind, items, self, call, deadline, how)
                if kind == "read" or (kind == "write" and how != "replay" and not result[0] and items[0].guard):
                    self.sights.append(self.world.now)
                if kind == "read":
                    self.seen.add(result if result is None else text_of(result))
                kind, items = flow.send(result)
        except StopIteration as stop:
            return stop.value
        except OutageError as error:
            if error.sent and call.writes:
                call.unsettled_until = max(call.unsettled_until, deadline)
            raise


def text_of(raw: bytes | None) -> str:
    """Return the text of a record, "" for nothing."""
    return "" if raw is None else decode(raw, "").text
