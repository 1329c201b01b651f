"""Reads through the fallback, and what a degraded one means for the writes after it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from remanence.errors import (
    CorruptRecordError,
    MemoryUnavailableError,
)
from remanence.events import ReadDegraded, WriteJournaled
from tests.policies.setting import NoPermissionError, Setting, text_of, value


def test_the_last_known_copy_is_served_with_its_age(it: Setting) -> None:
    """It says that it is stale, how old it is, and what its version is."""
    version = it.store("a").version
    it.down()
    it.clock.advance(14)
    answer = it.retrieve()
    assert (text_of(answer), answer.source, answer.degraded, answer.age) == ("a", "stale", True, 14.0)
    assert answer.version == version
    assert it.told(ReadDegraded) == [ReadDegraded("stale", 14.0, "ConnectionError")]


def test_known_absence_is_served_too(it: Setting) -> None:
    """Nothing was there when the store was last asked: that is "stale", not "none"."""
    it.retrieve()
    it.down()
    answer = it.retrieve()
    assert (list(answer), answer.source, answer.version) == ([], "stale", None)


def test_a_copy_of_a_write_is_served_until_its_ttl_is_out(make: Callable[..., Setting]) -> None:
    """Not longer: the store would not have it any more."""
    it = make(ttl=100.0, max_stale=10.0)
    it.store("a")
    it.down()
    it.clock.advance(99.9)
    assert it.retrieve().source == "stale"
    it.clock.advance(0.1)
    assert it.retrieve().source == "none"


def test_a_copy_of_a_read_is_served_for_max_stale(make: Callable[..., Setting]) -> None:
    """How long the store will keep it is not known."""
    it = make(ttl=None, max_stale=10.0)
    it.stranger_writes("a")
    it.retrieve()
    it.down()
    it.clock.advance(9.9)
    assert it.retrieve().source == "stale"
    it.clock.advance(0.1)
    assert it.retrieve().source == "none"


def test_a_copy_of_a_read_is_not_served_beyond_its_last_update_and_ttl(make: Callable[..., Setting]) -> None:
    """By then the store must have dropped it, whatever `max_stale` says."""
    it = make(ttl=100.0)
    it.stranger_writes("a")
    it.clock.advance(60)
    it.retrieve()
    it.down()
    it.clock.advance(39.9)
    assert it.retrieve().source == "stale"
    it.clock.advance(0.1)
    assert it.retrieve().source == "none"


def test_unknown_is_not_not_found(it: Setting) -> None:
    """The answer is empty and says "none"."""
    it.down()
    answer = it.retrieve()
    assert (list(answer), answer.source, answer.degraded) == ([], "none", True)
    assert it.told(ReadDegraded) == [ReadDegraded("none", 0.0, "ConnectionError")]


def test_unknown_can_be_an_error(make: Callable[..., Setting]) -> None:
    """With `on_unknown="raise"`; a copy is served all the same, and the key is marked as well."""
    it = make(on_unknown="raise")
    it.store("a", "known")
    it.stranger_writes("theirs")
    it.down()
    with pytest.raises(MemoryUnavailableError):
        it.retrieve()
    assert it.retrieve("known").source == "stale"
    it.up()
    it.store("ours")
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs", ["ours"])


def test_a_read_in_the_outage_and_a_store_after_it_displace_nothing(it: Setting) -> None:
    """The agent read "none", thought, and wrote when the store was healthy again: what the store held stays."""
    it.stranger_writes("theirs")
    it.down()
    it.retrieve()
    it.up()
    assert it.store("ours").outcome == "journaled"
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs", ["ours"])


def test_a_stale_read_and_a_store_after_it_displace_no_change(it: Setting) -> None:
    """The store is only written over what the read had shown."""
    it.store("base")
    it.down()
    it.retrieve()
    it.stranger_writes("theirs")
    it.up()
    it.store("ours")
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs", ["ours"])


def test_a_stale_read_of_what_still_stands_does_no_harm(it: Setting) -> None:
    """The write is made over what the read had shown, in one step."""
    it.store("base")
    it.down()
    it.retrieve()
    it.up()
    assert it.store("ours").outcome == "committed"


@pytest.mark.parametrize("write", ["update", "delete"])
def test_every_kind_of_write_heeds_the_mark(it: Setting, write: str) -> None:
    """An update and a delete after a degraded read spare what the store holds unseen, too."""
    it.stranger_writes("theirs")
    it.down()
    it.retrieve()
    it.up()
    if write == "update":
        it.update("ours")
    else:
        it.delete()
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs", ["ours" if write == "update" else None])


def test_after_a_fresh_read_a_plain_store_replaces_again(it: Setting) -> None:
    """The process has seen what the store holds."""
    it.stranger_writes("theirs")
    it.down()
    it.retrieve()
    it.up()
    it.retrieve()
    assert it.store("ours").outcome == "committed"
    assert (it.held(), it.conflicts()) == ("ours", [])


def test_a_read_of_a_pending_write_marks_it(it: Setting) -> None:
    """What the agent saw was ours; if that lost, its next write must not displace the winner."""
    it.stranger_writes("theirs")
    it.down()
    it.store("first")
    it.retrieve()
    it.up()
    it.replay()
    it.store("second")
    it.replay()
    assert (it.held(), sorted(map(str, it.conflicts()))) == ("theirs", ["first", "second"])


def test_a_read_of_a_pending_write_marks_it_also_when_that_came_home(it: Setting) -> None:
    """What others wrote after the replay has not been seen by the agent, nor by its process."""
    it.down()
    it.store("first")
    it.retrieve()
    it.up()
    it.replay()
    it.stranger_writes("theirs")
    it.store("second")
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs", ["second"])


def test_a_configuration_error_marks_the_key_and_reaches_the_caller(it: Setting) -> None:
    """The read was not answered, and nobody hides a wrong password."""
    it.stranger_writes("theirs")
    it.down(NoPermissionError("NOPERM"))
    with pytest.raises(NoPermissionError):
        it.retrieve()
    assert isinstance(it.many("retrieve", {"conversation_id": "b"})[0], NoPermissionError)
    it.up()
    it.stranger_writes("theirs", "b")
    assert it.store("ours", "b").outcome == "journaled"
    it.store("ours")
    it.replay()
    assert (it.held(), it.held("b"), it.conflicts()) == ("theirs", "theirs", ["ours", "ours"])


def test_a_configuration_error_acknowledges_no_write(it: Setting) -> None:
    """Nothing is pending, single or in a batch."""
    it.down(NoPermissionError("NOPERM"))
    with pytest.raises(NoPermissionError):
        it.store("a")
    assert isinstance(it.many("store", value("c", "a"))[0], NoPermissionError)
    assert (it.pending(), it.told(WriteJournaled)) == (0, [])


def test_a_corrupt_record_reaches_the_caller_who_may_replace_it(it: Setting) -> None:
    """The store did answer: the error says to repair, store or delete, so a plain store after it is let through."""
    key = it.store("a")
    it.inner.backend._set(str(key), b"not a record", None)
    with pytest.raises(CorruptRecordError):
        it.retrieve()
    assert it.store("repaired").outcome == "committed"
    assert it.held() == "repaired"
