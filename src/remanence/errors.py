"""All errors of the library, one tree.

    RemanenceError
    ├── ConfigurationError (ValueError)   a setting that cannot work; raised at construction
    │   └── PolicyOrderError              decorators in an order that cannot work
    ├── InvalidInputError (ValueError)    the caller's data; nothing was written
    │   ├── InvalidMetadataError          metadata that JSON cannot hold
    │   └── MemoryTooLargeError           a record beyond the limit
    ├── CorruptRecordError                what is stored cannot be read as a memory
    ├── VersionConflictError              somebody else wrote since the version was read
    ├── UnavailableError                  the store did not answer
    │   ├── CircuitOpenError              not asked: it has been failing
    │   ├── DeadlineExceededError         the call's time was up
    │   ├── LateWriteError                the server refused a write that came after its not-after
    │   ├── AttemptTimeoutError           one attempt took longer than was left
    │   └── MemoryUnavailableError        a read that neither the store nor a copy could answer
    ├── JournalError                      the write could not be kept for later either
    │   ├── JournalFullError
    │   └── JournalUnavailableError
    └── ManagerClosedError                used after close()

Messages hold no text, key, id or server error text: they end up in logs.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AttemptTimeoutError",
    "CircuitOpenError",
    "ConfigurationError",
    "CorruptRecordError",
    "DeadlineExceededError",
    "InvalidInputError",
    "InvalidMetadataError",
    "JournalError",
    "JournalFullError",
    "JournalUnavailableError",
    "LateWriteError",
    "ManagerClosedError",
    "MemoryTooLargeError",
    "MemoryUnavailableError",
    "PolicyOrderError",
    "RemanenceError",
    "UnavailableError",
    "VersionConflictError",
]


class RemanenceError(Exception):
    """The root of the tree."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would call the class with the finished message, and a pool of processes hangs on an error that cannot
        # be unpickled.
        return (_restore, (type(self), self.args, self.__dict__))


def _restore(kind: type[RemanenceError], args: tuple[Any, ...], attributes: dict[str, Any]) -> RemanenceError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(RemanenceError, ValueError):
    """A setting that cannot work."""


class PolicyOrderError(ConfigurationError):
    """Decorators in an order that cannot work."""


class InvalidInputError(RemanenceError, ValueError):
    """The caller's data cannot be stored or looked up."""


class InvalidMetadataError(InvalidInputError):
    """Metadata that JSON cannot hold."""


class MemoryTooLargeError(InvalidInputError):
    """An encoded record beyond the manager's limit.

    Attributes:
        size: Bytes of the encoded record.
        limit: The manager's `max_memory_bytes`.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the encoded memory has {size} bytes, the limit is {limit}. Nothing was written; shorten the text or "
            "raise max_memory_bytes."
        )
        self.size = size
        self.limit = limit


class CorruptRecordError(RemanenceError):
    """What is stored under a key is not a memory.

    Attributes:
        key_digest: SHA-1 of the key, to find it without naming it.
        raw: The stored bytes, unchanged.
    """

    def __init__(self, key_digest: str, raw: bytes) -> None:
        super().__init__(
            f"the value stored under the key with SHA-1 {key_digest} is not a memory record. It was left as it is; its "
            "bytes are in the attribute raw. Repair it, or store or delete the conversation."
        )
        self.key_digest = key_digest
        self.raw = raw


class VersionConflictError(RemanenceError):
    """The stored memory is not the version that the write was based on.

    Attributes:
        current: The stored bytes where the store told them, b"" for nothing stored, None where unknown. Private to
            the library: `mutate` saves a read with it.
    """

    def __init__(self, current: bytes | None = None) -> None:
        super().__init__(
            "the memory was changed since the version that this write is based on was read. What is stored was kept, "
            "and is not this write; retrieve it again, apply the change to what is there now, and write with the new "
            "version."
        )
        self.current = current


class UnavailableError(RemanenceError):
    """The store did not answer."""


class CircuitOpenError(UnavailableError):
    """The circuit breaker is open, so the store was not asked.

    Attributes:
        retry_after: Seconds until the breaker lets a call through again; 0.0 when a probe is under way.
    """

    def __init__(self, name: str, retry_after: float) -> None:
        super().__init__(
            f"the circuit breaker for {name} is open: the store was not asked. Try again in {retry_after:.1f} s, or "
            "put a Fallback outside."
        )
        self.retry_after = retry_after


class DeadlineExceededError(UnavailableError):
    """The call's time was up before the store answered."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the store did not answer within the deadline of {seconds:g} s. A write that was under way may still be "
            "applied within that time, not later."
        )
        self.seconds = seconds


class LateWriteError(UnavailableError):
    """The server saw the write after its not-after and refused it; nothing was written.

    Attributes:
        server_time: The server's clock in µs since the epoch when it refused.
    """

    def __init__(self, server_time: int = 0) -> None:
        super().__init__(
            "the write reached the server after its time was up and was refused. Nothing was written; repeat it."
        )
        self.server_time = server_time


class AttemptTimeoutError(UnavailableError):
    """One attempt did not end in the time that the call had left."""

    def __init__(self) -> None:
        super().__init__("the store did not answer in the time left for this call.")


class MemoryUnavailableError(UnavailableError):
    """The store did not answer the read, and nothing is known here; this is not "not found"."""

    def __init__(self) -> None:
        super().__init__(
            "the store did not answer and this process has no copy of the memory. Whether there is one is unknown; "
            "do not write a new one over it."
        )


class JournalError(RemanenceError):
    """A write could neither reach the store nor be kept for later; it is not acknowledged."""


class JournalFullError(JournalError):
    """The journal's limit is reached."""

    def __init__(self, limit: str) -> None:
        super().__init__(
            f"the journal is full ({limit}) and the store is away: this write was not kept. Earlier ones are intact; "
            "raise the limit or wait until they are replayed."
        )


class JournalUnavailableError(JournalError):
    """The journal itself did not accept the write."""


class ManagerClosedError(RemanenceError):
    """The manager was used after close()."""

    def __init__(self) -> None:
        super().__init__("this manager is closed. Nothing was written; create a new one.")


for _name in __all__:
    globals()[_name].__module__ = "remanence"
del _name
