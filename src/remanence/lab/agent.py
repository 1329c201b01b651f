"""One writer: replays its turns of the conversations as an agent does. It reads, thinks, rewrites, writes."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from remanence.lab.contenders import Contender, LostRaceError, Read
from remanence.lab.memory_text import rewrite
from remanence.lab.samples import Ack, Call, Recorder
from remanence.lab.transcripts import Conversation, Turn

__all__ = ["Agent", "Seat"]

_OPEN = 3
"""Conversations that a writer holds at the same time."""

_THINK_S = (0.001, 0.005)
"""Between a read and the write made from it: a stand-in for the language model."""

_MOST_RACES = 50
"""Lost races after which a turn is given up, unacknowledged."""

_ACKNOWLEDGED = ("redis", "journaled")


@dataclass(frozen=True, slots=True)
class Seat:
    """Which turns of which conversations are a writer's own.

    Conversation number k of a group is the transcript (group + k · groups) mod their number, so that they loop under
    new names. Its turns go to the group's writers in rotation, as a load balancer would deal them to processes.

    Attributes:
        worker: Number of the writer, from 0.
        group: Number of the group that shares its conversations.
        groups: How many groups there are.
        rank: The writer's place in its group.
        size: Writers in the group.
    """

    worker: int
    group: int
    groups: int
    rank: int
    size: int

    @classmethod
    def of(cls, worker: int, workers: int) -> Seat:
        """Seat a writer in a pair with its neighbour (an odd one joins the last pair)."""
        groups = workers // 2
        group = min(worker // 2, groups - 1)
        size = 3 if workers % 2 and group == groups - 1 else 2
        return cls(worker, group, groups, worker - 2 * group, size)

    def turns(self, k: int, conversations: tuple[Conversation, ...]) -> list[tuple[str, int, Turn]]:
        """Return this writer's turns of its group's conversation `k`: name, number of the turn, turn."""
        turns = conversations[(self.group + k * self.groups) % len(conversations)].turns
        name = f"{self.group}-{k}"
        return [(name, n, turn) for n, turn in enumerate(turns) if (n + k) % self.size == self.rank]


class Agent:
    """A writer at its seat.

    Args:
        seat: Which turns are its own.
        conversations: What is replayed.
        contender: The manager, shared with the process's other writers.
        recorder: Where calls and acknowledgements are noted.
        prefix: Put before each conversation's name to make the id in Redis.
        pause_s: Mean time between turns in seconds.
        seed: Of the run; each writer derives its own.
    """

    def __init__(
        self,
        seat: Seat,
        conversations: tuple[Conversation, ...],
        *,
        contender: Contender,
        recorder: Recorder,
        prefix: str,
        pause_s: float,
        seed: int,
    ) -> None:
        self._seat = seat
        self._conversations = conversations
        self._contender = contender
        self._recorder = recorder
        self._prefix = prefix
        self._pause_s = pause_s
        self._random = random.Random(f"{seed}:{seat.worker}")
        self._next = list(range(_OPEN))
        self._left: list[list[tuple[str, int, Turn]]] = [[] for _ in range(_OPEN)]

    def run(self, start: float, end: float) -> None:
        """Replay turns from `start` until `end`, both on the monotonic clock; a turn begun is finished."""
        time.sleep(max(0.0, start - time.monotonic() + self._random.uniform(0, self._pause_s)))
        while time.monotonic() < end:
            self.take_turn()
            time.sleep(self._pause_s * self._random.uniform(0.5, 1.5))

    def _next_turn(self) -> tuple[str, int, Turn]:
        slot = self._random.randrange(_OPEN)
        while not self._left[slot]:
            self._left[slot] = self._seat.turns(self._next[slot], self._conversations)[::-1]
            self._next[slot] += _OPEN
        return self._left[slot].pop()

    def take_turn(self) -> None:
        """Replay the next turn: read, think, rewrite, write, and again if somebody else wrote in between."""
        name, number, turn = self._next_turn()
        base = self._read(name)
        time.sleep(self._random.uniform(*_THINK_S))
        for _ in range(_MOST_RACES):
            answer = self._write(name, rewrite(base.text, number, turn), base)
            if answer in _ACKNOWLEDGED:
                self._recorder.acknowledged(Ack(name, number, time.monotonic()))
            if answer != "raced":
                return
            base = self._read(name)

    def _read(self, name: str) -> Read:
        start = self._recorder.began(self._seat.worker)
        try:
            read = self._contender.read(self._prefix + name)
        except Exception as error:  # noqa: BLE001 - whatever a manager raises is what is measured
            self._ended("read", name, start, "error", error)
            # The framework's own agent does the same: a failed read is swallowed and a memory begun anew.
            return Read(None)
        self._ended("read", name, start, "empty" if read.text is None and read.answered == "redis" else read.answered)
        return read

    def _write(self, name: str, text: str, base: Read) -> str:
        start = self._recorder.began(self._seat.worker)
        try:
            answer = self._contender.write(self._prefix + name, text, base)
        except LostRaceError:
            answer = "raced"
        except Exception as error:  # noqa: BLE001 - whatever a manager raises is what is measured
            self._ended("write", name, start, "error", error)
            return "error"
        self._ended("write", name, start, answer)
        return answer

    def _ended(self, kind: str, name: str, start: float, answer: str, error: Exception | None = None) -> None:
        call = Call(start, time.monotonic() - start, kind, answer, name)
        self._recorder.ended(self._seat.worker, call, error=type(error).__name__ if error else None)
