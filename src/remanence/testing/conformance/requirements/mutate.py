"""Capability `mutate`: a change made of what is there, losing nobody else's."""

from __future__ import annotations

from typing import Final

from remanence.testing.conformance.errors import NotMetError
from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.trial import Trial

__all__ = [
    "a_change_that_fails_leaves_the_memory",
    "a_memory_is_changed_by_a_function",
    "changes_at_once_are_all_kept",
]

_THREADS: Final = 4
_CHANGES: Final = 5


class _OnPurposeError(Exception):
    """What the function raises."""


@requirement(
    "RM-501",
    "mutate gives the function the text, or None where there is none, and stores what it returns",
    why="It is how a memory is begun and continued by the same code.",
    capabilities=("mutate",),
    needs=("RM-010",),
)
def a_memory_is_changed_by_a_function(trial: Trial) -> None:
    """Once from nothing, once from what is there."""
    name = trial.new_id()
    given: list[str | None] = []

    def change(text: str | None) -> str:
        given.append(text)
        return "first" if text is None else f"{text}, second"

    trial.subject.call("mutate", trial.about(name), change)
    expect(given[-1:] == [None], "the function was not given None where nothing is stored")
    expect(trial.subject.held(trial.about(name)) == "first", "what the function returned is not stored")
    trial.subject.call("mutate", trial.about(name), change)
    expect(given[-1] == "first", "the function was not given the text that is stored")
    expect(trial.subject.held(trial.about(name)) == "first, second", "what the function returned is not stored")


@requirement(
    "RM-502",
    "A function that raises leaves the memory as it is, and its error reaches the caller",
    why="A change that was not made must not look like one that was.",
    capabilities=("mutate",),
    needs=("RM-010", "RM-501"),
)
def a_change_that_fails_leaves_the_memory(trial: Trial) -> None:
    """Whatever it raises."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "text"))

    def change(_: str | None) -> str:
        raise _OnPurposeError

    try:
        trial.subject.call("mutate", trial.about(name), change)
    except _OnPurposeError:
        expect(trial.subject.held(trial.about(name)) == "text", "the memory was changed all the same")
    else:
        raise NotMetError("the function's error did not reach the caller")


@requirement(
    "RM-503",
    "Of changes at once none is lost",
    why="Reading and writing back loses what others wrote in between: of 400 changes the reference kept 63.",
    capabilities=("mutate", "concurrency"),
    needs=("RM-101", "RM-104", "RM-501"),
    extra_seconds=20.0,
)
def changes_at_once_are_all_kept(trial: Trial) -> None:
    """Each thread counts up a few times."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "0"))

    def count_up() -> None:
        for _ in range(_CHANGES):
            trial.subject.call("mutate", trial.about(name), lambda text: str(int(text or "0") + 1))

    trial.together(*[count_up] * _THREADS)
    found = trial.subject.held(trial.about(name))
    expected = str(_THREADS * _CHANGES)
    expect(found == expected, f"of {expected} changes {found} are there")
