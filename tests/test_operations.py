"""The public operations: what they refuse, before anything is written, and what batches give back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from remanence import (
    AsyncInMemoryManager,
    ConfigurationError,
    IMemoryInput,
    InMemoryManager,
    InvalidInputError,
    InvalidMetadataError,
    ManagerClosedError,
    Memories,
    MemoryTooLargeError,
    Receipt,
    RedisWorkingMemoryManager,
    RemanenceError,
    resilient,
)
from remanence.flow import Call
from remanence.managers.in_memory import InMemoryBackend
from remanence.managers.operate import operate
from remanence.operations import ANY_VERSION, BATCH_BYTES, BATCH_ITEMS, chunks, update_call
from tests.support import case_id, run

CANARY = "canary-7f3a"


def item(text: str = "text", conversation_id: str = "c", **more: Any) -> dict[str, Any]:
    """Return an input."""
    return {"conversation_id": conversation_id, "working_memory": text, **more}


@pytest.fixture(params=["memory", "async memory", "redis", "resilient"])
def manager(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Every kind of manager, with a small limit."""
    options: dict[str, Any] = {"max_memory_bytes": 2_000}
    with ExitStack() as stack:
        if request.param == "memory":
            yield InMemoryManager(**options)
        elif request.param == "async memory":
            yield AsyncInMemoryManager(**options)
        else:
            url = request.getfixturevalue("redis_url")
            bare = stack.enter_context(RedisWorkingMemoryManager(url, timeout=10.0, **options))
            yield bare if request.param == "redis" else stack.enter_context(resilient(bare))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (item(CANARY, f"{CANARY}\ud800"), InvalidInputError),
        (item(CANARY, metadata={CANARY: float("nan")}), InvalidMetadataError),
        (item(CANARY, metadata={"x": {CANARY}}), InvalidMetadataError),
        (item(CANARY * 200), MemoryTooLargeError),
        (item(CANARY, metadata={"x": CANARY * 200}), MemoryTooLargeError),
        (item(CANARY, memory=CANARY), InvalidInputError),
        ({"conversation_id": CANARY}, InvalidInputError),
        ({"conversation_id": CANARY, "data": []}, InvalidInputError),
        ({"working_memory": CANARY}, InvalidInputError),
        (IMemoryInput(conversation_id=CANARY), InvalidInputError),
        (SimpleNamespace(conversation_id=CANARY, data=[CANARY]), InvalidInputError),
        (CANARY, InvalidInputError),
    ],
    ids=[
        "id",
        "nan",
        "set",
        "long",
        "long metadata",
        "field",
        "no data",
        "empty data",
        "no id",
        "dto",
        "object",
        "text",
    ],
)
@pytest.mark.parametrize("operation", ["store", "update", "store_many"])
def test_bad_input_is_refused_before_anything_is_written(
    manager: Any, operation: str, value: Any, error: type[RemanenceError]
) -> None:
    """Each has an error of its own that says so, quotes nothing, and leaves the store as it was."""
    run(manager.store(item("before")))
    arguments: Any = [item("after"), value] if operation == "store_many" else value
    with pytest.raises(error, match="Nothing was written") as caught:
        run(getattr(manager, operation)(arguments))
    assert type(caught.value) is error
    assert isinstance(caught.value, ValueError)
    assert CANARY not in f"{caught.value} {caught.value!r}"
    assert [memory.working_memory for memory in run(manager.retrieve(item()))] == ["before"]


@pytest.mark.parametrize("operation", ["retrieve", "delete", "mutate", "retrieve_many", "delete_many"])
def test_an_id_that_cannot_be_encoded_is_refused_everywhere(manager: Any, operation: str) -> None:
    """Not only writes of texts need a key."""
    value = {"conversation_id": "\udfff"}
    arguments = [[value]] if operation.endswith("many") else [value, str] if operation == "mutate" else [value]
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        run(getattr(manager, operation)(*arguments))


def test_a_revision_that_grows_beyond_the_limit_is_refused(manager: Any) -> None:
    """The limit holds for the merged record too, and the stored one stays."""
    run(manager.store(item("x" * 900, metadata={"a": "y" * 800})))
    with pytest.raises(MemoryTooLargeError):
        run(manager.update(item("x" * 900, metadata={"b": "y" * 800})))
    assert run(manager.retrieve(item())).metadata == {"a": "y" * 800}


@pytest.mark.parametrize(
    "conversation_id", ["", " ", "a:b:c", "*", "h\u00e9\U0001f600", "\x00\r\n", "x" * 5_000, "{tag}"]
)
def test_any_id_that_can_be_encoded_will_do(manager: Any, conversation_id: str) -> None:
    """Ids are texts, not patterns; each names its own memory."""
    run(manager.store(item("other", "a")))
    assert run(manager.store(item("text", conversation_id))) == f"memory:WORKING_MEMORY:{conversation_id}"
    assert run(manager.retrieve(item("", conversation_id)))[0].working_memory == "text"
    assert run(manager.delete(item("", conversation_id))).outcome == "committed"
    assert run(manager.retrieve(item("", "a")))[0].working_memory == "other"


@pytest.mark.parametrize("text", ["", "\ud800", "\x00", "\U0001f469\u200d\U0001f52c", "\ufeff\u2028", "e\u0301" * 50])
def test_any_text_comes_back_as_it_was(manager: Any, text: str) -> None:
    """Empty, lone surrogates, combining marks: nothing is normalised."""
    run(manager.store(item(text)))
    assert run(manager.retrieve(item()))[0].working_memory == text
    run(manager.update(item(text + text)))
    assert run(manager.retrieve(item()))[0].working_memory == text + text


def test_what_the_caller_changes_later_is_not_what_was_stored(manager: Any) -> None:
    """Nothing of the caller's is kept: neither what went in nor what came out."""
    metadata: dict[str, Any] = {"tags": ["a"]}
    value = item("text", metadata=metadata)
    run(manager.store(value))
    metadata["tags"].append("b")
    answer = run(manager.retrieve(item()))
    assert answer.metadata == {"tags": ["a"]}
    answer.metadata["tags"].append("c")
    answer.clear()
    again = run(manager.retrieve(item()))
    assert (again.metadata, again[0].working_memory) == ({"tags": ["a"]}, "text")


def test_the_metadata_of_an_update_under_way_is_its_own() -> None:
    """A caller that changes its dict while the update waits for an attempt changes nothing of it."""
    metadata: dict[str, Any] = {"tags": ["a"]}
    call = update_call(InMemoryManager(), IMemoryInput(**_dto_fields(metadata)), ANY_VERSION)
    metadata["tags"].append("b")
    metadata["more"] = 1
    assert call.metadata == {"tags": ["a"]}


def _dto_fields(metadata: dict[str, Any]) -> dict[str, Any]:
    return {"conversation_id": "c", "data": [{"working_memory": "t"}], "metadata": metadata}


class TestBatches:
    """store_many, retrieve_many, delete_many."""

    def test_each_item_has_its_answer_in_order(self, manager: Any) -> None:
        """Receipts, memories and what is missing stand where they were asked for."""
        values = [item(f"text {number}", f"c{number}") for number in range(5)]
        receipts = run(manager.store_many(values))
        assert receipts == [f"memory:WORKING_MEMORY:c{number}" for number in range(5)]
        assert {receipt.outcome for receipt in receipts} == {"committed"}
        answers = run(manager.retrieve_many([*values, item("", "nothing")]))
        assert [[memory.working_memory for memory in answer] for answer in answers] == [
            *([f"text {number}"] for number in range(5)),
            [],
        ]
        assert [answer.version for answer in answers[:5]] == [receipt.version for receipt in receipts]
        deleted = run(manager.delete_many([values[1], item("", "nothing"), values[3]]))
        assert [receipt.outcome for receipt in deleted] == ["committed", "missing", "committed"]
        assert [bool(answer) for answer in run(manager.retrieve_many(values))] == [True, False, True, False, True]

    @pytest.mark.parametrize("operation", ["store_many", "retrieve_many", "delete_many"])
    def test_an_empty_batch_is_an_empty_answer(self, manager: Any, operation: str) -> None:
        """Nothing in, nothing out."""
        assert run(getattr(manager, operation)([])) == []

    def test_of_two_items_for_one_memory_the_later_stays(self, manager: Any) -> None:
        """A batch is carried out in its order."""
        assert len(run(manager.store_many([item("one"), item("two")]))) == 2
        assert run(manager.retrieve(item()))[0].working_memory == "two"

    def test_any_iterable_will_do(self, manager: Any) -> None:
        """A generator is a batch as well."""
        assert run(manager.store_many(item("t", name) for name in "ab")) == [
            "memory:WORKING_MEMORY:a",
            "memory:WORKING_MEMORY:b",
        ]

    def test_large_batches_go_out_in_chunks(self, manager: Any) -> None:
        """2 500 items come back as 2 500 answers."""
        values = [item("text", f"c{number}") for number in range(2_500)]
        receipts = run(manager.store_many(values))
        assert len(receipts) == 2_500
        assert all(type(receipt) is Receipt for receipt in receipts)
        answers = run(manager.retrieve_many(values))
        assert len(answers) == 2_500
        assert all(answer and type(answer) is Memories for answer in answers)
        assert {receipt.outcome for receipt in run(manager.delete_many(values))} == {"committed"}
        assert not any(run(manager.retrieve_many(values)))


def test_a_chunk_is_limited_in_items_and_bytes() -> None:
    """Neither 1 000 items nor 4 MiB are exceeded, unless one item is larger by itself."""
    small = [Call("store", raw=b"x") for _ in range(2 * BATCH_ITEMS + 1)]
    assert [len(chunk) for chunk in chunks(small)] == [BATCH_ITEMS, BATCH_ITEMS, 1]
    half = [Call("store", raw=b"x" * (BATCH_BYTES // 2)) for _ in range(5)]
    assert [len(chunk) for chunk in chunks(half)] == [2, 2, 1]
    huge = [Call("store", raw=b"x" * (BATCH_BYTES + 1)), Call("store", raw=b"x"), Call("store", raw=b"x")]
    assert [len(chunk) for chunk in chunks(huge)] == [1, 2]
    assert list(chunks([])) == []


def test_a_failing_chunk_does_not_hide_what_the_others_did(redis_url: str) -> None:
    """Each item of the failed chunk has the error; the receipts of the chunks before and after it are there."""
    values = [item("text", f"c{number}") for number in range(2_500)]
    with RedisWorkingMemoryManager(redis_url, timeout=10.0) as manager:
        perform: Callable[[Call], Any] = manager.perform
        failure = redis.ConnectionError("planted")
        performed: list[int] = []

        def fail_second(call: Call) -> Any:
            performed.append(len(call.items))
            if len(performed) == 2:
                raise failure
            return perform(call)

        manager._submit = fail_second  # type: ignore[method-assign]
        results = manager.store_many(values)
    assert performed == [1_000, 1_000, 500]
    assert [index for index, result in enumerate(results) if result is failure] == list(range(1_000, 2_000))
    assert sum(isinstance(result, Receipt) for result in results) == 1_500


def test_a_batch_on_a_dead_server_is_a_batch_of_errors(private_url: str) -> None:
    """The bare manager answers for each item; a closed one refuses the call."""
    with RedisWorkingMemoryManager(private_url) as manager:
        for act in (manager.store_many, manager.retrieve_many, manager.delete_many):
            results = act([item(), item()])
            assert [type(result) for result in results] == [redis.ConnectionError] * 2
    closed = resilient(InMemoryManager())
    closed.close()
    with pytest.raises(ManagerClosedError):
        closed.store_many([item()])


@pytest.fixture
def private_url() -> str:
    """A URL at which nobody listens."""
    from remanence.lab.ports import choose_port  # noqa: PLC0415 - one use

    return f"redis://127.0.0.1:{choose_port()}/0"


@pytest.mark.parametrize("make", [InMemoryManager, AsyncInMemoryManager, RedisWorkingMemoryManager])
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"ttl": 0}, "ttl"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"ttl": float("inf")}, "ttl"),
        ({"ttl": "60"}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"max_memory_bytes": 0}, "max_memory_bytes"),
        ({"max_memory_bytes": 0.5}, "max_memory_bytes"),
        ({"max_memory_bytes": None}, "max_memory_bytes"),
        ({"key_prefix": ""}, "key_prefix"),
        ({"key_prefix": 5}, "key_prefix"),
        ({"key_prefix": "\ud800"}, "key_prefix"),
        ({"tll": 60}, "tll"),
        ({"ttl_seconds": 60, "db": 1}, "db, ttl_seconds"),
    ],
)
def test_a_wrong_setting_is_refused_at_construction(make: Any, options: dict[str, Any], names: str) -> None:
    """A number out of range and an unknown keyword are named; nothing is swallowed."""
    arguments = ["redis://127.0.0.1:1/0"] if make is RedisWorkingMemoryManager else []
    with pytest.raises(ConfigurationError, match=names):
        make(*arguments, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": None},
        {"connect_timeout": -1},
        {"redis_url": "redis://127.0.0.1:1/0"},
        {"client": object()},
        {"prefix": ""},
    ],
    ids=case_id,
)
def test_settings_of_the_redis_manager_are_checked(options: dict[str, Any]) -> None:
    """Its own settings too, and two ways of saying where Redis is."""
    with pytest.raises(ConfigurationError):
        RedisWorkingMemoryManager("redis://127.0.0.1:1/0", **options)


@pytest.mark.parametrize(
    "url",
    [
        f"http://{CANARY}@localhost:6379",
        f"localhost:6379/{CANARY}",
        f"{CANARY}",
        f"redis://:{CANARY}@localhost:port/0",
        f"redis://:{CANARY}@localhost:99999/0",
        f"redis://:{CANARY}@[::1/0",
        f"redis://:{CANARY}@localhost:6379/one",
        f"redis://:{CANARY}@localhost:6379/-1",
        f"redis://:{CANARY}@localhost:6379/0?{CANARY}=1",
        f"redis://:{CANARY}@localhost:6379/0?socket_timeout={CANARY}",
        f"redis://:{CANARY}@localhost:6379/0?db={CANARY}",
        f"redis://:{CANARY}/word@localhost:6379/0",
        f"rediss//:{CANARY}@localhost",
        f"unix://?db={CANARY}",
        f"redis+cluster://:{CANARY}@localhost:6379",
        17,
        CANARY.encode(),
    ],
    ids=range(17),
)
def test_a_wrong_url_is_refused_without_being_quoted(url: Any) -> None:
    """Whatever is wrong with it, the message says how to write one, and not what it was: it may hold a password."""
    with pytest.raises(ConfigurationError, match="redis://") as caught:
        RedisWorkingMemoryManager(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379/0",
        "redis://localhost:6379/1/",
        "redis://:p%40ss@localhost:6379/1",
        "redis://user:pass@[::1]:6379/1",
        "rediss://user:pass@localhost:6380/1",
        "rediss://localhost:6380/1?ssl_cert_reqs=none",
        "redis://localhost:6379?db=3",
        "unix:///tmp/redis.sock?db=1",
        "unix://user:pass@/tmp/redis.sock",
    ],
)
def test_urls_that_redis_py_knows_are_taken(url: str) -> None:
    """The documentation's URLs and redis-py's other forms make a manager, without a connection."""
    with RedisWorkingMemoryManager(url) as manager:
        assert "pass" not in repr(manager)
        assert (
            "BoundedConnection" in str(manager.redis_client.connection_pool.make_connection())
            or "ss" in url
            or "unix" in url
        )


def test_a_manager_shows_neither_url_nor_password() -> None:
    """Neither repr nor the log of making and closing one has them."""
    with RedisWorkingMemoryManager(f"redis://:{CANARY}@{CANARY}.example:6379/0") as manager:
        assert CANARY not in f"{manager} {manager!r} {manager.backend!r}"


def test_a_backend_that_asks_for_io_is_a_mistake() -> None:
    """The in-memory operations carry out a call without a single step."""
    manager = InMemoryManager()
    assert isinstance(manager.backend, InMemoryBackend)
    with pytest.raises(StopIteration) as stop:
        next(operate(manager.backend, Call("retrieve", "memory:WORKING_MEMORY:c")))
    assert stop.value.value == []
