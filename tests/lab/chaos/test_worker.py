"""What a worker does, in both flavours: where it is struck, how its calls are cancelled, and what it tells of that."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from remanence.journal.entry import KeptValue
from remanence.lab import FaultProxy, RedisServer
from remanence.lab.chaos.phases import Phases
from remanence.lab.chaos.plan import PHASES
from remanence.lab.chaos.reports import Reader, Reporter
from remanence.lab.chaos.tasks import work_in_tasks
from remanence.lab.chaos.worker import stack
from remanence.lab.chaos.writer import Writer
from remanence.results import Memories, Receipt
from tests.support import run_bounded

JOB = {"seed": 1, "shared": [], "contested": []}
CONVERSATION = {"conversation_id": "c", "working_memory": "{}"}
KEY = "memory:WORKING_MEMORY:c"


@pytest.fixture(scope="module")
def proxy(server: RedisServer) -> Iterator[FaultProxy]:
    """A proxy in front of a server of the tests."""
    with FaultProxy(server.port) as made:
        yield made


@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "tasks"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_worker_is_struck_in_every_phase(
    proxy: FaultProxy, server: RedisServer, tmp_path: Path, phase: str, *, is_async: bool
) -> None:
    """In both flavours; an event loop goes on meanwhile, as its journal is written by a thread."""
    server.command("FLUSHALL")
    struck: list[bool] = []
    in_loop = threading.current_thread()

    async def work() -> None:
        manager = stack(proxy.url, str(tmp_path / "journal"), lease=1.0, is_async=is_async)
        reporter = Reporter(str(tmp_path / "report"))
        Phases(
            manager._fallback.journal,
            reporter,
            phase=phase,
            nth=1,
            action="outage",
            wait=lambda: struck.append(threading.current_thread() is in_loop),
        )
        if phase == "keeping":
            manager._fallback.journal.keep(KeptValue(KEY, None))
        proxy.refuse()
        try:
            receipt = manager.store(CONVERSATION)
            assert (await receipt if is_async else receipt).outcome == "journaled"
        finally:
            proxy.heal()
        counts = manager.replay(5.0)
        assert (await counts if is_async else counts).pending == 0
        if is_async:
            await manager.aclose()
            await manager.inner.aclose()
        else:
            manager.close()

    asyncio.run(work())
    assert len(struck) == 1
    assert not (is_async and struck[0])
    lines = Reader(tmp_path / "report").lines()
    assert [line[:2] for line in lines] == [["P", phase.replace(" ", "_")], ["W", phase.replace(" ", "_")]]


class Manager:
    """Answers reads that nothing is there; what a write does is given."""

    def __init__(self, write: Callable[[], Awaitable[Any]]) -> None:
        self.store = self.update = self.delete = self.mutate = self._write
        self._does = write

    async def retrieve(self, _: Any) -> Memories:
        """Return nothing."""
        return Memories()

    async def _write(self, *_: Any, **__: Any) -> Any:
        return await self._does()


async def fail() -> Any:
    """Fail as a store does that is away, a moment later."""
    await asyncio.sleep(0.002)
    raise ConnectionError


def told(path: Path, write: Callable[[], Awaitable[Any]], awaited: str) -> list[list[str]]:
    """Return the lines of a task that writes until one of these letters comes; of no others but these."""
    reader, lines = Reader(path), list[list[str]]()
    deadline = time.monotonic() + 10.0

    def is_over() -> bool:
        lines.extend(line for line in reader.lines() if line[0] in awaited)
        return bool(lines) or time.monotonic() >= deadline

    async def work() -> None:
        reporter = Reporter(str(path))
        writer = Writer(Manager(write), asyncio.sleep, reporter, name="0w1.0", job=JOB, own=["c"])
        await work_in_tasks([writer], reporter, is_over=is_over, seed="1")

    run_bounded(work(), 20.0)
    assert lines, f"none of {awaited} was told"
    return lines


def test_a_cancelled_call_is_told(tmp_path: Path) -> None:
    """Neither as acknowledged nor as failed, with what it was."""
    ((letter, conversation, writer, sequence, kind, begun, ended), *_) = told(tmp_path / "r", fail, "ACX")
    assert (letter, conversation, writer) == ("C", "c", "0w1.0")
    assert int(sequence) > 0
    assert kind in {"store", "update", "delete", "mutate"}
    assert float(begun) < float(ended)


def test_a_call_that_swallows_its_cancellation_is_broken(tmp_path: Path) -> None:
    """Whoever has cancelled it is to be told so, whatever became of the write."""

    async def write() -> Any:
        with suppress(asyncio.CancelledError):
            await fail()
        return Receipt("c")

    assert told(tmp_path / "r", write, "CX") == [["X", "CancellationLostError"]]


def test_some_cancel_a_call_again_until_it_ends(tmp_path: Path) -> None:
    """Also in the middle of what it does to clean up."""

    async def write() -> Any:
        try:
            await fail()
        except asyncio.CancelledError:
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                raise ValueError from None
            raise

    assert ["X", "ValueError"] in told(tmp_path / "r", write, "X")


def test_what_a_loop_finds_unhandled_is_broken(tmp_path: Path) -> None:
    """Such as a failure that nobody has looked at."""

    async def write() -> Any:
        asyncio.get_running_loop().create_future().set_exception(ConnectionError())
        return await fail()

    assert ["X", "unhandled:ConnectionError"] in told(tmp_path / "r", write, "X")
