"""The account at the end of a schedule: what became of every acknowledged write."""

from __future__ import annotations

from tests.explorer.model import Applied, Op, text_of
from tests.explorer.world import World

__all__ = ["check"]


def check(world: World) -> None:
    """Account for every acknowledged write.

    Raises:
        AssertionError: With the story of what happened.
    """
    for process in world.processes:
        counts = process.fallback.journal.counts()
        assert process.fallback.journal.is_idle, world.tell(f"{process.name} still has {counts}")
        assert counts.size == 0, world.tell(f"sizes are wrong: {counts}")
    words = set(text_of(world.held).split()) | {word for raw in world.kept for word in text_of(raw).split()}
    for op in world.ops:
        if not op.acknowledged or not op.is_write:
            continue
        if op.kind == "delete":
            _check_delete(world, op)
        elif op.token not in words | world.dropped:
            _check_replaced(world, op)
    for applied in world.log:
        _check_sight(world, applied)


def _check_replaced(world: World, op: Op) -> None:
    by = [a for a in world.log if op.token in text_of(a.before).split() and op.token not in text_of(a.after).split()]
    if by:
        last = by[-1]
        allowed = _may_replace(last, op)
        assert allowed, world.tell(f"{op.token} was displaced ({last.how}) and not kept")
        return
    later = [
        other
        for other in world.ops
        if other is not op
        and other.process is op.process
        and other.is_write
        and not (0 <= other.completed < op.invoked)
        and (not other.is_conditional)
        and (other.acknowledged or isinstance(other.result, Exception))
    ]
    assert later, world.tell(f"{op.token} never reached the store, and nothing replaced it")


def _may_replace(applied: Applied, op: Op) -> bool:
    by = applied.by
    comes_back = by is not None and by.process is op.process and 0 <= by.completed < op.invoked
    if applied.process is None or by is None:
        return True
    if applied.process is op.process:
        return not comes_back or (by.is_conditional and applied.how != "plain")
    return applied.how == "plain" or text_of(applied.before) in applied.process.seen


def _check_sight(world: World, applied: Applied) -> None:
    """What a process wrote after a degraded read did not displace what it had not seen, unless that is kept."""
    if applied.by is None or not applied.by.degraded or applied.before is None or applied.process is None:
        return
    if any(applied.by.degraded <= sight < applied.at for sight in applied.process.sights):
        return  # another caller of the process, or this one's own guard, has looked since
    text = text_of(applied.before)
    author = world.op_of(applied.before)
    if author is not None and author.process is applied.process:
        return
    assert (
        text in applied.process.seen
        or applied.before in world.kept
        or set(text.split()) <= set(text_of(world.held).split())
    ), world.tell(f"{applied.by.token} displaced {text} unseen")


def _check_delete(world: World, op: Op) -> None:
    if None in world.kept:
        return  # a deletion that lost is listed, as any other write
    kept = {word for raw in world.kept for word in text_of(raw).split()}
    since = [other for other in world.ops if other.process is op.process and not 0 <= other.completed < op.invoked]
    if any(other.token in kept for other in since):
        return  # replaced by a later write, which lost and is listed
    for applied in world.log:
        by = applied.by
        if applied.after == world.held and by is not None and by.process is op.process and applied.before is None:
            assert not 0 <= by.completed < op.invoked, world.tell(f"{by.token} came back after {op.token}")
