"""Fair timing: who runs when, and what counts."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from itertools import count

import pytest

from benchmarks.batches import Batch, interleave, over, settled_memory


class Machine:
    """A clock that contenders move, and a log of who ran."""

    def __init__(self) -> None:
        self.now = 0
        self.log: list[str] = []

    def contender(self, name: str, cost: Callable[[int], int], operations: int) -> Batch:
        """Return a batch that costs `cost(number of the run)` ns."""
        runs = count()

        def batch() -> int:
            self.log.append(name)
            self.now += cost(next(runs))
            return operations

        return batch


def test_a_batch_costs_its_time_divided_by_its_operations() -> None:
    """Costs are µs per operation, one for each round that counts."""
    machine = Machine()
    contenders = {"a": machine.contender("a", lambda _: 50_000, 10), "b": machine.contender("b", lambda _: 8_000, 4)}
    costs = interleave(contenders, rounds=3, rng=random.Random(1), clock_ns=lambda: machine.now)
    assert costs == {"a": [5.0] * 3, "b": [2.0] * 3}


def test_every_contender_runs_once_in_each_round_in_changing_order() -> None:
    """Neighbours in time share a place, and nobody always runs first."""
    machine = Machine()
    names = ["a", "b", "c"]
    interleave(
        {name: machine.contender(name, lambda _: 1, 1) for name in names},
        rounds=20,
        rng=random.Random(1),
        warm_up=0,
        clock_ns=lambda: machine.now,
    )
    rounds = [machine.log[begin : begin + 3] for begin in range(0, 60, 3)]
    assert all(sorted(ran) == names for ran in rounds)
    assert {ran[0] for ran in rounds} == set(names)


def test_the_warm_up_does_not_count() -> None:
    """The first rounds run, and leave no cost."""
    machine = Machine()
    slow_start = machine.contender("a", lambda number: 9_000 if number < 2 else 1_000, 1)
    costs = interleave({"a": slow_start}, rounds=2, rng=random.Random(1), clock_ns=lambda: machine.now)
    assert costs == {"a": [1.0, 1.0]}


def test_a_batch_of_calls_does_each_input_once() -> None:
    """`over` calls the operation on every input, in order, and counts them."""
    seen: list[int] = []
    assert over(seen.append, [3, 1, 2])() == 3
    assert seen == [3, 1, 2]


def test_the_collector_gets_its_objects_back() -> None:
    """What was kept out of the collector's way returns to it, also after a failure."""
    frozen: list[int] = []

    def fail() -> None:
        with settled_memory():
            frozen.append(gc.get_freeze_count())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert frozen[0] > 0
    assert gc.get_freeze_count() == 0
