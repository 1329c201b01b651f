"""The managers without Redis, holding many conversations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from benchmarks.batches import interleave, over
from benchmarks.budget import at_least
from benchmarks.estimate import estimate, paired
from benchmarks.figure import Figure
from benchmarks.setting import NEEDS_FRAMEWORK, Row, Setting
from benchmarks.workload import TTL, inputs, key
from remanence import IMemoryInput, InMemoryManager

__all__ = ["ROWS"]

_HELD = 8_000
_SAMPLE = 500
_THEIR_SAMPLE = 10
_ROUNDS = 30


def measure(setting: Setting) -> list[Figure]:
    """Measure stores over conversations that are held already, so that the size stays what it says."""
    held = inputs(setting.size(_HELD, 400))
    contenders = {
        "ours": over(_filled(held).store, held[:_SAMPLE]),
        "ours, a tenth of them": over(_filled(held[: len(held) // 10]).store, held[: len(held) // 10][:_SAMPLE]),
    }
    if setting.framework is not None:
        theirs = _their_filled(setting.framework.memory_manager(ttl=TTL), held)
        sample = [setting.framework.input(item) for item in held[:_THEIR_SAMPLE]]
        contenders["framework"] = over(theirs.store, sample)
    costs = interleave(contenders, rounds=setting.size(_ROUNDS, 2), rng=setting.rng, warm_up=1)
    compared = "framework" in costs
    what = f"in memory, {len(held):,} held: store"
    return [
        *(Figure("in-memory", f"{what}: {name}", "µs CPU", estimate(cost)) for name, cost in costs.items()),
        Figure(
            "in-memory",
            f"{what}: framework / ours",
            "x faster",
            estimate(paired(costs["framework"], costs["ours"])) if compared else None,
            at_least(500.0),
            "" if compared else NEEDS_FRAMEWORK,
        ),
        Figure(
            "in-memory",
            f"{what}: against a tenth of them",
            "x",
            estimate(paired(costs["ours"], costs["ours, a tenth of them"])),
            note="1 is flat in size",
        ),
    ]


def _filled(items: list[IMemoryInput]) -> InMemoryManager:
    manager = InMemoryManager(ttl=TTL)
    for item in items:
        manager.store(item)
    return manager


def _their_filled(manager: Any, items: list[IMemoryInput]) -> Any:
    """Fill it as its own store would, but at once: it scans everything on each store, so filling it takes a minute."""
    for item in items:
        now = datetime.now().isoformat()  # noqa: DTZ005 - as the framework stamps
        text = item.data[-1].working_memory if item.data else ""
        manager.storage[key(item)] = {
            "data": {"working_memory": text},
            "metadata": {},
            "created_at": now,
            "last_update": now,
        }
    return manager


ROWS = (Row("in-memory", "the managers without Redis, holding many conversations", measure),)
