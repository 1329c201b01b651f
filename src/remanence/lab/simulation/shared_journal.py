"""A journal that several simulated processes share and that outlives them, as the one on disk: by the same rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from remanence.errors import ManagerClosedError
from remanence.journal.entry import Entry
from remanence.journal.memory import MemoryJournal

__all__ = ["SharedJournal"]


class SharedJournal:
    """One process's access to the journal of its host.

    Args:
        host: What the processes of the host have written.
        writer: The process's name.
        waits: Whether its steps take as long as a disk's do: others may come in between.

    Attributes:
        leased: Epoch of the lease that this process has not given back yet, None for none.
    """

    is_shared = True

    def __init__(self, host: MemoryJournal, writer: str, *, waits: bool = False) -> None:
        self.waits = waits
        self.leased: int | None = None
        self._host = host
        self._sealed = False
        self.writer = writer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def __len__(self) -> int:
        return len(self._host)

    def record(
        self, key: str, build: Callable[[Entry | None], Entry | None], was_seen: Callable[[Entry], bool] | None = None
    ) -> Entry | None:
        """As the host's, while this process is not closed."""
        if self._sealed:
            raise ManagerClosedError
        return self._host.record(key, build, was_seen)

    def supersede(self, key: str, again: Callable[[], Entry], now: float) -> None:
        """As the host's, for this process's entries."""
        self._host.writer = self.writer
        self._host.supersede(key, again, now)

    def lease(self, now: float, seconds: float) -> int | None:
        """As the host's."""
        epoch = self._host.lease(now, seconds)
        self.leased = self.leased if epoch is None else epoch
        return epoch

    def release(self, epoch: int) -> None:
        """As the host's."""
        self._host.release(epoch)
        if epoch == self.leased:
            self.leased = None

    def seal(self) -> None:
        """Accept nothing more from this process."""
        self._sealed = True
