"""Each requirement is failed by a manager with one mistake, which fails nothing that does not depend on it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from remanence.testing.conformance import REQUIREMENTS, Result, run
from remanence.testing.conformance.requirements import concurrency
from tests.testing.conformance.dictionary import Dictionary, DictionaryHooks
from tests.testing.conformance.mutants import MORE, MUTANTS, NO_MANAGERS, LetsOthersInBetween, RefusesNul

BY_ID = {requirement.id: requirement for requirement in REQUIREMENTS}


@pytest.fixture(autouse=True)
def _fewer_races(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutants lose the first ones."""
    monkeypatch.setattr(concurrency, "_RACES", 10)


@cache
def foundations(number: str) -> frozenset[str]:
    """Return all on which a requirement rests, itself among them."""
    return frozenset({number}).union(*(foundations(need) for need in BY_ID[number].needs))


def card(cls: type[Any], *, is_async: bool = False) -> dict[str, Result]:
    """Return what becomes of each requirement."""
    hooks = DictionaryHooks(cls, is_async=is_async)
    return {each.id: run(each, hooks) for each in REQUIREMENTS}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_correct_manager_passes_all(*, is_async: bool) -> None:
    """Of either kind: the requirements are the same."""
    found = card(Dictionary, is_async=is_async)
    assert {number: result.reason for number, result in found.items() if result.status != "passed"} == {}


def test_there_is_a_mutant_for_every_requirement() -> None:
    """No requirement is without a manager that fails it."""
    assert sorted(MUTANTS) == [requirement.id for requirement in REQUIREMENTS]


@pytest.mark.parametrize(
    ("number", "cls"),
    [*sorted(MUTANTS.items()), *MORE],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_mutant_fails_its_requirement_and_what_rests_on_it(number: str, cls: type[Any]) -> None:
    """And everything else is passed."""
    found = card(cls)
    failed = {each for each, result in found.items() if result.status == "failed"}
    assert number in failed
    assert {each: found[each].reason for each in failed if number not in foundations(each)} == {}
    assert all(result.status == "passed" for each, result in found.items() if each not in failed)
    assert all(result.reason for result in found.values() if result.status == "failed")


def test_a_store_that_refuses_nul_is_honest() -> None:
    """As PostgreSQL's text does."""
    assert {number: result.reason for number, result in card(RefusesNul).items() if result.status != "passed"} == {}


@pytest.mark.parametrize("number", ["RM-010", "RM-020", "RM-403", "RM-802", "RM-805"])
def test_an_asynchronous_mutant_fails_as_well(number: str) -> None:
    """The bridge hides nothing."""
    assert run(BY_ID[number], DictionaryHooks(MUTANTS[number], is_async=True)).status == "failed"


@pytest.mark.parametrize("number", ["RM-103", "RM-503"])
def test_tasks_come_in_between_as_threads_do(number: str) -> None:
    """An await between reading and writing is found, as a switch of threads is."""
    hooks = DictionaryHooks()
    hooks.cls, hooks.asynchronous = LetsOthersInBetween, True
    assert run(BY_ID[number], hooks).status == "failed"


@pytest.mark.parametrize("cls", NO_MANAGERS, ids=lambda cls: cls.__name__)
def test_unimplemented_methods_are_failed(cls: type[Any]) -> None:
    """Whether they are inherited from the protocol, not written yet, or of the wrong shape."""
    hooks = DictionaryHooks(cls)
    hooks.capabilities = frozenset()  # type: ignore[misc]
    assert run(BY_ID["RM-001"], hooks).status == "failed"
