"""Versions, updates, deletions, mutations and batches through an outage."""

from __future__ import annotations

import pytest

from remanence.errors import (
    MemoryTooLargeError,
    VersionConflictError,
)
from remanence.flow import Call
from remanence.record import encode
from tests.policies.setting import DOWN, KEY, Setting, text_of, value


def test_a_version_is_checked_against_the_pending_write(it: Setting) -> None:
    """The token of what a read shows now is good; an older one is not, and nothing is written."""
    it.down()
    old = it.store("a").version
    new = it.store("b").version
    with pytest.raises(VersionConflictError):
        it.store("x", if_version=old)
    with pytest.raises(VersionConflictError):
        it.update("x", if_version=old)
    with pytest.raises(VersionConflictError):
        it.store("x", if_version=None)
    assert it.store("c", if_version=new).outcome == "journaled"
    assert text_of(it.retrieve()) == "c"


def test_a_version_is_checked_against_the_stale_copy(it: Setting) -> None:
    """It is what this process would answer now."""
    old = it.store("a").version
    new = it.store("b").version
    it.down()
    with pytest.raises(VersionConflictError):
        it.store("x", if_version=old)
    with pytest.raises(VersionConflictError):
        it.store("x", if_version=None)
    assert it.store("c", if_version=new).outcome == "journaled"
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("c", [])


def test_a_version_of_something_unknown_is_taken_at_its_word(it: Setting) -> None:
    """The replay compares it with what the store holds."""
    it.stranger_writes("theirs")
    version = it.stranger.retrieve({"conversation_id": "c"}).version
    it.down()
    assert it.store("ours", if_version=version).outcome == "journaled"
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("ours", [])


def test_only_where_nothing_is_never_wins_over_something(it: Setting) -> None:
    """`if_version=None` in an outage knows nothing of the store: its write is blind, however new it is."""
    it.stranger_writes("theirs")
    it.down()
    it.clock.advance(100)
    assert it.store("ours", if_version=None).outcome == "journaled"
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs", ["ours"])


def test_a_conflict_on_a_healthy_store_is_the_callers(it: Setting) -> None:
    """Nothing is journaled: the store has answered."""
    version = it.store("a").version
    it.stranger_writes("b")
    for write in (it.store, it.update):
        with pytest.raises(VersionConflictError):
            write("x", if_version=version)
    assert (it.pending(), it.held()) == (0, "b")


def test_a_conditional_write_whose_answer_was_lost_is_not_its_own_conflict(it: Setting) -> None:
    """Another caller's read may have shown it by the time that it fails."""
    version = it.store("a").version

    def apply(call: Call) -> None:
        it.inner._carry_out(call)
        raw = it.inner.backend._get(KEY)
        knowledge = it.manager._fallback.knowledge
        knowledge.learn_read(KEY, raw, knowledge.number())
        raise DOWN

    it.down(apply)
    assert it.store("b", if_version=version).outcome == "journaled"
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("b", [])


def test_updates_in_the_outage_build_on_what_is_known(it: Setting) -> None:
    """Metadata merge and `created_at` stays, over the copy and over the pending write."""
    it.store("a")
    it.update("b", metadata={"one": 1})
    created = it.retrieve().created_at
    it.down()
    it.clock.advance(1)
    it.update("c", metadata={"two": 2})
    it.update("d", metadata={"three": 3})
    it.up()
    it.replay()
    answer = it.retrieve()
    assert (text_of(answer), answer.metadata) == ("d", {"one": 1, "two": 2, "three": 3})
    assert answer.created_at == created


def test_a_deletion_in_the_outage_is_seen_and_comes_home(it: Setting) -> None:
    """Reads say that there is nothing, an update that it is missing, and the store forgets it afterwards."""
    it.store("a")
    it.down()
    receipt = it.delete()
    assert (receipt.outcome, receipt.version) == ("journaled", None)
    answer = it.retrieve()
    assert (list(answer), answer.source) == ([], "journal")
    assert it.update("b").outcome == "missing"
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == (None, [])


def test_a_store_after_a_deletion_in_the_outage_is_a_store(it: Setting) -> None:
    """And an update after that updates it."""
    it.store("a")
    it.down()
    it.delete()
    it.store("b")
    assert it.update("c").outcome == "journaled"
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("c", [])


def test_a_deletion_that_comes_home_spares_the_conflict_copies(it: Setting) -> None:
    """Another process's may be among them that was kept since; deleted on a healthy store they all go."""
    it.stranger_writes("theirs")
    it.down()
    it.store("ours")
    it.up()
    it.replay()
    it.retrieve()
    it.down()
    it.delete()
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == (None, ["ours"])
    it.delete()
    assert it.conflicts() == []


def test_the_copies_go_also_when_the_deletion_finds_nothing(it: Setting) -> None:
    """Somebody else may have deleted the memory by other means."""
    it.stranger_writes("theirs")
    it.down()
    it.store("ours")
    it.up()
    it.replay()
    it.inner.backend._remove(KEY)
    assert it.conflicts() == ["ours"]
    it.delete()
    assert it.conflicts() == []


def test_deleting_forgets_what_waits_to_be_kept(it: Setting) -> None:
    """A losing value that the store does not have yet as a copy is part of the conversation."""
    from remanence.journal.entry import KeptValue  # noqa: PLC0415 - of this test alone

    it.store("a")
    journal = it.manager._fallback.journal
    journal._keep(KeptValue(KEY, encode("lost", None, "", "")))
    assert it.conflicts() == ["lost"]
    it.delete()
    assert it.conflicts() == []


def test_mutate_goes_on_through_the_outage(it: Setting) -> None:
    """Over the copy, over the pending write, over a deletion, and over nothing."""
    it.store("a")
    it.down()
    for addition in "bc":
        it.mutate(lambda text, addition=addition: (text or "") + addition)  # type: ignore[misc]
    assert text_of(it.retrieve()) == "abc"
    it.delete()
    assert it.mutate(lambda text: f"{text}!").outcome == "journaled"
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("None!", [])


def test_a_mutation_of_something_unknown_never_displaces_it(it: Setting) -> None:
    """Its function got None because nothing was known, not because nothing was there."""
    it.stranger_writes("theirs")
    it.clock.advance(100)
    it.down()
    it.mutate(lambda text: f"{text}!")
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs", ["None!"])


def test_an_update_that_becomes_too_long_is_refused(it: Setting) -> None:
    """What it adds to the known record is only known in the journal; nothing is kept, and the attempt not forgotten."""
    it.store("a")
    it.down()
    object.__setattr__(it.manager._fallback._state.context, "max_memory_bytes", 300)
    with pytest.raises(MemoryTooLargeError):
        it.update("b" * 200)
    assert it.pending() == 0


def test_a_batch_in_the_outage_is_settled_per_item(it: Setting) -> None:
    """Known ones are stale, pending ones are ours, the others unknown; stores and deletes are all acknowledged."""
    it.store("old", "known")
    it.down()
    it.store("mine", "pending")
    answers = it.many("retrieve", value("known"), value("pending"), value("unknown"))
    assert [answer.source for answer in answers] == ["stale", "journal", "none"]
    receipts = it.many("store", value("known", "1"), value("pending", "2"), value("unknown", "3"))
    assert [receipt.outcome for receipt in receipts] == ["journaled"] * 3
    assert [r.outcome for r in it.many("delete", value("pending"), value("known"))] == ["journaled"] * 2
    it.up()
    it.replay()
    assert (it.held("known"), it.held("pending"), it.held("unknown")) == (None, None, "3")


def test_a_batch_on_a_healthy_store_spares_pending_and_unseen_keys(it: Setting) -> None:
    """The pending one goes through its entry, the one that was read degraded is compared, the third is written."""
    for conversation in ("seen", "other"):
        it.stranger_writes("theirs", conversation)
    it.down()
    it.store("mine", "pending")
    it.retrieve("seen")
    it.up()
    receipts = it.many("store", value("pending", "1"), value("seen", "2"), value("other", "3"))
    assert [receipt.outcome for receipt in receipts] == ["journaled", "journaled", "committed"]
    it.replay()
    assert (it.held("pending"), it.held("seen"), it.held("other")) == ("1", "theirs", "3")
    assert it.conflicts() == ["2"]
    assert [a.source for a in it.many("retrieve", value("pending"), value("x"))] == ["redis", "redis"]


def test_own_values_of_a_batch_whose_answers_were_lost_are_recognised(it: Setting) -> None:
    """Also when only some of the items went out."""
    it.down()
    it.store("waits", "pending")
    it.lose_answers()
    it.many("store", value("pending", "1"), value("a", "2"), value("b", "3"))
    it.up()
    it.clock.advance(2)
    it.replay()
    assert [it.held(name) for name in ("pending", "a", "b")] == ["1", "2", "3"]
    assert it.conflicts() == []


def test_a_cancelled_batch_is_remembered_item_by_item(it: Setting) -> None:
    """Nothing is acknowledged, but what follows waits for the attempts that may still be applied."""

    def abandon(call: Call) -> None:
        it.inner._carry_out(call)
        call.unsettled_until = it.clock.now + 1.0
        raise KeyboardInterrupt

    it.down(abandon)
    with pytest.raises(KeyboardInterrupt):
        it.many("store", value("a", "1"), value("b", "2"))
    it.up()
    assert [it.store("after", name).outcome for name in ("a", "b")] == ["journaled", "journaled"]
    it.replay()
    assert (it.held("a"), it.held("b"), it.conflicts()) == ("after", "after", [])


def test_the_same_key_twice_in_a_batch_ends_with_the_last(it: Setting) -> None:
    """In health, after a degraded read, and in the outage."""
    it.many("store", value("a", "1"), value("a", "2"))
    assert it.held("a") == "2"
    it.down()
    it.many("store", value("a", "3"), value("a", "4"))
    it.up()
    it.replay()
    assert (it.held("a"), it.conflicts()) == ("4", [])
    it.down()
    it.retrieve("a")
    it.up()
    it.many("store", value("a", "5"), value("a", "6"))
    it.replay()
    assert (it.held("a"), it.conflicts()) == ("6", [])
