"""Which texts can be kept: all of them."""

from __future__ import annotations

import unicodedata
from string import ascii_letters
from typing import Final

from remanence.testing.conformance.errors import NotMetError
from remanence.testing.conformance.requirement import expect, requirement
from remanence.testing.conformance.trial import Trial

__all__ = [
    "a_long_text_comes_back_whole",
    "an_empty_text_is_a_memory",
    "any_text_comes_back_unchanged",
    "what_stores_cannot_hold_is_kept_or_refused",
]

_LENGTH: Final = 200_000
_TEXTS: Final = {
    "ASCII": "plain text",
    "Latin letters": "h\u00e9llo \u00df \u0130\u0131",
    "letters with combining accents": "e\u0301 and \u00e9 are two texts",
    "compatibility characters": "\ufb01 \u2460 \uff21 \u212b",
    "Chinese and Japanese": "\u8a18\u61b6\u3001\u304a\u307c\u3048\u308b",
    "text from right to left": "\u05e9\u05dc\u05d5\u05dd \u200f\u0627\u0644\u0633\u0644\u0627\u0645 \u202e",
    "characters beyond the first plane": "\U0001d518 \U0001f469\u200d\U0001f4bb \U0010fffd",
    "noncharacters and private ones": "\ufffe\uffff\ue000\ufdd0",
    "kinds of line ends": "a\nb\r\nc\rd\u2028e\u2029f\x85g",
    "spaces at both ends": " \t\n text \u00a0\u3000\n ",
    "nothing but spaces": "   ",
    "control characters": "\x01\x07\x1b[31m\x7f",
    "a byte order mark": "\ufefftext",
    "quotes and escapes": "'\"\\ \\n \\u0041 `$(x)` ; -- /* */ %s {} {{}} %(a)s",
    "what looks like JSON": '{"working_memory": null}',
    "what looks like null": "null",
    "what looks like a number": "007",
    "the replacement character": "\ufffd",
}
_HARD: Final = {"a lone surrogate": "half \ud83d of one", "the NUL character": "before\x00after"}


@requirement(
    "RM-020",
    "Any Unicode text without NUL comes back unchanged",
    why="Users write in every script. A changed character is a changed memory, and nobody notices.",
    needs=("RM-010",),
)
def any_text_comes_back_unchanged(trial: Trial) -> None:
    """No normalisation, no trimming, nothing that a format or a query language would take for its own."""
    for kind, text in _TEXTS.items():
        name = trial.new_id()
        trial.subject.store(trial.about(name, text))
        difference = differs(trial.subject.held(trial.about(name)), text)
        expect(not difference, f"{kind}: {difference}")


@requirement(
    "RM-021",
    "An empty text is a memory, stored or written by an update",
    why="A memory that was emptied on purpose is not one that never was.",
    needs=("RM-010", "RM-030"),
)
def an_empty_text_is_a_memory(trial: Trial) -> None:
    """It is found, and is empty."""
    stored, updated = trial.new_id(), trial.new_id()
    trial.subject.store(trial.about(stored, ""))
    expect(trial.subject.held(trial.about(stored)) == "", "a stored empty text is not there")
    trial.subject.store(trial.about(updated, "text"))
    trial.subject.update(trial.about(updated, ""))
    expect(trial.subject.held(trial.about(updated)) == "", "an update with an empty text is not there")


@requirement(
    "RM-022",
    f"A long text ({_LENGTH:,} characters) comes back whole",
    why="A memory grows with its conversation; one that is cut off reads as if it were complete.",
    needs=("RM-010",),
)
def a_long_text_comes_back_whole(trial: Trial) -> None:
    """Nothing is cut off."""
    name = trial.new_id()
    text = (ascii_letters * (_LENGTH // len(ascii_letters) + 1))[: _LENGTH - 1] + "\u00e9"
    trial.subject.store(trial.about(name, text))
    difference = differs(trial.subject.held(trial.about(name)), text)
    expect(not difference, difference)


@requirement(
    "RM-023",
    "A lone surrogate or a NUL comes back unchanged, or is refused with an error; it is never replaced or dropped",
    why="Models cut emoji in half. UTF-8 cannot hold the halves, PostgreSQL's text no NUL; a store that writes '?' "
    "instead has changed the memory.",
    needs=("RM-010", "RM-012", "RM-030"),
)
def what_stores_cannot_hold_is_kept_or_refused(trial: Trial) -> None:
    """In a store and in an update; where it is refused, what was stored before is still there."""
    for what, text in _HARD.items():
        for method in ("store", "update"):
            name = trial.new_id()
            trial.subject.store(trial.about(name, "before"))
            try:
                trial.subject.call(method, trial.about(name, text))
            except NotMetError:
                raise
            except Exception:  # noqa: BLE001 - refused, in the manager's own words
                expected, done = "before", f"after a refused {method}"
            else:
                expected, done = text, method
            difference = differs(trial.subject.held(trial.about(name)), expected)
            expect(not difference, f"{what}, {done}: {difference}")


def differs(found: object, text: str) -> str:
    """Say in which way what was found is another text, without quoting it; nothing where it is the same."""
    if found == text:
        return ""
    if found is None:
        return "it was stored, and nothing came back"
    if not isinstance(found, str):
        return f"what came back is a {type(found).__name__}, not a text"
    for number, (theirs, ours) in enumerate(zip(found, text, strict=False), 1):
        if theirs != ours:
            return f"character {number} came back as {_named(theirs)} instead of {_named(ours)}"
    return f"it came back with {len(found):,} characters instead of {len(text):,}"


def _named(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
