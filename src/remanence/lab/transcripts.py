"""Conversations to replay: JSON lines, one turn each, loaded and checked whole before anything starts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from remanence.lab.errors import LabError

__all__ = ["Conversation", "TranscriptError", "Turn", "load", "parse", "sample"]

_FIELDS = ("conversation_id", "speaker", "text")
_SHAPE = '{"conversation_id": "…", "speaker": "user", "text": "…"}'


class TranscriptError(LabError):
    """A transcript cannot be used; `line` is the number of the line at fault, None where it is the file."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker said."""

    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of one conversation, in the order of the file."""

    conversation_id: str
    turns: tuple[Turn, ...]


def load(path: Path) -> tuple[Conversation, ...]:
    """Read a transcript file.

    Args:
        path: JSON lines in UTF-8, each with `conversation_id`, `speaker` and `text`; other fields are ignored.

    Raises:
        TranscriptError: The file cannot be read, is empty, or a line is not a turn.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TranscriptError(
            f"transcripts {path}: cannot be read ({error.strerror}). Name a readable file of JSON lines."
        ) from error
    return parse(content.splitlines(), name=str(path))


def sample() -> tuple[Conversation, ...]:
    """Return the conversations that come with the package."""
    content = resources.files("remanence.lab").joinpath("sample.jsonl").read_bytes()
    return parse(content.splitlines(), name="the shipped sample")


def parse(lines: Iterable[bytes], *, name: str) -> tuple[Conversation, ...]:
    """Turn JSON lines into conversations, in order of first appearance.

    Args:
        lines: One JSON object each; blank lines are skipped but counted.
        name: What an error calls the input.

    Raises:
        TranscriptError: No turn at all, or a line that is not one; nothing is returned by halves.
    """
    turns: dict[str, list[Turn]] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            conversation_id, turn = _turn(line, number, name)
            turns.setdefault(conversation_id, []).append(turn)
    if not turns:
        raise TranscriptError(f"transcripts {name}: no turn in it. Give at least one line like {_SHAPE}.")
    return tuple(Conversation(conversation_id, tuple(said)) for conversation_id, said in turns.items())


def _turn(line: bytes, number: int, name: str) -> tuple[str, Turn]:
    where = f"transcripts {name}, line {number}"
    try:
        value = json.loads(line)
    except UnicodeDecodeError as error:
        raise TranscriptError(f"{where}: not UTF-8. Save the file as UTF-8.", line=number) from error
    except (ValueError, RecursionError) as error:
        raise TranscriptError(
            f"{where}: not JSON. Each line must be one JSON object like {_SHAPE}; mend or remove the line.", line=number
        ) from error
    if not isinstance(value, dict):
        raise TranscriptError(f"{where}: not a JSON object. Write the turn as {_SHAPE}.", line=number)
    for field in _FIELDS:
        if not isinstance(value.get(field), str):
            raise TranscriptError(
                f'{where}: the field "{field}" is missing or no string. Write the turn as {_SHAPE}.', line=number
            )
    return value["conversation_id"], Turn(speaker=value["speaker"], text=value["text"])
