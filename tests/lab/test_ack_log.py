"""Acknowledgements that outlive the process which gave them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from remanence.lab.ack_log import LoggedAck, LoggedRecorder, read_acks
from remanence.lab.samples import Ack, Call

if TYPE_CHECKING:
    from pathlib import Path

WRITES_AND_DIES = """
import os, signal, sys
from remanence.lab.ack_log import LoggedRecorder
from remanence.lab.samples import Ack, Call

recorder = LoggedRecorder(sys.argv[1])
for turn in range(3):
    recorder.ended(0, Call(1.0, 0.1, "write", "journaled", "a"))
    recorder.acknowledged(Ack("a", turn, 2.0))
os.kill(os.getpid(), signal.SIGKILL)
"""


def noted(recorder: LoggedRecorder, turn: int, answer: str = "redis") -> None:
    """Acknowledge a turn as an agent does: the call has ended, then the turn counts."""
    recorder.ended(0, Call(1.0, 0.1, "write", answer, "a"))
    recorder.acknowledged(Ack("a", turn, 2.0))


def test_what_was_acknowledged_before_a_kill_is_known(tmp_path: Path) -> None:
    """A process that is killed right after an acknowledgement has left all of them in the file."""
    path = tmp_path / "acks"
    died = subprocess.run([sys.executable, "-c", WRITES_AND_DIES, str(path)], check=False, timeout=30)
    assert died.returncode == -signal.SIGKILL
    assert read_acks(path) == [LoggedAck("a", turn, 2.0, "journaled") for turn in range(3)]


def test_a_line_that_was_cut_short_is_no_acknowledgement(tmp_path: Path) -> None:
    """Whatever part of the last line is missing, if only its end, the turn does not count; those before it do."""
    path = tmp_path / "acks"
    recorder = LoggedRecorder(path)
    noted(recorder, 1)
    whole = path.read_bytes()
    noted(recorder, 2)
    both = path.read_bytes()
    for length in range(len(whole), len(both)):
        path.write_bytes(both[:length])
        assert [ack.turn for ack in read_acks(path)] == [1]


def test_a_process_that_acknowledged_nothing_has_no_acknowledgements(tmp_path: Path) -> None:
    """A missing file and an empty one hold none."""
    path = tmp_path / "acks"
    assert read_acks(path) == []
    LoggedRecorder(path)
    assert read_acks(path) == []


def test_it_still_reports_what_it_writes(tmp_path: Path) -> None:
    """The recorder goes on collecting for the reports, answers and turns alike."""
    recorder = LoggedRecorder(tmp_path / "acks")
    noted(recorder, 1, "journaled")
    batch = recorder.take([], None)
    assert [call.answer for call in batch.calls] == ["journaled"]
    assert [ack.turn for ack in batch.acks] == [1]


def test_what_cannot_be_written_is_not_acknowledged() -> None:
    """On a full disk the acknowledgement fails, and neither file nor report has it."""
    full = "/dev/full"
    if not os.path.exists(full):  # noqa: PTH110 - a device
        pytest.skip("needs /dev/full")
    recorder = LoggedRecorder(full)
    with pytest.raises(OSError, match="No space left"):
        noted(recorder, 1)
    assert recorder.take([], None).acks == []


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Others cannot read which conversations there are."""
    LoggedRecorder(tmp_path / "acks")
    assert (tmp_path / "acks").stat().st_mode & 0o077 == 0
