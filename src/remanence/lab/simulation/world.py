"""The world of a simulation: a server, a network, processes and their callers; a schedule decides what happens next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from remanence.journal.memory import MemoryJournal
from remanence.lab.simulation.account import Account
from remanence.lab.simulation.awaiting import AsyncProcess, Work
from remanence.lab.simulation.caller import DONE, READY, Caller, Idle, background, background_task, program
from remanence.lab.simulation.cancellation import Cancellation
from remanence.lab.simulation.ledger import Violation
from remanence.lab.simulation.network import Network, hashable
from remanence.lab.simulation.process import Command, Pause, Process
from remanence.lab.simulation.program import Op, parse
from remanence.lab.simulation.redis_model import RedisModel
from remanence.lab.simulation.scenario import Scenario
from remanence.lab.simulation.schedule import Schedule
from remanence.lab.simulation.story import Story
from remanence.lab.simulation.texts import text_of
from remanence.lab.simulation.trouble import Trouble
from remanence.managers.redis_backend import CONFLICT_PREFIX
from remanence.managers.redis_protocol import GUARDED_WRITE, arguments
from remanence.record import encode, key_for, stamp

__all__ = ["Option", "World"]

_EPOCH: Final = 1_800_000_000.0
_ROUNDS: Final = 400

Option = tuple[Callable[[Any], None], Any]
"""Something that may happen next: what does it, and with what."""


class World:
    """One run of a scenario.

    Args:
        scenario: What is simulated.
        schedule: Decides.
        tells: Whether the story is kept, for people.

    Attributes:
        is_hashed: Whether it notes what its states are compared by.
    """

    def __init__(self, scenario: Scenario, schedule: Schedule, *, tells: bool = False) -> None:
        self.scenario = scenario
        self.settings = scenario.settings
        self.schedule = schedule
        self.story = Story(kept=tells)
        self.now = _EPOCH
        self.now_step = 0
        self.places = scenario.places
        self.keys = [key_for("memory", "WORKING_MEMORY", f"c{place}") for place in range(self.places)]
        self.place_of = {key: place for place, key in enumerate(self.keys)}
        self.merges = scenario.settings.fallback.settings.resolve is not None
        self.is_alone = _is_alone(scenario)
        self.command: Command | None = None
        self.external: Op | None = None
        self.cause = ""
        self.is_hashed = True
        self.ops: list[Op] = []
        self.processes: list[Process] = []
        self.callers: list[Caller] = []
        self.graveyard: list[Caller] = []
        self.initial: list[bytes | None] = [None] * self.places
        fallback = self.settings.fallback.settings
        self.host_journal = MemoryJournal(max_entries=fallback.max_entries, max_bytes=fallback.max_bytes)
        self.ledger = Account(self)
        self.network = Network(self)
        self.trouble = Trouble(self)
        self.cancellation = Cancellation(self)
        self._idles = 1 if scenario.coarse else 10**6
        self.server_skew = scenario.skews[-1]
        self.server = self.new_server(self.server_skew, "run-0")
        self._set_up()

    # What the parts ask -----------------------------------------------------------------------------------------------

    def tick(self) -> int:
        """Return the number of the next step."""
        self.now_step += 1
        return self.now_step

    def changes(self, place: int) -> int:
        """Return how often a memory has changed so far."""
        return len(self.ledger.changes[place])

    def tell(self, who: str | Caller | Op, what: str) -> None:
        """Add a line to the story."""
        if self.story.kept:
            self.story.tell(self.now - _EPOCH, _name(who), what)

    def is_copy(self, key: str) -> bool:
        """Whether a key of the store is a conflict copy's."""
        return key.startswith(CONFLICT_PREFIX + ":")

    def expire(self) -> None:
        """Have what has run out of time go now, lest it looks like the work of the next command."""
        if self.settings.ttl is not None:
            self.cause = "expired"
            self.server.expire()
            self.cause = ""

    def put_externally(self, op: Op, raw: bytes | None) -> None:
        """Let another program write, past everything."""
        self.expire()
        self.external = op
        self.server.answer(("delete", self.keys[op.place]) if raw is None else ("set", self.keys[op.place], raw))
        self.external = None

    def new_server(self, skew: float, run_id: str, *, of: RedisModel | None = None) -> RedisModel:
        """Return a server whose clock is wrong by `skew` seconds, or a replica of one."""
        drift = self.scenario.drift

        def clock() -> float:
            return self.now + skew - drift * (self.now - _EPOCH)

        server = RedisModel(now=clock, run_id=run_id) if of is None else of.fork(now=clock, run_id=run_id)
        server.on_write = self._written
        return server

    def add_process(self, name: str, number: int) -> Process:
        """Add a process, with its background."""
        skews = self.scenario.skews
        # Those that share a journal are on one host.
        skew = skews[0] if self.settings.shares else skews[number % len(skews)]
        kind = AsyncProcess if self.settings.awaits else Process
        process = kind(self, name, self.settings, skew=skew)
        process.number = number
        self.processes.append(process)
        body = background_task(process) if isinstance(process, AsyncProcess) else background(process)
        keeper = Caller(body, process, self._next_number(), background=True)
        if isinstance(process, AsyncProcess):
            process.keeper = keeper
        keeper.resume()
        self.callers.append(keeper)
        return process

    def add_caller(self, process: Process | None, ops: list[Op]) -> None:
        """Add a caller that does these operations."""
        caller = Caller(None, process, self._next_number())
        caller.body = program(self, caller, ops)
        for op in ops:
            op.caller = caller
        self.callers.append(caller)

    # Setting up -------------------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        if self.scenario.held:
            for place in range(self.places):
                self._hold(place)
        if self.scenario.coarse:
            refused = arguments(self.keys[0], None, None, 0, None)
            self.server.answer(("execute_command", "EVAL", GUARDED_WRITE, *refused))
        owners = [owner for owner, _ in self.scenario.programs if owner is not None]
        for number in range(max(owners, default=-1) + 1):
            self.add_process(f"P{number}", number)
        for owner, lines in self.scenario.programs:
            process = None if owner is None else self.processes[owner]
            ops = parse(lines, process)
            self.ops += ops
            self.ledger.by_word.update({op.word: op for op in ops if op.is_write})
            self.add_caller(process, ops)

    def _hold(self, place: int) -> None:
        """Have another program's memory be there already."""
        now = stamp(self.now - 100.0)
        op = Op("external", f"base{place}", place, acknowledged=True, outcome="committed")
        self.ledger.by_word[op.word] = op
        self.initial[place] = encode(op.word, None, now, now)
        self.put_externally(op, self.initial[place])

    def _next_number(self) -> int:
        return len(self.callers) + len(self.graveyard)

    # The run ----------------------------------------------------------------------------------------------------------

    def play(self, visited: set[int] | None = None) -> bool:
        """Run to the end and check.

        Args:
            visited: States that were met before, in any run; this one's are added.

        Returns:
            False when it met one of `visited` at a new decision: what follows has been, or will be, tried from there.

        Raises:
            Violation: A promise does not hold.
        """
        schedule = self.schedule
        self.is_hashed = visited is not None
        try:
            while options := self._options():
                plain, every = options
                if len(every) > 1 and visited is not None and schedule.is_new:
                    state = self._fingerprint()
                    if state in visited:
                        return False
                    visited.add(state)
                act, what = every[schedule.choose(plain, len(every))]
                act(what)
                self.ledger.raise_first()
            self._heal()
            self.expire()
            self.ledger.close()
            return True
        finally:
            for caller in (*self.callers, *self.graveyard):
                caller.close()

    def _options(self) -> tuple[int, list[Option]] | None:
        """Return how many of the options are what happens on a good day, and all of them; None at the end."""
        plain: list[Option] = []
        odd: list[Option] = []
        sleeping = working = False
        resume = self.network.resume
        for caller in self.callers:
            state = caller.state
            if type(state) is Command:
                working = True
                self.network.add_fates(caller, state, plain, odd)
            elif type(state) is Work:
                working = True
                if state.is_next:
                    plain.append((self.network.work, caller))
            elif state is READY or (state is not DONE and self._is_due(state)):
                plain.append((resume, caller))
                working = working or not caller.background
            elif type(state) is Pause:
                sleeping = True
                working = working or not caller.background
        if working or self.trouble.outage:
            self.trouble.add(odd)
        advance: Option = (self._advance, None)
        may_advance = sleeping and (not self.trouble.outage or self.trouble.advances)
        if plain:
            # Also while somebody could go on: callers think between their calls.
            may_idle = may_advance and working and self._idles and not self.trouble.outage
            return len(plain), [*plain, *odd, (self._idle, None)] if may_idle else plain + odd
        if may_advance:
            return 1, [advance, *odd]
        return (0, odd) if self.trouble.outage else None

    def _is_due(self, state: Pause | Idle) -> bool:
        return state.until() if isinstance(state, Idle) else state.until <= self.now

    def _idle(self, _: None = None) -> None:
        """Let time pass although somebody could go on."""
        self._idles -= 1
        self._advance()

    def _advance(self, _: None = None) -> None:
        """Let time pass until the first that sleeps wakes."""
        if self.trouble.outage:
            self.trouble.advances -= 1
        wakes = [caller.state.until for caller in self.callers if type(caller.state) is Pause]
        self.now = max(self.now, min(wakes))

    def _heal(self) -> None:
        """End whatever is wrong, let what is late arrive, and bring home what is pending."""
        self.trouble.clear()
        self.tell("world", "is healed")
        self.now += 2 * self.settings.timeout
        self.network.deliver_all()
        for process in self.processes:
            if isinstance(process, AsyncProcess) and process.alive:
                process.wake()  # as the next call would
        for _ in range(_ROUNDS * 10 if self.settings.awaits else _ROUNDS):  # there each step of a journal is one
            options = self._options()
            if options is None:
                return
            act, what = options[1][0]
            act(what)
            self.ledger.raise_first()
        raise Violation("end", "what is pending does not come home")

    # What is noted ----------------------------------------------------------------------------------------------------

    def _written(self, key: str, before: bytes | None, after: bytes | None) -> None:
        place = self.place_of.get(key)
        if place is not None:
            if self.story.kept:
                self.tell("server", f"memory {place}: {text_of(before)!r} becomes {text_of(after)!r}")
            self.ledger.changed(place, before, after, self.cause)
        elif self.is_copy(key):
            if self.story.kept:
                self.tell("server", f"copy of {text_of(after or before)!r} is {'kept' if after else 'removed'}")
            self.ledger.copied(after if after is not None else before, kept=after is not None)

    def _shared(self) -> Any:
        """What waits in the journal that processes share: it follows from no single one's history."""
        return self.settings.shares and (tuple(self.host_journal.entries()), tuple(self.host_journal.kept()))

    def _fingerprint(self) -> int:
        """Return a number that is equal only where everything that happens later, and is checked, is equal."""
        trouble, spell = self.trouble, self.network.spell
        return hash(
            (
                self.now,
                trouble.outage,
                len(trouble.outages),
                trouble.advances,
                self._idles,
                tuple(trouble.events),
                self.server.fingerprint(),
                trouble.replica,
                self.ledger.hash,
                self._shared(),
                tuple([process.history for process in self.processes]),
                tuple([_pending(caller, spell, self.network.server_number) for caller in self.callers]),
                tuple(
                    [
                        (c.process.name, c.op.word if c.op else "", c.is_again, c.deadline, hashable(c.step))
                        for c in self.network.late
                    ]
                ),
                tuple([op.since for op in self.ops if op.invoked >= 0 and (op.completed < 0 or op.deletes)]),
            )
        )


def _is_alone(scenario: Scenario) -> bool:
    """Whether one caller does everything, and the server loses nothing of it."""
    return (
        len(scenario.programs) == scenario.places == 1
        and scenario.programs[0][0] is not None
        and not scenario.held
        and scenario.settings.ttl is None
        and not {"crash", "evict", "failover"}.intersection(scenario.events)
        and not any("wipe" in kinds for kinds in scenario.outages)
    )


def _pending(caller: Caller, spell: int, server_number: int) -> Any:
    """What a caller is about to learn, and what is checked of it, as far as its process's history does not tell."""
    state, op = caller.state, caller.op
    asked = op.asked if op is not None and op.completed < 0 else None
    known = caller.connected == server_number, caller.delay, asked
    if type(state) is Command:
        return state.sent_in == spell, *known
    if state is READY:
        return type(caller.failure), hashable(caller.reply), caller.due, caller.has_sent, *known
    return known if caller.process is not None or op is None else (op.word, *known)


def _name(who: str | Caller | Op) -> str:
    if isinstance(who, str):
        return who
    process = who.process
    if process is None:
        return "another program"
    return f"{process.name} (replay)" if isinstance(who, Caller) and who.background else str(process.name)
