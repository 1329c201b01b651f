"""The state machine that sends the same steps to a real server and to its model, and what the steps are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from remanence.flow import Call, KeptCopy, WriteItem
from remanence.managers.redis_backend import Pipeline
from remanence.managers.redis_protocol import GUARDED_WRITE, GUARDED_WRITE_SHA
from remanence.record import ABSENT, digest, encode
from tests.lab.simulation.redis_twins import Held, Huge, Later, Twins

__all__ = ["Machine"]

STAMP = "2026-01-02T03:04:05+00:00"
FAR = 10**17

# A second manager, whose prefix means something in a pattern.
ODD = "m*[o]?^\\d"
PREFIXES = ("memory", ODD)
RECORDS = tuple(encode(text, {"n": 1} if text else None, STAMP, STAMP) for text in ("", "a text", "h\u00e9llo"))
VALUES = (b"", b"\x00\xff\r\n", *RECORDS)
DIGESTS = ("0" * 40, *map(digest, VALUES))

MEMORIES = {prefix: [f"{prefix}:WORKING_MEMORY:{name}" for name in ("a", "\u00e9:*")] for prefix in PREFIXES}
OTHERS = [
    f"remanence-{what}{own}:WORKING_MEMORY:a{name}"
    for own in ("", f"-{ODD}")
    for what, name in (("conflicts", ""), ("conflict", f":{digest(RECORDS[1])}"))
]
PATTERNS = (
    *("*", "**", "*:a", "a\\", "memory:*", "memory:WORKING_MEMORY:a*"),
    *("remanence-conflict:*", "remanence-conflict-m\\*\\[o\\]\\?\\^\\\\d:*"),
)

# Seconds. No sum of times that pass comes within a minute of an expiry, so that a slow machine changes no answer.
TTLS = st.integers(1, 3).map(lambda units: units * 10_000)
PASSING = (3_300, 3_300, 13_300, 13_300, 103_300)

HOT = MEMORIES["memory"][0]  # most of the steps: few guards are met on a key that is seldom used
keys = st.sampled_from([*(HOT,) * 4, *MEMORIES["memory"], MEMORIES[ODD][0], *OTHERS])
values = st.sampled_from([*(b"", *VALUES) * 4, Huge(1_048_576)])
hours = st.sampled_from((*(1,) * 7, -1))
not_afters = st.one_of(hours.map(Later), st.sampled_from((FAR, FAR, FAR, 0, -5)))
modes = st.one_of(
    st.sampled_from(("", "DEL")),
    TTLS.map(lambda ttl: ttl * 1_000 + 500),
    st.sampled_from(("", "DEL", 0, 2**63)),
)
scripts = st.sampled_from((("EVALSHA", GUARDED_WRITE_SHA), ("EVALSHA", GUARDED_WRITE_SHA), ("EVAL", GUARDED_WRITE)))


@st.composite
def guarded_writes(draw: st.DrawFn) -> tuple[Any, ...]:
    """Give one use of the script, as a command."""
    key = draw(keys)
    guard = draw(st.lists(st.sampled_from((Held(key), Held(key), ABSENT, ABSENT, *DIGESTS)), max_size=3))
    return (*draw(scripts), 1, key, draw(values), draw(modes), draw(not_afters), *guard)


lifetimes_refused = st.sampled_from((0, -1, 2**63 - 1, 2**64))
lifetimes = st.one_of(TTLS, TTLS, TTLS, lifetimes_refused)
members = st.sampled_from(("m", b"\xff", *map(digest, RECORDS)))
commands = st.one_of(
    guarded_writes(),
    st.tuples(st.just("EVALSHA"), st.just("0" * 40), st.just(1), keys, values, st.just(""), st.just(FAR)),
    st.tuples(st.sampled_from(("GET", "SMEMBERS", "DEL")), keys),
    st.tuples(st.sampled_from(("SADD", "SADD", "SREM")), keys, members),
    st.tuples(st.just("EXPIRE"), keys, lifetimes),
    st.tuples(st.just("SET"), keys, values),
    st.tuples(st.just("SET"), keys, values, st.just("EX"), lifetimes),
)
steps = st.one_of(
    st.tuples(st.sampled_from(("get", "delete")), keys),
    st.tuples(st.just("set"), keys, values),
    st.tuples(st.just("setex"), keys, lifetimes, values),
    st.tuples(st.just("psetex"), keys, st.one_of(TTLS.map(lambda ttl: ttl * 1_000 + 1), lifetimes_refused), values),
    st.sampled_from((("time",), ("info", "server"), ("info", "stats"))),
)

EVENTS: list[tuple[str, dict[str, Any]]] = [
    *(("scan", {"pattern": pattern, "count": 3}) for pattern in PATTERNS),
    *(("pass_time", {"seconds": seconds}) for seconds in PASSING),
    *(("restart", {"keep_data": keep_data}) for keep_data in (True, True, False)),
    *((name, {}) for name in ("evict_all", "evict_all", "expire", "flush_scripts", "flush_scripts")),
]

records = st.sampled_from(RECORDS)
ttls = st.one_of(st.none(), TTLS.map(float), TTLS.map(lambda ttl: ttl + 0.25))
guards = st.one_of(st.none(), st.lists(st.sampled_from((ABSENT, *DIGESTS)), max_size=3).map(tuple))

OPERATIONS = (
    *("store", "retrieve", "update", "delete", "store_many", "retrieve_many", "delete_many"),
    *("reconcile", "keep", "kept", "identify"),
)


@st.composite
def operations(draw: st.DrawFn) -> tuple[str, Callable[[], Call]]:
    """Give a prefix, and what makes a call of one of its operations: the calls of both sides must not be the same."""
    prefix = draw(st.sampled_from(PREFIXES))
    own = st.sampled_from(MEMORIES[prefix])
    name = draw(st.sampled_from(OPERATIONS))
    if name == "keep":
        copies = draw(st.lists(st.builds(KeptCopy, own, st.one_of(st.none(), records), TTLS.map(float)), max_size=3))
        return prefix, lambda: Call("keep", items=copies)
    if name in {"kept", "identify"}:
        return prefix, lambda: Call(name, "0" if name == "kept" else "")
    raw: Any = None if name.startswith("delete") else draw(records)
    if name == "reconcile" or name.endswith("_many"):
        items = draw(st.lists(st.builds(WriteItem, own, st.just(raw) if raw is None else records, ttls, guards)))
        if name.startswith("delete"):
            return prefix, lambda: Call(name, items=[Call("delete", item.key, guard=item.guard) for item in items])
        return prefix, lambda: Call(name, items=items)
    key, ttl, guard, guarded = draw(own), draw(ttls), draw(guards), draw(st.booleans())

    def build() -> Call:
        call = Call(name, key, raw=raw, text="new", stamp=STAMP, ttl=ttl, guard=guard, guarded=guarded)
        call.metadata = {"m": 2}
        return call

    return prefix, build


class Machine(RuleBasedStateMachine):
    """The same steps for a real server and for its model."""

    def __init__(self, make: Callable[[], Twins]) -> None:
        super().__init__()
        self.twins = make()
        self.told: dict[str, bytes] = {}
        self.states: dict[Any, Any] = {}
        self.fingerprints: dict[Any, Any] = {}
        self.twins.model.on_write = self.learn

    def learn(self, key: str, before: bytes | None, after: bytes | None) -> None:
        """Follow the strings by what `on_write` tells, and by nothing else."""
        assert self.told.get(key) == before, f"{key} was {self.told.get(key)!r}, and {before!r} was replaced"
        if after is None:
            del self.told[key]
        else:
            self.told[key] = after

    @rule(write=guarded_writes())
    def guarded_write(self, write: tuple[Any, ...]) -> None:
        """Send the script."""
        self.twins.step(("execute_command", *write))

    @rule(step=steps)
    def one_step(self, step: Any) -> None:
        """Send what a client's method sends."""
        self.twins.step(step)

    @rule(pipeline=st.lists(commands, min_size=1, max_size=6).map(Pipeline))
    def pipeline(self, pipeline: Pipeline) -> None:
        """Send commands in one go."""
        self.twins.step(pipeline)

    @rule(operation=operations(), hours=hours)
    def operation(self, operation: tuple[str, Callable[[], Call]], hours: int) -> None:
        """Carry out an operation of the manager."""
        self.twins.operation(*operation, hours=hours)

    @rule(event=st.sampled_from(EVENTS))
    def event(self, event: tuple[str, Any]) -> None:
        """Let something happen that no manager asked for."""
        name, value = event
        getattr(self.twins, name)(**value)
        if name == "expire":
            assert self.told == dict(self.twins.model.items())
        elif value == {"keep_data": False}:
            self.told.clear()

    @invariant()
    def same_state(self) -> None:
        """Compare the key spaces, what `on_write` told, and whether fingerprints differ just where states do."""
        model = self.twins.model
        self.twins.check_state()
        strings = dict(model.items())
        state = (
            tuple((key, digest(value)) for key, value in strings.items()),
            tuple((key, model.expiry(key)) for key in model.names()),
            tuple(tuple(model.command("SMEMBERS", key)) for key in model.names() if key not in strings),
            (model._scripted, model.run_id, model.evictions),
        )
        fingerprint = model.fingerprint()
        assert self.states.setdefault(fingerprint, state) == state
        assert self.fingerprints.setdefault(state, fingerprint) == fingerprint
        # What has expired unnoticed is not told yet.
        assert {key: value for key, value in self.told.items() if key in strings} == strings

    def teardown(self) -> None:
        """Close the connections."""
        self.twins.close()
