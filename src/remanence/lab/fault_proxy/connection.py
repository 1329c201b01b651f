"""One connection through the proxy: commands one way, replies the other, and the faults at their places.

While no fault is set, bytes are forwarded as they come and looked at afterwards, while the other side works. While one
is set, commands and replies are taken apart first.
"""

from __future__ import annotations

import socket
from collections import Counter, deque
from typing import Protocol

from remanence.lab.fault_proxy.aim import Request
from remanence.lab.fault_proxy.effects import Answer, Cut, Lose, Shape, SlowClose, Then, Truncate, Way
from remanence.lab.fault_proxy.endpoint import End, Endpoint
from remanence.lab.fault_proxy.faults import Fault, HeldRequests
from remanence.lab.fault_proxy.framing import ReplyFraming, ReplyPart, RequestFraming
from remanence.lab.fault_proxy.loop import Loop
from remanence.lab.fault_proxy.pending import Expected, PendingReplies
from remanence.lab.fault_proxy.table import FaultTable, Verdict

__all__ = ["Connection", "Owner"]


class Owner(Protocol):
    """What a connection needs of the proxy it belongs to."""

    loop: Loop
    faults: FaultTable
    commands: Counter[str]

    def fired(self, fault: Fault, connection: int, command: str | None) -> None:
        """Note that a fault does its work."""

    def look_for_target(self) -> None:
        """See whether the server is still there."""

    def over(self, connection: Connection) -> None:
        """Forget a connection of which nothing is left."""


class Connection:
    """A client's connection and the one to the server that belongs to it.

    Args:
        number: Counted by the proxy from 1.
        owner: The proxy.
        client: Accepted.
        server: Connecting; not blocking, like the client's.

    Attributes:
        swallowed_by: Who made something disappear, so that this connection cannot be right again.
    """

    def __init__(self, number: int, owner: Owner, client: socket.socket, server: socket.socket) -> None:
        self.number = number
        self._owner = owner
        self._faults = owner.faults
        self._commands = owner.commands
        self._requests = RequestFraming()
        self._replies = ReplyFraming()
        self._arrived: deque[Request] = deque()
        self._held: tuple[HeldRequests, Request, Verdict] | None = None
        self._pending = PendingReplies()
        self._deaf = False  # what the client says is thrown away
        self._mute = False  # what the server says is thrown away
        self._left = False  # the client has ended its side, or was cut off
        self.swallowed_by: Fault | None = None
        self._client = Endpoint(
            owner.loop, client, receive=self._on_requests, ended=self._on_client_end, over=self._see_whether_over
        )
        self._server = Endpoint(
            owner.loop,
            server,
            receive=self._on_replies,
            ended=self._on_server_end,
            over=self._see_whether_over,
            connected=False,
        )
        self._client.peer, self._server.peer = self._server, self._client

    @property
    def held_by(self) -> HeldRequests | None:
        """Who holds a request of this connection back."""
        return self._held[0] if self._held else None

    def cut(self, how: End, *, half: bool = False) -> None:
        """End the client's side now; the server still gets what had been sent to it, or with `half` also what comes."""
        self._mute = True
        if how == "reset":
            self._client.abort()
        else:
            self._client.end("eof")
        if not half:
            self._leave_server()

    def release(self) -> None:
        """Send on the request that is held, and what came behind it."""
        if self._held is not None:
            (_, request, verdict), self._held = self._held, None
            self._forward(request, verdict)
            self._advance()
            if self._left and not self._held:
                self._end_server()

    def discard(self) -> None:
        """Forget the request that is held, and end the connection, which cannot be right again."""
        self._held = None
        self._swallow_requests(None)
        self.cut("reset")

    def heal(self) -> None:
        """Let what is delayed go on, and end what cannot go on."""
        if self._held or self._deaf or self._mute or self.swallowed_by:
            self.discard()
        else:
            self._client.hurry()
            self._server.hurry()

    # Requests

    def _on_requests(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._faults.idle and not self._requests.waiting and not self._held:
            self._server.write(data)
            names = self._requests.passed(data)
            self._commands.update(names)
            self._pending.add_plain(len(names))
            return
        hole = self._faults.blackhole("requests", self.number)
        if hole is not None:
            self._owner.fired(hole, self.number, None)
            self._swallow_requests(hole)
            return
        for request in self._requests.take(data):
            if request.name:
                self._commands[request.name] += 1
            self._arrived.append(request)
        self._advance()

    def _advance(self) -> None:
        while self._arrived and not self._held:
            request = self._arrived.popleft()
            verdict = None if request.begun else self._faults.judge(request, self.number)
            if verdict is not None and verdict.hold is not None:
                self._owner.fired(verdict.hold, self.number, request.name)
                self._held = (verdict.hold, request, verdict)
            else:
                self._forward(request, verdict)

    def _forward(self, request: Request, verdict: Verdict | None) -> None:
        if verdict is None:
            self._send(request.raw, [])
            self._pending.add_plain()
            return
        for fault in verdict.at_once:
            self._owner.fired(fault, self.number, request.name)
            if isinstance(fault.effect, Cut):
                self.cut("eof", half=True)
        if verdict.final is not None and verdict.final.active:
            self._keep_back(request, verdict.final, verdict)
            return
        self._send(request.raw, verdict.requests)
        if verdict.replies:
            self._pending.add(Expected(request.name, verdict.replies))
        else:
            self._pending.add_plain()

    def _keep_back(self, request: Request, fault: Fault, verdict: Verdict) -> None:
        self._owner.fired(fault, self.number, request.name)
        match fault.effect:
            case Answer() as answer:
                shapes = [one for one in verdict.replies if isinstance(one.effect, Shape)]
                self._pending.add(Expected(request.name, shapes, answer.raw))
                self._answer()
            case Cut() as cut:
                self._swallow_requests(fault)
                self.cut(cut.how)
            case _:
                self._swallow_requests(fault)

    def _swallow_requests(self, fault: Fault | None) -> None:
        self._deaf = True
        self.swallowed_by = fault
        self._requests.forget()
        self._arrived.clear()

    def _send(self, data: bytes, aimed: list[Fault]) -> None:
        if self._faults.idle and not aimed:
            self._server.write(data)
        else:
            delay, size, every = self._shape("requests", aimed)
            self._server.write(data, delay=delay, size=size, every=every)

    # Replies

    def _on_replies(self, data: bytes) -> None:
        if self._mute:
            return
        if self._faults.idle and not self._pending.special and not self._replies.waiting:
            self._client.write(data)
            replies = self._replies.passed(data).count(True)
            self._pending.plain = max(self._pending.plain - replies, 0)
            return
        hole = self._faults.blackhole("replies", self.number)
        if hole is not None:
            self._owner.fired(hole, self.number, None)
            self._lose_replies(hole, "hang")
            return
        for part in self._replies.take(data):
            self._pass_part(part)
            if self._mute:
                return
            self._answer()
        if self._replies.waiting and not self._pending.next_is_special:
            # A reply to which nobody does anything need not wait until it is complete.
            self._pass_on(self._replies.rest(), [])

    def _pass_part(self, part: ReplyPart) -> None:
        expected = self._pending.take() if part.is_reply else None
        if expected is None:
            self._pass_on(part.raw, [])
        else:
            self._deliver(part.raw, expected)

    def _answer(self) -> None:
        """Give the answers that come from here and are next."""
        while not self._mute and (mine := self._pending.take_local()) is not None:
            self._pass_on(mine.local or b"", mine.faults)

    def _deliver(self, raw: bytes, expected: Expected) -> None:
        shapes: list[Fault] = []
        for fault in expected.faults:
            if not fault.active:
                continue
            effect = fault.effect
            if isinstance(effect, Shape):
                shapes.append(fault)
                continue
            self._owner.fired(fault, self.number, expected.command)
            if isinstance(effect, Answer):
                raw = effect.raw
                continue
            if isinstance(effect, Truncate):
                self._pass_on(raw[: effect.after], shapes)
            self._lose_replies(fault, effect.then if isinstance(effect, Lose | Truncate) else "hang")
            return
        self._pass_on(raw, shapes)

    def _lose_replies(self, fault: Fault, then: Then) -> None:
        self._replies.forget()
        self._mute = True
        if then == "hang":
            self.swallowed_by = fault
        else:
            self._client.end(then)
            self._leave_server()

    def _pass_on(self, data: bytes, aimed: list[Fault]) -> None:
        if self._faults.idle and not aimed:
            self._client.write(data)
        else:
            delay, size, every = self._shape("replies", aimed)
            self._client.write(data, delay=delay, size=size, every=every)

    def _shape(self, direction: Way, aimed: list[Fault]) -> tuple[float, int, float]:
        delay, size, every = 0.0, 0, 0.0
        for fault in (*self._faults.shapes(direction, self.number), *aimed):
            if isinstance(fault.effect, Shape) and fault.active:
                self._owner.fired(fault, self.number, None)
                delay += fault.effect.delay(fault.rng)
                if fault.effect.size:
                    size, every = fault.effect.size, fault.effect.every
        return delay, size, every

    # The ends

    def _leave_server(self) -> None:
        """Let the client's side go its way alone; the server's ends once it has what was sent."""
        self._left = True
        self._client.drain()
        if not self._held:
            self._end_server()

    def _end_server(self) -> None:
        self._deaf = True
        self._server.end("eof")

    def _on_client_end(self, broken: bool) -> None:  # noqa: FBT001 - see Endpoint
        first, self._left = not self._left, True
        if broken:
            self._mute = True
        if not first or self._held:
            return
        if broken and not self._server.pending:
            self._server.abort()
        else:
            self._server.end("eof", delay=self._closing_delay("requests"))

    def _on_server_end(self, broken: bool) -> None:  # noqa: FBT001 - see Endpoint
        if not self._left:
            self._owner.look_for_target()
        self._held = None
        self._server.close()
        hole = self._hides_end()
        if hole is not None and not self._left:
            self.swallowed_by = hole
            return
        self._swallow_requests(self.swallowed_by)
        if self._left or not self._mute:
            self._client.end("reset" if broken else "eof", delay=self._closing_delay("replies"))

    def _hides_end(self) -> Fault | None:
        """Return who keeps the client from noticing that the server has gone, or was never there."""
        hole = self._faults.blackhole("replies", self.number)
        return hole if self._server.connected else hole or self._faults.blackhole("requests", self.number)

    def _closing_delay(self, direction: Way) -> float:
        delay = 0.0
        for fault in self._faults.slow_closes(direction, self.number):
            if isinstance(fault.effect, SlowClose):
                self._owner.fired(fault, self.number, None)
                delay += fault.effect.seconds
        return delay

    def _see_whether_over(self) -> None:
        if self._client.closed and self._server.closed:
            self._owner.over(self)
