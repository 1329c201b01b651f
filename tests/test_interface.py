"""The DTOs: the framework's names and defaults, taken from anywhere, and silent about what they hold."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pydantic
import pytest

from remanence import (
    ConversationMemoryType,
    IAsyncMemoryManager,
    IMemoryInput,
    IMemoryManager,
    InMemoryManager,
    InvalidInputError,
    IWorkingMemory,
)
from remanence.interface import coerce

CANARY = "canary-7f3a"


class ForeignType(str, Enum):  # noqa: UP042 - its str() is not its value, which is what is tested
    """A memory type as another package defines it: its `str()` is not its value."""

    WORKING_MEMORY = "WORKING_MEMORY"


def foreign_input(**fields: Any) -> SimpleNamespace:
    """Return an object shaped like the framework's DTO, with fields that ours does not have."""
    fields = {"conversation_id": "c", "memory_type": ForeignType.WORKING_MEMORY, "data": None, **fields}
    return SimpleNamespace(unrelated="kept out", **fields)


def test_an_input_has_the_frameworks_fields_and_defaults() -> None:
    """Only the id has to be given; the kind of memory is the framework's default."""
    assert IMemoryInput(conversation_id="c").model_dump() == {
        "conversation_id": "c",
        "memory_type": ConversationMemoryType.SHORT_TERM_MEMORY,
        "data": None,
        "query": None,
        "memory_id": None,
        "limit": 5,
        "filters": None,
        "metadata": None,
    }


def test_the_kinds_of_memory_are_texts() -> None:
    """A kind is its own name wherever it is written, in keys above all."""
    names = ["SHORT_TERM_MEMORY", "LONG_TERM_MEMORY", "WORKING_MEMORY"]
    assert [f"{kind}" for kind in ConversationMemoryType] == names
    assert list(ConversationMemoryType) == names


def test_a_working_memory_goes_to_its_stored_form_and_back() -> None:
    """`to_dict`, `from_dict` and `initialize_memory` are the framework's."""
    memory = IWorkingMemory(working_memory="t\ud800")
    assert memory.to_dict() == {"working_memory": "t\ud800"}
    assert IWorkingMemory.from_dict(memory.to_dict()) == memory
    assert IWorkingMemory.initialize_memory().working_memory.strip()
    with pytest.raises(KeyError):
        IWorkingMemory.from_dict({})


def test_dtos_cannot_be_changed_and_refuse_unknown_fields() -> None:
    """A DTO stays what it was, and a misspelt field is not dropped in silence."""
    memory = IWorkingMemory(working_memory="t")
    with pytest.raises(pydantic.ValidationError):
        memory.working_memory = "u"  # type: ignore[misc]
    with pytest.raises(pydantic.ValidationError):
        IMemoryInput(conversation_id="c", memoryid="m")  # type: ignore[call-arg]


def test_what_dtos_hold_is_in_no_repr_and_no_validation_error() -> None:
    """Texts, ids and metadata stay out of what ends up in logs."""
    item = IMemoryInput(
        conversation_id=CANARY,
        data=[IWorkingMemory(working_memory=CANARY)],
        query=CANARY,
        memory_id=CANARY,
        filters={"f": CANARY},
        metadata={"m": CANARY},
    )
    for shown in (repr(item), str(item), f"{item}", repr(item.data), repr([item])):
        assert CANARY not in shown
    wrong: list[Callable[[], object]] = [
        lambda: IMemoryInput(conversation_id=[CANARY]),  # type: ignore[arg-type]
        lambda: IMemoryInput(conversation_id="c", data=CANARY),  # type: ignore[arg-type]
        lambda: IWorkingMemory(working_memory={"t": CANARY}),  # type: ignore[arg-type]
    ]
    for make in wrong:
        with pytest.raises(pydantic.ValidationError) as caught:
            make()
        assert CANARY not in f"{caught.value} {caught.value!r}"


def test_an_input_of_ours_passes_as_it_is() -> None:
    """No copy is made on the way of every call."""
    item = IMemoryInput(conversation_id="c")
    assert coerce(item) is item


@pytest.mark.parametrize(
    "value",
    [
        {"conversation_id": "c", "working_memory": "t", "metadata": {"m": 1}},
        {"conversation_id": "c", "data": [{"working_memory": "t"}], "metadata": {"m": 1}},
        {"conversation_id": "c", "data": [IWorkingMemory(working_memory="t")], "metadata": {"m": 1}},
        {"conversation_id": "c", "memory_type": "WORKING_MEMORY", "working_memory": "t", "metadata": {"m": 1}},
        {
            "conversation_id": "c",
            "memory_type": ForeignType.WORKING_MEMORY,
            "working_memory": "t",
            "metadata": {"m": 1},
        },
        MappingProxyType({"conversation_id": "c", "working_memory": "t", "metadata": {"m": 1}, "data": None}),
        foreign_input(data=[SimpleNamespace(working_memory="t", more=1)], metadata={"m": 1}),
        foreign_input(data=(SimpleNamespace(working_memory="t"),), metadata={"m": 1}),
    ],
    ids=["text", "data", "our items", "type", "foreign type", "mapping", "object", "tuple"],
)
def test_dicts_and_foreign_objects_are_taken(value: object) -> None:
    """Whatever has the fields becomes the same input; a dict means the working memory unless it says otherwise."""
    assert coerce(value) == IMemoryInput(
        conversation_id="c",
        memory_type=ConversationMemoryType.WORKING_MEMORY,
        data=[IWorkingMemory(working_memory="t")],
        metadata={"m": 1},
    )


def test_a_dict_is_not_changed_by_being_taken() -> None:
    """The caller's dict is the caller's."""
    value = {"conversation_id": "c", "working_memory": "t", "memory_type": ForeignType.WORKING_MEMORY}
    before = dict(value)
    coerce(value)
    assert value == before


def test_a_dict_without_a_text_has_no_data() -> None:
    """Reads and deletes need none; a text of None is none."""
    assert coerce({"conversation_id": "c"}).data is None
    assert coerce({"conversation_id": "c", "working_memory": None}).data is None


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"conversation_id": "c", "memory": CANARY}, "memory"),
        ({"conversation_id": "c", "working_memory": {"x": CANARY}}, "data"),
        ({"conversation_id": "c", "data": [CANARY]}, "data"),
        ({"conversation_id": "c", "data": [{"working_memory": "t", "extra": CANARY}]}, "data"),
        ({"conversation_id": "c", "working_memory": "t", "data": [{"working_memory": CANARY}]}, "both"),
        ({"conversation_id": "c", "memory_type": CANARY}, "memory_type"),
        ({"conversation_id": "c", "metadata": [CANARY]}, "metadata"),
        ({"conversation_id": "c", "metadata": {17: CANARY}}, "metadata"),
        ({"conversation_id": 17, "working_memory": CANARY}, "conversation_id"),
        ({CANARY: CANARY}, "conversation_id"),
        ({1: CANARY}, "conversation_id"),
        ({"conversation_id": "c", 1: CANARY}, "unknown"),
        ({"conversation_id": "c", f"{CANARY} is a whole sentence": 1}, "unknown"),
        (foreign_input(data=CANARY), "data"),
        (foreign_input(memory_type=CANARY), "memory_type"),
        (CANARY, "str"),
        (None, "NoneType"),
        ([CANARY], "list"),
    ],
)
def test_what_is_no_input_is_refused_without_being_quoted(value: object, names: str) -> None:
    """The error says which field is wrong and that nothing was written, and shows no value."""
    with pytest.raises(InvalidInputError, match="Nothing was written") as caught:
        coerce(value)
    assert names in str(caught.value)
    assert CANARY not in f"{caught.value} {caught.value!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_the_interface_can_be_asked_for() -> None:
    """A manager is an `IMemoryManager`, anything else is not."""
    assert isinstance(InMemoryManager(), IMemoryManager)
    assert isinstance(InMemoryManager(), IAsyncMemoryManager)  # protocols look at names only
    assert not isinstance(object(), IMemoryManager)
