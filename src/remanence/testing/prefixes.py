"""Key prefixes that belong to one test: how they are made, and how they are known again before keys are removed."""

from __future__ import annotations

import re
import secrets
from typing import Final

__all__ = ["is_random_prefix", "new_key_prefix"]

_START: Final = "remanence-test-"
_RANDOM_BYTES: Final = 8
_FORM: Final = re.compile(rf"{_START}[0-9a-f]{{{2 * _RANDOM_BYTES}}}")


def new_key_prefix() -> str:
    """Return a prefix that no other test, process or application has."""
    return f"{_START}{secrets.token_hex(_RANDOM_BYTES)}"


def is_random_prefix(prefix: object) -> bool:
    """Tell whether a prefix is one of `new_key_prefix`, or begins with one: whatever begins so is a test's own."""
    return isinstance(prefix, str) and _FORM.match(prefix) is not None
