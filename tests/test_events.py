"""Events: what they are, and how listeners are told."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest

from remanence import events
from remanence.events import CircuitTransition, Event, RetryScheduled, notify

EVENTS = [
    getattr(events, name)
    for name in events.__all__
    if isinstance(getattr(events, name), type) and issubclass(getattr(events, name), Event)
]


def test_every_listener_is_told_in_order() -> None:
    """Listeners hear an event one after the other, the same object each."""
    heard: list[tuple[str, Event]] = []
    event = RetryScheduled("store", 1, 0.1, "ConnectionError")
    notify([lambda e: heard.append(("first", e)), lambda e: heard.append(("second", e))], event)
    assert heard == [("first", event), ("second", event)]
    assert heard[0][1] is event


def test_a_listener_that_raises_is_reported_by_class_name(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the listener's exception and the event, quotes neither, and the others are told."""
    heard: list[Event] = []

    def broken(_: Event) -> None:
        message = "secret"
        raise ValueError(message)

    with caplog.at_level(logging.WARNING, "remanence"):
        notify([broken, heard.append], CircuitTransition("it", "closed", "open"))
    assert len(heard) == 1
    assert caplog.messages == ["a listener raised ValueError on CircuitTransition"]
    assert "secret" not in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_end_of_the_program_in_a_listener_is_not_swallowed(error: type[BaseException]) -> None:
    """KeyboardInterrupt and SystemExit pass through."""

    def end(_: Event) -> None:
        raise error

    with pytest.raises(error):
        notify([end], CircuitTransition("it", "closed", "open"))


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_events_are_frozen_and_slotted(kind: Any) -> None:
    """An event cannot be changed by a listener that the others come after."""
    assert issubclass(kind, Event)
    assert not hasattr(kind, "__dict__") or "__dict__" not in dir(kind.__new__(kind))
    names = [field.name for field in dataclasses.fields(kind)]
    event = kind(*names)
    for name in names:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, name, "changed")


def test_events_have_no_field_for_content() -> None:
    """No event has a field for a text, a key or an id: what is not there cannot leak."""
    fields = {field.name for kind in EVENTS for field in dataclasses.fields(kind)}
    assert fields.isdisjoint({"key", "text", "raw", "conversation_id", "metadata", "message", "input", "call"})
