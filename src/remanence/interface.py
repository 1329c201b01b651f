"""The memory interface: DTOs and protocols with the names, fields and defaults of the arshai framework.

Texts, ids and metadata stay out of reprs and validation errors: both end up in logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remanence.errors import InvalidInputError

__all__ = [
    "ConversationMemoryType",
    "IAsyncMemoryManager",
    "IMemoryInput",
    "IMemoryManager",
    "IWorkingMemory",
    "MemoryInputLike",
    "coerce",
]


class ConversationMemoryType(StrEnum):
    """The kinds of memory that a conversation may have; each is a key of its own."""

    SHORT_TERM_MEMORY = "SHORT_TERM_MEMORY"
    LONG_TERM_MEMORY = "LONG_TERM_MEMORY"
    WORKING_MEMORY = "WORKING_MEMORY"


class _Dto(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class IWorkingMemory(_Dto):
    """One working memory: a text.

    Args:
        working_memory: The text; empty is valid, any Unicode is.
    """

    working_memory: str = Field(repr=False)

    @classmethod
    def initialize_memory(cls) -> IWorkingMemory:
        """Return the memory of a conversation about which nothing is known yet."""
        return cls(working_memory="### USER:\nNothing known yet.\n\n### CONVERSATION:\nNothing has been said yet.")

    def to_dict(self) -> dict[str, str]:
        """Return the stored form, `{"working_memory": text}`."""
        return {"working_memory": self.working_memory}

    @classmethod
    def from_dict(cls, data: Mapping[str, str]) -> IWorkingMemory:
        """Return the memory whose stored form is `data`; raises KeyError without a text."""
        return cls(working_memory=data["working_memory"])


class IMemoryInput(_Dto):
    """What an operation is about, and for writes the new memory.

    Args:
        conversation_id: Any text that UTF-8 can encode.
        memory_type: The kind of memory; the framework's default is SHORT_TERM_MEMORY.
        data: For writes, the memories; the last one counts. None for reads and deletes.
        query, memory_id, limit, filters: Of the interface; a key-value memory has no use for them.
        metadata: JSON object kept beside the text; None is an empty one.
    """

    conversation_id: str = Field(repr=False)
    memory_type: ConversationMemoryType = ConversationMemoryType.SHORT_TERM_MEMORY
    data: list[IWorkingMemory] | None = Field(default=None, repr=False)
    query: str | None = Field(default=None, repr=False)
    memory_id: str | None = Field(default=None, repr=False)
    limit: int | None = 5
    filters: dict[str, Any] | None = Field(default=None, repr=False)
    metadata: dict[str, Any] | None = Field(default=None, repr=False)


MemoryInputLike = Any
"""`IMemoryInput`, an object with its attributes (the framework's DTO), or a dict; see `coerce`."""


@runtime_checkable
class IMemoryManager(Protocol):
    """A store of memories, one per conversation and kind."""

    def store(self, input: MemoryInputLike) -> str:  # noqa: A002 - the interface's own name
        """Write the memory, replacing any; returns its key."""
        ...

    def retrieve(self, input: MemoryInputLike) -> list[IWorkingMemory]:  # noqa: A002
        """Return the memory as a list of one, or an empty list."""
        ...

    def update(self, input: MemoryInputLike) -> str | None:  # noqa: A002
        """Replace the text of an existing memory; a missing one stays missing."""
        ...

    def delete(self, input: MemoryInputLike) -> str | None:  # noqa: A002
        """Remove the memory, if there is one."""
        ...


@runtime_checkable
class IAsyncMemoryManager(Protocol):
    """The same store, awaited."""

    async def store(self, input: MemoryInputLike) -> str:  # noqa: A002
        """Write the memory, replacing any; returns its key."""
        ...

    async def retrieve(self, input: MemoryInputLike) -> list[IWorkingMemory]:  # noqa: A002
        """Return the memory as a list of one, or an empty list."""
        ...

    async def update(self, input: MemoryInputLike) -> str | None:  # noqa: A002
        """Replace the text of an existing memory; a missing one stays missing."""
        ...

    async def delete(self, input: MemoryInputLike) -> str | None:  # noqa: A002
        """Remove the memory, if there is one."""
        ...


def coerce(value: MemoryInputLike) -> IMemoryInput:
    """Return `value` as an `IMemoryInput`.

    Args:
        value: An `IMemoryInput`; an object with the same attributes; or a dict with `conversation_id` and optionally
            `working_memory` (the text) or `data`, `metadata`, `memory_type` (default WORKING_MEMORY) and the other
            fields.

    Raises:
        InvalidInputError: It is none of these, or a field has the wrong type. The message names the field, never its
            value.
    """
    if type(value) is IMemoryInput:
        return value
    fields = _fields_of_dict(value) if isinstance(value, Mapping) else _fields_of_object(value)
    try:
        return IMemoryInput.model_validate(fields)
    except ValidationError as error:
        wrong = {str(detail["loc"][0]) if detail["loc"] else "input" for detail in error.errors(include_input=False)}
    raise InvalidInputError(_complaint(wrong))


def _complaint(wrong: set[str]) -> str:
    known = sorted(wrong & IMemoryInput.model_fields.keys())
    unknown = sorted(wrong - IMemoryInput.model_fields.keys())
    # Without an id the dict is something else altogether, keyed perhaps by ids or texts: its keys stay out of logs.
    if unknown and ("conversation_id" in known or not all(name.isidentifier() for name in unknown)):
        unknown = [str(len(unknown))]
    parts = []
    if known:
        parts.append(f"wrong field(s) {', '.join(known)}")
    if unknown:
        parts.append(f"unknown field(s) {', '.join(unknown)}")
    return f"not a memory input: {' and '.join(parts)}. Nothing was written; pass an IMemoryInput or a dict."


def _fields_of_dict(value: Mapping[str, Any]) -> dict[str, Any]:
    fields = dict(value)
    fields.setdefault("memory_type", ConversationMemoryType.WORKING_MEMORY)
    if "working_memory" in fields:
        if fields.get("data") is not None:
            message = "both 'working_memory' and 'data' are given. Nothing was written; pass one of them."
            raise InvalidInputError(message)
        text = fields.pop("working_memory")
        fields["data"] = None if text is None else [{"working_memory": text}]
    return _plain(fields)


def _fields_of_object(value: object) -> dict[str, Any]:
    if not hasattr(value, "conversation_id"):
        message = f"{type(value).__name__} has no conversation_id. Nothing was written; pass an IMemoryInput or a dict."
        raise InvalidInputError(message)
    return _plain({name: getattr(value, name) for name in IMemoryInput.model_fields if hasattr(value, name)})


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Other classes' enums and items become plain values, which validation turns into ours."""
    if "memory_type" in fields:
        fields["memory_type"] = str(getattr(fields["memory_type"], "value", fields["memory_type"]))
    items = fields.get("data")
    if isinstance(items, list | tuple):
        fields["data"] = [
            {"working_memory": item.working_memory} if hasattr(item, "working_memory") else item for item in items
        ]
    return fields
