"""Read-your-writes and monotonic reads: what is a violation, what is allowed, what cannot be told."""

from __future__ import annotations

import pytest

from remanence.lab.history import History, Status
from remanence.lab.history.sessions import check_monotonic_reads, check_own_writes
from tests.lab.history.support import delete, ending, history, read, write

PASS, FAIL, UNKNOWN = Status.PASS, Status.FAIL, Status.UNKNOWN
OLD = write("a", 0, 1, "p2")

OWN_WRITES = {
    "an older value": (FAIL, history(OLD, write("b", 2, 3), read("a", 4, 5))),
    "older than the one of two own writes that began later": (
        FAIL,
        history(write("a", 0, 1, "p2"), write("b", 0.5, 4), write("c", 2, 3), read("a", 5, 6)),
    ),
    "its own value": (PASS, history(OLD, write("b", 2, 3), read("b", 4, 5))),
    "a value written at the same time": (PASS, history(write("a", 0, 2.5, "p2"), write("b", 2, 3), read("a", 4, 5))),
    "a value written later": (PASS, history(write("b", 2, 3), write("c", 3.5, 4, "p2"), read("c", 4, 5))),
    "before the own write ended": (UNKNOWN, history(OLD, write("b", 2, 3), read("a", 2.5, 5))),
    "only another process wrote": (UNKNOWN, history(OLD, write("b", 2, 3, "p3"), read("a", 4, 5))),
    "a late ambiguous write": (
        PASS,
        history(write("a", 0, 1, "p2", outcome="ambiguous"), write("b", 2, 3), read("a", 4, 5)),
    ),
    "an ambiguous write that is refused by now": (
        FAIL,
        history(write("a", 0, 1, "p2", outcome="ambiguous", not_after=1.5), write("b", 2, 3), read("a", 4, 5)),
    ),
    "an ambiguous write that had been read": (
        FAIL,
        history(
            write("a", 0, outcome="ambiguous", process="p2"), read("a", 1, 1.5, "p3"), write("b", 2, 3), read("a", 4, 5)
        ),
    ),
    "the own write may have failed": (UNKNOWN, history(OLD, write("b", 2, 3, outcome="ambiguous"), read("a", 4, 5))),
    "nothing": (FAIL, history(write("b", 2, 3), read(None, 4, 5))),
    "nothing, after a delete": (PASS, history(write("b", 2, 3), delete(3, 4, "p2"), read(None, 4, 5))),
    "nothing, after a delete that came before": (FAIL, history(delete(0, 1, "p2"), write("b", 2, 3), read(None, 4, 5))),
    "nothing, after a delete that may come late": (
        PASS,
        history(delete(0, process="p2"), write("b", 2, 3), read(None, 4, 5)),
    ),
    "nothing, its time being over": (PASS, history(write("b", 2, 3, ttl=3.0), read(None, 4, 5))),
    "nothing, its time not being over": (FAIL, history(write("b", 2, 3, ttl=3.5), read(None, 4, 5))),
    "what it had deleted": (FAIL, history(OLD, delete(2, 3), read("a", 4, 5))),
    "a stale answer that says so": (UNKNOWN, history(OLD, write("b", 2, 3), read("a", 4, 5, answer="stale"))),
    "nothing is known": (UNKNOWN, history(OLD, write("b", 2, 3), read(None, 4, 5, answer="none"))),
    "an older one from its journal": (FAIL, history(OLD, write("b", 2, 3), read("a", 4, 5, answer="journal"))),
    "of two own pending ones the older": (
        FAIL,
        history(write("a", 0, 1, answer="journaled"), write("b", 2, 3), read("a", 4, 5, answer="journal")),
    ),
    "journaled, lost, and kept": (
        PASS,
        history(OLD, write("b", 2, 3, answer="journaled"), read("a", 4, 5), ending("a", "b")),
    ),
    "journaled, lost together with a later one, which is kept": (
        PASS,
        history(
            OLD,
            write("b", 2, 3, answer="journaled"),
            write("c", 3.1, 6, answer="journaled"),
            read("a", 4, 5),
            ending("a", "c"),
        ),
    ),
    "journaled, while an earlier one is kept": (
        FAIL,
        history(
            OLD,
            write("c", 1.1, 1.2, answer="journaled"),
            write("b", 2, 3, answer="journaled"),
            read("a", 4, 5),
            ending("a", "c"),
        ),
    ),
    "journaled, lost, and not kept": (
        FAIL,
        history(OLD, write("b", 2, 3, answer="journaled"), read("a", 4, 5), ending("a")),
    ),
    "journaled, and the copies deleted": (
        UNKNOWN,
        history(OLD, write("b", 2, 3, answer="journaled"), read("a", 4, 5), delete(6, 7), ending(None)),
    ),
    "journaled, and nobody looked": (UNKNOWN, history(OLD, write("b", 2, 3, answer="journaled"), read("a", 4, 5))),
    "a value written twice": (UNKNOWN, history(OLD, write("a", 2, 3), read("a", 4, 5))),
}

MONOTONIC = {
    "an older value": (FAIL, history(OLD, write("b", 2, 3, "p2"), read("b", 4, 5), read("a", 6, 7))),
    "a newer value": (PASS, history(OLD, read("a", 1, 2), write("b", 2, 3, "p2"), read("b", 6, 7))),
    "an older value first, which is wrong, and then a newer one, which is right": (
        PASS,
        history(OLD, write("b", 2, 3, "p2"), read("a", 4, 5), read("b", 6, 7)),
    ),
    "the same value": (PASS, history(OLD, read("a", 4, 5), read("a", 6, 7))),
    "written at the same time": (
        PASS,
        history(write("a", 0, 4.5, "p2"), write("b", 2, 3, "p3"), read("b", 4, 5), read("a", 6, 7)),
    ),
    "written at the same time, but over before the first read": (
        FAIL,
        history(write("a", 0, 3.5, "p2"), write("b", 2, 3, "p3"), read("b", 4, 5), read("a", 6, 7)),
    ),
    "older, though the first read overlaps with all": (
        FAIL,
        history(OLD, write("b", 2, 3, "p2"), read("b", 0, 5), read("a", 6, 7)),
    ),
    "reads that overlap": (UNKNOWN, history(OLD, write("b", 2, 3, "p2"), read("b", 4, 6), read("a", 5, 7))),
    "of two processes": (UNKNOWN, history(OLD, write("b", 2, 3, "p2"), read("b", 4, 5), read("a", 6, 7, "p3"))),
    "stale, and says so": (
        UNKNOWN,
        history(OLD, write("b", 2, 3, "p2"), read("b", 4, 5), read("a", 6, 7, answer="stale")),
    ),
    "an older one, with an honest one in between": (
        FAIL,
        history(OLD, write("b", 2, 3, "p2"), read("b", 4, 5), read("a", 5.1, 5.2, answer="stale"), read("a", 6, 7)),
    ),
    "back after another value": (
        FAIL,
        history(OLD, write("b", 2, 3, "p2"), read("b", 4, 5), read("b", 5.1, 5.2), read("a", 6, 7)),
    ),
    "nothing": (FAIL, history(OLD, read("a", 4, 5), read(None, 6, 7))),
    "nothing, after a delete": (PASS, history(OLD, read("a", 4, 5), delete(5, 6, "p2"), read(None, 6, 7))),
    "nothing, after a delete that came before": (
        FAIL,
        history(OLD, delete(2, 3, "p2"), write("b", 3.1, 3.2, "p2"), read("b", 4, 5), read(None, 6, 7)),
    ),
    "nothing, its time being over": (PASS, history(write("a", 0, 1, "p2", ttl=6.0), read("a", 4, 5), read(None, 6, 7))),
    "a value that had been deleted": (
        FAIL,
        history(OLD, delete(2, 3, "p2"), read(None, 4, 5), read("a", 6, 7)),
    ),
    "a value at last": (PASS, history(read(None, 4, 5), write("b", 4.5, 5.5, "p2"), read("b", 6, 7))),
    "a journaled value that comes home": (
        PASS,
        history(write("a", 0, 1, "p2", answer="journaled"), write("b", 2, 3, "p2"), read("b", 4, 5), read("a", 6, 7)),
    ),
    "a journaled value that had come home": (
        FAIL,
        history(
            write("a", 0, 1, "p2", answer="journaled"),
            read("a", 1, 1.5, "p3"),
            write("b", 2, 3, "p2"),
            read("b", 4, 5),
            read("a", 6, 7),
        ),
    ),
}


@pytest.mark.parametrize("name", OWN_WRITES)
def test_read_your_writes(name: str) -> None:
    """A read gives its own process's last acknowledged write, or what may have come after it."""
    expected, found = OWN_WRITES[name]
    verdict = check_own_writes(found)
    assert verdict.status is expected, verdict


@pytest.mark.parametrize("name", MONOTONIC)
def test_monotonic_reads(name: str) -> None:
    """The store's answers to one process do not go back."""
    expected, found = MONOTONIC[name]
    verdict = check_monotonic_reads(found)
    assert verdict.status is expected, verdict


def test_every_step_back_counts() -> None:
    """After one step back the next read of the same old value is another, as what was seen first is not forgotten."""
    found = history(OLD, delete(2, 3, "p2"), read(None, 4, 5), read("a", 6, 7), read("a", 8, 9))
    assert check_monotonic_reads(found).violations == 2


def test_a_session_is_less_than_a_process() -> None:
    """Within one process, another session's write binds the process and not the session."""
    found: History = history(OLD, write("b", 2, 3, session="1"), read("a", 4, 5, session="2"))
    assert check_own_writes(found, scope="process").status is FAIL
    assert check_own_writes(found, scope="session").status is UNKNOWN
    back = history(OLD, write("b", 2, 3), read("b", 4, 5, session="1"), read("a", 6, 7, session="2"))
    assert check_monotonic_reads(back, scope="process").status is FAIL
    assert check_monotonic_reads(back, scope="session").status is UNKNOWN
