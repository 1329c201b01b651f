"""The account at the end of a schedule: every acknowledged write, deletions too (P1), and that nothing is pending."""

from __future__ import annotations

from remanence.journal.entry import Entry, KeptValue
from remanence.lab.simulation.ledger import BY_SERVER, Change, Ledger, Violation
from remanence.lab.simulation.program import CANCELLED, CONDITIONAL, Op
from remanence.lab.simulation.texts import text_of, word_of

__all__ = ["Account"]


class Account(Ledger):
    """The ledger of one world, and its closing."""

    def close(self) -> None:
        """Account for every acknowledged write.

        Raises:
            Violation: One is not accounted for, or something is still pending.
        """
        self.raise_first()
        world = self.world
        for process in world.processes:
            journal = process.fallback.journal
            if process.alive and not process.closed and not journal.is_idle:
                raise Violation("end", f"{process.name} cannot bring home what is pending: {journal.counts()}")
            if process.alive and not process.closed and journal.counts().size:
                raise Violation("end", f"{process.name} counts bytes of nothing: {journal.counts()}")
            if (process.fallback.last_error or "").startswith("_"):
                raise Violation("P5", f"{process.name} reports {process.fallback.last_error}, which is nobody's error")
        held = [world.server.value(key) for key in world.keys]
        if world.is_alone:
            self._check_alone(held[0])
        copies = [raw for key, raw in world.server.items() if world.is_copy(key)]
        # Where every process is closed, what waits in a journal that they shared waits for the next one.
        left: list[Entry | KeptValue] = [*world.host_journal.entries(), *world.host_journal.kept()]
        words = {word for raw in (*held, *copies, *(each.raw for each in left)) for word in text_of(raw).split()}
        for op in world.ops:
            if not op.acknowledged or not op.is_write:
                continue
            if op.deletes:
                self._check_deletion(op, held[op.place])
            elif op.word not in words and not self._was_dropped(op) and not self._has_perished(op, op.word):
                self._check_replaced(op)

    def _check_alone(self, held: bytes | None) -> None:
        """With one caller, after nothing, outages must not show: the last acknowledged write stands, without any copy.

        Where an operation failed for another reason than a version, it may or may not have been applied. So may one
        that was cancelled; but what was acknowledged after that stands.
        """
        done = sorted((op for op in self.world.ops if op.completed >= 0), key=lambda op: op.invoked)
        if any(not op.acknowledged and op.outcome.endswith("Error") and op.outcome != CANCELLED for op in done):
            return
        expected: list[str] = []
        for op in done:
            if op.is_write and op.acknowledged:
                expected.clear()
            if op.is_write and (op.acknowledged or op.outcome == CANCELLED):
                expected.append("" if op.deletes else op.word)
        was_told = any(op.is_write and op.acknowledged for op in done)
        if word_of(held) not in (expected if was_told else [*expected, ""]):
            wanted = " or ".join(word or "nothing" for word in expected or [""])
            raise Violation("P1", f"{wanted} was to stand in the end, and {text_of(held)!r} does")
        if self.kept:
            raise Violation(
                "P5", f"a copy of {[text_of(raw) for raw in self.kept]} is kept, and nobody else has written"
            )

    def _has_perished(self, op: Op, word: str) -> bool:
        """Whether it was pending as its process ended, or its time was over."""
        entries = self.perished.get(op.process.number, ()) if op.process is not None else ()
        return any(word in text_of(entry.raw).split() for entry in entries) or self._has_expired(op)

    def _has_expired(self, op: Op) -> bool:
        """Whether its time was over by the end, wherever it had got to."""
        ttl = self.world.settings.ttl
        return ttl is not None and op.made_at + ttl * (1 - abs(self.world.scenario.drift)) <= self.world.now

    def _was_dropped(self, op: Op) -> bool:
        """Whether its copy was lost by the server, or removed by a deletion that was not over when it began."""
        return any(
            by is None or not by.before(op)
            for raw, removals in self.dropped.items()
            if op.word in text_of(raw).split()
            for by in removals
        )

    def _check_replaced(self, op: Op) -> None:
        changes = self.changes[op.place]
        last = None
        for change in changes:
            if op.word in text_of(change.before).split() and op.word not in text_of(change.after).split():
                last = change
        if last is not None:
            # Who wrote it last, and built on the others: what may replace that one may replace them.
            why = self._why_not(last, self.by_word.get(word_of(last.before), op))
            if why:
                raise Violation("P1", f"{op.word} ({op.outcome}) was displaced by {_name(last)}, {why}")
            return
        if op.outcome == "committed":
            raise Violation("P1", f"{op.word} was acknowledged as committed and never reached the store")
        later = [other for other in self.world.ops if self._may_fold(other, op)]
        if not later and not self._died_with(op):
            raise Violation("P1", f"{op.word} ({op.outcome}) never reached the store, and nothing replaced it")

    def _may_fold(self, other: Op, op: Op) -> bool:
        """Whether `other` may have taken the place of `op` in their process's journal."""
        return (
            other is not op
            and (other.process is op.process or self.was_shown(other, op))
            and other.place == op.place
            and other.is_write
            and other.invoked >= 0
            and not other.before(op)
            and (other.kind not in CONDITIONAL or other.made > (op.invoked if op.deletes else op.completed) >= 0)
            and (other.acknowledged or other.completed < 0 or (other.outcome == CANCELLED and self._is_kept(other)))
        )

    def _is_kept(self, op: Op) -> bool:
        """Whether what nobody was told of came to something: only then may it take another write's place."""
        if any(other.acknowledged and self._may_fold(other, op) for other in self.world.ops):
            return True
        if op.deletes:
            return None in self._held_since(op.place, op.since) or any(text_of(raw) == "" for raw in self.kept)
        raws = (*(change.after for change in self.changes[op.place]), *self.kept)
        return any(op.word in text_of(raw).split() for raw in raws) or self._has_perished(op, op.word)

    def _died_with(self, op: Op) -> bool:
        """Whether it was folded into what perished with its process."""
        key = self.world.keys[op.place]
        left = (*self.perished.get(op.process.number, ()), *self.world.host_journal.entries()) if op.process else ()
        return any(entry.key == key for entry in left)

    def _why_not(self, change: Change, op: Op) -> str:
        """Say why a change was not allowed to displace an acknowledged write, "" if it was."""
        by = change.by
        if change.process is None or by is None or op.word in text_of(change.after).split():
            return ""  # the server's own doing, another program's, or a text that was built on it
        before = change.before or b""
        if self.is_known_to_host(by, op, before) or self.is_kept_for_host(op, before):
            return ""
        if by.process is op.process:
            is_exact = change.after is not None or change.how == "write"
            return "which had been over before" if by.before(op) and is_exact else ""
        if by.before(op) and by.acknowledged and change.how == "write":
            return "an attempt that its caller had long been told about"
        saw = (by.process or change.process).seen.get(change.before, 1 << 60) < by.made
        # A plain write on a healthy store replaces, as the reference does.
        is_plain = (
            change.how == "write" and not change.again and by.kind not in CONDITIONAL and by.sight in {None, "clear"}
        )
        return "" if saw or is_plain else "which had not seen it"

    def _check_came_home(self, op: Op) -> None:
        lost = any(text_of(raw) == "" for raw in self.kept)
        replaced = any(self._may_fold(other, op) for other in self.world.ops)
        if not (None in self._held_since(op.place, op.since) or lost or replaced or self._died_with(op)):
            raise Violation("P1", f"{op.word} was acknowledged, and the memory was never deleted")

    def _check_deletion(self, op: Op, held: bytes | None) -> None:
        """It must have taken effect, and what its own process had written before must not come back after it."""
        if op.outcome == "journaled":
            self._check_came_home(op)
        by = self.by_word.get(word_of(held))
        if by is None or by.process is not op.process or not by.before(op):
            return
        changes = self.changes[op.place]
        if changes and changes[-1].how in BY_SERVER:
            return
        if any(c.after is None and c.by is op for c in changes):
            raise Violation("P1", f"{by.word} came back after it had been deleted by {op.word}")


def _name(change: Change) -> str:
    by = "a deletion" if change.after is None else word_of(change.after)
    return f"{by} ({change.how})"
