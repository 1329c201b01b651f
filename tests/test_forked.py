"""What a forked child resets."""

from __future__ import annotations

import gc
import os
import weakref
from typing import Any

import pytest

from remanence import InMemoryManager, forked, resilient
from remanence.forked import reset_after_fork


class Target:
    """Counts its resets."""

    resets = 0

    def after_fork(self) -> None:
        """Be told."""
        self.resets += 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told_and_its_parent_is_not() -> None:
    """Each target once."""
    target = Target()
    reset_after_fork(target)
    child = os.fork()
    if child == 0:
        os._exit(target.resets)
    _, status = os.waitpid(child, 0)
    assert (os.waitstatus_to_exitcode(status), target.resets) == (1, 0)


def test_a_target_is_not_kept_alive() -> None:
    """A manager that nobody uses any more goes, whatever was registered."""
    target = Target()
    gone = weakref.ref(target)
    reset_after_fork(target)
    assert target in forked._objects
    del target
    gc.collect()
    assert gone() is None


def test_a_manager_starts_empty_after_a_fork() -> None:
    """Nothing pending, nothing known, free locks, no thread; a closed breaker that opens again."""
    manager = resilient(InMemoryManager())
    manager.store({"conversation_id": "c", "working_memory": "a"})
    fallback = manager._fallback
    assert fallback is not None
    journal: Any = fallback.journal
    for lock in (journal._lock, fallback.knowledge._lock):
        lock.acquire()
    forked._reset_all()
    assert not journal._lock.locked()
    assert not fallback.knowledge._lock.locked()
    assert fallback.knowledge.counts() == (0, 0)
    assert manager.health().pending == 0
    assert manager.retrieve({"conversation_id": "c"})[0].working_memory == "a"
