"""Updates and deletions."""

from __future__ import annotations

from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.requirements.keeping import refuses
from remanence.testing.conformance.trial import Trial

__all__ = [
    "a_deleted_memory_can_be_stored_anew",
    "a_deleted_memory_is_gone",
    "an_update_after_a_deletion_keeps_it_missing",
    "an_update_of_nothing_keeps_it_missing",
    "an_update_replaces_the_text",
    "an_update_without_data_is_refused",
    "deleting_nothing_is_no_error",
    "of_several_items_the_last_one_is_the_update",
]


@requirement(
    "RM-030",
    "An update replaces the text of a memory",
    why="Agents write a new text after each turn.",
    needs=("RM-010",),
)
def an_update_replaces_the_text(trial: Trial) -> None:
    """The new text is there, alone."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "before"))
    trial.subject.update(trial.about(name, "after"))
    memories = trial.subject.retrieve(trial.about(name))
    texts = [memory.working_memory for memory in memories or []]
    expect(texts == ["after"], f"after an update {len(texts)} memories are there, and not the new text alone")


@requirement(
    "RM-031",
    "An update of a conversation without a memory is no error, and makes none",
    why="update changes what is there; what was never stored must not come into being by it.",
    needs=("RM-010",),
)
def an_update_of_nothing_keeps_it_missing(trial: Trial) -> None:
    """Nothing is there afterwards."""
    name = trial.new_id()
    trial.subject.update(trial.about(name, "text"))
    expect(trial.subject.held(trial.about(name)) is None, "the update made a memory where there was none")


@requirement(
    "RM-032",
    "Of several data items the last one is the update",
    why="As for store.",
    needs=("RM-030",),
)
def of_several_items_the_last_one_is_the_update(trial: Trial) -> None:
    """As if the updates had been made one by one."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "before"))
    trial.subject.update(trial.about(name, "first", "second", "third"))
    expect(trial.subject.held(trial.about(name)) == "third", "of three items another one than the last is there")


@requirement(
    "RM-033",
    "An update without data is refused with an error, and changes nothing",
    why="As for store.",
    needs=("RM-010",),
)
def an_update_without_data_is_refused(trial: Trial) -> None:
    """Whether data is None or an empty list."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "text"))
    refuses(trial, "update", name)


@requirement(
    "RM-040",
    "A deleted memory is gone",
    why="Somebody asked for it to be forgotten.",
    needs=("RM-010",),
)
def a_deleted_memory_is_gone(trial: Trial) -> None:
    """At once."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "text"))
    trial.subject.delete(trial.about(name))
    expect(trial.subject.held(trial.about(name)) is None, "it is still there")


@requirement(
    "RM-041",
    "Deleting a conversation without a memory is no error",
    why="Clean-up is repeated, and two may clean up at once.",
    needs=("RM-010", "RM-040"),
)
def deleting_nothing_is_no_error(trial: Trial) -> None:
    """One that never was, and one that was deleted already."""
    name = trial.new_id()
    trial.subject.delete(trial.about(name))
    trial.subject.store(trial.about(name, "text"))
    trial.subject.delete(trial.about(name))
    trial.subject.delete(trial.about(name))
    expect(trial.subject.held(trial.about(name)) is None, "after three deletions a memory is there")


@requirement(
    "RM-042",
    "A deleted memory can be stored anew",
    why="A conversation may begin again under its id.",
    needs=("RM-010", "RM-040"),
)
def a_deleted_memory_can_be_stored_anew(trial: Trial) -> None:
    """The deletion is of what was there, not of the conversation."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "before"))
    trial.subject.delete(trial.about(name))
    trial.subject.store(trial.about(name, "after"))
    expect(trial.subject.held(trial.about(name)) == "after", "what was stored after the deletion is not there")


@requirement(
    "RM-043",
    "An update after a deletion keeps the memory missing",
    why="A late update would bring back what somebody wanted gone.",
    needs=("RM-010", "RM-031", "RM-040"),
)
def an_update_after_a_deletion_keeps_it_missing(trial: Trial) -> None:
    """A row that is only marked as deleted is not there for updates either."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "before"))
    trial.subject.delete(trial.about(name))
    trial.subject.update(trial.about(name, "after"))
    expect(trial.subject.held(trial.about(name)) is None, "the update brought the memory back")
