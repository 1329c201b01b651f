"""Capability `concurrency`: several threads, or tasks, use one manager at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from remanence.testing.conformance.errors import NotMetError
from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.trial import Trial

__all__ = [
    "an_update_brings_nothing_back",
    "conversations_at_once_do_not_disturb_each_other",
    "stores_at_once_leave_one_text_whole",
    "what_one_thread_wrote_another_reads",
]

_THREADS: Final = 6
_ROUNDS: Final = 12
_STANDING: Final = 250
_LONG: Final = 2_000
_RACES: Final = 60
_UPDATES: Final = 8
_RACE_SECONDS: Final = 1.5
_CAPABILITIES: Final = ("concurrency",)


@requirement(
    "RM-101",
    "Calls on several conversations at once do not disturb each other",
    why="A service answers many users at a time, with one manager.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-030", "RM-040", "RM-050"),
)
def conversations_at_once_do_not_disturb_each_other(trial: Trial) -> None:
    """Each thread finds what it wrote, and no call fails."""
    for number in range(_STANDING):  # a full store takes longer to walk through, for those who do
        trial.subject.store(trial.about(trial.new_id(), f"standing {number}"))
    trial.together(*(partial(_converse, trial, number) for number in range(_THREADS)))


def _converse(trial: Trial, thread: int) -> None:
    for number in range(_ROUNDS):
        name, text = trial.new_id(), f"{thread} {number}"
        trial.subject.store(trial.about(name, text))
        expect(trial.subject.held(trial.about(name)) == text, "a thread read something else than it had stored")
        trial.subject.update(trial.about(name, f"{text} again"))
        expect(trial.subject.held(trial.about(name)) == f"{text} again", "a thread read something else than its update")
        trial.subject.delete(trial.about(name))
        expect(trial.subject.held(trial.about(name)) is None, "a thread found what it had deleted")


@requirement(
    "RM-102",
    "Stores of one conversation at once leave one of their texts, whole, and so do readers see it",
    why="A memory made of halves of two is worse than either.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-012", "RM-014", "RM-022", "RM-104"),
)
def stores_at_once_leave_one_text_whole(trial: Trial) -> None:
    """At every moment one of the texts is there."""
    name = trial.new_id()
    texts = [f"{number}" * _LONG for number in range(_THREADS)]
    trial.subject.store(trial.about(name, texts[0]))

    ended: list[str] = []

    def write(text: str) -> None:
        try:
            for _ in range(_ROUNDS):
                trial.subject.store(trial.about(name, text))
        finally:
            ended.append(text)

    def read() -> None:
        while len(ended) < len(texts):
            expect(trial.subject.held(trial.about(name)) in texts, "a reader saw none of the texts that were written")

    trial.together(*(partial(write, text) for text in texts), read, read)
    expect(trial.subject.held(trial.about(name)) in texts, "none of the texts is what is stored")


@requirement(
    "RM-103",
    "An update never brings back a memory that is deleted at the same time",
    why="Reading, changing and writing back in three steps revives what somebody wanted gone.",
    capabilities=_CAPABILITIES,
    needs=("RM-030", "RM-040", "RM-042", "RM-043", "RM-101", "RM-104"),
)
def an_update_brings_nothing_back(trial: Trial) -> None:
    """Whichever comes first, nothing is there after both."""
    name = trial.new_id()
    until = time.monotonic() + _RACE_SECONDS
    for number in range(_RACES):
        trial.subject.store(trial.about(name, "before"))
        trial.together(*_race(trial, name, number // 2 % _UPDATES if number % 2 else None))
        if trial.subject.held(trial.about(name)) is not None:
            raise NotMetError(f"after updates and a deletion at once the memory is there (race {number + 1})")
        if time.monotonic() > until:
            return


def _race(trial: Trial, name: str, after: int | None) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return a deletion that waits until so many updates are over, None for no wait, and the updates.

    The last to be started goes first: a deletion that did would leave nothing to update.
    """
    begins = threading.Event()

    def update() -> None:
        for number in range(_UPDATES):
            if number == after:
                begins.set()
            trial.subject.update(trial.about(name, "after"))

    def delete() -> None:
        if after is not None:
            begins.wait(_RACE_SECONDS)
        trial.subject.delete(trial.about(name))

    return delete, update


@requirement(
    "RM-104",
    "What one thread wrote another one reads",
    why="The next turn of a conversation is served by another thread.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-030", "RM-040"),
)
def what_one_thread_wrote_another_reads(trial: Trial) -> None:
    """Stores, updates and deletions."""
    name, subject = trial.new_id(), trial.subject
    trial.together(lambda: subject.store(trial.about(name, "stored")))
    expect(subject.held(trial.about(name)) == "stored", "what another thread stored is not there")
    trial.together(lambda: subject.update(trial.about(name, "updated")))
    expect(subject.held(trial.about(name)) == "updated", "what another thread updated is not there")
    trial.together(lambda: subject.delete(trial.about(name)))
    expect(subject.held(trial.about(name)) is None, "what another thread deleted is still there")
