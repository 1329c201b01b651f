"""Calls that are cut off from outside, by a cancellation, a timeout or Ctrl-C: what the fallback remembers of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remanence import Fallback, wrap
from remanence.flow import Call
from tests.policies.setting import DOWN, Setting, text_of
from tests.support import AsyncScriptedManager, Script, run_bounded

CUTS = [asyncio.CancelledError(), KeyboardInterrupt()]
each_cut = pytest.mark.parametrize("cut", CUTS, ids=lambda cut: type(cut).__name__)


@each_cut
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_what_was_not_read_is_not_replaced(it: Setting, cut: BaseException, *, many: bool) -> None:
    """Whoever cut a read off may go on as if nothing were stored: what is there stays, and the write is kept."""
    it.stranger.store({"conversation_id": "c", "working_memory": "theirs"})
    it.down(cut)
    value = {"conversation_id": "c"}
    with pytest.raises(type(cut)):
        it._run(it.manager.retrieve_many([value]) if many else it.manager.retrieve(value))
    it.up()
    assert it.store("made from nothing").outcome == "journaled"
    it._run(it.manager.replay())
    assert text_of(it.stranger.retrieve(value)) == "theirs"
    assert [conflict.text for conflict in it._run(it.manager.conflicts())] == ["made from nothing"]


@each_cut
def test_a_read_since_then_settles_it(it: Setting, cut: BaseException) -> None:
    """The next write is made over what that has shown."""
    it.stranger.store({"conversation_id": "c", "working_memory": "theirs"})
    it.down(cut)
    with pytest.raises(type(cut)):
        it._run(it.manager.retrieve({"conversation_id": "c"}))
    it.up()
    it._run(it.manager.retrieve({"conversation_id": "c"}))
    assert it.store("seen").outcome == "committed"


@each_cut
def test_a_write_that_was_cut_off_does_not_stand_in_the_way_of_a_later_one(it: Setting, cut: BaseException) -> None:
    """It may have been applied, long ago by now: that is this process's own, and the later write replaces it."""

    def applied(call: Call) -> None:
        it.lose_answer(call)
        raise cut

    it.store("before")
    it.down(applied)
    with pytest.raises(type(cut)):
        it.store("cut off")
    it.clock.advance(100.0)
    it.down()
    assert it.store("after").outcome == "journaled"
    it.up()
    it._run(it.manager.replay())
    assert text_of(it.stranger.retrieve({"conversation_id": "c"})) == "after"
    assert it._run(it.manager.conflicts()) == []


def test_a_deletion_that_was_answered_is_over_although_its_end_was_cut_off(it: Setting) -> None:
    """Cut off while the conflict copies are removed: the next write finds nothing, as this process has left it."""

    def cut(call: Call) -> None:
        it.inner._carry_out(call)
        call.deleted = "committed"
        call.unsettled_until = it.clock.now + 1.0
        raise asyncio.CancelledError

    it.store("before")
    it.down(cut)
    with pytest.raises(asyncio.CancelledError):
        it.delete()
    it.clock.advance(100.0)
    it.down()
    assert it.store("after").outcome == "journaled"
    it.up()
    it._run(it.manager.replay())
    assert text_of(it.stranger.retrieve({"conversation_id": "c"})) == "after"
    assert it._run(it.manager.conflicts()) == []


def test_a_close_that_is_cancelled_ends_the_replay_all_the_same() -> None:
    """What waits is reported; nothing goes on writing behind a manager that counts as closed."""

    async def play() -> None:
        script = Script(then=DOWN)
        manager: Any = wrap(AsyncScriptedManager(script), Fallback(close_timeout=30.0))
        await manager.store({"conversation_id": "c", "working_memory": "waits"})
        closing = asyncio.create_task(manager.aclose())
        await asyncio.sleep(0.01)
        task = manager._background._task
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert task.done()
        assert manager._background._stopped

    run_bounded(play())
