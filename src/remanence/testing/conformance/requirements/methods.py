"""Whether it is a manager at all."""

from __future__ import annotations

import inspect
import secrets
from contextlib import suppress
from typing import Any

from remanence.testing.conformance.errors import NotMetError
from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.sharing import shared
from remanence.testing.conformance.trial import METHODS, Trial

__all__ = ["a_manager_is_true", "each_manager_is_its_own", "the_four_methods_are_implemented"]


@requirement(
    "RM-001",
    "The four methods are implemented, and all of them synchronous, or all of them awaited",
    why="A method that a class inherits from the protocol does nothing, and says so to nobody.",
)
def the_four_methods_are_implemented(trial: Trial) -> None:
    """Each is there, is not the protocol's own, can be called with one input, and is of the manager's kind."""
    manager = trial.subject.manager
    missing = [name for name in METHODS if not callable(getattr(manager, name, None)) or _is_protocols(manager, name)]
    expect(not missing, f"not implemented: {', '.join(missing)}")
    for name in METHODS:
        _call(trial, name)


def _call(trial: Trial, name: str) -> None:
    texts = ("text",) if name in {"store", "update"} else ()
    item = trial.about(trial.new_id(), *texts)
    awaited: list[bool] = []

    def method() -> Any:
        result = getattr(trial.subject.manager, name)(item)
        awaited.append(inspect.isawaitable(result))
        return result

    try:
        trial.call(method)
    except (NotImplementedError, TypeError) as error:
        # Of the errors that there may be these two mean that nobody wrote it; others are other requirements' concern.
        if isinstance(error, NotImplementedError) or not awaited:
            raise NotMetError(f"{name}() cannot be called with an input: {type(error).__name__}") from error
    except NotMetError:
        raise
    except Exception:  # noqa: BLE001 - it was called, which is what counts here
        if not awaited:  # and raised before it could be told whether it must be awaited
            return
    kinds = ("synchronous", "asynchronous")
    wrong = f"{name}() is {kinds[awaited[0]]} in a manager that is {kinds[trial.hooks.asynchronous]}"
    expect(awaited == [trial.hooks.asynchronous], wrong)


def _is_protocols(manager: object, name: str) -> bool:
    owner = next((cls for cls in type(manager).__mro__ if name in vars(cls)), None)
    return bool(getattr(owner, "_is_protocol", False))


@requirement(
    "RM-002",
    "Two managers are two objects, with no client in common, and no container that their use changes",
    why="What one test leaves behind in it (closed, filled) decides the next test. Sharing a server is fine.",
)
def each_manager_is_its_own(trial: Trial) -> None:
    """The factory makes something new each time."""
    subject, text = trial.subject, secrets.token_hex(8)
    name = trial.new_id()

    def use() -> None:
        with suppress(Exception):  # whether it can store is for other requirements to tell
            subject.store(trial.about(name, text))

    common = shared(subject.manager, trial.another().manager, use, (name, text))
    expect(not common, f"two managers of the factory share {', '.join(common)}")


@requirement(
    "RM-003",
    "A manager is true, also when nothing is stored",
    why="Code that asks `if manager:` would go on without a memory; the framework's agent asks so.",
)
def a_manager_is_true(trial: Trial) -> None:
    """An empty one has no length that makes it false."""
    expect(bool(trial.subject.manager), "bool(manager) is False")
