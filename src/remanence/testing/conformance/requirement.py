"""What a requirement is: an id that never changes, a sentence, a reason, and a function that tries a fresh manager."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from remanence.testing.conformance.errors import NotMetError

if TYPE_CHECKING:
    from remanence.testing.conformance.trial import Trial

__all__ = ["CAPABILITIES", "Requirement", "Result", "Status", "Tier", "expect", "requirement"]

Tier = Literal["required", "optional"]
Status = Literal["passed", "failed", "skipped"]

CAPABILITIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "concurrency": "may be used by several threads, or tasks, at once",
        "ttl": "memories expire some time after they were last written",
        "batches": "has store_many, retrieve_many and delete_many",
        "versions": "answers and receipts have .version, and writes take if_version=",
        "mutate": "has mutate(input, fn)",
        "metadata": "answers have .metadata",
        "dicts": "takes plain dicts as inputs",
        "faults": "its store can go away and come back",
    }
)
"""What a manager may declare, and what that means."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something that a manager must do.

    Attributes:
        id: `RM-` and three digits; it is never given to another requirement.
        title: One sentence.
        why: What goes wrong for a user otherwise.
        check: Tries a fresh manager; raises NotMetError with a reason.
        capabilities: All of these must be declared for it; none: it is required of every manager.
        needs: Ids of requirements on which this one rests: where one of them is not met, this one may fail too.
        extra_seconds: That it may take beyond the usual limit.
    """

    id: str
    title: str
    why: str
    check: Callable[[Trial], None] = field(repr=False)
    capabilities: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    extra_seconds: float = 0.0

    @property
    def tier(self) -> Tier:
        """Whether every manager must meet it, or only those that declare its capabilities."""
        return "optional" if self.capabilities else "required"

    @property
    def name(self) -> str:
        """Its name as a part of an identifier."""
        return self.check.__name__


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a requirement.

    Attributes:
        requirement: Which.
        status: "passed", "failed" or "skipped"; a skipped one says nothing about the manager.
        reason: Why it failed or was skipped, None where it passed.
        error: What was raised, for those who want to see all of it.
        hangs: Whether it did not end in time; a thread of it may still be there.
    """

    requirement: Requirement
    status: Status
    reason: str | None = None
    error: BaseException | None = field(default=None, repr=False, compare=False)
    hangs: bool = False

    def as_json(self) -> dict[str, str | None]:
        """Return it for machines."""
        return {
            "id": self.requirement.id,
            "tier": self.requirement.tier,
            "status": self.status,
            "reason": self.reason,
        }


def requirement(
    number: str,
    title: str,
    *,
    why: str,
    capabilities: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
    extra_seconds: float = 0.0,
) -> Callable[[Callable[[Trial], None]], Requirement]:
    """Make a requirement of the function that checks it; see `Requirement`."""

    def make(check: Callable[[Trial], None]) -> Requirement:
        return Requirement(number, title, why, check, capabilities, needs, extra_seconds)

    return make


def expect(is_met: object, reason: str) -> None:
    """Raise NotMetError with `reason` unless `is_met`."""
    if not is_met:
        raise NotMetError(reason)
