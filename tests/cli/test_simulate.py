"""The command `remanence simulate`: its exit status, what it tells, what it refuses, how it ends."""

from __future__ import annotations

import io
import json
import os
import random
import re
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remanence.cli import main
from remanence.lab.simulation import Scenario, asyncio_cases, exhaust, sample, small_cases
from remanence.lab.simulation.schedule import Schedule
from remanence.lab.simulation.search import told
from remanence.managers.redis_backend import RedisBackend
from tests.support import wait_until

CASES = {case.name: case for case in (*small_cases(), *asyncio_cases())}
NAME = "store | store: delay"
COMMAND = [sys.executable, "-c", "import sys; from remanence.cli import main; sys.exit(main())", "simulate"]
RANDOM = ["--no-cases", "--first-seed", "7"]


def simulate(*arguments: str) -> int:
    """Run the command and return its exit status."""
    try:
        return main(["simulate", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let writes that come late be applied: the guard that some schedules are there for is gone."""
    monkeypatch.setattr(RedisBackend, "_not_after", lambda *_: 2**60)


@pytest.fixture
def nothing_is_played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fail if a schedule is played; an empty folder is the current one."""

    def play(*_arguments: object, **_options: object) -> None:
        pytest.fail("something was played")

    for name in ("campaign", "sample", "told"):
        monkeypatch.setattr(f"remanence.cli.simulate.{name}", play)
    monkeypatch.chdir(tmp_path)


def test_without_a_broken_promise_the_status_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    """The table counts the schedules; where nobody looks on, a line now and then says how far it is."""
    assert simulate(*RANDOM, "--schedules", "501", "--processes", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "501 random schedules from seed 7" in lines[0]
    assert [line.strip() for line in lines if "done" in line] == ["1 of 2 done", "2 of 2 done"]
    assert any(re.match(r"random +501 +0 +[\d,]+$", line) for line in lines)
    assert lines[-1].startswith("0 violations")


def test_two_processes_share_the_work() -> None:
    """They play what one process would play, and end as it does."""
    command = [*COMMAND, *RANDOM, "--schedules", "501", "--processes", "2"]
    # Not measured: what is begun by one that is would say on stderr that it came too late for that.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^random +501 +0 ", done.stdout, re.MULTILINE)
    assert "2 of 2 done" in done.stdout


def test_no_schedules_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asked for, nothing is found."""
    assert simulate("--no-cases", "--schedules", "0", "--processes", "1") == 0
    assert "0 violations" in capsys.readouterr().out


def again(told_so_far: str) -> list[str]:
    """Return the arguments that the command says repeat its first finding."""
    line = next(line for line in told_so_far.splitlines() if line.startswith("again: "))
    program, command, *arguments = shlex.split(line.removeprefix("again: "))
    assert (program, command) == ("remanence", "simulate")
    return arguments


@pytest.mark.usefixtures("broken")
def test_a_finding_in_a_case_ends_with_1_and_can_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """The shortest schedule is told as a timeline; the command below it plays one that breaks the same promise."""
    assert simulate("--case", NAME, "--processes", "1") == 1
    said = capsys.readouterr().out
    assert "1 violations" in said
    assert f"\n{NAME}\n" in said
    assert "delivers store" in said
    assert "\n=> P1: " in said
    arguments = again(said)
    assert arguments[:2] == ["--case", NAME]
    assert simulate(*arguments) == 1
    repeated = capsys.readouterr().out
    assert "delivers store" in repeated
    assert "\n=> P1: " in repeated


@pytest.mark.usefixtures("broken")
def test_a_random_finding_ends_with_1_and_its_seed_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its seed tells the same shortest schedule."""

    def draw(_: random.Random) -> Scenario:
        return CASES[NAME].scenario  # a small one: shortening what a large one brings takes seconds

    monkeypatch.setattr(sys.modules["remanence.lab.simulation.asyncio_cases"], "draw", draw)
    seed = next(str(seed) for seed in range(2_000) if sample(draw, seed) is not None)
    assert simulate("--no-cases", "--first-seed", seed, "--schedules", "1", "--processes", "1") == 1
    said = capsys.readouterr().out
    arguments = again(said)
    assert arguments == ["--seed", seed]
    assert simulate(*arguments) == 1
    repeated = capsys.readouterr().out
    assert "\n=> P" in repeated
    assert repeated in said


def test_what_a_finding_repeats_is_over_once_the_guard_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the code under test that decides, not the arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RedisBackend, "_not_after", lambda *_: 2**60)
        assert simulate("--case", NAME, "--processes", "1") == 1
    arguments = again(capsys.readouterr().out)
    assert simulate(*arguments) == 0
    assert "=> no promise was broken" in capsys.readouterr().out


@pytest.mark.usefixtures("nothing_is_played")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--schedules", "-1"], "--schedules and --asyncio must be 0 or more"),
        (["--schedules", "many"], "invalid int value: 'many'"),
        (["--processes", "0"], "--processes 1 to 64"),
        (["--processes", "two"], "invalid int value: 'two'"),
        (["--first-seed", "x"], "invalid int value: 'x'"),
        (["--seed", "x"], "invalid int value: 'x'"),
        (["--case", "nobody's"], "no such case; --list names them"),
        (["--decisions", "1,2"], "--decisions belong to a --case"),
        (["--case", NAME, "--decisions", "1,b"], "argument --decisions"),
        (["--case", NAME, "--decisions", ""], "argument --decisions"),
        (["--case", NAME, "--decisions=-50"], "argument --decisions"),
        (["--case", NAME, "--json", "missing/figures.json"], "not a directory"),
        (["--no-cases", "--processes", "1", "--json", "."], "is a directory"),
        (["--outages", "3"], "unrecognized arguments"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_played(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each ends with status 2 and a message of its own; nothing is written."""
    assert simulate(*arguments) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""
    assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("nothing_is_played")
def test_the_list_names_every_small_case_once(capsys: pytest.CaptureFixture[str]) -> None:
    """With its group, by the names that --case takes."""
    assert simulate("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line[19:] for line in lines]
    assert len(set(names)) == len(names)
    assert {name: line[:19].rstrip() for name, line in zip(names, lines, strict=True)} == {
        name: case.group for name, case in CASES.items()
    }


def test_a_seed_always_tells_the_same_story(capsys: pytest.CaptureFixture[str]) -> None:
    """And another seed another one."""
    stories = []
    for seed in ("5", "5", "6"):
        assert simulate("--seed", seed) == 0
        stories.append(capsys.readouterr().out)
    assert stories[0] == stories[1] != stories[2]
    assert all("=> no promise was broken\ndecisions: [" in each for each in stories)


def figures(table: str, group: str) -> tuple[int, int, int]:
    """Return cases, schedules and equivalent ones of a group, from the table."""
    found = re.search(rf"^{re.escape(group)}  +(\d*) +([\d,]+) +([\d,]+) +[\d,]+$", table, re.MULTILINE)
    assert found is not None, table
    cases, schedules, equivalent = (int(number.replace(",", "") or 0) for number in found.groups())
    return cases, schedules, equivalent


def test_a_case_is_exhausted(capsys: pytest.CaptureFixture[str]) -> None:
    """Every schedule of it is played, and nothing else."""
    assert simulate("--case", NAME, "--processes", "1", "--schedules", "77") == 0
    said = capsys.readouterr().out
    complete, equivalent, _ = exhaust(CASES[NAME].scenario)
    assert complete > 10
    assert figures(said, CASES[NAME].group) == (1, complete, equivalent)
    assert "random  " not in said


def test_decisions_play_one_schedule_of_a_case(capsys: pytest.CaptureFixture[str]) -> None:
    """The one that they decide, told as a timeline."""
    stories = []
    for decisions in ("0", "1,2", "0,2"):
        assert simulate("--case", NAME, "--decisions", decisions) == 0
        stories.append(capsys.readouterr().out)
        schedule = Schedule([int(each) for each in decisions.split(",")])
        assert stories[-1] == told(CASES[NAME].scenario, schedule) + "\n"
    assert len(set(stories)) == 3
    assert ["held up" in each for each in stories] == [False, True, True]


def written(path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command with figures; return its status and these."""
    status = simulate(*arguments, "--processes", "1", "--json", str(path))
    return status, json.loads(path.read_text("utf-8"))


def test_the_figures_are_those_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was played, from which seed, and how long it took."""
    status, wrote = written(tmp_path / "figures.json", "--case", NAME)
    assert status == 0
    assert wrote.keys() == {"cases", "schedules", "equivalent", "seconds", "findings", "first_seed", "wall_seconds"}
    group = CASES[NAME].group
    assert all(wrote[key].keys() == {group} for key in ("cases", "schedules", "equivalent", "seconds"))
    cases, schedules, equivalent = figures(capsys.readouterr().out, group)
    assert (wrote["cases"][group], wrote["schedules"][group], wrote["equivalent"][group]) == (
        cases,
        schedules,
        equivalent,
    )
    assert wrote["findings"] == []
    assert wrote["wall_seconds"] > 0
    status, wrote = written(tmp_path / "figures.json", *RANDOM, "--schedules", "30")
    assert (status, wrote["schedules"], wrote["first_seed"]) == (0, {"random": 30}, 7)
    assert figures(capsys.readouterr().out, "random")[1:] == (30, 0)


@pytest.mark.usefixtures("broken")
def test_the_figures_have_the_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By their decisions they can be repeated."""
    status, wrote = written(tmp_path / "figures.json", "--case", NAME)
    assert status == 1
    (finding,) = wrote["findings"]
    assert finding.keys() == {"name", "promise", "what", "seed", "decisions"}
    assert (finding["name"], finding["promise"], finding["seed"]) == (NAME, "P1", None)
    assert again(capsys.readouterr().out)[-1] == ",".join(map(str, finding["decisions"]))


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of lines."""
    pytest.importorskip("rich")
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    assert simulate("--case", NAME, "--processes", "1") == 0
    assert "1/1" in stream.getvalue()
    assert " of 1 done" not in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal], ids=["a file", "a terminal"])
def test_without_rich_there_are_lines(monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]) -> None:
    """The extra that draws the bar is not needed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"] + ["rich", "rich.progress"]:
        monkeypatch.setitem(sys.modules, name, None)
    out = stream()
    monkeypatch.setattr("sys.stdout", out)
    assert simulate("--case", NAME, "--processes", "1") == 0
    assert "1 of 1 done" in out.getvalue()


def of_ours(mark: str) -> list[int]:
    """Return the running processes that inherited a mark in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.fixture
def mark() -> Iterator[str]:
    """A mark for the environment of a process; what bears it in the end is killed."""
    mark = f"REMANENCE_TEST_{secrets.token_hex(8)}"
    yield mark
    for number in of_ours(mark):
        os.kill(number, signal.SIGKILL)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("once", ["Ctrl-C ends it", "1 of 19 done"], ids=["at its begin", "under way"])
def test_ctrl_c_ends_it_and_leaves_nothing_behind(processes: int, once: str, mark: str) -> None:
    """Status 130, a sentence instead of a traceback, none of its processes, also where these are just starting."""
    command = [*COMMAND, *RANDOM, "--schedules", "9500", "--processes", str(processes)]
    with subprocess.Popen(
        command,
        env={**os.environ, mark: "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any(once in line for line in process.stdout)
        wait_until(lambda: len(of_ours(mark)) >= processes, "its processes have started")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=10) == 130
        complaints = process.stderr.read()
    assert "interrupted" in complaints
    assert "Traceback" not in complaints
    assert "KeyboardInterrupt" not in complaints
    wait_until(lambda: not of_ours(mark), "nothing of it is left")
