"""`remanence delete`: everything of one conversation goes, nothing of others, and it says what is left."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions

from remanence import RedisWorkingMemoryManager, resilient
from remanence.cli import main
from remanence.flow import Call, KeptCopy
from remanence.journal.disk import DiskJournal
from remanence.journal.entry import KeptValue
from remanence.journal.inspect import waiting
from remanence.lab import RedisServer
from remanence.record import encode
from tests.journal.test_memory import entry

LOST = encode("lost", None, "a", "b")
KINDS = ("SHORT_TERM_MEMORY", "LONG_TERM_MEMORY", "WORKING_MEMORY")
NEIGHBOURS = ("c:d", "c*", "C")


@pytest.fixture
def inner(redis_url: str) -> Iterator[RedisWorkingMemoryManager]:
    """A manager whose Redis holds conversation c, of every kind with a copy, and its neighbours."""
    with RedisWorkingMemoryManager(redis_url) as manager:
        for name in ("c", *NEIGHBOURS):
            for kind in KINDS:
                manager.store({"conversation_id": name, "memory_type": kind, "working_memory": "text"})
                manager.perform(Call("keep", items=[KeptCopy(f"memory:{kind}:{name}", LOST, 900.0)]))
        yield manager


def left(inner: Any) -> set[bytes]:
    """Return the keys that do not belong to the neighbours."""
    ends = tuple(f":{name}".encode() for name in NEIGHBOURS)
    return {
        key
        for key in inner.redis_client.scan_iter()
        if not key.endswith(ends) and not any(end + b":" in key for end in ends)
    }


def journal_of(path: Path, *stores: str) -> Path:
    """Make a journal with a write and a value to be kept of c, and a write of a neighbour, for each store."""
    for store in stores:
        disk = DiskJournal(path, store=store, max_entries=9, max_bytes=10**6)
        prefix = store.rpartition("#")[2]
        for name in ("c", "c:d"):
            key = f"{prefix}:WORKING_MEMORY:{name}"
            made = entry(key, disk.number(), encode("pending", None, "a", "b"))
            disk.record(key, lambda _, made=made: made)  # type: ignore[misc]
        disk.keep(KeptValue(f"{prefix}:WORKING_MEMORY:c", LOST))
        disk.close()
    return path


def command(url: str, *words: str) -> int:
    """Run it."""
    return main(["delete", "c", "--url", url, *words])


def test_values_and_copies_go(inner: Any, redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of every kind; the neighbours' stay."""
    neighbours = len(inner.redis_client.keys()) - len(left(inner))
    assert command(redis_url, "--yes") == 0
    assert "3 stored, 3 conflict copies" in capsys.readouterr().out
    assert left(inner) == set()
    assert len(inner.redis_client.keys()) == neighbours == 27


def test_everywhere_is_the_journal_too(
    inner: Any, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What waits of the conversation goes, and nothing of it comes home; the neighbour's write does."""
    path = journal_of(tmp_path / "j", inner.store_id)
    assert command(redis_url, "--everywhere", "--journal", str(path), "--yes", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["removed"] == {"values": 3, "copies": 3, "pending": 2}
    assert told["left"] == {"values": 0, "copies": 0, "pending": 0}
    assert left(inner) == set()
    assert [each for each in waiting(path) if each.key.endswith(":c")] == []
    assert main(["journal", "replay", str(path), "--url", redis_url]) == 0
    assert left(inner) == set()
    assert list(waiting(path)) == []


def test_a_stuck_write_goes(inner: Any, redis_url: str, tmp_path: Path) -> None:
    """It would never have come home."""
    disk = DiskJournal(tmp_path / "j", store=inner.store_id, max_entries=9, max_bytes=10**6)
    made = entry("memory:WORKING_MEMORY:c", disk.number(), LOST, stuck="DataError")
    disk.record(made.key, lambda _: made)
    disk.close()
    assert command(redis_url, "--everywhere", "--journal", str(tmp_path / "j"), "--yes") == 0
    assert list(waiting(tmp_path / "j")) == []
    assert left(inner) == set()


def test_a_copy_that_no_index_names_is_found_everywhere(inner: Any, redis_url: str) -> None:
    """Without --everywhere it is not looked for."""
    copy = b"remanence-conflict:WORKING_MEMORY:c:\xff"
    inner.redis_client.set(copy, LOST)
    assert command(redis_url, "--yes") == 0
    assert left(inner) == {copy}
    assert command(redis_url, "--everywhere", "--yes") == 0
    assert left(inner) == set()


def test_other_stores_writes_in_the_journal_are_told(
    inner: Any, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are left, so not everything is gone: exit status 1."""
    path = journal_of(tmp_path / "j", "elsewhere:1/0#other")
    assert command(redis_url, "--everywhere", "--journal", str(path), "--yes") == 1
    assert "elsewhere:1/0#other" in capsys.readouterr().out
    assert (left(inner), len(list(waiting(path)))) == (set(), 3)


def test_it_is_confirmed(
    inner: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By --yes, or by a yes at a terminal; by nothing else."""
    before = left(inner)
    assert command(redis_url) == 2
    assert "--yes" in capsys.readouterr().err
    for answer, status in (("", 2), ("n\n", 2), ("yes\n", 0)):
        assert left(inner) == before
        terminal = io.StringIO(answer)
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", terminal)
        assert command(redis_url) == status
        assert "3 stored, 3 conflict copies" in capsys.readouterr().err
    assert left(inner) == set()


def test_nothing_to_delete_needs_no_question(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And is done."""
    assert command(redis_url, "--everywhere") == 0
    assert "nothing of it is left" in capsys.readouterr().out


def test_with_redis_away_nothing_is_deleted(private_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so."""
    private_server.kill()
    assert command(private_server.url, "--everywhere", "--yes") == 1
    assert "Nothing was deleted" in capsys.readouterr().err


def test_with_redis_away_the_journal_keeps_the_deletion(
    private_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What waited is replaced; repeated when Redis is back, nothing is left."""
    words = ("--everywhere", "--journal", str(tmp_path / "j"))
    url = private_server.url.replace("redis://", "redis://default:hidden@")
    with RedisWorkingMemoryManager(private_server.url) as inner:
        inner.store({"conversation_id": "c", "working_memory": "text"})
        private_server.kill()
        with resilient(inner, journal=tmp_path / "j", deadline=0.2) as manager:
            manager.store({"conversation_id": "c", "working_memory": "later"})
            manager.close(0.0)
        assert command(private_server.url, *words) == 2
        assert [each.record is None for each in waiting(tmp_path / "j")] == [False]
        assert command(url, *words, "--yes") == 1
        said = capsys.readouterr().err
        assert "kept in the journal" in said
        assert "hidden" not in said
        assert {each.operation for each in waiting(tmp_path / "j")} == {"delete"}
        private_server.start()
        assert command(private_server.url, *words, "--yes") == 0
        assert (inner.redis_client.keys(), list(waiting(tmp_path / "j"))) == ([], [])


def test_redis_goes_away_in_the_middle(
    inner: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some may be left: exit status 1."""
    perform = RedisWorkingMemoryManager.perform
    calls: list[Call] = []

    def fail_the_second(manager: Any, call: Call) -> Any:
        calls.append(call)
        if len(calls) > 1:
            raise exceptions.ConnectionError
        return perform(manager, call)

    monkeypatch.setattr(RedisWorkingMemoryManager, "perform", fail_the_second)
    assert command(redis_url, "--yes") == 1
    assert "some be left" in capsys.readouterr().err
    assert len(left(inner)) == 6


@pytest.mark.parametrize("make", [lambda path: path / "missing", lambda path: path])
def test_a_journal_that_is_none_stops_it(
    inner: Any, redis_url: str, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    """Before anything is deleted; and a journal is used with --everywhere alone."""
    before = left(inner)
    assert command(redis_url, "--everywhere", "--journal", str(make(tmp_path)), "--yes") == 2
    assert command(redis_url, "--journal", str(journal_of(tmp_path / "j", "s#memory")), "--yes") == 2
    assert left(inner) == before


def test_what_comes_in_between_is_deleted_too(inner: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that came home while it was deleted."""
    perform = RedisWorkingMemoryManager.perform
    calls: list[Call] = []

    def keep_after_the_deletion(manager: Any, call: Call) -> Any:
        answer = perform(manager, call)
        calls.append(call)
        if call.operation == "delete" and len(calls) == 3:
            for kind in KINDS:
                manager.store({"conversation_id": "c", "memory_type": kind, "working_memory": "again"})
        return answer

    monkeypatch.setattr(RedisWorkingMemoryManager, "perform", keep_after_the_deletion)
    assert command(redis_url, "--yes") == 0
    assert left(inner) == set()
