"""Capability `faults`: the store goes away and comes back."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from remanence.testing.conformance.errors import NotMetError
from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.trial import Subject, Trial

__all__ = [
    "a_call_ends_though_the_store_is_silent",
    "a_read_without_the_store_does_not_say_nothing_is_stored",
    "an_acknowledged_deletion_is_done",
    "an_acknowledged_store_is_kept",
    "it_works_again_once_the_store_is_back",
]

_CAPABILITIES: Final = ("faults",)
_EXTRA: Final = 40.0


@requirement(
    "RM-801",
    "While the store is away retrieve raises an error, or an answer whose .degraded is true",
    why="An empty list means that there is no memory: the agent begins a new one, and writes it over the real one.",
    capabilities=_CAPABILITIES,
    needs=("RM-010",),
    extra_seconds=_EXTRA,
)
def a_read_without_the_store_does_not_say_nothing_is_stored(trial: Trial) -> None:
    """For a conversation that this manager has seen, and for one that it has not."""
    known, unknown = trial.new_id(), trial.new_id()
    trial.subject.store(trial.about(known, "text"))
    with trial.outage():
        expect(_is_honest(trial, known, "text"), "of a memory that is stored retrieve() said that there is none")
        expect(_is_honest(trial, unknown, None), "retrieve() answered as if the store had said that nothing is stored")


def _is_honest(trial: Trial, name: str, copy: str | None) -> bool:
    answer = _attempt(trial, "retrieve", name)
    if isinstance(answer, Exception) or getattr(answer, "degraded", False):
        return True
    return copy is not None and bool(answer) and answer[0].working_memory == copy


@requirement(
    "RM-802",
    "A store that returned while the store was away is there once it is back",
    why="What was acknowledged is kept; what cannot be kept must raise an error.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-012", "RM-804"),
    extra_seconds=_EXTRA,
)
def an_acknowledged_store_is_kept(trial: Trial) -> None:
    """One that raised may have been done or not; what was there before is not lost with it."""
    new, known = trial.new_id(), trial.new_id()
    trial.subject.store(trial.about(known, "before"))
    witness = _witness(trial, known, "before")
    with trial.outage():
        answers = {name: _attempt(trial, "store", name, "after") for name in (new, known)}
    for name, answer in answers.items():
        allowed: set[str | None] = {"after"}
        reason = "an acknowledged store is lost"
        if isinstance(answer, Exception):
            allowed.add("before" if name == known else None)
            reason = "what was there before is lost"
        trial.until(partial(_is_among, allowed, witness, trial, name), reason)


def _is_among(allowed: set[str | None], subject: Subject, trial: Trial, name: str) -> bool:
    return _held(subject, trial, name) in allowed


@requirement(
    "RM-803",
    "A deletion that returned while the store was away is done once it is back",
    why="Somebody was told that it is gone.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-040", "RM-804"),
    extra_seconds=_EXTRA,
)
def an_acknowledged_deletion_is_done(trial: Trial) -> None:
    """One that raised may have been done or not."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "text"))
    witness = _witness(trial, name, "text")
    with trial.outage():
        answer = _attempt(trial, "delete", name)
    allowed: set[str | None] = {None, "text"} if isinstance(answer, Exception) else {None}
    trial.until(partial(_is_among, allowed, witness, trial, name), "an acknowledged deletion is not done")


@requirement(
    "RM-804",
    "Once the store is back the same manager works again, and finds what was stored",
    why="A service must not be started anew after each outage.",
    capabilities=_CAPABILITIES,
    needs=("RM-010",),
    extra_seconds=_EXTRA,
)
def it_works_again_once_the_store_is_back(trial: Trial) -> None:
    """By itself, after a while."""
    before, after = trial.new_id(), trial.new_id()
    trial.subject.store(trial.about(before, "before"))
    with trial.outage():
        _attempt(trial, "retrieve", before)
        _attempt(trial, "store", before, "before")
    trial.until(partial(_is_among, {"before"}, trial.subject, trial, before), "what was stored before cannot be read")

    def works() -> bool:
        trial.subject.store(trial.about(after, "after"))
        return _held(trial.subject, trial, after) == "after"

    trial.until(works, "nothing can be stored")


@requirement(
    "RM-805",
    "A call ends though the store takes it and never answers",
    why="A server that is frozen, or a network that swallows packets, must not stop every worker of a service.",
    capabilities=_CAPABILITIES,
    needs=("RM-010",),
    extra_seconds=_EXTRA,
)
def a_call_ends_though_the_store_is_silent(trial: Trial) -> None:
    """With an error or without, each of the four."""
    name = trial.new_id()
    limit = trial.hooks.call_limit
    trial.subject.store(trial.about(name, "text"))
    with trial.silence():
        for method in ("retrieve", "store", "update", "delete"):
            texts = ("text",) if method in {"store", "update"} else ()
            ends = trial.ends_within(limit, partial(_attempt, trial, method, name, *texts))
            expect(ends, f"{method}() did not end within {limit:g} s")


def _attempt(trial: Trial, method: str, name: str, *texts: str) -> Any:
    """Return the answer, or the error."""
    try:
        return trial.subject.call(method, trial.about(name, *texts))
    except NotMetError:
        raise
    except Exception as error:  # noqa: BLE001 - an error is an honest answer here
        return error


def _witness(trial: Trial, name: str, text: str) -> Subject:
    """Return another manager of the same store, which tells what has come there; where there is none, the manager."""
    other = trial.another()
    return other if other.held(trial.about(name)) == text else trial.subject


def _held(subject: Subject, trial: Trial, name: str) -> str | None:
    """Return what the store itself holds; NotMetError where something else answered in its place."""
    answer = subject.retrieve(trial.about(name))
    expect(not getattr(answer, "degraded", False), "the answer is not the store's")
    return answer[0].working_memory if answer else None
