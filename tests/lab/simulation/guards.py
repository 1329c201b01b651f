"""Removes a guard from a copy of the source, and runs what should notice.

`python -m tests.lab.simulation.guards` writes the table into docs/correctness.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.lab.simulation.guard_table import GUARDS, Guard

__all__ = ["DOCUMENT", "GUARDS", "ROOT", "Guard", "copy_source", "remove", "run_tests", "searched", "table"]

ROOT: Final = Path(__file__).resolve().parents[3]
DOCUMENT: Final = ROOT / "docs" / "correctness.md"
BEGIN, END = "<!-- guards -->", "<!-- /guards -->"
_SECONDS: Final = 120.0
"""Far more than a search or a test takes, for a machine that is busy."""


_MEANS: Final = {
    "P1": "P1: an acknowledged write is displaced or lost",
    "P2": "P2: something is displaced unseen",
    "P4": "P4: two probes at a time",
    "P5": "P5: an answer is not true, or a conflict copy is kept where nobody else has written",
    "cancel": "what was cancelled goes on, does not say so, or keeps a permit or the lease",
    "crash": "an error of the manager's own reaches the caller",
}


def table() -> str:
    """Return the table of the documentation."""
    rows = [
        guard.row if not guard.is_searched else guard.row.replace(f"| {guard.breaks} |", f"| {_MEANS[guard.breaks]} |")
        for guard in GUARDS
    ]
    return "\n".join(["| guard | removed by | caught by | what breaks |", "|---|---|---|---|", *rows])


def copy_source(into: Path) -> Path:
    """Copy the package into a folder; return the copy. What was compiled comes along, so that it starts as fast."""
    package = into / "remanence"
    shutil.copytree(ROOT / "src" / "remanence", package)
    return package


def remove(guard: Guard, package: Path) -> None:
    """Remove a guard from a copy of the package."""
    path = package / guard.file
    source = path.read_text("utf-8")
    count = source.count(guard.old)
    assert count == 1, f"{guard.name}: its source occurs {count} times in {guard.file}"
    path.write_text(source.replace(guard.old, guard.new), "utf-8")


def environment(package: Path) -> dict[str, str]:
    """Return the environment in which a child runs that copy: without coverage, which would look for its source."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "PYTEST_"))}
    return kept | {"PYTHONPATH": str(package.parent)}


def searched(name: str, package: Path) -> str:
    """Explore a directed scenario with a copy of the package; return what is broken, "" for nothing."""
    command = [sys.executable, "-m", "tests.lab.simulation.directed", name]
    output = _run(command, package)
    assert output.returncode == 0, output.stderr
    said: dict[str, str] = json.loads(output.stdout)
    assert Path(said["package"]).parent == package, "another package was simulated"
    return said["found"]


def run_tests(nodes: list[str], package: Path) -> subprocess.CompletedProcess[str]:
    """Run tests with a copy of the package."""
    options = ["-q", "-x", "--tb=line", "-p", "no:cacheprovider"]
    return _run([sys.executable, "-m", "pytest", *options, *nodes], package)


def _run(command: list[str], package: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment(package),
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )


def _write() -> None:
    before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    _write()
