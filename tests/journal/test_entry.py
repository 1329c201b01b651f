"""How two writes of one key become one pending entry."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.journal.entry import BLIND, Entry, KeptValue, fold
from remanence.record import version_of

OPERATIONS = ("store", "update", "delete")


def entry(operation: str, sequence: int, **changes: Any) -> Entry:
    """Return an entry whose record is named after its sequence."""
    raw = None if operation == "delete" else f"r{sequence}".encode()
    fields: dict[str, Any] = {
        "key": "k",
        "operation": operation,
        "raw": raw,
        "version": version_of(raw),
        "expires_at": 100.0 + sequence,
        "base": f"base{sequence}",
        "base_until": 50.0 + sequence,
        "server": ("run", sequence),
        "sent": (),
        "sequence": sequence,
        "journaled_at": float(sequence),
    }
    return Entry(**{**fields, **changes})


@pytest.mark.parametrize("later", OPERATIONS)
@pytest.mark.parametrize("first", OPERATIONS)
def test_a_later_write_takes_the_place_of_the_pending_one(first: str, later: str) -> None:
    """Whatever the two are, the later one's record, expiry and sequence stay, and nothing is kept aside."""
    pending, following = entry(first, 1), entry(later, 2)
    folded, lost = fold(pending, following)
    assert (folded.raw, folded.version, folded.expires_at, folded.sequence) == (
        following.raw,
        following.version,
        following.expires_at,
        2,
    )
    assert lost is None


@pytest.mark.parametrize(
    ("first", "later", "together"),
    [
        ("store", "store", "store"),
        ("store", "update", "store"),
        ("store", "delete", "delete"),
        ("update", "store", "store"),
        ("update", "update", "update"),
        ("update", "delete", "delete"),
        ("delete", "store", "store"),
        ("delete", "delete", "delete"),
    ],
)
def test_what_two_operations_amount_to(first: str, later: str, together: str) -> None:
    """A store stays a store under an update; anything deleted is a deletion; a store after it is a store."""
    assert fold(entry(first, 1), entry(later, 2))[0].operation == together


def test_what_the_pending_entry_knows_of_the_store_stays() -> None:
    """Base, its life, its server and the time of the first write are the pending entry's: both were made over that."""
    folded, _ = fold(entry("store", 1), entry("store", 2))
    assert (folded.base, folded.base_until, folded.server, folded.journaled_at) == ("base1", 51.0, ("run", 1), 1.0)
    assert fold(entry("store", 1, base=BLIND), entry("store", 2))[0].base is BLIND


def test_over_an_unseen_value_a_write_keeps_it_and_its_own_base() -> None:
    """Another process's pending value: neither it nor what it was made over was seen."""
    pending, following = entry("store", 1, writer="a", sent=("x",)), entry("store", 2, writer="b", base="seen")
    folded, lost = fold(pending, following, was_seen=False)
    assert lost == KeptValue("k", b"r1")
    assert (folded.base, folded.base_until, folded.server) == ("seen", 52.0, ("run", 2))
    assert (folded.sent, folded.journaled_at, folded.writer) == (("x",), 1.0, "b")


def test_of_two_processes_writes_at_a_time_the_earlier_one_is_kept() -> None:
    """The later one has not seen it."""
    pending, following = entry("store", 2, writer="a"), entry("store", 1, writer="b")
    folded, lost = fold(pending, following)
    assert (folded.raw, lost) == (b"r2", KeptValue("k", b"r1"))


def test_every_value_that_was_sent_stays_known() -> None:
    """Digests of both are united, the later `not_before` holds, in either order of the two."""
    first = entry("store", 1, sent=("a", "b"), not_before=5.0)
    later = entry("store", 2, sent=("b", "c"), not_before=3.0)
    for folded, _ in (fold(first, later), fold(later, first)):
        assert sorted(folded.sent) == ["a", "b", "c"]
        assert folded.not_before == 5.0


def test_a_write_that_entered_first_and_comes_last_is_replaced() -> None:
    """The order of entry decides, not the order of arrival: the pending one stays as it is."""
    pending = entry("store", 2)
    folded, lost = fold(pending, entry("store", 1))
    assert (folded.raw, folded.sequence, folded.base, lost) == (b"r2", 2, "base2", None)


@pytest.mark.parametrize("which", ["pending", "late"])
def test_a_conditional_write_does_not_replace_what_it_has_not_seen(which: str) -> None:
    """When one of the two is conditional, the one that is replaced out of order is kept as a copy."""
    pending = entry("store", 2, conditional=which == "pending")
    late = entry("store", 1, conditional=which == "late")
    assert fold(pending, late)[1] == KeptValue("k", b"r1")


def test_a_write_after_a_conditional_one_replaces_it() -> None:
    """In order, the later caller may: it comes from the same process, which shows the pending value."""
    folded, lost = fold(entry("store", 1, conditional=True), entry("store", 2))
    assert (folded.raw, folded.conditional, lost) == (b"r2", False, None)


def test_a_write_onto_a_stuck_entry_gets_a_new_chance() -> None:
    """The folded entry is not set aside any more."""
    assert not fold(entry("store", 1, stuck="DataError"), entry("store", 2))[0].stuck


_writes = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.booleans()), min_size=1, max_size=6)


@given(writes=_writes, order=st.randoms(use_true_random=False))
def test_in_whatever_order_writes_arrive_the_last_to_enter_stays(writes: list[tuple[str, bool]], order: Any) -> None:
    """So do all sent digests and the first arrival's base; conditional ones that were overtaken are kept."""
    entries = [
        entry(operation, number, sent=(f"s{number}",), conditional=conditional)
        for number, (operation, conditional) in enumerate(writes, 1)
    ]
    order.shuffle(entries)
    pending, kept = entries[0], []
    for later in entries[1:]:
        overtaken = later.sequence < pending.sequence and (later.conditional or pending.conditional)
        pending, lost = fold(pending, later)
        assert (lost is not None) == overtaken
        kept.append(lost)
    assert pending.sequence == len(writes)
    assert sorted(pending.sent) == sorted(f"s{number}" for number in range(1, len(writes) + 1))
    assert pending.base == entries[0].base
    assert pending.raw == next(e.raw for e in entries if e.sequence == len(writes))


def test_sizes_are_those_of_the_records() -> None:
    """A deletion has no size."""
    assert (entry("store", 12).size, entry("delete", 1).size) == (3, 0)
    assert (KeptValue("k", b"abc").size, KeptValue("k", None).size) == (3, 0)
