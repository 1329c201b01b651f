"""What the package takes: memory for each conversation that it keeps, and time to import."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable

from benchmarks.budget import at_most
from benchmarks.estimate import estimate, exact
from benchmarks.figure import Figure
from benchmarks.setting import Row, Setting
from benchmarks.workload import TTL
from remanence import CircuitBreaker, RedisWorkingMemoryManager, resilient

__all__ = ["ROWS"]

_CONVERSATIONS = 8_000
_STEPS = 8
_TEXT = 1_000
_IMPORTS = 11

_IMPORT = """
import json, sys, time
cpu, wall = time.process_time(), time.perf_counter()
import remanence
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
heavy = [name for name in ("redis", "pytest", "hypothesis", "opentelemetry.sdk") if name in sys.modules]
print(json.dumps([wall * 1000, cpu * 1000, heavy]))
"""


def measure_memory(setting: Setting) -> list[Figure]:
    """Measure what stays allocated after calls whose inputs and answers are gone."""
    count = setting.size(_CONVERSATIONS, 400)
    breaker = CircuitBreaker()
    with (
        RedisWorkingMemoryManager(setting.url(3), ttl=TTL) as inner,
        resilient(inner) as writer,
        resilient(inner) as reader,
        resilient(inner, circuit_breaker=breaker) as cut_off,
    ):
        figures = [
            _memory("written", count, lambda number: writer.store(_item(number))),
            _memory("read", count, lambda number: reader.retrieve(_item(number))),
        ]
        breaker.force_open()
        pending = _memory("pending write", count, lambda number: cut_off.store(_item(number)))
        breaker.reset()
        cut_off.replay(timeout=60)
    budget = at_most(600.0)
    return [
        *(Figure(f.row, f.what, f.unit, f.value, budget) for f in figures),
        pending,
    ]


def _item(number: int) -> dict[str, str]:
    return {"conversation_id": f"footprint-{number:06d}", "working_memory": f"{number:06d} ".ljust(_TEXT, "x")}


def _memory(what: str, count: int, call: Callable[[int], object]) -> Figure:
    """Return the most that a conversation takes at any of several sizes: tables grow in leaps."""
    call(count)  # connections and caches
    gc.collect()
    tracemalloc.start()
    try:
        begin, _ = tracemalloc.get_traced_memory()
        worst = 0.0
        for number in range(count):
            call(number)
            if (number + 1) % (count // _STEPS) == 0:
                gc.collect()
                held = tracemalloc.get_traced_memory()[0] - begin
                worst = max(worst, held / (number + 1) - _TEXT)
    finally:
        tracemalloc.stop()
    return Figure("memory", f"memory per conversation beyond its text: {what}", "B", exact(worst))


def measure_import(setting: Setting) -> list[Figure]:
    """Import the package in fresh interpreters; the time to start them does not count."""
    runs = [_import() for _ in range(setting.size(_IMPORTS, 2) + 1)][1:]
    heavy = sorted({name for _, _, names in runs for name in names})
    walls = [wall for wall, _, _ in runs]
    return [
        Figure("import", "import remanence", "ms", estimate(walls), at_most(250.0), f"fastest {min(walls):.0f} ms"),
        Figure("import", "import remanence, CPU", "ms CPU", estimate([cpu for _, cpu, _ in runs])),
        Figure(
            "import",
            "of redis, pytest, hypothesis and the OpenTelemetry SDK it imports",
            "packages",
            exact(len(heavy)),
            at_most(0),
            ", ".join(heavy),
        ),
    ]


def _import() -> tuple[float, float, list[str]]:
    command = [sys.executable, "-c", _IMPORT]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own script
    wall, cpu, heavy = json.loads(run.stdout)
    return wall, cpu, heavy


ROWS = (
    Row("memory", "memory per conversation that is kept", measure_memory),
    Row("import", "time of `import remanence` in a fresh interpreter", measure_import),
)
