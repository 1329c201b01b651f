"""Limits, settings, events and health of the fallback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remanence import CircuitBreaker, Deadline, Fallback, Retry, wrap
from remanence.errors import (
    CircuitOpenError,
    ConfigurationError,
    JournalFullError,
)
from remanence.events import ReadDegraded, ReplayFinished, WriteRefused
from remanence.flow import Call
from remanence.journal.replay import concatenate
from remanence.policies.fallback_reads import Reads
from remanence.record import digest, encode, stamp
from tests.policies.setting import DOWN, KEY, Setting, value
from tests.support import Script


def test_a_full_journal_refuses_and_keeps_what_it_has(make: Callable[..., Setting]) -> None:
    """The write is not acknowledged, and says so; earlier ones come home."""
    it = make(max_entries=1)
    it.down()
    it.store("a", "first")
    with pytest.raises(JournalFullError):
        it.store("b", "second")
    refused = it.many("store", value("third", "c"))
    assert isinstance(refused[0], JournalFullError)
    assert it.told(WriteRefused) == [WriteRefused("store", "JournalFullError")] * 2
    it.up()
    it.replay()
    assert (it.held("first"), it.held("second")) == ("a", None)


def test_after_a_full_journal_the_attempt_is_still_awaited(make: Callable[..., Setting]) -> None:
    """The refused write may have been applied all the same."""
    it = make(max_entries=1)
    it.store("base")
    it.down()
    it.store("a", "first")
    it.lose_answers()
    with pytest.raises(JournalFullError):
        it.update("b")
    it.up()
    it.replay()
    assert it.store("c").outcome == "journaled"


def test_losing_values_can_be_thrown_away(make: Callable[..., Setting]) -> None:
    """For those who must not keep them: the winner stands, and there is no copy."""
    it = make(keep_conflicts=False)
    it.stranger_writes("theirs")
    it.down()
    it.store("ours")
    it.up()
    assert it.replay().conflicts == 0
    assert (it.held(), it.conflicts()) == ("theirs", [])


def test_losing_values_can_be_merged(make: Callable[..., Setting]) -> None:
    """Both texts are in the store, and the next plain store does not displace what this process has not seen."""
    it = make(resolve=concatenate)
    it.store("base")
    it.down()
    it.store("ours")
    it.stranger_writes("theirs")
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs\n\nours", [])
    it.store("next")
    it.replay()
    assert (it.held(), it.conflicts()) == ("theirs\n\nours", ["next"])
    it.retrieve()
    assert it.store("seen").outcome == "committed"


def test_a_merged_text_whose_answer_was_lost_is_not_merged_again(make: Callable[..., Setting]) -> None:
    """The store holds what the replay has written: nothing is left to do."""
    it = make(resolve=concatenate)
    it.store("base")
    it.down()
    it.store("ours")
    it.stranger_writes("theirs")

    def lose_the_second(call: Call) -> None:
        if call.operation == "reconcile":
            reconciled.append(call)
            if len(reconciled) == 2:
                it.inner._carry_out(call)
                call.unsettled_until = it.clock.now + 1.0
                raise ConnectionError

    reconciled: list[Call] = []
    it.down(lose_the_second)
    it.replay()
    assert (it.held(), it.pending(), it.conflicts()) == ("theirs\n\nours", 0, [])


@pytest.mark.parametrize(
    "resolve", [lambda *_: 1 / 0, lambda *_: None, lambda *_: "x" * 10**7], ids=["raises", "no text", "too long"]
)
def test_a_resolve_that_fails_holds_up_nobody(
    make: Callable[..., Setting], resolve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The entry goes by the table, the others come home, and the log names the failure without texts."""
    it = make(resolve=resolve)
    it.store("base secret", "a")
    it.down()
    it.store("ours secret", "a")
    it.store("ours", "b")
    it.stranger_writes("theirs secret", "a")
    it.up()
    it.replay()
    assert (it.held("a"), it.held("b"), it.conflicts()) == ("theirs secret", "ours", ["ours secret"])
    assert "resolve failed" in caplog.text
    assert "secret" not in caplog.text


def test_an_entry_that_expires_in_the_outage_deletes_what_it_had_replaced(make: Callable[..., Setting]) -> None:
    """Had it been written in time it would be gone by now, and so would its base."""
    it = make(ttl=10.0)
    it.inner.backend._set(KEY, encode("for ever", None, stamp(0), stamp(0)), None)
    it.retrieve()
    it.down()
    it.store("short")
    it.clock.advance(11)
    it.up()
    it.replay()
    assert (it.held(), it.conflicts(), it.pending()) == (None, [], 0)


def test_an_entry_that_expires_leaves_what_others_wrote(make: Callable[..., Setting]) -> None:
    """Nor is there anything to keep of it."""
    it = make(ttl=10.0)
    it.down()
    it.store("short")
    it.clock.advance(9)
    it.stranger_writes("theirs")
    it.clock.advance(2)
    it.up()
    it.replay()
    assert (it.held(), it.conflicts(), it.pending()) == ("theirs", [], 0)


def test_a_replayed_record_lives_only_as_long_as_it_had_left(make: Callable[..., Setting]) -> None:
    """An outage does not prolong a memory's life."""
    it = make(ttl=10.0)
    it.down()
    it.store("a")
    it.clock.advance(9)
    it.up()
    it.replay()
    assert it.held() == "a"
    it.clock.advance(1.5)
    assert it.held() is None


def test_somebody_elses_deletion_wins(it: Setting) -> None:
    """Of a memory that this process knew, on the same server, before its time: ours becomes a copy."""
    it.store("base")
    it.down()
    it.store("ours")
    it.stranger.delete({"conversation_id": "c"})
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == (None, ["ours"])


def test_a_server_that_lost_its_data_gets_the_writes(it: Setting) -> None:
    """Another run id: nobody deleted anything."""
    it.store("base")
    it.down()
    it.store("ours")
    it.inner.backend._entries.clear()
    it.inner.backend.identify = lambda _: iter_of(("another", 0))
    it.up()
    it.replay()
    assert (it.held(), it.conflicts()) == ("ours", [])


def iter_of(result: Any) -> Any:
    """Return a flow that gives `result` at once."""
    return result
    yield


def test_health_tells_what_the_fallback_knows(it: Setting) -> None:
    """Pending writes make it degraded; age, counts and the last error are there; afterwards it is ready again."""
    it.down()
    it.store("a")
    it.clock.advance(7)
    health = it.manager.health()
    assert (health.status, health.pending, health.oldest_age_s, health.last_error) == (
        "degraded",
        1,
        7.0,
        "ConnectionError",
    )
    it.up()
    it.replay()
    health = it.manager.health()
    assert (health.status, health.pending, health.oldest_age_s, health.replayed) == ("ready", 0, None, 1)
    assert it.told(ReplayFinished) == [ReplayFinished(1, 0)]


def test_an_open_breaker_with_a_working_fallback_is_degraded(make: Callable[..., Setting]) -> None:
    """Not unready: it still acknowledges writes; unready once the journal is full."""
    it = make(Fallback(max_entries=2), CircuitBreaker(failures=1))
    it.down()
    it.store("a", "a")
    health = it.manager.health()
    assert (health.status, health.breaker) == ("degraded", "open")
    it.store("b", "b")
    assert it.manager.health().status == "unready"
    assert it.manager.health().last_error == "ConnectionError"


def test_without_a_fallback_an_open_breaker_is_unready(flavour: Any) -> None:
    """Nothing answers in the store's place."""
    script = Script(then=DOWN)
    manager = wrap(flavour.manager(script), CircuitBreaker(failures=1))
    assert manager.health().status == "ready"
    with pytest.raises(ConnectionError):
        flavour.run(manager.retrieve({"conversation_id": "c"}))
    assert manager.health().status == "unready"


def test_conflicts_are_asked_of_the_store(it: Setting) -> None:
    """While it is away that is an error, not an empty list."""
    it.down()
    with pytest.raises(ConnectionError):
        it.conflicts()


def test_the_whole_stack_brings_writes_home(make: Callable[..., Setting]) -> None:
    """With deadline, retry and breaker: the replay waits for the breaker's permit."""
    it = make(Fallback(), Deadline(), Retry(), CircuitBreaker(failures=3))
    it.store("base")
    it.down()
    assert it.store("ours").outcome == "journaled"
    assert it.manager.health().breaker == "open"
    assert it.retrieve("unknown").source == "none"
    assert it.told(ReadDegraded)[-1].reason == CircuitOpenError.__name__
    it.up()
    assert it.replay().replayed == 1
    assert (it.held(), it.manager.health().status) == ("ours", "ready")


def test_the_age_left_of_a_naive_stamp_is_max_stale(it: Setting) -> None:
    """The framework's stamps may come from any time zone: they say nothing about the life that is left."""
    naive = encode("a", None, "2020-01-01T00:00:00", "2020-01-01T00:00:00")
    it.inner.backend._set(KEY, naive, None)
    it.retrieve()
    it.down()
    assert it.retrieve().source == "stale"
    copy = it.manager._fallback.knowledge.view(KEY).copy
    assert copy is not None
    assert Reads(it.manager._fallback._state)._seconds_left(copy) == 3600.0
    it.store("ours")
    it.inner.backend._remove(KEY)
    it.up()
    it.replay()
    assert it.held() == "ours"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"journal": ""}, "journal must be"),
        ({"on_unknown": "empty"}, "on_unknown must be"),
        ({"resolve": "theirs"}, "resolve must be"),
        ({"max_entries": 0}, "max_entries must be"),
        ({"max_bytes": -1}, "max_bytes must be"),
        ({"max_copies": True}, "max_copies must be"),
        ({"max_copy_bytes": float("inf")}, "max_copy_bytes must be"),
        ({"max_stale": "1"}, "max_stale must be"),
        ({"conflict_ttl": None}, "conflict_ttl must be"),
        ({"max_clock_skew": float("nan")}, "max_clock_skew must be"),
        ({"close_timeout": 0}, "close_timeout must be"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_construction(setting: dict[str, Any], says: str) -> None:
    """The message names it."""
    with pytest.raises(ConfigurationError, match=says):
        Fallback(**setting)


def test_versions_are_digests_of_the_stored_bytes(it: Setting) -> None:
    """Whoever reads the store with another client can compute them."""
    receipt = it.store("a")
    raw = it.inner.backend._get(str(receipt))
    assert receipt.version == digest(raw)
