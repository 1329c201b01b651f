"""Acknowledged, never lost: every way in which a write may be gone, and every way in which it may not."""

from __future__ import annotations

import pytest

from remanence.lab.history import Status
from remanence.lab.history.acknowledged import check_acknowledged
from tests.lab.history.support import delete, ending, history, read, write

PASS, FAIL, UNKNOWN = Status.PASS, Status.FAIL, Status.UNKNOWN
SHOWN = read(None, 1.5, 1.6, "p2", answer="none")
"""After this, p2 has no reason to think that the store is healthy."""

CASES = {
    "it is there": (PASS, history(write("a", 0, 1), ending("a"))),
    "it is a conflict copy": (PASS, history(write("a", 0, 1), SHOWN, write("b", 2, 3, "p2"), ending("b", "a"))),
    "nothing is there": (FAIL, history(write("a", 0, 1), ending(None))),
    "nobody looked": (UNKNOWN, history(write("a", 0, 1))),
    "nothing was acknowledged": (UNKNOWN, history(write("a", 0, 1, outcome="ambiguous"), ending(None))),
    "replaced by its own process": (PASS, history(write("a", 0, 1), write("b", 2, 3), ending("b"))),
    "replaced by its own process at the same time": (PASS, history(write("a", 0, 2), write("b", 1, 3), ending("b"))),
    "an earlier one of its own process": (FAIL, history(write("b", 0, 1), write("a", 2, 3), ending("b"))),
    "replaced by a reader": (
        PASS,
        history(
            write("a", 0, 1), SHOWN, read("a", 1.7, 1.8, "p2", answer="stale"), write("b", 2, 3, "p2"), ending("b")
        ),
    ),
    "replaced by one who read at the same time": (
        UNKNOWN,
        history(
            write("a", 0, 1), SHOWN, read("a", 1.7, 2.5, "p2", answer="stale"), write("b", 2, 3, "p2"), ending("b")
        ),
    ),
    "replaced by one who read it only later": (
        FAIL,
        history(write("a", 0, 1), SHOWN, write("b", 2, 3, "p2"), read("a", 4, 5, "p2", answer="stale"), ending("b")),
    ),
    "replaced blindly on a healthy store": (PASS, history(write("a", 0, 1), write("b", 2, 3, "p2"), ending("b"))),
    "replaced blindly after a degraded read": (
        FAIL,
        history(write("a", 0, 1), SHOWN, write("b", 2, 3, "p2"), ending("b")),
    ),
    "replaced blindly after a failed read": (
        FAIL,
        history(
            write("a", 0, 1),
            read(None, 1.5, 1.6, "p2", outcome="failed", answer=""),
            write("b", 2, 3, "p2"),
            ending("b"),
        ),
    ),
    "replaced after a degraded read and a good one": (
        PASS,
        history(
            write("a", 0, 1),
            read(None, 0.1, 0.2, "p2", answer="none"),
            read(None, 0.5, 1.8, "p2"),
            write("b", 2, 3, "p2"),
            ending("b"),
        ),
    ),
    "replaced after a degraded read and a write that the store took": (
        PASS,
        history(
            write("a", 0, 2),
            SHOWN,
            write("x", 1.7, 1.8, "p2"),
            write("b", 2.1, 3, "p2"),
            read("b", 4, 5),
            write("c", 6, 7),
            ending("c"),
        ),
    ),
    "replaced blindly by a journal": (
        FAIL,
        history(write("a", 0, 1), SHOWN, write("b", 2, 3, "p2", answer="journaled"), ending("b")),
    ),
    "replaced by a journal, or by the attempt before that": (
        UNKNOWN,
        history(write("a", 0, 1), write("b", 2, 3, "p2", answer="journaled"), ending("b")),
    ),
    "replaced by an attempt whose answer was lost": (
        PASS,
        history(
            write("a", 0, 1),
            write("b", 2, 9, "p2", answer="journaled"),
            read("b", 3, 4, "p3"),
            ending("b"),
        ),
    ),
    "replaced on the condition that it is there": (
        PASS,
        history(write("a", 0, 1), SHOWN, write("b", 2, 3, "p2", expected="a"), ending("b")),
    ),
    "replaced on another condition": (
        FAIL,
        history(write("a", 0, 1), read("a", 1.1, 1.2, "p2"), write("b", 2, 3, "p2", expected="x"), ending("b")),
    ),
    "replaced by one that may not have been applied": (
        UNKNOWN,
        history(write("a", 0, 1), write("b", 2, 3, outcome="ambiguous"), SHOWN, write("c", 4, 5, "p2"), ending("c")),
    ),
    "replaced by an ambiguous one that was read": (
        PASS,
        history(
            write("a", 0, 1),
            write("b", 2, 3, outcome="ambiguous"),
            read("b", 3, 4, "p3"),
            SHOWN,
            write("c", 4, 5, "p2"),
            ending("c"),
        ),
    ),
    "replaced by a pending one that lost": (
        UNKNOWN,
        history(
            write("a", 0, 1), write("b", 2, 3, answer="journaled"), SHOWN, write("c", 4, 5, "p2"), ending("c", "b")
        ),
    ),
    "pending, and replaced in the journal by one that lost": (
        PASS,
        history(
            write("a", 0, 1, answer="journaled"),
            write("b", 2, 3, answer="journaled"),
            SHOWN,
            write("c", 4, 5, "p2"),
            ending("c", "b"),
        ),
    ),
    "something else was there before its writer came back": (
        FAIL,
        history(
            write("a", 0, 1),
            SHOWN,
            write("b", 2, 3, "p2"),
            read("b", 4, 5, "p3"),
            write("c", 6, 7),
            ending("c"),
        ),
    ),
    "something else was there only after its writer came back": (
        PASS,
        history(
            write("a", 0, 1),
            SHOWN,
            write("b", 2, 3, "p2"),
            read("b", 4, 8, "p3"),
            write("c", 6, 7),
            ending("c"),
        ),
    ),
    "something else was there, and it again": (
        PASS,
        history(
            write("a", 0, 1),
            SHOWN,
            write("b", 2, 3, "p2", outcome="ambiguous"),
            read("b", 4, 5, "p3"),
            read("a", 5.1, 5.2, "p3"),
            write("c", 6, 7),
            ending("c"),
        ),
    ),
    "deleted": (PASS, history(write("a", 0, 1), delete(2, 3, "p2"), ending(None))),
    "deleted at the same time": (PASS, history(write("a", 0, 2), delete(1, 3, "p2"), ending(None))),
    "deleted before": (FAIL, history(delete(0, 1, "p2"), write("a", 2, 3), ending(None))),
    "perhaps deleted": (UNKNOWN, history(write("a", 0, 1), delete(2, process="p2"), ending(None))),
    "deleted by a pending one that lost": (
        UNKNOWN,
        history(write("a", 0, 1), delete(2, 3, "p2", answer="journaled"), ending(None, None)),
    ),
    "a conflict copy that a delete of nothing took along": (
        PASS,
        history(write("a", 0, 1, answer="journaled"), delete(2, 3, "p2", answer="missing"), ending(None)),
    ),
    "a committed one is not deleted by a delete of nothing": (
        FAIL,
        history(write("a", 0, 1), delete(2, 3, "p2", answer="missing"), ending(None)),
    ),
    "expired": (PASS, history(write("a", 0, 1, ttl=99.0), ending(None))),
    "perhaps expired": (UNKNOWN, history(write("a", 0, 1, ttl=99.5), ending(None))),
    "not yet expired": (FAIL, history(write("a", 0, 1, ttl=101.0), ending(None))),
    "gone before it expired": (
        FAIL,
        history(write("a", 0, 1, ttl=50.0), read(None, 2, 3, "p2"), ending(None)),
    ),
    "a delete that holds": (PASS, history(write("a", 0, 1), delete(2, 3, "p2"), write("b", 4, 5, "p3"), ending("b"))),
    "a delete that is undone": (FAIL, history(write("a", 0, 1), delete(2, 3, "p2"), ending("a"))),
    "a delete that lost, and is kept": (
        PASS,
        history(write("a", 0, 1), delete(2, 3, "p2", answer="journaled"), ending("a", None)),
    ),
    "a delete, and another's journal comes home after it": (
        PASS,
        history(write("a", 0, 1, answer="journaled"), delete(2, 3, "p2"), ending("a")),
    ),
    "a delete, and its own journal comes home after it": (
        FAIL,
        history(write("a", 0, 1, answer="journaled"), delete(2, 3), ending("a")),
    ),
    "a value written twice": (UNKNOWN, history(write("a", 0, 1), write("a", 2, 3), ending("a"))),
}


@pytest.mark.parametrize("name", CASES)
def test_acknowledged_is_never_lost(name: str) -> None:
    """Every acknowledged write is accounted for at the end."""
    expected, found = CASES[name]
    verdict = check_acknowledged(found)
    assert verdict.status is expected, verdict


def test_lost_updates_are_found_where_nobody_may_overwrite() -> None:
    """Two writers who read the same and both write: the second has not seen the first."""
    lost = history(
        write("a", 0, 1, "p3"),
        read("a", 2, 3),
        read("a", 2, 3, "p2"),
        write("b", 4, 5),
        write("c", 6, 7, "p2"),
        ending("c"),
    )
    assert check_acknowledged(lost, overwrites=True).status is PASS
    assert check_acknowledged(lost, overwrites=False).status is FAIL
