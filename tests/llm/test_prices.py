"""Money is exact, prices have dates, and what is unknown costs None and never nothing."""

from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.errors import UsageError
from tracemill.llm import prices
from tracemill.messages import Usage

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
tokens = st.integers(0, 10**9)


def test_a_call_costs_its_tokens_times_their_prices():
    usage = Usage(
        input_tokens=1_000,
        output_tokens=200,
        cache_read_input_tokens=300,
        cache_write_input_tokens=100,
    )
    # 600 x 2 + 200 x 10 + 300 x 0.1 + 100 x 2.5, for a million each
    assert prices.cost("anthropic", "claude-sonnet-5-5", usage, NOW) == Decimal("0.003480")


@given(tokens, tokens)
def test_costs_add_up_without_an_error_however_large(first: int, second: int):
    def cost(count: int) -> Decimal:
        known = prices.cost("local", "extract", Usage(input_tokens=count), NOW)
        assert known is not None
        return known

    assert cost(first) + cost(second) == cost(first + second)


def test_a_price_holds_from_its_day_in_utc_on():
    usage = Usage(input_tokens=1_000_000)
    last = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    first = datetime(2027, 1, 1, tzinfo=UTC)
    assert prices.cost("gcp.gemini", "gemini-3.8-flash", usage, last) == Decimal("0.75")
    assert prices.cost("gcp.gemini", "gemini-3.8-flash", usage, first) == Decimal("1.5")


def test_what_has_no_known_price_costs_none():
    cached = Usage(input_tokens=10, cache_write_input_tokens=1)
    assert prices.cost("openai", "gpt-5.4-mini", cached, NOW) is None
    assert prices.cost("local", "poet", Usage(), NOW) is None


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(UsageError, match="no time zone"):
        prices.price("local", "extract", datetime(2026, 1, 1))  # noqa: DTZ001


def test_what_the_same_calls_would_cost_elsewhere():
    calls = pl.DataFrame(
        {
            "status": ["finished", "finished", "failed"],
            "ended_at": [NOW, datetime(2027, 1, 2, tzinfo=UTC), NOW],
            "input_tokens": [1_000_000, 1_000_000, None],
            "output_tokens": [100_000, 0, None],
        }
    )
    assert prices.what_if(calls).rows() == [
        ("anthropic", "claude-sonnet-5-5", 2, 2_000_000, 100_000, Decimal(5)),
        ("gcp.gemini", "gemini-3.8-flash", 2, 2_000_000, 100_000, Decimal("2.625")),
        ("openai", "gpt-5.4-mini", 2, 2_000_000, 100_000, Decimal("1.95")),
        ("local", "extract", 2, 2_000_000, 100_000, Decimal("0.023")),
        ("local", "echo", 2, 2_000_000, 100_000, Decimal(0)),
    ]


def test_no_calls_cost_nothing():
    schema = {"status": pl.String, "ended_at": pl.Datetime("us", "UTC")}
    schema |= {"input_tokens": pl.Int64, "output_tokens": pl.Int64}
    assert set(prices.what_if(pl.DataFrame(schema=schema))["cost_usd"]) == {Decimal(0)}
