"""Events come out of bytes the same way however the bytes were cut."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracemill.llm.sse import Decoder, Event

ENDS = st.sampled_from(["\n", "\r\n", "\r"])
# What other libraries take for the end of a line, and what ends one.
TEXT = st.text(st.sampled_from("ab: {}\u2028\u2029\x85\x0b\x0c\x1cé\U0001f600\n"), max_size=12)


def decoded(chunks: Iterable[bytes]) -> list[Event]:
    decoder = Decoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return [*events, *decoder.close()]


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[a:b] for a, b in pairwise(bounds)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """Events, and one of the ways to write them."""
    events = draw(
        st.lists(st.builds(Event, st.sampled_from(["", "error", "content_block_delta"]), TEXT))
    )
    end, lines = draw(ENDS), list[str]()
    for name, data in events:
        lines += [": a comment", "id: 7", "retry: 10", "unknown"] if draw(st.booleans()) else []
        lines += [f"event: {name}"] if name else []
        for line in data.split("\n"):
            # One space after the colon may be there, and has to be where the text begins with one.
            space = " " if line.startswith(" ") or draw(st.booleans()) else ""
            lines.append(f"data:{space}{line}")
        lines += [""] * draw(st.integers(1, 3))
    bom = draw(st.sampled_from(["", "\ufeff"]))
    return (bom + "".join(line + end for line in lines)).encode(), events


@given(streams(), st.lists(st.integers(0, 10**6), max_size=30))
def test_any_cut_of_any_stream_gives_its_events(
    stream: tuple[bytes, list[Event]], places: list[int]
):
    body, events = stream
    assert decoded(cut(body, places)) == events


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=30))
@example(b"data: a\r\n\r\ndata: b\r\r", [8, 9, 10])
def test_any_bytes_are_read_alike_however_they_are_cut(body: bytes, places: list[int]):
    assert decoded(cut(body, places)) == decoded([body])
    assert decoded(body[i : i + 1] for i in range(len(body))) == decoded([body])


@pytest.mark.parametrize(
    ("body", "events"),
    [
        ("data: a\u2028b\u0085c\x0bd\n\n", [Event("", "a\u2028b\u0085c\x0bd")]),
        ("data: one\ndata:\ndata: two\n\n", [Event("", "one\n\ntwo")]),
        ("data\n\n", [Event("", "")]),
        ("data:  two spaces\n\n", [Event("", " two spaces")]),
        ("event: ping\n\ndata: x\n\n", [Event("", "x")]),
        ("event: a\nevent: b\ndata: x\n\n", [Event("b", "x")]),
        (": OPENROUTER PROCESSING\n\ndata: x\n\n", [Event("", "x")]),
        ("\ufeffdata: x\n\n\ufeffdata: y\n\n", [Event("", "x")]),
        ("data: x\r\rdata: y\r\n\r\n", [Event("", "x"), Event("", "y")]),
        ("Data: x\ndatum: y\n\n", []),
        ("", []),
    ],
)
def test_lines_are_what_the_standard_says(body: str, events: list[Event]):
    assert decoded([body.encode()]) == events


@pytest.mark.parametrize("end", ["", "\n", "\r", "\r\n"])
@pytest.mark.parametrize("data", ["[DONE]", '{"a": "\u2028"}'])
def test_an_event_without_its_empty_line_is_not_lost(data: str, end: str):
    assert decoded([f"data: {data}{end}".encode()]) == [Event("", data)]


def test_an_event_is_out_as_soon_as_its_last_byte_is_in():
    decoder = Decoder()
    assert list(decoder.feed(b"data: x\r\r")) == [Event("", "x")]
    assert list(decoder.feed(b"data: y\r\n\r")) == [Event("", "y")]
    assert list(decoder.feed(b"\ndata: z\n\n")) == [Event("", "z")]


@pytest.mark.parametrize("cut", [b'data: {"a": 1', b"data: [DON", b"da", b"data: \xf0\x9f"])
def test_a_last_line_that_was_cut_is_no_event(cut: bytes):
    assert decoded([b"data: x\n\n" + cut]) == [Event("", "x")]
    assert decoded([cut]) == []


def test_half_a_character_is_marked_and_not_lost():
    assert decoded([b"data: \xf0\x9f\n"]) == [Event("", "\ufffd")]


def test_a_long_line_in_small_chunks_is_read_in_linear_time():
    # Joining anew what is there for each of the chunks would copy 64 GB.
    decoder, piece = Decoder(), b"x" * 64
    assert not [event for _ in range(45_000) for event in decoder.feed(piece)]
    assert list(decoder.feed(b"\ndata: y\n\n")) == [Event("", "y")]
