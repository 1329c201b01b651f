"""What every memory manager must do, as tests that anybody can run against theirs.

`requirements` has what must be met, `trial` what a requirement is given, `runner` runs them in bounded time, `suite`
makes pytest classes of them, `factory` and `card` serve the command line.
"""

from __future__ import annotations

from remanence.testing.conformance.errors import CannotRunError, FactoryError, NotMetError, NotTestableError
from remanence.testing.conformance.hooks import Hooks
from remanence.testing.conformance.requirement import CAPABILITIES, Requirement, Result
from remanence.testing.conformance.requirements import REQUIREMENTS
from remanence.testing.conformance.runner import run, run_all
from remanence.testing.conformance.suite import AsyncMemoryManagerConformance, MemoryManagerConformance

__all__ = [
    "CAPABILITIES",
    "REQUIREMENTS",
    "AsyncMemoryManagerConformance",
    "CannotRunError",
    "FactoryError",
    "Hooks",
    "MemoryManagerConformance",
    "NotMetError",
    "NotTestableError",
    "Requirement",
    "Result",
    "run",
    "run_all",
]
