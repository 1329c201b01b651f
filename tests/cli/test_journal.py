"""`remanence journal`: what it shows of a file, and what it brings home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from remanence import RedisWorkingMemoryManager, resilient
from remanence.cli import main
from remanence.journal.disk import DiskJournal
from remanence.journal.entry import KeptValue
from remanence.lab import RedisServer
from remanence.record import encode
from tests.journal.test_memory import entry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with two entries of one store, one stuck, and a copy and a deletion of another."""
    file = tmp_path / "pending.journal"
    for store in ("one:6379/0#memory", "two:6379/0#memory"):
        journal = DiskJournal(file, store=store, max_entries=10, max_bytes=10**6)
        if store.startswith("one"):
            raw = encode("a private text", {"n": 1}, "now", "now")
            for key, stuck in (("memory:WORKING_MEMORY:a", ""), ("memory:WORKING_MEMORY:b", "DataError")):
                made = entry(key, journal.number(), raw, stuck=stuck, journaled_at=1.0)
                journal.record(key, lambda _, made=made: made)  # type: ignore[misc]
        else:
            gone = entry("memory:WORKING_MEMORY:c", journal.number(), None, operation="delete")
            journal.record(gone.key, lambda _, gone=gone: gone)  # type: ignore[misc]
            journal.keep(KeptValue("memory:WORKING_MEMORY:d", encode("lost", None, "now", "now")))
        journal.close()
    return file


def test_it_lists_what_waits_without_the_texts(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By store, with what is stuck and why."""
    assert main(["journal", "show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "one:6379/0#memory: 2 waiting, 1 stuck" in shown
    assert "two:6379/0#memory: 2 waiting, 0 stuck" in shown
    assert "memory:WORKING_MEMORY:b  DataError" in shown
    assert "private" not in shown


def test_it_tells_machines_the_same(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON."""
    assert main(["journal", "show", "--json", str(path)]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert [(each["operation"], each["stuck"]) for each in found] == [
        ("store", None),
        ("store", "DataError"),
        ("delete", None),
        ("copy", None),
    ]


def test_an_export_has_everything(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts and metadata too: it is for rescuing them."""
    assert main(["journal", "export", str(path)]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["text"] for each in found] == ["a private text", "a private text", None, "lost"]
    assert found[0]["metadata"] == {"n": 1}


def test_an_empty_journal_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rather than nothing at all."""
    DiskJournal(tmp_path / "j", store="s", max_entries=1, max_bytes=1).close()
    assert main(["journal", "show", str(tmp_path / "j")]) == 0
    assert capsys.readouterr().out == "nothing is waiting\n"


@pytest.mark.parametrize("action", ["show", "export", "replay"])
def test_a_file_that_is_none_is_refused_and_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    """A typing error must not look like an empty journal."""
    options = ["--url", "redis://127.0.0.1:1/0"] if action == "replay" else []
    assert main(["journal", action, str(tmp_path / "missing"), *options]) == 2
    assert "there is no journal 'missing'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "foreign").write_text("something else" * 100)
    (tmp_path / "foreign").chmod(0o600)
    assert main(["journal", action, str(tmp_path / "foreign"), *options]) == 2
    assert "no journal" in capsys.readouterr().err


def test_a_replay_brings_home_what_is_for_that_store(
    private_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the application is gone; what cannot be brought home still waits, and the exit status says so."""
    file = tmp_path / "pending.journal"
    value = {"conversation_id": "c", "working_memory": "text"}
    with (
        RedisWorkingMemoryManager(private_server.url) as inner,
        resilient(inner, journal=file, deadline=0.5) as manager,
    ):
        private_server.kill()
        manager.store(value)
        manager.close(0.0)
    replay = ["journal", "replay", str(file), "--url", private_server.url, "--timeout"]
    assert main([*replay, "0.1"]) == 1
    assert "1 still waiting" in capsys.readouterr().out
    private_server.start()
    assert main([*replay, "10"]) == 0
    assert "1 brought home" in capsys.readouterr().out
    with RedisWorkingMemoryManager(private_server.url) as inner:
        assert inner.retrieve(value)[0].working_memory == "text"
