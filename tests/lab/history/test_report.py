"""Verdicts together, the picture of a witness, and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from remanence.lab.history import History, Report, Status, Verdict, check, write_history
from remanence.lab.history.__main__ import main
from remanence.lab.history.atomic import correct_history
from remanence.lab.history.witness import Witness
from tests.lab.history.support import ending, history, read, write

if TYPE_CHECKING:
    from pathlib import Path

PASS, FAIL, UNKNOWN = Status.PASS, Status.FAIL, Status.UNKNOWN


@pytest.mark.parametrize(
    ("statuses", "together", "code"),
    [
        ([PASS, PASS], PASS, 0),
        ([PASS, UNKNOWN], UNKNOWN, 2),
        ([UNKNOWN, FAIL, PASS], FAIL, 1),
        ([], UNKNOWN, 2),
    ],
)
def test_unknown_is_never_a_pass(statuses: list[Status], together: Status, code: int) -> None:
    """One failure makes the whole fail, one unknown makes it unknown, and of nothing it is unknown."""
    report = Report(1, 1, tuple(Verdict("x", status, 1) for status in statuses))
    assert (report.status, report.exit_code) == (together, code)


@pytest.mark.parametrize("found", [history(), history(write("a", 0, 1))])
def test_a_check_that_judged_nothing_is_unknown(found: History) -> None:
    """No calls, or none that a check applies to, prove nothing."""
    report = check(found)
    assert report.status is UNKNOWN
    assert all(each.reasons for each in report.verdicts if each.status is UNKNOWN)


def test_a_failure_counts_though_something_else_is_unknown() -> None:
    """A violation in one conversation is not hidden by another that cannot be decided."""
    good = [read("zz", 4, 5)]
    twice = [write("a", 0, 1), write("a", 2, 3)]
    moved = [
        type(each)(each.process, "1", "other", each.kind, each.value, each.invoked, each.completed, answer=each.answer)
        for each in twice
    ]
    verdict = check(History([*good, *moved]), checks=["linearizable"]).verdicts[0]
    assert (verdict.status, verdict.violations, len(verdict.reasons)) == (FAIL, 1, 1)


def test_a_check_that_does_not_exist_is_refused() -> None:
    """A wrong name is an error that names the right ones."""
    with pytest.raises(ValueError, match="own-writes"):
        check(history(), checks=["linearisable"])


def test_a_witness_is_drawn_in_order() -> None:
    """The picture has a line for each call, values numbered as they come, an arrow where a write has no end."""
    witness = Witness.of(
        [read("b", 4, 5, "p2"), write("a", 0, 1), write("b", 0.5), None], "{} was read, and {} not.", "b", "a"
    )
    assert str(witness).splitlines() == [
        "conversation k: v2 was read, and v1 not.",
        "  p1 1  write  v1  ├─────────────┤                        committed      0.000  1000.000 ms",
        "  p1 1  write  v2         ├───────────────────────────→   ambiguous    500.000     never ms",
        "  p2 1  read   v2                       ├──────┤          redis       4000.000  5000.000 ms",
    ]


@pytest.fixture
def stale(tmp_path: Path) -> Path:
    """A log with a stale read."""
    found = history(write("a", 0, 1), write("b", 2, 3), read("a", 4, 5), read("a", 6, 7), ending("b"))
    with (tmp_path / "stale.jsonl").open("w") as file:
        write_history(found, file)
    return tmp_path / "stale.jsonl"


def test_the_command_line_checks_a_log(stale: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints a table and the witnesses, and its exit status says what was found."""
    assert main([str(stale)]) == 1
    printed = capsys.readouterr().out
    assert "linearizability      fail" in printed
    assert "├" in printed
    assert main([str(stale), "--check", "values"]) == 0
    assert main([str(stale), "--check", "acknowledged", "--no-overwrites"]) == 0


def test_the_command_line_prints_json(stale: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json it prints one JSON value: statuses, counts, and the witness with its picture."""
    assert main([str(stale), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "fail"
    by_name = {each["check"]: each for each in told["checks"]}
    assert by_name["read-your-writes"]["violations"] == 2
    assert len(by_name["read-your-writes"]["witness"]["operations"]) == 3
    assert by_name["acknowledged writes"]["status"] == "pass"


def test_the_command_line_makes_a_sample_and_passes_it(tmp_path: Path) -> None:
    """The module runs as a program: what it generates it also checks, and what is no log it refuses with status 2."""
    command = [sys.executable, "-m", "remanence.lab.history"]
    sample = tmp_path / "sample.jsonl"
    for arguments, status in (
        (["--generate", "5000", str(sample)], 0),
        ([str(sample), "--check", "linearizable", "--check", "values"], 0),
        ([str(tmp_path / "missing")], 2),
        ([__file__], 2),
    ):
        ended = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == status, ended
        assert "Traceback" not in ended.stderr


def test_a_generated_history_is_always_the_same() -> None:
    """The same seed gives the same history."""
    assert correct_history(9).operations == correct_history(9).operations
    assert correct_history(9).operations != correct_history(10).operations
