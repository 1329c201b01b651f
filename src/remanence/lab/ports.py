"""Choosing a port on which a server can come and go."""

from __future__ import annotations

import errno
import random
import socket
from pathlib import Path

from remanence.lab.errors import LabError

__all__ = ["choose_port", "is_free"]

_LOWEST = 10_240
# Where the kernel takes the ports of outgoing connections from, if it does not say: Linux's default begins here, and
# those of macOS and the BSDs (49152) are above it.
_FIRST_EPHEMERAL = 32_768
_LINUX_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES = 200


def choose_port() -> int:
    """Choose a free port below the range from which the kernel takes the ports of outgoing connections.

    While the server is down, an outgoing connection could otherwise be given its port, and the server could not come
    back; worse, a client that keeps connecting to a dead port of that range is sooner or later given that very port for
    its own end, and is then connected to itself.

    Raises:
        LabError: No free port was found.
    """
    candidates = random.SystemRandom()
    highest = max(_first_ephemeral() - 1, _LOWEST + _TRIES)
    for _ in range(_TRIES):
        port = candidates.randint(_LOWEST, highest)
        if is_free(port):
            return port
    raise LabError(f"No free port between {_LOWEST} and {highest} in {_TRIES} tries; name one with port=.")


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the server does it: connections of an earlier server in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _first_ephemeral() -> int:
    try:
        return int(_LINUX_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _FIRST_EPHEMERAL
