"""The classes for pytest, as a project outside would use them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from remanence import ConfigurationError
from remanence.testing import AsyncMemoryManagerConformance, MemoryManagerConformance
from remanence.testing.conformance import CAPABILITIES, REQUIREMENTS
from remanence.testing.conformance.suite import check_capabilities
from tests.testing.conformance.dictionary import DictionaryHooks

REQUIRED = [requirement for requirement in REQUIREMENTS if requirement.tier == "required"]

FILE = '''
import asyncio
import pytest
from remanence import AsyncInMemoryManager, IMemoryManager, InMemoryManager
from remanence.testing import AsyncMemoryManagerConformance, MemoryManagerConformance

class TestGood(MemoryManagerConformance):
    capabilities = {"batches"}
    closed = 0

    @pytest.fixture(autouse=True)
    def _ttl(self, tmp_path):
        self.ttl = 100

    def make_manager(self):
        return InMemoryManager(ttl=self.ttl)

    def close_manager(self, manager):
        type(self).closed += 1

    def test_zz_every_manager_was_closed(self):
        assert self.closed == MADE_BY_GOOD

class TestAwaited(AsyncMemoryManagerConformance):
    capabilities = frozenset({"mutate"})

    async def make_manager(self):
        asyncio.get_running_loop()
        return AsyncInMemoryManager()

    async def close_manager(self, manager):
        await manager.aclose()

class Unfinished(IMemoryManager):
    """Has nothing but what the protocol gives it."""

class TestUnfinished(MemoryManagerConformance):
    def make_manager(self):
        return Unfinished()

class TestWrongKind(MemoryManagerConformance):
    def make_manager(self):
        return AsyncInMemoryManager()

class TestRaises(MemoryManagerConformance):
    def make_manager(self):
        raise RuntimeError("redis://:hunter2@h")

class TestReturnsNothing(MemoryManagerConformance):
    def make_manager(self):
        pass

class TestForgotTheFactory(MemoryManagerConformance):
    pass

class TestDeclaresWithoutHooks(MemoryManagerConformance):
    capabilities = {"ttl", "faults"}
    make_manager = InMemoryManager

    def make_manager(self):
        return InMemoryManager()

class TestSkipsByItself(MemoryManagerConformance):
    def make_manager(self):
        pytest.skip("no server here")

class TestKnownFailure(MemoryManagerConformance):
    def make_manager(self):
        return HasALength()

    @pytest.mark.xfail(strict=True, reason="known")
    def test_RM_003_a_manager_is_true(self):
        super().test_RM_003_a_manager_is_true()

class HasALength(InMemoryManager):
    def __len__(self):
        return 0
'''.replace("MADE_BY_GOOD", str(len(REQUIRED) + 6 + 1))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run them all, once, with warnings as errors."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "test_mine.py").write_text(FILE, "utf-8")
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-v", "-rs", "--tb=line"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return run.stdout


def counts(told: str, name: str) -> dict[str, int]:
    """Count the statuses of a class."""
    statuses = re.findall(rf"::{name}::test_\w+ (\w+)", told)
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def test_there_is_a_test_for_each_requirement_named_after_its_id(told: str) -> None:
    """In the order of the ids."""
    names = re.findall(r"::TestGood::test_(RM_\d+)_", told)
    assert names == [requirement.id.replace("-", "_") for requirement in REQUIREMENTS]
    assert "::TestGood::test_RM_010_what_was_stored_is_retrieved PASSED" in told


def test_what_is_not_declared_is_skipped_with_the_reason(told: str) -> None:
    """And what is passed; every manager that was made is closed."""
    assert counts(told, "TestGood") == {
        "PASSED": len(REQUIRED) + 6 + 1,
        "SKIPPED": len(REQUIREMENTS) - len(REQUIRED) - 6,
    }
    assert "RM-201: not declared: ttl" in told


def test_an_asynchronous_manager_is_awaited(told: str) -> None:
    """Its factory and its closing too; what needs two capabilities is skipped where one is missing."""
    assert counts(told, "TestAwaited")["PASSED"] == len(REQUIRED) + 2
    assert "RM-503: not declared: concurrency" in told


def test_unimplemented_methods_fail(told: str) -> None:
    """By the first requirement, with their names; that they do nothing is not taken for success."""
    assert "TestUnfinished::test_RM_001_the_four_methods_are_implemented FAILED" in told
    assert "NotMetError: RM-001: not implemented: store, retrieve, update, delete. The four methods" in told
    assert counts(told, "TestUnfinished")["FAILED"] > 20


def test_an_asynchronous_manager_in_the_class_for_synchronous_ones(told: str) -> None:
    """Is told where it belongs, and leaves no coroutine behind that nobody awaited."""
    assert "a method must be awaited: AsyncMemoryManagerConformance is for asynchronous managers" in told
    assert "never awaited" not in told


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("TestRaises", "FactoryError: make_manager() raised RuntimeError: make it return a manager"),
        ("TestReturnsNothing", "FactoryError: make_manager() returned NoneType, which is no manager"),
        ("TestForgotTheFactory", "FactoryError: make_manager() raised NotImplementedError"),
    ],
)
def test_a_factory_that_makes_nothing_is_an_error_of_its_own(told: str, name: str, said: str) -> None:
    """It fails every test, by name."""
    assert counts(told, name)["FAILED"] == len(REQUIRED)
    assert said in told


def test_a_capability_without_its_hook_fails(told: str) -> None:
    """Whoever declares something wants it tested."""
    assert "ttl is declared, but make_manager_with_ttl() is not overridden" in told
    assert "faults is declared, but outage() is not overridden" in told
    assert "RM-805: nobody can silence the store: silence() is not overridden" in told
    assert counts(told, "TestDeclaresWithoutHooks")["FAILED"] == 8


def test_a_factory_may_skip(told: str) -> None:
    """In the test runner's own way, although it runs in a thread."""
    assert set(counts(told, "TestSkipsByItself")) == {"SKIPPED"}
    assert "no server here" in told


def test_a_test_may_be_overridden(told: str) -> None:
    """For a failure that is known."""
    assert counts(told, "TestKnownFailure")["XFAIL"] == 1


def test_unknown_capabilities_are_refused_where_they_are_declared() -> None:
    """With the names that there are."""
    with pytest.raises(ConfigurationError, match=r"unknown capabilities: tll. There are concurrency, ttl"):
        type("TestMine", (MemoryManagerConformance,), {"capabilities": {"tll"}})
    with pytest.raises(ConfigurationError, match=r"must be a set of names"):
        type("TestMine", (AsyncMemoryManagerConformance,), {"capabilities": "ttl"})
    with pytest.raises(ConfigurationError, match=r"must be a set of names"):
        check_capabilities(None)


class TestOurOwn(MemoryManagerConformance):
    """The kit among our own tests, beside their plugins."""

    capabilities = frozenset(CAPABILITIES)
    call_limit = recovery_limit = 0.5

    @pytest.fixture(autouse=True)
    def _hooks(self) -> None:
        self.hooks = DictionaryHooks()
        for name in ("make_manager", "make_manager_with_ttl", "advance", "outage", "silence"):
            setattr(self, name, getattr(self.hooks, name))
