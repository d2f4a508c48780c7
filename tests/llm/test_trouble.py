"""Which error a status stands for, and whether and when the same request may be tried again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.llm.recorded import needs_recordings, recordings
from tracemill.llm.trouble import failed, retry_after

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
IN_A_MINUTE = format_datetime(NOON + timedelta(minutes=1), usegmt=True)


@pytest.mark.parametrize(
    ("status", "error_type", "again"),
    [
        (400, "invalid_request", False),
        (401, "authentication", False),
        (402, "billing", False),
        (403, "permission_denied", False),
        (404, "not_found", False),
        (405, "invalid_request", False),
        (408, "timeout", True),
        (409, "conflict", True),
        (413, "request_too_large", False),
        (422, "invalid_request", False),
        (429, "rate_limited", True),
        (498, "authentication", False),
        (499, "interrupted", False),
        (500, "server_error", True),
        (502, "server_error", True),
        (503, "overloaded", True),
        (504, "timeout", True),
        (520, "server_error", True),
        (529, "overloaded", True),
    ],
)
def test_the_status_decides(status: int, error_type: str, again: bool) -> None:
    error = failed(status, {}, "no")
    assert (error.error_type, error.retry, error.retry_after_s) == (error_type, again, None)
    assert str(error) == "no"


def test_what_the_provider_says_is_kept() -> None:
    error = failed(429, {"retry-after": "3"}, "slow down", code="slow_down", request_id="req_1")
    assert (error.status, error.code, error.request_id) == (429, "slow_down", "req_1")
    assert error.retry_after_s == 3


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500, 529])
@pytest.mark.parametrize(("says", "again"), [("true", True), ("false", False), (" True ", True)])
def test_x_should_retry_wins_over_the_status(status: int, says: str, again: bool) -> None:
    assert failed(status, {"x-should-retry": says}, "no").retry is again


@pytest.mark.parametrize("status", [402, 429, 500])
def test_billing_is_final_whatever_the_headers_say(status: int) -> None:
    headers = {"x-should-retry": "true", "retry-after": "1"}
    assert failed(status, headers, "no money", error_type="billing").retry is False
    assert failed(402, headers, "no money").retry is False


def test_a_word_that_x_should_retry_does_not_know_leaves_it_to_the_status() -> None:
    assert failed(500, {"x-should-retry": "maybe"}, "no").retry is True
    assert failed(400, {"x-should-retry": ""}, "no").retry is False


@pytest.mark.parametrize(
    ("error_type", "again"),
    [
        ("overloaded", True),
        ("server_error", True),
        ("rate_limited", True),
        ("timeout", True),
        ("invalid_request", False),
        ("content_filter", False),
        ("billing", False),
    ],
)
def test_an_error_within_a_good_status_is_judged_by_its_class(error_type: str, again: bool) -> None:
    assert failed(200, {}, "no", error_type=error_type).retry is again


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "31"}, 31.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "31"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "31"}, 31.0),
        ({"retry-after-ms": "nan", "retry-after": "31"}, 31.0),
        ({"retry-after-ms": "", "retry-after": IN_A_MINUTE}, 60.0),
        ({"retry-after": IN_A_MINUTE}, 60.0),
        ({"retry-after": "Sun, 01 Mar 2026 14:01:00 +0200"}, 60.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:01:00 -0000"}, 60.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "86400"}, 86_400.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Sun, 01 Mar 99999999999999999999 12:01:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOON) == seconds


def test_a_date_counts_from_now() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    told = retry_after({"retry-after": date})
    assert told is not None
    assert 3500 < told <= 3600


def test_headers_win_over_the_body() -> None:
    assert failed(429, {}, "no", retry_after_s=48).retry_after_s == 48
    assert failed(429, {"retry-after": "2"}, "no", retry_after_s=48).retry_after_s == 2
    assert failed(429, {"retry-after": "nan"}, "no", retry_after_s=48).retry_after_s == 48


@given(st.text(), st.text(), st.text(), st.integers(-1, 999))
@example("0", "1 Jan 0 0:0:0 +9999999999", "", 500)
@example("", " ", "", 500)
@example("", "1 Jan 1 0:0:0 +2359", "", 500)
def test_no_header_can_break_it(ms: str, after: str, should: str, status: int) -> None:
    headers = {"retry-after-ms": ms, "retry-after": after, "x-should-retry": should}
    told = failed(status, headers, "no").retry_after_s
    assert told is None or 0 <= told < float("inf")


@needs_recordings
def test_the_waits_that_providers_really_asked_for() -> None:
    asked = {
        r.headers["retry-after"]: retry_after(r.headers)
        for r in recordings("[!e]*")
        if "retry-after" in r.headers
    }
    assert asked
    assert asked == {text: float(text) for text in asked}
