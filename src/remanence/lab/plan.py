"""What a run of the lab is to do, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from remanence.lab.errors import LabError
from remanence.lab.outage import KINDS
from remanence.lab.transcripts import Conversation

__all__ = ["Plan", "PlanError"]

_SCHEMES = ("redis", "rediss", "unix")
_MARGIN_S = 0.5
_FEWEST_WORKERS = 2
_MOST_WORKERS = 64
_MOST_PROCESSES = 2
_TURNS_PER_S = 250.0


class PlanError(LabError):
    """The run that was asked for makes no sense; nothing was started."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The load and the outage, the same for every manager.

    Attributes:
        conversations: What is replayed, at least one.
        outage: "kill", "freeze" or "refuse"; None hurts nothing (and with `redis_url` leaves that to the user).
        outage_at: When the outage begins, in seconds since the run began.
        outage_for: How long it lasts, in seconds.
        duration: How long calls are made, in seconds; at least half a second of it before and after the outage.
        workers: Writers, 2 to 64; each pair of them shares conversations.
        seed: Of every random choice.
        redis_url: A server of the user's, or None for one of our own.
        kill_workers: Whether all worker processes are killed in the middle of the outage, and replaced.

    Raises:
        PlanError: A value is out of range, or the outage does not fit.
    """

    conversations: tuple[Conversation, ...]
    outage: str | None = "kill"
    outage_at: float = 5.0
    outage_for: float = 5.0
    duration: float = 17.0
    workers: int = 8
    seed: int = 0
    redis_url: str | None = None
    kill_workers: bool = False

    def __post_init__(self) -> None:
        if not self.conversations:
            raise PlanError("There is no conversation to replay: give at least one.")
        if not _FEWEST_WORKERS <= self.workers <= _MOST_WORKERS:
            raise PlanError(
                f"workers is {self.workers}: choose {_FEWEST_WORKERS} to {_MOST_WORKERS}; two share each conversation."
            )
        if not self.duration > 0 or self.duration == float("inf"):
            raise PlanError(f"duration is {self.duration:g} s: choose a finite number of seconds above 0.")
        if self.outage is not None:
            self._check_outage(self.outage)
        elif self.kill_workers:
            raise PlanError("Workers are killed in an outage that the lab makes: choose one, without a Redis URL.")
        if self.redis_url is not None:
            self._check_url(self.redis_url)

    def _check_outage(self, kind: str) -> None:
        if kind not in KINDS:
            raise PlanError(f"outage is {kind!r}: choose one of {', '.join(KINDS)}.")
        if self.redis_url is not None:
            raise PlanError("A server that the lab did not start is not hurt by it: leave out the outage or the URL.")
        if not self.outage_at >= _MARGIN_S:
            raise PlanError(
                f"The outage begins at {self.outage_at:g} s: leave at least {_MARGIN_S} s of calls before it."
            )
        if not self.outage_for >= _MARGIN_S:
            raise PlanError(f"The outage lasts {self.outage_for:g} s: choose at least {_MARGIN_S} s.")
        if not self.outage_at + self.outage_for + _MARGIN_S <= self.duration:
            raise PlanError(
                f"The outage ends at {self.outage_at + self.outage_for:g} s and the run at {self.duration:g} s: "
                f"leave at least {_MARGIN_S} s of calls after it (a longer duration, an earlier or a shorter outage)."
            )

    @staticmethod
    def _check_url(url: str) -> None:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            # Not quoted: it may hold a password. Not chained: the original names the wrong part, which may be one too.
            raise PlanError("The Redis URL cannot be read: write it as redis://host:6379/0.") from None
        if parts.scheme not in _SCHEMES or not (parts.hostname or (parts.scheme == "unix" and parts.path)):
            raise PlanError(f"The Redis URL needs a scheme ({', '.join(_SCHEMES)}) and a host: redis://host:6379/0.")

    @property
    def processes(self) -> int:
        """Worker processes; two writers of one conversation are always in different ones."""
        return _MOST_PROCESSES

    @property
    def pause_s(self) -> float:
        """Mean time between a writer's turns: keeps the load the same, and the machine idle enough, for any number."""
        return self.workers / _TURNS_PER_S

    @property
    def kind(self) -> str:
        """The kind of outage as reported."""
        return self.outage or ("none" if self.redis_url is None else "external")

    def own(self, process: int) -> list[int]:
        """Return the numbers of the writers in a process."""
        return list(range(process, self.workers, self.processes))
