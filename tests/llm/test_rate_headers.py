"""What providers tell about their limits, in every notation that we have seen."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.llm.recorded import needs_recordings, recordings
from tracemill.llm.rate_headers import LONGEST_S, Told, duration_s, read, until

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("174ms", 0.174),
        ("8.64s", 8.64),
        ("17.563999999s", 17.563999999),
        ("1h2m3.5s", 3723.5),
        ("2d", 172_800),
        ("250us", 250e-6),
        ("250\u00b5s", 250e-6),
        ("250\u03bcs", 250e-6),
        ("9ns", 9e-9),
        ("0s", 0),
        ("0", 0),
        ("59", 59),
        (" 0.5 ", 0.5),
        (".5s", 0.5),
        ("", None),
        ("s", None),
        ("-1s", None),
        ("1s ago", None),
        ("soon", None),
        ("1e3s", None),
        ("nan", None),
        ("inf", None),
        ("9" * 400, None),
        ("9" * 400 + "h", None),
        ("\u0661s", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds))


@given(
    st.tuples(
        st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999)
    ).filter(any)
)
def test_what_go_writes_is_read_back(parts: tuple[int, int, int, int]) -> None:
    text = "".join(f"{n}{unit}" for n, unit in zip(parts, ("h", "m", "s", "ms"), strict=True) if n)
    hours, minutes, seconds, ms = parts
    assert duration_s(text) == pytest.approx(hours * 3600 + minutes * 60 + seconds + ms / 1000)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-03-01T12:00:34Z", 34),
        ("2026-03-01T14:00:34+02:00", 34),
        ("2026-03-01T12:00:34", 34),
        ("1970-01-01T00:00:00Z", 0),
        (str(int(NOON.timestamp()) + 7), 7),
        (str((int(NOON.timestamp()) + 7) * 1000), 7),
        ("1741305600000", 0),
        ("tomorrow", None),
        ("2026-13-01T12:00:34Z", None),
        ("", None),
    ],
)
def test_moments(text: str, seconds: float | None) -> None:
    assert until(text, NOON) == seconds


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        (
            {
                "x-ratelimit-limit-requests": "500",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "120ms",
                "x-ratelimit-remaining-tokens": "1999",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            # One request of 500 is there again after a 500th of the time.
            [Told("requests", 0, 0.12 * (1 / 500)), Told("tokens", 1999, 360)],
        ),
        (
            {
                "x-ratelimit-limit-tokens": "10000",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            [Told("tokens", 0, 18)],
        ),
        (
            {
                "x-ratelimit-limit-tokens": "10000",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "45",
                "x-ratelimit-renewalperiod-tokens": "60",
            },
            [Told("tokens", 0, 45)],
        ),
        (
            {
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "1970-01-01T00:00:00Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-03-01T12:00:34Z",
                "retry-after": "31",
            },
            [
                Told("requests", 49, 0),
                Told("input-tokens", 0, 31),
                Told("retry-after", 0, 31),
            ],
        ),
        (  # All tokens are back in six minutes, enough of them in a second.
            {
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
                "retry-after": "1",
            },
            [Told("tokens", 0, 1), Told("retry-after", 0, 1)],
        ),
        (  # Azure: seconds, and no more of them than the window has
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-renewalperiod-requests": "60",
                "x-ratelimit-reset-requests": "500",
            },
            [Told("requests", 0, 60)],
        ),
        (
            {"x-ratelimit-limit": "2", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"},
            [Told("requests", 0, 1)],
        ),
        (
            {"x-ratelimit-remaining-req-10-second": "0", "x-ratelimit-remaining-req-minute": "7"},
            [Told("requests-10s", 0, 10), Told("requests", 7, 60)],
        ),
        ({"x-ratelimit-remaining-tokens-minute": "0"}, [Told("tokens", 0, 60)]),
        (
            {"x-trial-endpoint-call-limit": "20", "x-trial-endpoint-call-remaining": "0"},
            [Told("trial-requests", 0, 60)],
        ),
        ({"retry-after-ms": "250"}, [Told("retry-after", 0, 0.25)]),
        ({"retry-after": "9999999"}, [Told("retry-after", 0, LONGEST_S)]),
        # Without a time to wait for, there is nothing to do about it.
        ({"x-ratelimit-remaining-requests": "0"}, []),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"}, []),
        ({"x-ratelimit-remaining-requests": "many", "x-ratelimit-reset-requests": "1s"}, []),
        ({"x-ratelimit-remaining-requests": "inf", "x-ratelimit-reset-requests": "1s"}, []),
        ({"content-type": "application/json"}, []),
    ],
)
def test_every_provider_s_headers(headers: dict[str, str], told: list[Told]) -> None:
    assert list(read(headers, NOON)) == told


@given(st.text(), st.text(), st.text())
@example("nan", "nan", "nan")
@example("0", "0001-01-01T00:00:00+23:59", "")
@example("-7", "9999-12-31T23:59:59-23:59", "")
@example("0", "9" * 300, "0")
def test_no_header_can_break_it(remaining: str, reset: str, after: str) -> None:
    for names in ("x-ratelimit-{}-requests", "anthropic-ratelimit-tokens-{}"):
        headers = {
            names.format("remaining"): remaining,
            names.format("reset"): reset,
            "retry-after": after,
        }
        for told in read(headers, NOON):
            assert told.remaining >= 0
            assert 0 <= told.reset_s <= LONGEST_S
            assert math.isfinite(told.reset_s)


@needs_recordings
def test_every_recorded_reset_is_understood() -> None:
    seen: set[str] = set()
    for recorded in recordings("[!e]*"):
        for name, text in recorded.headers.items():
            if "ratelimit" in name and "reset" in name:
                seen.add(name)
                assert until(text, NOON) is not None, f"{recorded.file}: {name}: {text}"
    assert {"x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset"} <= seen


@needs_recordings
@pytest.mark.parametrize(
    ("provider", "limits"),
    [
        ("openai", {"requests", "tokens"}),
        ("anthropic", {"requests", "tokens", "input-tokens", "output-tokens", "retry-after"}),
        ("cohere", {"trial-requests"}),
        ("compat-groq", {"requests", "tokens"}),
        ("compat-azure", {"requests", "tokens"}),
        ("compat-mistral", {"requests", "requests-10s", "tokens"}),
    ],
)
def test_the_limits_that_each_provider_tells(provider: str, limits: set[str]) -> None:
    found = {
        told.limit
        for recorded in recordings(provider)
        for told in read(recorded.headers, NOON - timedelta(days=1))
    }
    assert found >= limits
