"""The journal on disk: the same as the one in memory, and what is asked of its file."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from remanence.errors import JournalFullError, JournalUnavailableError, ManagerClosedError
from remanence.journal import file as file_module
from remanence.journal import opening as opening_module
from remanence.journal.disk import DiskJournal
from remanence.journal.entry import Entry, KeptValue
from remanence.journal.transitions import JournalCounts, Settlement
from tests.journal.test_memory import JournalMachine, entry
from tests.support import threads


class DiskMachine(JournalMachine):
    """Any use of it agrees with the same model as of the journal in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.journal: Any = DiskJournal(Path(self.folder.name, "j"), store="s", max_entries=3, max_bytes=40)
        self.journal.writer = ""

    def teardown(self) -> None:
        """Close the file."""
        self.journal.close()
        self.folder.cleanup()


DiskMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestDiskAgainstItsModel = DiskMachine.TestCase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "pending.journal"


@pytest.fixture
def held(path: Path) -> Iterator[DiskJournal]:
    """An empty journal."""
    journal = opened(path)
    yield journal
    journal.close()


def opened(path: Path, *, store: str = "here", max_entries: int = 10_000, max_bytes: int = 10**7) -> DiskJournal:
    """Open the journal, as another process does."""
    return DiskJournal(path, store=store, max_entries=max_entries, max_bytes=max_bytes)


def add(journal: DiskJournal, key: str, **changes: Any) -> Entry:
    """Record a write; return its entry."""
    made = entry(key, journal.number(), **{"writer": journal.writer} | changes)
    journal.record(key, lambda _: made)
    return made


# What others see ------------------------------------------------------------------------------------------------------


def test_everything_is_read_back_as_it_was(held: DiskJournal, path: Path) -> None:
    """Each field, nothing and everything in it."""
    full = add(
        held,
        "full",
        raw=b'\x00"\xff',
        expires_at=12.5,
        base=None,
        base_until=float("inf"),
        server=("run", 3),
        sent=("", "a" * 40),
        not_before=0.25,
        conditional=True,
        stuck="DataError",
        committed=True,
    )
    bare = add(held, "bare", raw=None, base="", base_until=None, server=None)
    other = opened(path)
    assert other.entries() == [full, bare]
    other.close()


def test_processes_see_each_others_writes_at_once(held: DiskJournal, path: Path) -> None:
    """What one has journaled another answers with; what one has brought home no other has pending."""
    other = opened(path)
    assert other.is_idle
    add(held, "k")
    assert not other.is_idle
    assert other.get("k") == held.get("k")
    epoch = other.lease(0.0, 30.0)
    assert epoch is not None
    assert held.lease(1.0, 30.0) is None
    marked = other.mark_sent(epoch, other.due(0.0, 10))
    assert other.settle(epoch, [Settlement(one) for one in marked]) == 1
    assert held.is_idle
    assert held.counts() == JournalCounts(0, 0, 0, None, 0)
    other.close()


def test_stores_leave_each_others_entries_alone(held: DiskJournal, path: Path) -> None:
    """One file serves managers of several stores."""
    other = opened(path, store="elsewhere")
    add(held, "k")
    add(other, "k", raw=b"theirs")
    assert [one.raw for one in (*held.entries(), *other.entries())] == [b"12345", b"theirs"]
    assert (held.counts().size, other.counts().size) == (5, 6)
    other.close()


def test_calls_of_all_processes_are_in_one_order(held: DiskJournal, path: Path) -> None:
    """The later call has the higher number, whichever process it is made in."""
    other = opened(path)
    numbers = [journal.number() for _ in range(100) for journal in (held, other)]
    assert numbers == sorted(set(numbers))
    other.close()


def test_after_a_restart_of_the_machine_numbers_go_on(held: DiskJournal, path: Path) -> None:
    """Its monotonic clock begins anew: what is written then must not count as earlier than what waits."""
    late = held.number() + 10**18
    held.record("k", lambda _: entry("k", late))
    other = opened(path)
    assert other.number() > late
    other.close()


def test_after_a_restart_of_the_machine_all_processes_number_alike(held: DiskJournal, path: Path) -> None:
    """Whichever comes first: the offset is in the file."""
    with held._file.transaction() as cursor:
        cursor.execute("UPDATE stores SET last_sequence=?", (time.monotonic_ns() + 10**12,))
    first, second = opened(path), opened(path)
    numbers = [journal.number() for journal in (first, second, first, second)]
    assert numbers == sorted(numbers)
    assert numbers[0] > time.monotonic_ns() + 10**11
    first.close()
    second.close()


def test_what_waited_for_an_attempt_before_a_restart_of_the_machine_is_due(held: DiskJournal) -> None:
    """Nothing of before it is under way."""
    add(held, "k", not_before=time.monotonic() + 10**6)
    assert [one.key for one in held.due(time.monotonic(), 10)] == ["k"]


def test_a_value_of_another_process_that_was_not_seen_is_kept(held: DiskJournal, path: Path) -> None:
    """A write over it would displace it unseen."""
    other = opened(path)
    add(held, "k", raw=b"mine")
    later = entry("k", other.number(), b"theirs", writer=other.writer)
    assert other.record("k", lambda _: later, lambda _: False) is not None
    assert other.kept() == [KeptValue("k", b"mine")]
    earlier = entry("k", 1, b"early", writer=held.writer)
    held.record("k", lambda _: earlier, lambda _: True)
    assert held.kept() == [KeptValue("k", b"mine"), KeptValue("k", b"early")]
    other.close()


def test_a_commit_leaves_another_processs_write_alone(held: DiskJournal, path: Path) -> None:
    """That one meets the committed value under the rules of the replay."""
    other = opened(path)
    waiting = add(held, "k", raw=b"mine")
    other.supersede("k", lambda: entry("k", other.number(), b"committed", writer=other.writer), 0.0)
    assert held.get("k") == waiting
    other.close()


def test_threads_lose_nothing(held: DiskJournal) -> None:
    """Entries of many threads are all there, sizes exact."""

    def body(number: int) -> None:
        for item in range(50):
            add(held, f"{number}-{item}")

    with threads(4, body):
        pass
    assert held.counts() == JournalCounts(200, 0, 1_000, held.entries()[0].journaled_at, 0)
    assert len(held) == 200


def test_a_full_or_sealed_journal_says_so(path: Path) -> None:
    """And what it holds stays."""
    journal = opened(path, max_entries=1)
    kept = add(journal, "a")
    with pytest.raises(JournalFullError, match="1 entries"):
        add(journal, "b")
    journal.seal()
    with pytest.raises(ManagerClosedError):
        add(journal, "a")
    assert journal.entries() == [kept]
    journal.close()


def test_a_forked_child_shares_the_file_over_a_connection_of_its_own(held: DiskJournal) -> None:
    """SQLite's connections must not be carried over a fork."""
    add(held, "parent")
    child = os.fork()
    if not child:
        held.clear()
        add(held, "child")
        os._exit(0 if held.get("parent") is not None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [one.key for one in held.entries()] == ["parent", "child"]


def test_a_second_manager_of_a_process_leaves_the_first_ones_locks_alone(held: DiskJournal, path: Path) -> None:
    """Else the next process that closes the file would take itself for the last, and remove what is written there."""
    add(held, "first")
    opened(path, store="there").close()
    code = "import sys; from tests.journal.test_disk import opened, Path; opened(Path(sys.argv[1])).close()"
    before = Path(f"{path}-wal").stat().st_ino
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=30)
    assert Path(f"{path}-wal").stat().st_ino == before
    add(held, "second")
    again = opened(path)
    assert [e.key for e in again.entries()] == ["first", "second"]
    again.close()


def test_a_forked_child_holds_locks_of_its_own(held: DiskJournal, path: Path) -> None:
    """When its parent has gone, another process that comes and goes leaves the child's file in place."""
    code = "import sys; from tests.journal.test_disk import opened, Path; opened(Path(sys.argv[1])).close()"
    go, told = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            held.clear()
            os.write(told[1], b"x")
            os.read(go[0], 1)
            add(held, "child")
            status = 0
        finally:
            os._exit(status)
    add(held, "parent")
    os.read(told[0], 1)
    held.close()
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=30)
    os.write(go[1], b"x")
    assert os.waitpid(child, 0)[1] == 0
    again = opened(path)
    assert [e.key for e in again.entries()] == ["parent", "child"]
    again.close()
    for end in (*go, *told):
        os.close(end)


def test_a_fork_in_the_middle_of_a_write_leaves_both_able_to_write(held: DiskJournal) -> None:
    """Whatever other threads are doing."""
    done = threading.Event()

    def patiently(key: str) -> None:
        for _ in range(200):  # the others may be faster now and then
            try:
                add(held, key)
            except JournalUnavailableError:
                continue
            return
        raise AssertionError(f"{key} cannot write any more")

    def write() -> None:
        while not done.is_set():
            patiently("busy")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            child = os.fork()
            if not child:
                status = 1
                try:
                    held.clear()
                    patiently("child")
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        writer.join()
    patiently("parent")
    assert {e.key for e in held.entries()} == {"busy", "child", "parent"}


def test_what_a_killed_process_was_told_is_kept_is_there(path: Path) -> None:
    """Killed at any moment: every write that it has reported is in the file, whole, and at most one more."""
    code = (
        "import sys; from tests.journal.test_disk import add, opened; from pathlib import Path\n"
        "journal = opened(Path(sys.argv[1]))\n"
        "for number in range(10**6):\n"
        "  add(journal, str(number), raw=b'x' * 500); print(number, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        for _ in range(200):
            process.stdout.readline()
        process.kill()
        told = 200 + len(process.stdout.read().split())
    journal = opened(path)
    assert told <= len(journal) <= told + 1
    assert [(one.key, len(one.raw or b"")) for one in journal.entries()][:told] == [(str(n), 500) for n in range(told)]
    journal.close()


# The file -------------------------------------------------------------------------------------------------------------


def test_nobody_else_can_read_it(held: DiskJournal, path: Path) -> None:
    """Nor the two files that SQLite puts beside it."""
    add(held, "k")
    files = sorted(path.parent.iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_text_that_was_brought_home_is_not_left_in_the_file(held: DiskJournal, path: Path) -> None:
    """What is deleted is overwritten."""
    add(held, "k", raw=b"a very private text" * 100)
    epoch = held.lease(0.0, 30.0)
    assert epoch is not None
    log = Path(f"{path}-wal")
    assert b"very private" in log.read_bytes()
    held.settle(epoch, [Settlement(one) for one in held.mark_sent(epoch, held.due(0.0, 10))])
    held.release(epoch)
    assert b"very private" not in log.read_bytes()
    held.close()
    assert b"very private" not in path.read_bytes()
    held.clear()


def test_a_new_file_that_another_process_is_about_to_write_is_waited_for(path: Path) -> None:
    """Its mode cannot be changed at that moment; the next moment it can."""
    path.touch(0o600)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        later = threading.Timer(0.2, other.execute, ["ROLLBACK"])
        later.start()
        opened(path).close()
        later.join()


def test_a_file_that_another_process_is_making_just_now_is_no_strangers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read of it to tell is read at one moment."""
    others: list[DiskJournal] = []
    other = threading.Thread(target=lambda: others.append(opened(path)))
    plain = opening_module.plain

    class Meanwhile(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> Any:
            done = super().execute(sql, *values)
            if sql == "PRAGMA application_id" and other.ident is None:
                read = done.fetchone()  # the question is over
                monkeypatch.setattr(opening_module, "plain", plain)
                other.start()
                other.join(0.5)  # it may have to wait for what is being read
                return super().execute("SELECT ?", read)
            return done

    def watched(where: Path) -> sqlite3.Connection:
        return sqlite3.connect(where, isolation_level=None, check_same_thread=False, factory=Meanwhile)

    monkeypatch.setattr(opening_module, "plain", watched)
    monkeypatch.setattr(file_module, "opening_lock", threading.Lock)  # as another process, whose lock is another
    mine = opened(path)
    other.join(10)
    for each in (mine, *others):
        each.close()
    assert len(others) == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda path: path.write_bytes(b"no database at all, but long enough to be one" * 10),
            "corrupt, or no journal",
        ),
        (lambda path: sqlite3.connect(path).execute("CREATE TABLE theirs (x)"), "another program"),
        (lambda path: path.mkdir(), "is no file"),
        (lambda path: path.symlink_to("/etc/hostname"), "is no file"),
    ],
    ids=["no database", "foreign", "directory", "link"],
)
def test_what_is_no_journal_is_refused_and_left_alone(path: Path, make: Any, says: str) -> None:
    """At construction, with the reason."""
    made = make(path)
    if isinstance(made, sqlite3.Cursor):
        made.connection.close()
    if path.is_file() and not path.is_symlink():
        path.chmod(0o600)
        before = path.read_bytes()
    else:
        before = None
    with pytest.raises(JournalUnavailableError, match=says) as caught:
        opened(path)
    assert str(path.parent) not in str(caught.value)
    assert before is None or path.read_bytes() == before


def test_a_file_that_others_can_read_is_refused(path: Path) -> None:
    """It holds memories."""
    path.touch(0o644)
    path.chmod(0o644)
    with pytest.raises(JournalUnavailableError, match="chmod 600"):
        opened(path)


def test_a_directory_that_others_can_write_is_refused(path: Path) -> None:
    """Somebody could put another file there."""
    path.parent.chmod(0o777)
    with pytest.raises(JournalUnavailableError, match="written by others"):
        opened(path)
    path.parent.chmod(0o700)


def test_a_missing_directory_is_not_made(tmp_path: Path) -> None:
    """A typing error would otherwise hide what waits elsewhere."""
    with pytest.raises(JournalUnavailableError, match="make the directory"):
        opened(tmp_path / "missing" / "j")
    assert not (tmp_path / "missing").exists()


def test_a_newer_schema_is_refused(held: DiskJournal, path: Path) -> None:
    """It may mean what this version does not understand; what it holds stays."""
    add(held, "k")
    held.close()
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(JournalUnavailableError, match=r"newer version of remanence \(schema 99\)"):
        opened(path)
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 1")
    raw.close()
    held.clear()
    assert held.get("k") is not None


def test_a_corrupt_journal_is_refused(held: DiskJournal, path: Path) -> None:
    """Its own check notices pages that were overwritten."""
    for number in range(200):
        add(held, f"{number}", raw=b"x" * 500)
    held.close()
    damaged = bytearray(path.read_bytes())
    damaged[8192:16384] = b"\x55" * 8192
    path.write_bytes(damaged)
    with pytest.raises(JournalUnavailableError, match="corrupt"):
        opened(path)
    path.unlink()
    held.clear()


def test_a_full_disk_refuses_the_write_and_keeps_the_others(held: DiskJournal) -> None:
    """The error says what is the matter and shows nothing of the text."""
    kept = add(held, "k")
    connection = held._file._connected()[0]
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite answers as on a full disk
    with pytest.raises(JournalUnavailableError, match="full disk") as caught:
        add(held, "big", raw=b"private" * 10_000)
    assert "private" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert held.entries() == [kept]
    connection.execute("PRAGMA max_page_count = 1000000")
    add(held, "later")
    assert len(held) == 2


def test_many_calls_do_not_each_wait_for_a_stuck_process(held: DiskJournal, path: Path) -> None:
    """Two hundred of them would wait for four seconds, one after the other."""
    other = opened(path)
    with other._file.transaction():
        begun = time.monotonic()
        for number in range(200):
            with pytest.raises(JournalUnavailableError):
                add(held, f"k{number}")
        assert time.monotonic() - begun < 2.0
    add(held, "after")
    other.close()


def test_what_is_kept_since_a_deletion_began_is_not_its_own(held: DiskJournal) -> None:
    """Only what waited before goes with the memory."""
    first, second, other = KeptValue("k", b"1"), KeptValue("k", b"2"), KeptValue("o", b"3")
    assert held.last_kept == 0
    held.keep(first)
    held.keep(other)
    before = held.last_kept
    held.keep(second)
    held.forget_kept_of("k", before)
    assert held.kept() == [other, second]


def test_opening_waits_for_a_process_that_writes(held: DiskJournal, path: Path) -> None:
    """Longer than a call does: a worker that starts must not fail because another one was stopped for a moment."""
    made: list[DiskJournal] = []
    opener = threading.Thread(target=lambda: made.append(opened(path)))
    with held._file.transaction():
        opener.start()
        opener.join(0.3)  # far more than the 20 ms of a call
        assert not made
    opener.join(10)
    assert made
    made[0].close()


def test_a_process_stuck_in_its_transaction_holds_nobody_up_for_long(held: DiskJournal, path: Path) -> None:
    """A write fails after 20 ms, and reads go on."""
    add(held, "k")
    other = opened(path)
    with other._file.transaction():
        begun = time.monotonic()
        with pytest.raises(JournalUnavailableError, match="longer than a call may wait"):
            add(held, "b")
        assert time.monotonic() - begun < 1.0
        assert held.get("k") is not None
    add(held, "b")
    other.close()
