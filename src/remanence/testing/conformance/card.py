"""The report card: what became of each requirement, for a terminal, for a page and for machines."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Final, TextIO

from remanence.testing.conformance.requirement import CAPABILITIES, Requirement, Result

__all__ = ["as_markdown", "is_special", "print_card", "requirements_as_markdown", "summary", "write_json"]

_COLOURS: Final = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def print_card(results: Sequence[Result]) -> None:
    """Print the card: a table where somebody looks and rich is installed, plain lines elsewhere."""
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        _print_table(results)
    else:
        print("\n".join(_lines(results)))  # noqa: T201 - this is what it is for
    print(summary(results))  # noqa: T201


def summary(results: Iterable[Result]) -> str:
    """Return how many there are of each status, by tier."""
    counts = Counter((result.requirement.tier, result.status) for result in results)
    lines = []
    for tier in ("required", "optional"):
        passed, failed, skipped = (counts[tier, status] for status in ("passed", "failed", "skipped"))
        if passed + failed + skipped:
            lines.append(f"{tier}: {passed} passed, {failed} failed, {skipped} skipped")
    return "\n".join(lines)


def write_json(results: Iterable[Result], path: Path) -> None:
    """Write the card for machines, all of it or nothing: an earlier file is replaced at the end.

    A link is followed. What is no regular file (a pipe, a device) is never replaced, but written to.

    Raises:
        OSError: It cannot be written there.
    """
    text = json.dumps([result.as_json() for result in results], indent=2) + "\n"
    if is_special(path):
        _write_straight(text, path)
        return
    path = path.resolve()
    if path.exists() and not os.access(path.parent, os.W_OK):  # a file that may be written, where none can be made
        _write_straight(text, path)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # As a file has it that is made in the usual way; mkstemp's own is for its owner alone.
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def is_special(path: Path) -> bool:
    """Whether there is something other than a regular file, or what this process prints to."""
    return path.exists() and (not path.is_file() or _stream(path) is not None)


def _write_straight(text: str, path: Path) -> None:
    stream = _stream(path)
    if stream is not None:  # opened a second time, /dev/stdout would write over what was printed
        stream.write(text)
        stream.flush()
        return
    with path.open("w", encoding="utf-8") as file:
        file.write(text)


def _stream(path: Path) -> TextIO | None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # one that is closed, or none of the system's
            if os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                return stream
    return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _group(requirement: Requirement) -> str:
    return f"optional: {requirement.capabilities[0]}" if requirement.capabilities else "required"


def _explained(result: Result, results: Sequence[Result]) -> str:
    """Return the reason, with the failures on which this one rests: those should be mended first."""
    failed = {each.requirement.id for each in results if each.status == "failed"}
    roots = [need for need in result.requirement.needs if need in failed]
    rests = f" (rests on {', '.join(roots)}, not met)" if roots and result.status == "failed" else ""
    return f"{result.reason or ''}{rests}"


def _grouped(results: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    """Give the groups with their results; a group that was skipped as a whole, for one reason, is told in its name."""
    for name, members in groupby(results, lambda result: _group(result.requirement)):
        group = list(members)
        reasons = {result.reason for result in group if result.status == "skipped"}
        if all(result.status == "skipped" for result in group) and _undeclared(group[0]) in reasons:
            numbers = f"{group[0].requirement.id} to {group[-1].requirement.id}"
            yield f"{name}: {len(group)} skipped, {numbers}: not declared", []
        else:
            yield name, group


def _undeclared(result: Result) -> str:
    return f"not declared: {result.requirement.capabilities[0]}" if result.requirement.capabilities else ""


def _lines(results: Sequence[Result]) -> list[str]:
    lines: list[str] = []
    for name, group in _grouped(results):
        lines += [*([""] if lines else []), name]
        for result in group:
            lines.append(f"  {result.requirement.id}  {result.status:<7}  {result.requirement.title}")
            if result.status != "passed":
                lines.append(f"{'':19}{_explained(result, results)}")
    return [*lines, ""]


def _print_table(results: Sequence[Result]) -> None:
    from rich.console import Console  # noqa: PLC0415 - extra
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("id", "status", "requirement", "reason", expand=True)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for name, group in _grouped(results):
        table.add_section()
        table.add_row("", "", Text(name, style="bold"), "")
        for result in group:
            status = Text(result.status, style=_COLOURS[result.status])
            # As Text: a reason is not markup.
            title, reason = Text(result.requirement.title), Text(_explained(result, results))
            table.add_row(result.requirement.id, status, title, reason)
    Console().print(table)


def as_markdown(cards: Mapping[str, Sequence[Result]]) -> str:
    """Return a table for a page: a column for each of `cards`, a row for each requirement."""
    marks = {"passed": "passed", "failed": "**failed**", "skipped": "\u2013"}
    rows = [f"| | {' | '.join(cards)} |", f"|---|{'---|' * len(cards)}"]
    rows += [
        f"| {row[0].requirement.id} | {' | '.join(marks[result.status] for result in row)} |"
        for row in zip(*cards.values(), strict=True)
    ]
    for tier in ("required", "optional"):
        totals = [
            Counter(result.status for result in results if result.requirement.tier == tier)
            for results in cards.values()
        ]
        cells = [f"{each['passed']} passed, {each['failed']} failed, {each['skipped']} skipped" for each in totals]
        rows.append(f"| **{tier}** | {' | '.join(cells)} |")
    return "\n".join(rows)


def requirements_as_markdown(requirements: Iterable[Requirement]) -> str:
    """Return the requirements for a page, a table for each group."""
    parts = []
    for group, members in groupby(requirements, _group):
        capability = group.removeprefix("optional: ")
        head = "### Required" if capability == group else f"### `{capability}`: {CAPABILITIES[capability]}"
        rows = [f"| {each.id} | {each.title}{_also(each)} | {each.why} |" for each in members]
        parts.append("\n".join([head, "", "| id | requirement | why |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def _also(requirement: Requirement) -> str:
    also = requirement.capabilities[1:]
    return f" (with `{'`, `'.join(also)}`)" if also else ""
