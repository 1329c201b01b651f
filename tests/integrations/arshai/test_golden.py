"""Literal records: what the framework writes today, and that ours reads and writes the same bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from remanence import InvalidMetadataError
from remanence.record import encode, revise
from tests.integrations.arshai.framework import Framework
from tests.integrations.arshai.golden import AT, GOLDEN, LATER, Golden

KEY = "memory:WORKING_MEMORY:c"

each = pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)


@each
def test_the_framework_writes_these_bytes(framework: Framework, theirs: Any, client: Any, golden: Golden) -> None:
    """Store and update, byte for byte: a change in the framework is noticed here."""
    with framework.frozen_at(AT):
        theirs.store(framework.input(golden.text, metadata=golden.metadata))
    assert client.get(KEY) == golden.stored
    with framework.frozen_at(LATER):
        theirs.update(framework.input("new", metadata={"ignored": 1}))
    assert client.get(KEY) == golden.updated


@each
def test_ours_reads_them(ours: Any, client: Any, golden: Golden) -> None:
    """Text, metadata, stamps, and the bytes themselves."""
    client.set(KEY, golden.stored)
    found = ours.retrieve({"conversation_id": "c"})
    assert [memory.working_memory for memory in found] == [golden.text]
    assert repr(found.metadata) == repr(golden.metadata or {})  # NaN equals nothing, not even itself
    assert (found.created_at, found.last_update) == (AT.isoformat(), AT.isoformat())
    assert found.raw == golden.stored


@each
def test_the_framework_reads_them(theirs: Any, framework: Framework, client: Any, golden: Golden) -> None:
    """What it wrote, and what was updated."""
    for raw, text in ((golden.stored, golden.text), (golden.updated, "new")):
        client.set(KEY, raw)
        assert [memory.working_memory for memory in theirs.retrieve(framework.input())] == [text]


@each
def test_ours_encodes_the_same_bytes(golden: Golden) -> None:
    """Given the framework's stamps; numbers that JSON does not have are refused instead."""
    if golden.name == "no-json-numbers":
        with pytest.raises(InvalidMetadataError):
            encode(golden.text, golden.metadata, AT.isoformat(), AT.isoformat())
    else:
        assert encode(golden.text, golden.metadata, AT.isoformat(), AT.isoformat()) == golden.stored
    assert revise(golden.stored, KEY, "new", None, LATER.isoformat()) == golden.updated


@each
def test_ours_updates_to_the_same_bytes_but_for_its_stamp(ours: Any, client: Any, golden: Golden) -> None:
    """On the server too; the stamp carries an offset, and nothing else differs."""
    client.set(KEY, golden.stored)
    began = datetime.now(UTC)
    assert ours.update({"conversation_id": "c", "working_memory": "new"}).outcome == "committed"
    held = client.get(KEY)
    stamp = ours.retrieve({"conversation_id": "c"}).last_update
    assert began.replace(microsecond=0) <= datetime.fromisoformat(stamp) <= datetime.now(UTC)
    assert held.replace(stamp.encode(), LATER.isoformat().encode()) == golden.updated
