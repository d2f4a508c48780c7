"""OpenAI's batches on the wire: what real ones said, and what they may say."""

import json
from email import message_from_bytes
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from tests.llm.recorded import Recorded, needs_recordings, needs_specs, recordings
from tests.llm.specs import request_errors
from tracemill import Request
from tracemill.errors import CallFailed
from tracemill.llm import providers
from tracemill.llm.providers import PROVIDERS, Reply, Wire, openai_batch
from tracemill.llm.providers.batch import Progress

CHAT = PROVIDERS["openai"]
RESPONSES = PROVIDERS["openai-responses"]
KEYS = st.sampled_from(
    [
        "id",
        "status",
        "custom_id",
        "response",
        "status_code",
        "body",
        "error",
        "errors",
        "data",
        "request_counts",
        "metadata",
        "output_file_id",
        "created_at",
        "code",
        "message",
        "line",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def batches() -> list[Recorded]:
    """Recordings of one batch."""
    return [r for r in recordings("openai", "v1.batches", "v1.batches.id") if r.expected]


def downloaded() -> list[Recorded]:
    """Recordings of the answers of a batch of Responses."""
    files = recordings("openai", "v1.files.id.content")
    return [r for r in files if b'"custom_id"' in r.body and b'"object": "response"' in r.body]


@needs_recordings
def test_recorded_batches_are_read_as_the_sdk_does() -> None:
    for recorded in batches():
        progress = openai_batch.read(json.loads(recorded.body))
        assert recorded.expected
        assert progress.raw_state == recorded.expected["status"]
        assert progress.counts == recorded.expected["counts"]
        assert progress.endpoint == recorded.expected["endpoint"]
        files = [
            recorded.expected[k] for k in ("output_file", "error_file") if k in recorded.expected
        ]
        assert [wire.path for wire in progress.downloads] == [f"/files/{f}/content" for f in files]
    states = {openai_batch.read(json.loads(r.body)).state for r in batches()}
    assert states >= {"created", "running", "ended"}


@needs_recordings
def test_recorded_lists_lead_from_page_to_page() -> None:
    lists = [r for r in recordings("openai", "v1.batches") if b'"object": "list"' in r.body]
    pages = [openai_batch.read_listing(json.loads(r.body)) for r in lists]
    assert all(page.batches for page in pages)
    for page, recorded in zip(pages, lists, strict=True):
        more = json.loads(recorded.body)["has_more"]
        assert page.after == (page.batches[-1].remote_id if more else None)
        assert all(batch.created_at and batch.batch_id is None for batch in page.batches)


@needs_recordings
def test_recorded_answers_are_read_by_the_chat_adapter() -> None:
    adapter = providers.adapter(RESPONSES)
    assert downloaded()
    for recorded in downloaded():
        outcomes = list(openai_batch.outcomes(recorded.body, adapter, RESPONSES, []))
        assert [outcome.custom_id for outcome in outcomes] == ["0", "1"]
        for outcome in outcomes:
            line = json.loads(outcome.raw)
            assert isinstance(outcome.end, Reply)
            assert outcome.end.text
            assert outcome.end.request_id == line["response"]["request_id"]
            told = line["response"]["body"]["usage"]
            assert outcome.end.usage
            assert outcome.end.usage.input_tokens == told["input_tokens"]
            assert outcome.end.usage.output_tokens == told["output_tokens"]


@needs_recordings
def test_recorded_uploads_name_their_file() -> None:
    uploads = [r for r in recordings("openai", "v1.files") if b'"purpose": "batch"' in r.body]
    made = [r for r in uploads if r.request["method"] == "POST"]
    assert made
    for recorded in made:
        told = json.loads(recorded.body)
        assert openai_batch.read_upload(told) == told["id"]


@needs_specs
@pytest.mark.parametrize("provider", [CHAT, RESPONSES])
def test_the_requests_keep_to_the_schema(provider: providers.Provider) -> None:
    request = Request.of("what?", model="openai/gpt-5.4-mini")
    wire = providers.adapter(provider).chat(request, "gpt-5.4-mini", provider)
    created = openai_batch.create("b", [], wire, "file-1")
    assert request_errors("openai", "CreateBatchRequest", created.body) == []
    line = json.loads(openai_batch.item("c", wire))
    assert line.pop("body") == wire.body
    assert created.body
    assert line == {"custom_id": "c", "method": "POST", "url": created.body["endpoint"]}  # type: ignore[index]


def test_the_file_goes_up_as_a_form() -> None:
    lines = [to_json({"custom_id": "c", "body": "--tracemill-b\r\n\u2028"}) + b"\n"] * 2
    wire = openai_batch.upload("b", lines)
    head = f"Content-Type: {wire.headers['content-type']}\r\n\r\n".encode()
    assert isinstance(wire.body, bytes)
    purpose, file = message_from_bytes(head + wire.body, policy=HTTP).iter_parts()  # type: ignore[attr-defined]
    assert purpose.get_content().strip() == "batch"
    assert file.get_payload(decode=True) == b"".join(lines)
    assert file.get_filename() == "tracemill-b.jsonl"


def test_every_state_is_one_of_ours_and_others_are_unknown() -> None:
    words = ["validating", "in_progress", "finalizing", "cancelling", "completed", "expired"]
    words += ["cancelled", "failed", "paused"]
    states = [openai_batch.read({"id": "b", "status": word}).state for word in words]
    assert states == (
        [
            "created",
            "running",
            "running",
            "cancelling",
            "ended",
            "ended",
            "ended",
            "failed",
            "unknown",
        ]
    )


def test_a_failed_batch_tells_where_and_why() -> None:
    errors = [{"line": n, "message": f"bad {n}", "code": "invalid"} for n in range(1, 8)]
    body = {"id": "b", "status": "failed", "errors": {"object": "list", "data": errors}}
    assert openai_batch.read(body).error_message == (
        "line 1: bad 1; line 2: bad 2; line 3: bad 3; line 4: bad 4; line 5: bad 5 (and 2 more)"
    )


def test_files_without_a_name_are_no_files() -> None:
    body = {"id": "b", "status": "completed", "output_file_id": "", "error_file_id": None}
    assert openai_batch.read(body).downloads == ()


def test_our_id_comes_back_in_the_metadata() -> None:
    wire = openai_batch.create("ours", [], Wire("/chat/completions"), "f")
    assert isinstance(wire.body, dict)
    echoed = {"id": "b", "status": "validating", "metadata": wire.body["metadata"]}
    assert openai_batch.read(echoed).batch_id == "ours"


@pytest.mark.parametrize(
    ("line", "custom_id", "kind", "code"),
    [
        (b"not json", None, "malformed_response", None),
        (b'["a"]', None, "malformed_response", None),
        (
            b'{"custom_id":"c","response":null,"error":{"code":"batch_expired","message":"late"}}',
            "c",
            "timeout",
            "batch_expired",
        ),
        (b'{"custom_id":"c"}', "c", "server_error", None),
        (
            (
                b'{"custom_id":"c","response":{"status_code":429,"request_id":"r",'
                b'"body":{"error":{"message":"m","code":"rate_limit_exceeded"}}}}'
            ),
            "c",
            "rate_limited",
            "rate_limit_exceeded",
        ),
        (
            b'{"custom_id":"c","response":{"status_code":200,"body":{}}}',
            "c",
            "malformed_response",
            None,
        ),
    ],
)
def test_lines_that_are_no_answer_are_errors_with_a_class(
    line: bytes, custom_id: str | None, kind: str, code: str | None
) -> None:
    (outcome,) = openai_batch.outcomes(line, providers.adapter(CHAT), CHAT, [])
    assert outcome.custom_id == custom_id
    assert isinstance(outcome.end, CallFailed)
    assert (outcome.end.error_type, outcome.end.code) == (kind, code)


def test_a_line_separator_within_a_line_ends_nothing() -> None:
    line = '{"custom_id":"a\u2028b","error":{"code":"x"}}\r\n\n'.encode()
    outcomes = openai_batch.outcomes(line * 2, providers.adapter(CHAT), CHAT, [])
    assert [outcome.custom_id for outcome in outcomes] == ["a\u2028b"] * 2


def test_half_a_character_costs_no_answer() -> None:
    body = '{"choices":[{"message":{"content":"So \\ud83d"},"finish_reason":"length"}]}'
    line = f'{{"custom_id":"a","response":{{"status_code":200,"body":{body}}}}}'.encode()
    for told in (line, b"\xef\xbb\xbf" + line):
        (outcome,) = openai_batch.outcomes(told, providers.adapter(CHAT), CHAT, [])
        assert outcome.custom_id == "a"
        assert isinstance(outcome.end, Reply)
        assert outcome.end.text == "So \N{REPLACEMENT CHARACTER}"


@given(JSON)
def test_whatever_comes_is_read_or_refused(value: object) -> None:
    try:
        progress = openai_batch.read(value)
    except CallFailed as error:
        assert error.error_type == "malformed_response"  # noqa: PT017
    else:
        assert isinstance(progress, Progress)
    list(openai_batch.outcomes(to_json(value), providers.adapter(CHAT), CHAT, []))


@given(st.binary(max_size=200))
def test_whatever_is_downloaded_is_an_outcome(body: bytes) -> None:
    for outcome in openai_batch.outcomes(body, providers.adapter(CHAT), CHAT, []):
        assert isinstance(outcome.end, CallFailed)
