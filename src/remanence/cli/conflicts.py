"""`remanence conflicts`: acknowledged writes that lost against what the store held: look at them, and end them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from remanence.classify import is_outage
from remanence.errors import CorruptRecordError, InvalidInputError, RemanenceError, VersionConflictError
from remanence.interface import ConversationMemoryType, IMemoryInput
from remanence.journal.entry import KeptValue
from remanence.journal.inspect import Waiting, waiting
from remanence.policies.deadline import Deadline
from remanence.policies.fallback_calls import waiting_conflict, with_waiting
from remanence.policies.retry import Retry
from remanence.record import decode
from remanence.results import Conflict, Memories
from remanence.stack import resilient, wrap

__all__ = ["DONE", "INTERRUPTED", "INVALID", "LEFT", "SECONDS", "add_store", "add_to", "guarded", "opened", "plain"]

DONE, LEFT, INVALID, INTERRUPTED = 0, 1, 2, 130
SECONDS: Final = 10.0
"""For one call to the store: a person waits, no request does."""

_SHORT: Final = 12
_LEAST: Final = 8
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (0, "s"))
_MEANING: Final = """\
exit status:
  0    done
  1    resolve: something is left: somebody wrote meanwhile, or the store went away; the message says what
  2    the copy, the store or the journal cannot be used; nothing was changed
  130  ended by Ctrl-C
"""


def add_to(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "conflicts",
        help="look at acknowledged writes that lost against what Redis held, and resolve them",
        description="What loses is kept beside the memory as a conflict copy until it is resolved, or conflict_ttl is "
        "over.",
        epilog=_MEANING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="<action>", required=True)
    lists = actions.add_parser("list", help="list the copies, without the texts")
    show = actions.add_parser("show", help="print what is stored for a conversation, and beside it the copies")
    resolve = actions.add_parser("resolve", help="end one conflict; with --journal what waits is brought home first")
    for action, run in ((lists, _list), (show, _show), (resolve, _resolve)):
        add_store(action)
        action.set_defaults(run=guarded("conflicts", run), ttl=None)
    for action in (lists, show):
        action.add_argument("--json", action="store_true", help="for machines")
    for action in (show, resolve):
        action.add_argument("id", metavar="ID", help="of the conversation")
        action.add_argument("--type", choices=[*ConversationMemoryType], help="where there are several kinds of memory")
        action.add_argument(
            "--digest", required=action is resolve, help=f"of the copy, or its first {_LEAST} characters and more"
        )
    _add_choice(resolve)


def _add_choice(resolve: argparse.ArgumentParser) -> None:
    choice = resolve.add_mutually_exclusive_group(required=True)
    choice.add_argument("--keep-store", action="store_true", help="what is stored stays; the copy is removed")
    choice.add_argument("--use-copy", action="store_true", help="the copy's text is stored; the copy is removed")
    choice.add_argument(
        "--text-file", metavar="FILE", help='a merged text (UTF-8) is stored, the copy removed; "-": standard input'
    )
    resolve.add_argument("--yes", action="store_true", help="where the copy is of a deletion: do delete the memory")
    resolve.add_argument(
        "--ttl",
        type=float,
        default=43_200.0,
        metavar="SECONDS",
        help="that the stored text lives, as the application has it; 0: for ever (default: %(default)g)",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the memories and the pending writes are."""
    parser.add_argument("--url", required=True, help="as the application has it: redis://host:port/db")
    parser.add_argument("--key-prefix", default="memory", metavar="P", help="default: %(default)s")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="the application's journal=, where it has one")
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="for bringing home what waits (default: %(default)g)"
    )


def guarded(name: str, action: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Return `action` with its errors as messages and exit statuses; none of them quotes a URL, a key or a text."""

    def run(options: argparse.Namespace) -> int:
        from redis.exceptions import RedisError  # noqa: PLC0415 - redis is needed by these commands alone

        try:
            return action(options)
        except VersionConflictError as error:
            print(f"remanence {name}: {error}", file=sys.stderr)
            return LEFT
        except (RemanenceError, RedisError) as error:
            print(f"remanence {name}: {complaint(error)}", file=sys.stderr)
            return LEFT if hasattr(error, "__notes__") else INVALID
        except KeyboardInterrupt:
            print(f"\nremanence {name}: interrupted; look at what is there before you repeat it.", file=sys.stderr)
            return INTERRUPTED

    return run


def complaint(error: Exception) -> str:
    """Return what to say of an error; a store's own words may quote what they like."""
    said = str(error) if isinstance(error, RemanenceError) else f"the store refused ({type(error).__name__})."
    if is_outage(error) and not isinstance(error, RemanenceError):
        said = f"the store did not answer ({type(error).__name__})."
    return " ".join([said, *getattr(error, "__notes__", ["Nothing was changed."] if is_outage(error) else [])])


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[Any]:
    """Give the bare manager of the options; with a journal that is none, nothing is asked of the store either."""
    from remanence.managers.redis import RedisWorkingMemoryManager  # noqa: PLC0415 - as above

    if options.journal is not None:
        list(waiting(options.journal))  # it must exist: a manager would make it
    ttl: dict[str, Any] = {} if options.ttl is None else {"ttl": options.ttl or None}
    with RedisWorkingMemoryManager(options.url, key_prefix=options.key_prefix, **ttl) as inner:
        yield inner


def plain(text: str) -> str:
    """Return `text` without what a terminal would take for commands."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text
    )


# Looking --------------------------------------------------------------------------------------------------------------


def _all(inner: Any, options: argparse.Namespace) -> list[Conflict]:
    found = [
        waiting_conflict(inner.prefix, KeptValue(each.key, each.record))
        for each in _waiting(inner, options)
        if each.operation == "copy"
    ]
    # Without a fallback: looking brings nothing home, and changes nothing.
    return with_waiting(found, wrap(inner, Deadline(SECONDS), Retry()).conflicts())


def _waiting(inner: Any, options: argparse.Namespace) -> list[Waiting]:
    if options.journal is None:
        return []
    return [each for each in waiting(options.journal) if each.store == inner.store_id]


def _list(options: argparse.Namespace) -> int:
    with opened(options) as inner:
        found = _all(inner, options)
    if options.json:
        print(json.dumps([_listed(each) for each in found], indent=2))
        return DONE
    for each in found:
        about = f"{_age(each.last_update):>8}  {each.memory_type:<17} {plain(each.digest[:_SHORT]):<{_SHORT}}"
        kind = "deletion" if each.text is None else "text"
        print(f"{about}  {each.kept_in:<7} {kind:<8}  {plain(each.conversation_id)}")
    if not found:
        print("there are no conflict copies")
    return DONE


def _listed(conflict: Conflict) -> dict[str, Any]:
    return {
        "conversation_id": conflict.conversation_id,
        "memory_type": conflict.memory_type.value,
        "digest": conflict.digest,
        "kept_in": conflict.kept_in,
        "last_update": conflict.last_update,
        "age_s": _seconds(conflict.last_update),
        "deletion": conflict.text is None,
    }


def _seconds(last_update: str | None) -> float | None:
    """Return the age of a stamp; a naive one may come from any time zone."""
    try:
        stamped = datetime.fromisoformat(last_update or "")
    except ValueError:
        return None
    return max(0.0, time.time() - stamped.timestamp()) if stamped.utcoffset() is not None else None


def _age(last_update: str | None) -> str:
    age = _seconds(last_update)
    if age is None:
        return "?"
    size, unit = next((size, unit) for size, unit in _UNITS if age >= size)
    return f"{age / (size or 1):.0f} {unit}"


def _show(options: argparse.Namespace) -> int:
    with opened(options) as inner:
        copies = _chosen(_all(inner, options), options)
        types = list(dict.fromkeys(each.memory_type for each in copies))
        pending = [each for each in _waiting(inner, options) if each.operation != "copy"]
        sections = [section for kind in types for section in _sections(inner, options.id, kind, pending)]
    lost = {"problem": "(a deletion)"}
    sections += [
        {"where": f"copy in the {each.kept_in}", **_told(each), **_listed(each), **(lost if each.text is None else {})}
        for each in copies
    ]
    if options.json:
        print(json.dumps(sections, indent=2))
        return DONE
    for section in sections:
        about = [section["memory_type"], section["where"], section.get("digest"), section["last_update"]]
        print(f"--- {plain('  '.join(each for each in about if each))}")
        print(section.get("problem", "(nothing)") if section["text"] is None else plain(section["text"]))
    return DONE


def _sections(inner: Any, name: str, kind: ConversationMemoryType, pending: Sequence[Waiting]) -> list[dict[str, Any]]:
    about = {"conversation_id": name, "memory_type": kind.value}
    try:
        stored: dict[str, Any] = _told(_read(wrap(inner, Deadline(SECONDS), Retry()), name, kind))
    except CorruptRecordError:
        stored = {"text": None, "metadata": {}, "last_update": None, "problem": "(this is no memory)"}
    found = [{"where": "store", **about, **stored}]
    for each in pending:
        if each.key == f"{inner.prefix}:{kind}:{name}":
            record = None if each.record is None else decode(each.record, each.key)
            found.append({"where": f"pending {each.operation} in the journal", **about, **_told(record)})
    return found


def _told(source: Any) -> dict[str, Any]:
    """Return what a section tells of an answer, a record or a copy; of nothing, and of a deletion, None."""
    text = getattr(source, "text", None)
    if isinstance(source, Memories):
        text = source[0].working_memory if source else None
    return {
        "text": text,
        "metadata": dict(getattr(source, "metadata", None) or {}),
        "last_update": getattr(source, "last_update", None),
    }


def _read(manager: Any, name: str, kind: ConversationMemoryType) -> Memories:
    memories: Memories = manager.retrieve(IMemoryInput(conversation_id=name, memory_type=kind))
    return memories


def _chosen(found: Sequence[Conflict], options: argparse.Namespace) -> list[Conflict]:
    """Return the copies that the options name.

    Raises:
        InvalidInputError: There are none, or the digest is too short.
    """
    if options.digest is not None and len(options.digest) < _LEAST:
        message = (
            f"a digest may be shortened to {_LEAST} characters, not to {len(options.digest)}. Nothing was changed."
        )
        raise InvalidInputError(message)
    chosen = [
        each
        for each in found
        if each.conversation_id == options.id
        and options.type in {None, each.memory_type}
        and each.digest.startswith(options.digest or "")
    ]
    if not chosen:
        message = (
            "there is no such conflict copy. Nothing was changed; `remanence conflicts list` names those there are."
        )
        raise InvalidInputError(message)
    return chosen


# Resolving ------------------------------------------------------------------------------------------------------------


def _resolve(options: argparse.Namespace) -> int:
    text = _text_of(options.text_file) if options.text_file is not None else None
    with opened(options) as inner, _stack(inner, options) as manager:
        chosen = _chosen(manager.conflicts(), options)
        if len(chosen) > 1:
            message = (
                f"{len(chosen)} copies have a digest that begins so. Nothing was changed; give more of it, or --type."
            )
            raise InvalidInputError(message)
        conflict = chosen[0]
        try:
            return _end(manager, conflict, text, options)
        except Exception as error:
            if is_outage(error) and not hasattr(error, "__notes__"):
                error.add_note("It may have been done or not: look at what is there before you repeat it.")
            raise


def _end(manager: Any, conflict: Conflict, text: str | None, options: argparse.Namespace) -> int:
    if options.keep_store:
        manager.resolve_conflict(conflict)
        print("what is stored was left as it is; the copy was removed")
        return DONE
    if options.use_copy and conflict.text is None:
        return _delete(manager, conflict, options)
    return _store(manager, conflict, text)


@contextmanager
def _stack(inner: Any, options: argparse.Namespace) -> Iterator[Any]:
    if options.journal is None:
        # Without a fallback: what is not stored is an error, not a promise that ends with this command.
        yield wrap(inner, Deadline(SECONDS), Retry())
        return
    with resilient(inner, journal=options.journal, deadline=SECONDS) as manager:
        manager.replay(options.timeout)
        yield manager


def _text_of(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode()
    except OSError as error:
        message = f"the text cannot be read ({error.strerror}). Nothing was changed."
        raise InvalidInputError(message) from None
    except UnicodeDecodeError:
        message = "the text is not UTF-8. Nothing was changed."
        raise InvalidInputError(message) from None


def _store(manager: Any, conflict: Conflict, text: str | None) -> int:
    seen = _read(manager, conflict.conversation_id, conflict.memory_type)
    if seen.degraded:
        print("remanence conflicts: the store did not answer. Nothing was changed.", file=sys.stderr)
        return INVALID
    metadata = conflict.metadata if text is None or not seen else seen.metadata
    wanted = conflict.text if text is None else text
    receipt = manager.resolve_conflict(conflict, text=wanted, metadata=metadata, if_version=seen.version)
    if receipt.outcome == "journaled":
        print("the text was accepted and waits in the journal for the store; the copy was removed")
        return LEFT
    print("the text was stored; the copy was removed")
    return DONE


def _delete(manager: Any, conflict: Conflict, options: argparse.Namespace) -> int:
    if not options.yes:
        message = (
            "this copy is of a deletion: using it deletes the memory and all its conflict copies. Nothing was changed; "
            "say --yes to do that, or --keep-store."
        )
        raise InvalidInputError(message)
    print("this copy is of a deletion: deleting the memory and all its conflict copies")
    item = IMemoryInput(conversation_id=conflict.conversation_id, memory_type=conflict.memory_type)
    if manager.delete(item).outcome == "journaled":
        print("the deletion was accepted and waits in the journal for the store; the copies are still there")
        return LEFT
    print("done")
    return DONE
