"""Where commands and replies end in a stream of bytes (RESP2 and RESP3), however it is cut into pieces.

The proxy forwards bytes as they come and only has to know where one command or reply ends and the next begins. So the
scanners keep no bodies: they walk from length to length, and skip what belongs to a bulk string without looking at it.
Streamed strings and aggregates (``$?``, ``*?``), which no Redis sends, are not understood.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

__all__ = ["ReplyScanner", "RequestScanner", "StreamError", "arguments"]

_CRLF: Final = b"\r\n"
_LONGEST_NAME: Final = 64
"""Bytes of a command's name that count."""

_LONGEST_HEAD: Final = 64 * 1024
"""Bytes that a line may have: Redis's own limit for inline commands."""

_ARRAY, _BULK, _PUSH, _MAP, _ATTRIBUTE = b"*$>%|"
_LINES: Final = frozenset(b"+-:_,#(")
_BULKS: Final = frozenset(b"$!=")
_LISTS: Final = frozenset(b"*~>")


# Most strings are shorter than 1 000 bytes, and most commands have fewer than ten parts and a short name. Looking their
# heads up is three times as fast as finding, cutting out and reading a line, and that was half of what a pipeline cost.
_SHORT: Final = {(b"$%d\r\n" % n)[:4]: len(b"$%d\r\n\r\n" % n) + n for n in range(100)}
"""How far it is from a bulk string's first byte to what follows it, by its first 4 bytes."""
_MEDIUM: Final = {b"$%d\r\n" % n: len(b"$%d\r\n\r\n" % n) + n for n in range(100, 1000)}
"""The same by its first 6 bytes."""
_STARTS: Final = {b"*%d\r\n$%d\r\n" % (n, length): (n - 1, length) for n in range(1, 10) for length in range(1, 10)}
"""How many parts follow a command's name, and how long that is, by the command's first 8 bytes."""


class StreamError(Exception):
    """These bytes are not of the Redis protocol."""


class _Scanner:
    """What both directions share: the head of an incomplete item, and how much of a body is still to come."""

    __slots__ = ("_begun", "_head", "_items", "_size", "_skip")

    def __init__(self) -> None:
        self._head = b""  # the beginning of a line that is not complete yet
        self._skip = 0  # bytes of a body that have not come yet
        self._items = 0  # parts of the current command or reply that have not come yet
        self._begun = False  # whether a command or reply has begun
        self._size = 0  # bytes of it so far, without the head

    @property
    def unfinished(self) -> int:
        """How many bytes of a command or reply have come that is not complete."""
        return self._size + len(self._head)

    def _resume(self, data: bytes) -> tuple[bytes, int]:
        """Return what to scan and from where; the place lies behind the end while a body goes on."""
        if self._head:
            data, self._head = self._head + data, b""
            return data, 0
        place, self._skip = self._skip, 0
        return data, place

    def _suspend(self, data: bytes, place: int, begin: int) -> None:
        """Note what is incomplete: `place` is how far it was understood, `begin` where the current item began."""
        if place >= len(data):
            self._skip = place - len(data)
            self._size += len(data) - begin
            return
        self._head = data[place:]
        if len(self._head) > _LONGEST_HEAD:
            raise StreamError
        self._size += place - begin


class RequestScanner(_Scanner):
    """Finds the commands in what a client sends, inline commands included."""

    __slots__ = ("_name", "_names")

    def __init__(self) -> None:
        super().__init__()
        self._name: str | None = None
        self._names: dict[bytes, str] = {}

    # One loop, as a call for each part would cost as much as the part.
    def feed(self, data: bytes) -> tuple[list[str], list[int]]:  # noqa: C901, PLR0912
        """Take the next piece of the stream.

        Returns:
            Of the commands that are complete now: their names in capitals, and how many bytes of the stream each is.

        Raises:
            StreamError: This is not the Redis protocol.
        """
        names: list[str] = []
        lengths: list[int] = []
        data, place = self._resume(data)
        begin, end, find = 0, len(data), data.find
        starts, short, medium, known = _STARTS, _SHORT, _MEDIUM, self._names
        begun, items, name = self._begun, self._items, self._name
        try:
            while place <= end:
                if begun and not items:
                    names.append(name or "")
                    lengths.append(self._size + place - begin)
                    begun, name, begin, self._size = False, None, place, 0
                if not begun and (start := starts.get(data[place : place + 8])) and place + 8 + start[1] <= end:
                    name = known.get(data[place + 8 : place + 8 + start[1]])
                    if name is not None:
                        begun, items = True, start[0]
                        place += start[1] + 10
                if name is not None:
                    while items and (jump := short.get(data[place : place + 4]) or medium.get(data[place : place + 6])):
                        place += jump
                        items -= 1
                    if not items:
                        continue
                line = find(_CRLF, place)
                if line < 0:
                    break
                if begun:
                    length = self._number(data, place, line, _BULK)
                    if name is None:
                        seen = line + 2 + min(length, _LONGEST_NAME)
                        if seen > end:
                            break
                        name = self._known(data[line + 2 : seen])
                    place = line + 4 + length
                    items -= 1
                elif data[place] == _ARRAY:
                    items = int(data[place + 1 : line])
                    begun = items > 0
                    place = line + 2
                else:
                    name = self._inline(data[place:line])
                    begun, items = name is not None, 0
                    place = line + 2
        except ValueError:
            raise StreamError from None
        self._begun, self._items, self._name = begun, items, name
        self._suspend(data, place, begin)
        return names, lengths

    @staticmethod
    def _number(data: bytes, place: int, line: int, kind: int) -> int:
        if data[place] != kind:
            raise StreamError
        return int(data[place + 1 : line])

    def _inline(self, line: bytes) -> str | None:
        words = line.split(None, 1)
        return self._known(words[0][:_LONGEST_NAME]) if words else None

    def _known(self, raw: bytes) -> str:
        name = self._names.get(raw)
        if name is None:
            name = raw.decode("ascii", "replace").upper()
            self._names[raw] = name
        return name


class ReplyScanner(_Scanner):
    """Finds the replies in what a server sends, and tells those from pushes."""

    __slots__ = ("_push",)

    def __init__(self) -> None:
        super().__init__()
        self._push = False

    def feed(self, data: bytes) -> tuple[list[bool], list[int]]:
        """Take the next piece of the stream.

        Returns:
            Of the items that are complete now: whether each is a reply (a push is none), and how many bytes it is. An
            attribute belongs to the reply that follows it.

        Raises:
            StreamError: This is not the Redis protocol.
        """
        replies: list[bool] = []
        lengths: list[int] = []
        data, place = self._resume(data)
        begin, end, find = 0, len(data), data.find
        begun, items = self._begun, self._items
        try:
            while place <= end:
                if begun and not items:
                    replies.append(not self._push)
                    lengths.append(self._size + place - begin)
                    begun, self._push, begin, self._size = False, False, place, 0
                kind = data[place] if place < end else 0
                if kind == _BULK and (
                    jump := _SHORT.get(data[place : place + 4]) or _MEDIUM.get(data[place : place + 6])
                ):
                    place += jump
                    items = items - 1 if begun else 0
                    begun = True
                    continue
                line = find(_CRLF, place)
                if line < 0:
                    break
                if not begun:
                    begun, items = True, 1
                if kind in _LINES:
                    items -= 1
                    place = line + 2
                else:
                    count = int(data[place + 1 : line])
                    items += self._parts(kind, count) - 1
                    place = line + 2 + (count + 2 if kind in _BULKS and count >= 0 else 0)
        except ValueError:
            raise StreamError from None
        self._begun, self._items = begun, items
        self._suspend(data, place, begin)
        return replies, lengths

    def _parts(self, kind: int, count: int) -> int:
        """Return how many parts are still to come of what has a count."""
        if kind in _BULKS:
            return 0
        if kind in _LISTS:
            self._push = self._push or kind == _PUSH
            return max(count, 0)
        if kind == _MAP:
            return 2 * max(count, 0)
        if kind == _ATTRIBUTE:
            return 2 * max(count, 0) + 1  # what it describes is still to come
        raise StreamError


def arguments(raw: bytes) -> Iterator[bytes]:
    """Yield the parts of one complete command, its name first."""
    if raw[0] != _ARRAY:
        yield from raw.split()
        return
    place = raw.index(_CRLF) + 2
    while place < len(raw):
        line = raw.index(_CRLF, place)
        body, after = line + 2, line + 2 + int(raw[place + 1 : line])
        yield raw[body:after]
        place = after + 2
