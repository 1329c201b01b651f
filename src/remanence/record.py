"""The stored form of a memory: its key, its bytes and their digest.

Byte-compatible with the framework: what either writes, the other reads. The bytes are `json.dumps` with its defaults,
fields in this order: data, metadata, created_at, last_update. Ours carry a UTC offset in the stamps; the framework's
are naive.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha1
from json.encoder import encode_basestring_ascii
from typing import Any

from remanence.errors import CorruptRecordError, InvalidInputError, InvalidMetadataError, MemoryTooLargeError

__all__ = [
    "ABSENT",
    "Record",
    "check_size",
    "decode",
    "digest",
    "encode",
    "key_for",
    "own_metadata",
    "revise",
    "split_key",
    "stamp",
    "version_of",
]

ABSENT = ""
"""Stands for "nothing is stored" where the digest of what is stored is expected."""

_UNREADABLE = (ValueError, KeyError, TypeError, RecursionError)


def key_for(prefix: str, memory_type: str, conversation_id: str) -> str:
    """Return the key of a conversation's memory, unescaped as the framework writes it.

    Raises:
        InvalidInputError: The id cannot be encoded in UTF-8 (a lone surrogate).
    """
    if not conversation_id.isascii():
        try:
            conversation_id.encode()
        except UnicodeEncodeError:
            message = (
                "the conversation_id is not valid Unicode (a lone surrogate). Nothing was written; use another id."
            )
            raise InvalidInputError(message) from None
    return f"{prefix}:{memory_type}:{conversation_id}"


def split_key(prefix: str, key: str) -> tuple[str, str]:
    """Return memory type and conversation id of a key made by `key_for`."""
    memory_type, _, conversation_id = key[len(prefix) + 1 :].partition(":")
    return memory_type, conversation_id


def digest(raw: bytes) -> str:
    """Return what `redis.sha1hex` returns for the same bytes."""
    return sha1(raw, usedforsecurity=False).hexdigest()


def version_of(raw: bytes | None) -> str:
    """Return the digest of what is stored, ABSENT for nothing."""
    return ABSENT if raw is None else digest(raw)


def stamp(seconds: float) -> str:
    """Return epoch seconds as ISO 8601 with a UTC offset."""
    global _stamped  # noqa: PLW0603 - one attribute, replaced whole
    whole = int(seconds // 1)
    held = _stamped
    if held[0] != whole:
        held = _stamped = (whole, datetime.fromtimestamp(whole, UTC).isoformat().removesuffix("+00:00"))
    micros = int((seconds - whole) * 1e6)
    return f"{held[1]}.{micros:06d}+00:00" if micros else f"{held[1]}+00:00"


_stamped = (0, "1970-01-01T00:00:00")
"""The second of the last stamp, formatted: formatting it anew is a third of a store's own work."""


def encode(text: str, metadata: dict[str, Any] | None, created_at: str, last_update: str) -> bytes:
    """Return the bytes of a new record, equal to `json.dumps` of it.

    Raises:
        InvalidMetadataError: The metadata is not JSON (NaN and infinities are not either).
    """
    # Written by hand because it costs a third of json.dumps, on the path of every store.
    extra = _metadata_text(metadata) if metadata else "{}"
    return (
        f'{{"data": {{"working_memory": {encode_basestring_ascii(text)}}}, "metadata": {extra}, '
        f'"created_at": "{created_at}", "last_update": "{last_update}"}}'
    ).encode()


def revise(raw: bytes, key: str, text: str, metadata: dict[str, Any] | None, last_update: str) -> bytes:
    """Return the record `raw` with a new text; everything else, and the order of fields, stays.

    Args:
        raw: The stored bytes.
        key: Its key, for the error.
        text: The new text.
        metadata: Merged over what is there.
        last_update: The new stamp.

    Raises:
        CorruptRecordError: `raw` is not a record.
        InvalidMetadataError: The metadata is not JSON.
    """
    document = _document(raw, key)
    document["data"]["working_memory"] = text
    if metadata:
        _metadata_text(metadata)
        kept = document.get("metadata")
        document["metadata"] = {**(kept if isinstance(kept, dict) else {}), **metadata}
    if not metadata and _is_plain(document):
        return encode(text, None, document["created_at"], last_update)
    document["last_update"] = last_update
    return json.dumps(document).encode()


def _is_plain(document: dict[str, Any]) -> bool:
    """Whether `encode` gives the same bytes as `json.dumps`: our own fields in our order, nothing to escape."""
    created = document.get("created_at")
    return (
        list(document) == _FIELDS
        and len(document["data"]) == 1
        and document["metadata"] == {}
        and type(created) is str
        and created.isascii()
        and created.isprintable()
        and not _ESCAPED.intersection(created)
    )


_FIELDS = ["data", "metadata", "created_at", "last_update"]
_ESCAPED = frozenset('"\\')


def check_size(raw: bytes, limit: int) -> bytes:
    """Return `raw`, or raise MemoryTooLargeError when it is longer than `limit` bytes."""
    if len(raw) > limit:
        raise MemoryTooLargeError(len(raw), limit)
    return raw


class Record:
    """What a stored record says.

    Attributes:
        raw: The stored bytes.
        text: The memory.
        metadata: A dict of its own; empty where the record has none.
        created_at, last_update: The stamps as stored, or None.
    """

    __slots__ = ("_document", "raw", "text")

    def __init__(self, raw: bytes, document: dict[str, Any]) -> None:
        self.raw = raw
        self._document = document
        self.text: str = document["data"]["working_memory"]

    def version(self) -> str:
        """Return the token of exactly these bytes."""
        return digest(self.raw)

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata; a dict of its own."""
        kept = self._document.get("metadata")
        return kept if isinstance(kept, dict) else {}

    @property
    def created_at(self) -> str | None:
        """When the memory was first stored, as stored."""
        return _text_or_none(self._document.get("created_at"))

    @property
    def last_update(self) -> str | None:
        """When the memory was last written, as stored."""
        return _text_or_none(self._document.get("last_update"))

    def last_update_seconds(self) -> float | None:
        """Return `last_update` in epoch seconds, None unless it carries an offset.

        A naive stamp may come from any time zone, so it cannot be compared.
        """
        try:
            parsed = datetime.fromisoformat(self.last_update or "")
        except ValueError:
            return None
        return parsed.timestamp() if parsed.utcoffset() is not None else None


def decode(raw: bytes, key: str) -> Record:
    """Return the record in `raw`.

    Raises:
        CorruptRecordError: It is none; the error holds the bytes.
    """
    return Record(raw, _document(raw, key))


def _document(raw: bytes, key: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(raw.decode())
        if isinstance(document["data"]["working_memory"], str):
            return document
    except _UNREADABLE:
        pass
    raise CorruptRecordError(digest(key.encode(errors="surrogatepass")), raw) from None


def own_metadata(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a copy that the caller cannot change; raises InvalidMetadataError unless JSON can hold it."""
    copy: dict[str, Any] | None = json.loads(_metadata_text(metadata)) if metadata else None
    return copy


def _metadata_text(metadata: dict[str, Any]) -> str:
    try:
        return json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        message = (
            "the metadata cannot be written as JSON. Nothing was written; use text, finite numbers, lists and dicts."
        )
        raise InvalidMetadataError(message) from None


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
