"""The ledger of a schedule: every change of the store, every acknowledgement, and what may not happen meanwhile.

Checked: that nothing displaces what its process had not seen (P2); that an answer which claims to come
from the store tells what it held meanwhile, "committed" what it came to hold, and "stale" what the process had been
told (P5); that no call waits past its deadline (P3) or makes more attempts than allowed, and none while the breaker is
open (P4). What is checked at the end is in ``account``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from remanence.journal.entry import Entry
from remanence.lab.simulation.host import HostSight
from remanence.lab.simulation.program import CONDITIONAL, SINGLE, Op
from remanence.lab.simulation.texts import text_of, word_of
from remanence.managers.redis_backend import Pipeline

if TYPE_CHECKING:
    from remanence.lab.simulation.caller import Caller
    from remanence.lab.simulation.process import Command, Process
    from remanence.lab.simulation.world import World

__all__ = ["BY_SERVER", "Change", "Ledger", "Violation"]

_GRACE: Final = 0.05 + 1e-6
_GUARDED: Final = 7
"""A guarded write that names what it may replace has more parts: EVALSHA, digest, 1, key, value, TTL, not-after."""

BY_SERVER: Final = frozenset({"expired", "evicted", "restart", "failover"})
"""The changes that the server makes on its own."""


class Violation(AssertionError):  # noqa: N818 - what is violated is a promise, not the program
    """A promise does not hold for a schedule.

    Attributes:
        promise: "P1" to "P5", "end" for what does not come to one, "cancel" for what a cancelled task leaves behind.
    """

    def __init__(self, promise: str, what: str) -> None:
        self.promise = promise
        self.what = what
        super().__init__(f"{promise}: {what}")


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a memory in the store.

    Attributes:
        at: When, in steps of the world.
        place: Number of the conversation.
        before, after: The record's bytes, None for nothing.
        by: The operation whose value it is.
        process: Who sent it, None for another program or the server itself.
        how: "write", "replay", "external", or why the server did it.
        guarded: Whether the command named what it may replace.
        again: Whether it was repeated, over something else than it had read, after an attempt that may have been
            applied.
    """

    at: int
    place: int
    before: bytes | None
    after: bytes | None
    by: Op | None
    process: Any
    how: str
    guarded: bool = False
    again: bool = False


class Ledger(HostSight):
    """Keeps the account of one world."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.changes: list[list[Change]] = [[] for _ in range(world.places)]
        self.dropped: dict[bytes, list[Op | None]] = {}
        self.perished: dict[Any, list[Entry]] = {}
        self.hash = 0
        self._first: Violation | None = None

    def changed(self, place: int, before: bytes | None, after: bytes | None, how: str) -> None:
        """Note a change of the store by the world's current command, or by the server itself."""
        world = self.world
        command = world.command
        process = command.process if command is not None else None
        by: Op | None = world.external
        if how in BY_SERVER:
            process = by = None
        elif command is not None:
            by = self._author(command, place, after)
            how = "replay" if command.call.operation == "reconcile" else "write"
        elif by is not None:
            how = "external"
        again = command is not None and how == "write" and _is_again(command, before)
        guarded = command is not None and _is_guarded(command.step, world.keys[place])
        change = Change(world.tick(), place, before, after, by, process, how, guarded, again)
        self.changes[place].append(change)
        self.hash = hash((self.hash, place, before, after, how, again, by.word if by is not None else ""))
        if process is not None and before is not None and before != after:
            self._check_sight(change)

    def copied(self, raw: bytes | None, *, kept: bool) -> None:
        """Note that a conflict copy came, or went: removed by a deletion, or lost by the server."""
        if raw is None:
            return
        command = self.world.command
        by = command.op if command is not None else None
        if kept:
            self.kept.setdefault(raw, self.world.now_step)
        elif command is None or by is not None:  # a replay has no business with removing copies
            self.dropped.setdefault(raw, []).append(by)
        self.hash = hash((self.hash, raw, kept, by.word if by is not None else ""))

    def completed(self, op: Op) -> None:
        """Check what an operation was told at its end.

        With a command under way that may come late it also matters who began before.
        """
        if op.outcome == "committed" and op.is_write:
            self._check_committed(op)
        elif op.outcome == "missing":
            self._check_missing(op)
        if self.world.network.late:
            begun = tuple([other.word for other in self.world.ops if other.invoked >= 0])
            self.hash = hash((self.hash, op.word, begun))

    def check_time(self, caller: Caller, until: float) -> None:
        """P3: what a call waits for is over by its deadline, and whatever it does after that takes 50 ms at most."""
        op = caller.op
        if op is None or caller.background or op.kind not in SINGLE:
            return
        late = until - caller.began - caller.delay - self.world.settings.deadline
        if late > _GRACE:
            self.report("P3", f"{op.word} waits until {late:.3f} s past its deadline")

    def answered(self, op: Op, memories: Any) -> None:
        """Check that what a read gave as the store's is what the store held meanwhile, and an old copy no invention."""
        raw = memories.raw
        if memories.source == "stale" and not self._was_told(op, raw):
            raise Violation("P5", f"{op.word} was served {text_of(raw)!r} as last known, which it had not been told")
        if memories.source == "redis" and raw not in self._held_since(op.place, op.asked):
            raise Violation(
                "P5", f"{op.word} was told {text_of(raw)!r} as the store's, which it did not hold meanwhile"
            )

    def _was_told(self, op: Op, raw: bytes | None) -> bool:
        """Whether the process has been told of what it serves as last known, or has written it."""
        process = op.process
        if raw is None:
            own = (o for o in self.world.ops if o.deletes and o.process is process and o.place == op.place)
            return op.place in process.nothing or any(o.invoked >= 0 for o in own)
        author = self.by_word.get(word_of(raw))
        return raw in process.seen or (author is not None and author.process is process)

    def _held_since(self, place: int, since: int) -> set[bytes | None]:
        """Return what the store has held of a memory since it had changed so often."""
        changes = self.changes[place]
        held = {changes[since - 1].after if since else self.world.initial[place]}
        held.update(change.after for change in changes[since:])
        if self.world.settings.ttl is not None:
            held.add(None)  # expiry is noticed late
        return held

    def _check_committed(self, op: Op) -> None:
        held = self._held_since(op.place, op.since)
        if None not in held if op.deletes else not any(op.word in text_of(raw).split() for raw in held):
            raise Violation("P5", f"{op.word} was told that it is committed, and the store never held it meanwhile")

    def _check_missing(self, op: Op) -> None:
        held = self._held_since(op.place, op.since)
        if None in held:
            return
        process = op.process
        own = [o for o in self.of_host(process) if o.deletes and o.place == op.place]
        is_pending = process.has_pending(op.place)
        if op.deletes or not any(
            o.invoked >= 0 and (o.is_open or (is_pending and not self._was_refuted(o, process, held))) for o in own
        ):
            raise Violation("P5", f"{op.word} was told that nothing is stored, and something was all the time")

    def _was_refuted(self, deletion: Op, process: Process, held: set[bytes | None]) -> bool:
        """Whether a deletion was committed, and its process was shown later that something is stored.

        It waits to be made certain, and removes what its host had begun to write before it was over.
        """
        for raw in held:
            author = self.by_word.get(word_of(raw)) if raw is not None else None
            is_removed = author is not None and author in self.of_host(process) and not deletion.before(author)
            if raw in process.seen and process.seen[raw] >= deletion.completed and not is_removed:
                return True
        return False

    def ended(self, process: Process) -> None:
        """Note that a process is gone, and what was pending in its memory with it."""
        if self.world.settings.shares:
            return  # it outlives its processes
        journal = process.fallback.journal
        entries = journal.entries()
        # Whoever takes its place takes over its operations, too.
        self.perished.setdefault(process.number, []).extend(entries)
        self.dropped.update({value.raw: [None] for value in journal.kept() if value.raw is not None})
        self.hash = hash((self.hash, process.name, len(entries)))

    def report(self, promise: str, what: str) -> None:
        """Note a violation where raising it would be taken for a failure of the store."""
        if self._first is None:
            self._first = Violation(promise, what)

    def raise_first(self) -> None:
        """Raise what was reported.

        Raises:
            Violation: The first one.
        """
        if self._first is not None:
            raise self._first

    def _author(self, command: Any, place: int, after: bytes | None) -> Op | None:
        if after is not None:
            return self.by_word.get(word_of(after))
        op: Op = command.op
        if command.call.operation != "reconcile" and op is not None:
            return next((item for item in op.items if item.place == place), op) if op.items else op
        # A replayed deletion: the process's latest one, or the host's.
        shares = self.world.settings.shares
        deletions = [
            o
            for o in self.world.ops
            if o.deletes and o.place == place and (o.process is command.process or (shares and o.process is not None))
        ]
        return max((o for o in deletions if o.invoked >= 0), key=lambda o: o.invoked, default=None)

    def _check_sight(self, change: Change) -> None:
        """P2: what was made without sight of the store displaces nothing that its process had not seen."""
        by, before = change.by, change.before
        if by is None or before is None:
            return
        author = self.by_word.get(word_of(before))
        if author is not None and by.process is not None and author.process is by.process:
            return
        is_kept = change.how == "replay" and self.is_kept_for_host(author, before)
        if is_kept or self.is_known_to_host(by, author, before):
            return
        if change.how == "write" and not change.again and by.sight in {None, "clear"}:
            self._check_plain(change, by, before)
        elif not self._was_in_sight(change, by, before):
            self.report("P2", f"{by.word} ({by.outcome or 'under way'}) displaced {word_of(before)} unseen")

    def _check_plain(self, change: Change, by: Op, before: bytes) -> None:
        """A plain write on a healthy store replaces, as the reference does: while its caller waits for it."""
        seen = change.process.seen.get(before, 1 << 60)
        if by.kind in CONDITIONAL and seen > change.at:
            self.report("P2", f"{by.word}, made on a version that had been read, displaced {word_of(before)}")
        elif by.completed >= 0 and not change.guarded and seen > by.made and self.world.now > by.until:
            self.report("P1", f"{by.word} displaced {word_of(before)} after its caller had been told of its end")

    def _was_in_sight(self, change: Change, by: Op, before: bytes) -> bool:
        """Whether a process had been shown what it displaced, or may displace the older one of two and keep it."""
        # Another process of the host may have brought it home: what counts is what its own had been shown.
        maker = by.process or change.process
        seen, told = maker.seen.get(before, 1 << 60), maker.told.get(by.place, 1 << 60)
        makers = self._folded(by) if change.how == "replay" else [by]
        if any(seen < op.made for op in makers):
            return True
        base_was_known = self._had_written(change) or any(
            op.sight in {"clear", "stale"} or (op.sight is None and told < change.at) for op in makers
        )
        if base_was_known and before in self.kept and change.how == "replay":
            return True
        is_built_on = set(text_of(before).split()) <= set(text_of(change.after).split())
        return is_built_on and (self.world.merges or self.world.settings.shares)

    def _had_written(self, change: Change) -> bool:
        """Whether the store was known to hold a write of the process before: what was pending has that as a base."""
        maker = change.by.process if change.by is not None else change.process
        return any(c.process is maker and c.at < change.at for c in self.changes[change.place])

    def _folded(self, by: Op) -> list[Op]:
        """Return the operations that may have been folded into what is replayed: it has the base of the first."""
        others = [
            op
            for op in self.world.ops
            if op.process is by.process and op.place == by.place and op.invoked >= 0 and op.is_open
        ]
        return [by, *others]


def _is_again(command: Command, before: bytes | None) -> bool:
    # An update reads what it is made over.
    return command.is_again and (command.call.operation != "update" or before not in command.process.seen)


def _is_guarded(step: Any, key: str) -> bool:
    commands = step.commands if type(step) is Pipeline else [step[1:] if step[0] == "execute_command" else step]
    return any(len(command) > _GUARDED and command[3] == key for command in commands)
