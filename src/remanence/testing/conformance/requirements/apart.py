"""What is whose."""

from __future__ import annotations

from typing import Final

from remanence.interface import ConversationMemoryType, IMemoryInput, IWorkingMemory
from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.trial import Trial

__all__ = [
    "conversations_are_kept_apart",
    "ids_are_compared_exactly",
    "kinds_are_kept_apart",
    "the_default_kind_is_short_term_memory",
]

_ENDINGS: Final = {
    "as it is": "-Id",
    "in small letters": "-id",
    "with a space behind it": "-Id ",
    "with a * in place of a letter": "-I*",
    "with a % in place of a letter": "-I%",
    "with a _ in place of a letter": "-I_",
    "with a ? in place of a letter": "-I?",
    "with a colon": "-Id:",
    "with a slash": "-Id/../-Id",
    "with an accent": "-\u00cdd",
    "with a combining accent": "-I\u0301d",
    "with quotes": "-Id'\"",
    "with a digit behind it": "-Id0",
    "with 500 characters": "-Id" + "x" * 500,
    "with 500 other characters": "-Id" + "x" * 499 + "y",
}


@requirement(
    "RM-050",
    "Conversations are kept apart",
    why="Otherwise one user reads another user's memory.",
    needs=("RM-010", "RM-014", "RM-030", "RM-040"),
)
def conversations_are_kept_apart(trial: Trial) -> None:
    """Stores, updates and deletions of one leave the other alone."""
    mine, other = trial.new_id(), trial.new_id()
    trial.subject.store(trial.about(other, "other"))
    trial.subject.store(trial.about(mine, "mine"))
    expect(trial.subject.held(trial.about(other)) == "other", "a store changed another conversation")
    trial.subject.update(trial.about(mine, "mine again"))
    expect(trial.subject.held(trial.about(other)) == "other", "an update changed another conversation")
    trial.subject.delete(trial.about(mine))
    expect(trial.subject.held(trial.about(other)) == "other", "a deletion removed another conversation's memory")


@requirement(
    "RM-051",
    "Ids are compared exactly: letter by letter, and nothing in them has a meaning",
    why="A case-folding column, a trimmed key or a wildcard in a query gives one user another user's memory.",
    needs=("RM-010", "RM-014", "RM-040", "RM-050"),
)
def ids_are_compared_exactly(trial: Trial) -> None:
    """Ids that look alike are different ones; one after the other is deleted, and the rest stays."""
    begin = trial.new_id()
    for which, ending in _ENDINGS.items():
        trial.subject.store(trial.about(f"{begin}{ending}", f"text of an id {which}"))
    left = dict(_ENDINGS)
    while left:
        for which, ending in left.items():
            found = trial.subject.held(trial.about(f"{begin}{ending}"))
            expect(found == f"text of an id {which}", f"the memory of an id {which} is lost or another's")
        trial.subject.delete(trial.about(f"{begin}{left.pop(_last(left))}"))


def _last(names: dict[str, str]) -> str:
    # Those that mean others where they are taken for a pattern go before the one that they would mean.
    return list(names)[-1]


@requirement(
    "RM-052",
    "The kinds of memory of a conversation are kept apart",
    why="A conversation has one memory of each kind.",
    needs=("RM-010", "RM-014", "RM-030", "RM-040"),
)
def kinds_are_kept_apart(trial: Trial) -> None:
    """Stores, updates and deletions of one kind leave the others alone."""
    name = trial.new_id()
    kinds = list(ConversationMemoryType)
    for kind in kinds:
        trial.subject.store(trial.about(name, kind.value, kind=kind))
    expected: dict[ConversationMemoryType, str | None] = {kind: kind.value for kind in kinds}
    _expect_all(trial, name, expected, "a store")
    for kind in kinds:
        trial.subject.update(trial.about(name, f"new {kind.value}", kind=kind))
        expected[kind] = f"new {kind.value}"
        _expect_all(trial, name, expected, "an update")
    for kind in kinds:
        trial.subject.delete(trial.about(name, kind=kind))
        expected[kind] = None
        _expect_all(trial, name, expected, "a deletion")


def _expect_all(trial: Trial, name: str, expected: dict[ConversationMemoryType, str | None], after: str) -> None:
    for kind, text in expected.items():
        found = trial.subject.held(trial.about(name, kind=kind))
        expect(found == text, f"after {after} the {kind.value} is not what was written last")


@requirement(
    "RM-053",
    "Without a kind an input is about the SHORT_TERM_MEMORY",
    why="It is the default of the interface; a manager with another one finds nothing that was stored without a kind.",
    needs=("RM-010", "RM-052"),
)
def the_default_kind_is_short_term_memory(trial: Trial) -> None:
    """And about no other."""
    name = trial.new_id()
    short = ConversationMemoryType.SHORT_TERM_MEMORY
    trial.about(name, kind=short)  # so that it is tidied up
    trial.subject.store(IMemoryInput(conversation_id=name, data=[IWorkingMemory(working_memory="text")]))
    expect(trial.subject.held(trial.about(name, kind=short)) == "text", "it was stored as another kind")
    expect(trial.subject.held(IMemoryInput(conversation_id=name)) == "text", "it was looked for as another kind")
    expect(trial.subject.held(trial.about(name)) is None, "it was stored as the WORKING_MEMORY too")
