"""The command `remanence demo`: what it refuses, what it writes, how it ends."""

from __future__ import annotations

import argparse
import io
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from remanence.cli import live, main
from remanence.cli.demo import _managers
from remanence.cli.killed import killing
from remanence.lab import audit
from remanence.lab.crew import Crew
from remanence.lab.measurement import Killing, ManagerRun, Verdict
from remanence.lab.progress import Observer, Tick

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remanence.lab.audit import Holdings

BRIEF = ["--outage-at", "0.6", "--outage-for", "0.9", "--duration", "2.1", "--workers", "4", "--seed", "7"]


def demo(*arguments: str) -> int:
    """Run the command and return its exit status."""
    try:
        return main(["demo", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fail if a server or a worker is started; an empty folder is the current one."""

    def start(*_arguments: object) -> None:
        pytest.fail("something was started")

    monkeypatch.setattr("remanence.lab.redis_server.RedisServer.start", start)
    monkeypatch.setattr("remanence.lab.crew.Crew.start", start)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--manager", "nobody"], "invalid choice: 'nobody'"),
        (["--manager", "reference", "--compare"], "not allowed with"),
        (["--outage", "flood"], "invalid choice: 'flood'"),
        (["--outage-at", "soon"], "invalid float value"),
        (["--outage-at", "17", "--duration", "18"], "leave at least 0.5 s of calls after it"),
        (["--duration", "1"], "begins at 0.29 s"),
        (["--workers", "1"], "choose 2 to 64"),
        (["--transcripts", "missing.jsonl"], "cannot be read"),
        (["--report", "missing/report.html"], "not a directory"),
        (["--json", "."], "is a directory"),
        (["--json", "same", "--report", "./same"], "name the same file"),
        (["--redis-url", "http://localhost"], "redis, rediss, unix"),
        (["--redis-url", "redis://localhost", "--outage", "kill"], "leave out --outage"),
        (["--redis-url", "redis://localhost", "--outage-at", "2"], "leave out --outage-at"),
        (["--redis-url", "redis://localhost", "--kill-workers"], "leave out --redis-url or --kill-workers"),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each bad argument ends with status 2 and a message of its own; nothing is started or written."""
    assert demo(*arguments) == 2
    assert says in capsys.readouterr().err
    assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("nothing_starts")
def test_a_bad_transcript_line_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A line that is not JSON ends the demo with status 2, its number, and what to do."""
    good = '{"conversation_id": "c", "speaker": "s", "text": "t"}'
    Path("turns.jsonl").write_text(f"{good}\nnonsense\n")
    assert demo("--transcripts", "turns.jsonl") == 2
    assert "line 2: not JSON" in capsys.readouterr().err


@pytest.mark.slow
def test_the_figures_have_the_agreed_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run writes report and figures, prints table and verdict; what another manager than ours lost fails nothing."""
    monkeypatch.chdir(tmp_path)
    assert demo("--manager", "documented", "--json", "figures.json", "--report", "page.html", *BRIEF) == 0
    figures = json.loads(Path("figures.json").read_text())
    assert figures.keys() == {"managers", "seed", "versions"}
    assert figures["seed"] == 7
    (manager,) = figures["managers"].values()
    assert list(manager) == [
        "acknowledged",
        "lost",
        "failed_calls",
        "unavailable_answers",
        "degraded_reads",
        "journaled",
        "replayed",
        "conflicts",
        "slowest_call_s",
        "recovery_s",
        "latency_ms",
        "attempts_in_outage",
    ]
    assert list(manager["latency_ms"]) == ["before", "during", "after"]
    assert manager["lost"] > 0
    assert all(list(phase) == ["p50", "p99"] for phase in manager["latency_ms"].values())
    assert Path("page.html").read_text().startswith("<!DOCTYPE html>")
    said = capsys.readouterr().out
    for part in (
        "seed 7",
        "outage: ",
        "breaker",
        "documented manager lost",
        str(tmp_path / "page.html"),
        "figures.json",
    ):
        assert (part in said) is (part != "breaker")


@pytest.mark.slow
def test_a_loss_of_the_resilient_manager_fails_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A key deleted behind the resilient manager's back is found, reported, and ends the demo with status 1."""
    monkeypatch.chdir(tmp_path)
    read = audit.read

    def sabotage(url: str, prefix: str, conversations: Iterable[str]) -> Holdings:
        names = list(conversations)
        with redis.Redis.from_url(url) as client:
            client.delete(f"memory:WORKING_MEMORY:{prefix}{names[0]}")
        return read(url, prefix, names)

    monkeypatch.setattr(audit, "read", sabotage)
    assert demo("--json", "figures.json", *BRIEF) == 1
    assert json.loads(Path("figures.json").read_text())["managers"]["resilient"]["lost"] > 0


@pytest.mark.slow
def test_killed_workers_lose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All workers are killed in the outage; new ones bring home what the dead had acknowledged, and nothing is left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    schedule = ["--outage-at", "0.6", "--outage-for", "1.5", "--duration", "4.1", "--workers", "4", "--seed", "7"]
    assert demo("--kill-workers", "--json", "figures.json", "--report", "page.html", *schedule) == 0
    figures = json.loads(Path("figures.json").read_text())
    killed = figures["killed_workers"]["resilient"]
    assert list(killed) == ["at_s", "at_work_s", "processes", "acknowledged", "waiting", "lost"]
    assert figures["managers"]["resilient"]["lost"] == killed["lost"] == 0
    assert killed["processes"] == 2
    assert killed["acknowledged"] >= killed["waiting"] > 0
    assert 0.6 < killed["at_s"] < killed["at_work_s"]
    said = capsys.readouterr().out
    for part in (
        "in which all worker processes are killed and replaced",
        "the 2 worker processes killed (SIGKILL); writes of",
        "2 new worker processes at work, Redis still away",
        f"of {killed['acknowledged']:,} writes that the dead had acknowledged without Redis 0 are lost.",
    ):
        assert part in said
    assert "workers killed" in Path("page.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "page.html"]


@pytest.mark.slow
def test_what_killed_workers_lost_fails_the_demo_and_the_evidence_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that is emptied while nobody is alive is a loss: status 1, with the files to look at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    kill = Crew.kill

    def sabotage(self: Crew, numbers: Iterable[int]) -> None:
        kill(self, numbers)
        (journal,) = tmp_path.glob("remanence-demo-*/*.journal")
        with closing(sqlite3.connect(journal)) as file, file:
            file.execute("DELETE FROM entries")

    monkeypatch.setattr(Crew, "kill", sabotage)
    schedule = ["--outage-at", "0.6", "--outage-for", "1.5", "--duration", "3.5", "--workers", "4", "--seed", "7"]
    assert demo("--kill-workers", "--json", "figures.json", *schedule) == 1
    assert json.loads(Path("figures.json").read_text())["killed_workers"]["resilient"]["lost"] > 0
    (kept,) = tmp_path.glob("remanence-demo-*")
    assert str(kept) in capsys.readouterr().out
    assert (kept / "acknowledged-0.jsonl").stat().st_size > 0


def of_ours(mark: str) -> dict[int, str]:
    """Return the running processes that inherited a mark in their environment."""
    found = {}
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark.encode() in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def wait_until(condition: object, timeout: float) -> bool:
    """Wait for a condition; False if it does not come true in time."""
    deadline = time.monotonic() + timeout
    assert callable(condition)
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to see all processes")
@pytest.mark.parametrize(
    ("end", "status", "outage"),
    [
        (signal.SIGINT, 130, "kill"),
        (signal.SIGINT, 130, "freeze"),
        (signal.SIGTERM, 130, "kill"),
        (signal.SIGKILL, -9, "freeze"),
    ],
)
@pytest.mark.slow
def test_an_interrupted_demo_leaves_nothing_behind(end: int, status: int, outage: str, tmp_path: Path) -> None:
    """Ctrl-C in an outage ends server and workers without a traceback; even kill -9 leaves none running."""
    mark = f"REMANENCE_TEST_{secrets.token_hex(8)}"
    with subprocess.Popen(
        [
            *(sys.executable, "-c", "import sys; from remanence.cli import main; sys.exit(main())"),
            *("demo", "--manager", "reference", "--outage", outage, "--outage-at", "0.5", "--outage-for", "20"),
        ],
        env={**os.environ, mark: "1"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any("outage: " in line and "calls/s" in line for line in process.stdout)
        assert len(of_ours(mark)) >= 3
        os.killpg(process.pid, end)
        assert process.wait(timeout=10) == status
        complaints = process.stderr.read()
    assert "Traceback" not in complaints
    assert ("interrupted" in complaints) is (end != signal.SIGKILL)
    assert wait_until(lambda: not of_ours(mark), 10), of_ours(mark)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


NOTHING = Verdict(0, 0, 0, 0, 0, 0, 0, 0, None, None, {}, 0)

TICKS = [
    Tick("resilient", 1, 3, "before", 1.0, 10.0, 400.0, 0, 0.3, 1.2, (("redis", 400),), 0.0, "closed", 0, 100),
    Tick(
        "resilient",
        1,
        3,
        "outage",
        3.0,
        10.0,
        380.0,
        2,
        0.1,
        0.9,
        (("journaled", 200), ("stale", 178)),
        0.0,
        "open",
        9,
        200,
    ),
    Tick("resilient", 1, 3, "outage", 3.2, 10.0, 380.0, 2, None, None, (), 3.2, "open", 12, 210),
    Tick("reference", 2, 3, "starting", -0.1, 10.0),
]


def shown(observer: Observer) -> None:
    """Show the observer a run."""
    for tick in TICKS:
        observer.tick(tick)


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_what_is_done_to_the_workers_is_told(stream: io.StringIO) -> None:
    """A line of its own in the log and in the terminal, as it is."""
    with live.view(stream) as observer:
        shown(observer)
        observer.told("workers killed [bold]at once")
    assert "workers killed [bold]at once" in stream.getvalue()


def test_the_killed_are_accounted_for_in_words() -> None:
    """What the dead had acknowledged and what is lost of it; nothing where they had no journal."""
    run = ManagerRun("resilient", 17.0, (5.0, 10.0), 0.25, (), NOTHING, killing=Killing(7.0, 7.5, 2, 1412, 37, 3))
    assert killing(run) == (
        "resilient: 2 worker processes killed at 7.0 s, new ones at work 0.5 s later; of 1,412 writes that the dead "
        "had acknowledged without Redis 3 are lost."
    )
    without = replace(run, name="reference", killing=Killing(7.0, 7.5, 2, 0, None, 0))
    assert killing(without).endswith("; nothing had been acknowledged without Redis.")
    assert killing(replace(run, killing=None)) == "resilient: no worker was killed."


def test_killed_workers_are_compared_with_a_journal_in_memory_too() -> None:
    """With --compare all managers run, and ours once more without the disk; without the killing nothing is added."""
    both = argparse.Namespace(compare=True, manager=None, kill_workers=True)
    assert _managers(both) == ["resilient", "memory-journal", "reference", "documented"]
    both.kill_workers = False
    assert _managers(both) == ["resilient", "reference", "documented"]


def test_the_log_is_a_line_at_each_change_and_every_two_seconds() -> None:
    """Without a terminal a line says what there is to say; one that follows too soon is left out."""
    stream = io.StringIO()
    with live.view(stream) as observer:
        shown(observer)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "outage: 380 calls/s, p50 0.1 ms, p99 0.9 ms, breaker open, journal 9" in lines[1]
    assert "answered by journal (write) 200, last-known copy 178" in lines[1]


def test_a_terminal_gets_the_live_view() -> None:
    """In a terminal the last drawing shows breaker, journal, latency and who answers."""
    pytest.importorskip("rich")
    stream = Terminal()
    with live.view(stream) as observer:
        shown(observer)
    said = stream.getvalue()
    for part in (
        "resilient (1 of 3)",
        "open",
        "journal (write) 200",
        "last-known copy 178",
        "a call waiting for 3.2 s",
    ):
        assert part in said


def test_without_rich_a_terminal_gets_the_log_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The extra that draws is not needed: its absence is told, with what to install."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"] + ["rich.console", "rich.live"]:
        monkeypatch.setitem(sys.modules, name, None)
    stream = Terminal()
    with live.view(stream) as observer:
        shown(observer)
    assert len(stream.getvalue().splitlines()) == 3
    assert "pip install 'remanence[cli]'" in capsys.readouterr().err
