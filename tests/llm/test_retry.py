"""Waits between attempts, compared with the rules of the official clients."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.errors import CallFailed
from tracemill.llm import retry
from tracemill.llm.retry import LONGEST_WAIT_S, MAX_RETRIES, wait_s


def failed(after: float | None = None, *, again: bool = True) -> CallFailed:
    return CallFailed("overloaded", "too busy", retry=again, retry_after_s=after)


def test_waits_double_and_jitter_only_shortens_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [wait_s(failed(), n, jitter=lambda: 0) for n in (1, 2)] == [0.5, 1.0]
    assert [wait_s(failed(), n, jitter=lambda: 1) for n in (1, 2)] == [0.375, 0.75]
    monkeypatch.setattr(retry, "MAX_RETRIES", 9)
    waits = [wait_s(failed(), n, jitter=lambda: 0) for n in range(1, 8)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_two_retries_and_no_more() -> None:
    assert MAX_RETRIES == 2
    assert [wait_s(failed(1), n) for n in (1, 2, 3, 4)] == [1, 1, None, None]


def test_an_error_that_will_not_pass_is_not_tried_again() -> None:
    assert wait_s(failed(again=False), 1) is None
    assert wait_s(failed(1, again=False), 1) is None


@pytest.mark.parametrize(
    ("told", "waits"),
    [
        (0.001, 0.001),
        (31.0, 31.0),
        (LONGEST_WAIT_S, LONGEST_WAIT_S),
        (LONGEST_WAIT_S + 0.001, None),
        (86_400.0, None),
        (math.inf, None),
        (0.0, 0.5),
        (-1.0, 0.5),
        (math.nan, 0.5),
    ],
)
def test_what_the_server_asks_for_is_kept_within_reason(told: float, waits: float | None) -> None:
    assert wait_s(failed(told), 1, jitter=lambda: 0) == waits


@given(st.one_of(st.none(), st.floats()), st.integers(1, 50), st.booleans(), st.floats(0, 1))
def test_a_wait_is_a_wait(told: float | None, attempt: int, again: bool, draw: float) -> None:
    wait = wait_s(failed(told, again=again), attempt, jitter=lambda: draw)
    if wait is not None:
        assert again
        assert attempt <= MAX_RETRIES
        assert 0 < wait <= LONGEST_WAIT_S
