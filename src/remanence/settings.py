"""Checks of settings, made at construction, with errors that say what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remanence.errors import ConfigurationError

__all__ = ["fraction", "key_part", "positive", "refuse_unknown", "whole"]


def positive(name: str, value: Any, *, optional: bool = False) -> Any:
    """Return `value`.

    Raises:
        ConfigurationError: It is not a finite number above 0 (or None, where that is optional).
    """
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        message = f"{name} must be a number above 0{' or None' if optional else ''}, not {value!r}."
        raise ConfigurationError(message)
    return value


def whole(name: str, value: Any, *, optional: bool = False) -> Any:
    """Return `value` as an int.

    Raises:
        ConfigurationError: It is not a whole number above 0 (or None, where that is optional).
    """
    if value is None and optional:
        return None
    if positive(name, value) != int(value):
        message = f"{name} must be a whole number, not {value!r}."
        raise ConfigurationError(message)
    return int(value)


def key_part(name: str, value: Any) -> str:
    """Return `value`.

    Raises:
        ConfigurationError: It is not a text that can begin a key.
    """
    if not isinstance(value, str) or not value or any("\ud800" <= char <= "\udfff" for char in value):
        message = f"{name} must be a text that is not empty and that UTF-8 can encode."
        raise ConfigurationError(message)
    return value


def fraction(name: str, value: Any) -> Any:
    """Return `value`.

    Raises:
        ConfigurationError: It is not a number from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        message = f"{name} must be a number from 0 to 1, not {value!r}."
        raise ConfigurationError(message)
    return value


def refuse_unknown(other: Mapping[str, Any], where: str) -> None:
    """Raise ConfigurationError when keywords are left that nobody knows: a misspelt one must not pass in silence."""
    if other:
        names = ", ".join(sorted(other))
        message = f"unknown keyword(s) {names}: see help({where}) for the settings."
        raise ConfigurationError(message)
