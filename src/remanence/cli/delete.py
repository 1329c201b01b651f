"""`remanence delete`: everything that is kept of one conversation, and whether it is gone."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from remanence.classify import is_outage
from remanence.cli.conflicts import DONE, INVALID, LEFT, SECONDS, add_store, guarded, opened
from remanence.errors import InvalidInputError
from remanence.flow import Call
from remanence.interface import ConversationMemoryType, IMemoryInput
from remanence.journal.inspect import waiting
from remanence.policies.deadline import Deadline
from remanence.policies.retry import Retry
from remanence.record import key_for
from remanence.stack import resilient, wrap

__all__ = ["add_to"]

_ROUNDS: Final = 3
_MEANING: Final = """\
Processes that run keep last-known copies of what they have read in their memory, and without journal=PATH their
pending writes too: those end with the process, or with a later write. A process that writes the conversation again
brings it back. Journals on other hosts, and Redis's own files and replicas, are not looked at.

exit status:
  0    nothing is left
  1    something is left, or may be; the message says what
  2    the store or the journal cannot be used, or it was not confirmed; nothing was changed
  130  ended by Ctrl-C
"""


def add_to(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "delete",
        help="delete everything that is kept of a conversation, and look whether it is gone",
        description="Deletes the memories of one conversation, of every kind, and their conflict copies.",
        epilog=_MEANING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("id", metavar="ID", help="of the conversation")
    add_store(parser)
    parser.add_argument(
        "--everywhere",
        action="store_true",
        help="its pending writes in --journal too, and copies that only a search of the whole database finds",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask; needed without a terminal")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(run=guarded("delete", _delete), ttl=None)


@dataclass(frozen=True, slots=True)
class _Found:
    """What is kept of a conversation.

    Attributes:
        values: Memories.
        copies: Conflict copies in the store.
        pending: Writes, and values to be kept as copies, that wait in the journal.
    """

    values: int = 0
    copies: int = 0
    pending: int = 0

    @property
    def total(self) -> int:
        return self.values + self.copies + self.pending

    def without(self, other: _Found) -> _Found:
        """Return what is here and not in `other`."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return _Found(*(max(0, mine - theirs) for mine, theirs in pairs))

    def __str__(self) -> str:
        return f"{self.values} stored, {self.copies} conflict copies, {self.pending} pending in the journal"


class _Conversation:
    """One conversation, in the store and in the journal.

    Args:
        inner: The bare manager.
        options: Of the command.
    """

    def __init__(self, inner: Any, options: argparse.Namespace) -> None:
        self._inner = inner
        self._id: str = options.id
        self._journal = options.journal
        self._everywhere: bool = options.everywhere
        self._timeout: float = options.timeout
        self._keys = {kind: key_for(inner.prefix, kind, options.id) for kind in ConversationMemoryType}

    def look(self) -> _Found:
        """Return what there is, by asking the store itself: no policy and no copy answers in its place."""
        exists = self._inner.redis_client.exists
        values = sum(bool(exists(key)) for key in self._keys.values())
        return _Found(values, sum(len(names) for names in self._copies().values()), len(self._pending()[0]))

    def others(self) -> list[str]:
        """Return the other stores for which writes of this conversation wait in the journal."""
        return self._pending()[1]

    def delete(self) -> None:
        """Delete it from the journal, then from the store."""
        if self._pending()[0]:
            self.delete_by_journal(only_pending=True)
        manager = wrap(self._inner, Deadline(SECONDS), Retry())
        for kind in self._keys:
            manager.delete(IMemoryInput(conversation_id=self._id, memory_type=kind))
        for key, names in self._copies().items():
            for name in names:
                self._inner.perform(Call("drop", key, guard=(name,)))

    def delete_by_journal(self, *, only_pending: bool) -> None:
        """Delete through the journal: what waits is replaced by a deletion, which is brought home."""
        pending = self._pending()[0]
        with resilient(self._inner, journal=self._journal) as manager:
            for kind, key in self._keys.items():
                if key in pending or not only_pending:
                    manager.delete(IMemoryInput(conversation_id=self._id, memory_type=kind))
            manager.replay(self._timeout if only_pending else 0.1)

    def _copies(self) -> Mapping[str, list[str]]:
        """Return the digests of the copies by the memory's key."""
        if self._everywhere:
            return self._searched()
        client, backend = self._inner.redis_client, self._inner.backend
        found: dict[str, list[str]] = {}
        for key in self._keys.values():
            start = f"{backend.copies_of(key)}:".encode()
            names = {_bytes(name) for name in client.smembers(backend.index_of(key))}
            found[key] = [_text(name) for name in names if client.exists(start + name)]
        return found

    def _searched(self) -> Mapping[str, list[str]]:
        from remanence.managers.redis_backend import escaped  # noqa: PLC0415 - redis is needed by this alone

        client, backend = self._inner.redis_client, self._inner.backend
        starts = {key: f"{backend.copies_of(key)}:".encode() for key in self._keys.values()}
        found: dict[str, list[str]] = {key: [] for key in starts}
        for copy in map(_bytes, client.scan_iter(f"{escaped(backend.copies_of(''))}*", 1_000)):
            for key, start in starts.items():
                name = copy.removeprefix(start)
                # With a colon it is a copy of another conversation, whose id begins as this one.
                if name != copy and b":" not in name:
                    found[key].append(_text(name))
        return found

    def _pending(self) -> tuple[list[str], list[str]]:
        """Return the keys of what waits, and for which other stores something does."""
        mine, others = [], []
        for each in waiting(self._journal) if self._journal is not None else ():
            prefix = each.store.rpartition("#")[2]
            if each.store == self._inner.store_id and each.key in self._keys.values():
                mine.append(each.key)
            elif each.key in {f"{prefix}:{kind}:{self._id}" for kind in self._keys}:
                others.append(each.store)
        return mine, list(dict.fromkeys(others))


def _bytes(name: Any) -> bytes:
    return name if isinstance(name, bytes) else str(name).encode()


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


def _delete(options: argparse.Namespace) -> int:
    if options.journal is not None and not options.everywhere:
        message = "--journal needs --everywhere: without it pending writes are left alone. Nothing was changed."
        raise InvalidInputError(message)
    with opened(options) as inner:
        conversation = _Conversation(inner, options)
        try:
            before = conversation.look()
        except Exception as error:
            if not is_outage(error):
                raise
            return _while_away(conversation, options, type(error).__name__)
        if before.total and not _confirmed(options, f"There are {before}. Delete them?"):
            return INVALID
        try:
            after = _until_gone(conversation)
        except Exception as error:
            error.add_note("Some of it may have been deleted, and some be left: repeat the command.")
            raise
        return _report(options, before.without(after), after, conversation.others())


def _until_gone(conversation: _Conversation) -> _Found:
    """Delete, and look; again where something came in between."""
    rounds = _ROUNDS
    while True:
        conversation.delete()
        left = conversation.look()
        rounds -= 1
        if not (left.total and rounds):
            return left


def _while_away(conversation: _Conversation, options: argparse.Namespace, why: str) -> int:
    away = f"remanence delete: the store did not answer ({why})"
    if options.journal is None:
        print(f"{away}. Nothing was deleted; repeat the command when it is back.", file=sys.stderr)
        return LEFT
    if not _confirmed(options, "The store did not answer. Keep the deletion in the journal?"):
        return INVALID
    conversation.delete_by_journal(only_pending=False)
    print(
        f"{away}. The deletion was kept in the journal, in place of what waited there. It was made without seeing what "
        "the store holds, so it may remove nothing there: repeat the command when the store is back.",
        file=sys.stderr,
    )
    return LEFT


def _confirmed(options: argparse.Namespace, question: str) -> bool:
    if options.yes:
        return True
    if not sys.stdin.isatty():
        print(f"remanence delete: {question} Say --yes. Nothing was deleted.", file=sys.stderr)
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return True
    print("Nothing was deleted.", file=sys.stderr)
    return False


def _report(options: argparse.Namespace, removed: _Found, left: _Found, others: list[str]) -> int:
    if options.json:
        print(json.dumps({"removed": asdict(removed), "left": asdict(left), "other_stores": others}, indent=2))
        return LEFT if left.total or others else DONE
    print(f"deleted: {removed}")
    print(f"left: {left}" if left.total else "nothing of it is left in the store" + _looked(options))
    if others:
        print(f"writes of this conversation wait in the journal for other stores: {', '.join(others)}")
        print("Repeat the command with their URLs and key prefixes.")
    return LEFT if left.total or others else DONE


def _looked(options: argparse.Namespace) -> str:
    return " or the journal" if options.journal is not None else "; no journal was looked at"
