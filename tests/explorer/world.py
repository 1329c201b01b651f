"""The explorer's store, and the scheduler that decides what happens next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from remanence.errors import RemanenceError
from remanence.flow import Flow, WriteItem
from remanence.interface import ConversationMemoryType
from remanence.operations import ANY_VERSION, key_call, mutate_flow, store_call, update_call
from remanence.record import encode, stamp, version_of
from remanence.results import Conflict, copy_digest
from tests.explorer.callers import DONE, PlainCaller, ThreadedCaller, Wait
from tests.explorer.model import TIMEOUT, Applied, Command, Op, OutageError, Process, text_of
from tests.explorer.schedule import Schedule
from tests.support import FakeClock

__all__ = ["World"]


class World:
    """The store's model, the callers, and what happened.

    Args:
        schedule: Decides.
        faults: Commands that may go wrong.
        fine: Interrupt callers between accesses to memory too.
        ticks: Times that time may pass while somebody could go on.
        leap: Seconds that pass then.
    """

    def __init__(
        self, schedule: Schedule, *, faults: int = 1, fine: bool = False, ticks: int = 0, leap: float = 0.6
    ) -> None:
        self.schedule = schedule
        self.faults = faults
        self.fine = fine
        self.ticks = ticks
        self.leap = leap
        self.clock = FakeClock()
        self.processes: list[Process] = []
        self.key = f"memory:{ConversationMemoryType.WORKING_MEMORY.value}:c"
        self.held: bytes | None = None
        self.kept: list[bytes | None] = []
        self.dropped: set[str] = set()
        self.log: list[Applied] = []
        self.story: list[str] = []
        self.ops: list[Op] = []
        self.now = 0
        self.in_flight: list[Command] = []
        self.callers: list[Any] = []
        self.current: Any = None
        self.nested = 0

    # What the callers do ----------------------------------------------------------------------------------------------

    def spawn(self, process: Process | None, *program: str) -> None:
        """Add a caller that does the operations of `program`, each a kind and a token: "store a"."""
        ops = [Op(kind, token, process) for kind, token in map(str.split, program)]
        self.ops += ops
        body = self._body(ops)
        self.callers.append(ThreadedCaller(body, self) if self.fine else PlainCaller(body))

    def external(self, token: str) -> None:
        """Let another program's write be there already."""
        self._write_externally(Op("external", token))

    def _body(self, ops: Sequence[Op]) -> Iterator[Any]:
        degraded = 0
        for op in ops:
            op.invoked = self._tick()
            op.degraded = degraded
            try:
                op.result = yield from self._do(op)
            except (OutageError, RemanenceError) as error:
                op.result = error
                self.story.append(f"{op.kind} {op.token} failed: {type(error).__name__}")
            else:
                raw = getattr(op.result, "raw", None)
                if op.is_write and op.process is not None and raw is not None:
                    op.process.seen.add(text_of(raw))
                op.acknowledged = op.kind == "delete" or getattr(op.result, "outcome", "committed") != "missing"
                self.story.append(f"{op.kind} {op.token} -> {getattr(op.result, 'outcome', op.result)}")
            if op.kind in {"rewrite", "swap"}:
                degraded = op.degraded
            if op.kind == "retrieve":
                degraded = self._tick() if isinstance(op.result, Exception) or op.result.source != "redis" else 0
            op.completed = self._tick()

    def _do(self, op: Op) -> Flow:
        process, value = op.process, _value(op.token)
        if op.kind == "external":
            yield Wait(0.0)
            self._write_externally(op)
            return None
        if op.kind == "replay":
            return (yield from process.drive(process.fallback.replayer.round(), None, 1))
        if op.kind == "mutate":
            flow = mutate_flow(process, {"conversation_id": "c"}, lambda text: f"{text or ''} {op.token}")
            return (yield from process.drive(flow, None, 0))
        if op.kind in {"rewrite", "swap"}:
            return (yield from self._read_then_write(op))
        calls = {
            "store": lambda: store_call(process, value, ANY_VERSION),
            "create": lambda: store_call(process, value, None),
            "update": lambda: update_call(process, value, ANY_VERSION),
        }
        call = calls[op.kind]() if op.kind in calls else key_call(process, op.kind, {"conversation_id": "c"})
        return (yield from process.run(call))

    def _read_then_write(self, op: Op) -> Flow:
        process = op.process
        memories = yield from process.run(key_call(process, "retrieve", {"conversation_id": "c"}))
        op.degraded = 0 if memories.source == "redis" else self._tick()
        text = " ".join([item.working_memory for item in memories] + [op.token])
        version = ANY_VERSION if op.kind == "rewrite" else memories.version
        return (yield from process.run(store_call(process, _value(text), version)))

    def _write_externally(self, op: Op) -> None:
        now = stamp(self.clock.time())
        self._set(encode(op.token, None, now, now), None, "external")

    # The store --------------------------------------------------------------------------------------------------------

    def apply(self, command: Command) -> Any:
        """Do what the command says, and give its answer."""
        answer: Any = None
        if command.kind == "read":
            answer = self.held
        elif command.kind == "identify":
            answer = ("run", 0)
        elif command.kind == "kept":
            answer = [_conflict(raw) for raw in self.kept]
        elif command.kind == "drop":
            self.dropped |= {word for raw in self.kept for word in text_of(raw).split()}
            self.kept.clear()
        elif command.kind == "keep":
            self.kept += [copy.raw for copy in command.items if copy.raw not in self.kept]
            answer = [None] * len(command.items)
        else:
            answer = [self._guarded(item, command) for item in command.items]
        return answer

    def _guarded(self, item: WriteItem, command: Command) -> bytes | None:
        if item.guard is not None and version_of(self.held) not in item.guard:
            return self.held or b""
        if item.raw is None and self.held is None:
            return b""
        how = command.how if item.guard is not None else "plain"
        self._set(item.raw, command.process, how)
        return None

    def _set(self, raw: bytes | None, process: Process | None, how: str) -> None:
        by = self.op_of(raw)
        self.story.append(f"store: {show(self.held)} becomes {show(raw)} ({how})")
        self.log.append(Applied(self._tick(), self.held, raw, by, process, how))
        self.held = raw

    def op_of(self, raw: bytes | None) -> Op | None:
        """Return the operation whose value a record is."""
        if raw is None:
            return None
        token = text_of(raw).split()[-1]
        return next((op for op in self.ops if op.token == token and op.is_write), None)

    def _tick(self) -> int:
        self.now += 1
        return self.now

    # The scheduler ----------------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Let the callers run to their ends, then heal the store and bring home what is pending."""
        while self._step():
            pass
        self.story.append("healed")
        self.faults = 0
        self.clock.advance(2 * TIMEOUT)
        self.in_flight.clear()
        for process in self.processes:
            flow = process.drive(process.fallback.replayer.drain(60.0), None, 1)
            self.callers = [ThreadedCaller(flow, self) if self.fine else PlainCaller(flow)]
            while self._step():
                pass

    def _step(self) -> bool:
        options: list[Callable[[], None]] = []
        for caller in self.callers:
            options += self._options(caller)
        can_go = bool(options)
        in_time = [command for command in self.in_flight if self.clock.monotonic() <= command.deadline]
        options += [partial(self._deliver, command) for command in in_time]
        waiting = [c.state.until for c in self.callers if isinstance(c.state, Wait)]
        if not can_go and waiting:
            options.append(lambda: self.clock.advance(max(0.0, min(waiting) - self.clock.monotonic()) + 1e-6))
        elif self.ticks and can_go:
            options.append(self._pass_time)
        if not can_go and not waiting:
            return False
        options[self.schedule.choose(len(options))]()
        return True

    def _options(self, caller: Any) -> list[Callable[[], None]]:
        state = caller.state
        if state is DONE:
            return []
        if isinstance(state, Wait):
            return [lambda: caller.resume(None)] if self.clock.monotonic() >= state.until else []
        if not isinstance(state, Command) or caller.answered:
            return [lambda: caller.resume(caller.reply)]
        options: list[Callable[[], None]] = [lambda: self._answer(caller, state)]
        if self.faults:
            options.append(lambda: self._fail(caller, state, "refused"))
            if state.changes:
                options.append(lambda: self._fail(caller, state, "lost"))
                options.append(lambda: self._fail(caller, state, "held up"))
        return options

    def _answer(self, caller: Any, command: Command) -> None:
        # Applied now; the caller goes on with the answer only when it is chosen again.
        caller.reply, caller.answered = self.apply(command), True

    def _fail(self, caller: Any, command: Command, how: str) -> None:
        self.faults -= 1
        self.story.append(f"{command.call.operation} {command.kind} {how}")
        if how == "lost":
            self.apply(command)
        elif how == "held up":
            self.in_flight.append(command)
        caller.fail(OutageError(sent=how != "refused"))

    def _deliver(self, command: Command) -> None:
        self.in_flight.remove(command)
        self.story.append(f"{command.call.operation} {command.kind} delivered")
        self.apply(command)

    def _pass_time(self) -> None:
        self.ticks -= 1
        self.clock.advance(self.leap)

    def shown(self) -> list[str]:
        """Return the texts that are held and kept."""
        return [text_of(raw) for raw in (self.held, *self.kept) if raw is not None]

    def tell(self, what: str) -> str:
        """Return `what`, with the story and the decisions."""
        lines = "\n  ".join(self.story)
        decisions = [choice for choice, _ in self.schedule.taken]
        kept = [show(raw) for raw in self.kept]
        return f"{what}\n  {lines}\nheld: {show(self.held)}, kept: {kept}\ndecisions: {decisions}"


def _value(text: str) -> dict[str, str]:
    return {"conversation_id": "c", "working_memory": text}


def show(raw: bytes | None) -> str:
    """Return a record's text for the story."""
    return "nothing" if raw is None else repr(text_of(raw))


def _conflict(raw: bytes | None) -> Conflict:
    return Conflict(
        conversation_id="c",
        memory_type=ConversationMemoryType.WORKING_MEMORY,
        text=None if raw is None else text_of(raw),
        digest=copy_digest(raw),
    )
