"""With any guard of the protocol removed, the simulation or a named test fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.simulation.directed import DIRECTED, search
from tests.lab.simulation.guards import (
    BEGIN,
    DOCUMENT,
    END,
    GUARDS,
    Guard,
    copy_source,
    remove,
    run_tests,
    searched,
    table,
)

SEARCHED = [guard for guard in GUARDS if guard.is_searched]
TESTED = [guard for guard in GUARDS if not guard.is_searched]


@pytest.mark.exhaustive
@pytest.mark.parametrize("guard", SEARCHED, ids=lambda guard: guard.name)
def test_the_simulation_finds_what_breaks_without_it(guard: Guard, tmp_path: Path) -> None:
    """A few thousand schedules of a small scenario break the promise that the guard is there for."""
    package = copy_source(tmp_path)
    remove(guard, package)
    found = searched(guard.caught_by, package)
    assert found.startswith(f"{guard.breaks}: "), found or "nothing is broken"


@pytest.mark.parametrize("name", DIRECTED)
def test_with_every_guard_nothing_breaks(name: str) -> None:
    """The first few hundred schedules of each directed case: it is the missing guard that the others notice."""
    assert not search(replace(DIRECTED[name], limit=200))


@pytest.mark.parametrize("guard", TESTED, ids=lambda guard: guard.name)
def test_a_named_test_fails_without_it(guard: Guard, tmp_path: Path) -> None:
    """Where the simulation cannot see it: what breaks is not one of the promises, or happens to real processes only."""
    package = copy_source(tmp_path)
    remove(guard, package)
    output = run_tests([guard.caught_by], package)
    assert output.returncode == pytest.ExitCode.TESTS_FAILED, output.stdout + output.stderr
    assert f"FAILED {guard.caught_by}" in output.stdout


def test_the_named_tests_pass_with_every_guard(tmp_path: Path) -> None:
    """They fail for want of the guard, not because a copy of the source is tested."""
    output = run_tests(sorted({guard.caught_by for guard in TESTED}), copy_source(tmp_path))
    assert output.returncode == pytest.ExitCode.OK, output.stdout + output.stderr


def test_the_documentation_has_the_table() -> None:
    """Whoever adds a guard runs `python -m tests.lab.simulation.guards`."""
    written = DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert written.strip() == table()
