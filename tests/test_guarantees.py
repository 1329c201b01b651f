"""What docs/guarantees.md says, row by row: what outlives whom."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remanence import RedisWorkingMemoryManager, resilient
from remanence.lab import RedisServer
from remanence.lab.server_settings import Durability
from tests.support import wait_until

ROOT = Path(__file__).parent.parent
VALUE = {"conversation_id": "c", "working_memory": "acknowledged"}

WORKER = """
import os, sys
from remanence import RedisWorkingMemoryManager, resilient
options = {} if sys.argv[2] == "memory" else {"journal": sys.argv[2]}
manager = resilient(RedisWorkingMemoryManager(sys.argv[1], timeout=0.3), deadline=0.5, **options)
receipt = manager.store({"conversation_id": "c", "working_memory": "acknowledged"})
print(receipt.outcome, flush=True)
sys.stdin.read()
"""


def acknowledge_and_die(server: RedisServer, journal: Path | str) -> str:
    """Have a process store something, and kill it; return how that was acknowledged."""
    command = [sys.executable, "-c", WORKER, server.url, str(journal)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        outcome = process.stdout.readline().strip()
        process.kill()
    return outcome


def held(server: RedisServer, journal: Path | str) -> list[str]:
    """Return what the next process reads, once nothing waits any more."""
    options: dict[str, Any] = {} if journal == "memory" else {"journal": journal}
    with RedisWorkingMemoryManager(server.url) as inner, resilient(inner, **options) as manager:
        # One that was killed while it drained keeps the others waiting until its lease of ten seconds is over.
        wait_until(lambda: not manager.has_pending_writes, "nothing waits", timeout=25)
        return [item.working_memory for item in manager.retrieve(VALUE)]


@pytest.mark.parametrize("durability", ["off", "everysec", "always"])
@pytest.mark.parametrize("journal", ["memory", "disk"])
def test_what_the_journal_has_taken_outlives_its_process_on_disk(
    durability: Durability, journal: str, tmp_path: Path
) -> None:
    """And not in memory, whatever the server keeps."""
    where = "memory" if journal == "memory" else tmp_path / "journal"
    with RedisServer(durability=durability) as server:
        server.kill()
        assert acknowledge_and_die(server, where) == "journaled"
        server.start()
        assert held(server, where) == (["acknowledged"] if journal == "disk" else [])


@pytest.mark.parametrize("durability", ["off", "always"])
def test_what_redis_has_acknowledged_is_as_safe_as_redis(durability: Durability, tmp_path: Path) -> None:
    """A journal keeps nothing that Redis has taken."""
    with RedisServer(durability=durability) as server:
        assert acknowledge_and_die(server, tmp_path / "journal") == "committed"
        server.kill()
        server.start()
        assert held(server, tmp_path / "journal") == (["acknowledged"] if durability == "always" else [])


def test_every_row_of_the_page_names_a_test_that_exists() -> None:
    """And each test of this module is named there."""
    page = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
    named = re.findall(r"\]\(\.\./(tests/[\w/]+\.py)\) `(test_\w+)`", page)
    assert len(named) > 10
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text("utf-8"), f"{path} has no {name}"
    ours = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text("utf-8"), re.MULTILINE))
    assert ours - {name for _, name in named} == {"test_every_row_of_the_page_names_a_test_that_exists"}
