"""Capability `batches`: store_many, retrieve_many and delete_many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from remanence.testing.conformance.errors import NotMetError
from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.trial import Trial

__all__ = [
    "a_batch_deletes_all_of_its_memories",
    "a_batch_with_an_invalid_item_writes_nothing",
    "a_large_batch_is_complete_and_in_order",
    "an_empty_batch_has_no_answers",
    "of_two_items_for_a_conversation_the_later_one_stays",
    "there_is_one_answer_for_each_item_in_order",
]

_CAPABILITIES: Final = ("batches",)
_LARGE: Final = 1_100


@requirement(
    "RM-301",
    "There is one answer for each item of a batch, in order; for a missing memory it is an empty list",
    why="Callers match answers with what they asked for by their places.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-011", "RM-050"),
)
def there_is_one_answer_for_each_item_in_order(trial: Trial) -> None:
    """Of stores and of reads; single calls see the same memories."""
    names = [trial.new_id() for _ in range(5)]
    missing = trial.new_id()
    receipts = _many(trial, "store_many", [trial.about(name, f"text {n}") for n, name in enumerate(names)])
    expect(all(isinstance(each, str) for each in receipts), "store_many() gave something else than keys")
    expect(trial.subject.held(trial.about(names[0])) == "text 0", "what a batch stored retrieve() does not find")
    asked = [*reversed(names), missing]
    answers = _many(trial, "retrieve_many", [trial.about(name) for name in asked])
    expect(_texts(answers) == [f"text {n}" for n in (4, 3, 2, 1, 0)] + [None], "answers are not in the items' order")
    expect(answers[-1] == [], "the answer for a missing memory is not an empty list")


@requirement(
    "RM-302",
    "A batch deletes all of its memories; a missing one is no error",
    why="Clean-up is done in batches, and repeated.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-040", "RM-041", "RM-050"),
)
def a_batch_deletes_all_of_its_memories(trial: Trial) -> None:
    """And no others."""
    gone, kept = [trial.new_id() for _ in range(3)], trial.new_id()
    for name in (*gone, kept):
        trial.subject.store(trial.about(name, "text"))
    results = _many(trial, "delete_many", [trial.about(name) for name in (*gone, trial.new_id())])
    expect(not any(isinstance(each, Exception) for each in results), "deleting a missing memory is an error in a batch")
    expect(all(trial.subject.held(trial.about(name)) is None for name in gone), "not all of its memories are gone")
    expect(trial.subject.held(trial.about(kept)) == "text", "a memory that was not in the batch is gone")


@requirement(
    "RM-303",
    "An empty batch has no answers, and is no error",
    why="Whoever has nothing to do should not need to ask first.",
    capabilities=_CAPABILITIES,
)
def an_empty_batch_has_no_answers(trial: Trial) -> None:
    """For all three."""
    for name in ("store_many", "retrieve_many", "delete_many"):
        _many(trial, name, [])


@requirement(
    "RM-304",
    "Of two items for one conversation the later one stays",
    why="A batch is as if its items had been stored one by one.",
    capabilities=_CAPABILITIES,
    needs=("RM-012", "RM-301"),
)
def of_two_items_for_a_conversation_the_later_one_stays(trial: Trial) -> None:
    """Wherever they stand in it."""
    name, between = trial.new_id(), trial.new_id()
    items = [trial.about(name, "first"), trial.about(between, "between"), trial.about(name, "second")]
    _many(trial, "store_many", items)
    expect(trial.subject.held(trial.about(name)) == "second", "the earlier of two items is there")


@requirement(
    "RM-305",
    "A batch with an invalid item is refused as a whole, and writes nothing",
    why="A caller's mistake should be found before half of the batch is written.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-301"),
)
def a_batch_with_an_invalid_item_writes_nothing(trial: Trial) -> None:
    """Here one without data, at the end."""
    name, invalid = trial.new_id(), trial.new_id()
    try:
        trial.subject.call("store_many", [trial.about(name, "text"), trial.about(invalid)])
    except NotMetError:
        raise
    except Exception:  # noqa: BLE001 - any error will do
        expect(trial.subject.held(trial.about(name)) is None, "the batch was refused, and a part of it written")
    else:
        raise NotMetError("an item without data raised nothing")


@requirement(
    "RM-306",
    f"A large batch ({_LARGE:,} items) is complete and in order",
    why="Managers cut batches into pieces, and pieces get lost or mixed up.",
    capabilities=_CAPABILITIES,
    needs=("RM-017", "RM-301", "RM-302"),
    extra_seconds=20.0,
)
def a_large_batch_is_complete_and_in_order(trial: Trial) -> None:
    """Of stores, reads and deletions."""
    names = [trial.new_id() for _ in range(_LARGE)]
    _many(trial, "store_many", [trial.about(name, f"text {n}") for n, name in enumerate(names)])
    about = [trial.about(name) for name in names]
    answers = _texts(_many(trial, "retrieve_many", about))
    wrong = sum(text != f"text {n}" for n, text in enumerate(answers))
    expect(not wrong, f"of {_LARGE:,} answers {wrong:,} are wrong")
    _many(trial, "delete_many", about)
    left = sum(text is not None for text in _texts(_many(trial, "retrieve_many", about)))
    expect(not left, f"of {_LARGE:,} memories {left:,} are left after the batch that deletes them")


def _many(trial: Trial, method: str, items: Sequence[Any]) -> list[Any]:
    answers = trial.subject.call(method, items)
    expect(isinstance(answers, list), f"{method}() returned a {type(answers).__name__}, not a list")
    expect(len(answers) == len(items), f"{method}() gave {len(answers)} answers for {len(items)} items")
    return list(answers)


def _texts(answers: Sequence[Any]) -> list[str | None]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise NotMetError(f"an item of the batch failed: {type(answer).__name__}")
    return [answer[0].working_memory if answer else None for answer in answers]
