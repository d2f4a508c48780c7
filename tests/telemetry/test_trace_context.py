"""W3C trace context: what comes in as it must be goes on, anything else is as if it were not there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.telemetry import context
from tracemill.telemetry.context import Context

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WHOLE = f"00-{TRACE}-{SPAN}-01"


def test_the_headers_of_a_request_are_read_and_made() -> None:
    headers = {"traceparent": WHOLE, "tracestate": "a=1, b@c=2", "baggage": "user=ann%20b;p=1, x=y"}
    read = context.read(headers)
    assert read == Context(TRACE, SPAN, True, "a=1,b@c=2", {"user": "ann b", "x": "y"})
    assert read is not None
    child = read.child()
    assert child.trace_id == TRACE
    assert child.span_id != SPAN
    made = child.headers()
    assert made["traceparent"] == f"00-{TRACE}-{child.span_id}-01"
    assert (made["tracestate"], made["baggage"]) == ("a=1,b@c=2", "user=ann%20b,x=y")


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "00",
        WHOLE.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
    ],
)
def test_what_is_no_traceparent_begins_no_trace(wrong: str) -> None:
    assert context.read({"traceparent": wrong}) is None


def test_a_later_version_may_say_more() -> None:
    read = context.read({"traceparent": f"cc-{TRACE}-{SPAN}-00-what-else"})
    assert read == Context(TRACE, SPAN, sampled=False)


@pytest.mark.parametrize(
    "wrong", ["A=1", "a=1,a=2", "a", ",".join(f"k{n}=v" for n in range(33)), "a=" + "x" * 600]
)
def test_a_state_that_is_none_is_not_handed_on(wrong: str) -> None:
    read = context.read({"traceparent": WHOLE, "tracestate": wrong})
    assert read == Context(TRACE, SPAN)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.text(max_size=20).map(str.strip)
    )
)
def test_baggage_survives_the_way(baggage: dict[str, str]) -> None:
    sendable = {n: v.encode("utf-8", "ignore").decode() for n, v in baggage.items()}
    made = Context(TRACE, SPAN, baggage=sendable)
    read = context.read(made.headers())
    assert read == made


def test_a_trace_that_begins_here_is_one() -> None:
    assert context.read(context.new().headers()) is not None
