"""The conversations to replay: what is accepted, and what each bad input is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from remanence.lab import LabError
from remanence.lab.transcripts import Conversation, TranscriptError, Turn, load, parse, sample

if TYPE_CHECKING:
    from pathlib import Path

GOOD = b'{"conversation_id": "c", "speaker": "user", "text": "hello"}'


def test_turns_keep_their_order_and_other_fields_are_ignored() -> None:
    """Turns of mingled conversations are told apart, in order, whatever else their lines hold."""
    lines = [
        GOOD,
        b"",
        b'{"speaker": "x", "text": "other", "conversation_id": "d", "time": 3, "turn": null}',
        '{"conversation_id": "c", "speaker": "assistant", "text": "gr\u00fc\u00df dich"}'.encode(),
    ]
    assert parse(lines, name="test") == (
        Conversation("c", (Turn("user", "hello"), Turn("assistant", "gr\u00fc\u00df dich"))),
        Conversation("d", (Turn("x", "other"),)),
    )


def test_the_shipped_sample_is_a_handful_of_short_conversations() -> None:
    """The sample has about six conversations of two speakers, none of them empty."""
    conversations = sample()
    assert len(conversations) == 6
    turns = [turn for conversation in conversations for turn in conversation.turns]
    assert 100 <= len(turns) <= 200
    assert {turn.speaker for turn in turns} == {"user", "assistant"}
    assert all(turn.text.strip() for turn in turns)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{not json", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'["conversation_id"]', "not a JSON object"),
        (b'{"conversation_id": "c", "text": "t"}', '"speaker" is missing'),
        (b'{"conversation_id": 7, "speaker": "s", "text": "t"}', '"conversation_id" is missing or no string'),
        (b'{"conversation_id": "c", "speaker": "s", "text": null}', '"text" is missing or no string'),
        (b'{"conversation_id": "c", "speaker": "s", "text": "\xff"}', "not UTF-8"),
    ],
)
def test_a_bad_line_is_named_by_its_number(line: bytes, says: str) -> None:
    """A line that is no turn raises an error with its number, counting blank lines, and what is wrong."""
    with pytest.raises(TranscriptError, match="line 4") as caught:
        parse([GOOD, b"", GOOD, line], name="test")
    assert says in str(caught.value)
    assert caught.value.line == 4
    assert isinstance(caught.value, LabError)


def test_an_error_does_not_quote_what_was_said() -> None:
    """A transcript's error shows no text of the conversation."""
    with pytest.raises(TranscriptError) as caught:
        parse([b'{"conversation_id": "c", "speaker": 3, "text": "my secret"}'], name="test")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("lines", [[], [b"", b"   "]])
def test_a_file_without_a_turn_is_refused(lines: list[bytes]) -> None:
    """Nothing to replay is an error that shows what a line looks like."""
    with pytest.raises(TranscriptError, match="conversation_id"):
        parse(lines, name="test")


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    """A file gives the same as its lines, with Windows line ends and a byte order mark too."""
    file = tmp_path / "turns.jsonl"
    line = json.dumps({"conversation_id": "c", "speaker": "s", "text": "a\u2028b"}, ensure_ascii=False)
    file.write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n{line}\r\n".encode())
    assert load(file) == (Conversation("c", (Turn("s", "a\u2028b"),) * 2),)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing file raises the transcripts' own error with the path."""
    with pytest.raises(TranscriptError, match=r"gone\.jsonl"):
        load(tmp_path / "gone.jsonl")
