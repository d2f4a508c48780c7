"""Gemini's batches on the wire: what real ones said, and what they may say."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from tests.llm.recorded import needs_recordings, needs_specs, recordings
from tests.llm.specs import request_errors
from tracemill import Request
from tracemill.errors import CallFailed
from tracemill.llm import providers
from tracemill.llm.providers import PROVIDERS, Reply, Wire, gemini_batch
from tracemill.llm.providers.batch import Outcome, Progress

PROVIDER = PROVIDERS["gemini"]
KEYS = st.sampled_from(
    [
        "name",
        "metadata",
        "state",
        "batchStats",
        "error",
        "code",
        "message",
        "response",
        "inlinedResponses",
        "output",
        "key",
        "displayName",
        "operations",
        "candidates",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def outcomes(body: object, custom_ids: list[str] | None = None) -> list[Outcome]:
    adapter = providers.adapter(PROVIDER)
    return list(gemini_batch.outcomes(to_json(body), adapter, PROVIDER, custom_ids or []))


def inlined(*responses: object) -> dict[str, Any]:
    return {"name": "batches/b", "response": {"inlinedResponses": {"inlinedResponses": responses}}}


@needs_recordings
def test_recorded_batches_are_read() -> None:
    found = recordings("google", "v1beta.batches.get", "v1beta.models.batchGenerateContent")
    assert found
    read = {}
    for recorded in found:
        told = json.loads(recorded.body)
        progress = gemini_batch.read(told)
        assert (progress.remote_id, progress.raw_state) == (
            told["name"],
            told["metadata"]["state"],
        )
        assert progress.created_at
        assert progress.batch_id is None
        read[progress.raw_state] = (progress.state, progress.counts)
    assert read == {
        "BATCH_STATE_PENDING": ("created", {"total": 2, "pending": 2}),
        "BATCH_STATE_RUNNING": ("running", {"total": 2, "pending": 2}),
        "BATCH_STATE_SUCCEEDED": ("ended", {"total": 2, "succeeded": 2}),
    }


@needs_recordings
def test_recorded_answers_are_read_by_the_chat_adapter() -> None:
    found = [r for r in recordings("google", "v1beta.batches.get") if b"responseId" in r.body]
    assert found
    for recorded in found:
        # Its calls have no key of ours: then the order tells which is which.
        two = outcomes(json.loads(recorded.body), ["first", "second"])
        assert [outcome.custom_id for outcome in two] == ["first", "second"]
        ends = [outcome.end for outcome in two]
        assert [end.text for end in ends if isinstance(end, Reply)] == ["4", "Jupiter"]
        usage = [end.usage for end in ends if isinstance(end, Reply) and end.usage]
        assert [(u.input_tokens, u.output_tokens, u.reasoning_output_tokens) for u in usage] == [
            (13, 44, 43),
            (13, 54, 53),
        ]


@needs_recordings
def test_recorded_requests_are_built_alike() -> None:
    for recorded in recordings("google", "v1beta.models.batchGenerateContent"):
        sent = recorded.request["json"]
        requests = sent["batch"]["inputConfig"]["requests"]["requests"]
        path = recorded.request["url"].partition("/v1beta")[2]
        sample = Wire(path.replace(":batchGenerateContent", ":generateContent"))
        items = [
            gemini_batch.item(str(n), sample._replace(body=one["request"]))
            for n, one in enumerate(requests)
        ]
        wire = gemini_batch.create("b", items, sample, None)
        assert wire.path == path
        assert isinstance(wire.body, bytes)
        made = json.loads(wire.body)
        for one in made["batch"]["inputConfig"]["requests"]["requests"]:
            one["metadata"] = {"custom_id": one["metadata"]["key"]}
        made["batch"]["displayName"] = sent["batch"]["displayName"]
        assert made == sent


@needs_specs
def test_the_request_keeps_to_the_schema() -> None:
    request = Request.of("what?", model="gemini/gemini-3-flash-preview")
    sample = providers.adapter(PROVIDER).chat(request, "gemini-3-flash-preview", PROVIDER)
    wire = gemini_batch.create("b", [gemini_batch.item("c", sample)] * 2, sample, None)
    assert wire.path == "/models/gemini-3-flash-preview:batchGenerateContent"
    assert isinstance(wire.body, bytes)
    body = json.loads(wire.body)
    assert request_errors("google", "BatchGenerateContentRequest", body) == []
    (one, _) = body["batch"]["inputConfig"]["requests"]["requests"]
    assert request_errors("google", "InlinedRequest", one) == []
    assert request_errors("google", "GenerateContentRequest", one["request"]) == []


@pytest.mark.parametrize("form", ["BATCH_STATE_", "JOB_STATE_"])
def test_every_state_is_one_of_ours_and_others_are_unknown(form: str) -> None:
    words = ["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"]
    words += ["PARTIALLY_SUCCEEDED", "UNSPECIFIED", "RESTING"]
    states = [
        gemini_batch.read({"name": "batches/b", "metadata": {"state": form + word}}).state
        for word in words
    ]
    assert states == (
        ["created", "running", "ended", "failed", "ended", "ended", "ended", "unknown", "unknown"]
    )


def test_an_operation_that_is_done_has_ended_whatever_its_state() -> None:
    operation = {"name": "batches/b", "metadata": {"state": "RESTING"}}
    assert gemini_batch.read(operation | {"done": False}).state == "unknown"
    assert gemini_batch.read(operation | {"done": True}).state == "ended"


def test_an_operation_that_failed_is_a_batch_that_failed() -> None:
    metadata = {"state": "BATCH_STATE_RUNNING"}
    body = {"name": "batches/b", "metadata": metadata, "done": True}
    failed = gemini_batch.read(body | {"error": {"code": 13, "message": "broken"}})
    assert (failed.state, failed.error_message) == ("failed", "broken")
    assert gemini_batch.read(body | {"error": {"code": 1}}).state == "ended"


def test_our_id_comes_back_as_its_name() -> None:
    wire = gemini_batch.create("ours", [], Wire("/models/m:generateContent"), None)
    assert isinstance(wire.body, bytes)
    name = json.loads(wire.body)["batch"]["displayName"]
    body = {"name": "batches/b", "metadata": {"displayName": name}}
    assert gemini_batch.read(body).batch_id == "ours"


def test_results_are_told_apart_by_their_keys() -> None:
    error = {"code": 3, "message": "bad"}
    body = inlined(
        {"metadata": {"key": "b"}, "error": error}, {"metadata": {"key": "a"}, "error": error}
    )
    assert [outcome.custom_id for outcome in outcomes(body, ["a", "b"])] == ["b", "a"]
    # Of other numbers the order tells nothing.
    assert [outcome.custom_id for outcome in outcomes(inlined({}), ["a", "b"])] == [None]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 1, "message": "cancelled"}, "interrupted"),
        ({"code": 3, "message": "bad"}, "invalid_request"),
        ({"code": 4, "message": "late"}, "timeout"),
        ({"code": 8, "message": "too many"}, "rate_limited"),
        ({"code": 14, "message": "away"}, "overloaded"),
        ({"code": 503, "message": "away"}, "overloaded"),
        ({"code": "?", "message": "what"}, "server_error"),
    ],
)
def test_errors_have_the_class_of_an_answer_of_their_own(error: object, kind: str) -> None:
    (found,) = outcomes(inlined({"metadata": {"key": "a"}, "error": error}))
    assert isinstance(found.end, CallFailed)
    assert (found.end.error_type, found.end.status) == (kind, None)
    assert str(found.end)


def test_a_list_leads_from_page_to_page() -> None:
    body = {"operations": [{"name": "batches/b"}], "nextPageToken": "next"}
    page = gemini_batch.read_listing(body)
    assert ([batch.remote_id for batch in page.batches], page.after) == (["batches/b"], "next")
    assert gemini_batch.listing("next").path == "/batches?pageSize=100&pageToken=next"
    assert gemini_batch.read_listing({}).after is None


@given(JSON)
def test_whatever_comes_is_read_or_refused(value: object) -> None:
    try:
        progress = gemini_batch.read(value)
    except CallFailed as error:
        assert error.error_type == "malformed_response"  # noqa: PT017
    else:
        assert isinstance(progress, Progress)
    outcomes(value)
    outcomes(inlined(value))


@given(st.binary(max_size=200))
def test_whatever_is_downloaded_is_an_outcome(body: bytes) -> None:
    adapter = providers.adapter(PROVIDER)
    for found in gemini_batch.outcomes(body, adapter, PROVIDER, []):
        assert isinstance(found.end, CallFailed)
