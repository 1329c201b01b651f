"""The import rule: which part of the package may import which, and who may import other packages.

The rule is kept on what the source says, wherever it says it: at the top, inside a function, relative, or under
``TYPE_CHECKING``. A type-only import of another part is held to the same order, as it ties the two together all the
same; a type-only import of another *package* is allowed, as it costs nothing and needs nothing when the code runs.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).resolve().parents[1] / "src" / "remanence"

# A part may import its own level and those below it. A part is a module or a package directly under `remanence`.
LEVELS = (
    {"background", "classify", "clock", "errors", "events", "forked", "interface", "results", "settings"},
    {"flow", "operations", "record"},
    {"journal", "managers", "policies", "telemetry"},
    {"decorated", "stack"},
    {"__main__", "cli", "integrations", "lab", "testing"},
)
RANK = {part: rank for rank, parts in enumerate(LEVELS) for part in parts}
TOP = len(LEVELS) - 1

# Within their level these stand apart.
APART = {
    "journal": {"managers", "policies", "telemetry"},
    "managers": {"journal", "policies", "telemetry"},
    "telemetry": {"journal", "managers", "policies"},
    "policies": {"managers"},
}

# Other packages, and the modules of the library proper (the top level may import what it tests) that may import them.
CONFINED: dict[str, tuple[str, ...]] = {
    "opentelemetry": ("policies.telemetry", "telemetry"),
    "redis": ("managers",),
    "tenacity": ("policies.retry",),
}
# Never outside these, whatever the level: the lab must work without a test runner.
TEST_PACKAGES: dict[str, tuple[str, ...]] = {"hypothesis": ("testing",), "pytest": ("testing",)}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module: by whom, on which line, and whether only for types."""

    module: str
    target: str
    line: int
    typing_only: bool


def violations(root: Path) -> list[str]:
    """List what breaks the rule in the package at `root`, one sentence each."""
    modules = {_module_name(root, path): path for path in sorted(root.rglob("*.py"))}
    found = []
    for module, path in modules.items():
        part = module.partition(".")[0]
        if part and part not in RANK:
            found.append(f"{module}: `{part}` has no level; give it one in LEVELS of {Path(__file__).name}.")
            continue
        found += [
            f"{module}, line {imported.line}: {why}"
            for imported in _imports(module, path, modules)
            for why in [_reason_against(part, imported)]
            if why
        ]
    return found


def _reason_against(part: str, imported: Import) -> str | None:
    package, _, target = imported.target.partition(":")
    if package != "remanence":
        return None if imported.typing_only else _reason_against_package(part, imported.module, package)
    other = target.partition(".")[0]
    if not part or other == part or (other and other not in RANK):
        return None  # the package's own face imports from everywhere; a part without a level is reported once
    if not other:
        return None if RANK[part] == TOP else "imports the package itself, which imports this module."
    if RANK[other] > RANK[part]:
        return f"`{part}` is below `{other}` and may not import it."
    if other in APART.get(part, ()):
        return f"`{part}` and `{other}` stand side by side; `{part}` may not import it."
    return None


def _reason_against_package(part: str, module: str, package: str) -> str | None:
    allowed = TEST_PACKAGES.get(package)
    if allowed is None and (not part or RANK[part] < TOP):
        allowed = CONFINED.get(package)
    if allowed is None or any(module == name or module.startswith(f"{name}.") for name in allowed):
        return None
    return f"`{package}` may be imported only by {' and '.join(f'`{name}`' for name in allowed)}."


def _imports(module: str, path: Path, modules: dict[str, Path]) -> Iterator[Import]:
    tree = ast.parse(path.read_text("utf-8"), str(path))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = _from_names(module, node, is_package=path.name == "__init__.py", modules=modules)
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            target = f"remanence:{rest}" if package == "remanence" else f"{package}:"
            yield Import(module, target, node.lineno, id(node) in typing_only)


def _from_names(module: str, node: ast.ImportFrom, *, is_package: bool, modules: dict[str, Path]) -> list[str]:
    base = node.module or ""
    if node.level:
        parents = ["remanence", *(module.split(".") if module else [])]
        keep = len(parents) - node.level + (1 if is_package else 0)
        base = ".".join([*parents[:keep], *([base] if base else [])])
    if base != "remanence":
        return [base]
    # `from remanence import x`: a part where there is one of that name, else a public name of the package itself.
    known = {name.partition(".")[0] for name in modules} | RANK.keys()
    return [f"remanence.{alias.name}" if alias.name in known else "remanence" for alias in node.names]


def _module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_follow_the_order() -> None:
    """Every import of the package follows the rule of ARCHITECTURE.md."""
    assert violations(SOURCE) == []


@pytest.mark.parametrize(
    ("path", "line", "why"),
    [
        ("record.py", "from remanence.policies.retry import Retry", "`record` is below `policies`"),
        ("record.py", "def f():\n    from .policies import retry", "`record` is below `policies`"),
        ("errors.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .flow import Call", "is below"),
        ("stack.py", "import remanence.lab.audit", "`stack` is below `lab`"),
        ("flow.py", "from . import stack", "`flow` is below `stack`"),
        ("flow.py", "from remanence import wrap", "imports the package itself"),
        ("managers/urls.py", "from ..policies import retry", "stand side by side"),
        ("managers/__init__.py", "from ..journal.memory import MemoryJournal", "stand side by side"),
        ("journal/replay.py", "from remanence.managers import redis", "stand side by side"),
        ("policies/breaker.py", "from remanence.managers.in_memory import X", "stand side by side"),
        ("classify.py", "from redis.exceptions import ConnectionError", "`redis` may be imported only by"),
        ("__init__.py", "import redis", "`redis` may be imported only by"),
        ("policies/fallback.py", "import tenacity.stop", "`tenacity` may be imported only by"),
        ("policies/retry.py", "from opentelemetry import trace", "`opentelemetry` may be imported only by"),
        ("lab/scenario.py", "import pytest", "`pytest` may be imported only by"),
        ("novelty.py", "", "`novelty` has no level"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, path: str, line: str, why: str) -> None:
    """The check finds each kind of forbidden import, wherever it is written."""
    _plant(tmp_path, path, line)
    found = violations(tmp_path)
    assert len(found) == 1, found
    assert why in found[0]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("__init__.py", "from .policies.retry import Retry\nfrom .stack import wrap"),
        ("policies/fallback.py", "from ..journal.memory import MemoryJournal\nfrom . import deadline"),
        ("policies/telemetry.py", "from opentelemetry import trace\nfrom remanence.telemetry import names"),
        ("policies/retry.py", "import tenacity"),
        ("managers/redis.py", "import redis.asyncio\nfrom remanence.record import encode"),
        ("record.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from redis import Redis"),
        (
            "testing/plugin.py",
            "import pytest, redis\nfrom remanence import wrap\nfrom remanence.lab import RedisServer",
        ),
    ],
)
def test_what_the_rule_allows_is_not_reported(tmp_path: Path, path: str, line: str) -> None:
    """The check reports nothing that the rule allows."""
    _plant(tmp_path, path, line)
    assert violations(tmp_path) == []


def test_importing_the_package_stays_light() -> None:
    """``import remanence`` loads no client, no test tool and no telemetry SDK: a user pays for what is used."""
    program = "import sys, remanence; print(*sorted(sys.modules), sep='\\n')"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(run.stdout.split())
    assert "remanence" in loaded
    assert loaded.isdisjoint({"hypothesis", "opentelemetry.sdk", "pytest", "redis", "remanence.lab"})


def _plant(root: Path, path: str, text: str) -> None:
    module = root / path
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(text + "\n", "utf-8")
