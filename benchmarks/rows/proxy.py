"""What the lab's fault proxy costs while no fault is set: the same commands directly and through it, in turns.

The budget is on processor time, of client, proxy and server together: what that allows is the throughput of a machine
that has enough to do. The wall clock is shown beside it. For a client that waits for each reply it says how fast the
machine wakes who waits: four times instead of twice per command, so on a busy machine it is about the others.

With the client in the proxy's own process the two share one interpreter, as in most tests; with the proxy in a process
of its own they do not.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import redis
import redis.asyncio

from benchmarks.batches import Batch, over, settled_memory
from benchmarks.budget import at_least
from benchmarks.estimate import estimate, paired
from benchmarks.figure import Figure
from benchmarks.setting import Row, Setting
from benchmarks.workload import TTL, inputs, key, record
from remanence.lab import FaultProxy
from remanence.managers.redis_protocol import GUARDED_WRITE, arguments

__all__ = ["ROWS"]

_MANY = 100
_TASKS = 50
_EACH = 20
_ROUNDS = 16
_LEAST = 0.6
_NEVER = 2**52
"""µs: a not-after that does not come."""

_BUSY = "shown only: on a busy machine it is about the others"


@dataclass(slots=True)
class _Cost:
    """µs per command, a sample for each round."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def measure(setting: Setting) -> list[Figure]:
    """Measure GET and EVALSHA, one by one and pipelined, with the proxy in this process and in another."""
    direct = setting.url(1)
    figures: list[Figure] = []
    with FaultProxy(direct) as proxy:
        figures += _compare(setting, "proxy in the same process", proxy.url, lambda: 0)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other:
        url = other.submit(_host, direct).result()
        figures += _compare(
            setting, "proxy in another process", url, lambda: other.submit(time.process_time_ns).result()
        )
    return figures


_hosted: list[FaultProxy] = []


def _host(target: str) -> str:
    """Start a proxy in this process, which ends with it."""
    _hosted.append(FaultProxy(target).start())
    return _hosted[0].url


def _compare(setting: Setting, place: str, through: str, cpu_elsewhere: Callable[[], int]) -> list[Figure]:
    urls = {"direct": setting.url(1), "proxy": through}
    figures: list[Figure] = []
    with ExitStack() as stack:
        watcher = stack.enter_context(redis.Redis.from_url(setting.url(1)))

        def cpu_ns() -> int:
            used: Any = watcher.info("cpu")
            server = sum(float(used[name]) for name in ("used_cpu_user", "used_cpu_sys"))
            return time.process_time_ns() + cpu_elsewhere() + int(server * 1e9)

        for what, make in _WORK.items():
            batches = {name: make(url, stack) for name, url in urls.items()}
            costs = _take_turns(batches, rounds=setting.size(_ROUNDS, 2), rng=setting.rng, cpu_ns=cpu_ns)
            figures += _figures(f"{what}, {place}", costs["direct"], costs["proxy"])
    return figures


def _take_turns(
    batches: Mapping[str, Batch], *, rounds: int, rng: random.Random, cpu_ns: Callable[[], int]
) -> dict[str, _Cost]:
    costs = {name: _Cost() for name in batches}
    order = list(batches)
    with settled_memory():
        for number in range(-1, rounds):
            rng.shuffle(order)
            for name in order:
                cpu, wall = cpu_ns(), time.perf_counter_ns()
                count = batches[name]()
                wall, cpu = time.perf_counter_ns() - wall, cpu_ns() - cpu
                if number >= 0:
                    costs[name].cpu.append(cpu / count / 1000)
                    costs[name].wall.append(wall / count / 1000)
    return costs


def _figures(name: str, direct: _Cost, proxy: _Cost) -> list[Figure]:
    return [
        Figure("proxy", f"{name}: direct", "µs CPU", estimate(direct.cpu)),
        Figure("proxy", f"{name}: through the proxy", "µs CPU", estimate(proxy.cpu)),
        Figure(
            "proxy",
            f"{name}: throughput through the proxy / direct",
            "x",
            estimate(paired(direct.cpu, proxy.cpu)),
            at_least(_LEAST),
        ),
        Figure(
            "proxy",
            f"{name}: the same by the wall clock",
            "x",
            estimate(paired(direct.wall, proxy.wall)),
            None,
            _BUSY,
        ),
    ]


def _commands(client: redis.Redis) -> dict[str, list[tuple[Any, ...]]]:
    sha = client.script_load(GUARDED_WRITE)
    items = inputs(_MANY)
    writes = [("EVALSHA", sha, *arguments(key(item), record(item), TTL, _NEVER, None)) for item in items]
    execute: Any = client.execute_command
    for write in writes:
        execute(*write)
    return {"GET": [("GET", key(item)) for item in items], "EVALSHA": writes}


def _one_by_one(name: str, url: str, stack: ExitStack) -> Batch:
    client = stack.enter_context(redis.Redis.from_url(url))
    execute: Any = client.execute_command
    return over(lambda command: execute(*command), _commands(client)[name] * 5)


def _pipelined(name: str, url: str, stack: ExitStack) -> Batch:
    client = stack.enter_context(redis.Redis.from_url(url))
    commands = _commands(client)[name]

    def batch() -> int:
        for _ in range(20):
            pipeline: Any = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            assert len(pipeline.execute()) == len(commands)
        return 20 * len(commands)

    return batch


def _at_once(name: str, url: str, stack: ExitStack) -> Batch:
    with redis.Redis.from_url(url) as client:
        commands = _commands(client)[name]
    runner = stack.enter_context(asyncio.Runner())
    tasks = redis.asyncio.Redis.from_url(url)
    stack.callback(lambda: runner.run(tasks.aclose()))
    execute: Any = tasks.execute_command

    async def task() -> None:
        for command in commands[:_EACH]:
            await execute(*command)

    async def all_tasks() -> None:
        await asyncio.gather(*(task() for _ in range(_TASKS)))

    def batch() -> int:
        runner.run(all_tasks())
        return _TASKS * _EACH

    return batch


_WORK: dict[str, Callable[[str, ExitStack], Batch]] = {
    "GET, one by one": partial(_one_by_one, "GET"),
    "EVALSHA, one by one": partial(_one_by_one, "EVALSHA"),
    f"GET, {_TASKS} tasks": partial(_at_once, "GET"),
    f"GET, pipelined by {_MANY}": partial(_pipelined, "GET"),
    f"EVALSHA, pipelined by {_MANY}": partial(_pipelined, "EVALSHA"),
}

ROWS = (Row("proxy", "the idle fault proxy against a direct connection", measure),)
