"""The guards of the protocol: where each is, what stands there without it, and what notices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.simulation.directed import DIRECTED

__all__ = ["GUARDS", "Guard"]


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard.

    Attributes:
        name: What it is.
        removed: How it is removed, in words.
        file: Where it is, below the package.
        old: The source that makes it; occurs once.
        new: What stands there without it.
        caught_by: Name of a directed scenario, or a test's node id.
        breaks: The promise that the search finds broken; for a test, in words what happens.
    """

    name: str
    removed: str
    file: str
    old: str
    new: str
    caught_by: str
    breaks: str

    @property
    def is_searched(self) -> bool:
        """Whether the simulation catches it."""
        return self.caught_by in DIRECTED

    @property
    def row(self) -> str:
        """The guard as a row of the table."""
        if not self.is_searched:
            path, test = self.caught_by.split("::", 1)
            return f"| {self.name} | {self.removed} | `{Path(path).stem}::{test}` | {self.breaks} |"
        return f"| {self.name} | {self.removed} | simulation: {self.caught_by} | {self.breaks} |"


_REPLAYER: Final = "policies/replayer.py"
_MEMORY: Final = "journal/memory.py"
_TRANSITIONS: Final = "journal/transitions.py"
_WRITES: Final = "policies/fallback_writes.py"
_ENTRIES: Final = "policies/fallback_entries.py"
_KNOWLEDGE: Final = "policies/knowledge.py"
_BACKEND: Final = "managers/redis_backend.py"
_BREAKER: Final = "policies/breaker_machine.py"

GUARDS: Final = (
    Guard(
        "not-after",
        "attempts ask for a time that never comes",
        _BACKEND,
        "        return self.server_time.at(deadline if deadline is not None else self.clock.monotonic() + 1.0)\n",
        "        return 2**53\n",
        "late plain write",
        "P1",
    ),
    Guard(
        "not-after, in the script",
        "the script does not compare it",
        "managers/redis_protocol.py",
        "if now > tonumber(ARGV[3]) then return -now end\n",
        "",
        "tests/managers/test_guarded_writes.py::TestLate::test_a_late_write_writes_nothing",
        "an attempt that its caller has given up is applied",
    ),
    Guard(
        "not-after lies before the deadline",
        "it may be the deadline itself",
        "managers/redis_protocol.py",
        "_DRIFT * max(0.0, monotonic - held[2])) - 1\n",
        "_DRIFT * max(0.0, monotonic - held[2]))\n",
        "tests/managers/test_guarded_writes.py::TestServerTime::test_a_reply_that_contradicts_replaces_it",
        "an attempt is applied at the microsecond at which its caller gives it up",
    ),
    Guard(
        "allowance for clocks that drift",
        "there is none",
        "managers/redis_protocol.py",
        "_DRIFT: Final = 1_000.0\n",
        "_DRIFT: Final = 0.0\n",
        "late by a drifting clock",
        "P1",
    ),
    Guard(
        "server's time anew on a new connection",
        "opening one is not noticed",
        "managers/redis_connection.py",
        "        self.spell = self._server_time.forget()\n",
        "",
        "failover to a clock behind",
        "P1",
    ),
    Guard(
        "script in full, in the same loop",
        "it is sent at once, outside it",
        _BACKEND,
        "                script = _IN_FULL\n                continue\n",
        '                reply = yield ("execute_command", *_IN_FULL, *args)\n',
        "restart between NOSCRIPT and the script",
        "crash",
    ),
    Guard(
        "base digest",
        "no digests are sent",
        "managers/redis_protocol.py",
        "not_after, *(guard or ()))\n",
        "not_after)\n",
        "two writers",
        "P2",
    ),
    Guard(
        "guard of a repeated store",
        "a store is repeated over anything",
        "managers/operate.py",
        "    return (*item.over(), own) if call.unsettled_until and item.over is not None else None\n",
        "    return None\n",
        "tests/policies/test_mended.py::test_a_retry_spares_what_was_built_on_its_lost_attempt",
        "what another process has built on the first attempt is wiped",
    ),
    Guard(
        "attempts that may still be applied",
        "a failed attempt counts as over",
        "managers/redis_attempt.py",
        "            call.unsettled_until = max(call.unsettled_until, deadline)\n",
        "            pass\n",
        "created late, deleted",
        "P1",
    ),
    Guard(
        "wait before a repetition",
        "Retry does not wait for the attempt before",
        "policies/retry.py",
        "            delay = max(delay, call.unsettled_until - now)\n",
        "            pass\n",
        "repeated while under way",
        "P1",
    ),
    Guard(
        "wait before a plain write is acknowledged",
        "it is acknowledged at once",
        _WRITES,
        "        if wait <= 0 or call.operation ==",
        "        if wait != 0 or call.operation ==",
        "late over another process's write",
        "P1",
    ),
    Guard(
        "the same, for batches",
        "they are acknowledged at once",
        _WRITES,
        "            yield from self._await_settled(call, [call.items[place] for place in views])\n",
        "",
        "late batch over another process's write",
        "P1",
    ),
    Guard(
        "entries wait for their attempts",
        "an entry does not know of its own attempt",
        _ENTRIES,
        "            not_before=max(call.unsettled_until, latest.unsettled_until),\n",
        "",
        "created late, deleted",
        "P1",
    ),
    Guard(
        "replay waits for entries",
        "entries are replayed before their time",
        _MEMORY,
        "if not entry.stuck and entry.not_before <= now:",
        "if not entry.stuck:",
        "created late, deleted",
        "P1",
    ),
    Guard(
        "calls wait for attempts that were given up",
        "later calls go to the store at once",
        _WRITES,
        '        return view, _UNSETTLED if view.unsettled_until else ""\n',
        '        return view, ""\n',
        "tests/policies/test_fallback.py::test_a_write_after_an_abandoned_one_waits_for_it",
        "a cancelled write lands over a later one",
    ),
    Guard(
        "pending writes first",
        "writes pass the one that is pending",
        _WRITES,
        "        if pending is not None:\n            return view, _PENDING\n",
        "",
        "past a pending write",
        "P5",
    ),
    Guard(
        "degraded-read mark",
        "a degraded read leaves none",
        _KNOWLEDGE,
        "            self._marks[key] = (base, self.number(), held)\n",
        "",
        "an unanswered read",
        "P2",
    ),
    Guard(
        "marks know what the store held",
        "a pending value that was read counts as the store's",
        _KNOWLEDGE,
        "            return self.mark_base if self.mark_held else BLIND\n",
        "            return self.mark_base\n",
        "tests/policies/test_knowledge.py::test_a_read_of_a_pending_value_is_no_base",
        "a write wins by age over what it has never seen",
    ),
    Guard(
        "rivals",
        "of two own writes at a time only one is remembered",
        _KNOWLEDGE,
        "own, rivals = max(own, held.own), (version_of(held.raw), *held.rivals)[:_MAX_RIVALS]",
        "own = max(own, held.own)",
        "tests/policies/test_knowledge.py::test_writes_at_the_same_time_leave_both_possible",
        "the process's next write conflicts with its own",
    ),
    Guard(
        "blind loses",
        "blind writes contest by age",
        "journal/replay.py",
        "    if entry.base is BLIND or entry.unanswered:\n",
        "    if entry.unanswered:\n",
        "blind over a record",
        "P2",
    ),
    Guard(
        "blind stays blind",
        "an own commit past it becomes its base",
        _TRANSITIONS,
        "    if pending.base is BLIND:\n        return replace(pending, sent=with_sent(pending.sent, version))\n",
        "",
        "blind, with an earlier commit past it",
        "P2",
    ),
    Guard(
        "`Entry.committed`",
        "what was acknowledged contests like any other",
        "journal/replay.py",
        "    if has_expired(entry, situation.now) or entry.committed:\n",
        "    if has_expired(entry, situation.now):\n",
        "committed, put in the journal again",
        "P2",
    ),
    Guard(
        "conflict copy before the winner",
        "the winner is written first",
        _REPLAYER,
        "            kept = yield from self._keep(entry.key, decision, deadline)\n",
        "            if decision.write:\n"
        "                count += yield from self._write_winners(epoch, [(entry, decision)], deadline)\n"
        "                yield from self._keep(entry.key, decision, deadline)\n"
        "                continue\n"
        "            kept = yield from self._keep(entry.key, decision, deadline)\n",
        "newer by its stamp",
        "P2",
    ),
    Guard(
        "no end without the copy",
        "an entry is settled though the store did not take the copy",
        _REPLAYER,
        "            if not kept:\n                yield from self._postpone(entry)\n                continue\n",
        "",
        "tests/policies/test_replayer.py::test_a_losing_value_is_kept_before_the_entry_goes",
        "the losing value is gone",
    ),
    Guard(
        "what is written once more waits for a deletion under way",
        "it waits for the late attempt only",
        _ENTRIES,
        "not_before=max(call.unsettled_until, self._state.deletion_until(call.key, copy.own)),",
        "not_before=call.unsettled_until,",
        "tests/policies/test_mended.py::test_what_is_written_once_more_waits_for_a_deletion_that_is_under_way",
        "a memory comes back after two acknowledged deletions",
    ),
    Guard(
        "what a drainer sends ends with its lease",
        "it ends with the policies' deadline",
        _REPLAYER,
        "        deadline = now + seconds if deadline is None else min(deadline, now + seconds)\n",
        "",
        "tests/policies/test_replayer.py::test_what_a_drainer_sends_ends_with_its_lease",
        "a drainer that was stopped writes over what was written since",
    ),
    Guard(
        "what a dead drainer had sent contests nobody",
        "it is written over nothing",
        "journal/replay.py",
        "was_deleted or entry.unanswered else",
        "was_deleted else",
        "tests/journal/test_replay.py::test_what_somebody_who_is_gone_had_sent_contests_nobody",
        "a deleted memory comes back",
    ),
    Guard(
        "no copy of what others may bring home",
        "it is kept",
        _WRITES,
        "                self._knowledge.forget(call.key)\n            return entry\n",
        "            return entry\n",
        "tests/test_disk_journal.py::test_a_deletion_that_another_process_has_brought_home_stays",
        "a deleted memory is written once more",
    ),
    Guard(
        "copies outlive a deletion that comes home",
        "it removes them",
        _REPLAYER,
        "            if result is None:\n                settled",
        "            if result is None:\n"
        "                if entry.raw is None:\n"
        '                    yield Invoke(Call("delete", entry.key, guard=("",)))\n'
        "                settled",
        "copies newer than a deletion",
        "P1",
    ),
    Guard(
        "an unseen value of another process is kept",
        "whatever waits on the host counts as seen",
        _WRITES,
        "            or (view.marked and view.mark_base == pending.version)\n",
        "            or True\n",
        "unseen on its host",
        "P2",
    ),
    Guard(
        "of two processes' writes at a time the earlier one is kept",
        "it is replaced as one of the same process is",
        "journal/entry.py",
        " or pending.writer != later.writer",
        "",
        "lost on its host",
        "P1",
    ),
    Guard(
        "a write that lost on its host has not seen the other",
        "its process counts as having seen it",
        _WRITES,
        "pending.version if is_ours else BLIND",
        "pending.version",
        "tests/test_disk_journal.py::test_a_write_that_lost_to_another_processs_later_one_does_not_know_it",
        "its next write displaces that one unseen",
    ),
    Guard(
        "a commit leaves another process's pending write alone",
        "it is settled as one of its own",
        _MEMORY,
        "            if pending is None or pending.writer != self.writer:\n",
        "            if pending is None:\n",
        "committed beside its host's journal",
        "P1",
    ),
    Guard(
        "what was overtaken and answered is over",
        "the value that overtook it is put in the journal all the same",
        _WRITES,
        "call.unsettled_until and not is_answered else None",
        "call.unsettled_until else None",
        "overtaken, then replaced",
        "P5",
    ),
    Guard(
        "an answered deletion is over",
        "it is repeated for its clean-up",
        "managers/operate.py",
        "    if not call.deleted:\n",
        "    if True:\n",
        "tests/policies/test_mended.py::test_an_answered_deletion_whose_clean_up_fails_is_not_repeated",
        "what another process has stored in between is deleted",
    ),
    Guard(
        "spells of the server's time",
        "a connection takes a command whatever its time is worth",
        "managers/redis_connection.py",
        "        if self.timed and self.spell != self._server_time.spell:\n",
        "        if False:\n",
        "tests/managers/test_server_time.py::test_a_connection_that_another_thread_has_opened_is_a_new_one_too",
        "a write that was given up is applied by a server with another clock",
    ),
    Guard(
        "*sent* mark",
        "what is sent for an entry is not noted",
        _MEMORY,
        "                    again = entry.with_sent(with_sent(entry.sent, entry.version))\n",
        "                    again = entry.with_sent(entry.sent)\n",
        "answer of a replay lost",
        "P5",
    ),
    Guard(
        "sequence on removal",
        "an entry goes, whatever was folded in meanwhile",
        _TRANSITIONS,
        "    if pending.sequence == entry.sequence and pending.not_before <= entry.not_before:\n",
        "    if pending.not_before <= entry.not_before:\n",
        "folded in while it is written",
        "P1",
    ),
    Guard(
        "sequence of a merged text",
        "a merged text is recognised for any entry",
        _REPLAYER,
        "            if self._merging.get(entry.key) == (digest(held), entry.sequence):\n",
        '            if self._merging.get(entry.key, ("", 0))[0] == digest(held):\n',
        "merged, its answer lost",
        "P1",
    ),
    Guard(
        "lease",
        "any number may drain",
        _MEMORY,
        "            if now < self._lease_until:\n                return None\n",
        "",
        "tests/policies/test_replayer.py::test_one_drainer_at_a_time",
        "a write that two drainers send at a time ends as a copy, or displaces what was written between the two",
    ),
    Guard(
        "lease epoch",
        "a drainer whose lease ran out still settles",
        _MEMORY,
        "            if epoch != self._epoch:\n                return 0\n",
        "",
        "tests/policies/test_replayer.py::test_what_a_drainer_without_the_lease_reports_changes_nothing",
        "what it reports changes an entry that is another's by then",
    ),
    Guard(
        "commits past a pending write",
        "the pending one is not told of them",
        _WRITES,
        "        if len(self._journal):\n            again",
        "        if False:\n            again",
        "tests/policies/test_mended.py::test_the_last_of_two_items_with_one_key_stands",
        "a write that was overtaken comes back as a conflict, or stands",
    ),
    Guard(
        "the same, with a replay under way",
        "the pending one is dropped at once",
        _MEMORY,
        "is_landing = key in self._in_flight or pending.not_before > now\n",
        "is_landing = pending.not_before > now\n",
        "overtaken while it is replayed",
        "P1",
    ),
    Guard(
        "journal sealed at close",
        "it goes on accepting",
        _MEMORY,
        "            if self._sealed:\n                raise ManagerClosedError\n            pending",
        "            pending",
        "closed while a write waits",
        "P1",
    ),
    Guard(
        "fork reset",
        "a child is not told that it is one",
        "forked.py",
        "    _objects.add(target)\n",
        "    assert target is not None\n",
        "tests/test_forked.py::test_a_forked_child_is_told_and_its_parent_is_not",
        "a child brings its parent's writes home as well, or hangs on its locks",
    ),
    Guard(
        "breaker generation",
        "results of an earlier state count",
        _BREAKER,
        "            if permit.generation != self._generation:\n                return None\n",
        "",
        "tests/policies/test_breaker_machine.py::test_a_result_of_an_earlier_generation_changes_nothing",
        "calls from before an outage open a breaker that has just closed",
    ),
    Guard(
        "half-open permits",
        "everybody may probe",
        _BREAKER,
        "                if len(self._probes) + self._probe_successes < self._settings.half_open_calls:\n",
        "                if True:\n",
        "probes of two callers",
        "P4",
    ),
    Guard(
        "a cancelled write is remembered",
        "what it has sent is forgotten",
        _WRITES,
        "        except BaseException:\n            yield from self._given_up(call)\n",
        "        except BaseException:\n",
        "cancelled, and late",
        "P1",
    ),
    Guard(
        "a deletion that was answered is remembered",
        "cancelled while its copies are removed, it is forgotten",
        _WRITES,
        "        if call.deleted:\n            # That",
        "        if False:\n            # That",
        "cancelled once the memory is gone",
        "P1",
    ),
    Guard(
        "the same, for batches",
        "what it has sent is forgotten",
        _WRITES,
        "        except BaseException:\n            for place in views:",
        "        except ZeroDivisionError:\n            for place in views:",
        "cancelled batch, and late",
        "P1",
    ),
    Guard(
        "the same, for one that waits for its attempt's end",
        "what it has sent is forgotten",
        _WRITES,
        "        except BaseException:\n            for item in items:",
        "        except ZeroDivisionError:\n            for item in items:",
        "cancelled while it waits",
        "P1",
    ),
    Guard(
        "a cancelled attempt may still be applied",
        "it counts as over",
        "managers/redis_attempt.py",
        "    except BaseException as error:\n        if call.writes",
        "    except Exception as error:\n        if call.writes",
        "cancelled, and late",
        "P1",
    ),
    Guard(
        "a cancelled probe gives its permit back",
        "it keeps it",
        "policies/circuit_breaker.py",
        "        except BaseException as error:\n            self._settle(permits",
        "        except Exception as error:\n            self._settle(permits",
        "cancelled probe",
        "cancel",
    ),
    Guard(
        "a cancelled drainer gives its lease back",
        "it keeps it until it ends",
        _REPLAYER,
        "        finally:\n            yield from self._give_back(epoch)\n",
        "        yield from self._give_back(epoch)\n",
        "cancelled replay",
        "cancel",
    ),
    Guard(
        "a cancellation meanwhile is told at the next step",
        "the next step is done",
        "flow.py",
        "                    elif cancelled:\n                        failure = cancelled.pop()\n",
        "",
        "cancelled replay",
        "cancel",
    ),
    Guard(
        "or at the end",
        "it is forgotten",
        "flow.py",
        "        if cancelled:\n            raise cancelled.pop()\n        return result",
        "        return result",
        "cancelled while the disk is written",
        "cancel",
    ),
)
