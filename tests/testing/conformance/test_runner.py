"""How a requirement is run: bounded, private, and cleaned up after."""

from __future__ import annotations

import asyncio
import contextvars
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remanence import AsyncInMemoryManager, InMemoryManager
from remanence.testing.conformance import REQUIREMENTS, Hooks, NotMetError, NotTestableError, Requirement, Result, run
from remanence.testing.conformance.callers import Awaiting
from remanence.testing.conformance.card import as_markdown, write_json
from remanence.testing.conformance.requirement import CAPABILITIES, requirement
from remanence.testing.conformance.trial import Trial

Check = Callable[[Trial], None]
HOLDS = contextvars.ContextVar("HOLDS", default="nothing")


class InMemory(Hooks):
    """Keeps what it makes."""

    time_limit = 5.0

    def __init__(self, manager: Any = None) -> None:
        self.manager = manager or InMemoryManager()
        self.closed: list[Any] = []

    def make_manager(self) -> Any:
        """Hand it out."""
        return self.manager

    def close_manager(self, manager: Any) -> None:
        """Note it."""
        self.closed.append(manager)


def tried(check: Check, hooks: Hooks | None = None) -> Result:
    """Run a requirement of the test's own."""
    return run(requirement("RM-999", "A title", why="a reason")(check), hooks or InMemory())


def test_a_secret_in_an_error_is_not_told() -> None:
    """The class and the place must do; whoever wants the rest has the error itself."""

    def check(_: Trial) -> None:
        raise KeyError("hunter2")

    result = tried(check)
    assert (result.status, type(result.error)) == ("failed", KeyError)
    assert re.fullmatch(r"KeyError was raised in test_runner\.py, line \d+", result.reason or "")
    assert "hunter2" not in repr(result)


def test_what_cannot_be_tested_is_skipped() -> None:
    """It is not passed, and says why."""

    def check(_: Trial) -> None:
        raise NotTestableError("too busy")

    assert (tried(check).status, tried(check).reason) == ("skipped", "too busy")


def test_what_was_written_is_deleted_also_after_a_failure() -> None:
    """The server may be somebody's own; and the manager is closed."""

    def check(trial: Trial) -> None:
        trial.subject.store(trial.about(trial.new_id(), "text"))
        raise NotMetError("on purpose")

    hooks = InMemory()
    assert tried(check, hooks).reason == "on purpose"
    assert len(hooks.manager.backend) == 0
    assert hooks.closed == [hooks.manager]


@pytest.mark.parametrize(
    "each", [r for r in REQUIREMENTS if r.capabilities[:1] not in {("ttl",), ("faults",)}], ids=lambda r: r.id
)
def test_no_requirement_leaves_anything_behind(each: Requirement) -> None:
    """Of any kind of memory."""
    hooks = InMemory()
    hooks.capabilities = frozenset(CAPABILITIES)  # type: ignore[misc]
    run(each, hooks)
    assert len(hooks.manager.backend) == 0


def test_a_hang_ends_in_time_and_its_loop_with_it() -> None:
    """Under asyncio the call is cancelled, and nothing is said to have never been awaited."""
    cancelled = threading.Event()

    class Hangs(AsyncInMemoryManager):
        async def retrieve(self, _: Any) -> Any:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

    hooks = InMemory(Hangs())
    hooks.asynchronous, hooks.time_limit = True, 0.1
    begun = time.monotonic()
    result = tried(lambda trial: trial.subject.retrieve(trial.about(trial.new_id())), hooks)
    assert time.monotonic() - begun < 2.0
    assert (result.status, result.hangs) == ("failed", True)
    assert cancelled.wait(5)


def test_a_factory_that_hangs_holds_up_nobody_else() -> None:
    """The next requirement makes its manager as if nothing had happened."""

    class Hanging(InMemory):
        def make_manager(self) -> Any:
            threading.Event().wait()

    def check(trial: Trial) -> None:
        trial.subject.store(trial.about(trial.new_id(), "text"))

    hooks = Hanging()
    hooks.time_limit = 0.1
    assert tried(check, hooks).hangs
    assert tried(check).status == "passed"


def test_a_loop_that_was_given_up_takes_no_calls() -> None:
    """A thread that was left to itself may go on; what it calls then nobody would await."""
    caller = Awaiting()
    assert caller.call(asyncio.sleep, 0, "result") == "result"
    caller.close()
    with pytest.raises(NotTestableError, match="given up"):
        caller.call(asyncio.sleep, 0)


def test_an_error_while_closing_fails() -> None:
    """It would be somebody's error at the end of each test."""

    class Hooked(InMemory):
        def close_manager(self, _: Any) -> None:
            raise OSError

    result = tried(lambda trial: trial.subject.store(trial.about(trial.new_id(), "text")), Hooked())
    assert (result.reason or "").startswith("closing the manager raised OSError")


def test_the_callers_context_is_the_requirements() -> None:
    """What a fixture has set is there, although it runs in another thread."""
    found = []
    token = HOLDS.set("something")
    try:
        tried(lambda _: found.append(HOLDS.get()))
    finally:
        HOLDS.reset(token)
    assert found == ["something"]


def test_an_interrupt_is_nobodys_failure() -> None:
    """It reaches the caller."""

    def check(_: Trial) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tried(check)


def test_the_card_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier one stays until then, and nothing else is left."""
    file = tmp_path / "card.json"
    file.write_text("earlier", "utf-8")
    results = [Result(REQUIREMENTS[0], "passed")]

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for place in ("os.fsync", "pathlib.Path.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(place, refuse)
            with pytest.raises(OSError, match="No space left"):
                write_json(results, file)
        assert file.read_text("utf-8") == "earlier"
        assert list(tmp_path.iterdir()) == [file]
    write_json(results, file)
    assert json.loads(file.read_text("utf-8"))[0]["status"] == "passed"
    assert list(tmp_path.iterdir()) == [file]


def test_the_card_follows_a_link(tmp_path: Path) -> None:
    """It is the file that is replaced, not the link to it; also where there is none yet."""
    file, link = tmp_path / "folder" / "card.json", tmp_path / "link.json"
    file.parent.mkdir()
    link.symlink_to(file)
    for _ in range(2):
        write_json([Result(REQUIREMENTS[0], "passed")], link)
        assert link.is_symlink()
        assert json.loads(file.read_text("utf-8"))[0]["status"] == "passed"
        file.write_text("earlier", "utf-8")


def test_skipped_is_never_counted_as_passed() -> None:
    """On a page it is neither."""
    table = as_markdown({"mine": [Result(REQUIREMENTS[0], "skipped", "why")]})
    assert "0 passed, 0 failed, 1 skipped" in table


class TestTheRequirements:
    """What they are made of."""

    def test_their_ids_are_unique_and_in_order(self) -> None:
        """RM- and three digits."""
        ids = [each.id for each in REQUIREMENTS]
        assert ids == sorted(set(ids))
        assert all(re.fullmatch(r"RM-\d{3}", each) for each in ids)
        assert len({each.name for each in REQUIREMENTS}) == len(ids)

    def test_they_rest_on_requirements_that_come_with_them(self) -> None:
        """A required one never rests on an optional one, and none rests on itself."""
        by_id = {each.id: each for each in REQUIREMENTS}
        for each in REQUIREMENTS:
            assert each.id not in each.needs
            for need in each.needs:
                assert set(by_id[need].capabilities) <= set(each.capabilities), f"{each.id} needs {need}"

    def test_they_say_what_and_why(self) -> None:
        """In a sentence each, and with capabilities that there are."""
        for each in REQUIREMENTS:
            assert each.title[0].isupper() or each.title.startswith(("store ", "mutate ", "200 "))
            assert not each.title.endswith(".")
            assert each.why.endswith(".")
            assert set(each.capabilities) <= set(CAPABILITIES)
        assert {name for each in REQUIREMENTS for name in each.capabilities} == set(CAPABILITIES)
