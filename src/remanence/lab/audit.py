"""Accounts for every acknowledged turn, by what Redis holds at the end.

Redis is read with a bare client and the records with bare JSON: a mistake of the package's own reading must not be able
to hide a loss.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from remanence.lab.errors import LabError
from remanence.lab.memory_text import ids_of

__all__ = ["Account", "AuditError", "Holdings", "account", "clear", "read"]

_MEMORY = "memory:WORKING_MEMORY:"
_CONFLICT = "remanence-conflict:WORKING_MEMORY:"
_CHUNK = 500
_TIMEOUT_S = 5.0


class AuditError(LabError):
    """Redis could not be read at the end, so nothing can be said about losses."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What Redis holds of a run's conversations.

    Attributes:
        texts: Conversation to its text.
        conflicts: Conversation to the texts of its conflict copies.
    """

    texts: Mapping[str, str]
    conflicts: Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Account:
    """Where the acknowledged turns are.

    Attributes:
        acknowledged: Turns whose write was acknowledged.
        lost: Conversation and number of each that is nowhere, in order.
        only_in_conflicts: How many are in a conflict copy alone.
        conflicts: Conflict copies in all.
    """

    acknowledged: int
    lost: tuple[tuple[str, int], ...]
    only_in_conflicts: int
    conflicts: int


def account(acknowledged: Mapping[str, AbstractSet[int]], holdings: Holdings) -> Account:
    """Look for every acknowledged turn in the final texts and in the conflict copies.

    Args:
        acknowledged: Conversation to the numbers of its acknowledged turns.
        holdings: What Redis holds.
    """
    lost: list[tuple[str, int]] = []
    spared = 0
    for conversation, turns in acknowledged.items():
        missing = turns - ids_of(holdings.texts.get(conversation))
        copied: set[int] = set().union(*map(ids_of, holdings.conflicts.get(conversation, ())))
        spared += len(missing & copied)
        lost.extend((conversation, turn) for turn in missing - copied)
    return Account(
        acknowledged=sum(map(len, acknowledged.values())),
        lost=tuple(sorted(lost)),
        only_in_conflicts=spared,
        conflicts=sum(map(len, holdings.conflicts.values())),
    )


def read(url: str, prefix: str, conversations: Iterable[str]) -> Holdings:
    """Read what Redis holds of a run.

    Args:
        url: Where Redis is.
        prefix: What the run put before its conversations' names; no character of it special in a key pattern.
        conversations: Names of the conversations.

    Raises:
        AuditError: Redis cannot be read.
    """
    with _client(url) as client:
        try:
            return Holdings(_texts(client, prefix, list(conversations)), _conflicts(client, prefix))
        except redis.RedisError as error:
            raise AuditError(
                f"The audit could not read Redis ({type(error).__name__}), so losses are not known. "
                "What was acknowledged may still be there: see that the server runs, then run the demo again."
            ) from None


def clear(url: str, prefix: str) -> None:
    """Delete a run's own keys, and no others; a server that does not answer keeps them until their TTL.

    Args:
        url: Where Redis is.
        prefix: What the run put before its conversations' names.
    """
    with _client(url) as client:
        try:
            for namespace in (_MEMORY, _CONFLICT):
                for keys in _chunks(list(client.scan_iter(match=f"{namespace}{prefix}*", count=_CHUNK))):
                    client.delete(*keys)
        except redis.RedisError:
            return


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
    )


def _texts(client: redis.Redis, prefix: str, conversations: list[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for chunk in _chunks(conversations):
        records: Any = client.mget([f"{_MEMORY}{prefix}{name}" for name in chunk])
        for name, record in zip(chunk, records, strict=True):
            text = _text(record)
            if text is not None:
                texts[name] = text
    return texts


def _conflicts(client: redis.Redis, prefix: str) -> dict[str, list[str]]:
    copies: dict[str, list[str]] = {}
    start = f"{_CONFLICT}{prefix}"
    for keys in _chunks(list(client.scan_iter(match=f"{start}*", count=_CHUNK))):
        records: Any = client.mget(keys)
        for key, record in zip(keys, records, strict=True):
            text = _text(record)
            if text is not None:
                name = key.decode().removeprefix(start).rpartition(":")[0]
                copies.setdefault(name, []).append(text)
    return copies


def _text(record: bytes | None) -> str | None:
    """Return a record's text; a record that cannot be read holds none, and its turns count as lost."""
    try:
        text = json.loads(record or b"null")["data"]["working_memory"]
    except (ValueError, KeyError, TypeError):
        return None
    return text if isinstance(text, str) else None


def _chunks(items: list[Any]) -> Iterable[list[Any]]:
    return (items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))
