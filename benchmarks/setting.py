"""What every row is given: the server, the sizes, the randomness, the framework."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.figure import Figure
from benchmarks.framework import Framework
from remanence.lab import RedisServer

__all__ = ["NEEDS_FRAMEWORK", "Row", "Setting"]

NEEDS_FRAMEWORK = "not measured: install the extra `arshai` for the framework's manager"


@dataclass(frozen=True, slots=True)
class Setting:
    """A run's circumstances.

    Attributes:
        server: Private to the run, without durability: its work is not what is measured.
        quick: Whether sizes are cut to what shows that everything works; the figures are then good for nothing else.
        rng: Seeded.
        framework: None where it is not installed.
    """

    server: RedisServer
    quick: bool
    rng: random.Random
    framework: Framework | None

    def size(self, full: int, quick: int) -> int:
        """Return the size for this run."""
        return quick if self.quick else full

    def url(self, database: int) -> str:
        """Return the URL of one of the server's databases: contenders must not see each other's records."""
        return f"redis://127.0.0.1:{self.server.port}/{database}"


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement that can be asked for by name.

    Attributes:
        name: For `--row`.
        about: One line on what is compared.
        measure: Does it.
    """

    name: str
    about: str
    measure: Callable[[Setting], list[Figure]]
