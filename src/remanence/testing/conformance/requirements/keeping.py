"""What was stored is there."""

from __future__ import annotations

from typing import Any, Final

from remanence.interface import ConversationMemoryType
from remanence.testing.conformance.errors import NotMetError
from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.trial import Trial

__all__ = [
    "a_store_without_data_is_refused",
    "many_conversations_stand_side_by_side",
    "nothing_stored_is_an_empty_list",
    "of_several_items_the_last_one_is_stored",
    "reading_changes_nothing",
    "refuses",
    "store_replaces_what_was_stored",
    "store_returns_a_key",
    "what_was_stored_is_retrieved",
]

_MANY: Final = 200
_READS: Final = 3


@requirement(
    "RM-010",
    "What was stored is retrieved, as a list of one object with .working_memory",
    why="That is what a memory is for.",
    needs=("RM-001",),
)
def what_was_stored_is_retrieved(trial: Trial) -> None:
    """A round trip, and the shape of the answer."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "text"))
    memories = trial.subject.retrieve(trial.about(name))
    expect(isinstance(memories, list), f"retrieve() returned a {type(memories).__name__}, not a list")
    expect(len(memories) == 1, f"retrieve() returned {len(memories)} memories for a conversation that has one")
    kind = type(memories[0]).__name__
    expect(hasattr(memories[0], "working_memory"), f"a memory is a {kind}, which has no attribute working_memory")
    expect(memories[0].working_memory == "text", "the text that came back is another one")


@requirement(
    "RM-011",
    "For a conversation without a memory retrieve returns an empty list, never None",
    why="Callers loop over the answer, or take its length.",
    needs=("RM-001",),
)
def nothing_stored_is_an_empty_list(trial: Trial) -> None:
    """Nothing is an answer, not an error."""
    memories = trial.subject.retrieve(trial.about(trial.new_id()))
    expect(isinstance(memories, list), f"retrieve() returned a {type(memories).__name__}, not a list")
    expect(len(memories) == 0, "retrieve() returned a memory for a conversation that has none")


@requirement(
    "RM-012",
    "A store replaces what was stored",
    why="There is one memory for each conversation and kind, and agents rewrite it after each turn.",
    needs=("RM-010",),
)
def store_replaces_what_was_stored(trial: Trial) -> None:
    """The second of two is there, alone."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "first"))
    trial.subject.store(trial.about(name, "second"))
    memories = trial.subject.retrieve(trial.about(name))
    texts = [memory.working_memory for memory in memories]
    expect(texts == ["second"], f"after a second store {len(texts)} memories are there, and not the second text alone")


@requirement(
    "RM-013",
    "store returns a key, a text that is not empty and differs from those of other memories",
    why="It is what logs and tools know the memory by.",
    needs=("RM-001",),
)
def store_returns_a_key(trial: Trial) -> None:
    """Of each conversation and kind."""
    names = [trial.new_id(), trial.new_id()]
    keys = [
        trial.subject.store(trial.about(name, "text", kind=kind)) for name in names for kind in ConversationMemoryType
    ]
    for key in keys:
        expect(isinstance(key, str), f"store() returned a {type(key).__name__}, not a str")
        expect(key, "store() returned an empty key")
    expect(len(set(keys)) == len(keys), "store() returned the same key for two memories")


@requirement(
    "RM-014",
    "Reading changes nothing: a second retrieve gives the same",
    why="A memory is read once a turn, and by more than one reader.",
    needs=("RM-010",),
)
def reading_changes_nothing(trial: Trial) -> None:
    """However often it is read."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "text"))
    texts = [trial.subject.held(trial.about(name)) for _ in range(_READS)]
    expect(texts == ["text"] * _READS, "a later retrieve gave something else than the first")


@requirement(
    "RM-015",
    "Of several data items the last one is stored",
    why="A key holds one text; the reference writes them one after the other, so the last one stays.",
    needs=("RM-010",),
)
def of_several_items_the_last_one_is_stored(trial: Trial) -> None:
    """As if they had been stored one by one."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "first", "second", "third"))
    expect(trial.subject.held(trial.about(name)) == "third", "of three items another one than the last is there")


@requirement(
    "RM-016",
    "A store without data is refused with an error, and changes nothing",
    why="A caller's mistake must not look like a success, nor wipe a memory out.",
    needs=("RM-010",),
)
def a_store_without_data_is_refused(trial: Trial) -> None:
    """Whether data is None or an empty list."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "text"))
    refuses(trial, "store", name)


def refuses(trial: Trial, method: str, name: str) -> None:
    """Expect that a write without data is refused, and the text "text" kept."""
    empty: tuple[list[Any] | None, ...] = (None, [])
    for data in empty:
        item = trial.about(name).model_copy(update={"data": data})
        try:
            trial.subject.call(method, item)
        except NotMetError:
            raise
        except Exception:  # noqa: BLE001 - any error will do
            expect(trial.subject.held(trial.about(name)) == "text", f"{method}() without data changed what was stored")
        else:
            raise NotMetError(f"{method}() with data={data} raised nothing")


@requirement(
    "RM-017",
    f"{_MANY} conversations stand side by side",
    why="A store that drops old memories to make room for new ones loses them while they are in use.",
    needs=("RM-010",),
)
def many_conversations_stand_side_by_side(trial: Trial) -> None:
    """None of them pushes another one out."""
    names = [trial.new_id() for _ in range(_MANY)]
    for number, name in enumerate(names):
        trial.subject.store(trial.about(name, f"text {number}"))
    texts = [trial.subject.held(trial.about(name)) for name in names]
    wrong = sum(text != f"text {number}" for number, text in enumerate(texts))
    expect(not wrong, f"of {_MANY} memories {wrong} are not there, or are another's")
