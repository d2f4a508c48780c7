"""OTLP as bytes: both languages say the same, and what is no request is refused in bounded memory."""

import gzip
import json
import zlib
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.telemetry.made_spans import START_NS, request, span
from tracemill.errors import InputError
from tracemill.telemetry.otlp import JSON, MAX_BYTES, PROTOBUF, Span, SpanEvent, answer, read


def _protobuf() -> bytes:
    made = ExportTraceServiceRequest()
    of_service = made.resource_spans.add()
    of_service.resource.attributes.add(key="service.name").value.string_value = "shop"
    of_scope = of_service.scope_spans.add()
    of_scope.scope.name = "tests"
    one: Any = of_scope.spans.add(
        trace_id=bytes.fromhex("ab" * 16),
        span_id=bytes.fromhex("cd" * 8),
        parent_span_id=bytes.fromhex("ef" * 8),
        name="chat",
        start_time_unix_nano=START_NS,
        end_time_unix_nano=START_NS + 5,
    )
    one.status.code, one.status.message = 2, "no"
    one.attributes.add(key="text").value.string_value = "a"
    one.attributes.add(key="whole").value.int_value = 7
    one.attributes.add(key="part").value.double_value = 0.5
    one.attributes.add(key="yes").value.bool_value = True
    one.attributes.add(key="raw").value.bytes_value = b"\x00\x01"
    one.attributes.add(key="empty")
    one.attributes.add(key="list").value.array_value.values.add().string_value = "x"
    inner = one.attributes.add(key="tree").value.kvlist_value.values.add(key="leaf")
    inner.value.int_value = 1
    event = one.events.add(name="happened", time_unix_nano=3)
    event.attributes.add(key="k").value.string_value = "v"
    return made.SerializeToString()


_SPAN = Span(
    "ab" * 16,
    "cd" * 8,
    "ef" * 8,
    "chat",
    START_NS,
    START_NS + 5,
    True,
    "no",
    {
        "text": "a",
        "whole": 7,
        "part": 0.5,
        "yes": True,
        "raw": "AAE=",
        "empty": None,
        "list": ["x"],
        "tree": {"leaf": 1},
    },
    (SpanEvent("happened", 3, {"k": "v"}),),
    {"service.name": "shop"},
    "tests",
)


def test_json_and_protobuf_say_the_same() -> None:
    tree = {"kvlistValue": {"values": [{"key": "leaf", "value": {"intValue": "1"}}]}}
    told = span(
        traceId="AB" * 16,
        spanId="cd" * 8,
        parentSpanId="ef" * 8,
        name="chat",
        endTimeUnixNano=START_NS + 5,
        status={"code": 2, "message": "no"},
        events=[],
    )
    told["attributes"] = [
        {"key": "text", "value": {"stringValue": "a"}},
        {"key": "whole", "value": {"intValue": "7"}},
        {"key": "part", "value": {"doubleValue": 0.5}},
        {"key": "yes", "value": {"boolValue": True}},
        {"key": "raw", "value": {"bytesValue": "AAE="}},
        {"key": "empty", "value": {}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "x"}]}}},
        {"key": "tree", "value": tree},
    ]
    event = {"key": "k", "value": {"stringValue": "v"}}
    told["events"] = [{"name": "happened", "timeUnixNano": "3", "attributes": [event]}]
    assert read(request(told, resource={"service.name": "shop"}), JSON) == [_SPAN]
    assert read(_protobuf(), PROTOBUF) == [_SPAN]
    assert read(gzip.compress(_protobuf()), f"{PROTOBUF}; charset=x", "gzip") == [_SPAN]
    assert read(zlib.compress(_protobuf()), "application/protobuf", "deflate") == [_SPAN]


def test_ids_in_base64_are_understood() -> None:
    told = span(traceId="q6urq6urq6urq6urq6urqw==", spanId="zc3Nzc3Nzc0=")
    assert read(request(told), JSON)[0][:2] == ("ab" * 16, "cd" * 8)


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "why"),
    [
        (b"{}", "text/plain", None, "not 'text/plain'"),
        (b"{}", "", None, "not 'nothing'"),
        (b"{", JSON, None, "not JSON"),
        (b"[]", JSON, None, "not an ExportTraceServiceRequest"),
        (b'{"resourceSpans": 3}', JSON, None, "resourceSpans is not a list"),
        (b'{"resourceSpans": [3]}', JSON, None, "no object"),
        (b"\xff\xff\xff", PROTOBUF, None, "not an ExportTraceServiceRequest"),
        (b"{}", JSON, "br", "gzip or deflate"),
        (b"{}", JSON, "gzip", "cannot be unpacked"),
        (gzip.compress(b'{"resourceSpans": []}', mtime=0)[:-9], JSON, "gzip", "ends too early"),
        pytest.param(b"[" * 100_000, JSON, None, "not JSON", id="deep"),
        pytest.param(b" " * (MAX_BYTES + 1), JSON, None, "more than 32 MiB", id="large"),
    ],
)
def test_what_is_no_request_is_refused(
    body: bytes, content_type: str, encoding: str | None, why: str
) -> None:
    with pytest.raises(InputError, match=why):
        read(body, content_type, encoding)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    packing = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    bomb = b"".join(packing.compress(zeros) for _ in range(128)) + packing.flush()
    assert len(bomb) < 2**18  # of 128 MiB
    with pytest.raises(InputError, match="more than 32 MiB"):
        read(bomb, JSON, "gzip")


def test_what_was_refused_is_told_in_the_language_of_the_request() -> None:
    told = json.loads(answer(3, "no trace id", JSON))
    assert told == {"partialSuccess": {"rejectedSpans": "3", "errorMessage": "no trace id"}}
    read_back = ExportTraceServiceResponse.FromString(answer(3, "no trace id", PROTOBUF))
    assert read_back.partial_success.rejected_spans == 3
    assert read_back.partial_success.error_message == "no trace id"
    assert (answer(0, "", JSON), answer(0, "", PROTOBUF)) == (b"{}", b"")
