"""The texts of simulated records: words, of which the last tells whose it is."""

from __future__ import annotations

from typing import Final

__all__ = ["text_of", "word_of"]

_TEXT: Final = 5
"""Which of a record's parts between quotes the text is."""


def text_of(raw: bytes | None) -> str:
    """Return the text of a record; the simulation's texts need no escaping."""
    if raw is None:
        return ""
    parts = raw.split(b'"', 6)
    return parts[_TEXT].decode() if len(parts) > _TEXT else ""


def word_of(raw: bytes | None) -> str:
    """Return the word of the operation whose value a record is, "" for none."""
    return text_of(raw).rpartition(" ")[2]
