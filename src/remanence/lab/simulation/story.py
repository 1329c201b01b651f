"""The story of a schedule: when, who, what; for people, so it is kept only where somebody will read it."""

from __future__ import annotations

from typing import Any

from remanence.lab.simulation.texts import text_of
from remanence.managers.redis_backend import Pipeline

__all__ = ["Story", "shown_command", "shown_reply"]


class Story:
    """Lines about what happened.

    Args:
        kept: Whether they are kept; most schedules are never told.
    """

    __slots__ = ("kept", "lines")

    def __init__(self, *, kept: bool) -> None:
        self.kept = kept
        self.lines: list[tuple[float, str, str]] = []

    def tell(self, seconds: float, who: str, what: str) -> None:
        """Add a line."""
        if self.kept:
            self.lines.append((seconds, who, what))


def shown_command(command: Any) -> str:
    """Return what a command is."""
    return f"{command.call.operation} [{_steps(command.step)}]"


def shown_reply(reply: Any, failure: BaseException | None) -> str:
    """Return what was answered."""
    if failure is not None:
        return type(failure).__name__
    if isinstance(reply, bytes):
        return repr(text_of(reply)) if reply else "nothing is held"
    if isinstance(reply, int):
        return "done" if reply > 0 else "too late" if reply < 0 else "nothing"
    return "done"


def _steps(step: Any) -> str:
    if type(step) is Pipeline:
        return ", ".join(_step(("execute_command", *item)) for item in step.commands)
    return _step(step)


def _step(step: tuple[Any, ...]) -> str:
    if step[0] != "execute_command":
        return str(step[0])
    name, arguments = str(step[1]), step[2:]
    if name not in {"EVAL", "EVALSHA"}:
        return name
    _, _, _, raw, mode, _, *guard = arguments
    over = "" if not guard else f" over {len(guard)} digests"
    return f"write {'nothing' if mode == 'DEL' else repr(text_of(raw))}{over}"
