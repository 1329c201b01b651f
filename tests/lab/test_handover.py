"""Workers that are killed in the outage: when, what is known of what they acknowledged, and who goes on."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from remanence.lab.agent import Seat
from remanence.lab.crew import Crew
from remanence.lab.handover import Evidence, Handover
from remanence.lab.outage import Outage
from remanence.lab.samples import Call, Sample
from remanence.lab.timeline import Log
from remanence.lab.transcripts import sample
from remanence.lab.worker import _Successor, job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from remanence.lab.redis_server import RedisServer


@pytest.fixture
def evidence() -> Iterator[Evidence]:
    """Files of a run, removed afterwards."""
    files = Evidence(on_disk=True)
    yield files
    files.close()


def wrote(evidence: Evidence, process: int, *lines: tuple[str, int, float, str]) -> None:
    """Write what a process acknowledged: conversation, turn, time, answer."""
    evidence.acks(process).write_text("".join(json.dumps(line) + "\n" for line in lines))


def log(*answers: str, journal: bool = True, at: float = 11.0) -> Log:
    """Return what a process told: writes with these answers, and its manager's account."""
    samples = [Sample(at, 1, 0, 0, "open")] if journal else []
    return Log(calls=[Call(at, 0.1, "write", answer, "a") for answer in answers], samples=samples)


def outage(server: RedisServer, hurt: float | None) -> Outage:
    """Return an outage that began at a time."""
    made = Outage(server, "kill", at=0.0, lasts=1.0)
    made.hurt = hurt
    return made


def test_files_are_private_and_go_with_the_run(evidence: Evidence) -> None:
    """Nobody else may enter the directory; it is gone after the run unless it is to be kept."""
    assert evidence.directory.stat().st_mode & 0o077 == 0
    wrote(evidence, 0)
    evidence.keep = True
    evidence.close()
    assert evidence.acks(0).exists()
    evidence.keep = False
    evidence.close()
    assert not evidence.directory.exists()


@pytest.mark.parametrize(
    ("passed", "logs", "due"),
    [
        (None, [log("journaled")], False),
        (0.3, [log("journaled")], False),
        (0.5, [log("redis", "journaled"), log("journaled")], True),
        (0.5, [log("journaled"), log("redis")], False),
        (0.5, [log("journaled", at=-1e9)], False),
        (0.5, [log("error", journal=False)], True),
        (0.9, [log("redis")], True),
    ],
)
def test_workers_die_when_each_has_acknowledged_from_its_journal(
    evidence: Evidence,
    server: RedisServer,
    passed: float | None,
    logs: list[Log],
    due: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """It is due from 40 % of the outage on, once every journal was used in it; at 80 % in any case; never before."""
    lasts = 1000.0
    hurt = None if passed is None else time.monotonic() - passed * lasts
    for told in logs:
        told.calls = [call._replace(start=call.start + (hurt or 0.0)) for call in told.calls]
    assert Handover(evidence, len(logs), lasts).is_due(outage(server, hurt), logs) is due


def test_new_workers_are_at_work_when_each_has_begun_a_call(evidence: Evidence) -> None:
    """A call under way counts, so that a server which never answers holds nothing up; the last to begin decides."""
    handover = Handover(evidence, 2, 1.0)
    handover.killed = 20.0
    logs = [log(), log(), log("journaled", at=21.0), Log()]
    assert not handover.look(logs)
    assert not handover.over.is_set()
    logs[3].in_call = [22.0]
    assert handover.look(logs)
    assert (handover.at_work, handover.over.is_set()) == (22.0, True)
    assert not handover.look(logs)


def test_everybodys_acknowledgements_count_and_the_deads_are_told_apart(evidence: Evidence) -> None:
    """All files count for the audit; held by the dead is what they journaled in the outage, of that some is lost."""
    wrote(evidence, 0, ("a", 1, 9.0, "redis"), ("a", 2, 9.5, "journaled"), ("a", 3, 11.0, "journaled"))
    wrote(evidence, 1, ("b", 1, 11.5, "journaled"), ("b", 2, 11.5, "redis"))
    wrote(evidence, 3, ("b", 3, 13.0, "journaled"))
    handover = Handover(evidence, 2, 1.0)
    assert handover.account(0.0, 10.0, set()) is None
    handover.killed, handover.at_work, handover.waiting = 12.0, 12.5, 2
    assert handover.acknowledged() == {"a": {1, 2, 3}, "b": {1, 2, 3}}
    killing = handover.account(5.0, 10.0, {("a", 3), ("b", 3), ("a", 2)})
    assert killing is not None
    assert (killing.acknowledged, killing.lost, killing.waiting, killing.processes) == (2, 1, 2, 2)
    assert (killing.at_s, killing.at_work_s) == (7.0, 7.5)


@pytest.mark.parametrize(
    ("killed", "at_work", "journaled", "problem"),
    [
        (12.0, 13.0, ("journaled", 11.0), None),
        (12.0, 15.0, ("journaled", 11.0), "while Redis was away"),
        (12.0, None, ("journaled", 11.0), "while Redis was away"),
        (None, None, ("journaled", 11.0), "while Redis was away"),
        (12.0, 13.0, ("journaled", 9.0), "before it had acknowledged anything"),
        (12.0, 13.0, ("redis", 11.0), "before it had acknowledged anything"),
    ],
)
def test_a_run_that_shows_nothing_says_so(
    evidence: Evidence,
    killed: float | None,
    at_work: float | None,
    journaled: tuple[str, float],
    problem: str | None,
) -> None:
    """Workers must have had something to lose, and be replaced before Redis is back; else the run is not valid."""
    answer, at = journaled
    wrote(evidence, 0, ("a", 1, at, answer))
    handover = Handover(evidence, 1, 1.0)
    handover.killed, handover.at_work = killed, at_work
    found = handover.problem([log(), log()], hurt=10.0, healing=14.0)
    assert problem is None if found is None else problem is not None and problem in found


def test_a_manager_without_a_journal_has_nothing_to_show(evidence: Evidence) -> None:
    """Where nobody tells of a journal, nothing has to be acknowledged from one."""
    handover = Handover(evidence, 1, 1.0)
    handover.killed, handover.at_work = 12.0, 13.0
    assert handover.problem([log(journal=False)], hurt=10.0, healing=14.0) is None


def test_a_successor_goes_on_where_the_killed_one_stopped() -> None:
    """It has the same turns of the same conversations, but for those that were acknowledged."""
    conversations = sample()
    seat = Seat.of(1, 4)
    turns = seat.turns(2, conversations)
    done = frozenset((name, number) for name, number, _ in turns[:3])
    successor = _Successor(seat.worker, seat.group, seat.groups, seat.rank, seat.size, done)
    assert successor.turns(2, conversations) == turns[3:]
    assert successor.turns(3, conversations) == seat.turns(3, conversations)


def test_half_a_line_of_a_killed_process_is_passed_over() -> None:
    """What it had told whole is heard, and then that it has ended."""
    crew = Crew([])
    with subprocess.Popen(
        ["/bin/sh", "-c", r"""printf '{"kind": "batch"}\n{"ki'"""], stdout=subprocess.PIPE, text=True
    ) as process:
        crew._listen(0, process)
    assert [crew.hear(0.0) for _ in range(3)] == [(0, {"kind": "batch"}), (0, None), None]


def test_a_killed_process_is_replaced_and_its_reports_are_kept(redis_url: str, tmp_path: Path) -> None:
    """SIGKILL ends it at once; the one added after it makes itself ready and works on the killed one's turns."""

    def task(number: int, predecessors: list[str]) -> dict[str, object]:
        return job(
            manager="resilient",
            url=redis_url,
            prefix="handover-",
            seed=1,
            own=[0],
            workers=2,
            pause_s=0.005,
            conversations=sample(),
            journal=str(tmp_path / "journal"),
            acks=str(tmp_path / f"acks-{number}"),
            predecessors=predecessors,
        )

    with Crew([task(0, [])]) as crew:
        crew.start(20.0)
        order = {"start": time.monotonic(), "end": time.monotonic() + 60, "grace": 1.0, "drain": 1.0}
        crew.go(order)
        assert acknowledged_by(crew, 0)
        crew.kill([0])
        assert crew._processes[0].returncode == -9
        assert crew.add(task(1, [str(tmp_path / "acks-0")])) == 1
        deadline = time.monotonic() + 20
        kinds = []
        while time.monotonic() < deadline and (1, "ready") not in kinds:
            heard = crew.hear(0.1)
            if heard is not None:
                kinds.append((heard[0], heard[1]["kind"] if heard[1] else None))
        crew.go(order, [1])
        assert acknowledged_by(crew, 1)
        assert (0, None) in kinds
        crew.kill([1])
    before = {tuple(json.loads(line)[:2]) for line in (tmp_path / "acks-0").read_text().splitlines()}
    after = {tuple(json.loads(line)[:2]) for line in (tmp_path / "acks-1").read_text().splitlines()}
    assert before
    assert after
    assert not before & after


def acknowledged_by(crew: Crew, number: int) -> bool:
    """Listen until a process has told of an acknowledgement; False if it does not."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        heard = crew.hear(0.1)
        if heard is not None and heard[0] == number and heard[1] is not None and heard[1].get("acks"):
            return True
    return False
