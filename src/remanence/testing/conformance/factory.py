"""The hooks of the command line: a factory named as `module:factory`, and a proxy that takes a Redis away."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from remanence.classify import is_outage
from remanence.testing.conformance.bounded import bounded
from remanence.testing.conformance.callers import caller_for
from remanence.testing.conformance.errors import CannotRunError, FactoryError, MustBeAwaitedError
from remanence.testing.conformance.hooks import Hooks
from remanence.testing.conformance.runner import place
from remanence.testing.conformance.trial import METHODS, Trial

__all__ = ["FactoryHooks", "load_factory"]

_NO_LOOP: Final = ("no running event loop", "There is no current event loop")


def load_factory(name: str) -> Callable[..., Any]:
    """Return the factory that `module:factory` names; a class is one, and so is `module:Class.method`.

    Raises:
        CannotRunError: There is none.
    """
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise CannotRunError("the factory is named as MODULE:FACTORY, such as mypackage.memory:make_manager.")
    here = str(Path.cwd())
    if here not in sys.path:  # as for other tools that are given modules by name
        sys.path.insert(0, here)
    found: Any = _module(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise CannotRunError(f"the module {module_name} was imported, but has no {path}.")
        found = getattr(found, part)
    if not callable(found):
        raise CannotRunError(f"{name} is a {type(found).__name__}, which cannot be called: name a function or a class.")
    factory: Callable[..., Any] = found
    return factory


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() too, and a test runner's way to skip
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise CannotRunError(
                f"there is no module {error.name} here: is it installed, or in this directory?"
            ) from error
        missing = f" ({error.name} is not installed)" if isinstance(error, ModuleNotFoundError) else ""
        what = f"{type(error).__name__} was raised{place(error, innermost=True)}{missing}"
        raise CannotRunError(f"the module {name} cannot be imported: {what}.") from error


class FactoryHooks(Hooks):
    """Makes managers with a factory; a context manager that ends the proxy which `faults` needs.

    Args:
        factory: Called once for each manager, with the URL where there is one, and with `ttl=` for the capability ttl.
        url: Handed to the factory; None calls it without one.
        capabilities: What is declared.
        time_limit: Seconds that one requirement may take.

    Raises:
        CannotRunError: The factory does not take what it would be given, or the store cannot be taken away.
    """

    def __init__(
        self,
        factory: Callable[..., Any],
        *,
        url: str | None = None,
        capabilities: Collection[str] = (),
        time_limit: float = Hooks.time_limit,
    ) -> None:
        self._factory = factory
        self._url = url
        self.capabilities = frozenset(capabilities)  # type: ignore[misc]
        self.time_limit = time_limit
        self._proxy: Any = None
        self._stack = ExitStack()
        self._check_signature()
        if "faults" in self.capabilities and not (url or "").startswith("redis://"):
            raise CannotRunError(
                "faults needs --url redis://host:port/db: here only a Redis can be taken away. For another store "
                "override outage() in a subclass of MemoryManagerConformance."
            )

    def __enter__(self) -> Self:
        if "faults" in self.capabilities:
            from remanence.lab.errors import LabError  # noqa: PLC0415 - the lab is needed by this alone
            from remanence.lab.fault_proxy import FaultProxy  # noqa: PLC0415

            try:
                self._proxy = self._stack.enter_context(FaultProxy(self._url or ""))
            except (LabError, ValueError) as error:
                raise CannotRunError(f"no proxy can be put before the store ({type(error).__name__}).") from error
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    # The hooks --------------------------------------------------------------------------------------------------------

    def make_manager(self) -> Any:
        """Call the factory."""
        return self._factory(*self._arguments())

    def make_manager_with_ttl(self, seconds: int) -> Any:
        """Call the factory with a time to live."""
        return self._factory(*self._arguments(), ttl=seconds)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Refuse connects and reset connections."""
        self._proxy.refuse()
        self._proxy.reset()
        try:
            yield
        finally:
            self._proxy.heal()

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Swallow what is sent."""
        self._proxy.blackhole()
        try:
            yield
        finally:
            self._proxy.heal()

    # Before anything is tested ----------------------------------------------------------------------------------------

    def probe(self) -> None:
        """Make one manager and ask it for a memory that nobody stored; find out whether it must be awaited.

        Raises:
            CannotRunError: There is no manager, or its store does not answer.
        """
        self.asynchronous = _must_be_awaited(self._factory)
        is_over, error = bounded(self._try, self.time_limit)
        if not self.asynchronous and is_over and _is_for_asyncio(error):
            self.asynchronous = True
            is_over, error = bounded(self._try, self.time_limit)
        if not is_over:
            raise CannotRunError(f"the factory, or a first retrieve, did not end within {self.time_limit:g} s.")
        if error is None:
            return
        cause = error.__cause__ if isinstance(error, FactoryError) and error.__cause__ else error
        if isinstance(cause, CannotRunError | KeyboardInterrupt):
            raise cause
        what = f"{type(cause).__name__} was raised{place(cause)}"
        raise FactoryError(f"the factory made no manager: {what}.") from cause

    def _try(self) -> None:
        """Look at a manager; MustBeAwaitedError where it turns out to be an asynchronous one."""
        caller = caller_for(asynchronous=self.asynchronous)
        trial = Trial(self, caller)
        try:
            manager = trial.subject.manager
            try:
                self._ask(trial)
            except Exception as error:
                if not self.asynchronous and _is_for_asyncio(error):
                    self._close_in_a_loop(manager)
                else:
                    _close(trial)
                raise
            _close(trial)
        finally:
            caller.close()

    def _ask(self, trial: Trial) -> None:
        if not self.asynchronous and _is_async(trial.subject.manager):
            raise MustBeAwaitedError("it has coroutine functions")
        try:
            answer = trial.subject.retrieve(trial.about(trial.new_id()))
        except Exception as error:
            if _is_for_asyncio(error) and not self.asynchronous:
                raise
            if is_outage(error):
                raise CannotRunError(f"the store does not answer ({type(error).__name__}). Is it running?") from error
            return  # the requirements will tell
        if getattr(answer, "degraded", False):
            raise CannotRunError("the store does not answer: the manager says that its answer is degraded.")

    def _close_in_a_loop(self, manager: Any) -> None:
        """Close what was made outside of a loop, only to be looked at."""
        self.asynchronous = True
        caller = caller_for(asynchronous=True)
        try:
            with suppress(Exception, SystemExit):
                caller.call(self.close_manager, manager)
        finally:
            self.asynchronous = False
            caller.close()

    def _arguments(self) -> tuple[str, ...]:
        if self._url is None:
            return ()
        return (self._url if self._proxy is None else self._proxy.url,)

    def _check_signature(self) -> None:
        try:
            signature = inspect.signature(self._factory)
        except (TypeError, ValueError):
            return  # it does not tell, so calling it must show
        places = ("an URL",) if self._url is not None else ()
        if not _binds(signature, *places):
            raise CannotRunError(
                "the factory cannot be called with the URL alone: leave --url out, or let it take one argument."
                if places
                else "the factory cannot be called without arguments: give it its URL with --url."
            )
        if "ttl" in self.capabilities and not _binds(signature, *places, ttl=1):
            raise CannotRunError("ttl needs a factory that takes the seconds as ttl=.")


def _binds(signature: inspect.Signature, *args: Any, **options: Any) -> bool:
    try:
        signature.bind(*args, **options)
    except TypeError:
        return False
    return True


def _must_be_awaited(factory: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(factory) or (isinstance(factory, type) and _is_async(factory))


def _is_async(manager: object) -> bool:
    return any(inspect.iscoroutinefunction(getattr(manager, name, None)) for name in METHODS)


def _is_for_asyncio(error: BaseException | None) -> bool:
    """Whether what was tried as synchronous returned an awaitable, or asked for the running event loop."""
    cause = error.__cause__ if isinstance(error, FactoryError) else error
    if isinstance(cause, MustBeAwaitedError):
        return True
    return isinstance(cause, RuntimeError) and str(cause).startswith(_NO_LOOP)


def _close(trial: Trial) -> None:
    with suppress(Exception, SystemExit):  # how it closes is for the requirements to tell
        trial.close()
