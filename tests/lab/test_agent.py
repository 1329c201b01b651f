"""Who replays what: every turn has one writer, and those who share a conversation are in different processes."""

from __future__ import annotations

from collections import deque

import pytest

from remanence.lab.agent import Agent, Seat
from remanence.lab.contenders import LostRaceError, Read, Status
from remanence.lab.memory_text import ids_of
from remanence.lab.plan import Plan
from remanence.lab.samples import Recorder
from remanence.lab.transcripts import Conversation, Turn

CONVERSATIONS = tuple(
    Conversation(str(length), tuple(Turn("user", str(n)) for n in range(length))) for length in (1, 5, 2)
)


@pytest.mark.parametrize("workers", [2, 3, 4, 7, 8])
def test_every_turn_has_one_writer(workers: int) -> None:
    """The writers of a group share out each conversation's turns, none left over and none twice."""
    seats = [Seat.of(worker, workers) for worker in range(workers)]
    for group in {seat.group for seat in seats}:
        members = [seat for seat in seats if seat.group == group]
        assert len(members) == members[0].size >= 2
        for k in range(6):
            taken = sorted(number for seat in members for _, number, _ in seat.turns(k, CONVERSATIONS))
            assert taken in ([0], [0, 1], [0, 1, 2, 3, 4])


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_writers_of_a_conversation_are_in_different_processes(workers: int) -> None:
    """Each group has writers in both processes, and every writer is in one."""
    plan = Plan(CONVERSATIONS, workers=workers)
    process_of = {worker: process for process in range(plan.processes) for worker in plan.own(process)}
    assert sorted(process_of) == list(range(workers))
    groups: dict[int, set[int]] = {}
    for worker, process in process_of.items():
        groups.setdefault(Seat.of(worker, workers).group, set()).add(process)
    assert all(processes == {0, 1} for processes in groups.values())


def test_conversations_loop_under_new_names() -> None:
    """The same transcript comes again later, and never under the same name."""
    taken = [Seat.of(worker, 4).turns(k, CONVERSATIONS[1:]) for worker in (0, 2) for k in range(30)]
    assert len({turns[0][0] for turns in taken}) == 60
    assert {turn.text for turns in taken for _, _, turn in turns} == {"0", "1", "2", "3", "4"}


class Scripted:
    """A manager of one text that somebody else changes before the first write, and that fails when told to."""

    def __init__(self, *, races: int = 0, failing: str = "") -> None:
        self.attempts: deque[float] = deque()
        self.text: str | None = None
        self.races = races
        self.failing = failing

    def read(self, conversation_id: str) -> Read:
        """Answer the text."""
        if self.failing == "read":
            raise OSError(conversation_id)
        return Read(self.text)

    def write(self, conversation_id: str, text: str, base: Read) -> str:
        """Keep the text, unless somebody was faster."""
        if self.failing == "write":
            raise OSError(conversation_id)
        if self.races:
            self.races -= 1
            self.text = f"turns: {100 + self.races}"
        if base.text != self.text:
            raise LostRaceError
        self.text = text
        return "redis"

    def status(self) -> Status | None:
        """Say nothing."""

    def drain(self, timeout: float) -> None:
        """Nothing is pending."""

    def close(self) -> None:
        """Nothing is open."""


def replay(manager: Scripted, turns: int) -> Recorder:
    """Let one writer take its first turns."""
    recorder = Recorder()
    conversation = (Conversation("c", tuple(Turn("user", str(n)) for n in range(40))),)
    agent = Agent(
        Seat(0, 0, 1, 0, 2), conversation, contender=manager, recorder=recorder, prefix="p-", pause_s=0, seed=1
    )
    for _ in range(turns):
        agent.take_turn()
    return recorder


def test_a_lost_race_is_run_again_on_what_is_there_now() -> None:
    """After a version conflict the agent reads again and adds its turn to the other's; then it is acknowledged."""
    manager = Scripted(races=2)
    batch = replay(manager, 1).take([], None)
    assert [call.answer for call in batch.calls] == ["empty", "raced", "redis", "raced", "redis", "redis"]
    assert ids_of(manager.text) == {100, batch.acks[0].turn}
    assert batch.errors == {}


def test_what_failed_is_not_acknowledged_and_the_agent_goes_on() -> None:
    """A write that raised leaves no acknowledgement; a read that raised makes the agent begin a memory anew."""
    failed = replay(Scripted(failing="write"), 2).take([], None)
    assert (failed.acks, failed.errors) == ([], {"OSError": 2})
    manager = Scripted(failing="read")
    assert len(replay(manager, 1).take([], None).acks) == 1
    assert len(ids_of(manager.text)) == 1


def test_a_race_that_never_ends_is_given_up() -> None:
    """An agent that always loses does not hang, and has nothing acknowledged."""
    assert replay(Scripted(races=10_000), 1).take([], None).acks == []
