"""Bring pending writes home: a flow that drains the journal in chunks, each under the policies inside the fallback."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from remanence.classify import ErrorClass, classify, is_outage
from remanence.errors import CircuitOpenError, CorruptRecordError, JournalUnavailableError
from remanence.events import ConflictKept, EntryStuck, ReplayFinished
from remanence.flow import Call, Flow, Invoke, KeptCopy, Sleep, WriteItem
from remanence.journal.entry import BLIND, Entry, KeptValue
from remanence.journal.replay import Decision, Situation, decide, first_guard, has_expired
from remanence.journal.transitions import Settlement
from remanence.policies.fallback_state import FallbackState
from remanence.record import ABSENT, check_size, digest, version_of
from remanence.results import ReplayCounts

__all__ = ["Replayer"]

_log = logging.getLogger("remanence")

_FIRST_CHUNK: Final = 16
_CHUNK_BYTES: Final = 4 * 1024 * 1024
_LEASE: Final = 30.0
_SHARED_LEASE: Final = 10.0
"""A drainer that was killed keeps the others of its host waiting for so long."""
_LATER: Final = 1.0
_RETRY_AFTER: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Replayer:
    """Drains one journal.

    Attributes:
        replayed: Entries brought home since construction.
        conflicts: Copies made since construction.
    """

    def __init__(self, state: FallbackState) -> None:
        self._state = state
        self._settings = state.settings
        self._context = state.context
        self._journal = state.journal
        self._knowledge = state.knowledge
        self._chunk = _FIRST_CHUNK
        self._failures = 0
        self._unreleased: int | None = None
        self._merging: dict[str, tuple[str, int]] = {}
        self.replayed = 0
        self.conflicts = 0

    def counts(self, since: tuple[int, int] = (0, 0)) -> ReplayCounts:
        """Return what was done since `(replayed, conflicts)`, and what is left."""
        left = self._journal.counts()
        return ReplayCounts(
            replayed=self.replayed - since[0],
            conflicts=self.conflicts - since[1],
            stuck=left.stuck,
            pending=left.entries - left.stuck,
        )

    def drain(self, seconds: float) -> Flow:
        """Replay until nothing waits, for at most `seconds`, stuck entries once more too; give the `ReplayCounts`."""
        with suppress(JournalUnavailableError):  # those that are not stuck can be brought home all the same
            yield from self._state.journaling(self._journal.retry_stuck)
        since = (self.replayed, self.conflicts)
        deadline = self._context.clock.monotonic() + seconds
        while not self._journal.is_idle:
            pause = yield from self.round(deadline)
            left = deadline - self._context.clock.monotonic()
            if pause is None or left <= 0:
                break
            if pause:
                yield Sleep(min(pause, left))
        return self.counts(since)

    def round(self, deadline: float | None = None) -> Flow:
        """Replay one chunk; give the seconds until the next is worth trying, None when nothing waits.

        Args:
            deadline: Monotonic seconds at which the round must have ended, None for the policies' own.
        """
        if self._journal.is_idle:
            return None
        try:
            return (yield from self._leased_round(deadline))
        except JournalUnavailableError as error:
            # Another process is in the middle of its own write, or the disk is in trouble.
            return self._failed(error)

    def _leased_round(self, deadline: float | None) -> Flow:
        if self._unreleased is not None:
            yield from self._give_back(self._unreleased)
        seconds = _SHARED_LEASE if self._journal.is_shared else _LEASE
        now = self._context.clock.monotonic()
        epoch = yield from self._state.journaling(self._journal.lease, now, seconds)
        if epoch is None:
            return _RETRY_AFTER[0]
        # Whatever this drainer sends is refused once the lease is over, however long it was stopped in between: by then
        # another one may have brought the entries home, and their keys may have been written, or deleted, since.
        deadline = now + seconds if deadline is None else min(deadline, now + seconds)
        try:
            yield from self._keep_waiting(deadline)
            done = yield from self._replay_chunk(epoch, deadline)
        except CircuitOpenError as error:
            return max(error.retry_after, 0.02)
        except Exception as error:  # noqa: BLE001 - whatever it is, the entries stay and the next round tries again
            return self._failed(error)
        finally:
            yield from self._give_back(epoch)
        return (yield from self._pause(done))

    def _give_back(self, epoch: int) -> Flow:
        """Give a lease back, or remember that it could not be: it would hold up every drainer until it ends."""
        self._unreleased = epoch
        yield from self._state.journaling(self._journal.release, epoch)
        self._unreleased = None

    def _pause(self, done: int) -> Flow:
        """Give the seconds until the next round is worth trying, None when nothing waits."""
        if done:
            self._failures = 0
            self._chunk = min(self._chunk * 2, self._context.chunk)
        if self._journal.is_idle:
            return None
        if done:
            return 0.0
        due = yield from self._state.journaling(self._journal.next_due)
        wait = 0.0 if due is None else due - self._context.clock.monotonic()
        return wait if wait > 0 else self._backoff()

    def _failed(self, error: Exception) -> float:
        self._state.last_error = type(error).__name__
        if is_outage(error):
            self._chunk = _FIRST_CHUNK
        else:
            # One entry may be to blame: smaller chunks find it, and the others get through.
            self._chunk = max(1, self._chunk // 4)
            _log.error("replay failed with %s; what is pending stays pending", type(error).__name__)
        return self._backoff()

    def _backoff(self) -> float:
        pause = _RETRY_AFTER[min(self._failures, len(_RETRY_AFTER) - 1)]
        self._failures += 1
        return pause

    def _replay_chunk(self, epoch: int, deadline: float | None) -> Flow:
        """Send the oldest entries that are due; give how many of them are settled."""
        now = self._context.clock.monotonic()
        oldest = _within_bytes((yield from self._state.journaling(self._journal.due, now, self._chunk)))
        if oldest and self._journal.is_shared:
            yield from self._ask(oldest[0].key, deadline)
        due = yield from self._state.journaling(self._journal.mark_sent, epoch, oldest)
        if not due:
            return 0
        begun = self._context.clock.time()
        items = [self._first_item(entry, begun) for entry in due]
        try:
            results = yield from self._reconcile(due, items, deadline)
        except _NeverSentError as error:
            yield from self._state.journaling(self._journal.unmark_sent, oldest, due)
            raise error.cause from None
        except Exception as error:
            if len(due) > 1 or classify(error) is not ErrorClass.CALLER:
                raise
            yield from self._refused(epoch, due[0], error)
            return 0
        settled: list[Settlement] = []
        contested: list[tuple[Entry, bytes]] = []
        for entry, result in zip(due, results, strict=True):
            if result is None:
                settled.append(self._written(entry, None if has_expired(entry, begun) else entry.raw))
            elif isinstance(result, Exception):
                yield from self._refused(epoch, entry, result)
            else:
                contested.append((entry, result))
        # At once, before anything else is asked: until then later writes to these keys wait in the journal.
        count = yield from self._state.journaling(self._journal.settle, epoch, settled)
        self.replayed += count
        count += yield from self._contest(epoch, contested, deadline)
        if count:
            self._context.tell(ReplayFinished(count, len(self._journal)))
        return count

    def _ask(self, key: str, deadline: float | None) -> Flow:
        """See that the store answers: what a process had marked as sent as it was killed is not written again blindly.

        While the store is away a drainer is in the middle of a round most of the time.
        """
        call = Call("retrieve", key)
        call.deadline = deadline
        with suppress(CorruptRecordError):  # an answer, too
            yield Invoke(call)

    def _first_item(self, entry: Entry, now: float) -> WriteItem:
        if has_expired(entry, now):
            return WriteItem(entry.key, None, None, first_guard(entry))
        return WriteItem(entry.key, entry.raw, self._ttl_left(entry, now), first_guard(entry))

    def _contest(self, epoch: int, contested: Sequence[tuple[Entry, bytes]], deadline: float | None) -> Flow:
        """Apply the table to entries whose base no longer stands: first keep what loses, then write what wins."""
        count = 0
        writes: list[tuple[Entry, Decision]] = []
        if any(not held for _, held in contested):
            yield from self._identify(deadline)
        for entry, held in contested:
            # Only for the entry it was made of: a write that was folded in since is not in it.
            if self._merging.get(entry.key) == (digest(held), entry.sequence):
                del self._merging[entry.key]  # it was written, and only the answer was lost
                count += yield from self._brought_home(epoch, self._merged(entry))
                continue
            decision = self._decide(entry, held)
            kept = yield from self._keep(entry.key, decision, deadline)
            if not kept:
                yield from self._postpone(entry)
                continue
            if decision.write:
                writes.append((entry, decision))
            else:
                count += yield from self._state.journaling(self._journal.settle, epoch, [self._left(entry, held)])
        if writes:
            count += yield from self._write_winners(epoch, writes, deadline)
        return count

    def _brought_home(self, epoch: int, settlement: Settlement) -> Flow:
        count = yield from self._state.journaling(self._journal.settle, epoch, [settlement])
        self.replayed += count
        return count

    def _decide(self, entry: Entry, held: bytes) -> Decision:
        situation = Situation(
            held=held,
            server=self._knowledge.server,
            now=self._context.clock.time(),
            max_clock_skew=self._settings.max_clock_skew,
            resolve=self._settings.resolve,
        )
        try:
            decision = decide(entry, situation)
            check_size(decision.raw or b"", self._context.max_memory_bytes)
        except Exception as error:  # noqa: BLE001 - the caller's function; its failure must not hold up the others
            _log.error("resolve failed with %s; the loser is kept as a conflict copy instead", type(error).__name__)
            return decide(entry, replace(situation, resolve=None))
        return decision

    def _write_winners(self, epoch: int, writes: Sequence[tuple[Entry, Decision]], deadline: float | None) -> Flow:
        now = self._context.clock.time()
        items = [WriteItem(entry.key, d.raw, self._ttl_left(entry, now), d.guard) for entry, d in writes]
        # Should the answer be lost: a merged text must not be merged again.
        self._merging |= {e.key: (digest(d.raw), e.sequence) for e, d in writes if d.merged and d.raw is not None}
        try:
            results = yield from self._reconcile([entry for entry, _ in writes], items, deadline)
        except _NeverSentError as error:
            raise error.cause from None
        count = 0
        for (entry, decision), result in zip(writes, results, strict=True):
            self._merging.pop(entry.key, None)
            if result is None or (decision.raw is None and result == b""):
                settlement = self._merged(entry) if decision.merged else self._written(entry, decision.raw)
                count += yield from self._brought_home(epoch, settlement)
            elif isinstance(result, Exception):
                yield from self._refused(epoch, entry, result)
        return count

    def _reconcile(self, entries: Sequence[Entry], items: Sequence[WriteItem], deadline: float | None) -> Flow:
        call = Call("reconcile", items=items)
        call.deadline = deadline
        try:
            return (yield Invoke(call))
        except Exception as error:
            if call.attempts:
                raise
            raise _NeverSentError(error) from None
        finally:
            if call.unsettled_until:
                # For the entry, and for the key: by then a committed write may have taken the entry's place.
                yield from self._state.journaling(self._journal.postpone, entries, call.unsettled_until)
                for entry in entries:
                    self._knowledge.unsettle(entry.key, call.unsettled_until, (entry.version,))

    def _written(self, entry: Entry, raw: bytes | None) -> Settlement:
        """The store holds it now.

        A deletion that comes home leaves conflict copies alone: some may have been kept since it was asked for, and
        nothing tells which.
        """
        stored = self._state.canonical(raw)
        # Known first: a write that comes when the entry is gone must be made over this one.
        self._learn(entry, stored, entry.expires_at)
        # Its digest is known; hashing each record again would be a tenth of a replay.
        version = entry.version if raw is entry.raw else version_of(stored)
        return Settlement(entry, version, self._knowledge.server, entry.expires_at)

    def _merged(self, entry: Entry) -> Settlement:
        """The store holds a text that is partly somebody else's: this process has not seen it."""
        self._unseen(entry)
        return Settlement(entry)

    def _left(self, entry: Entry, held: bytes) -> Settlement:
        """The store's value stayed."""
        if not held and (entry.raw is None or has_expired(entry, self._context.clock.time())):
            self._learn(entry, None, None)
        else:
            self._unseen(entry)
        return Settlement(entry)

    def _learn(self, entry: Entry, stored: bytes | None, until: float | None) -> None:
        if entry.writer == self._journal.writer:
            self._knowledge.learn_replay(entry.key, stored, entry.sequence, until, conditional=entry.conditional)
        else:
            self._knowledge.learn_others_replay(entry.key, entry.version if stored is not None else ABSENT)

    def _unseen(self, entry: Entry) -> None:
        """Have the next plain write to the key spare what its process has not seen."""
        self._knowledge.forget(entry.key)
        if entry.writer == self._journal.writer:
            self._knowledge.mark(entry.key, BLIND)

    def _refused(self, epoch: int, entry: Entry, error: Exception) -> Flow:
        """Set an entry aside that the store will never take; leave one that fails for now behind the others."""
        self._state.last_error = type(error).__name__
        if classify(error) is not ErrorClass.CALLER:
            yield from self._postpone(entry)
        elif (yield from self._state.journaling(self._journal.set_aside, epoch, entry, type(error).__name__)):
            self._context.tell(EntryStuck(type(error).__name__))

    def _postpone(self, entry: Entry) -> Flow:
        """Leave an entry for later, so that those behind it come first."""
        until = self._context.clock.monotonic() + _LATER
        yield from self._state.journaling(self._journal.postpone, [entry], until)

    def _keep(self, key: str, decision: Decision, deadline: float | None) -> Flow:
        """Have the store keep the losing values; give whether it has them (or nobody wants them)."""
        if not decision.keep:
            return True
        if not self._settings.keep_conflicts:
            return True
        stored = yield from self._keep_values([KeptValue(key, raw) for raw in decision.keep], deadline)
        if stored:
            self.conflicts += len(decision.keep)
            self._context.tell(ConflictKept(decision.loser or "ours"))
        return stored

    def _keep_waiting(self, deadline: float | None) -> Flow:
        """Have the store keep the values that lost to another write of this process."""
        waiting = (yield from self._state.journaling(self._journal.kept)) if self._journal.last_kept else ()
        for value in waiting:
            if not self._settings.keep_conflicts:
                yield from self._state.journaling(self._journal.forget_kept, value)
                continue
            if not (yield from self._keep_values([value], deadline)):
                return
            yield from self._state.journaling(self._journal.forget_kept, value)
            self.conflicts += 1
            self._context.tell(ConflictKept("ours"))

    def _keep_values(self, values: Sequence[KeptValue], deadline: float | None) -> Flow:
        call = Call("keep", items=[KeptCopy(value.key, value.raw, self._settings.conflict_ttl) for value in values])
        call.deadline = deadline
        results = yield Invoke(call)
        return not any(isinstance(result, Exception) for result in results)

    def _identify(self, deadline: float | None) -> Flow:
        call = Call("identify")
        call.deadline = deadline
        self._knowledge.learn_server((yield Invoke(call)), ())

    def _ttl_left(self, entry: Entry, now: float) -> float | None:
        return None if entry.expires_at is None else max(entry.expires_at - now, 0.001)


class _NeverSentError(Exception):
    """A chunk failed before anything of it left this process."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


def _within_bytes(entries: Sequence[Entry]) -> list[Entry]:
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        size += entry.size
        if chunk and size > _CHUNK_BYTES:
            break
        chunk.append(entry)
    return chunk
