"""The requirements, one module for each subject; `REQUIREMENTS` has them all, in the order of their ids."""

from __future__ import annotations

from typing import Final

from remanence.testing.conformance.requirement import Requirement
from remanence.testing.conformance.requirements import (
    apart,
    batches,
    changing,
    concurrency,
    dicts,
    faults,
    inputs,
    keeping,
    metadata,
    methods,
    mutate,
    texts,
    ttl,
    versions,
)

__all__ = ["REQUIREMENTS"]

_MODULES: Final = (
    methods,
    keeping,
    texts,
    changing,
    apart,
    inputs,
    concurrency,
    ttl,
    batches,
    versions,
    mutate,
    metadata,
    dicts,
    faults,
)
_FOUND: Final = [each for module in _MODULES for each in vars(module).values() if isinstance(each, Requirement)]

REQUIREMENTS: Final[tuple[Requirement, ...]] = tuple(sorted(_FOUND, key=lambda each: each.id))
