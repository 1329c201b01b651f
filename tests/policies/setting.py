"""A decorated in-memory manager with an outage switch: what the tests of the fallback are made on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from remanence import Fallback, InMemoryManager, wrap
from remanence.events import Event
from remanence.flow import Call
from tests.support import FakeClock, Script

__all__ = ["DOWN", "KEY", "NoPermissionError", "Setting", "text_of", "value"]

DOWN = ConnectionError("the store is away")
KEY = "memory:WORKING_MEMORY:c"


class Setting:
    """A decorated in-memory manager with an outage switch, and a stranger on the same store."""

    def __init__(
        self, flavour: Any, clock: FakeClock, *policies: Any, ttl: float | None = 1_000.0, **options: Any
    ) -> None:
        self.clock = clock
        self.script = Script()
        self.events: list[Event] = []
        self._run = flavour.run
        self.inner = flavour.manager(self.script, clock=clock, ttl=ttl)
        self.stranger = InMemoryManager(clock=clock, ttl=ttl)
        self.stranger.backend = self.inner.backend
        decorators = policies or (Fallback(**options),)
        self.manager = wrap(self.inner, *decorators, listeners=(self.events.append,))
        # Replays happen when a test says so.
        self.manager._background.wake = lambda: None

    def down(self, error: BaseException | Callable[[Call], Any] = DOWN) -> None:
        """Let every attempt fail from now on."""
        self.script.then = error

    def up(self) -> None:
        """Heal the store."""
        self.script.then = None

    def lose_answers(self) -> None:
        """Let every write be applied and its answer be lost."""

        def apply(call: Call) -> None:
            self.lose_answer(call)
            raise DOWN

        self.script.then = apply

    def lose_answer(self, call: Call) -> None:
        """Have one call applied, and its answer lost."""
        self.inner._carry_out(call)
        for each in (call, *(item for item in call.items if isinstance(item, Call))):
            each.deleted = ""
        call.unsettled_until = self.clock.now + 1.0

    def abandon(self) -> None:
        """Forget what is pending, so that the end of the test run does not wait for it."""
        if self.manager._fallback is not None:
            self.manager._fallback.forget()

    def store(self, text: str, conversation: str = "c", **options: Any) -> Any:
        """Store a text."""
        return self._run(self.manager.store({"conversation_id": conversation, "working_memory": text}, **options))

    def update(self, text: str, *, metadata: dict[str, Any] | None = None, **options: Any) -> Any:
        """Update the text."""
        value = {"conversation_id": "c", "working_memory": text, "metadata": metadata}
        return self._run(self.manager.update(value, **options))

    def delete(self, conversation: str = "c") -> Any:
        """Delete the memory."""
        return self._run(self.manager.delete({"conversation_id": conversation}))

    def retrieve(self, conversation: str = "c") -> Any:
        """Read the memory."""
        return self._run(self.manager.retrieve({"conversation_id": conversation}))

    def mutate(self, fn: Callable[[str | None], str]) -> Any:
        """Change the memory."""
        return self._run(self.manager.mutate({"conversation_id": "c"}, fn))

    def many(self, operation: str, *values: dict[str, Any]) -> list[Any]:
        """Do a batch."""
        answers: list[Any] = self._run(getattr(self.manager, f"{operation}_many")(list(values)))
        return answers

    def replay(self) -> Any:
        """Bring home what is pending."""
        return self._run(self.manager.replay())

    def conflicts(self) -> list[str | None]:
        """Return the texts of the conflict copies."""
        return [conflict.text for conflict in self._run(self.manager.conflicts())]

    def stranger_writes(self, text: str, conversation: str = "c") -> None:
        """Let somebody else store."""
        self.stranger.store({"conversation_id": conversation, "working_memory": text})

    def held(self, conversation: str = "c") -> str | None:
        """Return what the store holds."""
        found = self.stranger.retrieve({"conversation_id": conversation})
        return found[0].working_memory if found else None

    def pending(self) -> int:
        """Return how many writes wait."""
        waiting: int = self.manager.health().pending
        return waiting

    def told(self, kind: type[Event]) -> list[Any]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


def text_of(memories: Any) -> str | None:
    """Return the text of an answer."""
    return memories[0].working_memory if memories else None


def value(conversation: str, text: str | None = None) -> dict[str, Any]:
    """Return the input for one item."""
    return {"conversation_id": conversation} | ({} if text is None else {"working_memory": text})


class NoPermissionError(Exception):
    """What redis-py raises where a permission is missing, without importing it."""


NoPermissionError.__module__, NoPermissionError.__qualname__ = "redis.exceptions", "NoPermissionError"
