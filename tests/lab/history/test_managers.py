"""Recording managers: what is noted of each call, and which errors leave it open whether a write was applied."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from remanence import (
    AsyncInMemoryManager,
    CircuitBreaker,
    Fallback,
    InMemoryManager,
    Retry,
    VersionConflictError,
    resilient,
)
from remanence.errors import InvalidInputError, JournalFullError, ManagerClosedError, MemoryTooLargeError
from remanence.lab.history import AsyncRecordingManager, Operation, Recorder, RecordingManager, Status, check
from remanence.lab.history.certainty import attempts_once, outcome_of
from remanence.lab.history.operation import ANY, UNKNOWN
from remanence.lab.history.recorder import hashed
from tests.support import Script, ScriptedManager, threads


def item(text: str | None = None, conversation: str = "secret-conversation") -> dict[str, Any]:
    """Return an input."""
    return {"conversation_id": conversation} | ({} if text is None else {"working_memory": text})


def told(recorder: Recorder) -> list[tuple[str, str | None, str, str]]:
    """Return kind, value, outcome and answer of every operation."""
    return [(each.kind, each.value, each.outcome, each.answer) for each in recorder.history().operations]


A, B, C = hashed("a"), hashed("b"), hashed("c")


def test_every_operation_is_noted() -> None:
    """Kind, value, outcome and answer of each call are in the history."""
    recorder = Recorder()
    manager = RecordingManager(InMemoryManager(ttl=60), recorder)
    manager.update(item("a"))
    manager.delete(item())
    manager.store(item("a"))
    version = manager.retrieve(item()).version
    manager.update(item("b"), if_version=version)
    with pytest.raises(VersionConflictError):
        manager.store(item("c"), if_version=version)
    with pytest.raises(InvalidInputError):
        manager.store(item())
    manager.delete(item())
    assert manager.retrieve(item()) == []
    assert told(recorder) == [
        ("update", A, "ok", "missing"),
        ("delete", None, "ok", "missing"),
        ("write", A, "ok", "committed"),
        ("read", A, "ok", "redis"),
        ("update", B, "ok", "committed"),
        ("write", C, "failed", ""),
        ("write", None, "failed", ""),
        ("delete", None, "ok", "deleted"),
        ("read", None, "ok", "redis"),
    ]
    operations = recorder.history().operations
    assert [each.expected for each in operations] == [ANY, ANY, ANY, ANY, A, A, ANY, ANY, ANY]
    assert {each.ttl for each in operations if each.kind in {"write", "update"}} == {60}
    assert check(recorder.history(), checks=["linearizable"]).status is Status.PASS


def test_nothing_that_is_private_is_noted(tmp_path: Any) -> None:
    """Neither texts nor ids are in the log, in reprs, or in a report."""
    with Recorder(tmp_path / "log") as recorder:
        manager = RecordingManager(InMemoryManager(), recorder)
        manager.store(item("secret text"))
        manager.store(item("more secret text"))
        manager.retrieve(item())
        seen = [(tmp_path / "log").read_text(), repr(manager), repr(recorder), str(recorder.history().operations)]
        seen.append(str(check(recorder.history())))
    assert not any("secret" in each for each in seen)


def test_a_batch_is_an_operation_for_each_item() -> None:
    """The items of a batch have the batch's window, and an outcome each."""
    recorder = Recorder()
    manager = RecordingManager(InMemoryManager(), recorder)
    manager.store_many([item("a", "1"), item("b", "2")])
    manager.retrieve_many([item(None, "1"), item(None, "3")])
    manager.delete_many([item(None, "1"), item(None, "3")])
    assert told(recorder) == [
        ("write", A, "ok", "committed"),
        ("write", B, "ok", "committed"),
        ("read", A, "ok", "redis"),
        ("read", None, "ok", "redis"),
        ("delete", None, "ok", "deleted"),
        ("delete", None, "ok", "missing"),
    ]
    assert len({each.key for each in recorder.history().operations}) == 3


def test_a_mutation_is_a_read_and_a_conditional_write_for_each_round() -> None:
    """A round that met somebody else's write has failed; what each round saw is noted."""
    recorder = Recorder()
    inner = InMemoryManager()
    manager = RecordingManager(inner, recorder)

    def change(text: str | None) -> str:
        if text is None:
            inner.store(item("a"))
            return "b"
        return "c"

    manager.mutate(item(), change)
    assert told(recorder) == [
        ("read", None, "ok", "redis"),
        ("write", B, "failed", ""),
        ("read", A, "ok", "redis"),
        ("write", C, "ok", "committed"),
    ]
    assert [each.expected for each in recorder.history().operations] == [ANY, None, ANY, A]
    with pytest.raises(ZeroDivisionError):
        manager.mutate(item(), lambda _: str(1 / 0))
    assert [each.outcome for each in recorder.history().operations][4:] == ["ok"]


def away(_: Any) -> Any:
    """Be a store that does not answer."""
    raise redis.ConnectionError


def test_a_mutation_tells_who_answered_each_round() -> None:
    """Of a round answered by the journal and one answered by the store, each has its own source."""
    recorder, store, breaker = Recorder(), InMemoryManager(), CircuitBreaker()
    manager = RecordingManager(resilient(store, circuit_breaker=breaker), recorder)
    breaker.force_open()
    assert manager.retrieve(item()).source == "none"
    manager.store(item("a"))

    def change(text: str | None) -> str:
        if text == "a" and manager.has_pending_writes:
            breaker.reset()
            manager.replay()
            store.store(item("b"))
        return f"{text}, and more"

    manager.mutate(item(), change)
    manager.inner.close()
    sources = [(each.value, each.answer) for each in recorder.history().operations if each.kind == "read"]
    assert sources == [(None, "none"), (A, "journal"), (B, "redis")]


def test_a_stack_tells_what_is_pending() -> None:
    """Journaled writes, journaled reads and stale reads are told apart; a missing update is of nobody."""
    script = Script(None, away, away, then=None)
    recorder = Recorder()
    manager = RecordingManager(
        resilient(ScriptedManager(script), retry=Retry(attempts=1), circuit_breaker=CircuitBreaker(open_for=60)),
        recorder,
    )
    manager.store(item("a"))
    manager.retrieve(item())
    manager.inner.policies[-1].force_open()
    manager.store(item("b"))
    manager.retrieve(item())
    manager.delete(item())
    manager.update(item("c"))
    manager.inner.close(timeout=0.01)
    assert told(recorder) == [
        ("write", A, "ok", "committed"),
        ("read", A, "ok", "stale"),
        ("write", B, "ok", "journaled"),
        ("read", B, "ok", "journal"),
        ("delete", None, "ok", "journaled"),
        ("update", C, "ok", ""),
    ]


FULL = JournalFullError("1 entry")


@pytest.mark.parametrize(
    ("error", "kind", "once", "repeated"),
    [
        (VersionConflictError(), "write", "failed", "ambiguous"),
        (InvalidInputError("x"), "write", "failed", "failed"),
        (MemoryTooLargeError(2, 1), "write", "failed", "failed"),
        (MemoryTooLargeError(2, 1), "update", "failed", "ambiguous"),
        (ManagerClosedError(), "write", "failed", "ambiguous"),
        (FULL, "write", "ambiguous", "ambiguous"),
        (redis.ConnectionError(), "write", "ambiguous", "ambiguous"),
        (redis.TimeoutError(), "delete", "ambiguous", "ambiguous"),
        (redis.OutOfMemoryError(), "write", "failed", "ambiguous"),
        (redis.ResponseError(), "delete", "ambiguous", "ambiguous"),
        (KeyboardInterrupt(), "write", "ambiguous", "ambiguous"),
        (redis.ConnectionError(), "read", "failed", "failed"),
    ],
)
def test_what_an_error_leaves_open(error: BaseException, kind: Any, once: str, repeated: str) -> None:
    """Only an error that comes before anything was sent, or from the one attempt, is certain."""
    assert outcome_of(error, kind, once=True) == once
    assert outcome_of(error, kind, once=False) == repeated


def test_who_makes_one_attempt() -> None:
    """A bare manager does, and one in a breaker; a stack that repeats or keeps does not, nor does a stranger."""
    bare = InMemoryManager()
    assert attempts_once(bare)
    assert attempts_once(CircuitBreaker()(bare))
    assert not attempts_once(Retry()(bare))
    assert not attempts_once(Fallback()(bare))
    assert not attempts_once(object())


def test_an_unknown_version_is_told_as_unknown() -> None:
    """A condition on a version that nobody has read here says so."""
    recorder = Recorder()
    inner = InMemoryManager()
    receipt = inner.store(item("a"))
    manager = RecordingManager(inner, recorder)
    manager.store(item("b"), if_version=receipt.version)
    assert [each.expected for each in recorder.history().operations] == [UNKNOWN]


def test_sessions_are_threads_and_tasks() -> None:
    """Each thread, and each task, has a session of its own."""
    recorder = Recorder()
    manager = RecordingManager(InMemoryManager(), recorder)
    with threads(4, lambda number: manager.store(item(str(number)))):
        pass
    assert len({each.session for each in recorder.history().operations}) == 4
    recorder = Recorder()
    other = AsyncRecordingManager(AsyncInMemoryManager(), recorder)

    async def both() -> None:
        async def one(number: int) -> None:
            await other.store(item(str(number)))
            await other.mutate(item(), lambda text: f"{text}, {number}")

        await asyncio.gather(one(1), one(2))

    asyncio.run(both())
    operations: list[Operation] = list(recorder.history().operations)
    assert len({each.session for each in operations}) == 2
    assert check(recorder.history(), checks=["linearizable"]).status is Status.PASS


def test_a_cancelled_write_is_ambiguous() -> None:
    """What a cancellation leaves behind may be applied."""

    class Slow(AsyncInMemoryManager):
        async def _submit(self, _: Any) -> Any:
            await asyncio.sleep(60)

    recorder = Recorder()
    manager = AsyncRecordingManager(Slow(), recorder, not_after_s=5.0)

    async def cancelled() -> None:
        task = asyncio.create_task(manager.store(item("a")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    (operation,) = recorder.history().operations
    assert operation.outcome == "ambiguous"
    assert operation.not_after == operation.invoked + 5.0
