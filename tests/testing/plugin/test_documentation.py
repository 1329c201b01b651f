"""The examples of docs/testing.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from remanence.lab import RedisServer

if TYPE_CHECKING:
    from tests.testing.plugin.conftest import Nested

pytest_plugins = ["pytester"]

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "testing.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_every_example_runs(nested: Nested) -> None:
    """Each block of Python on the page is a file of tests that passes, with warnings as errors."""
    for number, example in enumerate(EXAMPLES[1:]):
        nested.file(f"test_example_{number}", example)
    result = nested.run(EXAMPLES[0])
    assert result.parseoutcomes() == {"passed": len(EXAMPLES)}


def test_wider_scopes_work_on_a_server_of_ones_own(nested: Nested) -> None:
    """The example of data that stay is the same there, and leaves nothing behind."""
    (example,) = (text for text in EXAMPLES if "keep_data" in text)
    with RedisServer(durability="off") as server:
        result = nested.run(example, f"--remanence-redis-url={server.url}")
        assert server.command("DBSIZE") == 0
    assert result.parseoutcomes() == {"passed": 1}


@pytest.mark.parametrize("kind", ["fixture", "setting"])
def test_the_tables_are_complete(nested: Nested, kind: str) -> None:
    """The page names every fixture and every setting that pytest knows of."""
    shown = "\n".join(nested.run("", "--fixtures" if kind == "fixture" else "--help").outlines)
    pattern = (
        r"^(remanence_\w+)(?: \[\w+ scope\])? --"
        if kind == "fixture"
        else r"(--remanence-[\w-]+|\bremanence_\w+(?= \())"
    )
    known = set(re.findall(pattern, shown, re.MULTILINE))
    assert len(known) >= 5
    assert {name for name in known if f"`{name}" not in TEXT} == set()
