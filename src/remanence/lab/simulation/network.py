"""What becomes of a command: answered, refused, lost, applied with its answer lost, or held up and delivered later."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from remanence.lab.simulation.awaiting import Work
from remanence.lab.simulation.caller import DONE, READY, Caller, Idle
from remanence.lab.simulation.process import Command, Pause, Process
from remanence.lab.simulation.redis_model import RedisModel
from remanence.lab.simulation.story import shown_command, shown_reply
from remanence.managers.redis_backend import Pipeline
from remanence.managers.redis_connection import ATTEMPT, NewConnectionError

if TYPE_CHECKING:
    from remanence.lab.simulation.world import Option, World

__all__ = ["Network"]

_FAULTS: Final = ("lose request", "lose reply", "delay", "refuse")
_READS: Final = frozenset({"GET", "SMEMBERS", "SCAN", "TIME", "INFO"})
_DULL: Final = frozenset({"time", "info"})
_GIVEN_UP: Final = {
    "unsent": "is given up before it is sent",
    "lost": "is given up, and never arrives",
    "late": "is given up, and held up",
    "applied": "is applied, and given up",
    "part": "is applied in part, and given up",
}


class Network:
    """The connections of one world.

    Attributes:
        late: Commands that may still arrive, whose callers have given them up.
        server_number: Number of the server, or of its run, that connections lead to.
        spell: Number of the healthy spell or outage that lasts.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.late: list[Command] = []
        self.server_number = 0
        self.spell = 0

    def add_fates(self, caller: Caller, command: Command, plain: list[Option], odd: list[Option]) -> None:
        """Add what may become of a command now."""
        outage, coarse = self.world.trouble.outage, self.world.scenario.coarse
        if command.deadline <= self.world.now or outage == "freeze":
            plain.append((self._time_out, caller))
        elif outage == "readonly":
            plain.append((self.apply, caller))
        elif not outage:
            plain.append((self.apply, caller))
            events = self.world.trouble.events
            odd += [(self._fault, (caller, event)) for event in _FAULTS if event in events]
        elif outage != "cut":
            is_new = command.sent_in == self.spell
            plain += [(self.refuse, caller)] if is_new else [(self.lose, caller), (self._apply_in_vain, caller)]
        else:
            if command.sent_in == self.spell:
                plain.append((self.refuse, caller))
            if command.sent_in != self.spell or not coarse:
                plain += [(self._reset, caller), (self._apply_in_vain, caller)]
                if type(command.step) is Pipeline and len(command.step.commands) > 1:
                    plain.append((self._apply_part_in_vain, caller))
            if not coarse:
                plain.append((self._time_out, caller))

    def add_late(self, odd: list[Option]) -> None:
        """Add the delivery of what was held up."""
        world = self.world
        if not self.late:
            return
        every = not world.scenario.coarse
        odd += [(self._deliver, command) for command in self.late if every or command.deadline > world.now]

    def send(self, caller: Caller, command: Command) -> None:
        """Take a command that a caller has just sent."""
        command.op = None if caller.background else caller.op
        command.sent_in = self.spell
        if self.world.trouble.outage not in {"", "readonly"} or not self._connect(caller, sending=True):
            return
        if self._is_dull(command):
            self.apply(caller)

    def resume(self, caller: Caller) -> None:
        """Let a caller go on with what it has been told."""
        process, world = caller.process, self.world
        due = caller.state.until if type(caller.state) is Pause else caller.due
        caller.delay += max(0.0, world.now - due) if due else 0.0
        if process is not None:
            if caller.failure is None and caller.answered is not None:
                self._note_told(caller, process, caller.answered, caller.reply)
                caller.answered = None
            if world.is_hashed:
                told = (type(caller.failure), caller.has_sent) if caller.failure is not None else hashable(caller.reply)
                process.history = hash((process.history, caller.number, told, world.now))
        caller.due = 0.0
        caller.resume()
        world.cancellation.check(caller)
        if type(caller.state) is Command:
            world.ledger.check_time(caller, caller.state.deadline)
            self.send(caller, caller.state)
        elif type(caller.state) is Pause:
            world.ledger.check_time(caller, caller.state.until)
        elif type(caller.state) is Work:
            caller.due = world.now

    def apply(self, caller: Caller) -> None:
        """Have the server carry the command out, and answer."""
        command = caller.state
        if not self._connect(caller):
            return
        caller.context[ATTEMPT].sent = True  # type: ignore[union-attr]
        try:
            caller.reply = self._answer(command)
            caller.answered = command.step
        except ResponseError as error:
            caller.failure = error
        if self.world.story.kept:
            self.world.tell(caller, f"{shown_command(command)}: {shown_reply(caller.reply, caller.failure)}")
        caller.state, caller.due = READY, self.world.now
        if self._is_dull(command) or self._is_alone(caller):
            self.resume(caller)  # nobody else of its process could come in between

    def refuse(self, caller: Caller) -> None:
        """The command fails before it is sent."""
        self._fail(caller, RedisConnectionError("refused"), "is refused", sent=False)

    def work(self, caller: Caller) -> None:
        """Have a process's thread do what a task of it waits for."""
        work, process = caller.state, caller.process
        work.do()
        if self.world.is_hashed and process is not None:
            told = (caller.number, hashable(work.result), type(work.failure))
            process.history = hash((process.history, told, self.world.now))
        caller.delay += self.world.now - caller.due  # what a disk takes is not the call's doing
        caller.state, caller.due = READY, self.world.now
        if self._is_alone(caller):
            self.resume(caller)

    def fates_of_cancelled(self, caller: Caller) -> tuple[str, ...]:
        """Return what may become of the command that a task waits for as it is cancelled."""
        command, outage = caller.state, self.world.trouble.outage
        is_new, coarse = command.sent_in == self.spell, self.world.scenario.coarse
        if caller.connected != self.server_number or (is_new and outage in {"kill", "wipe"}):
            return ("unsent",)  # it waits for a connection
        if _changes_nothing(command.step):
            return ("lost",) if coarse else ("unsent", "lost")
        applied: tuple[str, ...] = ("applied",)
        if type(command.step) is Pipeline and len(command.step.commands) > 1:
            applied = ("applied", "part")
        if outage in {"kill", "wipe"}:
            return ("lost", *applied)
        if outage == "freeze" or (outage == "cut" and is_new and coarse):
            applied = ()
        return ("unsent", "late", *applied)

    def cancel(self, caller: Caller, fate: str) -> None:
        """Give a command up whose task is cancelled: its connection is reset."""
        command = caller.state
        if fate == "late":
            self.keep_late(caller)
        elif fate in {"applied", "part"}:
            if fate == "part":
                command.step = Pipeline(command.step.commands[: len(command.step.commands) // 2])
            with suppress(ResponseError):
                self._answer(command)
        self._fail(caller, asyncio.CancelledError(), _GIVEN_UP[fate], sent=fate != "unsent")

    def lose(self, caller: Caller) -> None:
        """The command never arrives, and its connection is reset."""
        self._fail(caller, RedisConnectionError("reset"), "never arrives; its connection is reset")

    def keep_late(self, caller: Caller) -> None:
        """Remember a command that may arrive although its caller is gone."""
        if caller.state.call.writes and caller.connected == self.server_number:
            self.late.append(caller.state)

    def deliver_all(self) -> None:
        """Let everything arrive that was held up."""
        for command in list(self.late):
            self._deliver(command)

    def lose_all(self) -> None:
        """Reset the connections of everything under way, none of which arrives."""
        for caller in self.world.callers:
            if type(caller.state) is Command:
                self.lose(caller)

    def _answer(self, command: Command) -> Any:
        world = self.world
        world.expire()
        world.command = command
        try:
            if world.trouble.outage == "readonly":
                return _refusing(world.server, command.step)
            return world.server.answer(command.step)
        finally:
            world.command = None

    def _connect(self, caller: Caller, *, sending: bool = False) -> bool:
        """Open the caller's connection, unnoticed, where it led to a server that is gone; give whether it goes on."""
        attempt: Any = caller.context[ATTEMPT]
        try:
            if caller.connected != self.server_number:
                caller.connected = self.server_number
                if caller.process is not None:
                    caller.process.history = hash((caller.process.history, caller.number, "opens"))
                attempt.opened()
            elif sending:
                attempt.check()
        except NewConnectionError as error:
            caller.failure = error
            caller.state = READY
            self.resume(caller)
            return False
        return True

    def _apply_in_vain(self, caller: Caller) -> None:
        """The server carries it out, and the answer is lost."""
        if caller.connected != self.server_number:
            self.refuse(caller)
            return
        with suppress(ResponseError):
            self._answer(caller.state)
        self._fail(caller, RedisConnectionError("reset"), "is applied, and its answer lost")

    def _apply_part_in_vain(self, caller: Caller) -> None:
        """The server carries the first half of a pipeline out, the rest never arrives."""
        commands = caller.state.step.commands
        caller.state.step = Pipeline(commands[: len(commands) // 2])
        self._apply_in_vain(caller)

    def _reset(self, caller: Caller) -> None:
        self.keep_late(caller)
        self._fail(caller, RedisConnectionError("reset"), "is held up; its connection is reset")

    def _time_out(self, caller: Caller) -> None:
        self.keep_late(caller)
        caller.delay += max(0.0, self.world.now - caller.state.deadline)
        self.world.now = max(self.world.now, caller.state.deadline)
        self._fail(caller, RedisTimeoutError("timeout"), "times out")

    def _fail(self, caller: Caller, error: BaseException, what: str, *, sent: bool = True) -> None:
        if self.world.story.kept:
            self.world.tell(caller, f"{shown_command(caller.state)} {what}")
        if sent and caller.connected == self.server_number:
            caller.context[ATTEMPT].sent = True  # type: ignore[union-attr]
        caller.connected = -1
        caller.failure = error
        caller.state, caller.due = READY, self.world.now
        self.resume(caller)

    def _fault(self, what: tuple[Caller, str]) -> None:
        caller, event = what
        self.world.trouble.events.remove(event)
        fates = {
            "lose request": self.lose,
            "lose reply": self._apply_in_vain,
            "delay": self._reset,
            "refuse": self.refuse,
        }
        fates[event](caller)

    def _deliver(self, command: Command) -> None:
        self.late.remove(command)
        if self.world.story.kept:
            self.world.tell("network", f"delivers {shown_command(command)} of {command.process.name}")
        with suppress(ResponseError):
            self._answer(command)

    def _note_told(self, caller: Caller, process: Process, step: Any, reply: Any) -> None:
        """Remember what a process has been told of the store."""
        now = self.world.tick()
        # A replay learns what it has written, but nobody has been shown what was there.
        is_direct = not caller.background and caller.op is not None and caller.op.kind not in {"replay", "close"}
        if type(step) is Pipeline:
            commands, answers = step.commands, reply
        else:
            commands, answers = (step,), (reply,)
        for command, answer in zip(commands, answers, strict=True):
            for part in command[1:5]:
                place = self.world.place_of.get(part) if type(part) is str else None
                if place is not None:
                    process.told.setdefault(place, now)
                    if not answer:
                        process.nothing.add(place)
                    if command[0] in {"get", "GET"} or (is_direct and type(answer) is int and answer >= 0):
                        process.sight[place] = "clear"
            if type(answer) is bytes:
                process.seen.setdefault(answer, now)

    def _is_dull(self, command: Command) -> bool:
        """Whether nobody else's commands change the answer, and it changes nothing."""
        if not self.world.scenario.coarse or self.world.cancellation.is_possible:
            return False
        return type(command.step) is tuple and command.step[0] in _DULL

    def _is_alone(self, caller: Caller) -> bool:
        others = (other for other in self.world.callers if other.process is caller.process and other is not caller)
        return all(other.state is DONE or type(other.state) is Idle for other in others)


def _refusing(server: RedisModel, step: Any) -> Any:
    """Answer as a replica does: reads, and nothing else."""
    if type(step) is Pipeline:
        return [_refused() if command[0] not in _READS else server.command(*command) for command in step.commands]
    name = step[1] if step[0] == "execute_command" else step[0]
    if str(name).upper() not in _READS:
        raise _refused()
    return server.answer(step)


def _changes_nothing(step: Any) -> bool:
    if type(step) is Pipeline:
        return all(command[0] in _READS for command in step.commands)
    return str(step[1] if step[0] == "execute_command" else step[0]).upper() in _READS


def _refused() -> ResponseError:
    return ReadOnlyError("You can't write against a read only replica.")


def hashable(reply: Any) -> Any:
    """Return something that is equal where replies, or steps, are."""
    if type(reply) is Pipeline:
        return tuple(reply.commands)
    if isinstance(reply, list):
        return tuple([hashable(item) for item in reply])
    if isinstance(reply, dict):
        return tuple(reply.items())
    return type(reply) if isinstance(reply, Exception) else reply
