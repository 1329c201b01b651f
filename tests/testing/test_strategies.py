"""The strategies: whatever they draw is accepted, and is read back as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from remanence import ConfigurationError, IMemoryInput, InMemoryManager, IWorkingMemory
from remanence.interface import coerce
from remanence.record import encode, key_for
from remanence.testing.strategies import (
    FrameworkInput,
    _joined,
    conversation_ids,
    memory_inputs,
    metadata,
    texts,
    working_memories,
)

QUICK = settings(max_examples=100, deadline=None, derandomize=True, database=None)
SEARCH = settings(max_examples=1_000, deadline=None, derandomize=True, database=None)
SLOW_TO_DRAW = settings(QUICK, suppress_health_check=[HealthCheck.too_slow])


@SLOW_TO_DRAW
@given(memory_inputs())
def test_every_input_is_stored_and_read_back_as_it_was(value: Any) -> None:
    """Each shape is accepted, and the text, the metadata and the very bytes are those that were drawn."""
    manager = InMemoryManager()
    item = coerce(value)
    assert item.data
    text = item.data[-1].working_memory
    key = manager.store(value)
    assert key == key_for("memory", item.memory_type.value, item.conversation_id)
    found = manager.retrieve(value)
    assert [memory.working_memory for memory in found] == [text]
    assert found.metadata == (item.metadata or {})
    assert found.raw == encode(text, item.metadata, found.created_at or "", found.last_update or "")


@QUICK
@given(texts())
def test_every_text_survives_json(text: str) -> None:
    """No text is drawn that JSON would give back as another one, such as two halves of a character."""
    assert json.loads(json.dumps(text)) == text
    assert len(text) <= 20_000


def test_two_halves_become_one_character() -> None:
    """Only those that make one; others stay as they are."""
    assert _joined("a\ud83d\ude00\ude00\ud83d") == "a\U0001f600\ude00\ud83d"


@QUICK
@given(texts(max_size=5))
def test_the_length_of_texts_can_be_limited(text: str) -> None:
    """No longer ones are drawn than asked for."""
    assert len(text) <= 5


@QUICK
@given(conversation_ids())
def test_every_id_can_be_encoded(conversation_id: str) -> None:
    """Lone surrogates, which no key can hold, are not drawn."""
    conversation_id.encode()


@QUICK
@given(metadata())
def test_metadata_are_json_objects(drawn: dict[str, Any]) -> None:
    """There is no NaN in them, and they come back equal."""
    assert json.loads(json.dumps(drawn, allow_nan=False)) == drawn


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        (texts(), lambda text: text == ""),
        (texts(), lambda text: any("\ud800" <= char <= "\udfff" for char in text)),
        (texts(), lambda text: any(char > "\uffff" for char in text)),
        (texts(), lambda text: len(text) > 5_000),
        (texts(), lambda text: "\0" in text),
        (conversation_ids(), lambda name: ":" in name),
        (conversation_ids(), lambda name: name not in {"a", "A", "b", "user:1", "*", "h\u00e9 \u4e16\u754c"}),
        (metadata(), lambda drawn: any(isinstance(value, list | dict) and value for value in drawn.values())),
        (metadata(), lambda drawn: any(isinstance(value, float) for value in drawn.values())),
        (memory_inputs(), lambda value: isinstance(value, FrameworkInput)),
        (memory_inputs(), lambda value: isinstance(value, IMemoryInput)),
        (memory_inputs(), lambda value: isinstance(value, dict) and "data" in value),
        (memory_inputs(), lambda value: isinstance(value, dict) and "memory_type" not in value),
        (memory_inputs(), lambda value: len(coerce(value).data or ()) > 1),
    ],
)
def test_what_is_hard_is_drawn(strategy: st.SearchStrategy[Any], wanted: Callable[[Any], bool]) -> None:
    """Each thing that managers trip over is among what a few hundred draws bring."""
    find(strategy, wanted, settings=settings(SEARCH, phases=[Phase.generate]))


def test_examples_shrink_to_the_plainest_values() -> None:
    """Where nothing matters, nothing is left: the shortest id, no text, no metadata, one memory."""
    plain = IMemoryInput(conversation_id="a", data=[IWorkingMemory(working_memory="")])
    assert find(memory_inputs(shapes=["dto"]), lambda _: True, settings=SEARCH) == plain
    assert find(memory_inputs(), lambda _: True, settings=SEARCH) == {"conversation_id": "a", "working_memory": ""}
    assert find(texts(), lambda text: len(text) > 2, settings=SEARCH) == "000"
    assert find(metadata(), bool, settings=SEARCH) == {"": None}


@QUICK
@given(value=st.from_type(IMemoryInput), memory=st.from_type(IWorkingMemory))
def test_the_dtos_are_registered(value: IMemoryInput, memory: IWorkingMemory) -> None:
    """`from_type` gives inputs that can be stored."""
    assert type(value) is IMemoryInput
    assert value.data
    assert type(memory) is IWorkingMemory


def test_a_type_is_registered_in_time_after_it_was_asked_for() -> None:
    """`st.from_type` at the top of a test module works also where the strategies are imported later."""
    program = """
from hypothesis import given, settings, strategies as st
from remanence import IMemoryInput
@settings(database=None)
@given(st.from_type(IMemoryInput))
def test(value): assert value.data
import remanence.testing.strategies
test()
print("fine")
"""
    assert _run(program).splitlines() == ["fine"]


def test_a_failing_example_says_what_was_drawn() -> None:
    """The DTOs hide their texts from logs; the report of a test shows them."""

    @settings(database=None, derandomize=True)
    @given(memory_inputs(shapes=["dto"]), working_memories())
    def failing(value: IMemoryInput, memory: IWorkingMemory) -> None:
        assert "x" not in memory.working_memory
        assert (value.data or [memory])[0].working_memory != "\u00e9"

    with pytest.raises(AssertionError) as failure:
        failing()
    said = "\n".join(failure.value.__notes__)
    assert "a memory input: 'a', 'SHORT_TERM_MEMORY', [" in said
    assert "a working memory: '" in said


@pytest.mark.parametrize("shapes", [[], ["json"], ["dto", "json"], "dto"])
def test_a_shape_that_does_not_exist_is_refused(shapes: Any) -> None:
    """Before anything is drawn, with the names that there are."""
    with pytest.raises(ConfigurationError, match="dto, object, dict"):
        memory_inputs(shapes=shapes)


@QUICK
@given(memory_inputs(shapes=["dict", "dto"], ids=st.sampled_from(["x", "y"])))
def test_ids_and_shapes_can_be_chosen(value: Any) -> None:
    """Only what was asked for is drawn."""
    assert coerce(value).conversation_id in {"x", "y"}
    assert not isinstance(value, FrameworkInput)


def _run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout
