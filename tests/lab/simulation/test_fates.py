"""Each fate, event and outage of the simulated world does what its description says, and pruning loses no outcome."""

from __future__ import annotations

import random
from typing import Any

import pytest

from remanence.lab.simulation import EVENTS, OUTAGES, ProcessSettings, Scenario, World, asyncio_cases, small_cases
from remanence.lab.simulation.schedule import Schedule
from tests.lab.simulation.exploring import between, in_order, outcome, runs, story, with_line, without_line

Programs = tuple[tuple[int | None, tuple[str, ...]], ...]

ONE_ATTEMPT = ProcessSettings(attempts=1, breaker_failures=9)
STORE: Programs = ((0, ("store a",)),)
TWO_STORES: Programs = ((0, ("store a", "store b")),)
HEALED = "world: is healed"


def scenario(programs: Programs, *, event: str = "", outage: str = "", **options: Any) -> Scenario:
    """Make a scenario in which one thing may go wrong."""
    usual: dict[str, Any] = {"settings": ONE_ATTEMPT, "coarse": True, "held": False}
    return Scenario(
        programs=programs,
        events=tuple(event.split(", ")) if event else (),
        outages=((outage,),) if outage else (),
        **usual | options,
    )


def explored(programs: Programs, *, pruned: bool = True, **options: Any) -> list[World]:
    """Return the worlds of all runs, with their stories."""
    return list(runs(scenario(programs, **options), pruned=pruned, tells=True))


def changed(lines: list[str]) -> bool:
    """Whether these lines tell of a change of a memory."""
    return any(line.startswith("server: memory") for line in lines)


# What becomes of one command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["lose request", "lose reply", "delay", "refuse", "crash", "restart", "pause"])
def test_what_may_happen_need_not(event: str) -> None:
    """Of each event there is a run in which it does not happen, and the write is simply committed."""
    worlds = explored(STORE, event=event)
    calm = [world for world in worlds if world.trouble.events == [] and outcome(world)[2] == ("committed",)]
    assert [lines for lines in map(story, calm) if not any("is " in line for line in lines if line != HEALED)]
    assert len(worlds) > 1


def test_a_lost_request_never_reaches_the_server() -> None:
    """Its caller is told of an error, nothing has changed by then, and nothing arrives later."""
    for lines in with_line(explored(STORE, event="lose request"), "[write 'a'] never arrives; its connection is reset"):
        assert not changed(between(lines, "begins", "store a ends -> journaled"))
        assert not any("delivers" in line for line in lines)


def test_with_a_lost_reply_the_command_is_applied_and_its_caller_told_of_an_error() -> None:
    """The memory has changed before the caller goes on without an answer."""
    for lines in with_line(explored(STORE, event="lose reply"), "[write 'a'] is applied, and its answer lost"):
        assert "server: memory 0: '' becomes 'a'" in between(lines, "begins", "is applied")
        assert "P0: store a ends -> journaled" in lines
        assert not any("delivers" in line for line in lines)


def test_a_delayed_command_arrives_after_its_caller_was_told_of_an_error() -> None:
    """At once, between the caller's next steps, or in the end; once its time is over it changes nothing."""
    worlds = explored(TWO_STORES, event="delay")
    held, delivers = "[write 'a'] is held up; its connection is reset", "network: delivers store [write 'a'] of P0"
    for lines in with_line(worlds, held):
        assert sum(delivers in line for line in lines) == 1
        assert not changed(between(lines, held, "ends" if delivers not in between(lines, held, "ends") else delivers))
    applied = with_line(worlds, held, delivers, "memory 0: '' becomes 'a'", "store a ends -> journaled")
    gone_on = with_line(worlds, held, "store a ends -> journaled", "store b begins", delivers)
    assert applied != gone_on
    for lines in with_line(worlds, HEALED, delivers):
        assert lines[-1] == delivers


def test_a_refused_command_was_not_sent() -> None:
    """It changes nothing, and its caller may repeat it as it is; one that was lost may only be repeated guardedly."""
    settings = ProcessSettings(attempts=2, breaker_failures=9)
    for event, fate, again in (
        ("refuse", "is refused", "store [write 'b']: done"),
        ("lose request", "never arrives; its connection is reset", "store [write 'b' over "),
    ):
        worlds = explored(TWO_STORES, event=event, settings=settings)
        for lines in with_line(worlds, f"store [write 'b'] {fate}"):
            repeated = [line for line in between(lines, f"'b'] {fate}", "ends") if "[write 'b'" in line][1]
            assert again in repeated
            assert not any("delivers" in line for line in lines)


def test_a_cancelled_call_ends_at_once_and_what_it_has_sent_may_be_applied() -> None:
    """Before it is sent, held up, or applied; its caller goes on, and is told of nothing else."""
    settings = ProcessSettings(attempts=1, breaker_failures=9, awaits=True)
    worlds = explored(((0, ("store a", "store b")),), event="cancel", settings=settings)
    ends = "P0: store a ends -> CancelledError"
    for fate in ("is given up before it is sent", "is given up, and held up", "is applied, and given up"):
        for lines in with_line(worlds, "P0: is cancelled", f"store [write 'a'] {fate}", ends, "store b ends ->"):
            after = [line for line in between(lines, "P0: is cancelled", ends) if line.startswith("P0: store")]
            assert after == [f"P0: store [write 'a'] {fate}", ends]
    assert {outcome(world)[0] for world in worlds} >= {("a",), ("b",)}
    for world in worlds:
        assert [op.outcome for op in world.ops].count("CancelledError") <= 1


def test_what_the_disk_has_begun_is_done_before_a_cancellation_is_told() -> None:
    """A write that is cancelled while its entry is written is in the journal."""
    settings = ProcessSettings(attempts=1, breaker_failures=9, shares=True, awaits=True)
    worlds = explored(STORE, event="refuse, cancel", settings=settings)
    # The failure is noted just before the entry is made.
    begun = [world for world in worlds if world.processes[0].fallback.last_error is not None]
    cancelled = [world for world in begun if world.ops[0].outcome == "CancelledError"]
    assert cancelled
    assert {outcome(world)[0] for world in cancelled} == {("a",)}


def test_a_cancelled_replay_is_started_anew() -> None:
    """By the next call, or in the end; nothing is lost by it."""
    settings = ProcessSettings(attempts=1, breaker_failures=9, awaits=True)
    worlds = explored(TWO_STORES, event="refuse, cancel replay", settings=settings)
    with_line(worlds, "P0 (replay): is cancelled", "P0 (replay): reconcile [write 'b'")
    assert {outcome(world)[0] for world in worlds} == {("b",)}


# Processes, time, the server's memory ---------------------------------------------------------------------------------


def test_a_crash_ends_a_call_and_another_process_takes_over_the_remaining_operations() -> None:
    """What was under way arrives later, its caller is told nothing, and the new process does what had not begun."""
    worlds = explored(TWO_STORES, event="crash")
    for lines in with_line(
        worlds, "P0: store a begins", "P0: store [time]: done", "P0: crashes", "P0': store b begins"
    ):
        if "P0: store a ends -> committed" in lines:
            continue
        assert "network: delivers store [write 'a'] of P0" in lines
        assert "P0': store a begins" not in lines
    assert any(op.outcome == "" and op.invoked >= 0 for world in worlds for op in world.ops)
    for world in worlds:
        if any("crashes" in line for line in story(world)):
            assert [(each.name, each.alive) for each in world.processes] == [("P0", False), ("P0'", True)]
            assert all(op.process is world.processes[1] for op in world.ops if op.outcome == "" and op.invoked < 0)
    with_line(worlds, "P0: crashes", "P0': store a begins", "P0': store b ends -> committed")


def test_what_is_pending_dies_with_its_process() -> None:
    """A journaled write of a process without a disk is gone after its crash; without one it comes home."""
    worlds = explored(STORE, event="refuse, crash")
    ended = [(world, story(world)) for world in worlds if world.ops[0].outcome == "journaled"]
    died = [world for world, lines in ended if in_order(lines, ("store a ends", "P0: crashes"))]
    gone = [world for world in died if outcome(world)[0] == ("",)]
    assert gone
    assert all(len(world.ledger.perished[0]) == 1 for world in gone)
    assert all(outcome(world)[0] == ("a",) for world, lines in ended if "P0: crashes" not in lines)


@pytest.mark.parametrize(("event", "seconds"), [("leap", 0.6), ("pause", 40.0)])
def test_time_passes_by_so_much(event: str, seconds: float) -> None:
    """While a call is under way too: one that waits for longer than its time times out."""
    worlds = explored(STORE, event=event)
    passed = [world for world in worlds if any("passes" in line for line in story(world))]
    for world in passed:
        lines = world.story.lines
        place = next(place for place, (_, who, _) in enumerate(lines) if who == "time")
        before = lines[place - 1][0] if place else 0.0
        assert lines[place][0] - before == pytest.approx(seconds)
    under_way = with_line(worlds, "store [time]: done", f"time: passes: {seconds} s", "store a ends")
    assert any("times out" in line for lines in under_way for line in lines) == (event == "pause")


def test_an_evicted_memory_is_gone_and_counted() -> None:
    """Who reads afterwards is told that nothing is held."""
    worlds = explored(((0, ("retrieve a",)),), event="evict", held=True)
    assert {world.server.evictions for world in worlds} == {0, 1}
    for world in worlds:
        was_evicted = world.server.evictions == 1
        assert (world.server.value(world.keys[0]) is None) == was_evicted
        assert [change.how for change in world.ledger.changes[0][1:]] == ["evicted"] * was_evicted
    for lines in with_line(worlds, "server: evicts memory 0", "retrieve [get]"):
        assert "P0: retrieve [get]: 'base0'" not in lines
    with_line(worlds, "retrieve [get]: 'base0'")


def test_a_restart_empties_the_script_cache_and_keeps_the_data() -> None:
    """The server is another run of itself; a script has to be sent in full once more."""
    worlds = explored(TWO_STORES, event="restart")
    for world in worlds:
        restarted = any("restarts between" in line for line in story(world))
        assert world.server.run_id == ("run-1" if restarted else "run-0")
        assert not any(change.how == "restart" for change in world.ledger.changes[0])
    with_line(worlds, "restarts between", "P0: store [write 'a']: NoScriptError", "becomes 'a'", "-> committed")
    for lines in with_line(worlds, "store a ends -> committed", "restarts between", "reconcile [write 'b' over"):
        assert "server: memory 0: 'a' becomes 'b'" in lines


def test_after_a_restart_idle_connections_are_opened_anew_unnoticed() -> None:
    """Only a command that was under way fails; the next one of an idle caller is answered."""
    programs: Programs = ((0, ("store a", "retrieve b")), (0, ("retrieve c",)))
    worlds = explored(programs, event="restart")
    for lines in map(story, worlds):
        lost = [line for line in lines if "never arrives" in line]
        told = [line for line in lines if " ends -> " in line and "P0: " in line]
        assert len(told) == 3
        if not lost:
            assert all(line.endswith(("-> committed", "-> redis")) for line in told)
    idle = with_line(worlds, "[write 'a']: done", "restarts between", "retrieve b begins", "retrieve b ends -> redis")
    assert any(not any("never arrives" in line for line in lines) for lines in idle)


def test_a_replica_that_takes_over_misses_what_came_after_its_lag() -> None:
    """It is another server, whose clock is three seconds behind; what was held up for the old one is gone."""
    worlds = explored(((0, ("store a", "retrieve b")),), event="lag, failover, delay")
    parts = ("receives nothing", "memory 0: '' becomes 'a'", "store a ends -> committed", "takes over")
    for world in [world for world in worlds if in_order(story(world), parts)]:
        assert [change.how for change in world.ledger.changes[0]][:2] == ["write", "failover"]
        assert world.ledger.changes[0][1].after is None
    with_line(worlds, *parts)
    for world in worlds:
        lines = story(world)
        replaced = any("takes over" in line for line in lines)
        assert world.server.run_id == ("run-1" if replaced else "run-0")
        assert world.server.now() - world.now == pytest.approx(-3.0 if replaced else 0.0)
        assert not (replaced and in_order(lines, ("is held up", "takes over", "network: delivers")))
    for lines in with_line(worlds, "becomes 'a'", "receives nothing", "takes over"):
        assert "server: memory 0: 'a' becomes ''" not in lines


def test_a_replica_needs_a_lag_before_it_takes_over() -> None:
    """There is none before."""
    assert all("takes over" not in " ".join(story(world)) for world in explored(STORE, event="failover"))


# Outages --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outage", "held"), [("kill", "base0"), ("wipe", "")])
def test_a_dead_server_refuses_and_comes_back(outage: str, held: str) -> None:
    """With its data, or without; what was under way was applied or not, and its caller told of an error."""
    worlds = explored(STORE, outage=outage, held=True)
    begins = f"outage begins: {outage}"
    for world in worlds:
        restarts = [change for change in world.ledger.changes[0] if change.how == "restart"]
        dead = any(begins in line for line in story(world))
        assert world.server.run_id == ("run-1" if dead else "run-0")
        assert len(restarts) == (dead and outage == "wipe")
        assert all(change.before is not None and change.after is None for change in restarts)
    for lines in with_line(worlds, begins, "store a begins", "is refused"):
        during = between(lines, begins, "outage ends" if "server: outage ends" in lines else HEALED)
        assert not changed(during)
        assert not any(line.endswith(": done") for line in during)
    with_line(worlds, begins, "[write 'a'] never arrives; its connection is reset", "-> journaled")
    under_way = (begins, "'base0' becomes 'a'", "[write 'a'] is applied, and its answer lost", "-> journaled")
    for lines in with_line(worlds, *under_way, "reconcile [write 'a' over"):
        rest = lines[lines.index("server: outage ends") :]
        assert f"server: memory 0: '{'a' if held else ''}' becomes 'a'" in rest
    without_line(worlds, begins)


def test_a_frozen_server_answers_nothing() -> None:
    """Calls time out after their second; what was sent is applied once it runs on, in time, or refused in the end."""
    worlds = explored(STORE, outage="freeze", held=True)
    begins = "outage begins: freeze"
    for world in [world for world in worlds if any("store [write 'a'] times out" in line for line in story(world))]:
        told = {what: seconds for seconds, _, what in world.story.lines}
        assert told["store [write 'a'] times out"] - told["store a begins"] == pytest.approx(1.0)
    for lines in with_line(worlds, begins):
        during = between(lines, begins, "outage ends" if "server: outage ends" in lines else HEALED)
        assert not changed(during)
        assert not any(word in line for line in during for word in (": done", "refused", "reset", "applied"))
    with_line(worlds, "[time]: done", begins, "outage ends", "becomes 'a'", "-> committed")
    for lines in with_line(worlds, begins, "[write 'a'] times out", "-> journaled", "network: delivers"):
        assert not changed(between([*lines, "end"], "network: delivers", "end"))


def test_a_readonly_server_answers_reads_and_refuses_writes() -> None:
    """On the same connections; nothing changes meanwhile."""
    begins = "outage begins: readonly"
    # Not pruned: a read is answered as on a good day, so that what follows was played before.
    worlds = explored(((0, ("retrieve a", "store b")),), pruned=False, outage="readonly", held=True)
    for lines in with_line(worlds, begins):
        during = between(lines, begins, "outage ends" if "server: outage ends" in lines else HEALED)
        assert not changed(during)
        assert not any(word in line for line in during for word in ("reset", "times out", "is refused"))
    with_line(worlds, begins, "retrieve [get]: 'base0'", "store [write 'base0 b']: ReadOnlyError", "-> journaled")
    assert {world.server.run_id for world in worlds} == {"run-0"}


def test_a_cut_resets_connections() -> None:
    """What was sent has been applied, is applied later, or never is; what is not sent yet is refused."""
    begins = "outage begins: cut"
    worlds = explored(STORE, outage="cut", held=True)
    with_line(worlds, begins, "'base0' becomes 'a'", "[write 'a'] is applied, and its answer lost", "-> journaled")
    held_up = "[write 'a'] is held up; its connection is reset"
    with_line(worlds, begins, held_up, "outage ends", "network: delivers store [write 'a']", "'base0' becomes 'a'")
    never = with_line(worlds, begins, held_up, HEALED, "network: delivers store [write 'a']")
    assert all("delivers" in lines[-1] for lines in never)
    with_line(worlds, begins, "store a begins", "is refused", "-> journaled")
    assert {world.server.run_id for world in worlds} == {"run-0"}
    fine = explored(STORE, outage="cut", held=True, coarse=False)
    with_line(fine, begins, "store a begins", "[time] times out", "-> journaled")


def test_a_cut_may_apply_a_part_of_a_pipeline() -> None:
    """Its first half, and its caller is told of an error for all of it."""
    worlds = explored(((0, ("store_many a",)),), outage="cut", places=2)
    part = "store_many [write 'a.0'] is applied, and its answer lost"
    for world in [world for world in worlds if any(part in line for line in story(world))]:
        assert [op.outcome for op in world.ops[1:]] == ["journaled", "journaled"]
        meanwhile = between(story(world), "begins", part)
        assert "server: memory 0: '' becomes 'a.0'" in meanwhile
        assert not any("memory 1" in line for line in meanwhile)
    with_line(worlds, part)


def test_every_event_and_outage_is_played() -> None:
    """By the small cases, each by one at least."""
    scenarios = [case.scenario for case in (*small_cases(), *asyncio_cases())]
    assert {event for each in scenarios for event in each.events} == set(EVENTS)
    assert {kind for each in scenarios for kinds in each.outages for kind in kinds} == set(OUTAGES)


# Clocks ---------------------------------------------------------------------------------------------------------------


def test_the_servers_clock_falls_behind() -> None:
    """By as much as the scenario says of every second, also that of a replica."""
    for world in explored(STORE, event="pause, lag, failover", drift=0.05):
        elapsed = world.now - 1_800_000_000.0
        replaced = any("takes over" in line for line in story(world))
        assert world.server.now() == pytest.approx(world.now - 0.05 * elapsed - 3.0 * replaced, abs=1e-5)
    steady = World(scenario(STORE), Schedule())
    steady.now += 1_000.0
    assert steady.server.now() == steady.now


def test_wall_clocks_are_wrong_in_turn_and_the_servers_by_the_last() -> None:
    """A process that takes another one's place is on the same host."""
    programs: Programs = ((0, ("store a",)), (1, ("store b",)), (2, ("store c",)))
    world = World(scenario(programs, skews=(7.0, -4.0)), Schedule())
    assert [each.clock.time() - world.now for each in world.processes] == [7.0, -4.0, 7.0]
    assert {each.clock.monotonic() - world.now for each in world.processes} == {0.0}
    assert world.server.now() - world.now == -4.0
    for crashed in explored(((0, ("store a",)), (1, ("store b",))), event="crash", skews=(7.0, -4.0)):
        heirs = crashed.processes[2:]
        assert [each.clock.time() - crashed.now for each in heirs] == [(7.0, -4.0)[each.number] for each in heirs]


# What an exhaustive run leaves out ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"outage": kind} for kind in ("kill", "freeze", "readonly", "cut")]
    + [{"event": event} for event in ("lose request", "delay", "refuse", "restart")],
    ids=lambda options: next(iter(options.values())),
)
def test_coarse_runs_reach_the_same_outcomes(options: dict[str, str]) -> None:
    """They leave out orders only that change nothing."""
    coarse, fine = (
        {outcome(world) for world in runs(scenario(STORE, held=True, coarse=coarse, **options))}
        for coarse in (True, False)
    )
    assert coarse == fine
    assert len(coarse) > 1


def test_the_lost_answer_to_a_question_is_like_a_lost_request() -> None:
    """Coarse runs do not lose the answer to TIME or INFO: what comes of it comes of a lost request as well."""
    fine = {outcome(world) for world in explored(STORE, event="lose reply", held=True, coarse=False)}
    events = ("lose request", "lose reply")
    assert fine <= {outcome(world) for event in events for world in explored(STORE, event=event, held=True)}


TINY: dict[str, Scenario] = {
    "two operations, a crash": scenario((((0, ("store a", "update b"))),), event="crash", held=True),
    "two operations, a failover": scenario(TWO_STORES, event="lag, failover"),
    "two operations, a restart": scenario(TWO_STORES, event="restart"),
    "two operations, a delay": scenario((((0, ("store a", "delete b"))),), event="delay", held=True),
    "two callers, a lost reply": scenario(((0, ("store a",)), (0, ("delete b",))), event="lose reply", held=True),
    "two processes, a lost reply": scenario(((0, ("store a",)), (1, ("delete b",))), event="lose reply", held=True),
    "readonly": scenario(STORE, outage="readonly", held=True),
    "cut": scenario(STORE, outage="cut", held=True),
    "kill": scenario(STORE, outage="kill", held=True),
}


@pytest.mark.parametrize("name", TINY)
def test_pruned_runs_reach_every_outcome(name: str) -> None:
    """What is left out where a state is known has the same outcomes as what was played from there."""
    pruned = {outcome(world) for world in runs(TINY[name])}
    assert pruned == {outcome(world) for world in runs(TINY[name], pruned=False)}
    assert len(pruned) > 1


@pytest.mark.parametrize("options", [{"outage": "wipe"}, {"outage": "readonly"}, {"event": "delay"}])
def test_no_random_schedule_reaches_an_outcome_that_pruned_runs_do_not(options: dict[str, str]) -> None:
    """In scenarios with too many schedules to play them all."""
    larger = scenario(((0, ("store a",)), (1, ("store b",))), held=True, **options)
    pruned = {outcome(world) for world in runs(larger)}
    reached = set()
    for seed in range(600):
        world = World(larger, Schedule(rng=random.Random(seed)))
        world.play()
        reached.add(outcome(world))
    assert reached <= pruned
    assert len(reached) > 3
