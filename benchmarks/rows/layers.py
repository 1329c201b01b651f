"""What each policy adds to a call on a healthy Redis, from the inside out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

from benchmarks.batches import Batch, interleave, over
from benchmarks.estimate import estimate, paired
from benchmarks.figure import Figure
from benchmarks.setting import Row, Setting
from benchmarks.workload import TTL, inputs
from remanence import CircuitBreaker, Deadline, Fallback, RedisWorkingMemoryManager, Retry, wrap
from remanence.policies.base import Decorator

__all__ = ["ROWS"]

_BATCH = 100
_ROUNDS = 80

_STACKS: dict[str, tuple[type[Decorator], ...]] = {
    "no policy": (),
    "+ Deadline": (Deadline,),
    "+ Retry": (Deadline, Retry),
    "+ CircuitBreaker": (Deadline, Retry, CircuitBreaker),
    "+ Fallback": (Fallback, Deadline, Retry, CircuitBreaker),
}


def measure(setting: Setting) -> list[Figure]:
    """Measure store and retrieve through ever more policies; each step's cost is what it adds to the one before."""
    figures: list[Figure] = []
    for operation in ("store", "retrieve"):
        with _contenders(setting, operation) as contenders:
            costs = interleave(contenders, rounds=setting.size(_ROUNDS, 4), rng=setting.rng)
        for before, name in pairwise(costs):
            added = estimate(paired(costs[name], costs[before], difference=True))
            note = "the guarded script in place of SETEX" if operation == "store" and before == "bare" else ""
            figures.append(Figure("layers", f"{operation}: {name}", "µs CPU", added, note=note))
    return figures


@contextmanager
def _contenders(setting: Setting, operation: str) -> Iterator[dict[str, Batch]]:
    items = [*inputs(_BATCH // 2), *inputs(_BATCH // 2, shift=7)]
    with ExitStack() as stack:
        found: dict[str, Batch] = {}
        for database, (name, policies) in enumerate([("bare", None), *_STACKS.items()]):
            manager: Any = stack.enter_context(RedisWorkingMemoryManager(setting.url(database), ttl=TTL))
            if policies is not None:
                manager = stack.enter_context(wrap(manager, *(policy() for policy in policies)))
            for item in items:
                manager.store(item)
            found[name] = over(getattr(manager, operation), items)
        yield found


ROWS = (Row("layers", "what each policy adds to a store and a retrieve", measure),)
