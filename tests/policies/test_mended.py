"""Faults that were found and mended, one test each, over both in-memory managers: what must not come back."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from remanence import Fallback, Retry
from remanence.errors import JournalFullError, ManagerClosedError, MemoryUnavailableError
from remanence.events import ConflictKept
from remanence.flow import PROCEED, Call, Sleep
from remanence.journal.entry import BLIND, Entry, KeptValue
from remanence.journal.replay import Situation, concatenate, decide
from remanence.policies.knowledge import Knowledge
from remanence.record import ABSENT, digest, encode, stamp
from tests.policies.setting import DOWN, KEY, NoPermissionError, Setting, text_of, value

# What this process has not seen -------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False], ids=["copies", "no copies"])
def test_reading_its_own_pending_write_is_not_seeing_the_store(make: Callable[..., Setting], *, keep: bool) -> None:
    """A write after it spares the store's value, however much newer it is: the base was never the store's."""
    it = make(keep_conflicts=keep)
    it.stranger_writes("theirs")
    it.down()
    assert it.retrieve().source == "none"
    it.store("first")
    assert (text_of(it.retrieve()), it.retrieve().source) == ("first", "journal")
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs", ["first"] if keep else [])
    it.clock.advance(60)
    it.store("second")
    it.replay()
    assert it.held() == "theirs"
    assert sorted(map(str, it.conflicts())) == (["first", "second"] if keep else [])


def test_a_write_over_nothing_never_wins_by_its_age() -> None:
    """The table: something has appeared since, and this writer has not seen it."""
    ours, theirs = (encode(text, None, stamp(at), stamp(at)) for text, at in (("ours", 2_000.0), ("theirs", 1_000.0)))
    entry = Entry(KEY, "store", ours, digest(ours), None, ABSENT, None, None, (), 1, 2_000.0, conditional=True)
    decision = decide(entry, Situation(held=theirs, server=None, now=2_000.0, max_clock_skew=5.0))
    assert (decision.write, decision.keep, decision.loser) == (False, (ours,), "ours")


def test_a_creation_in_the_outage_leaves_what_somebody_created_meanwhile(it: Setting) -> None:
    """Although the store was known to hold nothing, and ours is much newer."""
    it.retrieve()
    it.down()
    it.stranger_writes("theirs")
    it.clock.advance(60)
    assert it.store("ours", if_version=None).outcome == "journaled"
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs", ["ours"])


def test_marks_outlive_a_fork() -> None:
    """Copies do not; but what the parent had not seen, its child has not seen either."""
    knowledge = Knowledge(max_copies=10, max_bytes=1_000, monotonic=lambda: 0.0)
    knowledge.learn_read("known", b"{}", knowledge.number())
    knowledge.mark("unseen", BLIND)
    knowledge.after_fork()
    assert (knowledge.view("unseen").marked, knowledge.view("known").copy) == (True, None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_spares_what_its_parent_had_not_seen(it: Setting) -> None:
    """Its plain store after the parent's degraded read ends as a conflict copy."""
    it.stranger_writes("theirs")
    it.down()
    it.retrieve()
    it.up()
    child = os.fork()
    if child == 0:
        spared = False
        try:
            it.store("from nothing")
            it.replay()
            spared = (it.held(), it.conflicts()) == ("theirs", ["from nothing"])
        finally:
            os._exit(0 if spared else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


# Attempts that are left behind --------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("operation", ["store", "update", "store_many"])
def test_a_retry_spares_what_was_built_on_its_lost_attempt(
    make: Callable[..., Setting], operation: str, *, known: bool
) -> None:
    """Its first attempt was applied and seen; the second replaces only what the first was made over, or itself."""
    it = make(Fallback(), Retry(attempts=3))
    it.store("base") if known else it.stranger_writes("base")

    def lose(call: Call) -> None:
        it.up()
        it.inner._carry_out(call)
        it.stranger.mutate(value("c"), lambda text: f"{text} and theirs")
        call.unsettled_until = it.clock.now + 1.0
        raise DOWN

    it.down(lose)
    if operation == "store_many":
        receipts = it.many("store", value("c", "ours"), value("d", "another"))
    else:
        receipts = [getattr(it, operation)("ours")]
    assert it.held() == "ours and theirs"
    assert receipts[0].outcome == "journaled"
    it.replay()
    assert (it.held(), it.conflicts()) == ("ours and theirs", ["ours"])


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("operation", ["delete", "delete_many"])
def test_a_repeated_deletion_spares_what_was_stored_after_its_lost_attempt(
    make: Callable[..., Setting], operation: str, *, known: bool
) -> None:
    """Its first attempt was applied, and somebody has stored a new memory since: that is not what was to be deleted."""
    it = make(Fallback(), Retry(attempts=3))
    it.store("base") if known else it.stranger_writes("base")

    def lose(call: Call) -> None:
        it.up()
        it.lose_answer(call)
        assert it.held() is None
        it.stranger_writes("theirs")
        raise DOWN

    it.down(lose)
    receipts = it.many("delete", value("c"), value("d")) if operation == "delete_many" else [it.delete()]
    assert (receipts[0].outcome, it.held()) == ("journaled", "theirs")
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs", [None])


@pytest.mark.parametrize("answers", [1, 9], ids=["once", "for good"])
@pytest.mark.parametrize("operation", ["delete", "delete_many"])
def test_an_answered_deletion_whose_clean_up_fails_is_not_repeated(
    make: Callable[..., Setting], caplog: pytest.LogCaptureFixture, operation: str, *, answers: int
) -> None:
    """What somebody stores between the deletion and the clean-up of its copies stays."""
    it = make(Fallback(), Retry(attempts=2))
    it.store("base")
    backend = it.inner.backend
    drop, left = backend.drop_kept, [answers]

    def drop_kept(call: Call, *keys: str) -> Any:
        if left[0]:
            left[0] -= 1
            it.stranger_writes("theirs")
            raise DOWN
        return (yield from drop(call, *keys))

    backend.drop_kept = drop_kept
    receipts = it.many("delete", value("c"), value("d")) if operation == "delete_many" else [it.delete()]
    assert [receipt.outcome for receipt in receipts] == ["committed", "missing"][: len(receipts)]
    assert (it.held(), it.pending()) == ("theirs", 0)
    assert ("conflict copies of it may be left" in caplog.text) == (answers > 1)


@pytest.mark.parametrize("is_seen", [True, False], ids=["built on it", "made without it"])
def test_a_write_that_a_later_one_of_its_process_has_overtaken_does_not_shadow_it(
    make: Callable[..., Setting], *, is_seen: bool
) -> None:
    """Its first answer was lost; in the journal it would be what the process reads until the replay."""
    it = make(Fallback(), Retry(attempts=3))
    it.store("base")

    def lose(call: Call) -> None:
        it.up()
        if is_seen:
            it.lose_answer(call)
        else:
            call.attempts, call.unsettled_until = 1, it.clock.now + 1.0
        other = threading.Thread(target=it.mutate, args=(lambda text: f"{text} and more",))
        other.start()
        other.join(10)
        raise DOWN

    it.down(lose)
    assert it.store("first").outcome == "journaled"
    expected = "first and more" if is_seen else "base and more"
    assert text_of(it.retrieve()) == expected
    it.replay()
    assert (it.held(), it.conflicts()) == (expected, ["first"])


def test_a_deletion_that_loses_in_the_journal_leaves_its_mark(it: Setting) -> None:
    """A later conditional write has not seen it: what the deletion wanted is told as a conflict, not forgotten."""
    version = it.store("base").version

    def overtake(_: Call) -> None:
        it.down()
        other = threading.Thread(target=it.store, args=("later",), kwargs={"if_version": version})
        other.start()
        other.join(10)
        raise DOWN

    it.down(overtake)
    assert it.delete().outcome == "journaled"
    it.up()
    assert it.conflicts() == [None]
    it.replay()
    assert (it.held(), it.conflicts()) == ("later", [None])


@pytest.mark.parametrize("operation", ["store", "update", "store_many"])
def test_a_retry_goes_through_where_nothing_has_changed(make: Callable[..., Setting], operation: str) -> None:
    """Its first attempt may have been applied but was not: what it was made over still stands and is replaced."""
    it = make(Fallback(), Retry(attempts=3))
    it.store("base")

    def lose(call: Call) -> None:
        it.up()
        call.unsettled_until = it.clock.now + 1.0
        raise DOWN

    it.down(lose)
    if operation == "store_many":
        receipts = it.many("store", value("c", "ours"), value("d", "another"))[:1]
    else:
        receipts = [getattr(it, operation)("ours")]
    assert ([receipt.outcome for receipt in receipts], it.held(), it.conflicts()) == (["committed"], "ours", [])


@pytest.mark.parametrize("applied", [True, False], ids=["applied late", "never applied"])
@pytest.mark.parametrize("error", [NoPermissionError, asyncio.CancelledError])
def test_a_later_committed_write_outlives_an_attempt_that_was_left_behind(
    it: Setting, error: type[BaseException], *, applied: bool
) -> None:
    """It stays pending until that attempt is out of time, however its caller's call ended, and stands in the end."""
    it.store("base")
    left: list[Call] = []

    def leave(call: Call) -> Any:
        it.up()
        left.append(call)
        receipt = it.manager.store(value("c", "V2"))

        def end() -> None:
            assert it.held() == "V2"
            call.attempts += 1
            call.unsettled_until = it.clock.now + 1.0
            raise error

        async def wait() -> None:
            await receipt
            end()

        return wait() if inspect.isawaitable(receipt) else end()

    it.down(leave)
    with pytest.raises(error):
        it.store("V1")
    assert (it.pending(), text_of(it.retrieve())) == (1, "V2")
    until = it.clock.now + 1.0
    if applied:
        it.clock.advance(0.9)
        it.inner.backend._set(KEY, left[0].raw, 1_000.0)
        assert it.held() == "V1"
    assert text_of(it.retrieve()) == "V2"
    it.replay()
    assert it.clock.now >= until
    assert (it.held(), it.pending(), it.conflicts()) == ("V2", 0, [])


def test_what_is_written_once_more_waits_for_a_deletion_that_is_under_way(it: Setting) -> None:
    """Nothing tells what that leaves from what the attempt may leave for whose sake it is written."""
    it.store("V1")
    early, later = (Call("delete", KEY, guarded=True) for _ in range(2))
    later.deadline = it.clock.now + 100.0
    flow = it.manager._fallback.flow
    ahead, behind = flow(early), flow(later)
    assert next(ahead) is PROCEED
    it.store("V2")
    assert next(behind) is PROCEED
    deleted = it.inner._carry_out(later)
    early.attempts, early.unsettled_until = 1, it.clock.now + 1.0
    assert isinstance(ahead.throw(DOWN), Sleep)
    it.clock.advance(1.0)
    for step, answer in ((ahead, None), (behind, deleted)):
        with suppress(StopIteration):
            step.send(answer)
            step.send(None)  # to the question which server it was
        it.replay()
        assert it.held() is None


def test_a_merged_text_whose_answer_was_lost_is_not_merged_again(make: Callable[..., Setting]) -> None:
    """The replay recognises what it has written."""
    it = make(resolve=concatenate)
    it.store("base")
    it.down()
    it.store("ours")
    it.stranger_writes("theirs")

    def lose(call: Call) -> Any:
        if call.operation != "reconcile":
            return None
        results = it.inner._carry_out(call)
        if all(result is None for result in results):
            it.up()
            call.unsettled_until = it.clock.now + 1.0
            raise DOWN
        return results

    it.down(lose)
    it.replay()
    assert it.script.then is None, "no merged text was written"
    assert (it.held(), it.pending(), it.conflicts()) == ("theirs\n\nours", 0, [])


def test_a_write_that_was_folded_in_while_a_merged_text_was_under_way_is_not_lost(make: Callable[..., Setting]) -> None:
    """The store holds the text that was merged of the earlier write: the later one is not in it."""
    it = make(resolve=concatenate)
    it.store("base")
    it.down()
    it.store("ours")
    it.stranger_writes("theirs")

    def lose(call: Call) -> Any:
        if call.operation != "reconcile":
            return None
        results = it.inner._carry_out(call)
        if all(result is None for result in results):
            it.up()
            later = it.manager.store(value("c", "later"))
            call.unsettled_until = it.clock.now + 1.0

            async def wait() -> None:
                await later
                raise DOWN

            if inspect.isawaitable(later):
                return wait()
            raise DOWN
        return results

    it.down(lose)
    it.replay()
    assert it.script.then is None, "no merged text was written"
    assert "later" in (it.held() or "")
    assert (it.pending(), it.conflicts()) == (0, [])


@pytest.mark.parametrize("policies", [(Fallback,), (Fallback, Retry)], ids=["journal", "retry"])
def test_the_last_of_two_items_with_one_key_stands(make: Callable[..., Setting], policies: Any) -> None:
    """Also when the first one fails once, and would be repeated after the second."""
    it = make(*(policy() for policy in policies))

    def fail_first(call: Call) -> Any:
        it.up()
        call.attempts += 1
        return [DOWN, *it.inner._carry_out(Call("store_many", items=call.items[1:]))]

    it.down(fail_first)
    it.many("store", value("c", "first"), value("c", "last"))
    it.replay()
    assert (it.held(), it.conflicts()) == ("last", [])


# Entries that do not come home --------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["no copies", "no permission"])
def test_entries_that_fail_for_now_do_not_hold_up_the_others(it: Setting, trouble: str) -> None:
    """More than a chunk of them stand in front; those behind come home, and they do once the trouble is over."""

    def fail(call: Call) -> Any:
        if call.operation == "keep":
            return [NoPermissionError()] * len(call.items)
        if call.operation != "reconcile" or trouble == "no copies":
            return None
        call.attempts += 1
        allowed = [item for item in call.items if ":old" not in item.key]
        results = iter(it.inner._carry_out(Call("reconcile", items=allowed)))
        return [NoPermissionError() if ":old" in item.key else next(results) for item in call.items]

    it.down()
    for name in [*(f"old{n}" for n in range(40)), *(f"new{n}" for n in range(30))]:
        it.store("ours", name)
    for number in range(40):
        it.stranger_writes("theirs", f"old{number}")
    it.down(fail)
    counts = it.replay()
    assert [it.held(f"new{n}") for n in range(30)] == ["ours"] * 30
    assert (counts.pending, counts.stuck) == (40, 0)
    it.up()
    assert it.replay().pending == 0
    assert (it.held("old0"), it.conflicts()) == ("theirs", ["ours"] * 40)


def test_copies_that_nobody_wants_are_neither_counted_nor_announced(make: Callable[..., Setting]) -> None:
    """Whether they lost to somebody else's write or to another one of this process."""
    it = make(keep_conflicts=False)
    it.stranger_writes("theirs")
    it.down()
    it.store("ours")
    it.manager._fallback.journal._keep(KeptValue(KEY, encode("ours too", None, "", "")))
    it.up()
    counts = it.replay()
    assert (counts.conflicts, counts.pending, it.manager.health().conflicts) == (0, 0, 0)
    assert (it.held(), it.conflicts(), it.told(ConflictKept)) == ("theirs", [], [])


@pytest.mark.parametrize("kind", [JournalFullError, ManagerClosedError, MemoryUnavailableError])
def test_an_error_of_ours_does_not_carry_the_stores(make: Callable[..., Setting], kind: type[Exception]) -> None:
    """Its text may hold keys, values and addresses: neither cause nor context leads there."""
    it = make(max_entries=1, on_unknown="raise")
    it.down(ConnectionError("secret"))
    it.store("a")
    if kind is ManagerClosedError:
        it.manager._fallback.journal.seal()
    with pytest.raises(kind) as caught:
        it.retrieve("d") if kind is MemoryUnavailableError else it.store("b", "d")
    chain: list[BaseException | None] = [caught.value.__cause__, caught.value.__context__]
    assert chain == [None, None]
