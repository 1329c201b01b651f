"""Writes through the fallback, in health and through outages, over both in-memory managers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from remanence import Fallback, wrap
from remanence.events import ConflictKept, WriteJournaled
from remanence.flow import Call
from tests.policies.setting import KEY, Setting, text_of, value
from tests.support import FakeClock, Script, ScriptedManager


def test_a_healthy_store_answers_by_itself(it: Setting) -> None:
    """Nothing is pending or degraded, and what the fallback adds is not seen."""
    receipt = it.store("a")
    answer = it.retrieve()
    assert (receipt.outcome, text_of(answer), answer.source, answer.degraded) == ("committed", "a", "redis", False)
    assert (it.update("b").outcome, it.delete().outcome, it.delete().outcome) == ("committed", "committed", "missing")
    assert it.update("c").outcome == "missing"
    assert it.manager.health().status == "ready"
    assert it.events == []


def test_a_plain_store_on_a_healthy_store_replaces_what_others_wrote(it: Setting) -> None:
    """As the reference does: only versions and degraded reads make a write conditional."""
    it.store("a")
    it.stranger_writes("b")
    assert it.store("c").outcome == "committed"
    assert (it.held(), it.conflicts()) == ("c", [])


def test_writes_are_acknowledged_read_back_and_brought_home(it: Setting) -> None:
    """In the outage this process reads its own writes; afterwards the store has the last one."""
    it.down()
    assert it.store("a").outcome == "journaled"
    assert (text_of(it.retrieve()), it.retrieve().source, it.retrieve().degraded) == ("a", "journal", False)
    assert it.store("b").outcome == "journaled"
    assert text_of(it.retrieve()) == "b"
    it.up()
    assert it.held() is None
    assert it.replay().replayed == 1
    assert (it.held(), it.conflicts(), it.retrieve().source) == ("b", [], "redis")


def test_a_receipt_is_the_key_and_knows_the_version(it: Setting) -> None:
    """The version of a journaled write is good for `if_version` before and after it has come home."""
    it.down()
    first = it.store("a")
    assert first == KEY
    assert it.retrieve().version == first.version
    second = it.store("b", if_version=first.version)
    it.up()
    it.replay()
    assert it.store("c", if_version=second.version).outcome == "committed"


def test_while_an_entry_is_pending_writes_go_through_it(it: Setting) -> None:
    """Also on a store that is healthy again: else the replay would write an older value over a newer one."""
    it.down()
    it.store("a")
    it.up()
    assert it.store("b").outcome == "journaled"
    assert it.told(WriteJournaled) == [WriteJournaled("store", "ConnectionError"), WriteJournaled("store", "pending")]
    it.replay()
    assert (it.held(), it.store("c").outcome) == ("b", "committed")


def test_a_blind_store_does_not_replace_an_existing_record(it: Setting) -> None:
    """The store's value stays, and ours is listed."""
    it.stranger_writes("theirs")
    it.down()
    it.store("ours")
    it.up()
    counts = it.replay()
    assert (it.held(), it.conflicts()) == ("theirs", ["ours"])
    assert (counts.replayed, counts.conflicts, counts.pending) == (0, 1, 0)
    assert it.told(ConflictKept) == [ConflictKept("ours")]


def test_after_a_lost_conflict_the_next_plain_store_spares_the_store(it: Setting) -> None:
    """This process has still not seen what the store holds; after a fresh read it may replace it."""
    it.stranger_writes("theirs")
    it.down()
    it.store("ours")
    it.up()
    it.replay()
    assert it.store("again").outcome == "journaled"
    it.replay()
    assert (it.held(), sorted(map(str, it.conflicts()))) == ("theirs", ["again", "ours"])
    it.retrieve()
    assert it.store("seen").outcome == "committed"
    assert it.held() == "seen"


def test_a_write_over_what_was_read_before_the_outage_comes_home(it: Setting) -> None:
    """Its base still stands."""
    it.stranger_writes("theirs")
    it.retrieve()
    it.down()
    it.store("ours")
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("ours", [])


def test_a_change_by_somebody_else_meanwhile_makes_a_conflict(it: Setting) -> None:
    """Within the clock skew the store's value stays."""
    it.store("base")
    it.down()
    it.store("ours")
    it.stranger_writes("theirs")
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs", ["ours"])


def test_the_newer_of_two_changes_stays(it: Setting) -> None:
    """Ours, made more than the skew later, is written; theirs is kept."""
    it.store("base")
    it.down()
    it.stranger_writes("theirs")
    it.clock.advance(6)
    it.store("ours")
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("ours", ["theirs"])
    assert it.told(ConflictKept) == [ConflictKept("theirs")]


def test_a_newer_deletion_keeps_what_it_removes(it: Setting) -> None:
    """Somebody's acknowledged write that this process had not seen is no part of what its caller wanted deleted."""
    it.store("base")
    it.down()
    it.stranger_writes("theirs")
    it.clock.advance(6)
    it.delete()
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == (None, ["theirs"])


def test_a_plain_store_that_was_overtaken_makes_no_conflict(clock: FakeClock) -> None:
    """A later one was committed while it failed: that is the one that stays, as if both had succeeded."""
    manager: Any = None

    def overtaken(_: Call) -> None:
        script.then = None
        assert manager.store(value("c", "later")).outcome == "committed"
        raise ConnectionError

    script = Script(then=overtaken)
    manager = wrap(ScriptedManager(script, clock=clock), Fallback())
    assert manager.store(value("c", "earlier")).outcome == "journaled"
    assert (len(manager._fallback.journal), manager.conflicts()) == (0, [])
    assert manager.retrieve(value("c"))[0].working_memory == "later"


@pytest.mark.parametrize("error", [ConnectionError(), KeyboardInterrupt()], ids=["journaled", "given up"])
def test_an_overtaken_store_that_arrives_late_is_overwritten(clock: FakeClock, error: BaseException) -> None:
    """A later store was committed while it was under way; should it be applied after all, the later one comes again."""
    manager: Any = None
    late: list[Call] = []

    def overtaken(call: Call) -> None:
        script.then = None
        assert manager.store(value("c", "later")).outcome == "committed"
        late.append(call)
        call.attempts += 1
        call.unsettled_until = clock.now + 1.0
        raise error

    script = Script(then=overtaken)
    manager = wrap(ScriptedManager(script, clock=clock), Fallback())
    manager._background.wake = lambda: None
    with suppress(KeyboardInterrupt):
        manager.store(value("c", "earlier"))
    manager.inner.backend._set(KEY, late[0].raw, None)
    manager.replay()
    assert manager.retrieve(value("c"))[0].working_memory == "later"
    assert manager.conflicts() == []


def test_our_own_value_whose_answer_was_lost_is_recognised(it: Setting) -> None:
    """It is no conflict: the store holds what this call sent."""
    it.store("base")
    it.lose_answers()
    assert it.store("ours").outcome == "journaled"
    it.up()
    it.clock.advance(2)
    it.replay()
    assert (it.held(), it.conflicts()) == ("ours", [])


@pytest.mark.parametrize("operation", ["store", "update", "delete"])
def test_a_later_write_recognises_the_own_value_whose_answer_was_lost(it: Setting, operation: str) -> None:
    """Whatever the first operation was, another store on top of it comes home without a conflict."""
    it.stranger_writes("base")
    it.retrieve()
    it.lose_answers()
    getattr(it, operation)(*(() if operation == "delete" else ("first",)))
    it.up()
    it.clock.advance(2)
    it.store("second")
    it.replay()
    assert (it.held(), it.conflicts()) == ("second", [])


def test_an_update_of_what_was_never_read_recognises_its_own_value(it: Setting) -> None:
    """What was sent was made over what the store held, not over what is known here."""
    it.stranger_writes("base")
    it.lose_answers()
    assert it.update("ours", metadata={"n": 1}).outcome == "journaled"
    it.up()
    it.clock.advance(2)
    it.replay()
    assert it.held() == "ours"
    assert it.conflicts() == ["ours"] or it.conflicts() == []


def test_an_entry_is_not_replayed_before_its_attempt_is_out_of_time(it: Setting) -> None:
    """Until the server would refuse it, an abandoned attempt might undo the replay."""
    it.store("base")
    it.lose_answers()
    it.update("a")
    it.up()
    entry = it.manager._fallback.journal.get(KEY)
    assert entry is not None
    assert entry.not_before == it.clock.now + 1.0
    before = it.clock.now
    it.replay()
    assert it.clock.now >= before + 1.0


@pytest.mark.parametrize("operation", ["store", "delete", "store_many"])
def test_what_may_still_land_on_anybody_is_over_when_its_caller_is_told(it: Setting, operation: str) -> None:
    """Nothing guards a plain write: told earlier, another process could write, and the late attempt displace that."""
    it.store("base")
    it.lose_answers()
    before = it.clock.now
    if operation == "store_many":
        receipts = it.many("store", value("c", "a"), value("d", "b"))
    else:
        receipts = [it.store("a") if operation == "store" else it.delete()]
    assert [receipt.outcome for receipt in receipts] == ["journaled"] * len(receipts)
    assert it.clock.now == before + 1.0
    it.up()


def test_a_guarded_write_is_acknowledged_at_once(it: Setting) -> None:
    """It can replace only what it was made over, so there is nothing to wait for."""
    version = it.store("base").version
    it.lose_answers()
    before = it.clock.now
    assert it.store("a", if_version=version).outcome == "journaled"
    assert it.update("b").outcome == "journaled"
    assert it.clock.now == before
    it.up()


def test_a_write_after_an_abandoned_one_waits_for_it(it: Setting) -> None:
    """A call that failed for its caller may still be applied: what follows goes through the journal, and over it."""
    it.store("base")

    def abandon(call: Call) -> None:
        it.inner._carry_out(call)
        call.unsettled_until = it.clock.now + 1.0
        raise KeyboardInterrupt

    it.down(abandon)
    with pytest.raises(KeyboardInterrupt):
        it.store("abandoned")
    it.up()
    assert it.store("after").outcome == "journaled"
    assert it.told(WriteJournaled)[-1].reason == "unsettled"
    it.replay()
    assert (it.held(), it.conflicts()) == ("after", [])
    assert it.store("later").outcome == "committed"


@pytest.mark.parametrize("ahead", [300.0, -300.0], ids=["ahead", "behind"])
def test_clocks_five_minutes_apart_lose_nothing(make: Callable[..., Setting], ahead: float) -> None:
    """The wrong one of two changes may stand, by its stamp; the other is kept."""
    it = make()
    it.store("base")
    it.down()
    it.store("ours")
    it.clock.advance(1.0)
    it.clock.epoch += ahead
    it.stranger_writes("theirs")
    it.clock.epoch -= ahead
    it.up()
    it.replay()
    assert sorted([str(it.held()), *map(str, it.conflicts())]) == ["ours", "theirs"]
    assert it.held() == ("theirs" if ahead > 0 else "ours")
