"""The example in examples/sqlite_manager: its tests pass as an outsider runs them, and what its page says is so."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import connect
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from remanence.testing.conformance import REQUIREMENTS, Hooks, run

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "sqlite_manager"
IN_MEMORY = "/dev/shm"  # noqa: S108 - a folder is made in it, with a name that nobody knows
SOURCE = (EXAMPLE / "sqlite_manager.py").read_text("utf-8")
ROW = re.compile(r"^\| `(.+?)` \| (?:`(.*?)`|nothing).*? \| (RM-\d+)", re.MULTILINE)
CHANGES = [match.groups() for match in ROW.finditer((EXAMPLE / "README.md").read_text("utf-8"))]


class SqliteHooks(Hooks):
    """Makes the example's manager of a source."""

    capabilities = frozenset({"concurrency", "faults", "metadata", "ttl"})

    def __init__(self, source: str, path: Path) -> None:
        self.made: dict[str, Any] = {"__name__": "example"}
        exec(compile(source, "sqlite_manager.py", "exec"), self.made)  # noqa: S102 - our own example
        self.path = str(path / "memories.db")
        self.skipped = 0.0

    def make_manager(self, ttl: float = 60) -> Any:
        """Make one."""
        return self.made["SqliteMemoryManager"](self.path, ttl=ttl, wait=0.1, clock=lambda: time.time() + self.skipped)

    make_manager_with_ttl = make_manager  # type: ignore[assignment]

    def advance(self, seconds: float) -> None:
        """Move its clock."""
        self.skipped += seconds

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Lock the file."""
        with closing(connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield


def test_its_tests_pass_in_a_folder_of_their_own(tmp_path: Path) -> None:
    """As a new project would run them, with warnings as errors; only what is not declared is skipped."""
    for file in EXAMPLE.glob("*.py"):
        shutil.copy(file, tmp_path)
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-q", "-rs"]
    # In memory where there is such a folder: SQLite waits for the disk at each of two thousand commits.
    with TemporaryDirectory(dir=IN_MEMORY if Path(IN_MEMORY).is_dir() else None) as folder:
        command += ["--basetemp", f"{folder}/tests"]
        run_ = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    declared = {"concurrency", "faults", "metadata", "ttl"}
    expected = sum(declared.issuperset(requirement.capabilities) for requirement in REQUIREMENTS)
    assert f"{expected} passed, {len(REQUIREMENTS) - expected} skipped" in run_.stdout, run_.stdout
    assert run_.returncode == 0
    assert "RM-301: not declared: batches" in run_.stdout


@pytest.mark.parametrize(("old", "new", "number"), CHANGES, ids=[change[2] for change in CHANGES])
def test_each_change_of_its_page_fails_the_requirement_named(
    old: str, new: str | None, number: str, tmp_path: Path
) -> None:
    """And without the change the requirement is met."""
    assert SOURCE.count(old) == 1
    requirement = next(each for each in REQUIREMENTS if each.id == number)
    assert run(requirement, SqliteHooks(SOURCE, tmp_path)).status == "passed"
    assert run(requirement, SqliteHooks(SOURCE.replace(old, new or ""), tmp_path)).status == "failed"


def test_the_page_names_changes() -> None:
    """The table is read, and is not empty."""
    assert len(CHANGES) == 6
    assert len(SOURCE.splitlines()) <= 110
