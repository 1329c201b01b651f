"""What this process knows of the store: last-known copies, unanswered reads, attempts that may still be applied.

Pure memory, thread-safe, bounded. A *mark* on a key says that a read of it was degraded: until the key has been read
from the store, a write to it must not replace what the store holds unseen.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from remanence.journal.entry import BLIND, Identity
from remanence.record import ABSENT, version_of

__all__ = ["Copy", "Knowledge", "View"]

_MAX_MARKS: Final = 100_000
_MAX_RIVALS: Final = 8
_SETTLED: Final = (0.0, ())

_Unsettled = tuple[float, tuple[str, ...]]


class Copy:
    """What the store was last known to hold for a key.

    Attributes:
        raw: The record, None for nothing.
        learned_at: Monotonic seconds.
        until: Epoch seconds until which it lives; None where the store did not tell.
        server: The store's identity then, None where unknown.
        sequence: Number of the call that taught it.
        own: Sequence of this process's write that it is, 0 for what a read told.
        plain: Sequence of this process's last unconditional write that is behind it, 0 for none.
        rivals: Digests of own writes that were under way at the same time: the store may hold one of them instead.
        held: Whether the store is known to have held it; what waited in a journal it may never have.
    """

    __slots__ = ("held", "learned_at", "own", "plain", "raw", "rivals", "sequence", "server", "until")

    def __init__(
        self,
        raw: bytes | None,
        learned_at: float,
        until: float | None,
        server: Identity | None,
        sequence: int,
        *,
        own: int = 0,
        plain: int = 0,
        rivals: tuple[str, ...] = (),
        held: bool = True,
    ) -> None:
        self.held = held
        self.raw = raw
        self.learned_at = learned_at
        self.until = until
        self.server = server
        self.sequence = sequence
        self.own = own
        self.plain = plain
        self.rivals = rivals


class View:
    """What is known of a key as a call enters.

    Attributes:
        copy: The last-known copy, if any.
        marked: Whether a read of the key was degraded and none was answered since.
        mark_base: Digest of what that read answered, or BLIND.
        mark_held: Whether the store is known to have held that.
        unsettled_until: Monotonic seconds until which an abandoned attempt may still be applied, 0.0 for none.
        unsettled: Digests of what such attempts would write; records among them also when that time is over.
    """

    __slots__ = ("copy", "mark_base", "mark_held", "marked", "unsettled", "unsettled_until")

    def __init__(
        self,
        copy: Copy | None,
        *,
        marked: bool,
        mark_base: str | None,
        mark_held: bool = False,
        unsettled: _Unsettled = _SETTLED,
    ) -> None:
        self.copy = copy
        self.marked = marked
        self.mark_base = mark_base
        self.mark_held = mark_held
        self.unsettled_until, self.unsettled = unsettled

    @property
    def base(self) -> str | None:
        """Digest that a write is made over, or BLIND."""
        if self.marked:
            return self.mark_base if self.mark_held else BLIND
        return BLIND if self.copy is None or not self.copy.held else version_of(self.copy.raw)

    def over(self) -> tuple[str, ...]:
        """Return the digest that a write is made over, none where that is not known."""
        base = self.base
        return () if base is BLIND else (base,)

    def own_before(self, sequence: int) -> tuple[str, ...]:
        """Return the digests of what the store may hold, if that is a write of this process that entered before."""
        copy = self.copy
        return () if copy is None or not 0 < copy.own < sequence else (version_of(copy.raw), *copy.rivals)

    @property
    def is_blind(self) -> bool:
        """Whether what the store holds is not known at all."""
        return self.copy is None or (self.marked and self.mark_base is BLIND)


class Knowledge:
    """See the module.

    Args:
        max_copies: Copies to keep; the one used longest ago goes first.
        max_bytes: Bytes of their records to keep.
        monotonic: The clock.
        number: Gives the next number in the order of calls; None counts.
    """

    def __init__(
        self,
        *,
        max_copies: int,
        max_bytes: int,
        monotonic: Callable[[], float],
        number: Callable[[], int] | None = None,
    ) -> None:
        self._max_copies = max_copies
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self.number: Callable[[], int] = number or itertools.count(1).__next__
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._forget_copies()
        self._marks: dict[str, tuple[str | None, int, bool]] = {}
        self._unsettled: dict[str, _Unsettled] = {}
        # Set when there were too many marks to remember: every key without a copy then counts as marked.
        self._all_marked = False
        self.server: Identity | None = None

    def after_fork(self) -> None:
        """Take a fresh lock in a child process; what its parent did not see, it has not seen either."""
        self._forget_copies()

    def _forget_copies(self) -> None:
        self._lock = threading.Lock()
        self._copies: OrderedDict[str, Copy] = OrderedDict()
        self._bytes = 0

    def view(self, key: str) -> View:
        """Return what is known of `key`."""
        with self._lock:
            copy = self._copies.get(key)
            if not (self._marks or self._unsettled or self._all_marked):
                return View(copy, marked=False, mark_base=BLIND)  # the usual case: nothing was degraded lately
            mark = self._marks.get(key) if self._marks else None
            unsettled = self._unsettled_of(key) if self._unsettled else _SETTLED
            if mark is not None:
                return View(copy, marked=True, mark_base=mark[0], mark_held=mark[2], unsettled=unsettled)
            return View(copy, marked=copy is None and self._all_marked, mark_base=BLIND, unsettled=unsettled)

    def learn_read(self, key: str, raw: bytes | None, sequence: int) -> None:
        """Note what the store answered to a read that entered as `sequence`."""
        with self._lock:
            if self._marks:
                self._unmark(key, sequence)
            if self._unsettled:
                self._settle(key)
            held = self._copies.get(key)
            # A read that overlaps a write may have been answered before it.
            if held is not None and sequence < held.sequence:
                return
            if held is not None and held.raw == raw:
                held.learned_at, held.sequence, held.server = self._monotonic(), sequence, self.server
                held.rivals, held.held = (), True
                self._copies.move_to_end(key)
                return
            self._put(key, Copy(raw, self._monotonic(), None, self.server, sequence))

    def learn_unreadable(self, key: str, sequence: int) -> None:
        """Note that the store answered a read that entered as `sequence` with something that is no record."""
        with self._lock:
            self._unmark(key, sequence)
            self._drop(key)

    def learn_write(
        self, key: str, raw: bytes | None, sequence: int, until: float | None, *, conditional: bool = False
    ) -> None:
        """Note what a write that entered as `sequence` has committed.

        Its guard has seen what the store held, so a mark from before it is settled; under a later one the next write
        is made over this one.
        """
        with self._lock:
            if self._marks:
                self._unmark(key, sequence)
                if key in self._marks:
                    self._marks[key] = (version_of(raw), self.number(), True)
            if self._unsettled:
                self._settle(key)
            self._put_own(key, raw, sequence, until, conditional=conditional)

    def learn_replay(
        self, key: str, raw: bytes | None, sequence: int, until: float | None, *, conditional: bool = False
    ) -> None:
        """Note that a pending write which entered as `sequence` is what the store holds now."""
        with self._lock:
            held = self._copies.get(key)
            if held is not None and held.own > sequence:
                return
            mark = self._marks.get(key)
            if mark is not None:  # hardly ever, and a digest is a tenth of a replay
                version = version_of(raw)
                # A pending value that was read since is the one that the next write is made over, not this one.
                if mark[0] in {BLIND, version} or mark[1] < sequence:
                    # Still not read from the store, but known: the next write is made over this one.
                    self._marks[key] = (version, self.number(), True)
            if self._unsettled:
                self._settle(key)
            self._put_own(key, raw, sequence, until, conditional=conditional)

    def learn_others_replay(self, key: str, version: str) -> None:
        """Note that another process's pending write is what the store holds now: known here only if it was read."""
        with self._lock:
            self._drop(key)
            mark = self._marks.get(key)
            if mark is not None and mark[0] == version:
                self._marks[key] = (version, self.number(), True)

    def learn_server(self, server: Identity | None, keys: Iterable[str]) -> None:
        """Note which server answers, as it did for `keys` just now."""
        with self._lock:
            self.server = server
            for key in keys:
                copy = self._copies.get(key)
                if copy is not None:
                    copy.server = server

    def forget(self, key: str) -> None:
        """Drop the copy: somebody else wrote."""
        with self._lock:
            self._drop(key)

    def put_back(self, key: str, copy: Copy) -> None:
        """Undo `forget`, unless something was learned since."""
        with self._lock:
            if key not in self._copies:
                self._put(key, copy)

    def learn_journaled(self, key: str, raw: bytes | None, until: float | None) -> None:
        """Keep what waits in a journal that others bring home, to be served when it is gone and the store is away.

        It is nobody's base: whether the store came to hold it is not known.
        """
        with self._lock:
            if key not in self._copies:
                self._put(key, Copy(raw, self._monotonic(), until, None, self.number(), held=False))

    def learn_conflict(self, key: str, current: bytes | None) -> None:
        """Drop the copy unless a refused write has told that the store holds just that (b"" for nothing)."""
        with self._lock:
            copy = self._copies.get(key)
            if copy is not None and (current is None or current != (copy.raw or b"")):
                self._drop(key)

    def mark(self, key: str, base: str | None, *, held: bool = True) -> None:
        """Note that a read of the key was answered from elsewhere: with the value that has this digest, or BLIND.

        Args:
            key: Whose.
            base: The digest.
            held: Whether the store is known to have held that value; a pending one it may never hold.
        """
        with self._lock:
            if key not in self._marks and len(self._marks) >= _MAX_MARKS:
                self._all_marked = True
                self._drop(key)
                return
            self._marks[key] = (base, self.number(), held)

    def unsettle(self, key: str, until: float, sent: tuple[str, ...]) -> None:
        """Note that an attempt to write one of these digests may still be applied until then (monotonic)."""
        with self._lock:
            if len(self._unsettled) >= self._max_copies:
                now = self._monotonic()
                self._unsettled = {k: held for k, held in self._unsettled.items() if held[0] > now}
            before, digests = self._unsettled_of(key)
            self._unsettled[key] = (max(until, before), (*digests, *(item for item in sent if item not in digests)))

    def counts(self) -> tuple[int, int]:
        """Return the number of copies and the bytes of their records."""
        with self._lock:
            return len(self._copies), self._bytes

    def _unsettled_of(self, key: str) -> _Unsettled:
        held = self._unsettled.get(key, _SETTLED)
        if held[0] and held[0] <= self._monotonic():
            # The store may hold one of the records, which nobody else writes. A deletion might be somebody else's.
            held = (0.0, tuple(item for item in held[1] if item != ABSENT))
            self._unsettled[key] = held
        return held

    def _settle(self, key: str) -> None:
        """Forget attempts that are over: what the store holds is known."""
        held = self._unsettled.get(key)
        if held is not None and held[0] <= self._monotonic():
            del self._unsettled[key]

    def _unmark(self, key: str, sequence: int) -> None:
        if self._marks:
            mark = self._marks.get(key)
            if mark is not None and mark[1] < sequence:
                del self._marks[key]

    def _put_own(self, key: str, raw: bytes | None, sequence: int, until: float | None, *, conditional: bool) -> None:
        held = self._copies.get(key)
        own, plain = sequence, 0 if conditional else sequence
        rivals: tuple[str, ...] = ()
        if held is not None and held.own:
            plain = max(plain, held.plain)
            if held.sequence > sequence:
                # It was learned after this call had entered: the answers do not tell whose write came last.
                own, rivals = max(own, held.own), (version_of(held.raw), *held.rivals)[:_MAX_RIVALS]
        number = self.number()
        self._put(key, Copy(raw, self._monotonic(), until, self.server, number, own=own, plain=plain, rivals=rivals))

    def _put(self, key: str, copy: Copy) -> None:
        copies, raw = self._copies, copy.raw
        held = copies.get(key)
        if held is not None and held.raw is not None:
            self._bytes -= len(held.raw)
        size = 0 if raw is None else len(raw)
        if size > self._max_bytes:
            copies.pop(key, None)
            return
        copies[key] = copy
        if held is not None:
            copies.move_to_end(key)
        self._bytes += size
        while len(self._copies) > self._max_copies or self._bytes > self._max_bytes:
            self._drop(next(iter(self._copies)))

    def _drop(self, key: str) -> None:
        copy = self._copies.pop(key, None)
        if copy is not None:
            self._bytes -= len(copy.raw or b"")
