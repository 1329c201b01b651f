"""The thread and the task that bring pending writes home while nobody calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from remanence.background import ReplayTask, ReplayThread
from tests.support import wait_until


class Work:
    """Something that waits, and the rounds that look after it."""

    def __init__(self, *pauses: float | Exception | None) -> None:
        self.pauses = list(pauses)
        self.rounds = 0
        self.done = threading.Event()

    def round(self) -> float | None:
        """Do the next round."""
        self.rounds += 1
        pause = self.pauses.pop(0) if self.pauses else None
        if isinstance(pause, Exception):
            raise pause
        if not self.pauses:
            self.done.set()
        return pause

    async def round_async(self) -> float | None:
        """Do the next round."""
        return self.round()

    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self.pauses


def running() -> list[threading.Thread]:
    """Return the replay threads of this process."""
    return [thread for thread in threading.enumerate() if thread.name == "remanence-replay"]


@contextmanager
def thread(work: Work) -> Iterator[ReplayThread]:
    """Give a replay thread that is stopped in the end."""
    made = ReplayThread(work.round, work.is_idle)
    yield made
    made.stop(5.0)


def test_the_thread_lives_as_long_as_something_waits() -> None:
    """It is a daemon, does the rounds with their pauses, and ends."""
    work = Work(0.0, 0.001, None)
    before = set(running())
    with thread(work) as replay:
        replay.wake()
        assert work.done.wait(5)
        wait_until(lambda: set(running()) <= before, "the thread has ended")
        assert work.rounds == 3
        work.pauses.append(None)
        work.done.clear()
        replay.wake()
        assert work.done.wait(5)


def test_waking_twice_starts_one_thread() -> None:
    """The thread in charge takes up what comes."""
    work = Work(30.0, None)
    with thread(work) as replay:
        before = len(running())
        replay.wake()
        wait_until(lambda: work.rounds == 1, "the first round is over")
        replay.wake()
        assert len(running()) == before + 1


def test_stopping_interrupts_the_pause() -> None:
    """And nothing wakes it afterwards."""
    work = Work(60.0, None)
    replay = ReplayThread(work.round, work.is_idle)
    replay.wake()
    wait_until(lambda: work.rounds == 1, "the first round is over")
    mine = replay._thread
    assert mine is not None
    wait_until(lambda: bool(replay._poke._cond._waiters), "it pauses")  # type: ignore[attr-defined]
    replay.stop(5.0)
    assert not mine.is_alive()
    replay.wake()
    assert replay._thread is None
    assert work.rounds == 1


def test_a_round_that_fails_does_not_end_the_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Acknowledged writes would stay behind: the failure is logged by class, and the round repeated."""
    monkeypatch.setattr("remanence.background._AFTER_FAILURE", 0.001)
    work = Work(ValueError("secret"), None)
    with thread(work) as replay:
        replay.wake()
        assert work.done.wait(5)
    assert "failed with ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_a_thread_that_cannot_be_started_is_started_the_next_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The write that woke it is acknowledged all the same: the interpreter may be ending."""
    work = Work(None)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    with thread(work) as replay:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            replay.wake()
        assert "no thread could be started" in caplog.text
        replay.wake()
        assert work.done.wait(5)


def test_a_reset_forgets_the_thread_and_the_lock() -> None:
    """A forked child has neither."""
    work = Work(30.0, None)
    with thread(work) as replay:
        replay.wake()
        wait_until(lambda: work.rounds == 1, "the first round is over")
        old, held, forgotten = replay._poke, replay._lock, replay._thread
        held.acquire()
        replay.reset()
        work.pauses[:] = [None]
        replay.wake()
        wait_until(lambda: work.rounds == 2, "the new thread has done its round")
        held.release()
        old.set()
    assert forgotten is not None
    forgotten.join(5.0)
    assert not forgotten.is_alive()


def test_the_task_lives_as_long_as_something_waits() -> None:
    """It does the rounds and ends, and a second waking in between starts no other."""
    work = Work(0.0, 0.001, None)

    async def scenario() -> None:
        replay = ReplayTask(work.round_async, work.is_idle)
        replay.wake()
        task = replay._task
        replay.wake()
        assert replay._task is task
        assert task is not None
        await asyncio.wait_for(task, 5)

    asyncio.run(scenario())
    assert work.rounds == 3


def test_a_task_of_a_loop_that_is_gone_is_replaced() -> None:
    """The next loop takes up what waits."""
    work = Work(60.0, None)
    replay = ReplayTask(work.round_async, work.is_idle)

    async def begin() -> None:
        replay.wake()
        await asyncio.sleep(0)

    async def go_on() -> None:
        replay.wake()
        assert replay._task is not None
        await asyncio.wait_for(replay._task, 5)

    asyncio.run(begin())
    asyncio.run(go_on())
    assert work.rounds == 2


def test_stopping_ends_the_task_and_its_pause() -> None:
    """Before it began, while it waits, and when there is none; nothing wakes it afterwards."""

    async def scenario() -> None:
        work = Work(60.0, None)
        replay = ReplayTask(work.round_async, work.is_idle)
        await replay.stop(0.1)
        replay.reset()
        replay.wake()
        task = replay._task
        assert task is not None
        await asyncio.sleep(0)
        assert work.rounds == 1
        await replay.stop(1.0)
        assert task.done()
        replay.wake()
        assert replay._task is task

    asyncio.run(scenario())


def test_a_round_that_fails_does_not_end_the_task(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged by class and repeated."""
    monkeypatch.setattr("remanence.background._AFTER_FAILURE", 0.001)
    work = Work(ValueError("secret"), None)

    async def scenario() -> None:
        replay = ReplayTask(work.round_async, work.is_idle)
        replay.wake()
        assert replay._task is not None
        await asyncio.wait_for(replay._task, 5)

    asyncio.run(scenario())
    assert work.rounds == 2
    assert "failed with ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_a_task_stops_between_rounds() -> None:
    """A stop that comes during a round is obeyed when it is over."""

    async def scenario() -> int:
        work = Work(0.0, 0.0, 0.0, None)
        replay = ReplayTask(work.round_async, work.is_idle)

        async def round_then_stop() -> float | None:
            pause = await work.round_async()
            replay._stopped = True
            return pause

        replay._round = round_then_stop
        replay.wake()
        assert replay._task is not None
        await asyncio.wait_for(replay._task, 5)
        return work.rounds

    assert asyncio.run(scenario()) == 1


def test_stopping_in_another_loop_ends_the_task_in_its_own() -> None:
    """A loop that stands still meanwhile finds the task cancelled when it turns again: it writes nothing any more."""
    written: list[str] = []

    async def round_async() -> float | None:
        await asyncio.sleep(0.01)
        written.append("late")
        return None

    task = ReplayTask(round_async, lambda: False)
    own = asyncio.new_event_loop()

    async def begin() -> None:
        task.wake()
        await asyncio.sleep(0)

    try:
        own.run_until_complete(begin())
        asyncio.run(task.stop(1.0))
        own.run_until_complete(asyncio.sleep(0.05))
    finally:
        own.close()
    assert written == []


def test_stopping_after_its_loop_was_closed_is_quiet() -> None:
    """Nothing is left to end."""
    work = Work(1.0, 1.0)
    task = ReplayTask(work.round_async, work.is_idle)

    async def begin() -> None:
        task.wake()

    asyncio.run(begin())
    asyncio.run(task.stop(1.0))
