"""What all decorators share: configured by keyword, then called with a manager."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from remanence.clock import SYSTEM_CLOCK, Clock
from remanence.events import Event, Listener, notify
from remanence.flow import Call, Flow

__all__ = ["Context", "Decorator", "batch_failures", "install_wrap"]

_wrap: list[Callable[..., Any]] = []


def install_wrap(wrap: Callable[..., Any]) -> None:
    """Tell the decorators how to decorate; the stack does, because it stands above them."""
    _wrap[:] = [wrap]


@dataclass(frozen=True, slots=True)
class Context:
    """What a decorator learns of the manager that it decorates.

    Attributes:
        clock: The manager's.
        listeners: Told about events.
        prefix: First part of the manager's keys.
        ttl: Seconds that its memories live, None for ever or unknown.
        max_memory_bytes: Its limit of an encoded record.
        canonical: Gives the record that reading a written one back would give; None where that is the same.
        interruptible: Whether an attempt ends when the call's time is up.
        store: What tells this store's pending writes from another's in a journal that both use.
        chunk: Most pending writes that are replayed at once; between two chunks an event loop gets its turn.
    """

    clock: Clock = SYSTEM_CLOCK
    listeners: Sequence[Listener] = field(default=())
    prefix: str = "memory"
    ttl: float | None = None
    max_memory_bytes: int = 2**63
    canonical: Callable[[bytes], bytes] | None = None
    interruptible: bool = True
    store: str = ""
    chunk: int = 1_000

    def tell(self, event: Event) -> None:
        """Notify the listeners."""
        if self.listeners:
            notify(self.listeners, event)


class Decorator:
    """A policy: `bind` it to a manager's context for its flow, or call it with a manager to decorate that.

    Attributes:
        place: Position from outside in; `wrap` refuses another order.
    """

    place: ClassVar[int]

    def bind(self, context: Context) -> Callable[[Call], Flow]:
        """Return the flow around every call of one manager."""
        raise NotImplementedError

    def __call__(self, manager: Any) -> Any:
        """Return `manager` decorated with this policy alone."""
        return _wrap[0](manager, self)


def batch_failures(result: Any) -> list[Exception]:
    """Return the exceptions among a batch's results; the results of other calls hold none."""
    if type(result) is not list:
        return []
    return [item for item in result if isinstance(item, Exception)]
