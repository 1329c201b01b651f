"""Running requirements: each with a fresh manager, in a thread of its own, and in bounded time."""

from __future__ import annotations

import asyncio
import os
import sysconfig
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from remanence.testing.conformance.bounded import bounded
from remanence.testing.conformance.callers import Caller, caller_for
from remanence.testing.conformance.errors import FactoryError, NotMetError, NotTestableError
from remanence.testing.conformance.hooks import Hooks
from remanence.testing.conformance.requirement import Requirement, Result
from remanence.testing.conformance.trial import Trial

__all__ = ["place", "run", "run_all"]

_OURS: Final = str(Path(__file__).parent)
_PYTHONS: Final = sysconfig.get_paths()["stdlib"]


def run(requirement: Requirement, hooks: Hooks) -> Result:
    """Try a requirement on a fresh manager.

    Args:
        requirement: Skipped where `hooks` do not declare its capabilities.
        hooks: Make the manager.

    Raises:
        BaseException: What is no Exception: an interrupt, or a test runner's own way to skip.
    """
    undeclared = [name for name in requirement.capabilities if name not in hooks.capabilities]
    if undeclared:
        return Result(requirement, "skipped", f"not declared: {', '.join(undeclared)}")
    limit = hooks.time_limit + requirement.extra_seconds
    callers: list[Caller] = []
    is_over, error = bounded(lambda: _try(requirement, hooks, callers), limit)
    if not is_over:
        threading.Thread(target=_give_up, args=(callers,), daemon=True).start()
        return Result(requirement, "failed", f"it did not end within {limit:g} s: a call hangs", hangs=True)
    # These two are BaseExceptions too, but here they are the manager's doing.
    if error is not None and not isinstance(error, Exception | asyncio.CancelledError | SystemExit):
        raise error
    return _result(requirement, error)


def run_all(requirements: Iterable[Requirement], hooks: Hooks) -> Iterator[Result]:
    """Try each requirement, one after the other, as the results are asked for."""
    for requirement in requirements:
        yield run(requirement, hooks)


def _try(requirement: Requirement, hooks: Hooks, callers: list[Caller]) -> None:
    caller = caller_for(asynchronous=hooks.asynchronous)
    callers.append(caller)
    trial = Trial(hooks, caller)
    try:
        try:
            requirement.check(trial)
            trial.tidy()
        except BaseException:
            with suppress(Exception, SystemExit):
                trial.tidy()
                trial.close()
            raise
        _close(trial)
    finally:
        caller.close()


def _close(trial: Trial) -> None:
    try:
        trial.close()
    except (Exception, SystemExit) as error:
        raise NotMetError(f"closing the manager raised {type(error).__name__}{place(error)}") from error


def _give_up(callers: list[Caller]) -> None:
    for caller in callers:
        caller.close()


def _result(requirement: Requirement, error: BaseException | None) -> Result:
    if error is None:
        return Result(requirement, "passed")
    if isinstance(error, NotTestableError):
        return Result(requirement, "skipped", str(error), error)
    if isinstance(error, NotMetError | FactoryError):
        return Result(requirement, "failed", str(error), error)
    # The message of somebody else's error may quote what it likes: the class and the place must do.
    return Result(requirement, "failed", f"{type(error).__name__} was raised{place(error)}", error)


def _is_theirs(file: str) -> bool:
    is_pythons = file.startswith((f"{_PYTHONS}{os.sep}", "<")) and "site-packages" not in file
    return not is_pythons and not file.startswith(_OURS)


def place(error: BaseException, *, innermost: bool = False) -> str:
    """Return " in FILE, line N" for where an error came from, or nothing where that cannot be told.

    Args:
        error: With its traceback; Python's own files and the kit's are passed over.
        innermost: The innermost place at all, instead of the innermost in the file that the kit called.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame.filename)]
    if not frames:
        return ""
    last = frames[-1] if innermost else [frame for frame in frames if frame.filename == frames[0].filename][-1]
    return f" in {Path(last.filename).name}, line {last.lineno}"
