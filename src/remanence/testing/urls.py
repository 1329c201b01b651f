"""URLs that may hold a password, and are printed with the values of a failing test."""

from __future__ import annotations

import re

__all__ = ["SecretUrl"]


class SecretUrl(str):
    """A text like any other, but for its repr, which leaves user and password out: pytest prints that."""

    __slots__ = ()

    def __repr__(self) -> str:
        # From the last @ backwards, since a password may hold one; options may hold a password as well.
        return repr(re.sub(r"//.*@", "//…@", self.partition("?")[0]))
