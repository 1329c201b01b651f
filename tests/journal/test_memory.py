"""The journal in memory against a simple model."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remanence.errors import JournalFullError, ManagerClosedError
from remanence.journal.entry import BLIND, Entry, KeptValue, fold
from remanence.journal.memory import MemoryJournal
from remanence.journal.transitions import JournalCounts, Settlement
from remanence.record import version_of
from tests.support import threads

KEYS = ("a", "b", "c", "d")


def entry(key: str, sequence: int, raw: bytes | None = b"12345", **changes: Any) -> Entry:
    """Return an entry."""
    fields: dict[str, Any] = {
        "key": key,
        "operation": "delete" if raw is None else "store",
        "raw": raw,
        "version": version_of(raw),
        "expires_at": None,
        "base": "base",
        "base_until": 5.0,
        "server": ("run", 0),
        "sent": (),
        "sequence": sequence,
        "journaled_at": float(sequence),
    }
    return Entry(**{**fields, **changes})


def journal(*entries: Entry, max_entries: int = 10, max_bytes: int = 1_000) -> MemoryJournal:
    """Return a journal that holds `entries`."""
    made = MemoryJournal(max_entries=max_entries, max_bytes=max_bytes)
    for one in entries:
        made.record(one.key, lambda _, one=one: one)  # type: ignore[misc]
    return made


class JournalMachine(RuleBasedStateMachine):
    """Any use of the journal agrees with a dict, a list and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.journal = MemoryJournal(max_entries=3, max_bytes=40)
        self.model: dict[str, Entry] = {}
        self.kept: list[KeptValue] = []
        self.flying: set[str] = set()
        self.numbers = iter(range(1, 10**6))
        self.epoch: int | None = None
        self.stale: int | None = None
        self.former: list[int] = []
        self.chunk: list[Entry] = []

    def size(self) -> int:
        """Return the bytes that the model holds."""
        return sum(e.size for e in self.model.values()) + sum(value.size for value in self.kept)

    @rule(
        key=st.sampled_from(KEYS),
        raw=st.none() | st.binary(max_size=20),
        back=st.sampled_from([0, 0, 0, 2]),
        conditional=st.booleans(),
        not_before=st.sampled_from([0.0, 0.0, 10.0]),
    )
    def record(self, key: str, raw: bytes | None, back: int, *, conditional: bool, not_before: float) -> None:
        """Record a write, later or earlier than what is pending."""
        sequence = next(self.numbers) * 3 - back * 3 - bool(back)
        new = entry(key, sequence, raw, conditional=conditional, not_before=not_before)
        pending = self.model.get(key)
        folded, lost = fold(pending, new) if pending is not None else (new, None)
        more = folded.size - (pending.size if pending else 0) + (lost.size if lost else 0)
        full = (pending is None and len(self.model) >= 3) or (more > 0 and self.size() + more > 40)
        before = self.journal.entries()
        if full:
            with pytest.raises(JournalFullError):
                self.journal.record(key, lambda _: new)
            assert self.journal.entries() == before
        else:
            assert self.journal.record(key, lambda _: new) == folded
            self.model[key] = folded
            self.kept += [lost] if lost else []

    @rule(key=st.sampled_from(KEYS))
    def record_nothing(self, key: str) -> None:
        """Let the builder change nothing."""
        assert self.journal.record(key, lambda _: None) == self.model.get(key)

    @rule(key=st.sampled_from(KEYS), ahead=st.booleans(), conditional=st.booleans(), now=st.sampled_from([0.0, 10.0]))
    def supersede(self, key: str, now: float, *, ahead: bool, conditional: bool) -> None:
        """Commit past the pending entry."""
        pending = self.model.get(key)
        number = next(self.numbers) * 3
        sequence = number if ahead or pending is None else pending.sequence - 1
        again = entry(key, sequence, b"committed", conditional=conditional)
        self.journal.supersede(key, lambda: again, now)
        if pending is None:
            return
        if pending.sequence > sequence:
            if not pending.conditional:
                self.model[key] = self._changed(pending, base=again.version, base_until=None)
            return
        if pending.conditional or conditional:
            self.kept.append(KeptValue(key, pending.raw))
        if key in self.flying or pending.not_before > now:
            sent = tuple(dict.fromkeys((*pending.sent, pending.version)))
            self.model[key] = self._changed(again, sent=sent, not_before=pending.not_before)
        else:
            del self.model[key]

    @rule()
    def lease(self) -> None:
        """Ask for the lease."""
        got = self.journal.lease(0.0, 30.0)
        assert (got is None) == (self.epoch is not None)
        if got is not None:
            self.epoch, self.flying = got, set()

    @precondition(lambda self: self.epoch is not None)
    @rule()
    def take_the_lease_over(self) -> None:
        """Let the lease run out and another drainer take it."""
        assert self.epoch is not None
        self.former.append(self.epoch)
        self.stale, self.epoch = self.epoch, self.journal.lease(31.0, -31.0)
        assert self.epoch is not None
        self.journal.lease(0.0, 30.0)
        self.epoch += 1
        for key in self.flying & self.model.keys():
            self.model[key] = self._changed(self.model[key], unanswered=True)
        self.flying = set()

    @precondition(lambda self: self.epoch is not None)
    @rule()
    def release(self) -> None:
        """Give the lease back."""
        assert self.epoch is not None
        for epoch in (*self.former, self.epoch):
            self.journal.release(epoch)
        self.epoch, self.stale, self.former, self.flying, self.chunk = None, None, [], set(), []

    @precondition(lambda self: self.epoch is not None)
    @rule(limit=st.integers(1, 4), now=st.sampled_from([0.0, 10.0]))
    def send(self, limit: int, now: float) -> None:
        """Choose and mark a chunk."""
        assert self.epoch is not None
        due = self.journal.due(now, limit)
        expected = [e for e in self.model.values() if not e.stuck and e.not_before <= now][:limit]
        assert due == expected
        marked = self.journal.mark_sent(self.epoch, due)
        assert [e.key for e in marked] == [e.key for e in due]
        for one in marked:
            sent = tuple(dict.fromkeys((*self.model[one.key].sent, one.version)))
            self.model[one.key] = self._changed(self.model[one.key], sent=sent)
            self.flying.add(one.key)
        self.chunk = marked

    @precondition(lambda self: self.chunk)
    @rule(written=st.none() | st.just("w"), stale=st.booleans(), data=st.data())
    def settle(self, written: str | None, data: st.DataObject, *, stale: bool) -> None:
        """Settle one of the chunk, perhaps without the lease."""
        one = data.draw(st.sampled_from(self.chunk))
        by = self.stale if stale and self.stale is not None else self.epoch
        assert by is not None
        counted = self.journal.settle(by, [Settlement(one, written, ("run", 9), 77.0)])
        pending = self.model.get(one.key)
        assert counted == (by == self.epoch and pending is not None)
        if not counted or pending is None:
            return
        if pending.sequence == one.sequence and pending.not_before <= one.not_before:
            del self.model[one.key]
            self.flying.discard(one.key)
        elif written is not None:
            self.model[one.key] = self._changed(
                pending, base=written, base_until=77.0, server=("run", 9), unanswered=False
            )

    @precondition(lambda self: self.chunk)
    @rule(stale=st.booleans(), data=st.data())
    def set_aside(self, data: st.DataObject, *, stale: bool) -> None:
        """Refuse one of the chunk for good."""
        one = data.draw(st.sampled_from(self.chunk))
        by = self.stale if stale and self.stale is not None else self.epoch
        assert by is not None
        pending = self.model.get(one.key)
        expected = by == self.epoch and pending is not None and pending.sequence == one.sequence and not pending.stuck
        assert self.journal.set_aside(by, one, "DataError") == expected
        if expected and pending is not None:
            self.model[one.key] = self._changed(pending, stuck="DataError")

    @rule()
    def retry_stuck(self) -> None:
        """Give refused ones another chance."""
        self.journal.retry_stuck()
        self.model = {key: self._changed(e, stuck="") for key, e in self.model.items()}

    @precondition(lambda self: self.chunk)
    @rule(until=st.sampled_from([5.0, 20.0]))
    def postpone(self, until: float) -> None:
        """Put the chunk off."""
        self.journal.postpone(self.chunk, until)
        for key in {e.key for e in self.chunk} & self.model.keys():
            self.model[key] = self._changed(self.model[key], not_before=max(until, self.model[key].not_before))

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), all_of_it=st.booleans())
    def forget_kept(self, data: st.DataObject, *, all_of_it: bool) -> None:
        """Have a copy kept, or its memory deleted."""
        value = data.draw(st.sampled_from(self.kept))
        if all_of_it:
            last = self.journal.last_kept
            self.journal.forget_kept_of(value.key, last)
            self.kept = [other for other in self.kept if other.key != value.key]
        else:
            self.journal.forget_kept(value)
            self.kept.remove(value)

    @staticmethod
    def _changed(one: Entry, **changes: Any) -> Entry:
        fields = {name: getattr(one, name) for name in Entry.__dataclass_fields__}
        return Entry(**{**fields, **changes})

    @invariant()
    def agrees(self) -> None:
        """Everything that can be asked has the model's answer."""
        assert {e.key: e for e in self.journal.entries()} == self.model
        assert self.journal.kept() == self.kept
        assert all(self.journal.get(key) == self.model.get(key) for key in KEYS)
        stuck = sum(bool(e.stuck) for e in self.model.values())
        oldest = self.journal.entries()[0].journaled_at if self.model else None
        assert self.journal.counts() == JournalCounts(len(self.model), stuck, self.size(), oldest, len(self.kept))
        assert self.journal.is_idle == (not self.kept and stuck == len(self.model))
        due = [e.not_before for e in self.model.values() if not e.stuck]
        assert self.journal.next_due() == (min(due) if due else None)


JournalMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestJournalAgainstItsModel = JournalMachine.TestCase


def test_the_oldest_come_first() -> None:
    """A write that folds in does not lose the place of the first one."""
    held = journal(entry("a", 1), entry("b", 2), entry("a", 3))
    assert [(e.key, e.sequence) for e in held.due(0.0, 10)] == [("a", 3), ("b", 2)]


def test_a_full_journal_still_takes_a_write_to_a_key_that_waits() -> None:
    """The limit of entries counts keys; what was there before a refusal is untouched."""
    held = journal(entry("a", 1), entry("b", 2), max_entries=2)
    with pytest.raises(JournalFullError, match="2 entries"):
        held.record("c", lambda _: entry("c", 3))
    assert held.record("a", lambda _: entry("a", 4)) is held.get("a")
    assert [e.key for e in held.entries()] == ["a", "b"]


def test_a_journal_over_its_bytes_takes_what_makes_it_smaller() -> None:
    """A deletion gets in even then: it is what the caller wants, and it helps."""
    held = journal(entry("a", 1, b"x" * 10), max_bytes=10)
    with pytest.raises(JournalFullError, match="10 bytes"):
        held.record("a", lambda _: entry("a", 2, b"x" * 11))
    held.record("a", lambda _: entry("a", 3, None))
    assert held.counts().size == 0


def test_a_chunk_that_never_left_is_unmarked() -> None:
    """Else the digests of an hour's outage would pile up in every guard; what was folded in meanwhile is left alone."""
    held = journal(entry("a", 1), entry("b", 2))
    epoch = held.lease(0.0, 30.0)
    assert epoch is not None
    due = held.due(0.0, 10)
    marked = held.mark_sent(epoch, due)
    held.record("b", lambda _: entry("b", 3))
    held.unmark_sent(due, marked)
    one, other = held.get("a"), held.get("b")
    assert one is not None
    assert other is not None
    assert (one.sent, other.sent) == ((), (marked[1].version,))


def test_an_entry_that_changed_is_not_marked() -> None:
    """Between choosing the chunk and marking it a write may come: that entry waits for the next chunk."""
    held = journal(entry("a", 1))
    epoch = held.lease(0.0, 30.0)
    assert epoch is not None
    due = held.due(0.0, 10)
    held.record("a", lambda _: entry("a", 2))
    assert held.mark_sent(epoch, due) == []
    assert held.mark_sent(epoch + 1, held.due(0.0, 10)) == []


def test_a_sealed_journal_accepts_nothing_more() -> None:
    """After closing nobody would bring it home; what it holds stays."""
    held = journal(entry("a", 1))
    held.seal()
    with pytest.raises(ManagerClosedError):
        held.record("b", lambda _: entry("b", 2))
    assert [e.key for e in held.entries()] == ["a"]


def test_clearing_forgets_everything_and_takes_a_fresh_lock() -> None:
    """In a forked child the lock may be held by a thread that does not exist there."""
    held = journal(entry("a", 1))
    held._lock.acquire()
    held.clear()
    assert held.entries() == []
    assert held.counts() == JournalCounts(0, 0, 0, None, 0)


def test_threads_lose_nothing() -> None:
    """Entries of many threads, recorded while another drains, are each either there or settled, sizes exact."""
    held = MemoryJournal(max_entries=10_000, max_bytes=10**6)
    settled: list[str] = []
    stop = threading.Event()

    def body(number: int) -> None:
        if number == 0:
            while not stop.is_set() or len(held):
                epoch = held.lease(0.0, 30.0)
                assert epoch is not None
                chunk = held.mark_sent(epoch, held.due(0.0, 50))
                settled.extend(one.key for one in chunk if held.settle(epoch, [Settlement(one)]))
                held.release(epoch)
            return
        for item in range(300):
            key = f"{number}-{item}"
            held.record(key, lambda _, key=key, item=item: entry(key, number * 1000 + item))  # type: ignore[misc]
        if number == 1:
            stop.set()

    with threads(4, body):
        pass
    left = {e.key for e in held.entries()}
    assert len(settled) == len(set(settled))
    assert left | set(settled) == {f"{n}-{i}" for n in (1, 2, 3) for i in range(300)}
    assert held.counts().size == 5 * len(left)


def test_a_blind_write_stays_blind_over_a_committed_earlier_one() -> None:
    """It may replace that one, which is its own process's; to everybody else's it has no base to win from."""
    blind = entry("a", 2, base=BLIND, base_until=None, server=None)
    held = journal(blind)
    held.supersede("a", lambda: entry("a", 1, raw=b"earlier"), now=0.0)
    pending = held.get("a")
    assert pending is not None
    assert (pending.base, pending.sent) == (BLIND, (version_of(b"earlier"),))


def test_a_write_with_a_base_is_made_over_a_committed_earlier_one() -> None:
    """What the store holds now is its own process's earlier write."""
    held = journal(entry("a", 2))
    held.supersede("a", lambda: entry("a", 1, raw=b"earlier"), now=0.0)
    pending = held.get("a")
    assert pending is not None
    assert (pending.base, pending.base_until) == (version_of(b"earlier"), None)
