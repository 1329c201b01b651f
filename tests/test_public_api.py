"""The package's face: its names, its errors, and what it does not drag in."""

from __future__ import annotations

import copy
import importlib
import multiprocessing
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import remanence
from remanence import errors

INSTANCES: list[remanence.RemanenceError] = [
    errors.ConfigurationError("m"),
    errors.PolicyOrderError("m"),
    errors.InvalidInputError("m"),
    errors.InvalidMetadataError("m"),
    errors.MemoryTooLargeError(20, 10),
    errors.CorruptRecordError("d" * 40, b"raw"),
    errors.VersionConflictError(b"held"),
    errors.UnavailableError("m"),
    errors.CircuitOpenError("connection", 2.5),
    errors.DeadlineExceededError(1.5),
    errors.LateWriteError(17),
    errors.AttemptTimeoutError(),
    errors.MemoryUnavailableError(),
    errors.JournalError("m"),
    errors.JournalFullError("max_entries"),
    errors.JournalUnavailableError("m"),
    errors.ManagerClosedError(),
    errors.RemanenceError("m"),
]


def test_the_public_names_are_sorted_and_there() -> None:
    """`__all__` is in order, holds no name twice, and each can be had."""
    assert remanence.__all__ == sorted(set(remanence.__all__))
    for name in remanence.__all__:
        assert getattr(remanence, name) is not None
    assert not [name for name in remanence.__all__ if name.startswith("_")]


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """The lazy import of the Redis manager does not hide misspelt names."""
    with pytest.raises(AttributeError, match="RedisMemoryManager"):
        _ = remanence.RedisMemoryManager
    assert not hasattr(remanence, "unheard_of")


def test_the_names_of_the_frameworks_documentation_are_there() -> None:
    """A program needs to change only its import lines."""
    namespace: dict[str, object] = {}
    exec("from remanence import *", namespace)  # noqa: S102 - a star import, which no function may hold
    wanted = {
        "RedisWorkingMemoryManager",
        "InMemoryManager",
        "IMemoryInput",
        "IWorkingMemory",
        "ConversationMemoryType",
    }
    assert wanted | {"IMemoryManager", "create_memory_manager"} <= namespace.keys()
    assert set(remanence.__all__) <= namespace.keys()


def test_importing_the_package_does_not_import_redis() -> None:
    """A program with another store does not pay for redis-py, until it asks for the Redis manager."""
    program = (
        "import sys, remanence; early = 'redis' in sys.modules\n"
        "remanence.RedisWorkingMemoryManager\n"
        "print(early, 'redis' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split() == ["False", "True"]


def test_each_error_stands_in_the_tree_and_in_the_example_list() -> None:
    """All errors are one tree, known by their public module, and every one is tried below."""
    kinds = {getattr(errors, name) for name in errors.__all__}
    assert {type(error) for error in INSTANCES} == kinds
    for kind in kinds:
        assert issubclass(kind, errors.RemanenceError)
        assert kind.__module__ == "remanence"
        assert getattr(remanence, kind.__name__) is kind
        assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("error", INSTANCES, ids=lambda error: type(error).__name__)
def test_errors_go_to_other_processes(error: remanence.RemanenceError) -> None:
    """A pickled or copied error is the same error, message and attributes."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own
        assert type(again) is type(error)
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert str(copy.copy(error)) == str(error)


def _fail(size: int) -> None:
    raise errors.MemoryTooLargeError(size, 10)


def test_an_error_comes_through_a_pool_of_processes() -> None:
    """A worker's error reaches its caller as itself; one that cannot be unpickled would wedge the pool."""
    with (
        multiprocessing.get_context("spawn").Pool(1) as pool,
        pytest.raises(errors.MemoryTooLargeError, match="20 bytes") as caught,
    ):
        pool.apply_async(_fail, (20,)).get(timeout=20)
    assert (caught.value.size, caught.value.limit) == (20, 10)


def test_errors_say_what_to_do() -> None:
    """Every message that we write is a sentence or more, ended as one."""
    for error in INSTANCES:
        if str(error) != "m":
            assert str(error).endswith("."), type(error).__name__


def test_every_module_opens_with_what_it_is_for() -> None:
    """Each module can be imported by itself and says what it is for."""
    for info in pkgutil.walk_packages(remanence.__path__, "remanence."):
        module = importlib.import_module(info.name)
        assert (module.__doc__ or "").strip(), info.name


def test_the_package_is_typed_and_has_a_version() -> None:
    """Type checkers find the marker, and programs the version."""
    assert (Path(remanence.__file__).parent / "py.typed").exists()
    assert remanence.__version__.count(".") == 2


def test_the_package_leaves_logging_alone() -> None:
    """Importing adds no handler and sets no level."""
    program = (
        "import logging, remanence; remanence.RedisWorkingMemoryManager\n"
        "print([logging.getLogger(name).level or logging.getLogger(name).handlers for name in ('remanence', 'redis')],"
        " logging.root.handlers, logging.root.level)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[[], []] [] 30"
