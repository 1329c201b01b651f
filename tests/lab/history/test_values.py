"""What may be read at all, and what may be found at the end."""

from __future__ import annotations

import pytest

from remanence.lab.history import Status
from remanence.lab.history.values import check_values
from tests.lab.history.support import ending, history, read, write

PASS, FAIL = Status.PASS, Status.FAIL

CASES = {
    "a value that is being written": (PASS, history(write("a", 3, 5), read("a", 4, 4.5))),
    "a value of an ambiguous write": (PASS, history(write("a", 3, 5, outcome="ambiguous"), read("a", 6, 7))),
    "a stale value": (PASS, history(write("a", 0, 1), write("b", 2, 3), read("a", 6, 7, answer="stale"))),
    "a value before it was written": (FAIL, history(write("a", 5, 6), read("a", 3, 4))),
    "a stale value that nobody wrote": (FAIL, history(read("a", 6, 7, answer="stale"))),
    "a value of a failed write": (FAIL, history(write("a", 3, 5, outcome="failed"), read("a", 6, 7))),
    "a failed write that was repeated": (
        PASS,
        history(write("a", 3, 5, outcome="failed"), write("a", 6, 7), read("a", 8, 9)),
    ),
    "found at the end": (PASS, history(write("a", 0, 1), ending("a"))),
    "found at the end, and nobody wrote it": (FAIL, history(write("a", 0, 1), ending("b"))),
    "a conflict copy that nobody wrote": (FAIL, history(write("a", 0, 1), ending("a", "b"))),
    "a conflict copy of a failed write": (
        FAIL,
        history(write("a", 0, 1), write("b", 2, 3, outcome="failed"), ending("a", "b")),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values(name: str) -> None:
    """What is read had been written, by a write that had begun and has not failed."""
    expected, found = CASES[name]
    verdict = check_values(found)
    assert verdict.status is expected, verdict
