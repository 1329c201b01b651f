"""The journal on disk through the whole stack: on real servers, by processes that are killed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from remanence import Fallback, InMemoryManager, JournalUnavailableError, RedisWorkingMemoryManager, resilient, wrap
from remanence.flow import Call
from remanence.journal.entry import KeptValue
from remanence.lab import RedisServer
from tests.support import Script, ScriptedManager, wait_until

WORKER = """
import sys
from remanence import JournalUnavailableError, RedisWorkingMemoryManager, resilient
manager = resilient(RedisWorkingMemoryManager(sys.argv[1], timeout=0.3), journal=sys.argv[2], deadline=0.5)
manager._background.wake = lambda: None
for number in range(10**6):
    while True:
        try:
            receipt = manager.store({"conversation_id": f"{sys.argv[3]}-{number}", "working_memory": f"text {number}"})
            break
        except JournalUnavailableError:  # the other worker was stopped in its transaction by a busy machine
            pass
    print(number, receipt.outcome, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "pending.journal"


@contextmanager
def stack(server: RedisServer, path: Path) -> Iterator[Any]:
    """Give a manager as a process has it."""
    with (
        RedisWorkingMemoryManager(server.url, timeout=0.3) as inner,
        resilient(inner, journal=path, deadline=0.5) as manager,
    ):
        yield manager


@contextmanager
def worker(server: RedisServer, path: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that stores until it is killed."""
    command = [sys.executable, "-c", WORKER, server.url, str(path), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_what_killed_processes_have_acknowledged_comes_home(private_server: RedisServer, path: Path) -> None:
    """Redis is away, the workers are killed, and Redis and a new process come up."""
    told: dict[str, int] = {}
    private_server.kill()
    with worker(private_server, path, "a") as one, worker(private_server, path, "b") as other:
        for process in (one, other):
            assert process.stdout is not None
            lines = [process.stdout.readline().split() for _ in range(100)]
            assert {outcome for _, outcome in lines} == {"journaled"}
        for name, process in (("a", one), ("b", other)):
            process.kill()
            assert process.stdout is not None
            told[name] = 100 + len(process.stdout.read().splitlines())
    private_server.start()
    with stack(private_server, path) as manager:
        wait_until(lambda: not manager.has_pending_writes, "what was pending is home")
        assert manager.conflicts() == []
        for name, count in told.items():
            for number in (0, count // 2, count - 1):
                assert manager.retrieve({"conversation_id": f"{name}-{number}"})[0].working_memory == f"text {number}"


def test_processes_read_each_others_pending_writes(private_server: RedisServer, path: Path) -> None:
    """One conversation may be served by any worker of a host, in the outage too."""
    value = {"conversation_id": "c", "working_memory": "first"}
    with stack(private_server, path) as one, stack(private_server, path) as other:
        private_server.kill()
        assert one.store(value).outcome == "journaled"
        memories = other.retrieve(value)
        assert (memories.source, memories[0].working_memory) == ("journal", "first")
        assert other.store({**value, "working_memory": "second"}).outcome == "journaled"
        assert one.retrieve(value)[0].working_memory == "second"
        private_server.start()
        wait_until(lambda: not one.has_pending_writes, "what was pending is home")
        third = {**value, "working_memory": "third"}
        wait_until(lambda: one.store(third).outcome == "committed", "its circuit breaker lets it through")
        assert one.conflicts() == []
        assert other.retrieve(value)[0].working_memory == "third"


def test_a_write_over_another_processs_unseen_one_keeps_it(private_server: RedisServer, path: Path) -> None:
    """Both were acknowledged; neither may be gone."""
    value = {"conversation_id": "c", "working_memory": "mine"}
    with stack(private_server, path) as one, stack(private_server, path) as other:
        private_server.kill()
        one.store(value)
        other.store({**value, "working_memory": "theirs"})
        private_server.start()
        wait_until(lambda: not one.has_pending_writes, "what was pending is home")
        assert other.retrieve(value)[0].working_memory == "theirs"
        assert [conflict.text for conflict in one.conflicts()] == ["mine"]


def test_a_writer_goes_on_after_another_process_has_brought_its_write_home(
    private_server: RedisServer, path: Path
) -> None:
    """It does not take its own value for somebody else's."""
    value = {"conversation_id": "c", "working_memory": "first"}
    with stack(private_server, path) as one, stack(private_server, path) as other:
        one.store({**value, "working_memory": "base"})
        private_server.kill()
        one._background.wake = lambda: None
        assert one.retrieve(value).source == "stale"
        assert one.store(value).outcome == "journaled"
        private_server.start()
        wait_until(lambda: other.replay(1.0).pending == 0, "the other one has brought it home")
        second = {**value, "working_memory": "second"}
        wait_until(
            lambda: other.replay(1.0).pending == 0 and one.store(second).outcome == "committed", "its breaker closes"
        )
        assert one.conflicts() == []


def test_a_write_that_lost_to_another_processs_later_one_does_not_know_it(path: Path) -> None:
    """Its next write spares that one, which this process has not seen."""
    value = {"conversation_id": "c", "working_memory": "first"}
    script, away = Script(), Script(then=ConnectionError("away"))
    inner, beside = ScriptedManager(script), ScriptedManager(away)
    beside.backend = inner.backend
    with resilient(inner, journal=path) as one, resilient(beside, journal=path) as other:
        one._background.wake = other._background.wake = lambda: None  # type: ignore[method-assign,union-attr]

        def overtaken(_: object) -> None:
            other.store({**value, "working_memory": "theirs"})
            raise ConnectionError

        script.then = overtaken
        assert one.store(value).outcome == "journaled"
        script.then = away.then = None
        other.replay()
        assert one.store({**value, "working_memory": "second"}).outcome == "journaled"
        one.replay()
        assert one.retrieve(value)[0].working_memory == "theirs"
        assert sorted(str(conflict.text) for conflict in one.conflicts()) == ["first", "second"]


def test_a_deletion_that_another_process_has_brought_home_stays(path: Path) -> None:
    """An earlier call, whose attempt may come late, does not write once more what was stored before the deletion."""
    value = {"conversation_id": "c", "working_memory": "first"}
    script = Script()
    inner, beside = ScriptedManager(script), ScriptedManager(Script())
    beside.backend = inner.backend
    with resilient(inner, journal=path) as one, resilient(beside, journal=path) as other:
        one._background.wake = other._background.wake = lambda: None  # type: ignore[method-assign,union-attr]

        def overtaken(call: Call) -> None:
            script.then = None
            assert one.store(value).outcome == "committed"
            script.then = ConnectionError("away")
            assert one.delete(value).outcome == "journaled"
            assert other.replay().replayed == 1
            call.unsettled_until = one.clock.monotonic() + 0.05
            raise ConnectionError

        script.then = overtaken
        one.delete(value)
        script.then = None
        assert (one.replay().pending, other.replay().pending) == (0, 0)
        assert one.retrieve(value) == []


def test_what_another_process_has_brought_home_is_still_served_while_the_store_is_away(path: Path) -> None:
    """As last known: its writer has lost sight of it otherwise."""
    value = {"conversation_id": "c", "working_memory": "ours"}
    inner, beside = ScriptedManager(Script(then=ConnectionError("away"))), ScriptedManager(Script())
    beside.backend = inner.backend
    with resilient(inner, journal=path) as one, resilient(beside, journal=path) as other:
        one._background.wake = other._background.wake = lambda: None  # type: ignore[method-assign,union-attr]
        one.store(value)
        assert other.replay().replayed == 1
        held = one.retrieve(value)
        assert (held[0].working_memory, held.source) == ("ours", "stale")
        inner.script.then = None
        other.store({**value, "working_memory": "theirs"})
        assert one.store({**value, "working_memory": "second"}).outcome == "journaled"
        one.replay()
        assert (one.retrieve(value)[0].working_memory, one.conflicts()[0].text) == ("theirs", "second")


def test_what_was_never_in_the_store_is_nobodys_base(path: Path) -> None:
    """A value that lost, and is served as last known in the next outage, has not seen what it lost against."""
    value = {"conversation_id": "c", "working_memory": "first"}
    away = ConnectionError("away")
    inner, beside = ScriptedManager(Script()), ScriptedManager(Script())
    beside.backend = inner.backend
    InMemoryManager.store(_plain(inner), {**value, "working_memory": "theirs"})
    with resilient(inner, journal=path) as one, resilient(beside, journal=path) as other:
        one._background.wake = other._background.wake = lambda: None  # type: ignore[method-assign,union-attr]
        inner.script.then = away
        one.store(value)
        other.replay()
        assert one.retrieve(value).source == "stale"
        one.store({**value, "working_memory": "second"})
        inner.script.then = None
        other.replay()
        assert other.retrieve(value)[0].working_memory == "theirs"
        assert sorted(str(conflict.text) for conflict in other.conflicts()) == ["first", "second"]


def test_a_deletion_leaves_what_is_kept_while_it_is_under_way(path: Path) -> None:
    """It may be of a write that began after the memory was deleted."""
    value = {"conversation_id": "c", "working_memory": "text"}
    inner = ScriptedManager(Script())
    with resilient(inner, journal=path) as manager:
        manager._background.wake = lambda: None  # type: ignore[method-assign,union-attr]
        manager.store(value)
        journal = manager._fallback.journal  # type: ignore[union-attr]
        before, since = KeptValue("memory:WORKING_MEMORY:c", b"1"), KeptValue("memory:WORKING_MEMORY:c", b"2")
        journal.keep(before)
        inner.script.then = lambda _: journal.keep(since)
        assert manager.delete(value).outcome == "committed"
        inner.script.then = None
        assert journal.kept() == [since]
        journal.forget_kept(since)


def _plain(inner: InMemoryManager) -> InMemoryManager:
    manager = InMemoryManager()
    manager.backend = inner.backend
    return manager


def test_a_batch_has_not_seen_what_waits_before_its_caller_is_told(path: Path) -> None:
    """A write of its process in the meantime spares it."""
    value = {"conversation_id": "c", "working_memory": "theirs"}
    inner, beside = ScriptedManager(Script()), ScriptedManager(Script(then=ConnectionError("away")))
    beside.backend = inner.backend
    with resilient(inner, journal=path) as one, resilient(beside, journal=path) as other:
        one._background.wake = other._background.wake = lambda: None  # type: ignore[method-assign,union-attr]
        other.store(value)

        def meanwhile(_: Call) -> None:
            one.store({**value, "working_memory": "ours"})

        inner.script.then = meanwhile
        held = one.retrieve_many([value, {"conversation_id": "another"}])
        assert [getattr(item, "source", None) for item in held] == ["journal", "redis"]
        assert [conflict.text for conflict in one.conflicts()] == ["theirs"]


def test_a_deletion_is_of_what_waits_on_its_host(path: Path) -> None:
    """Another process's pending write goes with it: what waits on a host is in one order."""
    value = {"conversation_id": "c", "working_memory": "text"}
    inner, beside = ScriptedManager(Script()), ScriptedManager(Script(then=ConnectionError("away")))
    beside.backend = inner.backend
    with resilient(inner, journal=path) as one, resilient(beside, journal=path) as other:
        one._background.wake = other._background.wake = lambda: None  # type: ignore[method-assign,union-attr]
        one.store({**value, "working_memory": "base"})
        inner.script.then = ConnectionError("away")
        one.store(value)
        other.delete(value)
        assert one.retrieve(value) == []
        inner.script.then = beside.script.then = None
        one.replay()
        assert (one.retrieve(value), one.conflicts()) == ([], [])


def test_a_drainer_marks_nothing_as_sent_while_the_store_is_away(path: Path) -> None:
    """Killed then, it leaves writes behind that the next process can bring home as if it had never tried."""
    inner = ScriptedManager(Script(then=ConnectionError("away")))
    with resilient(inner, journal=path) as manager:
        manager._background.wake = lambda: None  # type: ignore[method-assign,union-attr]
        manager.store({"conversation_id": "c", "working_memory": "ours"})
        journal = manager._fallback.journal  # type: ignore[union-attr]
        marked: list[Any] = []
        mark = journal.mark_sent

        def noted(*arguments: Any) -> Any:
            marked.append(arguments)
            return mark(*arguments)

        journal.mark_sent = noted  # type: ignore[method-assign]
        manager._round()
        assert marked == []
        inner.script.then = None
        manager.replay()
        assert len(marked) == 1


@pytest.mark.parametrize("applied", [True, False])
def test_what_a_dead_drainer_had_sent_does_not_come_back_after_a_deletion(path: Path, *, applied: bool) -> None:
    """Nobody can tell whether the store held it: it is kept as a copy, unless it stands."""
    value = {"conversation_id": "c", "working_memory": "ours"}
    inner, beside = ScriptedManager(Script(then=ConnectionError("away"))), ScriptedManager(Script())
    beside.backend = inner.backend
    with resilient(inner, journal=path) as one, resilient(beside, journal=path) as other:
        one._background.wake = other._background.wake = lambda: None  # type: ignore[method-assign,union-attr]
        one.store(value)
        journal = one._fallback.journal  # type: ignore[union-attr]
        now = one.clock.monotonic() - 30.0  # its lease is over by now
        epoch = journal.lease(now, 10.0)
        (sent,) = journal.mark_sent(epoch or 0, journal.due(now + 30.0, 10))
        if applied:
            inner.backend._set(sent.key, sent.raw or b"", None)
        other.replay()
        held, copies = other.retrieve(value), other.conflicts()
        assert [[item.working_memory for item in held], [c.text for c in copies]] == (
            [["ours"], []] if applied else [[], ["ours"]]
        )


def test_a_manager_of_another_store_leaves_it_alone(private_server: RedisServer, path: Path) -> None:
    """The file may serve several; an entry goes where it belongs."""
    with stack(private_server, path) as one:
        private_server.kill()
        one.store({"conversation_id": "c", "working_memory": "text"})
        with resilient(InMemoryManager(), journal=path) as stranger:
            assert stranger.health().pending == 0
            assert stranger.replay(1.0).replayed == 0
        private_server.start()
        wait_until(lambda: not one.has_pending_writes, "what was pending is home")


def test_a_journal_that_cannot_be_used_is_refused_at_construction(tmp_path: Path) -> None:
    """Never a silent change to memory."""
    with pytest.raises(JournalUnavailableError, match="make the directory"):
        resilient(InMemoryManager(), journal=tmp_path / "missing" / "j")


def test_closing_leaves_what_is_pending_to_the_next_process(
    private_server: RedisServer, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And says so."""
    value = {"conversation_id": "c", "working_memory": "text"}
    with stack(private_server, path) as manager:
        private_server.kill()
        manager.store(value)
        manager.close(0.1)
        assert manager.health().status == "unready"
    assert "1 acknowledged write(s) wait in the journal for the next process" in caplog.text
    private_server.start()
    with stack(private_server, path) as manager:
        wait_until(lambda: not manager.has_pending_writes, "it is home")
        assert manager.retrieve(value)[0].working_memory == "text"


@contextmanager
def busy(path: Path, seconds: float) -> Iterator[threading.Timer]:
    """Have another process be in the middle of a transaction for so long."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        later = threading.Timer(seconds, other.execute, ["ROLLBACK"])
        later.start()
        yield later
        later.join()


@pytest.mark.parametrize("end", ["close", "replay"])
def test_a_drain_waits_for_a_process_that_writes(path: Path, end: str) -> None:
    """Its transaction outlasts what a call may wait: the end of a manager, which is no call, is held up, not broken."""
    script = Script(then=ConnectionError("away"))
    manager = wrap(ScriptedManager(script), Fallback(journal=path, close_timeout=5.0))
    manager._background.wake = lambda: None  # type: ignore[method-assign,union-attr]
    manager.store({"conversation_id": "c", "working_memory": "text"})
    script.then = None
    with busy(path, 0.2):
        if end == "replay":
            assert manager.replay(5.0).pending == 0
        manager.close()
    assert [call.operation for call in script.calls].count("reconcile") == 1


def test_a_lease_that_could_not_be_given_back_is_given_back_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep all drainers of the host waiting until it ends by itself."""
    script = Script(then=ConnectionError("away"))
    manager = wrap(ScriptedManager(script), Fallback(journal=path, close_timeout=5.0))
    manager._background.wake = lambda: None  # type: ignore[method-assign,union-attr]
    manager.store({"conversation_id": "c", "working_memory": "text"})
    script.then = None
    journal: Any = manager._fallback.journal  # type: ignore[union-attr]
    release, failures = journal.release, iter([JournalUnavailableError("busy")])

    def fail_once(epoch: int) -> None:
        for failure in failures:
            raise failure
        release(epoch)

    monkeypatch.setattr(journal, "release", fail_once)
    manager.replay(0.0)
    manager.store({"conversation_id": "d", "working_memory": "text"})
    script.then = ConnectionError("away")
    manager.store({"conversation_id": "d", "working_memory": "text 2"})
    script.then = None
    assert manager.replay(3.0).pending == 0
    manager.close()
