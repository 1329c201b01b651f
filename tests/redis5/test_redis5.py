"""The framework pins redis-py below 6: a short run with 5.3; `make test-redis5` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "redis5"


def test_the_stack_works_with_redis_py_5() -> None:
    """Both flavours, a kill and a freeze, replay, and an agent's turns, in a process that finds redis-py 5.3 first."""
    assert (FOLDER / "redis" / "__init__.py").is_file(), "no redis-py 5.3 in build/redis5: `make test` puts it there"
    (pinned,) = (
        line.partition("==")[2].split()[0]
        for line in (ROOT / "requirements" / "redis5.txt").read_text("utf-8").splitlines()
        if line.startswith("redis==")
    )
    assert pinned.startswith("5.3.")
    ended = subprocess.run(
        [sys.executable, Path(__file__).with_name("smoke.py"), pinned],
        env={**os.environ, "PYTHONPATH": str(FOLDER)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"redis-py {pinned}: both flavours work\n"
