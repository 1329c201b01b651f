"""Linearizability of a register whose values are unique, in O(n log n): decided where values never vanish.

Every value and the reads of it form a *cluster*, which must be contiguous in any order that fits. Of a cluster only two
moments count: `first_end`, the earliest end of its operations, and `last_begin`, the latest beginning. Cluster A must
come before B if `A.first_end < B.last_begin`, because then one of A's operations ended before one of B's began. The
history fits if no two clusters must each come before the other: a longer circle would contain such a pair, namely
the cluster that begins last and the one after it. Gibbons and Korach ("Testing Shared Memories", SIAM J. Comput.
26(4), 1997) say the same with zones: one with `first_end < last_begin` is *forward*, any other *backward*; no two
forward zones may overlap, and no backward one may lie within a forward one.

Two things go beyond that. A conditional write that succeeded comes directly after the value that it was made over, so
the two clusters become one *block* with an order inside; the argument above holds for blocks as it does for clusters.
And an update must find something: unless a value is known to come first, one block that may come first must not begin
with an update.

Where values can vanish, by a delete or an expiry, the same still has to hold of every value that is there, and of every
delete and every read of nothing, as clusters of their own: none may lie where a value was there before and after. That
is necessary then, and finds most violations with few operations; whether it suffices is for the search to say.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from math import inf

from remanence.lab.history.operation import ANY, UNKNOWN, Operation
from remanence.lab.history.witness import Witness

__all__ = ["base_of", "check_zones", "is_optional"]


def is_optional(write: Operation) -> bool:
    """Whether the write may have been applied or not."""
    return write.outcome == "ambiguous" or write.answer == "journaled"


def base_of(write: Operation) -> str | None:
    """Return the value that the write must have replaced, `ANY` where that may be any.

    What a journal brings home later goes by the rules of the replay, whatever it was made over.
    """
    return ANY if write.expected == UNKNOWN or write.answer == "journaled" else write.expected


class _Cluster:
    """The operations on one value, or several clusters in a fixed order: a block."""

    __slots__ = ("begun", "ended", "first_end", "last_begin", "write")

    def __init__(self, write: Operation | None) -> None:
        self.write = write
        self.ended = self.begun = write
        self.first_end, self.last_begin = (-inf, -inf) if write is None else (write.until, write.invoked)

    def add(self, read: Operation) -> None:
        """Take in a read of the value."""
        if read.completed < self.first_end:
            self.first_end, self.ended = read.completed, read
        if read.invoked > self.last_begin:
            self.last_begin, self.begun = read.invoked, read

    def append(self, other: _Cluster) -> None:
        """Take in the cluster that comes directly after this one."""
        if other.first_end < self.first_end:
            self.first_end, self.ended = other.first_end, other.ended
        if other.last_begin > self.last_begin:
            self.last_begin, self.begun = other.last_begin, other.begun

    @property
    def value(self) -> str | None:
        """The value, of a block the first; None for nothing."""
        return None if self.write is None else self.write.value


def check_zones(reads: Sequence[Operation], writes: Sequence[Operation], *, vanishing: bool = False) -> Witness | None:
    """Return why no order fits, or None where one does; with `vanishing`, where one may.

    Args:
        reads: Answers of the store; a value of None is the absence before the first write, or after a delete.
        writes: Those that were or may be applied; their values are unique.
        vanishing: Whether there are deletes or expiries.
    """
    used = _used_values(reads, writes)
    clusters: dict[str | None, _Cluster] = {None: _Cluster(None)}
    alone = []
    if vanishing:
        alone = [_Cluster(each) for each in writes if each.kind == "delete" and not is_optional(each)]
        alone += [_Cluster(read) for read in reads if read.value is None]
        reads = [read for read in reads if read.value is not None]
        writes = [write for write in writes if write.kind != "delete"]
    for write in writes:
        if not is_optional(write) or write.value in used:
            clusters[write.value] = _Cluster(write)
    for read in reads:
        cluster = clusters.get(read.value)
        if cluster is None:
            return Witness.of([read], "{} was read, and nobody wrote it.", read.value)
        if cluster.write is not None and read.completed < cluster.write.invoked:
            return Witness.of([read, cluster.write], "{} was read before its write began.", read.value)
        cluster.add(read)
    chains = [write for write in writes if base_of(write) != ANY and not (vanishing and base_of(write) is None)]
    blocks = _blocks(clusters, chains)
    if isinstance(blocks, Witness):
        return blocks
    if vanishing:
        return _contradiction(blocks + alone)
    begins = any(base_of(write) is None and write.value in clusters for write in writes)
    return _contradiction(blocks) or (None if begins else _update_of_nothing(blocks, writes, used))


def _used_values(reads: Sequence[Operation], writes: Sequence[Operation]) -> set[str | None]:
    """Return the values that must have been there: read, or replaced by a conditional write that was applied."""
    used = {read.value for read in reads}
    bases = {write.value: base_of(write) for write in writes if write.is_conditional}
    if not bases:
        return used
    pending = [
        write.value for write in writes if write.value in bases and (write.value in used or not is_optional(write))
    ]
    while pending:
        base = bases.get(pending.pop(), ANY)
        if base != ANY and base not in used:
            used.add(base)
            pending.append(base)
    return used


def _blocks(clusters: dict[str | None, _Cluster], conditional: Sequence[Operation]) -> list[_Cluster] | Witness:
    """Join every cluster to the one that it was conditionally written over."""
    following: dict[str | None, _Cluster] = {}
    for write in conditional:
        base = base_of(write)
        if write.value not in clusters:
            continue
        if base not in clusters:
            return Witness.of([write], "{} was written over {}, which nobody wrote.", write.value, base)
        if base in following:
            other = following[base].write
            return Witness.of([clusters[base].write, other, write], "{} was replaced twice.", base)
        following[base] = clusters[write.value]
    inner = {cluster.value for cluster in following.values()}
    blocks = []
    joined = 0
    for value, cluster in clusters.items():
        if value in inner:
            continue
        chain = _chain(cluster, following)
        witness = _inner_contradiction(chain)
        if witness is not None:
            return witness
        for later in chain[1:]:
            cluster.append(later)
        blocks.append(cluster)
        joined += len(chain)
    if joined < len(clusters):
        circle = [clusters[value].write for value in inner]
        return Witness.of(circle, "each of these values was written over another of them.")
    return blocks


def _chain(first: _Cluster, following: dict[str | None, _Cluster]) -> list[_Cluster]:
    chain = [first]
    while chain[-1].value in following:
        chain.append(following[chain[-1].value])
    return chain


def _inner_contradiction(chain: Sequence[_Cluster]) -> Witness | None:
    """Return why the clusters cannot come in this order, or None."""
    begun: _Cluster | None = None
    before = []
    for cluster in chain:
        if begun is None or cluster.last_begin > begun.last_begin:
            begun = cluster
        before.append(begun)
    ended = chain[-1]
    for place in range(len(chain) - 1, 0, -1):
        if chain[place].first_end < ended.first_end:
            ended = chain[place]
        earlier = before[place - 1]
        if ended.first_end < earlier.last_begin:
            links = [each.write for each in chain[chain.index(earlier) : chain.index(ended) + 1]]
            sentence = "{} came after {}, as the conditional writes say, and before it."
            return Witness.of([*links, ended.ended, earlier.begun], sentence, ended.value, earlier.value)
    return None


def _contradiction(blocks: Sequence[_Cluster]) -> Witness | None:
    """Return two blocks of which each must come before the other, or None."""
    forward = sorted(
        (block for block in blocks if block.first_end < block.last_begin), key=lambda block: block.first_end
    )
    for earlier, later in pairwise(forward):
        if later.first_end < earlier.last_begin:
            return _both_ways(earlier, later)
    ends = [block.first_end for block in forward]
    for block in blocks:
        if block.first_end < block.last_begin:
            continue
        # The zones before this one end where it begins at the latest, so only the last of them can hold the block.
        place = bisect_left(ends, block.last_begin) - 1
        if place >= 0 and block.first_end < forward[place].last_begin:
            return _both_ways(forward[place], block)
    return None


def _both_ways(one: _Cluster, other: _Cluster) -> Witness:
    operations = [one.write, one.ended, one.begun, other.write, other.ended, other.begun]
    return Witness.of(operations, "{} would have to come both before and after {}.", one.value, other.value)


def _update_of_nothing(
    blocks: Sequence[_Cluster], writes: Sequence[Operation], used: set[str | None]
) -> Witness | None:
    """Return the update that found something where nothing can have been, or None."""
    values = [block for block in blocks if block.write is not None]
    first = [block for block in values if _begins_with_update(block)]
    if not first:
        return None
    ends = sorted(block.first_end for block in values)[:2]
    for block in values:
        others = ends[1:] if block.first_end == ends[0] else ends
        if not _begins_with_update(block) and (not others or block.last_begin <= others[0]):
            return None
    absent = next(block for block in blocks if block.write is None)
    for write in writes:
        is_left_out = is_optional(write) and write.value not in used
        may_be_first = write.invoked <= ends[0] and write.until >= absent.last_begin
        if is_left_out and may_be_first and not _needs_something(write):
            return None
    earliest = min(first, key=lambda block: block.first_end)
    writers = [block.write for block in values if not _begins_with_update(block)][:1]
    operations = [earliest.write, earliest.ended, *writers]
    return Witness.of(operations, "{} was an update, and nothing can have been stored before it.", earliest.value)


def _begins_with_update(block: _Cluster) -> bool:
    return block.write is not None and _needs_something(block.write)


def _needs_something(write: Operation) -> bool:
    """Whether the write is applied only where something is stored."""
    return (write.kind == "update" and write.answer != "journaled") or base_of(write) not in {ANY, None}
