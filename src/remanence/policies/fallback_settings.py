"""The settings of a Fallback, checked by it and read by its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from remanence.journal.replay import Resolve

__all__ = ["FallbackSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackSettings:
    """See `fallback.Fallback` for each."""

    max_entries: int
    max_bytes: int
    max_copies: int
    max_copy_bytes: int
    max_stale: float
    on_unknown: Literal["none", "raise"]
    resolve: Resolve | None
    keep_conflicts: bool
    conflict_ttl: float
    max_clock_skew: float
    close_timeout: float
