"""Running pytest inside a test, with our plugin and as strict as our own tests are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SETTINGS = ("REMANENCE_TEST_REDIS_URL", "REMANENCE_TEST_REQUIRE_REDIS", "REMANENCE_REDIS_SERVER", "PYTEST_ADDOPTS")
INI = "[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider\nfilterwarnings = error\n"


class Nested:
    """Runs pytest on test files of a folder of their own; only the plugins that are named are loaded."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        self.ini("")

    @property
    def path(self) -> Path:
        """The folder."""
        return self._pytester.path

    def ini(self, lines: str) -> None:
        """Write the ini file, with further lines."""
        (self.path / "pytest.ini").write_text(INI + lines, "utf-8")

    def file(self, name: str, text: str) -> None:
        """Write a file."""
        self._pytester.makepyfile(**{name: text})

    def run(self, text: str, *arguments: str) -> pytest.RunResult:
        """Run the tests of this text in this process."""
        self.file("test_nested", text)
        return self._pytester.runpytest_inprocess("-p", "pytest_remanence", *arguments)

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs the tests in a process of their own."""
        return [sys.executable, "-m", "pytest", "-p", "pytest_remanence", *arguments]

    def run_process(self, text: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the tests of this text in a process of their own."""
        self.file("test_nested", text)
        return subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def nested(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Nested:
    """Pytest inside pytest."""
    for name in _SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return Nested(pytester)
