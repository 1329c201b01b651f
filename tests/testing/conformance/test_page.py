"""docs/conformance.md says what the kit does: its tables are generated, and not out of date."""

from __future__ import annotations

import re
from pathlib import Path

from remanence import InMemoryManager
from remanence.testing.conformance import CAPABILITIES, REQUIREMENTS, Hooks, run
from remanence.testing.conformance.card import requirements_as_markdown
from tests.support import FakeClock

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "conformance.md").read_text("utf-8")


def part(name: str) -> str:
    """Return what stands between the markers."""
    return PAGE.split(f"<!-- {name}: begin -->\n")[1].split(f"\n<!-- {name}: end -->")[0]


def cards() -> dict[str, dict[str, str]]:
    """Return the report cards: for each manager the cell of each requirement."""
    lines = [line.strip("| ").split(" | ") for line in part("cards").split("\n\n")[0].splitlines()]
    names = lines[0]
    rows = [line for line in lines if line[0].startswith("RM-")]
    return {name: {row[0]: row[number] for row in rows} for number, name in enumerate(names, 1)}


def test_the_page_has_the_requirements_as_they_are() -> None:
    """Word by word; `docs/conformance_cards.py` writes them."""
    assert part("requirements") == requirements_as_markdown(REQUIREMENTS)


def test_every_card_has_every_requirement() -> None:
    """Each passed, failed or skipped; and none of ours has failed."""
    found = cards()
    assert len(found) == 8
    for name, card in found.items():
        assert list(card) == [requirement.id for requirement in REQUIREMENTS], name
        assert set(card.values()) <= {"passed", "**failed**", "\u2013"}
        if "framework" not in name:
            assert "**failed**" not in card.values(), name


def test_every_failure_is_explained() -> None:
    """In a row of its own, with what the kit says and why."""
    failed = {(name, number) for name, card in cards().items() for number, cell in card.items() if cell == "**failed**"}
    rows = re.findall(r"^\| (the framework's .+?) \| (RM-\d+) \| (.+?) \| (.+?) \|$", part("cards"), re.MULTILINE)
    assert {(name, number) for name, number, _, _ in rows} == failed
    assert all(why.endswith(".") for _, _, _, why in rows)


def test_the_card_of_the_manager_in_memory_is_made_as_it_is_today() -> None:
    """One column, run again."""
    clock = FakeClock()

    class InMemory(Hooks):
        capabilities = frozenset(set(CAPABILITIES) - {"faults"})

        def make_manager(self) -> InMemoryManager:
            return InMemoryManager(clock=clock)

        def make_manager_with_ttl(self, seconds: int) -> InMemoryManager:
            return InMemoryManager(ttl=seconds, clock=clock)

        def advance(self, seconds: float) -> None:
            clock.advance(seconds)

    made = {each.id: run(each, InMemory()).status.replace("skipped", "\u2013") for each in REQUIREMENTS}
    assert made == cards()["`InMemoryManager`"]


def test_the_page_names_every_capability() -> None:
    """With what it means for whoever declares it."""
    assert all(f"\n| `{name}` | " in PAGE for name in CAPABILITIES)
