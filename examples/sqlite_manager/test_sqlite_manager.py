"""What a memory manager must do, tried on the one of this example."""

# ruff: noqa: INP001 - an example is no package

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlite_manager import SqliteMemoryManager

from remanence.testing import MemoryManagerConformance


class TestSqliteMemoryManager(MemoryManagerConformance):
    """Every requirement is a test of its own."""

    capabilities = frozenset({"concurrency", "faults", "metadata", "ttl"})

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = str(tmp_path / "memories.db")
        self.skipped = 0.0

    def make_manager(self, ttl: float = 60) -> SqliteMemoryManager:
        """Return a new manager; all those of a test use one file."""
        return SqliteMemoryManager(self.path, ttl=ttl, wait=0.1, clock=lambda: time.time() + self.skipped)

    def make_manager_with_ttl(self, seconds: int) -> SqliteMemoryManager:
        """For the capability `ttl`."""
        return self.make_manager(seconds)

    def advance(self, seconds: float) -> None:
        """Move the manager's clock: without this the tests would sleep."""
        self.skipped += seconds

    @contextmanager
    def outage(self) -> Iterator[None]:
        """For the capability `faults`: lock the file, as another process would that is stuck."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield

    silence = outage
