"""What processes know of each other that share a journal: what waits on a host is in one order, for all to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remanence.lab.simulation.program import Op
from remanence.lab.simulation.texts import text_of

if TYPE_CHECKING:
    from remanence.lab.simulation.process import Process
    from remanence.lab.simulation.world import World

__all__ = ["HostSight"]


class HostSight:
    """A part of the ledger; without a shared journal nobody knows anything of another process.

    Args:
        world: Whose.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.by_word: dict[str, Op] = {}
        self.kept: dict[bytes, int] = {}

    def is_known_to_host(self, by: Op, author: Op | None, before: bytes) -> bool:
        """Whether a value was shown to an operation by what waited on its host, or lies below that."""
        if not self.world.settings.shares or by.process is None:
            return False
        ops = [op for op in self.world.ops if op.place == by.place and op.process is not None and op.invoked >= 0]
        shown = {by, *(op for op in ops if op.process is by.process and op.deletes and op.invoked < by.made)}
        while more := {op for op in ops if op not in shown and any(self.was_shown(each, op) for each in shown)}:
            shown |= more
        shown.discard(by)
        return author in shown or any(op.process.seen.get(before, 1 << 60) < op.made for op in shown)

    def is_kept_for_host(self, author: Op | None, before: bytes) -> bool:
        """Whether a value is kept as a copy, or what was put in its place on its host; or was deleted there."""
        if not self.world.settings.shares or author is None:
            return self.world.settings.shares and before in self.kept
        deletions = [op for op in self.of_host(author.process) if op.deletes and op.place == author.place]
        if any(op.invoked >= 0 and not op.before(author) for op in deletions):
            return True
        # What waits to be kept is safe on the host until the store has it.
        raws = [*self.kept, *(value.raw for value in self.world.host_journal.kept())]
        words = {word for raw in raws for word in text_of(raw).split()}
        ops = [op for op in map(self.by_word.get, words) if op is not None and op.place == author.place]
        return (
            before in raws
            or author.word in words
            or any(op.process is author.process and op.made > author.made for op in ops)
            or any(self.is_known_to_host(op, author, before) for op in ops)
        )

    def of_host(self, process: Process) -> list[Op]:
        """Return the operations of a process, and of those that share its journal."""
        shares = self.world.settings.shares
        return [op for op in self.world.ops if op.process is process or (shares and op.process is not None)]

    def was_shown(self, other: Op, op: Op) -> bool:
        """Whether another process of the host knew of it: what waits on a host is in one order."""
        if not self.world.settings.shares or other.process in {None, op.process} or op.process is None:
            return False
        if op.deletes or other.deletes:
            return not other.before(op)
        # It has read its value, pending or not, what was built on that, or what its process has written over it since.
        shown = (raw for raw, when in other.process.seen.items() if when < other.made)
        later = (self.by_word.get(word) for raw in shown for word in text_of(raw).split())
        return any(o is op or (o is not None and o.process is op.process and o.made > op.made) for o in later)
