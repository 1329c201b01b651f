"""Capability `metadata`: what stands beside the text can be read again."""

from __future__ import annotations

import json
from typing import Any, Final

from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.trial import Trial

__all__ = [
    "a_store_replaces_the_metadata",
    "an_update_merges_the_metadata",
    "metadata_comes_back",
    "metadata_is_the_callers_own",
]

_CAPABILITIES: Final = ("metadata",)
_SAMPLES: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"source": "settings"},
    {"": None, "\u00e9": "\U0001f469", "yes": True, "no": False},
    {"large": 2**53 + 1, "negative": -1, "fraction": 0.1, "one": 1, "also one": 1.0},
    {"list": [], "object": {}, "deep": [[{"a": [None, {"b": []}]}]]},
)


@requirement(
    "RM-601",
    "An answer's .metadata is the JSON object that was stored, an empty one where none was",
    why="A float that became an integer, or a list that became an object, is another value.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-012", "RM-064"),
)
def metadata_comes_back(trial: Trial) -> None:
    """Value by value, and type by type."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "text"))
    expect(_metadata(trial, name) == {}, "without metadata something else than {} came back")
    for number, sample in enumerate(_SAMPLES):
        trial.subject.store(trial.about(name, "text", metadata=sample))
        same = json.dumps(_metadata(trial, name), sort_keys=True) == json.dumps(sample, sort_keys=True)
        expect(same, f"other metadata came back than was stored (sample {number})")


@requirement(
    "RM-602",
    "An update merges its metadata into what is stored",
    why="An update that notes when it was made must not forget where the memory came from.",
    capabilities=_CAPABILITIES,
    needs=("RM-030", "RM-601"),
)
def an_update_merges_the_metadata(trial: Trial) -> None:
    """Names that it does not have stay; one without metadata changes none."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "text", metadata={"source": "settings", "at": "2024-01-01"}))
    merged = {"source": "settings", "at": "2024-01-02", "new": 1}
    trial.subject.update(trial.about(name, "text", metadata={"at": "2024-01-02", "new": 1}))
    expect(_metadata(trial, name) == merged, "the update's metadata was not merged into the stored")
    trial.subject.update(trial.about(name, "text"))
    expect(_metadata(trial, name) == merged, "an update without metadata changed it")


@requirement(
    "RM-603",
    "A store replaces the metadata",
    why="It replaces the memory, of which it is a part.",
    capabilities=_CAPABILITIES,
    needs=("RM-012", "RM-601"),
)
def a_store_replaces_the_metadata(trial: Trial) -> None:
    """By its own, or by none."""
    name = trial.new_id()
    trial.subject.store(trial.about(name, "text", metadata={"a": 1, "b": 2}))
    trial.subject.store(trial.about(name, "text", metadata={"b": 3}))
    expect(_metadata(trial, name) == {"b": 3}, "the first store's metadata is still there")
    trial.subject.store(trial.about(name, "text"))
    expect(_metadata(trial, name) == {}, "after a store without metadata there is some")


@requirement(
    "RM-604",
    "What a caller does to metadata after the call changes nothing that is stored",
    why="As for inputs and answers.",
    capabilities=_CAPABILITIES,
    needs=("RM-014", "RM-601"),
)
def metadata_is_the_callers_own(trial: Trial) -> None:
    """Neither what was given nor what was got, also deep inside."""
    name = trial.new_id()
    item = trial.about(name, "text", metadata={"list": [1]})
    trial.subject.store(item)
    assert item.metadata is not None  # noqa: S101 - for the type checker
    item.metadata["list"].append(2)
    expect(_metadata(trial, name) == {"list": [1]}, "the metadata that store() was given is what is stored")
    _metadata(trial, name)["list"].append(2)
    expect(_metadata(trial, name) == {"list": [1]}, "the metadata that was retrieved is what is stored")


def _metadata(trial: Trial, name: str) -> Any:
    answer = trial.subject.retrieve(trial.about(name))
    expect(hasattr(answer, "metadata"), "an answer has no attribute metadata")
    return answer.metadata
