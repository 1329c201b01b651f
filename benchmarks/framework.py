"""The framework's own managers, where it is installed (the extra `arshai`), quiet in the way of a production service.

Importing the framework may replace the root logger's handlers: they are put back. Its managers format a message for
each call and log it at DEBUG; its loggers are set to WARNING here, as a service would have them, so that a call pays
for the formatting and the question whether to log, as its users do, and for no output.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from dataclasses import dataclass
from typing import Any

from remanence import IMemoryInput

__all__ = ["Framework", "load"]

_PACKAGE = "arshai"


@dataclass(frozen=True, slots=True)
class Framework:
    """What the benchmark uses of the framework.

    Attributes:
        redis_manager: Class of its manager on Redis.
        memory_manager: Class of its manager in memory.
        interface: Module of its DTOs.
    """

    redis_manager: Any
    memory_manager: Any
    interface: Any

    def input(self, item: IMemoryInput) -> Any:
        """Return the framework's own DTO for `item`."""
        text = item.data[-1].working_memory if item.data else ""
        return self.interface.IMemoryInput(
            conversation_id=item.conversation_id,
            memory_type=self.interface.ConversationMemoryType(item.memory_type.value),
            data=[self.interface.IWorkingMemory(working_memory=text)],
        )


def load() -> Framework | None:
    """Return the framework, None where it is not installed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its models use settings that pydantic no longer knows
            interface = importlib.import_module(f"{_PACKAGE}.core.interfaces.imemorymanager")
            on_redis = importlib.import_module(f"{_PACKAGE}.memory.working_memory.redis_memory_manager")
            in_memory = importlib.import_module(f"{_PACKAGE}.memory.working_memory.in_memory_manager")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == _PACKAGE:
            return None
        raise
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    logging.getLogger(_PACKAGE).setLevel(logging.WARNING)
    return Framework(on_redis.RedisWorkingMemoryManager, in_memory.InMemoryManager, interface)
