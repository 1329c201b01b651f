"""The requirements as tests for pytest: one method each, made here, inherited by the class of whoever tests a manager.

pytest is imported only where a test is skipped, so that the command line works without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from remanence.errors import ConfigurationError
from remanence.testing.conformance.errors import FactoryError, NotMetError
from remanence.testing.conformance.hooks import Hooks
from remanence.testing.conformance.requirement import CAPABILITIES, Requirement
from remanence.testing.conformance.requirements import REQUIREMENTS
from remanence.testing.conformance.runner import run

__all__ = ["AsyncMemoryManagerConformance", "MemoryManagerConformance", "check_capabilities"]


def check_capabilities(names: object) -> None:
    """Raise ConfigurationError unless all of `names` are capabilities."""
    known = ", ".join(CAPABILITIES)
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise ConfigurationError(f"capabilities must be a set of names, such as {{'ttl'}}; there are {known}.")
    unknown = sorted(str(name) for name in names if name not in CAPABILITIES)
    if unknown:
        raise ConfigurationError(f"unknown capabilities: {', '.join(unknown)}. There are {known}.")


class MemoryManagerConformance(Hooks):
    """Tests a synchronous memory manager against the requirements.

    ::

        class TestMine(MemoryManagerConformance):
            capabilities = {"concurrency", "ttl"}

            def make_manager(self):
                return Mine("postgresql://127.0.0.1/test")

            def make_manager_with_ttl(self, seconds):
                return Mine("postgresql://127.0.0.1/test", ttl=seconds)

    Each requirement is a test named after its id, such as `test_RM_010_what_was_stored_is_retrieved`. It makes a
    manager of its own, in a thread of its own; a capability that is not declared is skipped, with the reason. Of the
    hooks override those that the declared capabilities need.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Check the declaration where it is made."""
        super().__init_subclass__(**options)
        check_capabilities(cls.capabilities)


class AsyncMemoryManagerConformance(MemoryManagerConformance):
    """Tests an asynchronous memory manager against the same requirements.

    As `MemoryManagerConformance`. `make_manager` is called, or awaited, in the event loop of a thread; so is the
    manager. No plugin for asynchronous tests is needed.
    """

    asynchronous = True


def _test_name(requirement: Requirement) -> str:
    return f"test_{requirement.id.replace('-', '_')}_{requirement.name}"


def _test_of(requirement: Requirement) -> Callable[[MemoryManagerConformance], None]:
    def test(self: MemoryManagerConformance) -> None:
        __tracebackhide__ = True
        result = run(requirement, self)
        if result.status == "skipped":
            import pytest  # noqa: PLC0415 - see above

            pytest.skip(f"{requirement.id}: {result.reason}")
        if isinstance(result.error, FactoryError):
            raise result.error
        if result.status == "failed":
            raise NotMetError(f"{requirement.id}: {result.reason}. {requirement.title}.") from result.error

    test.__name__ = _test_name(requirement)
    test.__qualname__ = f"{MemoryManagerConformance.__name__}.{test.__name__}"
    test.__doc__ = f"{requirement.id}: {requirement.title}."
    return test


for _requirement in REQUIREMENTS:
    setattr(MemoryManagerConformance, _test_name(_requirement), _test_of(_requirement))
del _requirement
