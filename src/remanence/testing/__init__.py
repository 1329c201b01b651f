"""The testing kit: what people who build on a memory manager, or write one, test it with.

The pytest plugin (`pytest_remanence`) hands most of it out as fixtures; see docs/testing.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remanence.testing.caught import CaughtTelemetry
    from remanence.testing.clock import ManualClock
    from remanence.testing.conformance import AsyncMemoryManagerConformance, MemoryManagerConformance
    from remanence.testing.fault_injecting import FaultInjecting
    from remanence.testing.faults import Delay, Failure, Fault, Hang, LostReply
    from remanence.testing.machine import MemoryMachine, run_memory_machine
    from remanence.testing.server import RedisForTests
    from remanence.testing.strategies import conversation_ids, memory_inputs, metadata, texts, working_memories

__all__ = [
    "AsyncMemoryManagerConformance",
    "CaughtTelemetry",
    "Delay",
    "Failure",
    "Fault",
    "FaultInjecting",
    "Hang",
    "LostReply",
    "ManualClock",
    "MemoryMachine",
    "MemoryManagerConformance",
    "RedisForTests",
    "conversation_ids",
    "memory_inputs",
    "metadata",
    "run_memory_machine",
    "texts",
    "working_memories",
]

_MODULES = {
    "AsyncMemoryManagerConformance": "conformance",
    "CaughtTelemetry": "caught",
    "Delay": "faults",
    "Failure": "faults",
    "Fault": "faults",
    "FaultInjecting": "fault_injecting",
    "Hang": "faults",
    "LostReply": "faults",
    "ManualClock": "clock",
    "MemoryMachine": "machine",
    "MemoryManagerConformance": "conformance",
    "RedisForTests": "server",
    "conversation_ids": "strategies",
    "memory_inputs": "strategies",
    "metadata": "strategies",
    "run_memory_machine": "machine",
    "texts": "strategies",
    "working_memories": "strategies",
}


def __getattr__(name: str) -> Any:
    # Lazily: a test that wants a clock need not have Hypothesis, OpenTelemetry's SDK or a Redis client.
    if name in _MODULES:
        return getattr(import_module(f"remanence.testing.{_MODULES[name]}"), name)
    message = f"module 'remanence.testing' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
