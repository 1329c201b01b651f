"""Hypothesis strategies for what goes into a memory manager.

Importing this module registers the strategies of the two DTOs, so that `st.from_type(IMemoryInput)`, and `@given` with
annotations alone, draw what a manager must accept. Whatever is drawn is accepted by every manager of ours and is read
back unchanged.

The DTOs keep texts out of their reprs, and so out of logs. In a test they are wanted: a failing example says in a note
what was drawn.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, get_args

from hypothesis import currently_in_test_context, note
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from remanence.errors import ConfigurationError
from remanence.interface import ConversationMemoryType, IMemoryInput, IWorkingMemory

__all__ = [
    "FrameworkInput",
    "FrameworkMemory",
    "FrameworkMemoryType",
    "Shape",
    "conversation_ids",
    "memory_inputs",
    "metadata",
    "register",
    "texts",
    "working_memories",
]

Shape = Literal["dto", "object", "dict"]
SHAPES: Final[tuple[Shape, ...]] = get_args(Shape)

_PLAIN_IDS: Final = ("a", "A", "b", "user:1", "*", "h\u00e9 \u4e16\u754c")
"""Few, so that several inputs are about one conversation; with what key patterns, cases and encodings trip over."""

_HARD: Final = ("e\u0301", " ", "\r\n", "\0", "\ufeff", '"', "\\", "\u2028", "\u0130", "\ud800", "\U0001f600")
"""What is composed, stripped, cut off, escaped or folded by those who mean well."""

_ANY_CHARACTER: Final = st.characters(codec=None, categories=None)
_LONG: Final = 20_000


class FrameworkMemoryType(Enum):
    """An enum as another package defines it: the values are ours, the class is not."""

    SHORT_TERM_MEMORY = "SHORT_TERM_MEMORY"
    LONG_TERM_MEMORY = "LONG_TERM_MEMORY"
    WORKING_MEMORY = "WORKING_MEMORY"


@dataclass
class FrameworkMemory:
    """A memory as another package defines it."""

    working_memory: str


@dataclass
class FrameworkInput:
    """An input as another package defines it: the attributes are ours, the class is not."""

    conversation_id: str
    memory_type: FrameworkMemoryType
    data: list[FrameworkMemory]
    metadata: dict[str, Any] | None = None


def conversation_ids() -> SearchStrategy[str]:
    """Return a strategy for conversation ids: mostly of a few, now and then any text that UTF-8 can encode."""
    few = st.sampled_from(_PLAIN_IDS)
    return _now_and_then(few, st.text(max_size=30))


def texts(*, max_size: int = _LONG) -> SearchStrategy[str]:
    """Return a strategy for the texts of memories: any Unicode, empty, lone surrogates, now and then long.

    Two surrogates that would make one character are drawn as that character: JSON knows no difference.

    Args:
        max_size: Characters at most.
    """
    short = st.text(_ANY_CHARACTER, max_size=min(max_size, 30)).map(_joined)
    if max_size >= 2:  # noqa: PLR2004 - the longest of the hard ones
        hard = st.lists(st.sampled_from(_HARD), min_size=1, max_size=min(max_size // 2, 4)).map("".join)
        short = short | hard
    if max_size <= 30:  # noqa: PLR2004 - as above
        return short
    long = st.builds(_repeated, st.text(_ANY_CHARACTER, min_size=1, max_size=8), st.integers(31, max_size))
    return _now_and_then(short, long.map(_joined))


def metadata() -> SearchStrategy[dict[str, Any]]:
    """Return a strategy for metadata: JSON objects, without NaN and infinities, which JSON does not have."""
    words = texts(max_size=10)
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    values = st.recursive(
        st.none() | st.booleans() | numbers | words,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
        max_leaves=5,
    )
    return st.dictionaries(words, values, max_size=3)


def working_memories() -> SearchStrategy[IWorkingMemory]:
    """Return a strategy for memories; registered for `IWorkingMemory`."""
    return texts().map(_working_memory)


def memory_inputs(*, shapes: Collection[Shape] = SHAPES, ids: SearchStrategy[str] | None = None) -> SearchStrategy[Any]:
    """Return a strategy for inputs that can be stored, and so be used for every operation.

    Args:
        shapes: Which of the accepted shapes: "dto" (`IMemoryInput`; the only one registered for that class), "object"
            (another package's class with the same attributes), "dict".
        ids: For the conversation ids, None for `conversation_ids()`.

    Raises:
        ConfigurationError: There is no such shape, or none was given.
    """
    unknown = [shape for shape in shapes if shape not in SHAPES]
    if unknown or not shapes or isinstance(shapes, str):
        message = f"shapes must be some of {', '.join(SHAPES)}, such as shapes=['dto']."
        raise ConfigurationError(message)
    names = conversation_ids() if ids is None else ids
    kinds = {"dict": _dicts, "dto": _dtos, "object": _objects}  # the plainest first: examples shrink towards it
    return st.one_of([kind(names) for shape, kind in kinds.items() if shape in shapes])


def register() -> None:
    """Register the strategies of the DTOs with Hypothesis; importing this module has done it."""
    st.register_type_strategy(IWorkingMemory, working_memories())
    st.register_type_strategy(IMemoryInput, memory_inputs(shapes=["dto"]))


def _dtos(ids: SearchStrategy[str]) -> SearchStrategy[IMemoryInput]:
    parts = st.tuples(ids, st.sampled_from(ConversationMemoryType), _several(texts()), _metadata_or_none())
    return parts.map(_dto)


def _objects(ids: SearchStrategy[str]) -> SearchStrategy[FrameworkInput]:
    return st.builds(
        FrameworkInput,
        conversation_id=ids,
        memory_type=st.sampled_from(FrameworkMemoryType),
        data=_several(st.builds(FrameworkMemory, texts())),
        metadata=_metadata_or_none(),
    )


def _dicts(ids: SearchStrategy[str]) -> SearchStrategy[dict[str, Any]]:
    kinds = st.sampled_from(ConversationMemoryType)
    optional = {"memory_type": kinds | kinds.map(str), "metadata": _metadata_or_none()}
    with_text = st.fixed_dictionaries({"conversation_id": ids, "working_memory": texts()}, optional=optional)
    items = st.fixed_dictionaries({"working_memory": texts()}) | working_memories()
    with_data = st.fixed_dictionaries({"conversation_id": ids, "data": _several(items)}, optional=optional)
    return with_text | with_data


def _metadata_or_none() -> SearchStrategy[dict[str, Any] | None]:
    return st.none() | metadata()


def _several(items: SearchStrategy[Any]) -> SearchStrategy[list[Any]]:
    """One item mostly; of several the last one counts."""
    return _now_and_then(st.lists(items, min_size=1, max_size=1), st.lists(items, min_size=2, max_size=3))


def _now_and_then(usual: SearchStrategy[Any], rare: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.integers(0, 15).flatmap(lambda n: rare if n == 15 else usual)  # noqa: PLR2004 - one in sixteen


def _repeated(part: str, size: int) -> str:
    return (part * (size // len(part) + 1))[:size]


def _joined(text: str) -> str:
    """Write two surrogates that make a character as that character."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _working_memory(text: str) -> IWorkingMemory:
    _say("a working memory", text)
    return IWorkingMemory(working_memory=text)


def _dto(parts: tuple[str, ConversationMemoryType, list[str], dict[str, Any] | None]) -> IMemoryInput:
    conversation_id, kind, data, extra = parts
    _say("a memory input", conversation_id, kind.value, data, extra)
    memories = [IWorkingMemory(working_memory=text) for text in data]
    return IMemoryInput(conversation_id=conversation_id, memory_type=kind, data=memories, metadata=extra)


def _say(what: str, *parts: object) -> None:
    if currently_in_test_context():
        note(f"{what}: {', '.join(map(ascii, parts))}")


register()
