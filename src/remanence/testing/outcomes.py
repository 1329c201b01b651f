"""What a test is told when a fixture cannot be had: one line, as a skip or a failure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from remanence.errors import ConfigurationError
from remanence.lab.errors import LabError, ServerNotFoundError
from remanence.lab.server_binary import ENVIRONMENT_VARIABLE

__all__ = ["missing_server", "reported"]


# Raised rather than called: `from None` keeps pytest from showing the error that is being handled as well.
_Failed = pytest.fail.Exception


@contextmanager
def missing_server(*, required: bool) -> Iterator[None]:
    """Skip the test where there is no server on this machine.

    It fails where the environment names a program that is not there: a slip of the pen must not skip a whole suite.

    Args:
        required: Fail it in any case.
    """
    try:
        yield
    except ServerNotFoundError as error:
        message = f"{error} Or name a server of your own: --remanence-redis-url."
        if required or os.environ.get(ENVIRONMENT_VARIABLE):
            raise _Failed(f"ServerNotFoundError: {message}", pytrace=False) from None
        pytest.skip(message)


@contextmanager
def reported() -> Iterator[None]:
    """Turn the errors of a fixture into one line, without a traceback that would lead into this package."""
    try:
        yield
    except (LabError, ConfigurationError, ValueError) as error:
        raise _Failed(f"{type(error).__name__}: {error}", pytrace=False) from None
    except OSError as error:
        message = f"{type(error).__name__}: the server was lost while a fixture talked to it."
        raise _Failed(message, pytrace=False) from None
