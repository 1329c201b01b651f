"""Write the generated parts of docs/conformance.md: the requirements, and the report cards of real managers.

    .venv-bench/bin/python docs/conformance_cards.py

It takes about two minutes. The framework's managers are there where the extra `arshai` is installed, as in the
benchmark's environment (`make bench` creates it); without it nothing is written.
"""

# ruff: noqa: INP001, T201 - a program of its own, which prints

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from remanence import (
    AsyncInMemoryManager,
    AsyncRedisWorkingMemoryManager,
    InMemoryManager,
    RedisWorkingMemoryManager,
    resilient,
)
from remanence.lab import RedisServer
from remanence.testing.conformance import CAPABILITIES, REQUIREMENTS, Result, run
from remanence.testing.conformance.card import as_markdown, requirements_as_markdown
from remanence.testing.conformance.factory import FactoryHooks

PAGE: Final = Path(__file__).with_name("conformance.md")
RACE_TRIES: Final = 5

ALL: Final = tuple(CAPABILITIES)
NO_STORE: Final = tuple(name for name in CAPABILITIES if name != "faults")
IN_MEMORY: Final = "the framework's `InMemoryManager`"
ON_REDIS: Final = "the framework's `RedisWorkingMemoryManager`"

EXPLAINED: Final = {
    (IN_MEMORY, "RM-101"): "`store` and `retrieve` walk through all entries to drop expired ones. Where another thread "
    "stores or deletes meanwhile, Python ends that walk with a RuntimeError.",
    (IN_MEMORY, "RM-103"): "`update` looks an entry up and puts it back in two steps. A deletion between them is "
    "undone.",
    (IN_MEMORY, "RM-202"): "The time is counted from `created_at`, which an update does not change. The framework's "
    "manager on Redis does renew it.",
    (IN_MEMORY, "RM-701"): "It reads attributes of its input; a dict has none, so it raises AttributeError.",
    (IN_MEMORY, "RM-702"): "It takes no dicts at all: see RM-701.",
    (ON_REDIS, "RM-103"): "`update` is a GET and then a SETEX. A DEL between them is undone.",
    (ON_REDIS, "RM-701"): "It reads attributes of its input; a dict has none, so it raises AttributeError.",
    (ON_REDIS, "RM-702"): "It takes no dicts at all: see RM-701.",
}
"""What is behind each failure, read from the manager's source."""


@dataclass(frozen=True, slots=True)
class Column:
    """A manager of the page.

    Attributes:
        name: As the page has it.
        factory: Makes one.
        capabilities: Declared for it.
        on_redis: Whether it is given a server's URL.
    """

    name: str
    factory: Callable[..., Any]
    capabilities: tuple[str, ...]
    on_redis: bool = False


class ClosingHooks(FactoryHooks):
    """Close what is inside a policy too: whoever made it closes it, and that is the factory."""

    def close_manager(self, manager: Any) -> Any:
        """Close both."""
        if not self.asynchronous:
            super().close_manager(manager)
            return super().close_manager(getattr(manager, "inner", None))
        return self._close_both(manager)

    async def _close_both(self, manager: Any) -> None:
        await super().close_manager(manager)
        if hasattr(manager, "inner"):
            await manager.inner.aclose()


def protected(url: str, *, ttl: float | None = 60) -> Any:
    """Return the recommended stack."""
    return resilient(RedisWorkingMemoryManager(url, ttl=ttl))


def protected_async(url: str, *, ttl: float | None = 60) -> Any:
    """Return the recommended stack, for asyncio."""
    return resilient(AsyncRedisWorkingMemoryManager(url, ttl=ttl))


def columns() -> list[Column]:
    """Return the managers of the page.

    Raises:
        ModuleNotFoundError: The framework is not installed.
    """
    handlers = logging.getLogger().handlers[:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its models use settings that pydantic no longer knows
        from arshai.memory import working_memory as framework  # noqa: PLC0415 - an extra
    logging.getLogger().handlers[:] = handlers  # the framework replaces them
    return [
        Column("`InMemoryManager`", InMemoryManager, NO_STORE),
        Column("`AsyncInMemoryManager`", AsyncInMemoryManager, NO_STORE),
        Column("`RedisWorkingMemoryManager`", RedisWorkingMemoryManager, ALL, on_redis=True),
        Column("`AsyncRedisWorkingMemoryManager`", AsyncRedisWorkingMemoryManager, ALL, on_redis=True),
        Column("`resilient(Redis…)`", protected, ALL, on_redis=True),
        Column("`resilient(AsyncRedis…)`", protected_async, ALL, on_redis=True),
        Column(IN_MEMORY, framework.InMemoryManager, ("concurrency", "ttl", "dicts")),
        Column(ON_REDIS, framework.RedisWorkingMemoryManager, ("concurrency", "ttl", "dicts", "faults"), on_redis=True),
    ]


def card(column: Column, url: str) -> list[Result]:
    """Return what becomes of each requirement; a race is run a few times, and one that is lost once counts."""
    results = []
    with ClosingHooks(column.factory, url=url if column.on_redis else None, capabilities=column.capabilities) as hooks:
        hooks.probe()
        for requirement in REQUIREMENTS:
            tries = RACE_TRIES if "concurrency" in requirement.capabilities else 1
            tried = [run(requirement, hooks) for _ in range(tries)]
            results.append(next((each for each in tried if each.status == "failed"), tried[-1]))
    return results


def explanations(cards: dict[str, Sequence[Result]]) -> str:
    """Return a row for each failure.

    Raises:
        SystemExit: A failure has no explanation, or an explanation no failure.
    """
    failed = {(name, r.requirement.id): r for name, results in cards.items() for r in results if r.status == "failed"}
    if failed.keys() != EXPLAINED.keys():
        for name, number in sorted(failed.keys() ^ EXPLAINED.keys()):
            print(f"{name}: {number}: {failed.get((name, number), 'explained, but it did not fail')}", file=sys.stderr)
        sys.exit("Nothing was written: failures and EXPLAINED do not agree.")
    rows = ["| manager | requirement | what the kit says | why |", "|---|---|---|---|"]
    rows += [
        f"| {name} | {number} | {result.reason} | {EXPLAINED[name, number]} |"
        for (name, number), result in failed.items()
    ]
    return "\n".join(rows)


def replaced(page: str, part: str, text: str) -> str:
    """Return the page with another text between the markers of a part."""
    begin, end = f"<!-- {part}: begin -->\n", f"\n<!-- {part}: end -->"
    before, rest = page.split(begin)
    return f"{before}{begin}{text}{end}{rest.split(end)[1]}"


def main() -> None:
    """Write the page."""
    logging.disable(logging.CRITICAL)  # what is tested fails on purpose
    cards: dict[str, Sequence[Result]] = {}
    with RedisServer() as server:
        for column in columns():
            cards[column.name] = card(column, server.url)
            print(column.name, flush=True)
    versions = ", ".join(f"{name} {version(name)}" for name in ("arshai", "redis"))
    made = f"{as_markdown(cards)}\n\nEach failure, and what is behind it ({versions}):\n\n{explanations(cards)}"
    page = replaced(PAGE.read_text("utf-8"), "requirements", requirements_as_markdown(REQUIREMENTS))
    PAGE.write_text(replaced(page, "cards", made), "utf-8")


if __name__ == "__main__":
    main()
