"""The stored form: byte for byte the framework's, whatever the text, and nothing of others' fields is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remanence.errors import CorruptRecordError, InvalidInputError, InvalidMetadataError, MemoryTooLargeError
from remanence.record import (
    ABSENT,
    check_size,
    decode,
    digest,
    encode,
    key_for,
    revise,
    split_key,
    stamp,
    version_of,
)

STAMP = "2026-11-22T13:19:23.722675+00:00"
LATER = "2026-11-22T14:00:00+00:00"
KEY = "memory:WORKING_MEMORY:canary-id"

# Every code point, the lone surrogates too: Python's texts may hold them, and JSON escapes them.
TEXTS = st.text(alphabet=st.characters(codec=None, categories=None))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
METADATA = st.none() | st.dictionaries(TEXTS, JSON, max_size=4)


def framework_bytes(text: str, metadata: dict[str, Any] | None, created: str, updated: str) -> bytes:
    """Return what the framework's manager hands to Redis."""
    document = {
        "data": {"working_memory": text},
        "metadata": metadata or {},
        "created_at": created,
        "last_update": updated,
    }
    return json.dumps(document).encode()


@given(TEXTS, METADATA)
@example("", None)
@example("\ud800", {"\udfff": ["\ud83d", "\u2028\u2029\x00\x7f\ufeff"]})
@example('"\\/\b\f\n\r\t\x1b', {"a": {"b": [1.5, -0.0, 1e300, 10**30, True, None]}})
@example("e\u0301 \U0001f469\u200d\U0001f52c \u202eright", {})
def test_a_record_has_the_frameworks_bytes(text: str, metadata: dict[str, Any] | None) -> None:
    """Whatever the text and the metadata, the bytes are those of the framework."""
    assert encode(text, metadata, STAMP, LATER) == framework_bytes(text, metadata, STAMP, LATER)


@given(TEXTS, METADATA)
def test_what_was_encoded_is_decoded(text: str, metadata: dict[str, Any] | None) -> None:
    """A record says what was put into it."""
    record = decode(encode(text, metadata, STAMP, LATER), KEY)
    assert (record.text, record.metadata) == (text, metadata or {})
    assert (record.created_at, record.last_update) == (STAMP, LATER)


@pytest.mark.parametrize(
    ("text", "metadata", "expected"),
    [
        (
            "h\u00e9llo",
            None,
            b'{"data": {"working_memory": "h\\u00e9llo"}, "metadata": {}, "created_at": "A", "last_update": "B"}',
        ),
        (
            "",
            {"source": "user_settings", "n": 1},
            (
                b'{"data": {"working_memory": ""}, "metadata": {"source": "user_settings", "n": 1}, '
                b'"created_at": "A", "last_update": "B"}'
            ),
        ),
        (
            "\ud800 \U0001f600",
            {},
            (
                b'{"data": {"working_memory": "\\ud800 \\ud83d\\ude00"}, "metadata": {}, '
                b'"created_at": "A", "last_update": "B"}'
            ),
        ),
    ],
)
def test_golden_vectors(text: str, metadata: dict[str, Any] | None, expected: bytes) -> None:
    """The bytes are these, whatever becomes of json and of the framework."""
    assert encode(text, metadata, "A", "B") == expected


@given(TEXTS, METADATA, TEXTS, METADATA)
def test_a_revision_is_what_the_framework_would_write_with_merged_metadata(
    text: str, metadata: dict[str, Any] | None, changed: str, more: dict[str, Any] | None
) -> None:
    """Text, stamp and metadata change; `created_at` stays."""
    before = encode(text, metadata, STAMP, STAMP)
    merged = {**(metadata or {}), **(more or {})}
    assert revise(before, KEY, changed, more, LATER) == framework_bytes(changed, merged, STAMP, LATER)


def test_a_revision_keeps_fields_of_others_and_their_order() -> None:
    """Fields that this library does not know stay where they are, beside the text too."""
    document = {
        "zeta": [1, {"deep": None}],
        "data": {"before": 1, "working_memory": "old", "after": 2},
        "last_update": "2026-01-01T00:00:00",
        "version": 7,
        "created_at": "2025-12-31T23:59:59.000001",
        "metadata": {"kept": 1, "replaced": 1},
    }
    revised = revise(json.dumps(document).encode(), KEY, "new", {"replaced": 2, "added": 3}, LATER)
    document["data"]["working_memory"] = "new"  # type: ignore[index]
    document["last_update"] = LATER
    document["metadata"] = {"kept": 1, "replaced": 2, "added": 3}
    assert revised == json.dumps(document).encode()


@pytest.mark.parametrize("kept", [None, [], "text", 1])
def test_metadata_that_is_no_object_is_replaced_only_by_metadata(kept: object) -> None:
    """A foreign `metadata` of another shape stays until there is some to merge."""
    before = json.dumps({"data": {"working_memory": "t"}, "metadata": kept}).encode()
    assert decode(before, KEY).metadata == {}
    assert json.loads(revise(before, KEY, "u", None, LATER))["metadata"] == kept
    assert json.loads(revise(before, KEY, "u", {"a": 1}, LATER))["metadata"] == {"a": 1}


def test_nan_in_stored_metadata_is_readable_and_kept() -> None:
    """The framework writes NaN as invalid JSON: it is read, and a revision of the text keeps it."""
    before = framework_bytes("t", {"score": float("nan"), "top": float("inf")}, STAMP, STAMP)
    assert str(decode(before, KEY).metadata) == "{'score': nan, 'top': inf}"
    assert b'"score": NaN, "top": Infinity' in revise(before, KEY, "u", {"a": 1}, LATER)


@pytest.mark.parametrize(
    "metadata",
    [
        {"score": float("nan")},
        {"score": [float("-inf")]},
        {"when": datetime(2026, 1, 1, tzinfo=UTC)},
        {"raw": b"canary-text"},
        {"set": {1}},
        {("canary-text",): 1},
    ],
    ids=["nan", "infinity", "date", "bytes", "set", "tuple key"],
)
def test_metadata_that_is_not_json_is_refused(metadata: dict[str, Any]) -> None:
    """Neither a new record nor a revision takes what JSON cannot hold, and the message does not quote it."""
    writes: list[Callable[[], bytes]] = [
        lambda: encode("t", metadata, STAMP, STAMP),
        lambda: revise(encode("t", None, STAMP, STAMP), KEY, "u", metadata, STAMP),
    ]
    for write in writes:
        with pytest.raises(InvalidMetadataError, match="Nothing was written") as caught:
            write()
        assert "canary" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_metadata_that_holds_itself_is_refused() -> None:
    """A circle and a very deep nest end in the same error, not in a RecursionError."""
    circle: dict[str, Any] = {}
    circle["self"] = circle
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    for metadata in (circle, {"deep": deep}):
        with pytest.raises(InvalidMetadataError):
            encode("t", metadata, STAMP, STAMP)
    while deep:  # or its deallocation is as deep
        deep = deep.pop()


UNREADABLE = [
    b"",
    b"canary-text",
    b"\xff\xfe",
    b"null",
    b"[]",
    b'"text"',
    b"{}",
    b'{"data": "canary-text"}',
    b'{"data": []}',
    b'{"data": {"working_memory": null}}',
    b'{"data": {"working_memory": 5}}',
    b'{"data": {"working_memory": "canary-text"}',
    b"[" * 100_000,
    b'{"data": {"working_memory": "x"}, "n": ' + b"9" * 10_000 + b"}",
]


@pytest.mark.parametrize("raw", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_is_no_record_is_an_error_that_names_neither_key_nor_text(raw: bytes) -> None:
    """The bytes are an attribute, the key is told by its digest, the message holds neither."""
    reads: list[Callable[[], object]] = [lambda: decode(raw, KEY), lambda: revise(raw, KEY, "t", None, STAMP)]
    for read in reads:
        with pytest.raises(CorruptRecordError) as caught:
            read()
        error = caught.value
        assert error.raw == raw
        assert error.key_digest == sha1(KEY.encode(), usedforsecurity=False).hexdigest()
        assert error.key_digest in str(error)
        assert "canary" not in f"{error} {error!r}"
        assert error.__cause__ is None
        assert error.__suppress_context__


@given(st.binary())
def test_any_bytes_are_a_record_or_an_error_of_ours(raw: bytes) -> None:
    """Nothing else comes out of decoding, whatever is stored."""
    try:
        record = decode(raw, KEY)
    except CorruptRecordError:
        return
    assert isinstance(record.text, str)


@given(TEXTS)
def test_a_key_is_the_frameworks_or_the_id_is_refused(conversation_id: str) -> None:
    """The id stands unescaped in the key; one that UTF-8 cannot encode has an error of its own."""
    try:
        conversation_id.encode()
    except UnicodeEncodeError:
        with pytest.raises(InvalidInputError, match=r"lone surrogate.*Nothing was written"):
            key_for("memory", "WORKING_MEMORY", conversation_id)
    else:
        key = key_for("memory", "WORKING_MEMORY", conversation_id)
        assert key == f"memory:WORKING_MEMORY:{conversation_id}"
        assert split_key("memory", key) == ("WORKING_MEMORY", conversation_id)


def test_a_key_is_split_by_the_prefix_it_was_made_with() -> None:
    """A prefix or an id with colons in it comes apart where it was put together."""
    assert split_key("a:b", key_for("a:b", "SHORT_TERM_MEMORY", ":c:d:")) == ("SHORT_TERM_MEMORY", ":c:d:")


def test_the_message_about_an_id_does_not_quote_it() -> None:
    """An id that cannot be encoded stays out of the error."""
    with pytest.raises(InvalidInputError) as caught:
        key_for("memory", "WORKING_MEMORY", "canary\ud800")
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_digest_is_the_servers() -> None:
    """A digest is lower-case SHA-1, as `redis.sha1hex` gives it; nothing stored has a token of its own."""
    assert digest(b"abc") == version_of(b"abc") == "a9993e364706816aba3e25717850c26c9cd0d89d"
    assert version_of(None) == ABSENT != version_of(b"")
    raw = encode("t", None, STAMP, STAMP)
    assert decode(raw, KEY).version() == digest(raw)


@pytest.mark.parametrize(
    ("stored", "seconds"),
    [
        ("2026-11-22T13:19:23.500000+00:00", 1_795_353_563.5),
        ("2026-11-22T14:19:23.500000+01:00", 1_795_353_563.5),
        ("2026-11-22T13:19:23Z", 1_795_353_563.0),
        ("2026-11-22T13:19:23.722675", None),
        ("2026-11-22T13:19:23", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (17, None),
    ],
)
def test_only_a_stamp_with_an_offset_can_be_compared(stored: object, seconds: float | None) -> None:
    """The framework's naive stamps are read as they stand, and never taken for a point in time."""
    record = decode(json.dumps({"data": {"working_memory": ""}, "last_update": stored}).encode(), KEY)
    assert record.last_update == (stored if isinstance(stored, str) else None)
    assert record.last_update_seconds() == seconds


def test_our_stamps_carry_an_offset_and_come_back() -> None:
    """A stamp of ours says the same point in time when it is read."""
    record = decode(encode("t", None, stamp(1_795_353_563.5), stamp(1_795_353_563.5)), KEY)
    assert record.created_at == record.last_update == "2026-11-22T13:19:23.500000+00:00"
    assert record.last_update_seconds() == 1_795_353_563.5


def test_the_limit_is_in_encoded_bytes_and_inclusive() -> None:
    """A record as long as the limit passes; one byte more is refused, with both figures."""
    raw = encode("x" * 100, None, STAMP, STAMP)
    assert check_size(raw, len(raw)) is raw
    with pytest.raises(MemoryTooLargeError, match="Nothing was written") as caught:
        check_size(raw, len(raw) - 1)
    assert (caught.value.size, caught.value.limit) == (len(raw), len(raw) - 1)
