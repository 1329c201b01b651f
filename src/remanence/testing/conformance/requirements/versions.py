"""Capability `versions`: a write can be made only over what was read."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from remanence.errors import VersionConflictError
from remanence.testing.conformance.errors import NotMetError
from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.trial import Trial

__all__ = [
    "a_receipt_bears_the_version_of_what_was_written",
    "a_version_tells_whether_a_memory_changed",
    "a_write_over_an_older_version_is_refused",
    "a_write_over_the_version_that_was_read_is_done",
    "of_writers_over_one_version_one_wins",
    "without_a_version_only_where_nothing_is_stored",
]

_CAPABILITIES: Final = ("versions",)
_WRITERS: Final = 6
_ROUNDS: Final = 5


@requirement(
    "RM-401",
    "An answer's .version is a text that changes with the memory, and None where there is none",
    why="It is how a writer says what it has seen.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-011", "RM-012", "RM-014"),
)
def a_version_tells_whether_a_memory_changed(trial: Trial) -> None:
    """The same for the same, another one after a write."""
    name = trial.new_id()
    expect(_version(trial, name) is None, "the version of nothing is not None")
    trial.subject.store(trial.about(name, "first"))
    first = _version(trial, name)
    expect(isinstance(first, str) and first, "the version of a memory is not a text")
    expect(_version(trial, name) == first, "two reads of one memory have two versions")
    trial.subject.store(trial.about(name, "second"))
    expect(_version(trial, name) != first, "the version did not change with the memory")


@requirement(
    "RM-402",
    "A store or an update with if_version= of what is stored is done",
    why="A writer that has seen what is there may replace it.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-012", "RM-030", "RM-401"),
)
def a_write_over_the_version_that_was_read_is_done(trial: Trial) -> None:
    """Both of them."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "first"))
    trial.subject.store(trial.about(name, "second"), if_version=_version(trial, name))
    expect(trial.subject.held(trial.about(name)) == "second", "the store was not done")
    trial.subject.update(trial.about(name, "third"), if_version=_version(trial, name))
    expect(trial.subject.held(trial.about(name)) == "third", "the update was not done")


@requirement(
    "RM-403",
    "A write over an older version raises VersionConflictError, and changes nothing",
    why="What somebody else wrote in between has not been seen, and would be lost.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-012", "RM-030", "RM-040", "RM-401"),
)
def a_write_over_an_older_version_is_refused(trial: Trial) -> None:
    """A store and an update; also where the memory was deleted meanwhile."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "first"))
    old = _version(trial, name)
    trial.subject.store(trial.about(name, "second"))
    for method in ("store", "update"):
        _refused(trial, method, name, old)
        expect(trial.subject.held(trial.about(name)) == "second", f"a refused {method} changed what was stored")
    trial.subject.delete(trial.about(name))
    _refused(trial, "store", name, old)
    expect(trial.subject.held(trial.about(name)) is None, "a refused store brought a deleted memory back")


@requirement(
    "RM-404",
    "A store with if_version=None is done only where nothing is stored",
    why="Of two that begin a conversation at once one must learn that it is the second.",
    capabilities=_CAPABILITIES,
    needs=("RM-010",),
)
def without_a_version_only_where_nothing_is_stored(trial: Trial) -> None:
    """None is the version of nothing."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "first"), if_version=None)
    expect(trial.subject.held(trial.about(name)) == "first", "a store where nothing was stored was not done")
    _refused(trial, "store", name, None)
    expect(trial.subject.held(trial.about(name)) == "first", "a refused store changed what was stored")


@requirement(
    "RM-405",
    "A receipt's .version is the version of what was written",
    why="A writer can go on from its own write without reading it back.",
    capabilities=_CAPABILITIES,
    needs=("RM-013", "RM-030", "RM-401"),
)
def a_receipt_bears_the_version_of_what_was_written(trial: Trial) -> None:
    """Of a store, and of an update."""
    name = trial.new_id()
    receipt = trial.subject.store(trial.about(name, "first"))
    expect(getattr(receipt, "version", None) == _version(trial, name), "the version of a store's receipt is another")
    receipt = trial.subject.update(trial.about(name, "second"))
    expect(getattr(receipt, "version", None) == _version(trial, name), "the version of an update's receipt is another")


@requirement(
    "RM-406",
    "Of several writers over one version, at once, one wins and the others learn it",
    why="A comparison and a write in two steps let two writers win, and one of them is lost.",
    capabilities=("versions", "concurrency"),
    needs=("RM-101", "RM-104", "RM-402", "RM-403"),
)
def of_writers_over_one_version_one_wins(trial: Trial) -> None:
    """In each of several rounds."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "begin"))
    for number in range(_ROUNDS):
        version = _version(trial, name)
        won: list[str] = []
        # A text of its own each time: a version may be a digest, and the same text again the same version.
        texts = [f"round {number}, writer {n}" for n in range(_WRITERS)]
        trial.together(*(partial(_contend, trial, name, text, version, won) for text in texts))
        expect(len(won) == 1, f"of {_WRITERS} writers over one version {len(won)} were told that they had won")
        expect([trial.subject.held(trial.about(name))] == won, "what is stored is not the winner's")


def _contend(trial: Trial, name: str, text: str, version: str | None, won: list[str]) -> None:
    try:
        trial.subject.store(trial.about(name, text), if_version=version)
    except VersionConflictError:
        return
    won.append(text)


def _version(trial: Trial, name: str) -> Any:
    answer = trial.subject.retrieve(trial.about(name))
    expect(hasattr(answer, "version"), "an answer has no attribute version")
    return answer.version


def _refused(trial: Trial, method: str, name: str, version: str | None) -> None:
    try:
        trial.subject.call(method, trial.about(name, "refused"), if_version=version)
    except VersionConflictError:
        return
    raise NotMetError(f"{method}() over another version than the stored one raised nothing")
