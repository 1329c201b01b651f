"""The errors of the conformance kit.

::

    AssertionError
    └── NotMetError          a requirement is not met
        └── MustBeAwaitedError   what a synchronous manager returned is an awaitable
    NotTestableError         a requirement cannot be tested here: skipped, which is not passed
    CannotRunError           the requirements could not be run at all
    └── FactoryError         the factory raised, or returned no manager

Messages hold no text, key, id, URL or message of somebody else's error: they end up in reports.
"""

from __future__ import annotations

__all__ = ["CannotRunError", "FactoryError", "MustBeAwaitedError", "NotMetError", "NotTestableError"]


class NotMetError(AssertionError):
    """A requirement is not met; the message is the reason."""


class MustBeAwaitedError(NotMetError):
    """What was called as synchronous returned an awaitable."""


class NotTestableError(Exception):
    """A requirement cannot be tested here; the message is the reason why it is skipped."""


class CannotRunError(Exception):
    """The requirements could not be run; nothing is said about the manager."""


class FactoryError(CannotRunError):
    """The factory raised, or returned something that is no manager."""
