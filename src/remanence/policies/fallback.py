"""Fallback: answer from here while the store is away, and bring every acknowledged write home afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar, Literal

from remanence.errors import ConfigurationError
from remanence.flow import Call, Flow
from remanence.journal import Journal
from remanence.journal.memory import MemoryJournal
from remanence.journal.replay import Resolve
from remanence.policies.base import Context, Decorator
from remanence.policies.fallback_calls import FallbackCalls
from remanence.policies.fallback_settings import FallbackSettings
from remanence.settings import positive

__all__ = ["Fallback"]


class Fallback(Decorator):
    """Keeps writes in a journal and serves last-known copies while the store is away; replays when it is back.

    A write that was made without seeing what the store holds never replaces it: what loses by the rules of
    `journal.replay` is kept as a conflict copy.

    Args:
        journal: "memory": acknowledged writes live as long as this process. Or the path of a file on a local disk,
            which all processes of a host share and which outlives them; its directory must exist.
        max_entries: Pending writes to hold; beyond it a write raises JournalFullError.
        max_bytes: Bytes of their records to hold.
        max_copies: Last-known copies to hold, the one used longest ago goes first.
        max_copy_bytes: Bytes of their records to hold.
        max_stale: Seconds for which a copy is served whose remaining life the store did not tell; never beyond its TTL.
        on_unknown: A read that nobody can answer gives an empty answer with source "none", or raises
            MemoryUnavailableError.
        resolve: Merges the store's text and ours when both changed; None chooses one and keeps the other as a copy.
        keep_conflicts: Whether losing values are kept in the store at all; without, they are gone.
        conflict_ttl: Seconds that they are kept.
        max_clock_skew: Seconds by which two hosts' clocks may differ; within it, stamps decide nothing.
        close_timeout: Seconds that close(), or the end of the interpreter, waits for pending writes.

    Raises:
        ConfigurationError: A setting out of range.
    """

    place: ClassVar[int] = 20

    def __init__(
        self,
        *,
        journal: str | os.PathLike[str] = "memory",
        max_entries: int = 100_000,
        max_bytes: int = 256 * 1024 * 1024,
        max_copies: int = 10_000,
        max_copy_bytes: int = 64 * 1024 * 1024,
        max_stale: float = 3600.0,
        on_unknown: Literal["none", "raise"] = "none",
        resolve: Resolve | None = None,
        keep_conflicts: bool = True,
        conflict_ttl: float = 7 * 24 * 3600.0,
        max_clock_skew: float = 5.0,
        close_timeout: float = 2.0,
    ) -> None:
        if not os.fspath(journal):
            message = "journal must be 'memory' or the path of a file."
            raise ConfigurationError(message)
        self.journal = journal
        if on_unknown not in {"none", "raise"}:
            message = "on_unknown must be 'none' (an empty answer that says so) or 'raise'."
            raise ConfigurationError(message)
        if resolve is not None and not callable(resolve):
            message = "resolve must be a function of the store's text and ours that gives the merged text."
            raise ConfigurationError(message)
        self.settings = FallbackSettings(
            max_entries=positive("max_entries", max_entries),
            max_bytes=positive("max_bytes", max_bytes),
            max_copies=positive("max_copies", max_copies),
            max_copy_bytes=positive("max_copy_bytes", max_copy_bytes),
            max_stale=positive("max_stale", max_stale),
            on_unknown=on_unknown,
            resolve=resolve,
            keep_conflicts=keep_conflicts,
            conflict_ttl=positive("conflict_ttl", conflict_ttl),
            max_clock_skew=positive("max_clock_skew", max_clock_skew),
            close_timeout=positive("close_timeout", close_timeout),
        )

    def bind(self, context: Context) -> Callable[[Call], Flow]:
        """Return the flow around every call of one manager, with a journal of its own."""
        return self.attach(context).flow

    def attach(self, context: Context) -> FallbackCalls:
        """Return what answers one manager's calls, with a journal of its own.

        Raises:
            JournalUnavailableError: The file cannot be used, with the reason.
        """
        return FallbackCalls(self.settings, context, self._open(context))

    def _open(self, context: Context) -> Journal:
        most, most_bytes = self.settings.max_entries, self.settings.max_bytes
        if self.journal == "memory":
            return MemoryJournal(max_entries=most, max_bytes=most_bytes)
        # Only here: SQLite takes a while to load.
        from remanence.journal.disk import DiskJournal  # noqa: PLC0415

        return DiskJournal(self.journal, store=context.store, max_entries=most, max_bytes=most_bytes)
