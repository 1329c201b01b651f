"""All checks of a history in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Final

from remanence.lab.history.acknowledged import check_acknowledged
from remanence.lab.history.conversation import History
from remanence.lab.history.register import check_register
from remanence.lab.history.search import BUDGET
from remanence.lab.history.sessions import Scope, check_monotonic_reads, check_own_writes
from remanence.lab.history.values import check_values
from remanence.lab.history.verdict import Report, Verdict

__all__ = ["CHECKS", "check"]

CHECKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "values": "every value read had been written before",
        "own-writes": "a process reads its own acknowledged writes, or what came after them",
        "monotonic-reads": "the store's answers to one process never go back",
        "acknowledged": "no acknowledged write is lost; needs to know what was stored at the end",
        "linearizable": "all answers of the store fit one register; promised for a healthy store",
    }
)
"""The names of the checks, and what each says."""


def check(
    history: History,
    *,
    checks: Iterable[str] = CHECKS,
    scope: Scope = "process",
    overwrites: bool = True,
    budget: int = BUDGET,
) -> Report:
    """Check a history.

    Args:
        history: What happened, with the endings for "acknowledged".
        checks: Names out of `CHECKS`; all of them by default.
        scope: Of "own-writes" and "monotonic-reads": "process" or "session".
        overwrites: Of "acknowledged": whether a plain write on a healthy store may replace what it has not seen.
        budget: Of "linearizable": configurations that the search may try for one conversation.

    Raises:
        ValueError: A check of that name does not exist.
    """
    runs: dict[str, Callable[[History], Verdict]] = {
        "values": check_values,
        "own-writes": partial(check_own_writes, scope=scope),
        "monotonic-reads": partial(check_monotonic_reads, scope=scope),
        "acknowledged": partial(check_acknowledged, overwrites=overwrites),
        "linearizable": partial(check_register, budget=budget),
    }
    wanted = list(checks)
    unknown = [name for name in wanted if name not in runs]
    if unknown:
        message = f"no such check: {', '.join(unknown)}. There are {', '.join(runs)}."
        raise ValueError(message)
    verdicts = [_timed(runs[name], history) for name in wanted]
    return Report(len(history.operations), len(history.conversations), tuple(verdicts))


def _timed(run: Callable[[History], Verdict], history: History) -> Verdict:
    begin = time.perf_counter()
    verdict = run(history)
    return replace(verdict, seconds=time.perf_counter() - begin)
