"""The audit: what is missing is found, and nothing else is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from remanence.lab import RedisServer
from remanence.lab.chaos.audit import Verdict, audit
from remanence.lab.chaos.blows import Emptied, Stage
from remanence.lab.chaos.reports import Ack, Deletion, Reader, Reporter
from remanence.lab.chaos.worker import stack
from remanence.lab.fault_proxy import FaultProxy
from remanence.record import encode

KEY, COPY = "memory:WORKING_MEMORY:c", "remanence-conflict:WORKING_MEMORY:c:abc"


@pytest.fixture(scope="module")
def proxy(server: RedisServer) -> Iterator[FaultProxy]:
    """A proxy that does nothing."""
    with FaultProxy(server.port) as made:
        yield made


@pytest.fixture
def stage(server: RedisServer, proxy: FaultProxy, tmp_path: Path) -> Iterator[Stage]:
    """A server that is well and empty."""
    server.command("FLUSHALL")
    yield Stage(server, proxy, str(tmp_path / "journal"), keeps_all=True)
    server.command("FLUSHALL")


def raw(**clock: int) -> bytes:
    """Return a record whose text is a clock."""
    return encode(
        json.dumps({"clock": {name.replace("_", "."): n for name, n in clock.items()}, "said": ""}), {}, "", ""
    )


def put(stage: Stage, key: str, value: bytes) -> None:
    """Store something raw."""
    with redis.Redis(port=stage.server.port) as client:
        client.set(key, value)


def ack(sequence: int, writer: str = "0w1.0", *, kind: str = "store", begun: float = 1.0, **more: Any) -> Ack:
    """Return an acknowledged write of one conversation."""
    return Ack("c", writer, sequence, kind, more.get("outcome", "committed"), begun, begun + 0.1)


def judged(stage: Stage, *acks: Ack, deletions: tuple[Deletion, ...] = ()) -> Verdict:
    """Have it audited."""
    return audit(stage, acks, deletions, lease=1.0)


def test_what_is_stored_carries_the_last_write_of_each_writer(stage: Stage) -> None:
    """Of those who were replaced by somebody who had seen them, too."""
    put(stage, KEY, raw(**{"0w1_0": 7, "1w2_0": 3}))
    verdict = judged(stage, ack(6), ack(7), ack(3, "1w2.0"))
    assert (verdict.lost, verdict.back, verdict.unknown, verdict.conversations) == ([], [], [], 1)


@pytest.mark.parametrize("held", [None, raw(**{"0w1_0": 6}), raw(**{"1w2_0": 9})], ids=["nothing", "older", "other"])
def test_a_write_of_which_nothing_is_left_is_lost(stage: Stage, held: bytes | None) -> None:
    """Whatever else is there."""
    if held is not None:
        put(stage, KEY, held)
    verdict = judged(stage, ack(7))
    assert len(verdict.lost) == 1
    assert verdict.where == ["c"]


@pytest.mark.parametrize("made", [True, False])
def test_what_was_cancelled_may_be_there_or_not(stage: Stage, *, made: bool) -> None:
    """Nobody was told what became of it; what was acknowledged before it is in it."""
    put(stage, KEY, raw(**{"0w1_0": 8 if made else 7}))
    verdict = judged(stage, ack(7), deletions=(Deletion("c", "0w1.0", 9, 2.0),))
    assert (verdict.lost, verdict.back, verdict.unknown) == ([], [], [])


def test_a_copy_is_as_good_as_the_value(stage: Stage) -> None:
    """It was kept, for people."""
    put(stage, KEY, raw(**{"1w2_0": 9}))
    put(stage, COPY, raw(**{"0w1_0": 7}))
    verdict = judged(stage, ack(7), ack(9, "1w2.0"))
    assert (verdict.lost, verdict.copies) == ([], 1)


def test_what_was_deleted_later_need_not_be_there(stage: Stage) -> None:
    """Whether the deletion was acknowledged or not; one from before excuses nothing."""
    assert judged(stage, ack(7), deletions=(Deletion("c", "0w1.0", 8, 2.0),)).lost == []
    assert len(judged(stage, ack(7), deletions=(Deletion("c", "0w1.0", 6, 0.5),)).lost) == 1
    assert len(judged(stage, ack(7), deletions=(Deletion("d", "0w1.0", 8, 2.0),)).lost) == 1


@pytest.mark.parametrize(
    ("held", "is_back"),
    [
        (None, False),
        (raw(**{"0w1_0": 7}), True),
        (raw(**{"0w0_0": 7}), True),
        (raw(**{"0w1_0": 9}), False),
        (raw(**{"0w3_0": 1}), False),
    ],
    ids=["gone", "own", "an earlier worker's", "written since", "written by the next worker"],
)
def test_a_deletion_stays(stage: Stage, held: bytes | None, *, is_back: bool) -> None:
    """Unless somebody wrote after it."""
    if held is not None:
        put(stage, KEY, held)
    verdict = judged(stage, ack(7), ack(8, kind="delete", begun=2.0), deletions=(Deletion("c", "0w1.0", 8, 2.0),))
    assert bool(verdict.back) == is_back


def test_a_deletion_that_lost_is_told_as_a_copy(stage: Stage) -> None:
    """Then what it was to delete may be there."""
    put(stage, KEY, raw(**{"0w1_0": 7}))
    put(stage, COPY, b'{"data": null, "deleted": true}')
    assert judged(stage, ack(8, kind="delete")).back == []


def test_what_the_server_lost_is_nobodys_to_bring_back(stage: Stage) -> None:
    """But what was waiting as it died is, and what came after."""
    stage.emptied.append(Emptied(5.0, ()))
    verdict = judged(stage, ack(7))
    assert (verdict.lost, verdict.excused) == ([], 1)
    assert len(judged(stage, ack(7), ack(8, begun=6.0)).lost) == 1
    stage.emptied[0] = Emptied(5.0, ((KEY, raw(**{"0w1_0": 7})),))
    assert len(judged(stage, ack(7)).lost) == 1


def test_what_waits_is_brought_home_first(stage: Stage) -> None:
    """As the next process would."""
    with stack(stage.proxy.url, stage.journal, lease=1.0) as manager:
        manager._background.wake = lambda: None
        with stage.blow("refuse"):
            text = json.dumps({"clock": {"0w1.0": 7}, "said": ""})
            assert manager.store({"conversation_id": "c", "working_memory": text}).outcome == "journaled"
        manager._fallback.replayer.drain = manager._fallback.replayer.round  # closing brings nothing home
        manager._fallback.journal.seal()
    assert judged(stage, ack(7, outcome="journaled")).lost == []


def test_what_cannot_be_read_or_brought_home_is_unknown(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a pass."""
    put(stage, KEY, b"no record")
    assert len(judged(stage, ack(7)).unknown) == 1
    stage.server.command("FLUSHALL")
    monkeypatch.setattr("remanence.lab.chaos.audit._PATIENCE", 0.0)
    with stack(stage.proxy.url.replace(f":{stage.proxy.port}", ":1"), stage.journal, lease=1.0) as manager:
        manager.store({"conversation_id": "c", "working_memory": "{}"})
        manager._background.stop(1.0)
    assert any("still waiting" in each for each in judged(stage, ack(7)).unknown)


def test_half_a_line_of_a_killed_worker_is_none(tmp_path: Path) -> None:
    """It was killed while it told; the rest of the line comes, or does not."""
    reporter, reader = Reporter(str(tmp_path / "r")), Reader(tmp_path / "r")
    assert Reader(tmp_path / "none yet").lines() == []
    reporter.tell("N", "SomeError")
    with (tmp_path / "r").open("ab") as file:
        file.write(b"A half")
    assert reader.lines() == [["N", "SomeError"]]
    reporter.tell("", "more")
    assert reader.lines() == [["A", "half", "more"]]


def test_away_is_noted(stage: Stage) -> None:
    """From the beginning of a failure to its end."""
    before = time.monotonic()
    with stage.blow("frozen"):
        assert stage.is_struck
    ((begun, ended),) = stage.away
    assert before <= begun < ended <= time.monotonic()
    assert not stage.is_struck
