"""Records as the framework writes them, byte for byte, and what it made them from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

__all__ = ["AT", "GOLDEN", "LATER", "Golden"]

AT: Final = datetime(2026, 11, 22, 13, 19, 23, 722675)  # noqa: DTZ001 - the framework's stamps are naive
LATER: Final = datetime(2026, 11, 22, 13, 20)  # noqa: DTZ001 - as above; isoformat leaves a fraction of zero out


@dataclass(frozen=True, slots=True)
class Golden:
    """One record.

    Attributes:
        name: The test's.
        text: What was stored at `AT`.
        metadata: Stored with it.
        stored: The bytes then.
        updated: The bytes once the text was replaced by "new" at `LATER`.
    """

    name: str
    text: str
    metadata: dict[str, Any] | None
    stored: bytes
    updated: bytes


_STORED: Final = b'"created_at": "2026-11-22T13:19:23.722675", "last_update": "2026-11-22T13:19:23.722675"}'
_UPDATED: Final = b'"created_at": "2026-11-22T13:19:23.722675", "last_update": "2026-11-22T13:20:00"}'

GOLDEN: Final = (
    Golden(
        "unicode",
        'h\u00e9llo \u4e16\u754c \U0001f600 "quoted" \\ \x7f\x00\u2028',
        None,
        b'{"data": {"working_memory": "h\\u00e9llo \\u4e16\\u754c \\ud83d\\ude00 \\"quoted\\" \\\\ '
        b'\\u007f\\u0000\\u2028"}, "metadata": {}, ' + _STORED,
        b'{"data": {"working_memory": "new"}, "metadata": {}, ' + _UPDATED,
    ),
    Golden(
        "lone-surrogates",
        "\ud800 and \udfff",
        {},
        b'{"data": {"working_memory": "\\ud800 and \\udfff"}, "metadata": {}, ' + _STORED,
        b'{"data": {"working_memory": "new"}, "metadata": {}, ' + _UPDATED,
    ),
    Golden(
        "empty",
        "",
        {"conversation_id": "c"},
        b'{"data": {"working_memory": ""}, "metadata": {"conversation_id": "c"}, ' + _STORED,
        b'{"data": {"working_memory": "new"}, "metadata": {"conversation_id": "c"}, ' + _UPDATED,
    ),
    Golden(
        "nested-metadata",
        "### USER:\nNothing known yet.\t",
        {"z": [], "a": [1, {"b": None, "c": 1e16, "\u00fc": True}], "big": 2**70, "": -0.0, "\ud800": "\r\n"},
        b'{"data": {"working_memory": "### USER:\\nNothing known yet.\\t"}, "metadata": {"z": [], '
        b'"a": [1, {"b": null, "c": 1e+16, "\\u00fc": true}], "big": 1180591620717411303424, "": -0.0, '
        b'"\\ud800": "\\r\\n"}, ' + _STORED,
        b'{"data": {"working_memory": "new"}, "metadata": {"z": [], '
        b'"a": [1, {"b": null, "c": 1e+16, "\\u00fc": true}], "big": 1180591620717411303424, "": -0.0, '
        b'"\\ud800": "\\r\\n"}, ' + _UPDATED,
    ),
    Golden(
        "no-json-numbers",
        "n",
        {"x": float("nan"), "y": [float("inf"), float("-inf")]},
        b'{"data": {"working_memory": "n"}, "metadata": {"x": NaN, "y": [Infinity, -Infinity]}, ' + _STORED,
        b'{"data": {"working_memory": "new"}, "metadata": {"x": NaN, "y": [Infinity, -Infinity]}, ' + _UPDATED,
    ),
)
