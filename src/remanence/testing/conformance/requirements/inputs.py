"""What comes in, and what goes out."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from remanence.interface import IWorkingMemory
from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.trial import Trial

__all__ = [
    "answers_are_the_callers_own",
    "inputs_are_left_as_they_are",
    "inputs_are_not_kept",
    "metadata_leaves_the_text_alone",
    "objects_with_the_same_attributes_are_inputs",
]


class OtherKind(StrEnum):
    """A kind of memory, of another package."""

    WORKING_MEMORY = "WORKING_MEMORY"


@dataclass
class OtherMemory:
    """A memory, of another package."""

    working_memory: str


@dataclass
class OtherInput:
    """An input with the attributes that the framework's has, of another package."""

    conversation_id: str
    memory_type: OtherKind = OtherKind.WORKING_MEMORY
    data: list[OtherMemory] | None = None
    query: str | None = None
    memory_id: str | None = None
    limit: int | None = 5
    filters: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = field(default=None)


@requirement(
    "RM-060",
    "Any object with the attributes of an input is one",
    why="The framework has classes of its own for inputs, and so has everybody who wraps it.",
    needs=("RM-010", "RM-030", "RM-040"),
)
def objects_with_the_same_attributes_are_inputs(trial: Trial) -> None:
    """For all four methods; and they are about the same memory as ours."""
    name = trial.new_id()
    trial.subject.store(OtherInput(name, data=[OtherMemory("stored")]))
    expect(trial.subject.held(OtherInput(name)) == "stored", "what was stored with such an object is not there")
    expect(
        trial.subject.held(trial.about(name)) == "stored", "such an object is about another memory than an IMemoryInput"
    )
    trial.subject.update(OtherInput(name, data=[OtherMemory("updated")]))
    expect(trial.subject.held(OtherInput(name)) == "updated", "what was updated with such an object is not there")
    trial.subject.delete(OtherInput(name))
    expect(trial.subject.held(OtherInput(name)) is None, "what was deleted with such an object is still there")


@requirement(
    "RM-061",
    "Inputs are left as they are",
    why="A caller that repeats a call after an error passes the same object again.",
    needs=("RM-010",),
)
def inputs_are_left_as_they_are(trial: Trial) -> None:
    """By all four methods."""
    name = trial.new_id()
    for method in ("store", "update", "retrieve", "delete"):
        texts = ("first", "second") if method in {"store", "update"} else ()
        item = trial.about(name, *texts, metadata={"list": [1], "nested": {"key": None}})
        before = item.model_copy(deep=True)
        trial.subject.call(method, item)
        expect(item == before, f"{method}() changed its input")


@requirement(
    "RM-062",
    "What a caller does to an input after the call changes nothing that is stored",
    why="Callers use an object again for the next conversation, and its text would appear in the first one.",
    needs=("RM-010", "RM-030", "RM-060"),
)
def inputs_are_not_kept(trial: Trial) -> None:
    """After a store and after an update; neither the list of memories, nor a memory in it that can be changed."""
    name = trial.new_id()
    for method, text in (("store", "stored"), ("update", "updated")):
        item = trial.about(name, text)
        trial.subject.call(method, item)
        assert item.data is not None  # noqa: S101 - for the type checker
        item.data[:] = [IWorkingMemory(working_memory="something else")]
        expect(trial.subject.held(trial.about(name)) == text, f"the object that {method}() was given is what is stored")
    name = trial.new_id()
    for method, text in (("store", "stored"), ("update", "updated")):
        memory = OtherMemory(text)
        trial.subject.call(method, OtherInput(name, data=[memory]))
        memory.working_memory = "something else"
        found = trial.subject.held(trial.about(name))
        expect(found == text, f"the memory object that {method}() was given is what is stored")


@requirement(
    "RM-063",
    "What a caller does to an answer changes nothing that is stored",
    why="As for inputs.",
    needs=("RM-010", "RM-014"),
)
def answers_are_the_callers_own(trial: Trial) -> None:
    """The list, and the memory in it where that can be changed."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "text"))
    memories = trial.subject.retrieve(trial.about(name))
    with suppress(Exception):  # one that cannot be changed is all right
        memories[0].working_memory = "something else"
    expect(trial.subject.held(trial.about(name)) == "text", "the memory that was retrieved is the one that is stored")
    memories.clear()
    expect(trial.subject.held(trial.about(name)) == "text", "the list that was retrieved is the one that is stored")


@requirement(
    "RM-064",
    "Metadata may be any JSON object or None, and leaves the text alone",
    why="Callers note beside a memory where it comes from.",
    needs=("RM-010", "RM-012", "RM-030"),
)
def metadata_leaves_the_text_alone(trial: Trial) -> None:
    """In stores and in updates; also where it has the names of the record's own fields."""
    samples: tuple[dict[str, Any] | None, ...] = (
        None,
        {},
        {"source": "settings", "n": 1, "x": 0.5, "none": None, "yes": True, "list": [1, {"a": []}], "": "\u00e9"},
        {"working_memory": "not this", "data": {"working_memory": "not this"}, "memory_type": "none", "metadata": {}},
    )
    name = trial.new_id()
    for number, metadata in enumerate(samples):
        trial.subject.store(trial.about(name, f"stored {number}", metadata=metadata))
        expect(trial.subject.held(trial.about(name)) == f"stored {number}", "with metadata, another text is stored")
        trial.subject.update(trial.about(name, f"updated {number}", metadata=metadata))
        expect(
            trial.subject.held(trial.about(name)) == f"updated {number}", "with metadata, another text is the update"
        )
