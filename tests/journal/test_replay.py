"""The table of the replay, row by row: pure decisions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.journal.entry import BLIND, Entry
from remanence.journal.replay import Decision, Situation, concatenate, decide, first_guard, has_expired
from remanence.record import ABSENT, decode, digest, encode, stamp, version_of

NOW = 1_800_000_000.0
SKEW = 5.0
SERVER = ("run-1", 0)
BASE = encode("base", None, stamp(NOW - 900), stamp(NOW - 900))


def record(text: str, at: float = NOW - 60) -> bytes:
    """Return a record last updated at `at`."""
    return encode(text, None, stamp(at), stamp(at))


def entry(raw: bytes | None = None, **changes: Any) -> Entry:
    """Return a pending store over BASE; `raw` None is a deletion."""
    fields: dict[str, Any] = {
        "key": "memory:WORKING_MEMORY:c",
        "operation": "delete" if raw is None else "store",
        "raw": raw,
        "version": version_of(raw),
        "expires_at": None,
        "base": digest(BASE),
        "base_until": NOW + 100,
        "server": SERVER,
        "sent": (),
        "sequence": 1,
        "journaled_at": NOW - 60,
    }
    return Entry(**{**fields, **changes})


def situation(held: bytes, **changes: Any) -> Situation:
    """Return what is known when an entry meets `held`."""
    return Situation(**{"held": held, "server": SERVER, "now": NOW, "max_clock_skew": SKEW, **changes})


OURS = record("ours")
THEIRS = record("theirs")
OURS_KEPT = Decision(write=False, keep=(OURS,), loser="ours")


def test_the_first_guard_is_the_base_and_what_was_sent() -> None:
    """Row 1: an entry replaces its base or a value of its own without further thought; a deletion likewise."""
    assert first_guard(entry(OURS, sent=("s1", "s2"))) == (digest(BASE), "s1", "s2")
    assert first_guard(entry(None, sent=("s1",))) == (digest(BASE), "s1")


def test_a_blind_entry_is_first_tried_over_nothing() -> None:
    """A write that knows nothing of the store may only fill an empty place, or replace what was sent for it."""
    assert first_guard(entry(OURS, base=BLIND, sent=("s",))) == (ABSENT, "s")


@pytest.mark.parametrize("held", [record("theirs", NOW - 1000), b""], ids=["replaced", "deleted"])
@pytest.mark.parametrize("raw", [OURS, None], ids=["a store", "a deletion"])
def test_what_the_store_acknowledged_before_contests_nobody(raw: bytes | None, held: bytes) -> None:
    """However new ours looks: whoever replaced or deleted it since could see it, so there is nothing to keep either."""
    again = entry(raw, base=version_of(raw), base_until=None, committed=True)
    assert decide(again, situation(held)) == Decision(write=False)


@pytest.mark.parametrize("base", [BLIND, ABSENT, digest(BASE)], ids=["blind", "over nothing", "over a base"])
@pytest.mark.parametrize("held", [THEIRS, record("older", NOW - 1000), b""], ids=["newer", "older", "nothing"])
def test_what_somebody_who_is_gone_had_sent_contests_nobody(base: str | None, held: bytes) -> None:
    """The store may have held it: what is there now was written, or deleted, over it. Ours is kept as a copy."""
    again = entry(OURS, base=base, sent=(digest(OURS),), unanswered=True)
    assert decide(again, situation(held)) == OURS_KEPT
    assert decide(again, situation(held, resolve=concatenate)) == OURS_KEPT
    over = (digest(OURS),) if base is BLIND else (base, digest(OURS))
    assert tuple(dict.fromkeys(first_guard(again))) == over


def test_a_deletion_that_somebody_who_is_gone_had_sent_finds_nothing() -> None:
    """Then it is done, or somebody else has done it."""
    assert decide(entry(None, unanswered=True, sent=(ABSENT,)), situation(b"")) == Decision(write=False)


@pytest.mark.parametrize("at", [NOW, NOW - 1000])
def test_blind_loses_against_anything(at: float) -> None:
    """Row 2: the store's value stays, however old, and ours becomes a copy."""
    assert decide(entry(OURS, base=BLIND), situation(record("theirs", at))) == OURS_KEPT


def test_a_blind_deletion_loses_too() -> None:
    """What is kept then is the fact of the deletion."""
    assert decide(entry(None, base=BLIND), situation(THEIRS)) == Decision(write=False, keep=(None,), loser="ours")


def test_the_newer_of_two_changes_wins() -> None:
    """Row 3: ours is newer by more than the skew, so it is written over just that value, which is kept."""
    theirs = record("theirs", NOW - 60 - SKEW - 0.001)
    assert decide(entry(OURS), situation(theirs)) == Decision(
        write=True, raw=OURS, guard=(digest(theirs),), keep=(theirs,), loser="theirs"
    )


@pytest.mark.parametrize("difference", [SKEW, SKEW - 0.001, 0.0, -SKEW, -3600.0])
def test_up_to_the_skew_the_stores_value_stays(difference: float) -> None:
    """Row 3: exactly the skew is not more than the skew, and an older one of ours never wins."""
    assert decide(entry(OURS), situation(record("theirs", NOW - 60 - difference))) == OURS_KEPT


@pytest.mark.parametrize("which", ["ours", "theirs", "both"])
def test_a_stamp_without_an_offset_decides_nothing(which: str) -> None:
    """Row 3: naive stamps may come from any time zone, so the store's value stays."""
    naive = "2020-01-01T00:00:00"
    ours = encode("ours", None, naive, naive) if which in {"ours", "both"} else OURS
    theirs = encode("theirs", None, naive, naive) if which in {"theirs", "both"} else record("theirs", NOW - 1000)
    assert decide(entry(ours), situation(theirs)) == Decision(write=False, keep=(ours,), loser="ours")


@pytest.mark.parametrize(
    "theirs", [b"not a record", b"\xff\xfe", b"[]", b'{"data": {"working_memory": 5}}', b"{" * 9999]
)
def test_what_cannot_be_read_is_not_replaced(theirs: bytes) -> None:
    """A corrupt value stays as it is, and ours becomes a copy; a `resolve` is not even asked."""
    assert decide(entry(OURS), situation(theirs, resolve=concatenate)) == OURS_KEPT


def test_a_newer_deletion_deletes_a_change() -> None:
    """Row 3 for a deletion: its time is that of the call; what it removes is kept."""
    theirs = record("theirs", NOW - 900)
    assert decide(entry(None), situation(theirs)) == Decision(
        write=True, raw=None, guard=(digest(theirs),), keep=(theirs,), loser="theirs"
    )


def test_an_older_deletion_loses() -> None:
    """Row 3: the change stays, the deletion is kept as a copy."""
    assert decide(entry(None), situation(THEIRS)) == Decision(write=False, keep=(None,), loser="ours")


@pytest.mark.parametrize("base", [BLIND, ABSENT])
def test_a_write_that_knew_of_nothing_is_written_over_nothing(base: str | None) -> None:
    """Row 4."""
    assert decide(entry(OURS, base=base), situation(b"")) == Decision(write=True, raw=OURS, guard=(ABSENT,))


def test_a_deletion_by_somebody_else_wins() -> None:
    """Row 5: same server, no eviction since, before its time: ours becomes a copy."""
    assert decide(entry(OURS), situation(b"")) == OURS_KEPT


@pytest.mark.parametrize(
    ("changes", "now"),
    [
        ({"server": None}, {}),
        ({}, {"server": None}),
        ({"server": None}, {"server": None}),
        ({}, {"server": ("run-2", 0)}),
        ({}, {"server": ("run-1", 1)}),
        ({"base_until": NOW}, {}),
        ({"base_until": None}, {}),
    ],
    ids=["no identity then", "none now", "neither", "restarted", "evictions since", "its time was out", "life unknown"],
)
def test_what_may_have_gone_by_itself_is_written_again(changes: dict[str, Any], now: dict[str, Any]) -> None:
    """Row 4: a restart without data, an eviction or an expiry is no deletion."""
    assert decide(entry(OURS, **changes), situation(b"", **now)) == Decision(write=True, raw=OURS, guard=(ABSENT,))


def test_a_deletion_finds_nothing() -> None:
    """There is nothing to do and nothing to keep."""
    assert decide(entry(None), situation(b"")) == Decision(write=False)


@pytest.mark.parametrize("held", [THEIRS, b"", record("theirs", 0.0)])
def test_an_entry_that_has_expired_leaves_everything_else_alone(held: bytes) -> None:
    """Row 6: what it was based on is deleted by the first guard; anything else stays, and nothing is kept."""
    expired = entry(OURS, expires_at=NOW)
    assert has_expired(expired, NOW)
    assert decide(expired, situation(held)) == Decision(write=False)


def test_an_entry_expires_at_its_time_and_not_before() -> None:
    """One without a time never does."""
    assert not has_expired(entry(OURS, expires_at=NOW + 0.001), NOW)
    assert not has_expired(entry(OURS, expires_at=None), NOW)


def test_texts_can_be_merged() -> None:
    """With `resolve`, both texts go into the store's record, over just that value, and nothing is kept."""
    theirs = encode("theirs", {"from": "them"}, stamp(0), stamp(NOW - 900))
    ours = encode("ours", {"by": "us"}, stamp(1), stamp(NOW - 60))
    decision = decide(entry(ours), situation(theirs, resolve=concatenate))
    merged = decode(decision.raw or b"", "")
    assert merged.text == "theirs\n\nours"
    assert merged.metadata == {"from": "them", "by": "us"}
    assert (merged.created_at, merged.last_update) == (stamp(0), stamp(NOW))
    assert (decision.write, decision.guard, decision.keep, decision.merged) == (True, (digest(theirs),), (), True)


@pytest.mark.parametrize(
    "changes", [{"base": BLIND}, {"raw": None}, {"expires_at": NOW}], ids=["blind", "deletion", "expired"]
)
def test_what_is_not_a_change_of_both_is_not_merged(changes: dict[str, Any]) -> None:
    """A blind write, a deletion and an expired one go by the table."""
    asked: list[str] = []

    def resolve(theirs: str, ours: str) -> str:
        asked.append(ours)
        return theirs

    decide(entry(changes.pop("raw", OURS), **changes), situation(THEIRS, resolve=resolve))
    assert not asked


def test_what_resolve_raises_comes_through() -> None:
    """Whoever asks for the decision decides what to do about it."""

    def resolve(*_: str) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        decide(entry(OURS), situation(THEIRS, resolve=resolve))


def test_a_resolve_that_gives_no_text_is_refused() -> None:
    """A record without a text must not be written."""
    with pytest.raises(TypeError, match="NoneType"):
        decide(entry(OURS), situation(THEIRS, resolve=lambda *_: None))


_texts = st.text(max_size=5)
_times = st.one_of(st.none(), st.floats(NOW - 50, NOW + 50))
_records = st.builds(lambda text, at: encode(text, None, "", "" if at is None else stamp(at)), _texts, _times)


@given(
    raw=st.none() | _records,
    held=st.just(b"") | _records | st.binary(max_size=4),
    base=st.sampled_from([BLIND, ABSENT, digest(BASE)]),
    expires_at=st.none() | st.floats(NOW - 5, NOW + 5),
    same_server=st.booleans(),
    merge=st.booleans(),
)
def test_nothing_is_lost_by_any_decision(
    *, raw: bytes | None, held: bytes, base: str | None, expires_at: float | None, same_server: bool, merge: bool
) -> None:
    """Whatever does not stand afterwards is kept, merged or expired; a write is guarded by what was held."""
    ours = entry(raw, base=base, expires_at=expires_at)
    now = situation(held, server=SERVER if same_server else None, resolve=concatenate if merge else None)
    decision = decide(ours, now)
    if decision.write:
        assert decision.guard == (digest(held) if held else ABSENT,)
        assert not held or held in decision.keep or decision.merged
        assert decision.merged or decision.raw == raw
    elif not has_expired(ours, NOW) and (raw is not None or held):
        assert decision.keep == (raw,)
    if base is BLIND and held:
        assert not decision.write
