"""Limits a minute and a day: what is reserved counts at once, and nobody overtakes."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.errors import CallFailed
from tracemill.llm.limits import Limiter, Limits, Reservation

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """Both clocks: seconds, and the time of day that goes with them."""

    def __init__(self) -> None:
        self.now = 500.0

    def __call__(self) -> float:
        return self.now

    def utc(self) -> datetime:
        return NOON + timedelta(seconds=self.now - 500)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limiter(clock: Clock, spent: str = "0", **limits: object) -> Limiter:
    return Limiter(
        "openai",
        Limits(**limits),  # type: ignore[arg-type]
        spent_usd=Decimal(spent),
        clock=clock,
        now=clock.utc,
    )


def refused(limiter: Limiter, tokens: int = 1, usd: str = "0") -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        limiter.reserve(tokens, Decimal(usd))
    assert caught.value.error_type == "limit_reached"
    return caught.value


def waits(limiter: Limiter, times: int, tokens: int = 1) -> list[float]:
    return [limiter.reserve(tokens).wait_s for _ in range(times)]


# A minute


def test_without_limits_nothing_waits(clock: Clock) -> None:
    assert waits(limiter(clock), 1000, 10**9) == [0] * 1000


def test_what_the_limit_allows_starts_at_once_and_the_rest_a_minute_later(clock: Clock) -> None:
    three = limiter(clock, requests_per_minute=3, max_wait_s=120)
    assert waits(three, 7) == [0, 0, 0, 60, 60, 60, 120]


def test_room_comes_back_as_calls_grow_old(clock: Clock) -> None:
    two = limiter(clock, requests_per_minute=2)
    assert waits(two, 1) == [0]
    clock.now += 20
    assert waits(two, 2) == [0, 40]
    clock.now += 40
    assert waits(two, 1) == [20]  # behind the one that waited
    clock.now += 60
    assert waits(two, 1) == [0]


def test_tokens_are_limited_too(clock: Clock) -> None:
    thousand = limiter(clock, tokens_per_minute=1000)
    assert waits(thousand, 4, 300) == [0, 0, 0, 60]


def test_a_call_waits_for_the_stricter_limit(clock: Clock) -> None:
    both = limiter(clock, requests_per_minute=10, tokens_per_minute=1000)
    assert waits(both, 1, 900) == [0]
    clock.now += 10
    assert waits(both, 1, 100) == [0]
    clock.now += 10
    assert waits(both, 1, 950) == [50]  # until both have grown old


def test_a_wait_that_is_too_long_is_refused_and_says_which_limit_and_when(clock: Clock) -> None:
    two = limiter(clock, requests_per_minute=2, max_wait_s=30)
    waits(two, 2)
    clock.now += 15
    error = refused(two)
    assert (error.retry, error.retry_after_s, error.code) == (True, 45, "requests_per_minute")
    assert str(error) == (
        "openai: 2 of 2 requests_per_minute are used, with those that wait; the next call could "
        "start in 45.0 s, which is over max_wait_s=30: try again then, or raise the limit"
    )
    clock.now += 15
    assert waits(two, 1) == [30]  # what was refused took no room


def test_a_refusal_names_the_tokens(clock: Clock) -> None:
    thousand = limiter(clock, tokens_per_minute=1000, max_wait_s=1)
    waits(thousand, 1, 800)
    error = refused(thousand, 201)
    assert error.code == "tokens_per_minute"
    assert "800 of 1,000 tokens_per_minute are used" in str(error)


def test_a_call_that_can_never_fit_is_told_so(clock: Clock) -> None:
    error = refused(limiter(clock, tokens_per_minute=1000), 1001)
    assert (error.retry, error.retry_after_s) == (False, None)
    assert str(error) == (
        "a call of 1,001 tokens can never keep to tokens_per_minute=1,000 of openai: "
        "raise the limit, or ask for less"
    )


def test_settling_gives_back_what_was_not_used(clock: Clock) -> None:
    thousand = limiter(clock, tokens_per_minute=1000)
    reservation = thousand.reserve(1000)
    assert refused(thousand, 2000).retry is False
    thousand.settle(reservation, 400, None)
    assert waits(thousand, 2, 300) == [0, 0]
    thousand.settle(reservation, 0, None)  # a second time changes nothing
    assert waits(thousand, 1, 1) == [60]


def test_settling_counts_what_was_used_beyond_the_estimate(clock: Clock) -> None:
    thousand = limiter(clock, tokens_per_minute=1000)
    reservation = thousand.reserve(10)
    thousand.settle(reservation, 5000, None)
    assert waits(thousand, 1, 1) == [60]


def test_releasing_gives_everything_back(clock: Clock) -> None:
    one = limiter(clock, requests_per_minute=1, tokens_per_minute=10)
    first, second = one.reserve(10), one.reserve(10)
    assert (first.wait_s, second.wait_s) == (0, 60)
    one.release(second)
    one.release(first)
    one.release(first)
    one.settle(first, 10, None)
    assert waits(one, 2, 10) == [0, 60]


def test_nobody_overtakes_those_who_wait(clock: Clock) -> None:
    thousand = limiter(clock, tokens_per_minute=1000)
    assert waits(thousand, 1, 500) == [0]
    clock.now += 10
    assert waits(thousand, 1, 900) == [50]
    assert waits(thousand, 1, 1) == [50]  # it would fit now, but came later


def test_nobody_overtakes_when_room_is_given_back(clock: Clock) -> None:
    thousand = limiter(clock, tokens_per_minute=1000)
    first, second = thousand.reserve(500), thousand.reserve(600)
    assert (first.wait_s, second.wait_s) == (0, 60)
    thousand.settle(first, 100, None)
    assert waits(thousand, 1, 1) == [60]


def test_calls_that_start_almost_together_grow_old_with_the_last(clock: Clock) -> None:
    two = limiter(clock, requests_per_minute=2)
    assert waits(two, 1) == [0]
    clock.now += 0.2
    assert waits(two, 1) == [0]
    clock.now += 59.8
    assert waits(two, 2) == pytest.approx([0.2, 0.2])


@given(
    st.integers(1, 20),
    st.integers(100, 2000),
    st.lists(
        st.tuples(
            st.one_of(st.just(0.0), st.floats(0, 0.3), st.floats(0, 70)),
            st.integers(0, 100),
            st.sampled_from(["settle", "keep", "release"]),
        ),
        max_size=120,
    ),
)
def test_no_minute_ever_holds_more_than_its_limit(
    requests: int, tokens: int, calls: list[tuple[float, int, str]]
) -> None:
    clock = Clock()
    limited = limiter(clock, requests_per_minute=requests, tokens_per_minute=tokens, max_wait_s=200)
    started: list[tuple[float, int]] = []
    latest = 0.0
    for pause, size, end in calls:
        clock.now += pause
        try:
            reservation = limited.reserve(size)
        except CallFailed as error:
            assert (error.retry_after_s or 0) > 200  # noqa: PT017
            continue
        assert reservation.wait_s <= 200
        start = clock.now + reservation.wait_s
        if end == "release":
            limited.release(reservation)
            continue
        assert start >= latest  # first come, first served
        latest = max(start, latest)
        used = size
        if end == "settle":
            used = size // 2
            limited.settle(reservation, used, None)
        started.append((start, used))
    for start, _ in started:
        minute = [size for then, size in started if start - 60 + 1e-6 < then <= start]
        assert len(minute) <= requests
        assert sum(minute) <= tokens


def test_a_long_burst_costs_little_and_is_kept_in_little(clock: Clock) -> None:
    many = limiter(clock, requests_per_minute=6000, max_wait_s=10_000)
    starts = sorted(clock.now + wait for wait in waits(many, 20_000))
    assert starts == [500.0 + 60 * (n // 6000) for n in range(20_000)]


def test_threads_together_cannot_overrun_it(clock: Clock) -> None:
    hundred = limiter(clock, requests_per_minute=100, tokens_per_minute=1000, max_wait_s=0)
    together = threading.Barrier(16)

    def reserve_some(_: int) -> int:
        together.wait()
        got = 0
        for _ in range(50):
            try:
                hundred.reserve(random.choice([5, 10, 15]))
                got += 1
            except CallFailed:
                pass
        return got

    with ThreadPoolExecutor(16) as threads:
        got = sum(threads.map(reserve_some, range(16)))
    assert 1000 // 15 <= got <= 100


# A day


def test_the_budget_of_the_day(clock: Clock) -> None:
    dollar = limiter(clock, spent="0.90", usd_per_day=Decimal(1))
    reservation = dollar.reserve(1, Decimal("0.06"))
    error = refused(dollar, 1, "0.05")
    assert (error.retry, error.retry_after_s, error.code) == (True, 12 * 3600, "usd_per_day")
    assert str(error) == (
        "openai: $0.9000 of usd_per_day=1 are spent today (UTC), $0.0600 more are reserved by calls "
        "under way, and this one could cost $0.0500: the budget is renewed at midnight UTC; raise "
        "it to go on"
    )
    dollar.settle(reservation, 1, Decimal("0.01"))
    assert dollar.spent_usd == Decimal("0.91")
    dollar.release(dollar.reserve(1, Decimal("0.09")))
    dollar.settle(dollar.reserve(1, Decimal("0.05")), 1, Decimal("0.20"))
    assert dollar.spent_usd == Decimal("1.11")
    refused(dollar, 1, "0")


def test_a_price_that_is_not_known_counts_nothing(clock: Clock) -> None:
    dollar = limiter(clock, usd_per_day=Decimal(1))
    dollar.settle(dollar.reserve(1), 1, None)
    assert dollar.spent_usd == 0


def test_no_budget_means_no_call(clock: Clock) -> None:
    refused(limiter(clock, usd_per_day=Decimal(0)), 1, "0")


def test_a_new_day_in_utc_begins_with_nothing_spent(clock: Clock) -> None:
    dollar = limiter(clock, spent="1", usd_per_day=Decimal(1))
    refused(dollar)
    clock.now += 12 * 3600 - 1
    assert refused(dollar).retry_after_s == 1
    clock.now += 1
    assert dollar.reserve(1, Decimal("0.5")).wait_s == 0


def test_a_call_over_midnight_is_paid_for_by_the_day_in_which_it_ends(clock: Clock) -> None:
    dollar = limiter(clock, spent="0.5", usd_per_day=Decimal(1))
    clock.now += 12 * 3600 - 1
    reservation = dollar.reserve(1, Decimal("0.4"))
    clock.now += 2
    refused(dollar, 1, "0.7")  # it is still reserved
    dollar.settle(reservation, 1, Decimal("0.3"))
    assert dollar.spent_usd == Decimal("0.3")


def test_a_clock_that_is_set_back_does_not_renew_the_budget(clock: Clock) -> None:
    dollar = limiter(clock, spent="1", usd_per_day=Decimal(1))
    clock.now -= 24 * 3600
    refused(dollar)
    clock.now += 24 * 3600
    refused(dollar)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.booleans()), max_size=40))
def test_the_books_balance(calls: list[tuple[int, int, bool]]) -> None:
    clock = Clock()
    dollar = limiter(clock, usd_per_day=Decimal(1))
    spent, under_way = Decimal(0), list[tuple[Reservation, int]]()
    for estimate, cost, end_one in calls:
        reserved = spent + sum((r.usd for r, _ in under_way), Decimal(0))
        asked = Decimal(estimate) / 100
        if reserved < 1 and reserved + asked <= 1:
            under_way.append((dollar.reserve(1, asked), min(cost, estimate)))
        else:
            refused(dollar, 1, str(asked))
        if end_one and under_way:
            reservation, cents = under_way.pop(0)
            dollar.settle(reservation, 1, Decimal(cents) / 100)
            spent += Decimal(cents) / 100
        assert dollar.spent_usd == spent <= 1


def test_threads_together_cannot_overspend(clock: Clock) -> None:
    dollar = limiter(clock, usd_per_day=Decimal(1))
    together = threading.Barrier(16)

    def spend(_: int) -> None:
        together.wait()
        for _ in range(30):
            try:
                reservation = dollar.reserve(1, Decimal("0.01"))
            except CallFailed:
                continue
            dollar.settle(reservation, 1, Decimal("0.01"))

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(spend, range(16)))
    assert dollar.spent_usd == 1


# What providers say


def test_when_nothing_remains_the_next_call_waits_for_the_reset(clock: Clock) -> None:
    free = limiter(clock)
    free.observe({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "8.5s"})
    assert waits(free, 2) == [8.5, 8.5]
    clock.now += 8.5
    assert waits(free, 1) == [0]


def test_while_something_remains_nothing_waits(clock: Clock) -> None:
    free = limiter(clock)
    free.observe({"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "6m0s"})
    assert waits(free, 1) == [0]


def test_the_latest_word_counts(clock: Clock) -> None:
    free = limiter(clock)
    free.observe({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "30s"})
    free.observe({"x-ratelimit-remaining-tokens": "7", "x-ratelimit-reset-tokens": "29s"})
    assert waits(free, 1) == [0]


def test_a_429_makes_everybody_wait(clock: Clock) -> None:
    free = limiter(clock)
    free.observe(
        {
            "retry-after": "31",
            "anthropic-ratelimit-tokens-remaining": "50000",
            "anthropic-ratelimit-tokens-reset": "1970-01-01T00:00:00Z",
        }
    )
    assert waits(free, 2) == [31, 31]


def test_a_limit_of_the_day_is_refused_rather_than_waited_for(clock: Clock) -> None:
    free = limiter(clock)
    free.observe({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2h"})
    error = refused(free)
    assert (error.retry_after_s, error.code) == (7200, "requests")
    assert "the provider takes no more for now (requests)" in str(error)


def test_what_the_provider_says_and_what_is_allowed_hold_together(clock: Clock) -> None:
    two = limiter(clock, requests_per_minute=2, max_wait_s=100)
    waits(two, 2)
    two.observe({"x-trial-endpoint-call-remaining": "0"})
    clock.now += 30
    assert waits(two, 3) == [30, 30, 90]


def test_the_reset_is_waited_for_also_where_the_minute_is_full(clock: Clock) -> None:
    two = limiter(clock, requests_per_minute=2, max_wait_s=100)
    waits(two, 2)
    two.observe({"retry-after": "90"})
    assert waits(two, 1) == [90]
