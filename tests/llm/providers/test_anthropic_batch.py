"""Anthropic's batches on the wire: what real ones said, and what they may say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from tests.llm.recorded import needs_recordings, recordings
from tracemill import Request
from tracemill.errors import CallFailed
from tracemill.llm import providers
from tracemill.llm.providers import PROVIDERS, Reply, anthropic_batch
from tracemill.llm.providers.batch import Outcome, Progress

PROVIDER = PROVIDERS["anthropic"]
KEYS = st.sampled_from(
    [
        "id",
        "processing_status",
        "request_counts",
        "custom_id",
        "result",
        "type",
        "error",
        "message",
        "data",
        "has_more",
        "created_at",
        "content",
    ]
)
WORDS = st.sampled_from(["succeeded", "errored", "expired", "canceled", "ended", "error"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
ENDPOINTS = ("v1.messages.batches", "v1.messages.batches.id.cancel")


def outcome(result: object) -> Outcome:
    line = to_json({"custom_id": "c", "result": result})
    (found,) = anthropic_batch.outcomes(line, providers.adapter(PROVIDER), PROVIDER, [])
    assert found.custom_id == "c"
    return found


@needs_recordings
def test_recorded_batches_are_read_as_the_sdk_does() -> None:
    found = [r for r in recordings("anthropic", *ENDPOINTS) if r.expected]
    assert found
    for recorded in found:
        progress = anthropic_batch.read(json.loads(recorded.body))
        assert recorded.expected
        assert progress.raw_state == recorded.expected["status"]
        assert progress.counts == recorded.expected["counts"]
        assert progress.created_at
        assert progress.downloads == ()
    states = [anthropic_batch.read(json.loads(r.body)).state for r in found]
    assert set(states) == {"running", "cancelling"}


@needs_recordings
def test_recorded_refusals_of_results_are_read_as_the_sdk_does() -> None:
    found = recordings("anthropic", "v1.messages.batches.id.results")
    assert found
    for recorded in found:
        error = providers.adapter(PROVIDER).error(recorded.status, recorded.headers, recorded.body)
        assert recorded.expected
        assert (error.error_type, error.status) == ("not_found", recorded.expected["status"])
        assert error.request_id == recorded.expected["request_id"]


@needs_recordings
def test_recorded_requests_are_built_alike() -> None:
    for recorded in recordings("anthropic", "v1.messages.batches"):
        requests = recorded.request["json"]["requests"]
        items = [
            anthropic_batch.item(one["custom_id"], providers.Wire("/messages", one["params"]))
            for one in requests
        ]
        wire = anthropic_batch.create("b", items, providers.Wire("/messages"), None)
        assert isinstance(wire.body, bytes)
        assert json.loads(wire.body) == recorded.request["json"]
        assert recorded.request["url"].endswith(f"/v1{wire.path}")


def test_a_batch_has_the_headers_of_its_calls() -> None:
    request = Request.of("what?", model="anthropic/claude-haiku-4-5")
    sample = providers.adapter(PROVIDER).chat(request, "claude-haiku-4-5", PROVIDER)
    wire = anthropic_batch.create("b", [anthropic_batch.item("c", sample)], sample, None)
    assert wire.headers == {**sample.headers, "content-type": "application/json"}
    assert isinstance(wire.body, bytes)
    assert json.loads(wire.body) == {"requests": [{"custom_id": "c", "params": sample.body}]}


def test_results_are_fetched_from_the_provider_and_from_nobody_else() -> None:
    body = {
        "id": "msgbatch_1",
        "processing_status": "ended",
        "results_url": "https://attacker.example/v1/messages/batches/msgbatch_1/results",
    }
    (wire,) = anthropic_batch.read(body).downloads
    assert wire.path == "/messages/batches/msgbatch_1/results"
    tricky = anthropic_batch.read(body | {"id": "x/../../y?z#"}).downloads[0].path
    assert tricky == "/messages/batches/x%2F..%2F..%2Fy%3Fz%23/results"


def test_an_answer_is_read_by_the_chat_adapter() -> None:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": "four"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 7, "output_tokens": 2},
    }
    end = outcome({"type": "succeeded", "message": message}).end
    assert isinstance(end, Reply)
    assert (end.text, end.finish_reason, end.response_id) == ("four", "stop", "msg_1")
    assert end.usage
    assert (end.usage.input_tokens, end.usage.output_tokens) == (10, 2)


@pytest.mark.parametrize(
    ("result", "kind", "code"),
    [
        (
            {"type": "errored", "error": {"type": "error", "error": {"type": "overloaded_error"}}},
            "overloaded",
            "overloaded_error",
        ),
        (
            {"type": "errored", "error": {"type": "invalid_request_error", "message": "no"}},
            "invalid_request",
            "invalid_request_error",
        ),
        ({"type": "errored", "error": "?"}, "server_error", None),
        ({"type": "expired"}, "timeout", "expired"),
        ({"type": "canceled"}, "interrupted", "canceled"),
        ({"type": "succeeded", "message": {}}, "malformed_response", None),
        ({"type": "postponed"}, "malformed_response", None),
        (None, "malformed_response", None),
    ],
)
def test_what_is_no_answer_is_an_error_with_a_class(
    result: object, kind: str, code: str | None
) -> None:
    end = outcome(result).end
    assert isinstance(end, CallFailed)
    assert (end.error_type, end.code, end.status) == (kind, code, None)
    assert str(end)


def test_a_state_that_is_not_known_is_unknown() -> None:
    body = {"id": "b", "processing_status": "paused"}
    assert anthropic_batch.read(body).state == "unknown"


def test_a_list_leads_from_page_to_page() -> None:
    batch = {"id": "b", "processing_status": "ended"}
    page = anthropic_batch.read_listing({"data": [batch], "has_more": True})
    assert (len(page.batches), page.after) == (1, "b")
    assert anthropic_batch.listing("b").path == "/messages/batches?limit=100&after_id=b"
    assert anthropic_batch.read_listing({"data": [batch], "has_more": False}).after is None
    assert anthropic_batch.read_listing({"data": [], "has_more": True}).after is None


@given(JSON)
def test_whatever_comes_is_read_or_refused(value: object) -> None:
    try:
        progress = anthropic_batch.read(value)
    except CallFailed as error:
        assert error.error_type == "malformed_response"  # noqa: PT017
    else:
        assert isinstance(progress, Progress)
    outcome(value)


@given(st.binary(max_size=200))
def test_whatever_is_downloaded_is_an_outcome(body: bytes) -> None:
    for found in anthropic_batch.outcomes(body, providers.adapter(PROVIDER), PROVIDER, []):
        assert isinstance(found.end, CallFailed)
