"""`remanence conflicts`: what it shows of conflict copies, and how it ends them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from remanence import RedisWorkingMemoryManager
from remanence.cli import main
from remanence.flow import Call, KeptCopy
from remanence.journal.disk import DiskJournal
from remanence.journal.entry import KeptValue
from remanence.journal.inspect import waiting
from remanence.lab import RedisServer
from remanence.record import encode
from remanence.results import copy_digest
from tests.journal.test_memory import entry

KEY = "memory:WORKING_MEMORY:c"
VALUE = {"conversation_id": "c", "working_memory": "theirs", "metadata": {"of": "theirs"}}
LOST = encode("lost\x1b[2J\nsecond line", {"of": "lost"}, "a", "2026-01-01T00:00:00+00:00")
OTHER = encode("other", None, "a", "2026-01-01T00:00:00")
DIGEST = copy_digest(LOST)


@pytest.fixture
def inner(redis_url: str) -> Iterator[RedisWorkingMemoryManager]:
    """A manager whose Redis holds a memory, two copies beside it and a lost deletion of another kind."""
    with RedisWorkingMemoryManager(redis_url) as manager:
        manager.store(VALUE)
        keys = ((KEY, LOST), (KEY, OTHER), ("memory:SHORT_TERM_MEMORY:c", None))
        manager.perform(Call("keep", items=[KeptCopy(key, raw, 900.0) for key, raw in keys]))
        yield manager


@pytest.fixture
def journal(inner: RedisWorkingMemoryManager, tmp_path: Path) -> Path:
    """A journal in which a copy waits for that Redis, and one for another."""
    for store in (inner.store_id, "elsewhere:1/0#memory"):
        disk = DiskJournal(tmp_path / "j", store=store, max_entries=9, max_bytes=10**6)
        disk.keep(KeptValue("memory:WORKING_MEMORY:waiting", encode(f"for {store}", None, "a", "b")))
        disk.close()
    return tmp_path / "j"


def texts(inner: Any, conversation: str = "c") -> tuple[str | None, Sequence[str | None]]:
    """Return what is stored of the working memory, and the texts of its copies."""
    found = inner.retrieve({"conversation_id": conversation})
    copies = inner.perform(Call("kept"))[0]
    mine = [c.text for c in copies if c.conversation_id == conversation and c.memory_type == "WORKING_MEMORY"]
    return (found[0].working_memory if found else None), sorted(map(str, mine))


def command(url: str, action: str, *words: str) -> int:
    """Run one action."""
    return main(["conflicts", action, *words, "--url", url])


def test_a_list_has_no_texts(inner: Any, redis_url: str, journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whose, which, since when, and where; what waits for another store is not this one's."""
    assert command(redis_url, "list", "--journal", str(journal)) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 4
    assert [row.split()[2:] for row in rows if DIGEST[:12] in row] == [
        ["WORKING_MEMORY", DIGEST[:12], "store", "text", "c"]
    ]
    assert any(row.split()[-3:] == ["store", "deletion", "c"] for row in rows)
    assert any(row.split()[-3:] == ["journal", "text", "waiting"] for row in rows)
    assert "lost" not in "".join(rows)
    assert texts(inner, "waiting") == (None, [])


def test_a_list_for_machines(inner: Any, redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON, with the whole digest; a stamp without a zone has no age."""
    assert command(redis_url, "list", "--json") == 0
    found = {each["digest"]: each for each in json.loads(capsys.readouterr().out)}
    assert set(found) == {DIGEST, copy_digest(OTHER), copy_digest(None)}
    assert (found[DIGEST]["age_s"] > 0, found[copy_digest(OTHER)]["age_s"]) == (True, None)
    assert [found[each]["deletion"] for each in (DIGEST, copy_digest(None))] == [False, True]
    inner.redis_client.flushall()
    assert command(redis_url, "list") == 0
    assert capsys.readouterr().out == "there are no conflict copies\n"


def test_texts_are_shown_side_by_side(redis_url: str, inner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What is stored first; a terminal takes none of it for commands."""
    assert command(redis_url, "show", "c", "--type", "WORKING_MEMORY") == 0
    shown = capsys.readouterr().out
    assert shown.index("theirs") < shown.index("lost\\x1b[2J\nsecond line")
    assert "other" in shown
    assert command(redis_url, "show", "c", "--digest", copy_digest(None)[:8], "--json") == 0
    stored, copy = json.loads(capsys.readouterr().out)
    assert (stored["where"], stored["text"], copy["text"], copy["deletion"]) == ("store", None, None, True)
    inner.redis_client.set(KEY, b"rubbish")
    assert command(redis_url, "show", "c", "--digest", DIGEST) == 0
    assert "(this is no memory)" in capsys.readouterr().out


def test_the_store_is_kept(redis_url: str, inner: Any) -> None:
    """The copy goes, the others stay."""
    assert command(redis_url, "resolve", "c", "--digest", DIGEST[:8], "--keep-store") == 0
    assert texts(inner) == ("theirs", ["other"])


def test_the_copy_is_used(redis_url: str, inner: Any) -> None:
    """With its metadata, for the time that is asked for."""
    assert command(redis_url, "resolve", "c", "--digest", DIGEST, "--use-copy", "--ttl", "0") == 0
    assert texts(inner) == ("lost\x1b[2J\nsecond line", ["other"])
    assert inner.retrieve(VALUE).metadata == {"of": "lost"}
    assert inner.redis_client.ttl(KEY) == -1


def test_a_merged_text_is_stored(redis_url: str, inner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file or the standard input, byte for byte, beside the metadata that is stored."""
    (tmp_path / "merged").write_bytes("both é\r\n".encode())
    assert command(redis_url, "resolve", "c", "--digest", DIGEST, "--text-file", str(tmp_path / "merged")) == 0
    assert texts(inner) == ("both é\r\n", ["other"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"all")))
    assert command(redis_url, "resolve", "c", "--digest", copy_digest(OTHER), "--text-file", "-") == 0
    assert texts(inner) == ("all", [])
    assert inner.retrieve(VALUE).metadata == {"of": "theirs"}


def test_somebody_who_writes_meanwhile_is_not_overwritten(
    redis_url: str, inner: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between reading and storing: nothing changes, the copy stays, and the exit status says so."""
    from remanence.cli import conflicts  # noqa: PLC0415 - one use

    read = conflicts._read

    def read_then_lose(*args: Any) -> Any:
        seen = read(*args)
        inner.store({**VALUE, "working_memory": "newer"})
        return seen

    monkeypatch.setattr(conflicts, "_read", read_then_lose)
    assert command(redis_url, "resolve", "c", "--digest", DIGEST, "--use-copy") == 1
    assert "was changed" in capsys.readouterr().err
    assert texts(inner)[0] == "newer"
    assert len(texts(inner)[1]) == 2


def test_a_lost_deletion_is_used_only_when_told_so(
    redis_url: str, inner: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes the memory and all its copies along, and those of no other kind."""
    inner.store({**VALUE, "memory_type": "SHORT_TERM_MEMORY"})
    words = ("c", "--digest", copy_digest(None), "--use-copy")
    assert command(redis_url, "resolve", *words) == 2
    assert "deletes the memory and all its conflict copies" in capsys.readouterr().err
    assert inner.redis_client.exists("memory:SHORT_TERM_MEMORY:c")
    assert command(redis_url, "resolve", *words, "--yes") == 0
    assert "deleting the memory and all" in capsys.readouterr().out
    assert not inner.redis_client.exists("memory:SHORT_TERM_MEMORY:c")
    assert len(inner.perform(Call("kept"))[0]) == 2
    assert texts(inner)[0] == "theirs"


def test_what_waits_in_the_journal_is_resolved(redis_url: str, inner: Any, journal: Path) -> None:
    """It is brought home first; what waits for another store still does."""
    digest = copy_digest(encode(f"for {inner.store_id}", None, "a", "b"))
    words = ("waiting", "--digest", digest, "--use-copy", "--journal", str(journal))
    assert command(redis_url, "resolve", *words) == 0
    assert texts(inner, "waiting") == (f"for {inner.store_id}", [])
    assert main(["journal", "show", str(journal)]) == 0


def test_what_waits_for_the_memory_is_brought_home_first(redis_url: str, inner: Any, tmp_path: Path) -> None:
    """Else the text that is chosen would itself have to wait behind it."""
    disk = DiskJournal(tmp_path / "j", store=inner.store_id, max_entries=9, max_bytes=10**6)
    base = inner.retrieve(VALUE).version
    made = entry(KEY, disk.number(), encode("pending", None, "a", "b"), base=base)
    disk.record(KEY, lambda _: made)
    disk.close()
    words = ("c", "--digest", DIGEST, "--use-copy", "--journal", str(tmp_path / "j"))
    assert command(redis_url, "resolve", *words) == 0
    assert texts(inner) == ("lost\x1b[2J\nsecond line", ["other"])
    assert list(waiting(tmp_path / "j")) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--digest", "1234567", "--keep-store"), "8 characters"),
        (("--digest", "f" * 40, "--keep-store"), "no such conflict copy"),
        (("--digest", DIGEST, "--keep-store", "--type", "LONG_TERM_MEMORY"), "no such conflict copy"),
        (("--digest", DIGEST, "--text-file", "/nonexistent/file"), "cannot be read"),
        (("--digest", DIGEST, "--use-copy", "--ttl", "-1"), "ttl"),
        (("--digest", DIGEST, "--keep-store", "--journal", "/nonexistent/j"), "no journal"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    redis_url: str, inner: Any, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    """The message names what is wrong."""
    before = texts(inner)
    assert command(redis_url, "resolve", "c", *words) == 2
    assert says in capsys.readouterr().err
    assert texts(inner) == before


def test_one_digest_of_two_kinds_needs_the_kind(redis_url: str, inner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The same bytes may have lost in both."""
    inner.perform(Call("keep", items=[KeptCopy("memory:LONG_TERM_MEMORY:c", LOST, 900.0)]))
    assert command(redis_url, "resolve", "c", "--digest", DIGEST, "--keep-store") == 2
    assert "2 copies" in capsys.readouterr().err
    assert command(redis_url, "resolve", "c", "--digest", DIGEST, "--keep-store", "--type", "LONG_TERM_MEMORY") == 0
    assert texts(inner)[1] == ["lost\x1b[2J\nsecond line", "other"]


def test_a_store_that_is_away_or_refuses_is_told_without_its_password(
    private_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both leave everything as it is."""
    url = private_server.url.replace("redis://", "redis://:secret@")
    private_server.command("CONFIG", "SET", "requirepass", "another")
    assert command(url, "list") == 2
    assert "refused" in (refused := capsys.readouterr().err)
    private_server.kill()
    assert command(url, "list") == 2
    assert "did not answer" in (away := capsys.readouterr().err)
    assert "secret" not in refused + away
    assert command("http://:secret@host", "list") == 2
    assert "secret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("operation", "says"), [("drop", ("The text was stored", "still there")), ("store", ("may have been done or not",))]
)
def test_redis_goes_away_in_the_middle(
    private_server: RedisServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    says: tuple[str, ...],
) -> None:
    """Exit status 1, and a message that says what is known of the text and of the copy."""
    with RedisWorkingMemoryManager(private_server.url) as inner:
        inner.perform(Call("keep", items=[KeptCopy(KEY, LOST, 900.0)]))
        perform = RedisWorkingMemoryManager.perform

        def die_before_it(manager: Any, call: Call) -> Any:
            if call.operation == operation:
                private_server.kill()
            return perform(manager, call)

        monkeypatch.setattr(RedisWorkingMemoryManager, "perform", die_before_it)
        assert command(private_server.url, "resolve", "c", "--digest", DIGEST, "--use-copy") == 1
    said = capsys.readouterr().err
    assert [each for each in says if each not in said] == []
    assert "Nothing was changed" not in said


def test_an_interruption_has_its_own_status(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C."""

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("remanence.cli.conflicts._all", interrupt)
    assert command(redis_url, "list") == 130
    assert "interrupted" in capsys.readouterr().err
