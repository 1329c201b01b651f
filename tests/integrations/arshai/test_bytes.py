"""One server, two packages: what either manager wrote, the other reads, updates and deletes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remanence import ConversationMemoryType, CorruptRecordError, IMemoryInput, InvalidInputError, IWorkingMemory
from tests.integrations.arshai.framework import Framework

KEY = "memory:WORKING_MEMORY:c"
TEXTS = ["plain", "", "h\u00e9llo \u4e16\u754c \U0001f600", "\ud800", "\r\n\0\u2028\\\"'"]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_ours_reads_what_theirs_wrote(ours: Any, theirs: Any, framework: Framework, text: str) -> None:
    """Their key, their bytes: text, metadata and their naive stamps, asked for by dict or by their DTO."""
    key = theirs.store(framework.input("before", text, metadata={"m": [1, {"n": None}]}))
    for question in ({"conversation_id": "c"}, framework.input()):
        found = ours.retrieve(question)
        assert (key, [memory.working_memory for memory in found]) == (KEY, [text])
        assert (found.metadata, found.source, found.degraded) == ({"m": [1, {"n": None}]}, "redis", False)
        assert found.created_at == found.last_update or found.created_at < found.last_update
        assert "+" not in found.last_update


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_theirs_reads_what_ours_wrote(ours: Any, theirs: Any, framework: Framework, text: str) -> None:
    """Stored and updated, from a dict and from their DTO: under the key that their `store` names."""
    for memory in (
        {"conversation_id": "c", "working_memory": text},
        framework.input("before", text, metadata={"m": 1}),
    ):
        receipt = ours.store(memory)
        assert isinstance(receipt, str)
        assert (receipt, [m.working_memory for m in theirs.retrieve(framework.input())]) == (KEY, [text])
    for change in (framework.input("changed", metadata={"n": float("1e300")}), framework.input(text)):
        assert ours.update(change).outcome == "committed"
        assert [m.working_memory for m in theirs.retrieve(framework.input())] == [change.data[-1].working_memory]
    assert ours.retrieve(framework.input()).metadata == {"m": 1, "n": 1e300}


@pytest.mark.parametrize("kind", list(ConversationMemoryType))
def test_both_name_every_kind_of_memory_alike(
    ours: Any, theirs: Any, framework: Framework, client: Any, kind: str
) -> None:
    """The same key; a DTO without a kind is the framework's default for both."""
    theirs.store(framework.input("theirs", kind=kind, conversation="a:b *"))
    assert ours.retrieve(framework.input(kind=kind, conversation="a:b *"))[0].working_memory == "theirs"
    own_kind = framework.enum(kind)  # its managers' own enum, which is no StrEnum
    asked = {"conversation_id": "a:b *", "memory_type": own_kind, "working_memory": "ours"}
    assert ours.store(asked) == f"memory:{kind}:a:b *"
    assert theirs.retrieve(framework.input(kind=kind, conversation="a:b *"))[0].working_memory == "ours"
    assert client.dbsize() == 1
    plain = framework.interface.IMemoryInput(
        conversation_id="d", data=[framework.interface.IWorkingMemory(working_memory="x")]
    )
    own = IMemoryInput(conversation_id="d", data=[IWorkingMemory(working_memory="x")])
    assert ours.store(plain) == ours.store(own) == theirs.store(plain) == "memory:SHORT_TERM_MEMORY:d"


def test_our_update_keeps_what_it_does_not_know(ours: Any, theirs: Any, framework: Framework, client: Any) -> None:
    """Fields of a later version of the framework, at the top and beside the text, in their order."""
    theirs.store(framework.input("text", metadata={"m": 1}))
    document = json.loads(client.get(KEY))
    document = {"schema": [], **document, "data": {"more": {}, **document["data"]}, "tail": None}
    client.set(KEY, json.dumps(document))
    for text in ("second", "third"):
        assert ours.update(framework.input(text, metadata={"n": 2})).outcome == "committed"
    after = json.loads(client.get(KEY))
    assert list(after) == list(document) == ["schema", "data", "metadata", "created_at", "last_update", "tail"]
    assert after["data"] == {"more": {}, "working_memory": "third"}
    assert list(after["data"]) == ["more", "working_memory"]
    assert (after["metadata"], after["created_at"]) == ({"m": 1, "n": 2}, document["created_at"])
    assert theirs.retrieve(framework.input())[0].working_memory == "third"


def test_their_update_keeps_ours(ours: Any, theirs: Any, framework: Framework) -> None:
    """Metadata and creation stay; the version that was read before is no longer the stored one."""
    before = ours.store({"conversation_id": "c", "working_memory": "ours", "metadata": {"m": 1}})
    created = ours.retrieve(framework.input()).created_at
    theirs.update(framework.input("theirs"))
    found = ours.retrieve(framework.input())
    assert (found[0].working_memory, found.metadata, found.created_at) == ("theirs", {"m": 1}, created)
    assert created.endswith("+00:00")
    assert found.version != before.version
    assert ours.store(framework.input("on theirs"), if_version=found.version).outcome == "committed"


def test_both_delete_what_the_other_wrote(ours: Any, theirs: Any, framework: Framework, client: Any) -> None:
    """Nothing is left; neither update makes a memory where there is none."""
    theirs.store(framework.input("theirs"))
    assert ours.delete(framework.input()).outcome == "committed"
    assert theirs.retrieve(framework.input()) == []
    theirs.update(framework.input("none"))
    assert ours.update(framework.input("none")).outcome == "missing"
    ours.store(framework.input("ours"))
    theirs.delete(framework.input())
    assert list(ours.retrieve(framework.input())) == []
    assert client.dbsize() == 0


def test_both_let_a_memory_live_equally_long(ours: Any, theirs: Any, framework: Framework, client: Any) -> None:
    """Twelve hours after the last write; an update renews it."""
    for manager in (theirs, ours):
        manager.store(framework.input("text"))
        assert client.ttl(KEY) in {43_199, 43_200}
        client.expire(KEY, 10)
        manager.update(framework.input("text"))
        assert client.ttl(KEY) in {43_199, 43_200}


def test_both_refuse_a_write_without_data(ours: Any, theirs: Any, framework: Framework, client: Any) -> None:
    """A ValueError, before anything is sent."""
    for manager in (theirs, ours):
        for method in (manager.store, manager.update):
            with pytest.raises(ValueError, match=r"[Nn]o data"):
                method(framework.input())
    assert issubclass(InvalidInputError, ValueError)
    assert client.dbsize() == 0


@pytest.mark.parametrize(
    "junk", [b"\xff\xfe", b"[]", b"{}", b'{"data": null}', b'{"data": {"working_memory": 1}}'], ids=repr
)
def test_what_neither_wrote_is_told_by_name(ours: Any, client: Any, junk: bytes) -> None:
    """The framework's reader raises whatever comes; ours says what is wrong, and leaves it where it is."""
    client.set(KEY, junk)
    for method in (ours.retrieve, ours.update):
        with pytest.raises(CorruptRecordError):
            method({"conversation_id": "c", "working_memory": "x"})
    assert client.get(KEY) == junk
