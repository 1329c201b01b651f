"""Linearizability: zones and the search agree with the slow truth, and long histories are decided in time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remanence.lab.history import History, Operation, Status, check
from remanence.lab.history import engine as engines
from remanence.lab.history import search as searches
from remanence.lab.history.atomic import Shape, correct_history
from remanence.lab.history.moves import Move, moves_of
from remanence.lab.history.operation import UNKNOWN
from remanence.lab.history.register import check_register
from tests.lab.history.brute import fits_a_register
from tests.lab.history.drawn import doubtful, tiny
from tests.lab.history.support import delete, history, read, write

THOUSANDS = 2_000
PASS, FAIL = Status.PASS, Status.FAIL


def judge(found: list[Operation]) -> bool:
    """Whether the checker lets the operations pass; it must come to a decision."""
    verdict = check_register(History(found))
    if not verdict.checked:
        return True
    assert verdict.status is not Status.UNKNOWN, verdict
    if verdict.status is FAIL:
        assert verdict.witness is not None
        assert str(verdict.witness)
    return verdict.status is PASS


def by_search(found: list[Operation]) -> bool:
    """Whether the search alone, which the zones mostly spare, finds an order."""
    conversation = History(found).conversations[0]
    reads = [each for each in conversation.reads if each.answer == "redis"]
    reads += [
        Operation(each.process, "1", "k", "read", None, each.invoked, each.completed, answer="redis")
        for each in conversation.operations
        if each.reads_absent
    ]
    result = searches.search(moves_of(reads, conversation.writes))
    assert not result.exhausted
    return not result.window


Checker = Callable[[list[Operation]], bool]
Maker = Callable[[Random], list[Operation]]


def agree(checker: Checker, make: Maker, *, examples: int = THOUSANDS) -> None:
    """Compare a checker with trying all orders: on thousands of histories, and on some that Hypothesis can shrink."""

    @settings(max_examples=60)
    @given(st.randoms(use_true_random=False))
    def on_some(draw: Random) -> None:
        found = make(draw)
        assert checker(found) == fits_a_register(found)

    on_some()
    fitting = 0
    for seed in range(examples):
        found = make(Random(seed))
        fits = fits_a_register(found)
        assert checker(found) == fits, f"seed {seed}: {found}"
        fitting += fits
    assert 0.2 < fitting / examples < 0.8, "too few of one kind"


def test_zones_agree_with_every_order() -> None:
    """Without deletes and expiry, the verdict by zones is that of trying all orders."""
    agree(judge, partial(tiny, vanishing=False))


def test_the_checker_agrees_with_every_order() -> None:
    """With deletes, expiry, updates and conditions, the verdict is that of trying all orders."""
    agree(judge, tiny)


def test_the_search_agrees_with_every_order() -> None:
    """The search decides by itself what trying all orders decides."""
    agree(by_search, tiny)
    agree(by_search, doubtful)


def test_a_search_that_errs_often_agrees_with_every_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that follows one guess, and looks again at one call first, goes back all the time; it still decides."""
    monkeypatch.setattr(searches, "_BEAM", 1)
    monkeypatch.setattr(searches, "_FIRST_WINDOW", 1)
    monkeypatch.setattr(engines, "_MORE_LEVELS", 1)
    monkeypatch.setattr(engines, "_CHECKPOINT_EVERY", 1)
    agree(by_search, tiny)
    agree(by_search, doubtful, examples=1_500)


def moves_in(found: History) -> list[Move]:
    """Return the moves of a history with one conversation."""
    conversation = found.conversations[0]
    reads = [each for each in conversation.reads if each.answer == "redis"]
    return sorted(moves_of(reads, conversation.writes), key=lambda move: move.invoked)


@pytest.mark.parametrize("ttl", [None, 0.004])
def test_no_part_of_a_correct_history_is_refuted(ttl: float | None) -> None:
    """Whatever window of a correct history is looked at, and in full: some order fits it."""
    shape = Shape(operations=60, conversations=1, sessions=2, deletes=0.3, ambiguous=0.3, ttl=ttl)
    for seed in range(12):
        moves = moves_in(correct_history(seed, shape))
        for size in (1, 3, 9):
            for move in moves[size::2]:
                if move.until < inf:
                    assert searches._refuted(moves, move.until, size) is None, f"seed {seed}"
        assert engines.Engine(moves[:24], engines.Purse(200_000)).run(stop=moves[24].invoked) is None, f"seed {seed}"


CASES = {
    "an update needs something before it": (FAIL, history(write("a", 0, 1, kind="update"))),
    "an ambiguous write may have been before it": (
        PASS,
        history(write("x", 0, outcome="ambiguous"), write("a", 0, 1, kind="update")),
    ),
    "an ambiguous write that was refused before nothing was read": (
        FAIL,
        history(
            write("x", 0, 1, outcome="ambiguous", not_after=2.0),
            read(None, 5, 6),
            write("a", 7, 8, kind="update"),
        ),
    ),
    "two conditional writes over one value": (
        FAIL,
        history(write("a", 0, 1), write("b", 2, 3, expected="a"), write("c", 4, 5, "p2", expected="a")),
    ),
    "two conditional writes over nothing, with a delete between them": (
        PASS,
        history(write("b", 2, 3, expected=None), delete(3, 4), write("c", 4, 5, "p2", expected=None)),
    ),
    "a delete found something that had been deleted": (
        FAIL,
        history(write("a", 0, 1), delete(2, 3, answer="deleted"), delete(4, 5, "p2", answer="deleted")),
    ),
    "a journaled write that comes later, or never": (
        PASS,
        history(write("a", 0, 1, answer="journaled"), write("b", 2, 3, "p2"), read("b", 4, 5), read("a", 6, 7)),
    ),
    "a read that does not claim to be the store's": (
        PASS,
        history(write("a", 0, 1), write("b", 2, 3), read("a", 4, 5, answer="stale")),
    ),
    "a read of an expired value is not judged": (PASS, history(write("a", 0, 1, ttl=1.0), read("a", 4, 5))),
    "a condition that nobody knows": (Status.UNKNOWN, history(write("a", 0, 1), write("b", 2, 3, expected=UNKNOWN))),
    "a value written twice": (Status.UNKNOWN, history(write("a", 0, 1), write("a", 2, 3))),
    "no call at all": (Status.UNKNOWN, history()),
}


@pytest.mark.parametrize("name", CASES)
def test_a_case(name: str) -> None:
    """Cases with a meaning of their own."""
    expected, found = CASES[name]
    verdict = check_register(found)
    assert verdict.status is expected, verdict


def test_a_gap_in_a_value_is_told_by_its_neighbours() -> None:
    """A read of nothing between a write and a read of its value: the witness is these three."""
    noise = [write(f"x{number}", number * 0.01, number * 0.01 + 0.005) for number in range(20)]
    found = [*noise, write("a", 1, 2), read("a", 3, 4), read(None, 5, 6), read("a", 7, 8), delete(9, 10)]
    witness = check_register(History(found)).witness
    assert witness is not None
    assert [each.invoked for each in witness.operations] == [1, 5, 7]


def test_a_search_without_budget_is_unknown() -> None:
    """Where the budget is used up the answer is "unknown", and says why."""
    crowd = correct_history(1, Shape(operations=3_000, conversations=1, sessions=40, deletes=0.3))
    verdict = check_register(crowd, budget=-140_000)
    assert verdict.status is Status.UNKNOWN
    assert "budget" in verdict.reasons[0]


def test_a_violation_late_in_a_long_history_is_found_and_small() -> None:
    """The witness of a violation after thousands of calls, which only the search can see, holds few of them."""
    before = correct_history(3, Shape(operations=4_000, conversations=1, sessions=2, deletes=0.2, ambiguous=0.0))
    end = max(each.until for each in before.operations if each.until < 1e9) + 1
    key = before.operations[0].key
    calls = [
        write("aa", end, end + 1),
        delete(end + 2, end + 3, answer="deleted"),
        delete(end + 2.5, end + 4, answer="deleted"),
    ]
    moved = [
        Operation(each.process, "1", key, each.kind, each.value, each.invoked, each.completed, answer=each.answer)
        for each in calls
    ]
    verdict = check_register(History([*before.operations, *moved]))
    assert verdict.witness is not None
    assert {each.invoked for each in verdict.witness.operations} == {each.invoked for each in calls[1:]}


def test_tens_of_thousands_of_calls_are_checked_to_the_end() -> None:
    """All five checks of 30 000 calls, deletes among them."""
    shape = Shape(operations=30_000, conversations=64, processes=4, deletes=0.05)
    report = check(correct_history(1, shape))
    assert report.status is not FAIL, report
    assert report.verdict("linearizability").status is PASS, report
