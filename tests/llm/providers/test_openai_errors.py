"""Errors of OpenAI and of those who speak its language, in all the forms that were recorded."""

import json
from typing import Any

import pytest

from tests.llm.recorded import Recorded, needs_recordings, recordings
from tracemill.llm.providers.openai_errors import error, failed_within

RECORDED = [
    r for r in [*recordings("openai"), *recordings("compat-*")] if r.status >= 400 and r.expected
]
# Where the SDK has one class for the status, the body tells more.
CLASSES = {
    "BadRequestError": {
        "invalid_request",
        "context_length_exceeded",
        "unknown_model",
        "authentication",
    },
    "AuthenticationError": {"authentication"},
    "NotFoundError": {"unknown_model"},
}


@needs_recordings
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda r: r.file)
def test_an_error_is_that_of_the_sdk(recorded: Recorded):
    expected = recorded.expected or {}
    found = error(recorded.status, recorded.headers, recorded.body)
    assert found.status == expected["status"]
    assert found.error_type in CLASSES[expected["error_class"]]
    assert found.code == (expected["code"] or expected["type"]) or not expected["code"]
    assert found.request_id == expected["request_id"] or expected["request_id"] is None
    assert str(found).strip("{}") in recorded.body.decode().replace('\\"', '"')
    assert not found.retry


def of(body: Any, status: int = 400, **headers: str) -> tuple[str, str, str | None]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = error(status, {k.replace("_", "-"): v for k, v in headers.items()}, raw)
    return found.error_type, str(found), found.code


@pytest.mark.parametrize(
    ("status", "problem", "error_type"),
    [
        (429, {"type": "insufficient_quota", "code": "insufficient_quota"}, "billing"),
        (429, {"type": "insufficient_quota", "code": "credit_balance_exhausted"}, "billing"),
        (429, {"code": "organization_spend_limit_exceeded"}, "billing"),
        (429, {"code": "project_spend_limit_exceeded"}, "billing"),
        (429, {"code": "organization_usage_limit_exceeded"}, "billing"),
        (402, {"code": 402}, "billing"),
        (429, {"code": "rate_limit_exceeded"}, "rate_limited"),
        (503, {"code": "slow_down"}, "overloaded"),
        (400, {"code": "context_length_exceeded"}, "context_length_exceeded"),
        (400, {"type": "exceed_context_size_error"}, "context_length_exceeded"),
        (400, {"code": "content_filter"}, "content_filter"),
        (400, {"innererror": {"code": "ResponsibleAIPolicyViolation"}}, "content_filter"),
        (403, {"code": 403, "metadata": {"flagged_input": "x"}}, "content_filter"),
        (401, {"code": "invalid_api_key"}, "authentication"),
        (400, {"code": "invalid_api_key"}, "authentication"),
        (404, {"code": "model_not_found"}, "unknown_model"),
        (404, {"code": "DeploymentNotFound"}, "unknown_model"),
        (404, {"code": "404"}, "not_found"),
        (413, {}, "request_too_large"),
        (500, {"code": "server_error"}, "server_error"),
        (529, {}, "overloaded"),
    ],
)
def test_an_error_has_its_class(status: int, problem: dict[str, Any], error_type: str):
    found = error(status, {}, json.dumps({"error": {"message": "Sorry"} | problem}).encode())
    assert found.error_type == error_type
    assert found.retry == (status in (429, 500, 503, 529) and error_type != "billing")


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"error": {"message": "Sorry", "code": "bad"}}, "Sorry", "bad"),
        ({"error": {"message": "Sorry", "code": 17}}, "Sorry", "17"),
        ({"error": {"message": "Sorry", "type": "bad", "code": None}}, "Sorry", "bad"),
        ({"error": "Sorry"}, "Sorry", None),
        ({"error": "Sorry", "code": "bad"}, "Sorry", "bad"),
        ({"detail": "Sorry"}, "Sorry", None),
        ({"message": "Sorry", "code": "bad"}, "Sorry", "bad"),
        ({"object": "error", "message": "Sorry", "type": "bad"}, "Sorry", "bad"),
        ({"detail": [{"loc": ["body", "n"], "msg": "Too big"}]}, "body.n: Too big", None),
        ({"message": {"detail": [{"loc": ["n"], "msg": "Odd"}]}, "code": 3}, "n: Odd", "3"),
        ([{"error": {"message": "Sorry"}}], "Sorry", None),
        ("Sorry", "Sorry", None),
        (b"<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway", None),
        (b"upstream connect error", "upstream connect error", None),
        (b"", "the provider failed with 400", None),
        ([], "the provider failed with 400", None),
        ({"error": {"code": "bad"}}, "the provider failed with bad", "bad"),
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": "Too hot"}}},
            "Provider returned error: Too hot",
            None,
        ),
    ],
)
def test_the_sentence_is_found_wherever_it_is(body: Any, message: str, code: str | None):
    assert of(body) == ("invalid_request", message, code)


def test_a_long_message_is_cut():
    assert len(of({"error": "x" * 10_000})[1]) == 2_000


def test_ids_and_waits_come_from_the_headers():
    found = error(429, {"apim-request-id": "a", "retry-after-ms": "250"}, b"{}")
    assert (found.request_id, found.retry, found.retry_after_s) == ("a", True, 0.25)
    assert error(500, {"x-request-id": "x", "apim-request-id": "a"}, b"").request_id == "x"


@pytest.mark.parametrize(
    ("problem", "status", "error_type", "retry"),
    [
        ({"code": "rate_limit_exceeded"}, 429, "rate_limited", True),
        ({"code": 502}, 502, "server_error", True),
        ({"code": 401}, 401, "authentication", False),
        ({"status_code": 400, "type": "invalid_request_error"}, 400, "invalid_request", False),
        ({"status": 400, "code": "content_filter"}, 400, "content_filter", False),
        ({"code": "insufficient_quota"}, 429, "billing", False),
        ({"type": "never seen"}, 500, "server_error", True),
    ],
)
def test_an_error_within_an_answer_has_a_status_of_its_own(
    problem: dict[str, Any], status: int, error_type: str, retry: bool
):
    found = failed_within({"error": {"message": "Sorry"} | problem})
    assert (found.status, found.error_type, found.retry) == (status, error_type, retry)
