"""Fair timing: contenders take turns in small batches, and a batch costs what the process's CPU clock says.

On a machine that others use too, the wall clock measures them as well. CPU time of this process does not (the server is
another process); what is left of the noise is the machine's changing speed, which hits neighbouring batches alike.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["Batch", "cpu_of", "interleave", "over", "settled_memory"]

Batch = Callable[[], int]
"""Does its operations and returns how many they were."""


def over(operation: Callable[[Any], object], inputs: Sequence[Any]) -> Batch:
    """Return the batch that does `operation` on each of `inputs`."""

    def batch() -> int:
        for item in inputs:
            operation(item)
        return len(inputs)

    return batch


def interleave(
    contenders: Mapping[str, Batch],
    *,
    rounds: int,
    rng: random.Random,
    warm_up: int = 2,
    clock_ns: Callable[[], int] = time.process_time_ns,
) -> dict[str, list[float]]:
    """Run every contender's batch once per round, in an order drawn anew each round.

    Args:
        contenders: By name; at least one.
        rounds: Rounds that count.
        rng: Draws the order, so that no contender always runs after the same other one.
        warm_up: Rounds before, which do not count: connections, scripts and caches.
        clock_ns: What a batch costs, in ns.

    Returns:
        µs per operation by contender, one for each round, so that equal places are neighbours in time.
    """
    costs: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    with settled_memory():
        for number in range(-warm_up, rounds):
            rng.shuffle(order)
            for name in order:
                begin = clock_ns()
                count = contenders[name]()
                cost = clock_ns() - begin
                if number >= 0:
                    costs[name].append(cost / count / 1000)
    return costs


def cpu_of(batch: Batch) -> tuple[float, float]:
    """Run a batch once; return its CPU and its wall µs per operation."""
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    count = batch()
    cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    return cpu / count / 1000, wall / count / 1000


@contextmanager
def settled_memory() -> Iterator[None]:
    """Keep what exists out of the garbage collector's way: it runs, but over what the contenders make themselves."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
