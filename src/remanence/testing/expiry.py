"""Making keys older than they are: what would expire later expires now, or so much earlier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["bring_forward", "scan"]

_PAGE = 1_000

Command = Callable[..., Any]


def scan(command: Command, pattern: str = "*") -> Iterator[str]:
    """Yield the keys of the database, each once: SCAN itself may tell a key twice."""
    cursor, seen = "0", set[str]()
    while True:
        cursor, page = command("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE)
        yield from (key for key in page if key not in seen)
        seen.update(page)
        if str(cursor) == "0":
            return


def bring_forward(command: Command, keys: Iterable[str], seconds: float) -> None:
    """Let the keys that expire do so `seconds` earlier, at once where that is past; the others stay.

    Needs Redis 7 or any Valkey (PEXPIRETIME).
    """
    milliseconds = round(seconds * 1000)
    # Listed first: a page of SCAN must not be told of keys that have been moved already.
    for key in list(keys):
        expires = int(command("PEXPIRETIME", key))
        if expires >= 0:
            command("PEXPIREAT", key, expires - milliseconds)
