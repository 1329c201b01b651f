"""Capability `ttl`: a memory lives for a time after it was last written."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from remanence.interface import IMemoryInput
from remanence.testing.conformance.errors import NotMetError, NotTestableError
from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.trial import Subject, Trial

__all__ = [
    "a_memory_is_gone_after_its_time",
    "a_store_renews_the_time",
    "an_update_of_an_expired_memory_keeps_it_missing",
    "an_update_renews_the_time",
]

_CAPABILITIES: Final = ("ttl",)
_EXTRA: Final = 20.0
_SHORT: Final = 1
_TTL: Final = 2
_PART: Final = 1.3
_NEARLY: Final = 1.7
_GRACE: Final = 2.0
_LOOKS: Final = 10
_TRIES: Final = 3


@requirement(
    "RM-201",
    "A memory is there for its time, and gone after it",
    why="Memories of people must not stay for ever, nor end early.",
    capabilities=_CAPABILITIES,
    needs=("RM-010",),
    extra_seconds=_EXTRA,
)
def a_memory_is_gone_after_its_time(trial: Trial) -> None:
    """With some grace for stores that clean up now and then."""
    subject = trial.with_ttl(_TTL)
    name = _lives_until_nearly_the_end(trial, subject)
    trial.advance(_TTL - _NEARLY)
    for _ in range(_LOOKS):
        trial.advance(_GRACE / _LOOKS)
        if subject.held(trial.about(name)) is None:
            return
    raise NotMetError(f"{_GRACE} s after its time is over it is still there")


@requirement(
    "RM-202",
    "An update renews a memory's time",
    why="A conversation that goes on must not lose its memory in the middle; the reference on Redis renews it.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-030", "RM-201"),
    extra_seconds=_EXTRA,
)
def an_update_renews_the_time(trial: Trial) -> None:
    """It lives on from its last write."""
    _lives_on(trial, lambda subject, item: subject.update(item))


@requirement(
    "RM-203",
    "A store renews a memory's time",
    why="As for update.",
    capabilities=_CAPABILITIES,
    needs=("RM-012", "RM-201"),
    extra_seconds=_EXTRA,
)
def a_store_renews_the_time(trial: Trial) -> None:
    """It lives on from its last write."""
    _lives_on(trial, lambda subject, item: subject.store(item))


@requirement(
    "RM-204",
    "An update of an expired memory keeps it missing",
    why="An expired memory is none, also where its row was not cleaned up yet.",
    capabilities=_CAPABILITIES,
    needs=("RM-031", "RM-201"),
    extra_seconds=_EXTRA,
)
def an_update_of_an_expired_memory_keeps_it_missing(trial: Trial) -> None:
    """Nothing is there afterwards."""
    subject = trial.with_ttl(_SHORT)
    name = trial.new_id()
    subject.store(trial.about(name, "before"))
    trial.advance(_SHORT + 0.5)
    subject.update(trial.about(name, "after"))
    expect(subject.held(trial.about(name)) is None, "the update brought the expired memory back")


def _lives_until_nearly_the_end(trial: Trial, subject: Subject) -> str:
    """Store, and look at once and shortly before the end; return the id. On a machine that is busy, try again."""
    for _ in range(_TRIES):
        name = trial.new_id()
        stored = time.monotonic()
        subject.store(trial.about(name, "text"))
        is_there = subject.held(trial.about(name)) == "text"
        expect(is_there or time.monotonic() - stored >= _TTL, "it is gone at once")
        advancing = time.monotonic()
        trial.advance(_NEARLY)
        moved = _NEARLY if time.monotonic() - advancing < _NEARLY else 0.0  # a clock was set, or it slept
        if subject.held(trial.about(name)) == "text":
            return name
        if time.monotonic() - stored + moved < _TTL:
            raise NotMetError(f"{_NEARLY} s after it was stored a memory that lives for {_TTL} s is gone")
    raise NotTestableError("this machine is too busy to tell whether a memory ended early")


def _lives_on(trial: Trial, renew: Callable[[Subject, IMemoryInput], object]) -> None:
    """Store, let a part of the time pass, renew, let the part pass again; expect that it is there.

    On a machine that is busy more time may pass than was meant: then it is tried again.
    """
    subject = trial.with_ttl(_TTL)
    for _ in range(_TRIES):
        name = trial.new_id()
        stored = time.monotonic()
        subject.store(trial.about(name, "text"))
        trial.advance(_PART)
        renewing = time.monotonic()
        renew(subject, trial.about(name, "text"))
        is_late = time.monotonic() - stored >= _TTL
        trial.advance(_PART)
        if subject.held(trial.about(name)) == "text":
            return
        if not is_late and time.monotonic() - renewing < _TTL:
            raise NotMetError(f"{_PART} s after its last write a memory that lives for {_TTL} s is gone")
    raise NotTestableError("this machine is too busy to tell whether a memory ended early")
