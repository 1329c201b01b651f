"""The errors of the lab.

::

    LabError
    ├── ServerNotFoundError      no redis-server or valkey-server on this machine
    ├── ServerStartError         it did not start, or did not become ready in time
    │   └── PortTakenError       something else listens on its port
    ├── ServerStopError          it did not shut down in time, and was killed
    ├── ServerNotRunningError    the operation needs a running server
    ├── ServerStateError         it is in another state, or did not get into or out of one
    ├── ServerReplyError         it answered a command with an error
    └── ProxyError               of the fault proxy
        ├── ProxyPortTakenError      something else uses its port
        ├── ProxyNotRunningError     the operation needs a running proxy
        ├── FaultNotFiredError       a fault did not do its work in time
        └── NothingHeldError         there is no request to deliver or to drop
"""

from __future__ import annotations

__all__ = [
    "FaultNotFiredError",
    "LabError",
    "NothingHeldError",
    "PortTakenError",
    "ProxyError",
    "ProxyNotRunningError",
    "ProxyPortTakenError",
    "ServerNotFoundError",
    "ServerNotRunningError",
    "ServerReplyError",
    "ServerStartError",
    "ServerStateError",
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


class ServerStateError(LabError):
    """The server is in another state already, or did not get into one, or out of it, in time."""


class ServerReplyError(LabError):
    """The server answered a command with an error.

    Args:
        reply: The whole error text. It can quote keys and values, so only its code is in the message.
    """

    def __init__(self, reply: str) -> None:
        self.code = reply.split(" ", 1)[0]
        self.reply = reply
        super().__init__(f"The server refused the command: {self.code} (the whole answer is in .reply).")


class ProxyError(LabError):
    """The fault proxy could not do what it was asked for."""


class ProxyPortTakenError(ProxyError):
    """Something else uses the proxy's port."""

    def __init__(self, port: int) -> None:
        super().__init__(
            f"Port {port} of 127.0.0.1 is in use, so the proxy was not started. Choose another one, or leave out port=."
        )
        self.port = port


class ProxyNotRunningError(ProxyError):
    """The operation needs a running proxy."""

    def __init__(self) -> None:
        super().__init__(
            "The proxy does not run here, so nothing was changed: start() it or enter it as a context manager. In a "
            "forked child it does not run either; set faults in the process that started it."
        )


class FaultNotFiredError(ProxyError):
    """A fault did not do its work in time; it is still set."""


class NothingHeldError(ProxyError):
    """There is no request to deliver or to drop."""

    def __init__(self) -> None:
        super().__init__(
            "No request is held: none has come, it was delivered or dropped already, or the server ended its "
            "connection meanwhile. wait() for it first."
        )
