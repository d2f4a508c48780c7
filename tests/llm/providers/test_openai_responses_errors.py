"""Errors of the Responses API, as answers and within answers and streams, have their class."""

import json

import pytest

from tests.llm.recorded import Recorded, needs_recordings, recordings
from tracemill.errors import CallFailed
from tracemill.llm.providers import PROVIDERS, openai_responses
from tracemill.llm.sse import Event
from tracemill.messages import Usage

OPENAI = PROVIDERS["openai-responses"]
ERRORS = [
    r
    for r in (*recordings("openai", "v1.responses"), *recordings("compat-*", "responses"))
    if r.expected and r.status >= 400
]
# xAI tells a wrong key with 400, OpenAI a model that it has not.
CLASSES = {400: {"invalid_request", "unknown_model", "authentication"}, 401: {"authentication"}}


def name(recorded: Recorded) -> str:
    return recorded.file


@needs_recordings
@pytest.mark.parametrize("recorded", ERRORS, ids=name)
def test_an_error_says_what_the_sdk_says(recorded: Recorded):
    expected = recorded.expected or {}
    error = openai_responses.error(recorded.status, recorded.headers, recorded.body)
    assert error.status == expected["status"]
    assert error.request_id == expected["request_id"]
    if expected["code"] or expected["type"]:
        assert error.code == (expected["code"] or expected["type"])
    assert error.error_type in CLASSES[recorded.status]
    assert not error.retry


def test_an_error_that_is_a_text_beside_its_code():
    body = b'{"code": "invalid-argument", "error": "Incorrect API key provided."}'
    error = openai_responses.error(400, {}, body)
    assert (str(error), error.code) == ("Incorrect API key provided.", "invalid-argument")


@pytest.mark.parametrize(
    ("code", "error_type", "retry"),
    [
        ("server_error", "server_error", True),
        ("server_is_overloaded", "overloaded", True),
        ("rate_limit_exceeded", "rate_limited", True),
        ("slow_down", "rate_limited", True),
        ("insufficient_quota", "billing", False),
        ("project_spend_limit_exceeded", "billing", False),
        ("context_length_exceeded", "context_length_exceeded", False),
        ("invalid_prompt", "content_filter", False),
        ("image_too_large", "invalid_request", False),
        ("ERR_SOMETHING", "server_error", True),
    ],
)
def test_an_error_within_an_answer_has_the_class_of_its_code(
    code: str, error_type: str, retry: bool
):
    problem = {"code": code, "message": "Sorry"}
    failed = {"status": "failed", "error": problem, "output": []}
    events = [
        {"type": "error", **problem, "param": None, "sequence_number": 1},
        {"type": "error", "error": problem},
        {"type": "response.failed", "response": failed},
        {"error": problem},
    ]
    caught: list[CallFailed] = []
    for event in events:
        with pytest.raises(CallFailed, match="Sorry") as one:
            list(openai_responses.fold(OPENAI).feed(Event("", json.dumps(event))))
        caught.append(one.value)
    with pytest.raises(CallFailed, match="Sorry") as one:
        openai_responses.read(failed, OPENAI)
    caught.append(one.value)
    assert {(e.error_type, e.retry, e.code) for e in caught} == {(error_type, retry, code)}


def test_a_response_that_fails_keeps_what_was_counted():
    problem = {"code": "server_error", "message": "Sorry"}
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    failed = {"status": "failed", "error": problem, "output": [], "usage": usage}
    fold = openai_responses.fold(OPENAI)
    list(fold.feed(Event("", '{"type": "response.output_text.delta", "delta": "So"}')))
    with pytest.raises(CallFailed, match="Sorry"):
        list(fold.feed(Event("", json.dumps({"type": "response.failed", "response": failed}))))
    reply = fold.reply()
    assert (reply.text, reply.raw_finish_reason, fold.done) == ("So", "failed", False)
    assert reply.usage == Usage(input_tokens=7, output_tokens=3, raw=usage)


@pytest.mark.parametrize(
    ("status", "problem", "error_type", "retry"),
    [
        (429, {"type": "insufficient_quota", "code": "credit_balance_exhausted"}, "billing", False),
        (429, {"type": "requests", "code": "rate_limit_exceeded"}, "rate_limited", True),
        (400, {"code": "context_length_exceeded"}, "context_length_exceeded", False),
        (400, {"code": "content_filter"}, "content_filter", False),
        (502, {"code": 502}, "server_error", True),
        (404, {"code": "model_not_found"}, "unknown_model", False),
    ],
)
def test_an_error_has_its_class(status: int, problem: dict, error_type: str, retry: bool):
    body = json.dumps({"error": {"message": "Sorry"} | problem}).encode()
    error = openai_responses.error(status, {"x-request-id": "r", "retry-after-ms": "250"}, body)
    assert (error.error_type, error.retry, error.code) == (error_type, retry, str(problem["code"]))
    assert (error.request_id, error.retry_after_s, str(error)) == ("r", 0.25, "Sorry")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"no"', b'{"detail": "Not here"}'])
def test_an_error_without_a_form_still_says_something(body: bytes):
    assert str(openai_responses.error(500, {}, body)).strip()
