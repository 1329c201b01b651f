"""Logs: what is written is read back, crashes cost nothing, and what is no log is refused without quoting it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from remanence.lab.history import Ending, History, HistoryFormatError, Operation, Recorder, read_history, write_history
from remanence.lab.history.atomic import Shape, correct_history
from remanence.lab.history.log import header
from remanence.lab.history.operation import UNKNOWN

if TYPE_CHECKING:
    from pathlib import Path


def lines(path: Path, *found: dict[str, Any] | str) -> Path:
    """Write lines to a file."""
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in found), "ascii")
    return path


def begun(number: int, **more: Any) -> dict[str, Any]:
    """Return the line of a write that has begun."""
    return {"op": number, "session": "1", "key": "k", "kind": "write", "value": "a", "invoked": 1.0, **more}


def test_a_history_survives_being_written(tmp_path: Path) -> None:
    """Every field of every operation, and the endings, are the same after writing and reading."""
    history = correct_history(5, Shape(operations=300, deletes=0.1, ttl=0.1, outage=0.2))
    odd = Operation("p", "1", "k", "update", "ab", 1.0, inf, "ambiguous", "", UNKNOWN, 2.5, 3.5)
    history = History(
        [*history.operations, odd], [*history.endings.values(), Ending("k", None, frozenset({None, "x"}), 9)]
    )
    with (tmp_path / "log").open("w") as file:
        write_history(history, file)
    again = read_history([tmp_path / "log"])
    assert sorted(map(repr, again.operations)) == sorted(map(repr, history.operations))
    assert again.endings == history.endings


def test_an_operation_without_an_end_is_ambiguous(tmp_path: Path) -> None:
    """A process that was killed in a call leaves its beginning behind."""
    (operation,) = read_history([lines(tmp_path / "log", header("p1"), begun(1))]).operations
    assert (operation.process, operation.outcome, operation.completed) == ("p1", "ambiguous", inf)


@pytest.mark.parametrize("cut", ['{"op": 1, "outco', '{"op": 1, "outcome": "ok", "completed": 2.0', "\x00\x00"])
def test_a_last_line_that_was_cut_short_is_left_out(tmp_path: Path, cut: str) -> None:
    """The operation whose end was being written has none; what a later process added is read."""
    path = lines(tmp_path / "log", header("p1"), begun(1), cut, header("p2"), begun(1, value="b"))
    assert [(each.process, each.outcome) for each in read_history([path]).operations] == [
        ("p1", "ambiguous"),
        ("p2", "ambiguous"),
    ]
    path.write_text(path.read_text()[: path.read_text().index(cut) + len(cut)])
    assert len(read_history([path]).operations) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        [header("p1"), "no JSON: secret", begun(1)],
        [begun(1, outcome="ok", completed=2.0)],
        [header("p1"), {"op": 7, "outcome": "ok", "completed": 2.0}],
        [header("p1"), begun(1, kind="secret", outcome="ok", completed=2.0)],
        [header("p1"), begun(1, outcome="secret", completed=2.0)],
        [header("p1"), begun(1, outcome="ok", completed=0.5)],
        [header("p1"), begun(1, outcome="ok", completed=float("nan"))],
        [header("p1"), [1, 2]],
        [header("p1"), begun(1, invoked="secret", outcome="ok", completed=2.0)],
        [{**header("p1"), "history": 2}],
        [header("p1"), {**header("p2"), "clock": "another"}],
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, wrong: list[Any]) -> None:
    """A wrong line is an error that names its place and quotes nothing."""
    path = lines(tmp_path / "log", *wrong)
    with pytest.raises(HistoryFormatError) as error:
        read_history([path])
    assert "secret" not in str(error.value)


_KILLED = """
import os, signal, sys
from remanence.lab.history import Recorder
recorder = Recorder(sys.argv[1], process="p1")
recorder.end(recorder.begin("write", "k", "a1"), "ok", "committed")
recorder.begin("read", "k")
recorder.begin("write", "k", "a2")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_all_it_did(tmp_path: Path) -> None:
    """A kill -9 loses nothing that was recorded; the next process adds to the same file."""
    path = tmp_path / "log"
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(path)], timeout=30, check=False)
    assert ended.returncode == -signal.SIGKILL
    with path.open("ab") as file:
        file.write(b'{"op": 2, "outcome"')
    with Recorder(path, process="p2") as recorder:
        recorder.end(recorder.begin("write", "k", "a3"), "failed")
        found = recorder.history().operations
    assert [(each.process, each.value, each.outcome) for each in found] == [
        ("p1", "a1", "ok"),
        ("p1", "a2", "ambiguous"),
        ("p2", "a3", "failed"),
    ]
    assert path.stat().st_mode & 0o777 == 0o600


def test_memory_and_file_tell_the_same(tmp_path: Path) -> None:
    """A recorder in memory gives the history that one with a file writes, calls under way included."""
    told = []
    for path in (None, tmp_path / "log"):
        with Recorder(path, process="p") as recorder:
            recorder.end(recorder.begin("read", "k"), "ok", "redis", value="aa")
            recorder.end(recorder.begin("delete", "k"), "ambiguous")
            recorder.begin("write", "k", "bb", ttl=5.0, expected=None)
            recorder.begin("read", "k")
            recorder.add_endings([Ending("k", "aa", frozenset(), 1.0)])
            history = recorder.history()
        told.append([(each.kind, each.value, each.outcome, each.expected, each.ttl) for each in history.operations])
        assert set(history.endings) == {"k"}
    # The file also knows of the read that never ended: it says nothing.
    assert told[0] == told[1]
