"""Callers: what a thread of a simulated process does, operation by operation, and the background's replay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from remanence.errors import RemanenceError
from remanence.flow import Flow, Sleep
from remanence.lab.simulation.process import Pause, Process
from remanence.lab.simulation.program import CANCELLED, READS, Op
from remanence.managers.redis_connection import ATTEMPT
from remanence.operations import ANY_VERSION, batch_flow, key_call, mutate_flow, store_call, update_call
from remanence.record import encode, stamp

if TYPE_CHECKING:
    from remanence.lab.simulation.awaiting import AsyncProcess
    from remanence.lab.simulation.world import World

__all__ = ["DONE", "READY", "Caller", "Idle", "background", "background_task", "program"]

READY: Final = "ready"
DONE: Final = "done"

Body = Generator[Any, Any, None]


@dataclass(frozen=True, slots=True)
class Idle:
    """A caller has nothing to do until this holds."""

    until: Callable[[], bool]


class Caller:
    """A thread that the scheduler lets go on step by step, in a context of its own as real threads have.

    Attributes:
        state: What it waits for: READY for its turn, a `Command`, a `Pause`, an `Idle`, or DONE.
        reply: What it goes on with; `failure` where something went wrong.
        connected: Number of the server that its connection leads to, -1 for none.
        began: Seconds of the world at which its operation began.
        due: When it could have gone on.
        delay: Seconds since it began in which it could, and the scheduler let others go on: not its doing.
        answered: The step that the reply answers, None for none.
        is_cancelled: Whether its operation was cancelled and is not over yet.
    """

    __slots__ = (
        "answered",
        "background",
        "began",
        "body",
        "connected",
        "context",
        "delay",
        "due",
        "failure",
        "is_cancelled",
        "number",
        "op",
        "process",
        "reply",
        "state",
    )

    def __init__(self, body: Body | None, process: Process | None, number: int, *, background: bool = False) -> None:
        self.body: Any = body
        self.process = process
        self.number = number
        self.background = background
        self.context: Context = copy_context()
        self.state: Any = READY
        self.reply: Any = None
        self.failure: BaseException | None = None
        self.answered: Any = None
        self.is_cancelled = False
        self.connected = -1
        self.began = self.due = self.delay = 0.0
        self.op: Op | None = None

    @property
    def has_sent(self) -> bool:
        """Whether the attempt that is under way may have left a command behind."""
        attempt = self.context.get(ATTEMPT)
        return attempt is not None and attempt.sent

    def resume(self) -> None:
        """Let it go on to what it waits for next."""
        reply, failure = self.reply, self.failure
        self.reply = self.failure = None
        try:
            if failure is None:
                self.state = self.context.run(self.body.send, reply)
            else:
                self.state = self.context.run(self.body.throw, failure)
        except StopIteration:
            self.state = DONE

    def close(self) -> None:
        """End it where it is; what it still does then goes nowhere."""
        if self.state is not DONE:
            self.state = DONE
            with suppress(asyncio.CancelledError):  # of one that had been cancelled and was not told yet
                self.context.run(self.body.close)


def background(process: Process) -> Body:
    """Bring pending writes home as the background thread does: rounds until nothing waits, with the pauses they ask."""
    journal = process.fallback.journal
    idle = Idle(lambda: not journal.is_idle)
    while True:
        yield idle
        if process.closed:
            return
        pause = yield from process.draining(process.fallback.replayer.round())
        if pause:
            yield Pause(process.world.now + pause)


def background_task(process: AsyncProcess) -> Body:
    """Bring pending writes home as the task of `ReplayTask` does: it may be cancelled, and woken once more."""
    idle = Idle(lambda: process.is_woken)
    while True:
        yield idle
        process.task_runs, process.is_woken = True, False
        try:
            yield from _rounds(process)
        except asyncio.CancelledError:
            if process.keeper.state is DONE:
                raise
            was_told = True
        else:
            was_told = False
        process.task_runs = False
        process.world.cancellation.ended(process.keeper, told=was_told)


def _rounds(process: AsyncProcess) -> Body:
    while not process.is_stopped:
        pause = yield from process.draining(process.fallback.replayer.round())
        if pause is None and process.fallback.journal.is_idle:
            return
        yield Pause(process.world.now + (pause or 0.0))


def program(world: World, caller: Caller, ops: Sequence[Op]) -> Body:
    """Do the operations, one after the other."""
    heard: dict[int, str] = {}
    for op in ops:
        op.invoked = op.made = world.tick()
        op.made_at = world.now
        op.since = world.changes(op.place)
        caller.op = op
        caller.began, caller.delay = world.now, 0.0
        if op.process is not None and op.process.closed:
            return
        if world.story.kept:
            world.tell(op, f"{op.kind} {op.word} begins")
        try:
            yield from _KINDS[op.kind](world, op, heard)
        except (RedisError, RemanenceError) as error:
            op.outcome = type(error).__name__
            if op.kind in READS or (op.kind in _READ_FIRST and op.made == op.invoked):
                op.process.sight[op.place] = "none"
        except asyncio.CancelledError:
            if caller.state is DONE:
                raise  # the schedule is over
            op.outcome = CANCELLED
        world.cancellation.ended(caller, told=op.outcome == CANCELLED)
        op.completed = world.tick()
        if world.story.kept:
            world.tell(op, f"{op.kind} {op.word} ends -> {op.outcome or 'done'}")
        world.ledger.completed(op)


def _retrieve(world: World, op: Op, heard: dict[int, str]) -> Flow:
    process = op.process
    op.asked = world.changes(op.place)
    memories = yield from process.run(key_call(process, "retrieve", _value(op)))
    _note(world, op, memories, heard)
    return memories


def _note(world: World, op: Op, memories: Any, heard: dict[int, str]) -> None:
    """Remember what a read told, and from where."""
    heard[op.place] = memories[0].working_memory if memories else ""
    op.outcome = memories.source
    # What waits here the store may never hold: reading it shows as little of the store as an old copy does.
    op.process.sight[op.place] = {"redis": "clear", "journal": "stale"}.get(memories.source, memories.source)
    if memories.source == "journal" and memories.raw is not None:
        op.process.seen.setdefault(memories.raw, world.tick())  # it may be another process's
    world.ledger.answered(op, memories)


def _store(_: World, op: Op, heard: dict[int, str]) -> Flow:
    yield from _write(op, store_call(op.process, _value(op, _text(op, heard)), ANY_VERSION))


def _create(_: World, op: Op, __: dict[int, str]) -> Flow:
    yield from _write(op, store_call(op.process, _value(op, op.word), None))


def _update(_: World, op: Op, __: dict[int, str]) -> Flow:
    yield from _write(op, update_call(op.process, _value(op, op.word), ANY_VERSION))


def _delete(_: World, op: Op, __: dict[int, str]) -> Flow:
    yield from _write(op, key_call(op.process, "delete", _value(op)))


def _turn(world: World, op: Op, heard: dict[int, str]) -> Flow:
    yield from _retrieve(world, op, heard)
    op.made = world.tick()
    yield from _store(world, op, heard)


def _swap(world: World, op: Op, heard: dict[int, str]) -> Flow:
    memories = yield from _retrieve(world, op, heard)
    op.made = world.tick()
    yield from _write(op, store_call(op.process, _value(op, _text(op, heard)), memories.version))


def _mutate(world: World, op: Op, heard: dict[int, str]) -> Flow:
    process = op.process

    def fn(text: str | None) -> str:
        op.made = world.tick()
        op.sight = process.sight.get(op.place)
        return f"{text or ''} {op.word}".lstrip()

    flow = mutate_flow(process, _value(op), fn)
    try:
        step = next(flow)
        while True:
            if isinstance(step, Sleep):
                yield Pause(world.now + 0.05)  # whatever the jitter: a schedule must be repeatable
                step = flow.send(None)
                continue
            op.asked = world.changes(op.place)
            try:
                result = yield from process.run(step.call)
            except (RedisError, RemanenceError) as error:
                step = flow.throw(error)
                continue
            if step.call.operation == "retrieve":
                _note(world, op, result, heard)
            step = flow.send(result)
    except StopIteration as stop:
        _acknowledged(op, stop.value)


def _store_many(world: World, op: Op, _: dict[int, str]) -> Flow:
    op.items = [Op("store", f"{op.word}.{place}", place, op.process) for place in range(world.places)]
    yield from _batch(world, op, "store", [_value(item, item.word) for item in op.items])


def _delete_many(world: World, op: Op, _: dict[int, str]) -> Flow:
    op.items = [Op("delete", f"{op.word}.{place}", place, op.process) for place in range(world.places)]
    yield from _batch(world, op, "delete", [_value(item) for item in op.items])


def _batch(world: World, op: Op, operation: str, values: list[dict[str, str]]) -> Flow:
    world.ops += op.items
    world.ledger.by_word.update({item.word: item for item in op.items})
    for item in op.items:
        item.invoked = item.made = op.invoked
        item.made_at = op.made_at
        item.since = world.changes(item.place)
        item.sight = op.process.sight.get(item.place)
    try:
        results = yield from op.process.drive(batch_flow(op.process, operation, values), None, 0)
    except asyncio.CancelledError:
        for item in op.items:
            item.outcome, item.until, item.completed = CANCELLED, op.until, world.now_step
        raise
    for item, result in zip(op.items, results, strict=True):
        if isinstance(result, Exception):
            item.outcome = type(result).__name__
        else:
            _acknowledged(item, result)
        item.completed = world.now_step
        world.ledger.completed(item)


def _retrieve_many(world: World, op: Op, heard: dict[int, str]) -> Flow:
    items = [Op("retrieve", op.word, place, op.process) for place in range(world.places)]
    op.asked = tuple([world.changes(item.place) for item in items])
    results = yield from op.process.drive(batch_flow(op.process, "retrieve", [_value(i) for i in items]), None, 0)
    for item, result, asked in zip(items, results, op.asked, strict=True):
        if isinstance(result, Exception):
            op.process.sight[item.place] = "none"
        else:
            item.asked = asked
            _note(world, item, result, heard)


def _replay(_: World, op: Op, __: dict[int, str]) -> Flow:
    yield from op.process.draining(op.process.fallback.replayer.drain(2.0))


def _close(world: World, op: Op, _: dict[int, str]) -> Flow:
    process = op.process
    process.closed = True
    try:
        yield from process.draining(process.fallback.replayer.drain(2.0))
        yield from process.stopping()
    finally:
        process.fallback.journal.seal()
        world.ledger.ended(process)


def _external(world: World, op: Op, _: dict[int, str]) -> Flow:
    yield READY
    now = stamp(world.now)
    world.put_externally(op, encode(op.word, None, now, now))


def _remove(world: World, op: Op, _: dict[int, str]) -> Flow:
    yield READY
    world.put_externally(op, None)


def _write(op: Op, call: Any) -> Flow:
    process = op.process
    op.sight = process.sight.get(op.place)
    receipt = yield from process.run(call)
    _acknowledged(op, receipt)


def _acknowledged(op: Op, receipt: Any) -> None:
    op.outcome = receipt.outcome
    op.acknowledged = receipt.outcome != "missing" or op.deletes
    if receipt.outcome == "committed" or (receipt.outcome == "missing" and not op.process.has_pending(op.place)):
        op.process.sight[op.place] = "clear"


def _text(op: Op, heard: dict[int, str]) -> str:
    """What its caller read last, and its word: so its text shows what it has seen."""
    return f"{heard.get(op.place, '')} {op.word}".lstrip()


def _value(op: Op, text: str | None = None) -> dict[str, str]:
    conversation = {"conversation_id": f"c{op.place}"}
    return conversation if text is None else conversation | {"working_memory": text}


_READ_FIRST: Final = frozenset({"turn", "swap", "mutate"})
"""What these write is made once they have read."""

_KINDS: Final[dict[str, Callable[[Any, Op, dict[int, str]], Flow]]] = {
    "retrieve": _retrieve,
    "store": _store,
    "update": _update,
    "delete": _delete,
    "turn": _turn,
    "swap": _swap,
    "create": _create,
    "mutate": _mutate,
    "store_many": _store_many,
    "retrieve_many": _retrieve_many,
    "delete_many": _delete_many,
    "replay": _replay,
    "close": _close,
    "external": _external,
    "remove": _remove,
}
