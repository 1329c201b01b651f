"""The scenario on a real server: it measures what happens, calls what it cannot measure invalid, and always ends."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from remanence.lab import LabError, RedisServer, scenario
from remanence.lab.crew import CrewError
from remanence.lab.plan import Plan, PlanError
from remanence.lab.progress import Observer, Tick
from remanence.lab.transcripts import sample

if TYPE_CHECKING:
    from pathlib import Path

    from remanence.lab.measurement import ManagerRun

BRIEF = Plan(sample(), outage="kill", outage_at=0.6, outage_for=0.9, duration=2.1, workers=4, seed=7)

# Nothing is hurt; two writers share all conversations.
CALM = replace(BRIEF, outage=None, workers=2)


class Watching(Observer):
    """Keeps what it sees."""

    def __init__(self) -> None:
        self.ticks: list[Tick] = []
        self.runs: list[ManagerRun] = []
        self.told_of: list[str] = []

    def tick(self, tick: Tick) -> None:
        """Keep the state."""
        self.ticks.append(tick)

    def told(self, what: str) -> None:
        """Keep the sentence."""
        self.told_of.append(what)

    def finished(self, run: ManagerRun) -> None:
        """Keep the run."""
        self.runs.append(run)


@pytest.mark.slow
def test_the_reference_loses_memories_without_any_outage() -> None:
    """Two writers per conversation are enough for the framework's algorithm to lose acknowledged turns."""
    run = scenario.run(CALM, "reference")
    assert run.verdict.lost > 0
    assert run.verdict.failed_calls == 0
    assert run.outage is None
    assert run.verdict.acknowledged > run.verdict.lost


@pytest.mark.slow
def test_a_killed_server_fails_the_references_calls_and_comes_back() -> None:
    """In a kill the reference's calls fail for as long as it lasts, before and after they do not, and all is shown."""
    seen = Watching()
    comparison = scenario.compare(BRIEF, ["reference"], observer=seen)
    (run,) = comparison.runs
    assert seen.runs == [run]
    assert run.outage is not None
    assert run.outage[0] == pytest.approx(0.6, abs=0.4)
    assert run.outage[1] == pytest.approx(1.5, abs=0.6)
    failing = [interval.at_s for interval in run.timeline if interval.errors]
    assert failing
    assert min(failing) >= 0.25
    assert max(failing) <= run.outage[1]
    assert run.verdict.recovery_s is not None
    assert run.verdict.attempts_in_outage > 0
    assert run.timeline[-1].calls > 0
    assert (run.timeline[0].breaker, run.timeline[0].journal_depth) == (None, None)
    phases = list(dict.fromkeys(tick.phase for tick in seen.ticks if tick.phase != "draining"))
    assert phases == ["starting", "before", "outage", "after", "auditing"]
    assert comparison.outage_kind == "kill"
    assert comparison.versions.keys() == {"remanence", "python", "redis-py", "server"}


@pytest.mark.slow
def test_the_documented_wrapper_answers_an_outage_with_nothing() -> None:
    """Reads of conversations that have a memory are answered with none while the server is down."""
    run = scenario.run(replace(BRIEF, outage="refuse"), "documented")
    assert run.verdict.unavailable_answers > 0


@pytest.mark.slow
@pytest.mark.parametrize(("outage", "lasts"), [("kill", 0.5), ("freeze", 2.0), ("refuse", 0.5)])
def test_the_resilient_manager_loses_nothing_and_keeps_nobody_waiting(outage: str, lasts: float) -> None:
    """In each outage it answers within its deadline, keeps what it acknowledged, writes it later, and recovers."""
    # A breaker opens at once, or in a freeze after 1.5 s, with the fifth attempt without an answer, for up to 1.2 s.
    plan = replace(BRIEF, outage=outage, outage_at=0.5, outage_for=lasts, duration=0.5 + lasts + 1.5, workers=8)
    run = scenario.run(plan, "resilient")
    verdict = run.verdict
    assert verdict.lost == 0
    assert verdict.failed_calls == 0
    assert verdict.journaled > 0
    assert verdict.replayed > 0
    assert verdict.slowest_call_s is not None
    # The deadline of 1.5 s and 50 ms; 0.3 s for a machine that is busy with other tests.
    assert verdict.slowest_call_s <= 1.85
    assert verdict.recovery_s is not None
    assert "open" in {interval.breaker for interval in run.timeline}
    assert max(interval.journal_depth or 0 for interval in run.timeline) > 0


@pytest.mark.slow
def test_a_journal_in_memory_dies_with_its_workers() -> None:
    """Workers that are killed in the outage take along what they had acknowledged from memory: the audit sees it."""
    seen = Watching()
    plan = replace(BRIEF, outage_for=1.5, duration=3.5, kill_workers=True)
    (run,) = scenario.compare(plan, ["memory-journal"], observer=seen).runs
    assert run.killing is not None
    assert run.killing.acknowledged > 0
    # A new worker may send again what a killed one had not got acknowledged, and so bring a turn of another home.
    assert run.killing.lost > run.killing.acknowledged / 2
    assert run.verdict.lost >= run.killing.lost
    assert run.killing.waiting is None
    assert ["killed (SIGKILL); their journals died" in told for told in seen.told_of] == [True, False]


HANGING = '''
import threading
from remanence.lab.contenders import Reference

class Hanging(Reference):
    """Stops for ever in the fiftieth write of its process."""

    calls = 0

    def write(self, conversation_id, text, base):
        Hanging.calls += 1
        if Hanging.calls == 50:
            threading.Event().wait()
        return super().write(conversation_id, text, base)

def failing(url):
    raise RuntimeError("it will not start")

class Stumbling(Reference):
    """Breaks the harness, not a call."""

    def status(self):
        raise ZeroDivisionError
'''


@pytest.fixture
def contenders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give a module of managers that misbehave, which the workers can import."""
    (tmp_path / "misbehaving.py").write_text(HANGING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(scenario, "_GRACE_S", 0.5)
    return "misbehaving"


@pytest.mark.slow
def test_a_manager_that_never_returns_is_shown_as_such_and_the_run_ends(contenders: str) -> None:
    """One call per process hangs: they are counted as failed, the slowest is unknown, what was acknowledged is kept."""
    began = time.monotonic()
    run = scenario.run(replace(BRIEF, outage=None), f"{contenders}:Hanging")
    assert time.monotonic() - began < 15
    assert run.unfinished == run.verdict.failed_calls == 2
    assert run.verdict.slowest_call_s is None
    assert run.verdict.acknowledged >= 98


@pytest.mark.parametrize(
    ("factory", "says"), [("failing", "RuntimeError: it will not start"), ("Stumbling", "ZeroDivision")]
)
def test_a_worker_that_breaks_makes_the_run_invalid(contenders: str, factory: str, says: str) -> None:
    """A process that cannot start, or whose harness fails, is an error with its reason; nothing is measured."""
    with pytest.raises(CrewError, match=says):
        scenario.run(replace(BRIEF, outage=None), f"{contenders}:{factory}")


@pytest.mark.slow
def test_an_outage_that_does_not_bite_makes_the_run_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server answers all the time, the comparison says nothing and is refused."""
    monkeypatch.setattr(RedisServer, "freeze", lambda _self: None)
    with pytest.raises(scenario.InvalidRunError, match="did not bite"):
        scenario.run(replace(BRIEF, outage="freeze"), "reference")


@pytest.mark.slow
def test_a_server_that_cannot_be_healed_makes_the_run_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server does not come back, the run says why and nothing hangs."""
    start = RedisServer.start

    def start_once(self: RedisServer) -> RedisServer:
        if hasattr(self, "started"):
            raise LabError("it will not start again")
        vars(self)["started"] = True
        return start(self)

    monkeypatch.setattr(RedisServer, "start", start_once)
    with pytest.raises(scenario.InvalidRunError, match="it will not start again"):
        scenario.run(BRIEF, "reference")


@pytest.mark.slow
def test_a_users_server_is_watched_and_left_clean(private_server: RedisServer) -> None:
    """With a URL the outage is found by watching, the run's own keys are removed, and all others stay."""
    private_server.command("SET", "memory:WORKING_MEMORY:theirs", "x")

    class Hurting(Observer):
        """Freezes the server for a while, as a user might."""

        def tick(self, tick: Tick) -> None:
            """Freeze in the first half of the run."""
            if 0.8 < tick.elapsed_s < 1.8:
                private_server.freeze()
            else:
                private_server.thaw()

    plan = replace(BRIEF, outage=None, redis_url=private_server.url, duration=3.0)
    comparison = scenario.compare(plan, ["reference"], observer=Hurting())
    (run,) = comparison.runs
    assert comparison.outage_kind == "external"
    assert run.outage is not None
    assert run.outage[0] == pytest.approx(0.8, abs=0.5)
    assert run.outage[1] == pytest.approx(1.8, abs=0.7)
    assert run.verdict.slowest_call_s is not None
    assert run.verdict.slowest_call_s > 0.5
    assert private_server.command("KEYS", "*") == ["memory:WORKING_MEMORY:theirs"]


def test_a_server_that_does_not_answer_is_refused_at_once() -> None:
    """A URL where nothing listens is an error that says what to do, without the password in it."""
    with pytest.raises(LabError, match="does not answer") as caught:
        scenario.run(replace(BRIEF, outage=None, redis_url="redis://:hunter2@127.0.0.1:1/0"), "reference")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"conversations": ()}, "no conversation"),
        ({"workers": 1}, "workers is 1"),
        ({"workers": 65}, "workers is 65"),
        ({"duration": 0.0}, "duration is 0"),
        ({"duration": float("nan")}, "duration is nan"),
        ({"outage": "flood"}, "kill, freeze, refuse"),
        ({"outage_at": 0.0}, "begins at 0"),
        ({"outage_at": -1.0}, "begins at -1"),
        ({"outage_at": float("nan")}, "begins at nan"),
        ({"outage_for": 0.1}, "lasts 0.1 s"),
        ({"outage_for": 1.5}, "leave at least 0.5 s of calls after"),
        ({"redis_url": "redis://localhost"}, "not hurt by it"),
        ({"outage": None, "kill_workers": True}, "an outage that the lab makes"),
        ({"outage": None, "redis_url": "http://localhost"}, "redis, rediss, unix"),
        ({"outage": None, "redis_url": "redis://"}, "redis://host:6379/0"),
        ({"outage": None, "redis_url": "redis://localhost:port"}, "cannot be read"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, object], says: str) -> None:
    """Each impossible value has an error of its own that says what to choose."""
    with pytest.raises(PlanError, match=says):
        replace(BRIEF, **changes)  # type: ignore[arg-type]
