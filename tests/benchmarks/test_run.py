"""The command as people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks.__main__ as command
from benchmarks.estimate import exact
from benchmarks.figure import Figure
from benchmarks.rows import ROWS
from benchmarks.setting import NEEDS_FRAMEWORK, Row, Setting
from remanence.lab import ServerNotFoundError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_quick_run_measures_every_row(tmp_path: Path) -> None:
    """Every row yields figures; only what needs the framework may be missing where that is not installed."""
    target = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--seed", "3", "--json", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(target.read_text("utf-8"))
    assert result["seed"] == 3
    assert result["machine"]["cores"] >= 1
    assert result["versions"]["redis"]
    assert {figure["row"] for figure in result["figures"]} == {row.name for row in ROWS}
    for figure in result["figures"]:
        assert figure["what"] in done.stdout
        if figure["value"] is None:
            assert NEEDS_FRAMEWORK in figure["note"] or "had not returned" in figure["note"]
        else:
            assert figure["value"]["low"] <= figure["value"]["median"] <= figure["value"]["high"]
    assert "these figures mean nothing" in done.stdout


def test_rows_can_be_chosen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`--row` runs the named rows alone."""
    monkeypatch.setattr(command, "ROWS", (_row("one"), _row("two"), _row("three")))
    assert command.main(["--row", "two", "--row", "three"]) == 0
    shown = capsys.readouterr().out
    assert "figure of two" in shown
    assert "figure of three" in shown
    assert "figure of one" not in shown


def test_an_interrupted_run_shows_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends with status 130, the figures so far in table and JSON, and no server left."""
    servers: list[int] = []

    def interrupted(setting: Setting) -> list[Figure]:
        servers.append(setting.server.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "ROWS", (_row("one"), Row("two", "interrupted", interrupted)))
    target = tmp_path / "result.json"
    assert command.main(["--json", str(target)]) == 130
    assert "figure of one" in capsys.readouterr().out
    assert [figure["row"] for figure in json.loads(target.read_text("utf-8"))["figures"]] == ["one"]
    with pytest.raises(ProcessLookupError):
        os.kill(servers[0], 0)


def test_without_a_server_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server on the machine is status 2 and a message, not a traceback."""

    def missing(**_: object) -> None:
        raise ServerNotFoundError("There is none: install redis-server.")

    monkeypatch.setattr(command, "RedisServer", missing)
    assert command.main([]) == 2
    assert "install" in capsys.readouterr().err


def _row(name: str) -> Row:
    return Row(name, "for tests", lambda _: [Figure(name, f"figure of {name}", "x", exact(1.0))])
