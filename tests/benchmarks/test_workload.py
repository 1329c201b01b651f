"""What the benchmark stores."""

from __future__ import annotations

import json

from benchmarks.workload import inputs, key, record, texts


def test_the_memories_are_of_a_realistic_size_and_not_all_the_same() -> None:
    """Several turns of real length, as an agent keeps them."""
    found = texts(200)
    assert len(set(found)) > 50
    assert 300 < sum(map(len, found)) / len(found) < 3_000


def test_a_shift_gives_the_same_conversations_other_texts() -> None:
    """A rewrite changes the text and keeps the key."""
    before, after = inputs(20), inputs(20, shift=7)
    assert [key(item) for item in before] == [key(item) for item in after]
    assert all(a.data != b.data for a, b in zip(before, after, strict=True))


def test_key_and_record_are_the_framework_s() -> None:
    """A key for each conversation and kind, and the record's fields in the framework's order."""
    item = inputs(1, name="c")[0]
    assert key(item) == "memory:WORKING_MEMORY:c-000000"
    document = json.loads(record(item))
    assert list(document) == ["data", "metadata", "created_at", "last_update"]
    assert item.data is not None
    assert document["data"] == {"working_memory": item.data[0].working_memory}
