"""A seeded hunt on a real server: two processes' worth of managers write while states come and go, then it adds up.

Each conversation has a discipline that says what must be left of it in the end, so that every acknowledged write can be
accounted for without knowing in which order the server took them:

* *grow*: everybody appends by `mutate`; every acknowledged mark is in the final text or in a conflict copy.
* *turn*: agents take turns (a lock, across both managers): retrieve, think, write what was read and one mark; the same.
* *own*: threads of one manager write plainly; what is left is no older than any acknowledged write that is not a copy.
* *solo*: one thread alone; the same, and each read gives its last acknowledged write, wherever it comes from.

The schedule of states is keyed to the number of calls begun, not to time. Threads still interleave as they like, so a
seed repeats the calls and the states, not the very run. `python -m tests.hunt 0 1000` tries many.
"""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import tenacity

from remanence import CircuitBreaker, Fallback, RedisWorkingMemoryManager, Retry, resilient
from remanence.lab import RedisServer, ServerState
from tests.relay import value

__all__ = ["DEADLINE", "MARGIN", "Hunt", "Verdict"]

DEADLINE = 0.25
MARGIN = 0.25
"""0.05 is promised; the rest is for a machine whose cores are busy."""
TIMEOUT = 0.15
MANAGERS = 2
THREADS = 3
HURTS = ("freeze", "kill", "disconnect_clients")


@dataclass(slots=True)
class Write:
    """One write of one thread, by its mark.

    Attributes:
        mark: Unique text.
        begin, end: Monotonic seconds.
        acknowledged: Whether it returned.
        deletes: Whether it deletes.
        story: What was done and said, for the report.
    """

    mark: str
    begin: float
    end: float = float("inf")
    acknowledged: bool = False
    deletes: bool = False
    story: str = ""


@dataclass(slots=True)
class Verdict:
    """What a hunt found.

    Attributes:
        violations: The conversation and one sentence each.
        counts: What happened how often: outcomes, sources, errors, states.
        slowest: The slowest call's seconds.
    """

    violations: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


class Hunt:
    """One run.

    Args:
        server: Started, its own; it must keep its data when it is killed.
        seed: Of the calls and the schedule.
        calls: For each thread.
        states: How many states and hurts come.
    """

    def __init__(self, server: RedisServer, seed: int, *, calls: int = 60, states: int = 6) -> None:
        self.server = server
        self.seed = seed
        self.calls = calls
        self.verdict = Verdict()
        rng = random.Random(seed)
        self._rng = rng
        self.skew = rng.choice([5.0, 0.01])
        self.timeline: list[str] = []
        self._began = time.monotonic()
        total = calls * MANAGERS * THREADS
        choices = [*ServerState, *HURTS]
        starts = sorted(rng.sample(range(total // 10, total - total // 10), states))
        self.schedule = [(start, rng.choice(choices), rng.choice([1, 3, 10, 30])) for start in starts]
        self._begun = itertools.count(1)
        self._count = 0
        self._writes: dict[str, list[Write]] = {}
        self._lock = threading.Lock()
        self._turns = {name: threading.Lock() for name in ("turn0", "turn1")}
        self._done = threading.Event()
        self._healed = threading.Event()
        self._healed.set()
        self._marks = itertools.count(1)

    def run(self) -> Verdict:
        """Do it."""
        managers = [self._manager(number) for number in range(MANAGERS)]
        threads = [
            threading.Thread(target=self._guarded, args=(self._work, managers[m], m, t), name=f"{m}{t}", daemon=True)
            for m in range(MANAGERS)
            for t in range(THREADS)
        ]
        chaos = threading.Thread(target=self._guarded, args=(self._hurt,), daemon=True)
        for thread in (*threads, chaos):
            thread.start()
        for thread in threads:
            thread.join(60)
            if thread.is_alive():
                self._blame("a thread", "a call hangs")
        self._done.set()
        chaos.join(30)
        self.server.leave()
        self.server.start()
        self._await_home(managers)
        self._audit(managers)
        for manager in managers:
            manager.close(0.01)
            manager.inner.close()
        return self.verdict

    def _manager(self, number: int) -> Any:
        return resilient(
            RedisWorkingMemoryManager(self.server.url, timeout=TIMEOUT),
            fallback=Fallback(max_clock_skew=self.skew),
            deadline=DEADLINE,
            retry=Retry(attempts=2, wait=tenacity.wait_random(0.001, 0.02), budget_per_second=1_000),
            circuit_breaker=CircuitBreaker(open_for=0.02, open_for_max=0.05, rng=random.Random(self.seed + number)),
        )

    def _guarded(self, target: Callable[..., None], *args: Any) -> None:
        try:
            target(*args)
        except Exception as error:  # noqa: BLE001 - it is what is hunted
            self._blame(target.__name__, f"ended with {type(error).__name__}: {error}")
            self._done.set()

    def _blame(self, name: str, what: str) -> None:
        with self._lock:
            self.verdict.violations.append((name, what))

    def report(self) -> str:
        """Return what was found, the schedule, and what was written to the conversations in question."""
        lines = [f"seed {self.seed}, slowest call {self.verdict.slowest:.3f} s, clock skew {self.skew}", *self.timeline]
        for name, what in self.verdict.violations:
            lines.append(f"{name}: {what}")
        for name in sorted({name for name, _ in self.verdict.violations} & self._writes.keys()):
            lines.append(name)
            lines += [
                f"  {write.begin - self._began:.4f}..{write.end - self._began:.4f} {write.mark} {write.story}"
                for write in self._writes[name]
            ]
        return "\n".join(lines)

    # States ---------------------------------------------------------------------------------------------------------

    def _hurt(self) -> None:
        for start, what, length in self.schedule:
            self._wait_for(start)
            self.timeline.append(f"{time.monotonic() - self._began:.3f} {what} for {length} calls at {self._count}")
            self.verdict.counts[str(what)] += 1
            until = self._count + length
            self._healed.clear()
            if what == "disconnect_clients":
                with suppress(OSError):
                    self.server.disconnect_clients()
            elif what in {"freeze", "kill"}:
                getattr(self.server, what)()
                self._wait_for(until)
                self.server.start()
            else:
                with self.server.state(what):
                    self._wait_for(until)
            self._healed.set()
            self.timeline.append(f"{time.monotonic() - self._began:.3f} over at {self._count}")

    def _wait_for(self, count: int) -> None:
        while self._count < count and not self._done.is_set():
            time.sleep(0.001)

    # Calls ----------------------------------------------------------------------------------------------------------

    def _work(self, manager: Any, m: int, t: int) -> None:
        rng = random.Random(f"{self.seed} {m} {t}")
        own = [f"own{m}", f"solo{m}{t}"]
        last: dict[str, list[str | None]] = {}
        for _ in range(self.calls):
            name = rng.choice(["grow0", "grow1", "turn0", "turn1", *own])
            if name.startswith("grow"):
                self._grow(manager, name)
            elif name.startswith("turn"):
                with self._turns[name]:
                    self._turn(manager, name, rng)
            else:
                self._plain(manager, name, rng, last if name.startswith("solo") else None)
            if rng.random() < 0.5:
                time.sleep(rng.random() * 0.01)

    def _call(self, act: Callable[[], Any]) -> Any:
        self._count = next(self._begun)
        begin = time.monotonic()
        try:
            result = act()
        except Exception as error:  # noqa: BLE001 - states refuse; which they may is checked elsewhere
            result = error
        took = time.monotonic() - begin
        if type(result) is list:
            (result,) = result
        with self._lock:
            self.verdict.counts[_said(result)] += 1
            self.verdict.slowest = max(self.verdict.slowest, took)
        return result

    def _write(self, name: str, act: Callable[[str], Any], *, deletes: bool = False) -> Write:
        write = Write(f"<{next(self._marks)}>", time.monotonic(), deletes=deletes)
        with self._lock:
            self._writes.setdefault(name, []).append(write)
        receipt = self._call(lambda: act(write.mark))
        write.end = time.monotonic()
        write.story = f"{threading.current_thread().name} {_said(receipt)}"
        write.acknowledged = not isinstance(receipt, Exception) and (deletes or receipt.outcome != "missing")
        return write

    def _grow(self, manager: Any, name: str) -> None:
        self._write(name, lambda mark: manager.mutate(value(conversation=name), lambda text: f"{text or ''}{mark}"))

    def _turn(self, manager: Any, name: str, rng: random.Random) -> None:
        seen = self._call(lambda: manager.retrieve(value(conversation=name)))
        if isinstance(seen, Exception):
            return
        text = seen[0].working_memory if seen else ""
        if rng.random() < 0.5:  # an agent thinks, and the outage is over by then
            self._healed.wait(0.3)
        # After an answer of the server a plain write may replace what another process's replay has brought in between,
        # as the reference's does; after any other answer it must not.
        how = rng.choice(["if_version"] if seen.source == "redis" else ["store", "update", "batch", "if_version"])

        def act(mark: str) -> Any:
            item = value(text + mark, name)
            if how == "update":
                return manager.update(item)
            if how == "if_version":
                return manager.store(item, if_version=seen.version)
            return manager.store_many([item]) if how == "batch" else manager.store(item)

        write = self._write(name, act)
        write.story += f" {how} over {text[-30:]} from {seen.source}"

    def _plain(self, manager: Any, name: str, rng: random.Random, last: dict[str, list[str | None]] | None) -> None:
        item = value(conversation=name)
        if rng.random() < 0.4:
            begun = f"{time.monotonic() - self._began:.3f}"
            seen = self._call(lambda: manager.retrieve(item))
            if last is not None and name in last and not isinstance(seen, Exception):
                text = seen[0].working_memory if seen else None
                if text not in last[name]:
                    self._blame(name, f"at {begun} read {text} from {seen.source}, after writing {last[name]}")
            return
        how = rng.choice(["store", "store", "store", "update", "batch", "delete"])

        def act(mark: str) -> Any:
            if how == "delete":
                return manager.delete(item)
            written = value(mark, name)
            if how == "update":
                return manager.update(written)
            return manager.store_many([written]) if how == "batch" else manager.store(written)

        write = self._write(name, act, deletes=how == "delete")
        write.story += f" {how}"
        if last is not None:
            said = None if write.deletes else write.mark
            if write.acknowledged:
                last[name] = [said]
            else:
                last.setdefault(name, [None]).append(said)  # it may have been carried out all the same

    # The account ----------------------------------------------------------------------------------------------------

    def _await_home(self, managers: list[Any]) -> None:
        deadline = time.monotonic() + 20
        while any(manager.has_pending_writes for manager in managers):
            if time.monotonic() > deadline:
                left = [manager.health() for manager in managers]
                self._blame("the journals", f"still pending 20 s after it healed: {left}")
                return
            time.sleep(0.005)
        time.sleep(TIMEOUT)  # until what was abandoned can no longer be applied

    def _audit(self, managers: list[Any]) -> None:
        copies: dict[str, set[str]] = {}
        for conflict in managers[0].conflicts():
            self.verdict.counts["conflict copies"] += 1
            copies.setdefault(conflict.conversation_id, set()).add(conflict.text or "")
        with RedisWorkingMemoryManager(self.server.url) as bare:
            for name, writes in self._writes.items():
                found = bare.retrieve(value(conversation=name))
                text = found[0].working_memory if found else None
                kept = "".join(copies.get(name, ()))
                if name.startswith(("grow", "turn")):
                    self._audit_marks(name, writes, (text or "") + kept)
                else:
                    self._audit_last(name, writes, text, kept)

    def _audit_marks(self, name: str, writes: list[Write], found: str) -> None:
        for write in writes:
            if write.acknowledged and write.mark not in found:
                self._blame(name, f"{write.mark}, acknowledged at {write.end - self._began:.3f}, is nowhere")

    def _audit_last(self, name: str, writes: list[Write], text: str | None, kept: str) -> None:
        # What may be left: a write that is not over before another, acknowledged one began.
        latest = max((write.begin for write in writes if write.acknowledged and write.mark not in kept), default=0.0)
        candidates = [write for write in writes if not write.acknowledged or write.end >= latest]
        left = {None if write.deletes else write.mark for write in candidates}
        if not any(write.acknowledged for write in writes):
            left.add(None)
        if text not in left:
            self._blame(name, f"{text} is left, but only {sorted(map(str, left))} may be")


def _said(result: Any) -> str:
    if isinstance(result, Exception):
        return type(result).__name__
    return str(getattr(result, "source", None) or result.outcome)


def main() -> None:
    """Hunt with the seeds from the first argument up to the second."""
    first, last = map(int, sys.argv[1:3])
    totals: Counter[str] = Counter()
    # What a server with a lazier append-only file loses in a kill is not the library's loss.
    with RedisServer(durability="always") as server:
        for seed in range(first, last):
            server.command("FLUSHALL")
            hunt = Hunt(server, seed)
            verdict = hunt.run()
            totals += verdict.counts
            if verdict.violations or verdict.slowest > DEADLINE + MARGIN:
                print(hunt.report(), flush=True)  # noqa: T201 - run by hand
    print(f"seeds {first} to {last - 1}:", dict(totals.most_common()))  # noqa: T201


if __name__ == "__main__":
    main()
