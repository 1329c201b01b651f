"""What a process knows of the store, and how much memory that takes."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from remanence.journal.entry import BLIND
from remanence.policies import knowledge as module
from remanence.policies.knowledge import Knowledge
from remanence.record import ABSENT, digest, encode
from tests.support import FakeClock, threads


@pytest.fixture
def known(clock: FakeClock) -> Knowledge:
    """An empty knowledge of ten copies and a thousand bytes."""
    return Knowledge(max_copies=10, max_bytes=1_000, monotonic=clock.monotonic)


def test_nothing_known_is_blind_and_not_marked(known: Knowledge) -> None:
    """A plain write to such a key goes to the store as it is."""
    view = known.view("k")
    assert (view.copy, view.marked, view.base, view.is_blind, view.unsettled_until) == (None, False, BLIND, True, 0.0)


def test_a_read_teaches_and_unmarks(known: Knowledge) -> None:
    """What the store answered is the base of the next write, absence included."""
    known.mark("k", BLIND)
    known.learn_read("k", b"v", known.number())
    view = known.view("k")
    assert (view.marked, view.base, view.is_blind) == (False, digest(b"v"), False)
    known.learn_read("k", None, known.number())
    assert known.view("k").base == ABSENT


def test_a_read_from_before_the_degraded_one_does_not_unmark(known: Knowledge) -> None:
    """It entered earlier, so its answer is older than the degraded read."""
    early = known.number()
    known.mark("k", "seen")
    known.learn_read("k", b"v", early)
    view = known.view("k")
    assert (view.marked, view.base) == (True, "seen")


def test_a_read_that_overlaps_a_write_does_not_replace_it(known: Knowledge) -> None:
    """It may have been answered before the write was applied."""
    early = known.number()
    known.learn_write("k", b"new", known.number(), None)
    known.learn_read("k", b"old", early)
    assert known.view("k").base == digest(b"new")


def test_reading_the_same_again_renews_the_copy(known: Knowledge, clock: FakeClock) -> None:
    """Its age counts from the last time that the store said so; what its write told of its life stays."""
    known.learn_write("k", b"v", known.number(), 77.0)
    clock.advance(5)
    known.learn_read("k", b"v", known.number())
    copy = known.view("k").copy
    assert copy is not None
    assert (copy.learned_at, copy.until) == (clock.now, 77.0)


def test_a_write_that_entered_after_the_mark_settles_it(known: Knowledge) -> None:
    """Its guard has seen what the store held."""
    known.mark("k", BLIND)
    known.learn_write("k", b"v", known.number(), None)
    assert not known.view("k").marked


def test_a_write_that_entered_before_the_mark_does_not_settle_it(known: Knowledge) -> None:
    """The degraded read came after it went out: the key stays marked, now over what has been committed."""
    early = known.number()
    known.mark("k", BLIND)
    known.learn_write("k", b"v", early, None)
    view = known.view("k")
    assert (view.marked, view.base) == (True, digest(b"v"))


def test_a_read_of_a_pending_value_is_no_base(known: Knowledge) -> None:
    """The store may never have held it: writes are compared with it, but what loses that way is blind."""
    known.mark("k", "pending", held=False)
    view = known.view("k")
    assert (view.marked, view.mark_base, view.base, view.is_blind) == (True, "pending", BLIND, True)
    known.learn_replay("k", b"v", known.number(), None)
    assert known.view("k").base == digest(b"v")


def test_a_replayed_entry_is_known_but_not_seen(known: Knowledge) -> None:
    """A marked key stays marked, over what was replayed; an unmarked one stays unmarked."""
    known.mark("k", BLIND)
    for key in ("k", "other"):
        known.learn_replay(key, b"v", known.number(), None)
    assert (known.view("k").marked, known.view("k").base) == (True, digest(b"v"))
    assert not known.view("other").marked


def test_a_replayed_entry_does_not_hide_a_later_commit(known: Knowledge) -> None:
    """A call that entered later has already been committed over it."""
    early = known.number()
    known.learn_write("k", b"later", known.number(), None)
    known.learn_replay("k", b"earlier", early, None)
    assert known.view("k").base == digest(b"later")


def test_writes_at_the_same_time_leave_both_possible(known: Knowledge) -> None:
    """The answers do not tell which was applied last: a later write of this process may replace either."""
    first, second = known.number(), known.number()
    known.learn_write("k", b"2", second, None)
    known.learn_write("k", b"1", first, None)
    later = known.number()
    assert known.view("k").own_before(later) == (digest(b"1"), digest(b"2"))
    assert known.view("k").own_before(second) == ()
    known.learn_read("k", b"1", known.number())
    assert known.view("k").own_before(known.number()) == (digest(b"1"),)


def test_the_last_plain_write_is_remembered_behind_a_conditional_one(known: Knowledge) -> None:
    """A plain write that a slower one entered before has replaced that; a conditional one has not."""
    plain = known.number()
    known.learn_write("k", b"1", plain, None)
    known.learn_write("k", b"2", known.number(), None, conditional=True)
    copy = known.view("k").copy
    assert copy is not None
    assert copy.plain == plain
    known.learn_write("other", b"2", known.number(), None, conditional=True)
    other = known.view("other").copy
    assert other is not None
    assert other.plain == 0


def test_an_unreadable_answer_unmarks_without_a_copy(known: Knowledge) -> None:
    """The store was seen, though nothing can be made of it."""
    known.learn_read("k", b"v", known.number())
    known.mark("k", BLIND)
    known.learn_unreadable("k", known.number())
    assert (known.view("k").copy, known.view("k").marked) == (None, False)


@pytest.mark.parametrize(("current", "stays"), [(b"v", True), (b"w", False), (b"", False), (None, False)])
def test_a_refused_write_drops_the_copy_unless_it_is_confirmed(
    known: Knowledge, *, current: bytes | None, stays: bool
) -> None:
    """The refusal tells what the store holds."""
    known.learn_read("k", b"v", known.number())
    known.learn_conflict("k", current)
    assert (known.view("k").copy is not None) is stays


def test_unsettled_attempts_are_over_in_time(known: Knowledge, clock: FakeClock) -> None:
    """Of several the last end counts, and all their digests; their records may be what the store holds ever after."""
    known.unsettle("k", clock.now + 2, ("a",))
    known.unsettle("k", clock.now + 1, ("a", ABSENT, "b"))
    assert (known.view("k").unsettled_until, known.view("k").unsettled) == (clock.now + 2, ("a", ABSENT, "b"))
    clock.advance(2)
    assert (known.view("k").unsettled_until, known.view("k").unsettled) == (0.0, ("a", "b"))


@pytest.mark.parametrize("learn", ["learn_read", "learn_write", "learn_replay"])
def test_unsettled_attempts_are_forgotten_once_it_is_known_what_the_store_holds(
    known: Knowledge, clock: FakeClock, learn: str
) -> None:
    """Not while one may still be applied."""
    until = () if learn == "learn_read" else (None,)
    known.unsettle("k", clock.now + 2, ("a",))
    getattr(known, learn)("k", b"raw", known.number(), *until)
    assert known.view("k").unsettled == ("a",)
    clock.advance(2)
    getattr(known, learn)("k", b"raw", known.number(), *until)
    assert (known.view("k").unsettled, known._unsettled) == ((), {})


def test_unsettled_attempts_do_not_pile_up(known: Knowledge, clock: FakeClock) -> None:
    """Those that are over are thrown out when there are many, whether or not anybody asks for their keys."""
    for number in range(30):
        known.unsettle(f"k{number}", clock.now + 1, ())
        clock.advance(0.5)
    assert len(known._unsettled) <= 11


def test_the_copy_used_longest_ago_goes_first(known: Knowledge) -> None:
    """Beyond the number of copies, and beyond their bytes."""
    for number in range(10):
        known.learn_read(f"k{number}", b"v", known.number())
    known.learn_read("k0", b"v", known.number())
    known.learn_read("new", b"v", known.number())
    assert known.view("k1").copy is None
    assert known.view("k0").copy is not None
    known.learn_read("large", b"x" * 995, known.number())
    assert known.counts() == (6, 1_000)
    known.learn_read("too large", b"x" * 1_001, known.number())
    assert known.view("too large").copy is None


def test_too_many_marks_are_remembered_together(known: Knowledge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than forget that a key was read degraded, every key without a copy counts as marked from then on."""
    monkeypatch.setattr(module, "_MAX_MARKS", 2)
    known.learn_read("c", b"v", known.number())
    for key in ("a", "b", "c"):
        known.mark(key, "seen")
    for key in ("c", "never heard of"):
        view = known.view(key)
        assert (view.marked, view.base, view.is_blind) == (True, BLIND, True)
    known.learn_read("c", b"v", known.number())
    assert not known.view("c").marked
    known.mark("a", "again")
    assert known.view("a").base == "again"


def test_the_server_is_noted_with_the_copies_that_it_answered(known: Knowledge) -> None:
    """Others keep the one that they were learned from."""
    for key in ("a", "b"):
        known.learn_read(key, b"v", known.number())
    known.learn_server(("run", 1), ["a", "gone"])
    a, b = known.view("a").copy, known.view("b").copy
    assert a is not None
    assert b is not None
    assert (a.server, b.server, known.server) == (("run", 1), None, ("run", 1))


def test_a_copy_costs_at_most_600_bytes_beyond_its_text() -> None:
    """With keys as long as those of UUIDs, records included: the budget for a kept conversation."""
    count, text = 2_000, "x" * 500
    texts = [text + str(number) for number in range(count)]
    known = Knowledge(max_copies=count, max_bytes=10**9, monotonic=lambda: 0.0)
    known.learn_read("warm", b"v", known.number())
    stamp = "2026-01-01T00:00:00.000000+00:00"
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number, body in enumerate(texts):
        key = f"memory:WORKING_MEMORY:00000000-0000-0000-0000-{number:012d}"
        known.learn_write(key, encode(body, None, stamp, stamp), known.number(), 1_800_000_000.0 + number)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    beyond = (after - before) / count - len(text)
    print(f"{beyond:.0f} bytes beyond the text")  # noqa: T201 - for whoever wants the number: pytest -rP
    assert beyond <= 600


def test_threads_see_whole_views() -> None:
    """Copies, marks and attempts that change under a reader never make it fail or see a base that never was."""
    known = Knowledge(max_copies=5, max_bytes=100, monotonic=FakeClock().monotonic)
    bases = {BLIND, "seen", *(digest(bytes([n])) for n in range(8))}

    def body(number: int) -> None:
        for _ in range(500):
            known.learn_read("k", bytes([number]), known.number())
            known.mark("k", "seen")
            known.unsettle("k", 2_000.0, (str(number),))
            known.learn_write(f"k{number}", b"v", known.number(), None)
            assert known.view("k").base in bases

    with threads(8, body):
        pass
