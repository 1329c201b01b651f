"""Chaos in short: fixed seeds with nothing lost, planted faults that are found, and the command."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from remanence.cli import main
from remanence.lab.chaos import Total, draw, play
from remanence.lab.chaos.plan import BLOWS, PHASES, Plan
from tests.cli.test_demo import of_ours
from tests.lab.simulation.guards import ROOT, copy_source, environment
from tests.support import wait_until

_WRITES = 1_200
SEEDS = {"threads": 137, "tasks": 131, "both on one journal": 120}
_MARK = "        if not due:\n            return 0\n"
_REMOVE = (
    "        for each in due:\n            yield from self._brought_home(epoch, Settlement(each))\n"
    "        return len(due)\n"
)


def test_a_seed_draws_one_plan() -> None:
    """And many seeds everything that may happen, each phase and action among it."""
    plans = [draw(seed) for seed in range(200)]
    assert plans == [draw(seed) for seed in range(200)]
    assert {blow.kind for plan in plans for blow in plan.blows} == set(BLOWS)
    dooms = Counter((doom.phase, doom.action) for plan in plans for doom in plan.dooms if doom is not None)
    assert {phase for phase, _ in dooms} == set(PHASES)
    assert {action for phase, action in dooms if phase in {"sent", "answered"}} == {"kill", "stop", "outage"}
    assert {plan.durability for plan in plans} == {"always", "everysec", "off"}


def test_a_plan_says_which_processes_are_async() -> None:
    """None, all, or some: then both flavours write one journal from the start; with more tasks than threads, too."""
    plans = [draw(seed) for seed in range(200)]
    found = Counter(_flavour(plan) for plan in plans)
    assert set(found) == set(SEEDS)
    assert min(found.values()) >= 20
    assert all(any(plan.tasks[: plan.workers]) == plan.has_async for plan in plans)
    assert {count // plan.threads for plan in plans for count in plan.tasks} == {0, 1, 4, 16}


@pytest.mark.parametrize("flavour", SEEDS)
def test_nothing_is_lost(flavour: str) -> None:
    """A schedule in short, on real processes; `make chaos` plays hundreds."""
    plan = draw(SEEDS[flavour], writes=_WRITES)
    assert _flavour(plan) == flavour
    shown = play(plan)
    assert (shown.verdict.lost, shown.verdict.back, shown.verdict.unknown) == ([], [], []), shown.told()
    assert not shown.broken, shown.told()
    assert len(shown.acks) >= 500
    assert shown.away > 0
    assert bool(shown.awaited) == bool(shown.cancelled) == plan.has_async
    assert (shown.awaited == len(shown.acks)) == (flavour == "tasks")


@pytest.mark.parametrize("flavour", ["threads", "tasks"])
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("policies/replayer.py", _MARK, _MARK + _REMOVE),
        (
            "journal/disk.py",
            "            cursor.execute(CHANGE, (*values_of(later), self._store, later.key))\n",
            "            ...\n",
        ),
    ],
    ids=["removed instead of sent", "a write over one that waits"],
)
def test_a_planted_fault_is_found(tmp_path: Path, file: str, old: str, new: str, flavour: str) -> None:
    """What it loses was acknowledged; the seed is told."""
    package = copy_source(tmp_path)
    source = (package / file).read_text("utf-8")
    assert source.count(old) == 1
    (package / file).write_text(source.replace(old, new), "utf-8")
    code = "import sys; from remanence.cli import main; sys.exit(main())"
    options = ["--schedules", "1", "--writes", str(_WRITES), "--first-seed", str(SEEDS[flavour])]
    done = subprocess.run(
        [sys.executable, "-c", code, "chaos", *options, "--json", str(tmp_path / "figures")],
        env=environment(package),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "figures").exists(), done.stderr
    figures = json.loads((tmp_path / "figures").read_text("utf-8"))
    assert figures["lost"] > 0
    assert figures["with_async"] == (flavour == "tasks")
    assert "again: remanence chaos --seed" in done.stdout


def test_the_command_tells_one_schedule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What happened and when, what it came to, and the same for machines."""
    assert main(["chaos", "--seed", "120", "--writes", "300", "--json", str(tmp_path / "f")]) == 0
    out = capsys.readouterr().out
    assert "worker 0w1: started" in out
    assert "=> nothing was lost" in out
    figures = json.loads((tmp_path / "f").read_text("utf-8"))
    assert figures["schedules"] == 1
    assert figures["lost"] == figures["back"] == figures["unknown"] == 0
    assert f"{figures['acknowledged']:,}" in out
    assert f"1, {figures['with_async']} with async workers" in out
    assert re.search(rf"^calls cancelled +{figures['cancelled']:,}$", out, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments", [["--schedules", "0"], ["--writes", "1"], ["--at-once", "0"], ["--json", "/nowhere/at/all"]]
)
def test_bad_arguments_are_refused_first(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started."""
    assert main(["chaos", *arguments]) == 2
    assert capsys.readouterr().err.startswith("remanence chaos: ")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to see all processes")
def test_a_command_that_is_ended_leaves_nothing_behind() -> None:
    """Neither a server nor a worker, be it stopped."""
    mark = f"REMANENCE_TEST_{secrets.token_hex(8)}"
    with subprocess.Popen(
        [*(sys.executable, "-c", "import sys; from remanence.cli import main; sys.exit(main())"), "chaos"],
        env={**os.environ, mark: "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_until(lambda: len(of_ours(mark)) >= 4, "workers are writing", 20.0)
        process.terminate()
        complaints = process.communicate(timeout=40)[1]
    assert process.returncode == 130
    assert "interrupted" in complaints
    wait_until(lambda: not of_ours(mark), "everything has ended")


def test_totals_count_phases() -> None:
    """Whatever the action was."""
    total = Total()
    total.struck.update({"sent kill": 2, "sent stop": 1, "before sent kill": 4})
    assert total.phases == {"sent": 3, "before sent": 4}


def _flavour(plan: Plan) -> str:
    return "tasks" if all(plan.tasks) else "both on one journal" if plan.has_async else "threads"
