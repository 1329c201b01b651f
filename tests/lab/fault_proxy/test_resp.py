"""Commands and replies are found in any stream, however it is cut; nothing of it is changed."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.lab.fault_proxy.framing import ReplyFraming, RequestFraming
from remanence.lab.fault_proxy.resp import ReplyScanner, RequestScanner, StreamError, arguments
from tests.lab.fault_proxy.wires import packed

TEXTS = st.binary(max_size=40) | st.sampled_from([b"\r\n", b"*2\r\n$3\r\nGET\r\n", b"x" * 150, b"y" * 1_200])
NAMES = st.sampled_from([b"GE", b"GET", b"evalsha", b"Set", b"A", b"JSON.SET", b"X" * 12, b"Z" * 70])
COMMANDS = st.builds(lambda name, rest: packed(name, *rest), NAMES, st.lists(TEXTS, max_size=12))
INLINE = st.sampled_from([b"PING\r\n", b"set a 1\r\n"])
SCALARS = st.one_of(
    st.sampled_from([b"+OK\r\n", b"-ERR x\r\n", b":12\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n", b"(123\r\n"]),
    st.sampled_from(
        [b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"$0\r\n\r\n", b"%0\r\n", b"=7\r\ntxt:a\r\n\r\n", b"!3\r\nERR\r\n"]
    ),
    TEXTS.map(lambda text: b"$%d\r\n%b\r\n" % (len(text), text)),
)


def _nested(inner: Any) -> Any:
    lists = st.lists(inner, max_size=4)
    pairs = st.lists(st.tuples(inner, inner), max_size=3)
    return st.one_of(
        lists.map(lambda parts: b"*%d\r\n" % len(parts) + b"".join(parts)),
        lists.map(lambda parts: b"~%d\r\n" % len(parts) + b"".join(parts)),
        pairs.map(lambda parts: b"%%%d\r\n" % len(parts) + b"".join(a + b for a, b in parts)),
        st.tuples(pairs, inner).map(
            lambda parts: b"|%d\r\n" % len(parts[0]) + b"".join(a + b for a, b in parts[0]) + parts[1]
        ),
    )


REPLIES = st.recursive(SCALARS, _nested, max_leaves=6)
PUSHES = st.lists(REPLIES, min_size=1, max_size=3).map(lambda parts: b">%d\r\n" % len(parts) + b"".join(parts))


def cut(stream: bytes, rng: random.Random) -> list[bytes]:
    """Cut a stream into pieces, sometimes byte by byte."""
    longest = rng.choice([1, 3, 20, 400, 10_000])
    pieces = []
    while stream:
        size = rng.randint(1, longest)
        pieces.append(stream[:size])
        stream = stream[size:]
    return pieces


@given(st.lists(COMMANDS | INLINE, max_size=8), st.randoms(use_true_random=False))
def test_commands_are_found_however_the_stream_is_cut(commands: list[bytes], rng: random.Random) -> None:
    """Each with its name and its length."""
    scanner = RequestScanner()
    names: list[str] = []
    lengths: list[int] = []
    for piece in cut(b"".join(commands), rng):
        some, sizes = scanner.feed(piece)
        names += some
        lengths += sizes
    assert lengths == [len(command) for command in commands]
    assert names == [next(arguments(command)).decode().upper()[:64] for command in commands]
    assert scanner.unfinished == 0


@given(
    st.lists(REPLIES.map(lambda raw: (True, raw)) | PUSHES.map(lambda raw: (False, raw)), max_size=8),
    st.randoms(use_true_random=False),
)
def test_replies_are_found_however_the_stream_is_cut(parts: list[tuple[bool, bytes]], rng: random.Random) -> None:
    """Pushes are told from replies; an attribute belongs to what it describes."""
    scanner = ReplyScanner()
    found: list[tuple[bool, int]] = []
    for piece in cut(b"".join(raw for _, raw in parts), rng):
        found += zip(*scanner.feed(piece), strict=True)
    assert found == [(is_reply, len(raw)) for is_reply, raw in parts]


@given(st.lists(COMMANDS | INLINE, max_size=8), st.randoms(use_true_random=False))
def test_a_stream_that_is_passed_and_taken_in_turn_stays_what_it_is(commands: list[bytes], rng: random.Random) -> None:
    """Every byte comes out once, in order, and each command that is taken whole is one of those sent."""
    framing = RequestFraming()
    out = b""
    for piece in cut(b"".join(commands), rng):
        if not framing.waiting and rng.random() < 0.5:
            out += piece
            framing.passed(piece)
            continue
        for request in framing.take(piece):
            assert request.begun or request.raw in commands
            out += request.raw
        if rng.random() < 0.3:
            out += framing.rest()
    assert out + bytes(framing.waiting) == b"".join(commands)


@given(st.lists(REPLIES, max_size=8), st.randoms(use_true_random=False))
def test_replies_that_are_passed_and_taken_in_turn_are_each_counted_once(
    replies: list[bytes], rng: random.Random
) -> None:
    """Whichever way their ends went."""
    framing = ReplyFraming()
    count = 0
    out = b""
    for piece in cut(b"".join(replies), rng):
        if not framing.waiting and rng.random() < 0.5:
            out += piece
            count += len(framing.passed(piece))
            continue
        parts = framing.take(piece)
        count += len(parts)
        out += b"".join(part.raw for part in parts)
        if rng.random() < 0.3:
            out += framing.rest()
    assert (count, out + bytes(framing.waiting)) == (len(replies), b"".join(replies))


def test_half_a_name_is_not_taken_for_a_known_one() -> None:
    """The rest comes later."""
    scanner = RequestScanner()
    found = [scanner.feed(piece)[0] for piece in (packed("GE"), b"*1\r\n$3\r\nGE", b"T\r\n")]
    assert found == [["GE"], [], ["GET"]]


@given(NAMES, st.lists(TEXTS, max_size=12))
def test_a_command_is_taken_apart_into_its_arguments(name: bytes, rest: list[bytes]) -> None:
    """Whatever they hold."""
    assert list(arguments(packed(name, *rest))) == [name, *rest]


@pytest.mark.parametrize("stream", [b"*1\r\n+OK\r\n", b"*x\r\n", b"*1\r\n$y\r\nGET\r\n", b"\x16\x03\x01" * 30_000])
def test_what_is_no_command_is_noticed(stream: bytes) -> None:
    """A TLS handshake, for example, or an endless line."""
    with pytest.raises(StreamError):
        RequestScanner().feed(stream)


@pytest.mark.parametrize("stream", [b"HTTP/1.1 200 OK\r\n", b"*z\r\n"])
def test_what_is_no_reply_is_noticed(stream: bytes) -> None:
    """Another server's answer."""
    with pytest.raises(StreamError):
        ReplyScanner().feed(stream)


def test_an_unknown_stream_goes_through_as_it_is() -> None:
    """Nothing is told apart in it, and nothing is lost."""
    framing = RequestFraming()
    stream = packed("GET", "a") + b"*1\r\n+OK\r\n" + b"more"
    out = b"".join(request.raw for piece in (stream[:30], stream[30:]) for request in framing.take(piece))
    assert framing.opaque
    assert out == stream
