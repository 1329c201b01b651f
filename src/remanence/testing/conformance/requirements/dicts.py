"""Capability `dicts`: the framework's agent passes dicts where the interface has objects."""

from __future__ import annotations

from typing import Final

from remanence.interface import ConversationMemoryType
from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.trial import Trial

__all__ = ["a_dict_is_about_the_working_memory", "a_dict_is_an_input"]

_CAPABILITIES: Final = ("dicts",)


@requirement(
    "RM-701",
    "A dict with conversation_id and working_memory is an input",
    why="The framework's agent passes such dicts, and fails on managers that take objects only.",
    capabilities=_CAPABILITIES,
    needs=("RM-010", "RM-030", "RM-040"),
)
def a_dict_is_an_input(trial: Trial) -> None:
    """For all four methods, with and without a kind."""
    for kind in ({}, {"memory_type": "WORKING_MEMORY"}):
        about = {"conversation_id": trial.new_id(), **kind}
        trial.subject.store({**about, "working_memory": "stored", "metadata": {"source": "agent"}})
        expect(trial.subject.held(about) == "stored", "what was stored with a dict is not there")
        trial.subject.update({**about, "working_memory": "updated"})
        expect(trial.subject.held(about) == "updated", "what was updated with a dict is not there")
        trial.subject.delete(about)
        expect(trial.subject.held(about) is None, "what was deleted with a dict is still there")


@requirement(
    "RM-702",
    "Without a kind a dict is about the WORKING_MEMORY",
    why="The framework's agent means that one.",
    capabilities=_CAPABILITIES,
    needs=("RM-052", "RM-701"),
)
def a_dict_is_about_the_working_memory(trial: Trial) -> None:
    """The same one as an input's that says so."""
    name = trial.new_id()
    trial.subject.store({"conversation_id": name, "working_memory": "text"})
    expect(trial.subject.held(trial.about(name)) == "text", "it was stored as another kind")
    short = trial.about(name, kind=ConversationMemoryType.SHORT_TERM_MEMORY)
    expect(trial.subject.held(short) is None, "it was stored as the SHORT_TERM_MEMORY")
