"""`resolve_conflict()`: what a person made of a conflict is stored, and only then the copy goes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from remanence import (
    AsyncInMemoryManager,
    CircuitBreaker,
    Deadline,
    Fallback,
    InMemoryManager,
    InvalidInputError,
    ManagerClosedError,
    RedisWorkingMemoryManager,
    Retry,
    VersionConflictError,
    resilient,
    wrap,
)
from remanence.flow import Call, KeptCopy
from remanence.lab import RedisServer
from remanence.record import encode
from remanence.results import Conflict, copy_digest
from tests.policies.setting import KEY, Setting
from tests.support import AsyncScriptedManager, FakeClock, Script, ScriptedManager, run

LOST = encode("lost", {"by": "us"}, "a", "2026-01-01T00:00:00+00:00")
OTHER = encode("other", None, "a", "b")


@dataclass(frozen=True)
class Flavour:
    """Synchronous or asynchronous managers."""

    is_async: bool

    def manager(self, script: Script, **options: Any) -> Any:
        """Return an in-memory manager that fails by `script`."""
        return (AsyncScriptedManager if self.is_async else ScriptedManager)(script, **options)

    def run(self, value: Any) -> Any:
        """Return a call's answer."""
        return run(value)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Setting]]:
    """Return what makes a setting, in both worlds."""
    made: list[Setting] = []

    def make(*policies: Any, **options: Any) -> Setting:
        made.append(Setting(Flavour(is_async=request.param), FakeClock(), *policies, **options))
        return made[-1]

    yield make
    for one in made:
        one.abandon()


@pytest.fixture
def it(make: Callable[..., Setting]) -> Setting:
    """A setting with the whole stack."""
    return make(Fallback(), Deadline(1.5), Retry(attempts=2), CircuitBreaker())


def keep(it: Setting, *raws: bytes | None) -> None:
    """Have the store keep copies of the conversation."""
    run(it.inner.perform(Call("keep", items=[KeptCopy(KEY, raw, 900.0) for raw in raws])))


def conflict(it: Setting, text: str | None = "lost") -> Conflict:
    """Return the copy with a text."""
    found: list[Conflict] = run(it.manager.conflicts())
    return next(each for each in found if each.text == text)


def resolve(it: Setting, of: Conflict, **options: Any) -> Any:
    """Resolve a conflict."""
    return run(it.manager.resolve_conflict(of, **options))


def test_without_a_text_what_is_stored_stays(it: Setting) -> None:
    """One copy goes, the others and the memory stay; a second time is no error."""
    it.stranger_writes("theirs")
    keep(it, LOST, OTHER, None)
    chosen = conflict(it)
    assert resolve(it, chosen) is None
    assert (it.held(), it.conflicts()) == ("theirs", ["other", None])
    assert resolve(it, chosen) is None
    resolve(it, conflict(it, None))
    resolve(it, conflict(it, "other"))
    assert (it.held(), it.conflicts()) == ("theirs", [])


def test_a_text_is_stored_and_the_copy_goes(it: Setting) -> None:
    """With the metadata that is given, on the version that was seen."""
    it.stranger_writes("theirs")
    keep(it, LOST)
    chosen, seen = conflict(it), it.retrieve()
    receipt = resolve(it, chosen, text="both", metadata=chosen.metadata, if_version=seen.version)
    found = it.retrieve()
    assert (receipt.outcome, receipt.version) == ("committed", found.version)
    assert (found[0].working_memory, found.metadata, it.conflicts()) == ("both", {"by": "us"}, [])


def test_what_was_not_seen_is_not_overwritten_and_the_copy_stays(it: Setting) -> None:
    """Somebody has written since the person looked."""
    it.stranger_writes("theirs")
    keep(it, LOST)
    chosen, seen = conflict(it), it.retrieve()
    it.stranger_writes("newer")
    with pytest.raises(VersionConflictError):
        resolve(it, chosen, text="both", if_version=seen.version)
    with pytest.raises(VersionConflictError):
        resolve(it, chosen, text="both", if_version=None)
    assert (it.held(), it.conflicts()) == ("newer", ["lost"])


def test_the_store_goes_away_before_the_copy_is_removed(it: Setting) -> None:
    """The text is acknowledged; the error says so, and that the copy is still there."""
    it.stranger_writes("theirs")
    keep(it, LOST)
    chosen = conflict(it)
    it.down()
    with pytest.raises(Exception, match="away") as raised:
        resolve(it, chosen, text="both")
    assert "waits in the journal" in raised.value.__notes__[-1]
    assert "still there" in raised.value.__notes__[-1]
    it.up()
    it.clock.advance(40.0)
    it.replay()
    assert "lost" in it.conflicts()
    resolve(it, chosen)
    assert "lost" not in it.conflicts()


def test_an_error_tells_a_text_that_was_stored_from_none(make: Callable[..., Setting]) -> None:
    """By the notes: the store refuses nothing but the removal."""
    it = make(Fallback())
    keep(it, LOST)
    chosen = conflict(it)

    def refuse(call: Call) -> Any:
        if call.operation == "drop":
            raise OSError("away")

    it.script.then = refuse
    with pytest.raises(OSError, match="away") as raised:
        resolve(it, chosen, text="both")
    assert raised.value.__notes__[-1].startswith("The text was stored; ")
    with pytest.raises(OSError, match="away") as raised:
        resolve(it, chosen)
    assert raised.value.__notes__[-1].startswith("What is stored was left as it is; ")
    assert (it.held(), it.conflicts()) == ("both", ["lost"])


def test_a_removal_is_repeated(it: Setting) -> None:
    """Its answer was lost: that it was done already is no error."""
    keep(it, LOST, OTHER)
    chosen = conflict(it)
    calls: list[Call] = []

    def lose_the_first(call: Call) -> Any:
        calls.append(call)
        if len(calls) == 1:
            it.lose_answer(call)
            raise OSError

    it.script.then = lose_the_first
    resolve(it, chosen)
    assert [call.operation for call in calls] == ["drop", "drop"]
    assert it.conflicts() == ["other"]


def waiting(it: Setting) -> None:
    """Have a text and a deletion wait in the journal to be kept."""
    it.manager._fallback.journal.keep(_kept(LOST))
    it.manager._fallback.journal.keep(_kept(None))


def _kept(raw: bytes | None) -> Any:
    from remanence.journal.entry import KeptValue  # noqa: PLC0415 - one use

    return KeptValue(KEY, raw)


def test_a_copy_that_waits_in_the_journal_is_removed_from_there(it: Setting) -> None:
    """A text and a deletion alike; nothing of them comes home later."""
    waiting(it)
    for text in ("lost", None):
        chosen = conflict(it, text)
        assert chosen.kept_in == "journal"
        resolve(it, chosen)
    assert it.manager._fallback.journal.counts().kept == 0
    it.replay()
    assert it.conflicts() == []


@pytest.mark.parametrize("kind", [InMemoryManager, AsyncInMemoryManager])
def test_a_copy_that_waits_in_a_file_is_removed_from_there(kind: Any, tmp_path: Path) -> None:
    """Of two values of the conversation the one that was chosen."""
    manager: Any = resilient(kind(), journal=tmp_path / "journal")
    manager._background.wake = lambda: None
    for raw in (LOST, OTHER):
        manager._fallback.journal.keep(_kept(raw))

    async def resolve_the_first() -> list[str | None]:
        chosen = (await _awaited(manager.conflicts()))[0]
        await _awaited(manager.resolve_conflict(chosen, text=chosen.text))
        return [each.text for each in await _awaited(manager.conflicts())]

    assert run(resolve_the_first()) == ["other"]
    assert [value.raw for value in manager._fallback.journal.kept()] == [OTHER]
    run(manager.aclose() if kind is AsyncInMemoryManager else manager.close())


async def _awaited(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


def test_a_copy_that_has_come_home_meanwhile_is_removed_there(it: Setting) -> None:
    """It was listed as waiting; it has the same digest in the store."""
    waiting(it)
    found = [conflict(it), conflict(it, None)]
    it.replay()
    assert [each.digest for each in run(it.manager.conflicts())] == [each.digest for each in found]
    for each in found:
        resolve(it, each)
    assert it.conflicts() == []


def test_a_copy_that_comes_home_while_it_is_resolved_is_removed_there(it: Setting) -> None:
    """The replay has kept it after the store was asked, before the journal was."""
    it.manager._fallback.journal.keep(_kept(LOST))
    chosen = conflict(it)
    calls: list[Call] = []

    def meanwhile(call: Call) -> Any:
        calls.append(call)
        if len(calls) == 1:
            it.inner._carry_out(call)
            it.inner._carry_out(Call("keep", items=[KeptCopy(KEY, LOST, 900.0)]))
            return True
        return None

    it.script.then = meanwhile
    resolve(it, chosen)
    it.up()
    assert it.conflicts() == []


def test_a_waiting_copy_stays_while_the_store_is_away(it: Setting) -> None:
    """Whether the store has it too cannot be known."""
    it.manager._fallback.journal.keep(_kept(LOST))
    chosen = conflict(it)
    it.down()
    with pytest.raises(Exception, match="away"):
        resolve(it, chosen)
    assert it.manager._fallback.journal.counts().kept == 1


def test_options_of_a_text_need_one(it: Setting) -> None:
    """Forgetting the text must not throw the copy away."""
    keep(it, LOST)
    wrong: list[dict[str, Any]] = [{"if_version": None}, {"metadata": {}}]
    for options in wrong:
        with pytest.raises(InvalidInputError, match="text="):
            resolve(it, conflict(it), **options)
    assert it.conflicts() == ["lost"]


def test_a_closed_manager_resolves_nothing(make: Callable[..., Setting]) -> None:
    """As every other method."""
    it = make(Fallback())
    keep(it, LOST)
    chosen = conflict(it)
    run(it.manager.aclose() if hasattr(it.manager, "aclose") else it.manager.close())
    with pytest.raises(ManagerClosedError):
        resolve(it, chosen)


@pytest.mark.parametrize("kind", [InMemoryManager, AsyncInMemoryManager])
def test_without_a_fallback_it_works_too(kind: Any) -> None:
    """Retry alone is enough."""
    inner = kind()
    run(inner.perform(Call("keep", items=[KeptCopy(KEY, LOST, 900.0)])))
    manager: Any = wrap(inner, Retry())
    (chosen,) = run(manager.conflicts())
    assert run(manager.resolve_conflict(chosen, text=chosen.text)) == KEY
    assert run(manager.conflicts()) == []


def test_around_a_foreign_manager() -> None:
    """Its copies are conversations of their own."""
    from tests.managers.test_foreign import AsyncDictManager, DictManager  # noqa: PLC0415 - their home

    for foreign in (DictManager(), AsyncDictManager()):
        manager: Any = wrap(foreign, Fallback())
        run(manager._native.perform(Call("keep", items=[KeptCopy(KEY, LOST, 9.0), KeptCopy(KEY, OTHER, 9.0)])))
        chosen = run(manager.conflicts())[0]
        run(manager.resolve_conflict(chosen, text="both"))
        assert [each.text for each in run(manager.conflicts())] == ["other"]
        assert sorted(text for text, _ in foreign.kept.values()) == ["both", "other"]
        run(manager.resolve_conflict(chosen))


def test_on_redis_one_copy_and_its_name_in_the_index_go(redis_url: str, server: RedisServer) -> None:
    """The others can still be found by a delete; conversations whose ids begin alike, and odd ids, are spared."""
    with RedisWorkingMemoryManager(redis_url) as inner, resilient(inner) as manager:
        odd = "memory:WORKING_MEMORY:c:*é"
        copies = [KeptCopy(key, raw, 900.0) for key in (KEY, odd) for raw in (LOST, OTHER, None)]
        inner.perform(Call("keep", items=copies))
        for each in manager.conflicts():
            if each.conversation_id == "c" and each.text != "other":
                manager.resolve_conflict(each)
        left = [(each.conversation_id, each.text) for each in manager.conflicts()]
        assert sorted(map(str, left)) == sorted(
            map(str, [("c", "other"), *(("c:*é", t) for t in ("lost", "other", None))])
        )
        assert server.command("SMEMBERS", "remanence-conflicts:WORKING_MEMORY:c") == [copy_digest(OTHER)]
        for each in manager.conflicts():
            manager.resolve_conflict(each)
        assert server.command("DBSIZE") == 0


def test_on_redis_a_copy_whose_name_is_no_text_goes_too(redis_url: str, server: RedisServer) -> None:
    """Whoever wrote it, it is listed, so it can be resolved."""
    inner: Any
    with RedisWorkingMemoryManager(redis_url) as inner, resilient(inner) as manager:
        inner.redis_client.set(b"remanence-conflict:WORKING_MEMORY:\xff\xfe:" + copy_digest(LOST).encode(), LOST)
        (found,) = manager.conflicts()
        manager.resolve_conflict(found)
        assert server.command("DBSIZE") == 0
