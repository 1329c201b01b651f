"""Draining a journal: chunks, pauses, leases, refusals, and answers that get lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from remanence import CircuitBreaker, Fallback, InMemoryManager, Retry, wrap
from remanence.errors import CircuitOpenError, InvalidInputError, LateWriteError, RemanenceError
from remanence.events import EntryStuck, Event, ReplayFinished
from remanence.flow import Call
from remanence.journal.entry import KeptValue
from remanence.policies import replayer as module
from remanence.policies.replayer import Replayer
from remanence.record import encode
from tests.support import FakeClock, Script, ScriptedManager

DOWN = ConnectionError("away")


class Drain:
    """A synchronous manager with pending writes, whose replay is taken round by round."""

    def __init__(self, clock: FakeClock, *policies: Any, **options: Any) -> None:
        self.clock = clock
        self.script = Script()
        self.events: list[Event] = []
        self.inner = ScriptedManager(self.script, clock=clock)
        self.manager = cast("Any", wrap(self.inner, Fallback(**options), *policies, listeners=(self.events.append,)))
        self.manager._background.wake = lambda: None
        self.fallback = self.manager._fallback
        self.journal = self.fallback.journal
        self.replayer: Replayer = self.fallback.replayer

    def pend(self, *conversations: str, text: str = "ours") -> None:
        """Leave a write for each pending."""
        self.script.then = DOWN
        for conversation in conversations:
            self.manager.store({"conversation_id": conversation, "working_memory": text})
        self.script.then = None
        self.script.calls.clear()

    def round(self) -> Any:
        """Replay one chunk; give the pause."""
        return self.manager._round()

    def sent(self, operation: str) -> list[Call]:
        """Return the calls of an operation that reached the store."""
        return [call for call in self.script.calls if call.operation == operation]

    def held(self, conversation: str) -> Any:
        """Return what the store holds."""
        found = InMemoryManager.retrieve(_bare(self.inner), {"conversation_id": conversation})
        return found[0].working_memory if found else None


def _bare(inner: InMemoryManager) -> InMemoryManager:
    bare = InMemoryManager(clock=inner.clock)
    bare.backend = inner.backend
    return bare


@pytest.fixture
def make(clock: FakeClock) -> Iterator[Callable[..., Drain]]:
    """Return the function that makes one."""
    made: list[Drain] = []

    def make(*policies: Any, **options: Any) -> Drain:
        made.append(Drain(clock, *policies, **options))
        return made[-1]

    yield make
    for one in made:
        one.fallback.forget()


@pytest.fixture
def it(make: Callable[..., Drain]) -> Drain:
    """One with the default fallback."""
    return make()


def test_nothing_pending_needs_no_round(it: Drain) -> None:
    """The store is not asked."""
    assert it.round() is None
    assert it.manager.replay().pending == 0
    assert it.script.attempts == 0


def test_chunks_grow_while_they_succeed(it: Drain) -> None:
    """From 16 on, so that the first one after an outage is a careful one; oldest first."""
    it.pend(*(f"c{n:03}" for n in range(100)))
    pauses = []
    while (pause := it.round()) is not None:
        pauses.append(pause)
    sizes = [len(call.items) for call in it.sent("reconcile")]
    assert sizes == [16, 32, 52]
    assert pauses == [0.0, 0.0]
    keys = [item.key for call in it.sent("reconcile") for item in call.items]
    assert keys == sorted(keys)
    assert [event.pending for event in it.events if isinstance(event, ReplayFinished)] == [84, 52, 0]


def test_a_chunk_holds_limited_bytes(it: Drain, monkeypatch: pytest.MonkeyPatch) -> None:
    """But always one entry, however large."""
    monkeypatch.setattr(module, "_CHUNK_BYTES", 500)
    it.pend("a", "b", "c", text="x" * 200)
    it.pend("d", text="x" * 2_000)
    while it.round() is not None:
        pass
    assert [len(call.items) for call in it.sent("reconcile")] == [1, 1, 1, 1]


def test_a_store_that_stays_away_is_asked_less_and_less(it: Drain) -> None:
    """The pauses grow up to five seconds, and start again once something came home."""
    it.pend("a")
    it.script.then = DOWN
    assert [it.round() for _ in range(8)] == [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0]
    it.script.then = None
    assert it.round() is None
    it.pend("a")
    it.script.then = DOWN
    assert it.round() == 0.1


def test_an_open_breaker_tells_when_to_come_back(make: Callable[..., Drain]) -> None:
    """Without sending anything, and without piling up digests in the guards."""
    it = make(CircuitBreaker(failures=1, jitter=0.0))
    it.pend("a")
    assert it.round() == pytest.approx(1.0)
    it.manager.store({"conversation_id": "a", "working_memory": "newer"})
    assert it.round() == pytest.approx(1.0)
    entry = it.journal.entries()[0]
    assert it.script.attempts == 0
    assert len(entry.sent) == 1  # the direct attempt of the first write
    it.clock.advance(1.1)
    assert it.round() is None
    assert it.held("a") == "newer"


def test_a_breaker_whose_probe_is_under_way_is_asked_again_soon(it: Drain) -> None:
    """Its retry_after is 0 then; the drainer must not spin."""
    it.pend("a")
    it.script.then = CircuitOpenError("the connection", 0.0)
    assert it.round() == 0.02


def test_one_drainer_at_a_time(it: Drain) -> None:
    """While another holds the lease a round does nothing; a lease that ran out is taken over."""
    it.pend("a")
    assert it.journal.lease(it.clock.now, 30.0) is not None
    assert it.round() == 0.1
    assert it.script.attempts == 0
    it.clock.advance(30)
    assert it.round() is None
    assert it.held("a") == "ours"


def test_what_a_drainer_without_the_lease_reports_changes_nothing(it: Drain) -> None:
    """Its writes are guarded, and the entry is brought home by the other."""
    it.pend("a")

    def overtaken(_: Call) -> Any:
        it.script.then = None
        it.clock.advance(31)
        assert it.journal.lease(it.clock.now, 0.0) is not None
        return None

    it.script.then = overtaken
    assert it.round() is not None
    assert len(it.journal) == 1
    assert it.replayer.replayed == 0
    it.round()
    assert (len(it.journal), it.held("a")) == (0, "ours")


def test_what_a_drainer_sends_ends_with_its_lease(it: Drain) -> None:
    """However long it was stopped in between: by then somebody else may have written, or deleted, what it sends."""
    it.pend("a")
    begun, calls = it.clock.now, []
    mark = it.journal.mark_sent

    def stopped(*arguments: Any) -> Any:
        it.clock.advance(100.0)
        return mark(*arguments)

    def note(call: Call) -> None:
        calls.append((call.operation, call.deadline))

    it.journal.mark_sent = stopped
    it.script.then = note
    it.round()
    assert calls == [("reconcile", begun + 30.0)]


def test_a_write_that_comes_during_the_round_is_made_over_it(it: Drain) -> None:
    """It is sent next, over what the round has written."""
    it.pend("a")

    def meanwhile(_: Call) -> Any:
        it.script.then = None
        assert it.manager.store({"conversation_id": "a", "working_memory": "newer"}).outcome == "journaled"
        return None

    it.script.then = meanwhile
    it.round()
    assert (it.held("a"), len(it.journal)) == ("ours", 1)
    it.round()
    assert (it.held("a"), len(it.journal), it.manager.conflicts()) == ("newer", 0, [])


def test_a_lost_answer_is_waited_for_and_recognised(it: Drain) -> None:
    """The attempt that may still be applied is out of time before the next; direct writes wait for it too."""
    it.pend("a")

    def lose(call: Call) -> Any:
        it.script.then = None
        it.inner._carry_out(call)
        call.unsettled_until = it.clock.now + 1.0
        raise DOWN

    it.script.then = lose
    assert it.round() == 0.1
    assert it.round() == pytest.approx(1.0)
    assert it.manager._fallback.knowledge.view("memory:WORKING_MEMORY:a").unsettled_until == it.clock.now + 1.0
    it.clock.advance(1.0)
    assert it.round() is None
    assert (it.held("a"), it.manager.conflicts()) == ("ours", [])


def test_a_refused_entry_is_set_aside_and_the_rest_proceeds(it: Drain) -> None:
    """It is counted and told once; `replay()` tries it once more, and brings it home when its cause is gone."""
    refusal: list[Exception | None] = [InvalidInputError("never")]
    write = it.inner.backend._write

    def picky(item: Any) -> Any:
        if item.key.endswith(":bad") and refusal[0] is not None:
            return refusal[0]
        return write(item)

    it.inner.backend._write = picky  # type: ignore[method-assign]
    it.pend("bad", "good")
    assert it.round() == 0.0 or it.round() is None
    health = it.manager.health()
    assert (health.status, health.stuck, health.pending, it.held("good")) == ("degraded", 1, 0, "ours")
    assert [event for event in it.events if isinstance(event, EntryStuck)] == [EntryStuck("InvalidInputError")]
    assert it.round() is None
    counts = it.manager.replay()
    assert (counts.stuck, counts.replayed) == (1, 0)
    refusal[0] = None
    counts = it.manager.replay()
    assert (counts.stuck, counts.replayed, it.held("bad")) == (0, 1, "ours")


def test_an_entry_that_fails_for_now_does_not_block_those_behind_it(it: Drain) -> None:
    """However many there are of it: a chunk full of them is put off, and the next one is taken."""
    write = it.inner.backend._write
    it.inner.backend._write = lambda item: LateWriteError() if ":bad" in item.key else write(item)  # type: ignore[method-assign,assignment,return-value]
    it.pend(*(f"bad{n}" for n in range(20)), "good")
    for _ in range(3):
        it.round()
    assert it.held("good") == "ours"
    assert len(it.journal) == 20
    assert it.manager.health().stuck == 0


def test_a_call_that_fails_because_of_one_entry_is_narrowed_down(it: Drain) -> None:
    """Smaller chunks find it; it is set aside, the others come home."""

    def poisoned(call: Call) -> None:
        if call.operation == "reconcile" and any(item.key.endswith(":bad") for item in call.items):
            call.attempts += 1
            raise RemanenceError("the whole chunk is refused")

    it.pend("bad", *(f"c{n}" for n in range(30)))
    it.script.then = poisoned
    for _ in range(12):
        it.round()
    assert it.manager.health().stuck == 1
    assert all(it.held(f"c{n}") == "ours" for n in range(30))


def test_a_losing_value_is_kept_before_the_entry_goes(it: Drain) -> None:
    """When the store does not take the copy, the entry stays and is judged again."""
    _bare(it.inner).store({"conversation_id": "a", "working_memory": "theirs"})
    it.pend("a")
    it.script.then = lambda call: [DOWN] if call.operation == "keep" else None
    pause = it.round()
    assert pause == pytest.approx(1.0)
    assert (len(it.journal), it.manager.health().conflicts) == (1, 0)
    it.script.then = None
    it.clock.advance(pause)
    it.round()
    assert (len(it.journal), [c.text for c in it.manager.conflicts()]) == (0, ["ours"])


def test_what_waits_to_be_kept_is_tried_until_it_is(it: Drain) -> None:
    """It is listed as waiting meanwhile, and keeps the replay going."""
    it.journal._keep(KeptValue("memory:WORKING_MEMORY:a", encode("lost", None, "", "")))
    it.journal._keep(KeptValue("memory:WORKING_MEMORY:a", None))
    it.script.then = lambda call: [DOWN] if call.operation == "keep" else None
    assert it.round() == 0.1
    assert [(c.text, c.kept_in) for c in it.manager.conflicts()] == [("lost", "journal"), (None, "journal")]
    assert it.manager.health().status == "degraded"
    it.script.then = None
    assert it.round() is None
    assert sorted((str(c.text), c.kept_in) for c in it.manager.conflicts()) == [("None", "store"), ("lost", "store")]


def test_replay_gives_up_at_its_timeout(it: Drain) -> None:
    """And says what is left."""
    it.pend("a")
    it.script.then = DOWN
    before = it.clock.now
    counts = it.manager.replay(timeout=3.0)
    assert (counts.pending, counts.replayed) == (1, 0)
    assert it.clock.now == pytest.approx(before + 3.0)


def test_every_replay_call_carries_the_drains_deadline(make: Callable[..., Drain]) -> None:
    """Else a drain with little time left would wait for the policies' own deadline."""
    it = make(Retry(attempts=1))
    _bare(it.inner).store({"conversation_id": "b", "working_memory": "theirs"})
    it.pend("a", "b")
    it.journal._keep(KeptValue("memory:WORKING_MEMORY:a", None))
    it.manager.replay(timeout=2.5)
    deadlines = {call.deadline for call in it.script.calls}
    assert deadlines == {it.clock.now + 2.5}
    assert {call.operation for call in it.script.calls} == {"keep", "reconcile"}


def test_an_interruption_gives_the_lease_back(it: Drain) -> None:
    """A KeyboardInterrupt in the middle of a round leaves everything pending, and the next round goes on."""
    it.pend("a")
    it.script.then = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        it.round()
    it.script.then = None
    assert it.round() is None
    assert it.held("a") == "ours"


def test_an_unexpected_failure_is_logged_without_texts(it: Drain, caplog: pytest.LogCaptureFixture) -> None:
    """By the class alone; what is pending stays pending."""
    it.pend("a", text="secret")
    it.script.then = RemanenceError("secret")
    it.pend("b")
    it.script.then = RemanenceError("secret")
    assert it.round() == 0.1
    assert "replay failed with RemanenceError" in caplog.text
    assert "secret" not in caplog.text
    assert len(it.journal) == 2
