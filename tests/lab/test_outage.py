"""The outage on schedule: when it heals, and what can hold that up."""

from __future__ import annotations

import threading
import time

import pytest

from remanence.lab import outage
from remanence.lab.outage import Outage
from tests.support import wait_until


class Noting:
    """A victim that notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def start(self) -> None:
        """Note it."""
        self.done.append("start")

    def stop(self) -> None:
        """Note it."""
        self.done.append("stop")

    def kill(self) -> None:
        """Note it."""
        self.done.append("kill")

    def freeze(self) -> None:
        """Note it."""
        self.done.append("freeze")

    def thaw(self) -> None:
        """Note it."""
        self.done.append("thaw")


def begun(hold: threading.Event | None) -> tuple[Noting, Outage]:
    """Return an outage that begins now and lasts for a hundredth of a second."""
    victim = Noting()
    made = Outage(victim, "kill", at=time.monotonic(), lasts=0.01, hold=hold)
    made.start()
    return victim, made


def test_an_outage_ends_by_itself() -> None:
    """Without a hold the server is started again when the time is up."""
    victim, made = begun(None)
    wait_until(lambda: made.healed is not None, "it is healed")
    made.close()
    assert victim.done == ["kill", "start"]


def test_a_held_outage_ends_when_it_is_let_go() -> None:
    """The time being up is not enough while it is held; let go, it heals."""
    hold = threading.Event()
    victim, made = begun(hold)
    wait_until(lambda: made.hurt is not None and time.monotonic() > made.hurt + 0.2, "its time is up")
    assert victim.done == ["kill"]
    hold.set()
    wait_until(lambda: made.healed is not None, "it is healed")
    made.close()
    assert victim.done == ["kill", "start"]


def test_a_hold_does_not_last_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never lets go is waited for up to a bound."""
    monkeypatch.setattr(outage, "HELD_AT_MOST_S", 0.05)
    _, made = begun(threading.Event())
    wait_until(lambda: made.healed is not None, "it is healed")
    made.close()


@pytest.mark.parametrize("let_go", [False, True])
def test_a_held_outage_can_be_called_off(let_go: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Closing ends the wait, and the server stays as it is unless it was healed before."""
    hold = threading.Event()
    victim, made = begun(hold)
    wait_until(lambda: made.hurt is not None and time.monotonic() > made.hurt + 0.05, "its time is up")
    if let_go:
        hold.set()
        wait_until(lambda: made.healed is not None, "it is healed")
    made.close()
    assert victim.done == ["kill", "start"] if let_go else ["kill"]
    assert (made.healed is None) is not let_go
