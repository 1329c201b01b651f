"""What is shipped, and what the environments are made of."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def pins(lock: Path) -> list[Requirement]:
    """Read the requirements of a lock."""
    lines = (line.partition("#")[0].strip() for line in lock.read_text("utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def test_the_wheel_holds_the_package_its_types_and_its_command(tmp_path: Path) -> None:
    """A wheel built from the tree is typed, licensed, has command and pytest plugin, and holds nothing beside them."""
    build = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*build, "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)], check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"remanence-{PROJECT['version']}.dist-info"
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    source = ROOT / "src" / "remanence"
    shipped = {f"remanence/{path.relative_to(source).as_posix()}" for path in source.rglob("*.py")}
    assert shipped | {"remanence/py.typed", f"{info}/licenses/LICENSE"} <= names
    assert {name.partition("/")[0] for name in names} == {"pytest_remanence.py", "remanence", info}
    assert "[console_scripts]\nremanence = remanence.cli:main" in entry_points
    assert "[pytest11]\nremanence = pytest_remanence" in entry_points


def test_the_changelog_knows_the_version() -> None:
    """The version that is shipped has an entry for its users."""
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_there_are_three_locks() -> None:
    """The development environment, the benchmark's, and the oldest redis-py that is tested are pinned."""
    assert [lock.name for lock in LOCKS] == ["bench.txt", "dev.txt", "redis5.txt"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_everything_and_names_no_place_to_get_it(lock: Path) -> None:
    """Each line of a lock is one exact version, from whichever index the machine is set up for."""
    assert not re.search(r"https?:|--(extra-)?index|--find-links|\bfile:", lock.read_text("utf-8"))
    for pin in pins(lock):
        assert [specifier.operator for specifier in pin.specifier] == ["=="], str(pin)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_keeps_within_the_ranges_that_users_are_promised(lock: Path) -> None:
    """The versions tested are versions that the package's own requirements allow."""
    pinned = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins(lock)}
    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        if lock.name == "redis5.txt" and requirement.name != "redis":
            continue  # the rest is the development environment's
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text
