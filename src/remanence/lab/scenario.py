"""The demo's scenario: conversations replayed by many writers while Redis is hurt and healed, then the audit."""

from __future__ import annotations

import platform
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata

import redis

from remanence.lab import audit
from remanence.lab.crew import Crew, CrewError
from remanence.lab.errors import LabError
from remanence.lab.handover import Evidence, Handover
from remanence.lab.measurement import Comparison, ManagerRun
from remanence.lab.outage import Outage, Probe
from remanence.lab.plan import Plan
from remanence.lab.progress import Observer, look
from remanence.lab.redis_server import RedisServer
from remanence.lab.samples import Batch
from remanence.lab.timeline import Log, summarize
from remanence.lab.worker import job

__all__ = ["InvalidRunError", "compare", "run"]

_READY_WITHIN_S = 20.0
_LEAD_S = 0.3
_TICK_S = 0.25
_GRACE_S = 3.0
"""What a call may still take when the time is up: the documented waits, or twice the resilient manager's deadline."""


class InvalidRunError(LabError):
    """The run says nothing about the manager, because the load or the outage was not what it should have been."""


def compare(plan: Plan, managers: Sequence[str], *, observer: Observer | None = None) -> Comparison:
    """Run each manager under the same load and the same outage, one after the other.

    Args:
        plan: The load and the outage.
        managers: Names, see `contenders.build`.
        observer: Sees the runs go on, in the calling thread.

    Raises:
        LabError: A run is not valid, or could not be made.
    """
    versions = {"remanence": _version("remanence"), "python": platform.python_version(), "redis-py": _version("redis")}
    observer = observer or Observer()
    runs: list[ManagerRun] = []
    for number, manager in enumerate(managers, start=1):
        with _server(plan) as (server, url):
            versions["server"] = _server_version(url)
            runs.append(_Run(plan, manager, server, url, observer, number, len(managers)).measure())
        observer.finished(runs[-1])
    return Comparison(
        runs=tuple(runs),
        outage_kind=plan.kind,
        workers=plan.workers,
        processes=plan.processes,
        conversations=len(plan.conversations),
        seed=plan.seed,
        versions=versions,
    )


def run(plan: Plan, manager: str) -> ManagerRun:
    """Run one manager, see `compare`."""
    return compare(plan, [manager]).runs[0]


@dataclass(slots=True)
class _Run:
    """One manager's run, from the first process to the account."""

    plan: Plan
    manager: str
    server: RedisServer | None
    url: str
    observer: Observer
    number: int
    managers: int
    # Of this run alone, so that on a user's server nothing else is touched; no character of it is special in a pattern.
    prefix: str = field(default_factory=lambda: f"remanence-lab-{secrets.token_hex(6)}-")
    logs: list[Log] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)
    outage: Outage | None = None
    unfinished: int = 0
    evidence: Evidence | None = None
    handover: Handover | None = None

    def measure(self) -> ManagerRun:
        self.logs = [Log() for _ in range(self.plan.processes)]
        self._show("starting")
        with ExitStack() as cleanup:
            if self.server is None:
                cleanup.callback(audit.clear, self.url, self.prefix)
            if self.plan.kill_workers:
                self.evidence = Evidence(on_disk=self.manager == "resilient")
                cleanup.callback(self.evidence.close)
                self.handover = Handover(self.evidence, self.plan.processes, self.plan.outage_for)
            probe = Probe(self.url)
            crew = Crew([self._job(process) for process in range(self.plan.processes)])
            cleanup.enter_context(_uninterrupted_close(probe.close, crew.close, self._close_outage))
            crew.start(_READY_WITHIN_S)
            self._begin(crew, probe)
            self._follow(crew, probe)
            # Ended before Redis is read: a call that never returned must not write behind the audit's back.
            crew.close()
            window = self._window(probe)
            self._check(probe, window)
            self._show("auditing")
            return self._account(window)

    def _job(self, process: int, *, is_successor: bool = False) -> dict[str, object]:
        evidence = self.evidence
        number = process + self.plan.processes if is_successor else process
        return job(
            manager=self.manager,
            url=self.url,
            prefix=self.prefix,
            seed=self.plan.seed,
            own=self.plan.own(process),
            workers=self.plan.workers,
            pause_s=self.plan.pause_s,
            conversations=self.plan.conversations,
            journal=None if evidence is None or evidence.journal is None else str(evidence.journal),
            acks=None if evidence is None else str(evidence.acks(number)),
            predecessors=[str(evidence.acks(process))] if evidence is not None and is_successor else [],
        )

    def _begin(self, crew: Crew, probe: Probe) -> None:
        self.start = time.monotonic() + _LEAD_S
        crew.go(self._order())
        probe.start()
        if self.server is not None and self.plan.outage is not None:
            at = self.start + self.plan.outage_at
            hold = None if self.handover is None else self.handover.over
            self.outage = Outage(self.server, self.plan.outage, at=at, lasts=self.plan.outage_for, hold=hold)
            self.outage.start()

    def _order(self) -> dict[str, float]:
        end = self.start + self.plan.duration
        return {"start": self.start, "end": end, "grace": _GRACE_S, "drain": self._drain_s()}

    def _drain_s(self) -> float:
        # A breaker that has been open for long waits for up to 36 s until it probes.
        return 10.0 + min(30.0, self.plan.outage_for)

    def _follow(self, crew: Crew, probe: Probe) -> None:
        """Listen until every process is done, or has been silent for so long that it never will be."""
        under_way = set(range(self.plan.processes))
        deadline = self.start + self.plan.duration + self._drain_s() + 3 * _GRACE_S
        shown = 0.0
        while under_way and (now := time.monotonic()) < deadline:
            if now - shown >= _TICK_S:
                self._show(self._phase(now, probe))
                shown = now
            self._hand_over(crew, under_way)
            heard = crew.hear(_TICK_S / 2)
            if heard is not None:
                self._hear(crew, *heard, under_way)
        self.unfinished += sum(max(1, len(self.logs[number].in_call)) for number in under_way)

    def _hand_over(self, crew: Crew, under_way: set[int]) -> None:
        """Kill the workers when it is time to, and let Redis come back once the new ones are at work."""
        handover, outage = self.handover, self.outage
        if handover is None or outage is None:
            return
        if handover.is_due(outage, self.logs):
            under_way.clear()
            under_way.update(handover.successors)
            handover.make(crew, self.logs, lambda process: self._job(process, is_successor=True))
            self._tell(f"the {self.plan.processes} worker processes killed (SIGKILL){self._left(handover)}")
        elif handover.look(self.logs):
            self._tell(f"{self.plan.processes} new worker processes at work, Redis still away")

    def _left(self, handover: Handover) -> str:
        """Say where the journal is, for a manager that has one."""
        if handover.waiting is not None:
            return f"; writes of {handover.waiting:,} conversations wait in the journal's file"
        return "; their journals died with them" if any(log.samples for log in self.logs) else ""

    def _tell(self, what: str) -> None:
        at = time.monotonic() - self.start
        self.observer.told(f"{self.manager} ({self.number}/{self.managers}) {at:5.1f} s {what}")

    def _hear(self, crew: Crew, number: int, report: dict[str, object] | None, under_way: set[int]) -> None:
        if report is None:
            if number in under_way:
                raise crew.ended_early(number)
        elif report["kind"] == "ready":
            crew.go(self._order(), [number])
        elif report["kind"] == "batch":
            self.logs[number].add(Batch.from_json(report))
        elif report["kind"] == "done":
            under_way.discard(number)
            if report["crashed"]:
                raise CrewError(f"A worker failed with {report['crashed']}. The run is invalid; run it again.")
            self.unfinished += len(_list(report["unfinished"]))

    def _window(self, probe: Probe) -> tuple[float, float] | None:
        if self.outage is None:
            return probe.outage(self.start) if self.server is None else None
        if self.outage.error is not None:
            raise InvalidRunError(f"The outage could not be made or healed: {self.outage.error}") from self.outage.error
        if self.outage.began is None or self.outage.healed is None:
            raise InvalidRunError("The outage was not over when the run ended. Run it again, or for longer.")
        return self.outage.began, self.outage.healed

    def _check(self, probe: Probe, window: tuple[float, float] | None) -> None:
        calls = [call for log in self.logs for call in log.calls]
        good = [call for call in calls if call.answer != "error"]
        began, healed = window or (float("inf"), float("inf"))
        if not any(call.start + call.took < began for call in good):
            raise InvalidRunError(
                f"No call succeeded before the outage ({self._errors()}), so nothing can be compared."
            )
        if self.outage is None or self.outage.hurt is None or self.outage.healing is None:
            return
        hurt, healing = self.outage.hurt, self.outage.healing
        untouched = any(
            call.kind == "write" and call.answer == "redis" and call.start > hurt and call.start + call.took < healing
            for call in calls
        )
        if untouched or not probe.failed_between(hurt, healing):
            raise InvalidRunError("The outage did not bite: the server went on answering. Run it again.")
        if not self.unfinished and not any(call.start > healed for call in calls):
            raise InvalidRunError("No call was made after the outage. Run it again, or for longer.")
        problem = None if self.handover is None else self.handover.problem(self.logs, hurt, healing)
        if problem is not None:
            raise InvalidRunError(problem)

    def _errors(self) -> str:
        names = sorted({name for log in self.logs for name in log.errors})
        return f"errors: {', '.join(names)}" if names else "and none failed"

    def _account(self, window: tuple[float, float] | None) -> ManagerRun:
        acknowledged = self._acknowledged()
        found = audit.account(acknowledged, audit.read(self.url, self.prefix, acknowledged))
        killing = None
        if self.handover is not None and window is not None:
            killing = self.handover.account(self.start, window[0], set(found.lost))
        if self.evidence is not None and self.evidence.journal is not None and found.lost:
            self.evidence.keep = True
            self.observer.told(
                f"Acknowledged writes are lost. What was acknowledged, and the journal: {self.evidence.directory}"
            )
        return summarize(
            self.manager,
            self.logs,
            start=self.start,
            duration=self.plan.duration,
            outage=window,
            unfinished=self.unfinished,
            account=found,
            killing=killing,
            shared_journal=self._shared_journal,
        )

    def _acknowledged(self) -> dict[str, set[int]]:
        if self.handover is not None:
            return self.handover.acknowledged()
        acknowledged: dict[str, set[int]] = {}
        for log in self.logs:
            for conversation, turns in log.acknowledged.items():
                acknowledged.setdefault(conversation, set()).update(turns)
        return acknowledged

    @property
    def _shared_journal(self) -> bool:
        return self.evidence is not None and self.evidence.journal is not None

    def _phase(self, now: float, probe: Probe) -> str:
        if now > self.start + self.plan.duration:
            return "draining"
        if self.outage is None:
            return "outage" if probe.away else "before" if probe.outage(self.start) is None else "after"
        if self.outage.began is None:
            return "before"
        return "outage" if self.outage.healed is None else "after"

    def _show(self, phase: str) -> None:
        tick = look(
            self.logs,
            manager=self.manager,
            number=self.number,
            managers=self.managers,
            phase=phase,
            start=self.start,
            duration=self.plan.duration,
            now=time.monotonic(),
            shared_journal=self._shared_journal,
        )
        self.observer.tick(tick)

    def _close_outage(self) -> None:
        if self.outage is not None:
            self.outage.close()


@contextmanager
def _server(plan: Plan) -> Iterator[tuple[RedisServer | None, str]]:
    if plan.redis_url is not None:
        yield None, plan.redis_url
        return
    # With "everysec" a kill may lose what Redis had acknowledged while a sync was under way: not the manager's doing.
    server = RedisServer(durability="always")
    with _uninterrupted_close(server.close):
        server.start()
        yield server, server.url


@contextmanager
def _uninterrupted_close(*closes: Callable[[], None]) -> Iterator[None]:
    """Close in the end, in order; a second Ctrl-C does not leave a server or a worker behind."""
    try:
        yield
    finally:
        ours = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ours else None
        try:
            with ExitStack() as stack:
                for close in reversed(closes):
                    stack.callback(close)
        finally:
            if ours:
                signal.signal(signal.SIGINT, before)


def _server_version(url: str) -> str:
    try:
        with redis.Redis.from_url(url, socket_timeout=3.0, socket_connect_timeout=3.0) as client:
            info = client.info("server")
    except redis.RedisError as error:
        raise InvalidRunError(
            f"Redis does not answer ({type(error).__name__}). Start it, or correct the URL (its password too); "
            "without a URL the demo starts a server of its own."
        ) from None
    name = info.get("server_name", "redis")
    return f"{name} {info.get(f'{name}_version', info.get('redis_version', 'unknown'))}"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
