"""What operations return: usable like the framework's results, with more to ask, and silent in logs."""

from __future__ import annotations

import copy
import pickle
from hashlib import sha1
from typing import Any, get_args

import pytest

from remanence import Conflict, ConversationMemoryType, Health, IWorkingMemory, Memories, Receipt, ReplayCounts
from remanence.record import decode, encode
from remanence.results import Source

CANARY = "canary-7f3a"
RAW = encode(CANARY, {"m": [CANARY]}, "2026-01-01T00:00:00", "2026-01-02T00:00:00")


def found(**options: Any) -> Memories:
    """Return an answer with a memory in it."""
    return Memories([IWorkingMemory(working_memory=CANARY)], record=decode(RAW, "memory:k"), **options)


def test_memories_are_a_list_with_a_source() -> None:
    """An answer is used as the framework's list, and says whence it came."""
    answer = found(source="stale", age=14.0)
    assert answer
    assert answer == [IWorkingMemory(working_memory=CANARY)]
    assert answer[0].working_memory == CANARY
    assert (answer.source, answer.age, answer.degraded) == ("stale", 14.0, True)
    assert answer.version == sha1(RAW, usedforsecurity=False).hexdigest()
    assert answer.metadata == {"m": [CANARY]}
    assert (answer.created_at, answer.last_update) == ("2026-01-01T00:00:00", "2026-01-02T00:00:00")
    assert answer.raw == RAW


def test_an_empty_answer_has_no_version() -> None:
    """Not found is an empty list whose every question has an answer."""
    empty = Memories()
    assert not empty
    assert (empty.source, empty.age, empty.degraded) == ("redis", 0.0, False)
    assert (empty.version, empty.metadata, empty.created_at, empty.last_update, empty.raw) == (
        None,
        {},
        None,
        None,
        None,
    )


@pytest.mark.parametrize("source", get_args(Source))
def test_only_a_copy_and_a_guess_are_degraded(source: Source) -> None:
    """Redis and our own pending write are good answers; a stale copy and knowing nothing are not."""
    assert Memories(source=source).degraded == (source in {"stale", "none"})


def test_the_metadata_of_an_answer_is_the_callers() -> None:
    """Changing what an answer gave changes nothing of what it gives next."""
    answer = found()
    answer.metadata["m"].append("more")
    answer.metadata["n"] = 1
    assert answer.metadata == {"m": [CANARY]}


def test_a_receipt_is_the_key_with_an_outcome() -> None:
    """A receipt works wherever the framework's key does."""
    receipt = Receipt("memory:WORKING_MEMORY:c", "journaled", RAW)
    assert receipt == "memory:WORKING_MEMORY:c"
    assert hash(receipt) == hash("memory:WORKING_MEMORY:c")
    assert f"{receipt}" == "memory:WORKING_MEMORY:c"
    assert isinstance(receipt, str)
    assert (receipt.outcome, receipt.version) == ("journaled", sha1(RAW, usedforsecurity=False).hexdigest())
    assert (Receipt("k").outcome, Receipt("k").version) == ("committed", None)


def test_results_show_neither_text_nor_id() -> None:
    """What ends up in logs names nobody and quotes nothing."""
    conflict = Conflict(CANARY, ConversationMemoryType.WORKING_MEMORY, CANARY, "digest")
    for result in (Receipt(f"memory:WORKING_MEMORY:{CANARY}", "committed", RAW), found(), conflict, [found()]):
        assert CANARY not in repr(result)
    assert repr(found(source="stale", age=14.04)) == "<Memories 1 from stale, age 14.0 s>"
    assert repr(Receipt("k", "missing")) == "<Receipt missing>"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_results_go_to_other_processes(protocol: int) -> None:
    """A pickled result comes back whole."""
    receipt = pickle.loads(pickle.dumps(Receipt("k", "journaled", RAW), protocol))  # noqa: S301 - our own
    assert (receipt, receipt.outcome, receipt.raw) == ("k", "journaled", RAW)
    answer = pickle.loads(pickle.dumps(found(source="stale", age=3.0), protocol))  # noqa: S301
    assert (answer, answer.source, answer.age, answer.raw) == (found(), "stale", 3.0, RAW)
    assert (answer.version, answer.metadata) == (found().version, found().metadata)
    for result in (Conflict("c", ConversationMemoryType.WORKING_MEMORY, "t", "d"), Health("ready"), ReplayCounts(1)):
        assert pickle.loads(pickle.dumps(result, protocol)) == result  # noqa: S301


def test_results_can_be_copied() -> None:
    """Copies, shallow and deep, keep what was asked for."""
    for made in (copy.copy, copy.deepcopy):
        assert made(Receipt("k", "missing", RAW)).outcome == "missing"
        assert made(found(source="stale")).source == "stale"
        assert made(found()).version == found().version
