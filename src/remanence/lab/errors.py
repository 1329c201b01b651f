"""The errors of the lab.

::

    LabError
    ├── ServerNotFoundError      no redis-server or valkey-server on this machine
    ├── ServerStartError         it did not start, or did not become ready in time
    │   └── PortTakenError       something else listens on its port
    ├── ServerStopError          it did not shut down in time, and was killed
    ├── ServerNotRunningError    the operation needs a running server
    └── ServerReplyError         it answered a command with an error
"""

from __future__ import annotations

__all__ = [
    "LabError",
    "PortTakenError",
    "ServerNotFoundError",
    "ServerNotRunningError",
    "ServerReplyError",
    "ServerStartError",
    "ServerStopError",
]


class LabError(Exception):
    """Something in the lab could not be done; it says nothing about the library under test."""


class ServerNotFoundError(LabError):
    """No Redis or Valkey server can be found on this machine."""


class ServerStartError(LabError):
    """The server did not start, or did not become ready before the deadline; nothing of it is left running."""


class PortTakenError(ServerStartError):
    """Something else listens on the server's port."""

    def __init__(self, port: int) -> None:
        super().__init__(
            f"Port {port} of 127.0.0.1 is taken by another program, so the server was not started; its data is kept. "
            f"End that program and start again, or choose another port.",
        )
        self.port = port


class ServerStopError(LabError):
    """The server did not shut down before the deadline, and was killed."""


class ServerNotRunningError(LabError):
    """The operation needs a running server."""


class ServerReplyError(LabError):
    """The server answered a command with an error.

    Args:
        reply: The whole error text. It can quote keys and values, so only its code is in the message.
    """

    def __init__(self, reply: str) -> None:
        self.code = reply.split(" ", 1)[0]
        self.reply = reply
        super().__init__(f"The server refused the command: {self.code} (the whole answer is in .reply).")
