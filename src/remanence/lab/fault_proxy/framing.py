"""Commands and replies cut out of a stream of which a part may have been forwarded already.

A stream is either *passed*, that is forwarded as it comes and only followed, or *taken*, that is kept until a command
or reply is complete. It may change from one to the other anywhere: what had begun to be passed is then handed out as
the rest of something *begun*, to which nothing can be done any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from remanence.lab.fault_proxy.aim import Request
from remanence.lab.fault_proxy.resp import ReplyScanner, RequestScanner, StreamError

__all__ = ["ReplyFraming", "ReplyPart", "RequestFraming"]

Kind = TypeVar("Kind", str, bool)
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class ReplyPart:
    """A reply, or the rest of one whose beginning has been forwarded, or something that is none.

    Attributes:
        raw: Its bytes.
        is_reply: Whether it answers a command; a push does not.
    """

    raw: bytes
    is_reply: bool


class _Framing(Generic[Kind, Part]):
    """What both directions share.

    Attributes:
        waiting: The beginning of what is not complete yet, kept back.
        opaque: Whether this is not the Redis protocol; then nothing is told apart any more.
    """

    __slots__ = ("_begun", "_scanner", "opaque", "waiting")

    def __init__(self, scanner: RequestScanner | ReplyScanner) -> None:
        self._scanner: Any = scanner  # whose kinds are this direction's
        self._begun = 0
        self.waiting = bytearray()
        self.opaque = False

    def passed(self, data: bytes) -> list[Kind]:
        """Follow what has been forwarded; return what is complete with it, as the scanner calls it."""
        if self.opaque:
            return []
        try:
            kinds, _ = self._scanner.feed(data)
        except StreamError:
            self.opaque = True
            return []
        self._begun = self._scanner.unfinished
        told: list[Kind] = kinds
        return told

    def take(self, data: bytes) -> list[Part]:
        """Keep what came; hand out what is complete with it."""
        self.waiting += data
        if not self.opaque:
            try:
                kinds, lengths = self._scanner.feed(data)
            except StreamError:
                self.opaque = True
            else:
                found = zip(kinds, lengths, strict=True)
                return [self._part(kind, self._hand_out(length - self._begun)) for kind, length in found]
        return [self._unknown(self._hand_out(len(self.waiting)))]

    def rest(self) -> bytes:
        """Hand out what is not complete, to be forwarded now."""
        rest = bytes(self.waiting)
        self.waiting.clear()
        self._begun += len(rest)
        return rest

    def forget(self) -> None:
        """Throw away what is kept."""
        self.waiting.clear()

    def _hand_out(self, length: int) -> tuple[bytes, bool]:
        raw, begun = bytes(self.waiting[:length]), bool(self._begun)
        del self.waiting[:length]
        self._begun = 0
        return raw, begun

    def _part(self, kind: Kind, found: tuple[bytes, bool]) -> Part:
        raise NotImplementedError

    def _unknown(self, found: tuple[bytes, bool]) -> Part:
        raise NotImplementedError


class RequestFraming(_Framing[str, Request]):
    """Commands in what a client sends."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(RequestScanner())

    def _part(self, kind: str, found: tuple[bytes, bool]) -> Request:
        return Request(kind, found[0], begun=found[1])

    def _unknown(self, found: tuple[bytes, bool]) -> Request:
        return Request("", found[0], begun=True)


class ReplyFraming(_Framing[bool, ReplyPart]):
    """Replies in what a server sends."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(ReplyScanner())

    def _part(self, kind: bool, found: tuple[bytes, bool]) -> ReplyPart:  # noqa: FBT001 - the scanner's word
        return ReplyPart(found[0], is_reply=kind)

    def _unknown(self, found: tuple[bytes, bool]) -> ReplyPart:
        return ReplyPart(found[0], is_reply=False)
