"""The journal on disk under asyncio: one thread writes, the loop goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from remanence import Fallback, JournalFullError, wrap
from remanence.flow import AsyncDriver, Blocking, Flow
from remanence.forked import _reset_all
from tests.support import AsyncScriptedManager, FakeClock, Script, run_bounded

AWAY = ConnectionError("away")


@asynccontextmanager
async def stack(path: Path, **options: Any) -> AsyncIterator[Any]:
    """Give a manager whose store is away, and whose replays happen when a test says so."""
    script = Script(then=AWAY)
    manager = wrap(AsyncScriptedManager(script), Fallback(journal=path, **options))
    manager._background.wake = lambda: None  # type: ignore[method-assign,union-attr]
    try:
        yield manager
    finally:
        script.then = None
        await manager.aclose()


def text(number: int) -> dict[str, str]:
    """Return an input."""
    return {"conversation_id": f"c{number}", "working_memory": f"text {number}"}


def test_writes_wait_in_the_file_and_come_home(tmp_path: Path) -> None:
    """As without a loop: acknowledged, read back, counted, replayed, deleted."""

    async def play() -> None:
        async with stack(tmp_path / "j") as manager:
            receipts = [await manager.store(text(number)) for number in range(30)]
            assert {receipt.outcome for receipt in receipts} == {"journaled"}
            assert (await manager.delete(text(0))).outcome == "journaled"
            assert (await manager.retrieve(text(1)))[0].working_memory == "text 1"
            assert [item.outcome for item in await manager.store_many([text(1), text(40)])] == ["journaled"] * 2
            manager.inner.script.then = None
            counts = await manager.replay()
            assert (counts.replayed, counts.pending, counts.stuck) == (30, 0, 0)
            assert await manager.retrieve(text(0)) == []
            assert (await manager.retrieve(text(29)))[0].working_memory == "text 29"

    run_bounded(play())


def test_it_may_be_made_where_no_loop_runs_yet(tmp_path: Path) -> None:
    """As a service does at import: what an earlier process has left is taken up by the first call."""

    async def leave_behind() -> None:
        manager = wrap(AsyncScriptedManager(Script(then=AWAY)), Fallback(journal=tmp_path / "j"))
        await manager.store(text(1))
        await manager.aclose(timeout=0.01)

    run_bounded(leave_behind())
    manager = wrap(AsyncScriptedManager(Script()), Fallback(journal=tmp_path / "j"))
    assert manager.has_pending_writes

    async def take_up() -> None:
        assert (await manager.retrieve(text(1)))[0].working_memory == "text 1"
        assert manager._background is not None
        assert manager._background._task is not None
        await asyncio.wait_for(manager._background._task, 5.0)
        assert (await manager.inner.retrieve(text(1)))[0].working_memory == "text 1"
        await manager.aclose()

    run_bounded(take_up())


def test_the_loop_goes_on_while_a_write_waits_for_the_disk(tmp_path: Path) -> None:
    """Reads are answered meanwhile, those of what waits too."""

    async def play() -> None:
        async with stack(tmp_path / "j") as manager:
            await manager.store(text(1))
            with manager._fallback.journal._file._lock:
                task = asyncio.create_task(manager.store(text(2)))
                for _ in range(50):
                    await asyncio.sleep(0)
                    assert (await manager.retrieve(text(1)))[0].working_memory == "text 1"
                assert not task.done()
            assert (await task).outcome == "journaled"
            assert [t.name for t in threading.enumerate() if t.name.startswith("remanence-journal")] == [
                "remanence-journal_0"
            ]

    run_bounded(play())


def test_a_cancelled_write_is_done_or_not_but_never_in_between(tmp_path: Path) -> None:
    """What had begun is done before its caller learns of the cancellation; the lease is not left behind either."""

    async def play() -> None:
        async with stack(tmp_path / "j") as manager:
            await manager.store(text(1))
            lock = manager._fallback.journal._file._lock
            for begin in (lambda: manager.store(text(2)), manager.replay):
                with lock:
                    task = asyncio.create_task(begin())
                    for again in (True, False):
                        for _ in range(50):
                            await asyncio.sleep(0)
                        assert not task.done()
                        if again:
                            task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert manager.health().pending == 2
            manager.inner.script.then = None
            assert (await manager.replay()).replayed == 2

    run_bounded(play())


def test_a_full_journal_says_so(tmp_path: Path) -> None:
    """As without a loop."""

    async def play() -> None:
        async with stack(tmp_path / "j", max_entries=1) as manager:
            await manager.store(text(1))
            with pytest.raises(JournalFullError):
                await manager.store(text(2))

    run_bounded(play())


def test_a_child_has_a_thread_of_its_own(tmp_path: Path) -> None:
    """Its parent's does not run there."""

    async def play() -> None:
        async with stack(tmp_path / "j") as manager:
            await manager.store(text(1))
            before = manager._driver._writer
            _reset_all()  # what fork does in the child
            manager._background.wake = lambda: None
            assert (await manager.store(text(2))).outcome == "journaled"
            assert manager._driver._writer is not before
            before.shutdown()

    run_bounded(play())


def test_a_cancellation_meets_the_flow_at_its_next_step() -> None:
    """It is thrown where the flow waits for something else, and raised at the end of a flow that does not."""
    seen: list[str] = []
    held = threading.Event()

    def flow(*, goes_on: bool) -> Flow:
        try:
            seen.append((yield Blocking(lambda: held.wait(5) and "done")))
            yield Blocking(lambda: seen.append("still done"))
            if goes_on:
                yield from ()
                seen.append((yield Blocking(lambda: "and this")))
        finally:
            seen.append("end")
        return "result"

    async def play(*, goes_on: bool) -> None:
        seen.clear()
        held.clear()
        driver = AsyncDriver((), lambda _: None, FakeClock())  # type: ignore[arg-type,return-value]
        task = asyncio.create_task(driver.drive(flow(goes_on=goes_on), None, 0))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        held.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        driver.close()
        assert seen == ["done", "still done", *(["and this"] if goes_on else []), "end"]

    for goes_on in (False, True):
        run_bounded(play(goes_on=goes_on))


def test_a_cancellation_is_not_lost_where_the_step_fails() -> None:
    """Its caller waits for that, not for the failure."""
    held = threading.Event()

    def fail() -> None:
        held.wait(5)
        raise JournalFullError("full")

    def flow() -> Flow:
        yield Blocking(fail)

    async def play() -> None:
        driver = AsyncDriver((), lambda _: None, FakeClock())  # type: ignore[arg-type,return-value]
        task = asyncio.create_task(driver.drive(flow(), None, 0))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        held.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        driver.close()

    run_bounded(play())
