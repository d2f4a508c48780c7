"""Costs to the nano-dollar: ours, and the view's, against genai-prices' own calculator."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.prices.oracle import BUILT_FROM, CONTEXTS, INSTALLED, MODELS, named_by, their_cost
from tracemill import prices
from tracemill.events import LlmCallAborted, LlmCallFinished, new_id
from tracemill.log import EventLog
from tracemill.messages import Usage

pytestmark = pytest.mark.skipif(
    INSTALLED != BUILT_FROM,
    reason=f"the table is frozen from genai-prices {BUILT_FROM}, and {INSTALLED} is installed",
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NANO = Decimal(1).scaleb(-9)
Call = LlmCallFinished | LlmCallAborted

SOLD = {
    "openai": ("gpt-5.4", "gpt-6-luna-2026-10-01", "gpt-4.1"),
    "anthropic": ("claude-haiku-5-5", "claude-opus-5-5-20261001"),
    "gcp.gemini": ("gemini-2.5-pro", "gemini-3.8-flash"),
    "cohere": ("command-a-03-2025", "command-r7b-12-2024"),
}
CACHES = {
    "nothing": {},
    "read": {"cache_read_input_tokens": 3_001},
    "written for 5 minutes": {"cache_write_input_tokens": 2_003},
    "written for an hour": {
        "cache_write_input_tokens": 2_003,
        "cache_write_1h_input_tokens": 2_003,
    },
    "read and written": {
        "cache_read_input_tokens": 1_007,
        "cache_write_input_tokens": 1_009,
        "cache_write_1h_input_tokens": 501,
    },
}
TIERS = (None, "default", "batch", "flex", "priority")
ENDS = ("plain", "stream", "aborted")


def call(provider: str, model: str, usage: Usage, tier: str | None, end: str) -> Call:
    shared = {
        "call_id": new_id(),
        "provider": provider,
        "request_model": model,
        "response_model": model,
        "service_tier": tier,
        "content": "",
        "usage": usage,
        "latency_ms": 9.0,
        "occurred_at": NOW,
    }
    if end != "plain":
        shared["time_to_first_chunk_ms"] = 1.0
    if end == "aborted":
        return LlmCallAborted(error_type="connection", error_message="cut", **shared)
    return LlmCallFinished(finish_reasons=("stop",), **shared)


def matrix() -> Iterator[Call]:
    sold = [(provider, model) for provider, models in SOLD.items() for model in models]
    lengths = itertools.cycle((7_013, 123_457, 300_007))  # below and above every threshold
    for (provider, model), cached, tier, end in itertools.product(sold, CACHES, TIERS, ENDS):
        usage = Usage(
            input_tokens=next(lengths),
            output_tokens=1_003,
            reasoning_output_tokens=307,
            estimated=end == "aborted",
            **CACHES[cached],
        )
        yield call(provider, model, usage, tier, end)


CALLS = list(matrix())


def cost(made: Call) -> prices.Cost:
    names = (made.response_model, made.request_model)
    return prices.cost(
        made.provider, names, made.usage, made.occurred_at, service_tier=made.service_tier
    )


def theirs(made: Call) -> Decimal | None:
    usage, when, tier = made.usage, made.occurred_at, made.service_tier
    return their_cost(made.provider, made.response_model, usage, when, tier)


def test_the_matrix_is_wide_and_its_tiers_and_lengths_make_a_difference():
    assert len(CALLS) >= 600
    assert len({theirs(made) for made in CALLS}) > 150


@pytest.mark.parametrize("provider", SOLD)
@pytest.mark.parametrize("tier", TIERS)
def test_a_call_costs_what_genai_prices_says(provider: str, tier: str | None):
    made = [each for each in CALLS if (each.provider, each.service_tier) == (provider, tier)]
    assert [cost(each).usd for each in made] == [theirs(each) for each in made]
    assert None not in [cost(each).usd for each in made]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventLog]:
    with EventLog(tmp_path_factory.mktemp("matrix") / "log") as log:
        log.append(CALLS[::2])
        log.fold()
        log.append(CALLS[1::2])  # these stay in the journal
        yield log


def test_the_view_says_the_same_for_every_call_of_a_log(log: EventLog):
    asked = log.sql("SELECT call_id, repriced_usd, unpriced_reason FROM call_costs").rows()
    assert {key: (usd, why) for key, usd, why in asked} == {
        made.call_id: (theirs(made), None) for made in CALLS
    }


def test_a_day_costs_the_sum_of_its_calls(log: EventLog):
    sums: dict[tuple[str, str], Decimal] = {}
    for made in CALLS:
        key = made.provider, made.request_model
        sums[key] = sums.get(key, Decimal(0)) + (theirs(made) or 0)
    query = "SELECT provider, request_model, cost_usd, aborted, unpriced FROM costs_by_day"
    assert {(p, m): (usd, aborted, un) for p, m, usd, aborted, un in log.sql(query).rows()} == {
        key: (usd, len(CACHES) * len(TIERS), 0) for key, usd in sums.items()
    }


def test_any_duckdb_client_prices_the_sealed_part(log: EventLog):
    with duckdb.connect(str(log.folder.with_suffix(".duckdb")), read_only=True) as catalogue:
        found = catalogue.sql("SELECT call_id, repriced_usd FROM call_costs").fetchall()
    assert dict(found) == {made.call_id: theirs(made) for made in CALLS[::2]}


# Any model, any usage


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Counts that fit together, some of them beyond every threshold."""
    read = draw(st.integers(0, 2_000) | st.integers(90_000, 1_200_000))
    cached = draw(st.just(0) | st.integers(0, read))
    stored = draw(st.just(0) | st.integers(0, read - cached))
    heard_cached = draw(st.just(0) | st.integers(0, cached))
    heard = heard_cached + draw(st.just(0) | st.integers(0, read - cached - stored))
    written = draw(st.integers(0, 100_000))
    thought = draw(st.just(0) | st.integers(0, written))
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cache_read_input_tokens=cached,
        cache_write_input_tokens=stored,
        cache_write_1h_input_tokens=draw(st.just(0) | st.integers(0, stored)),
        reasoning_output_tokens=thought,
        input_audio_tokens=heard,
        cache_read_audio_tokens=heard_cached,
        output_audio_tokens=draw(st.just(0) | st.integers(0, written - thought)),
    )


known_models = st.sampled_from([(p, name) for p, model in MODELS for name in named_by(model)])
moments = st.integers(0, 900 * 86_400 * 10).map(
    lambda tenths: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=tenths / 10)
)


def tier_of(provider: str) -> st.SearchStrategy[str | None]:
    return st.sampled_from([None, "standard", *(tier for p, tier in CONTEXTS if p == provider)])


calls = known_models.flatmap(
    lambda known: st.builds(
        lambda usage, when, tier: call(*known, usage, tier, "plain").model_copy(
            update={"occurred_at": when}
        ),
        usages(),
        moments,
        tier_of(known[0]),
    )
)


def check(made: Call, usd: Decimal | None, reason: str | None) -> None:
    """Ours is theirs, but for prices that come from floats, and where they say 0 by ignorance."""
    expected = theirs(made)
    assert expected is not None
    if reason is None:
        assert usd is not None
        tokens = made.usage.input_tokens + made.usage.output_tokens
        assert abs(usd - expected) <= tokens * Decimal("1e-18")
    else:
        assert usd is None
        assert reason in ("no price for input", "no price for output")


@settings(max_examples=300, deadline=None)
@given(calls)
def test_any_usage_of_any_known_model_costs_what_genai_prices_says(made: Call):
    found = cost(made)
    check(made, found.usd, found.reason)


@settings(max_examples=5, deadline=None)
@given(st.lists(calls, min_size=30, max_size=60, unique_by=lambda made: made.call_id))
def test_the_view_and_the_function_agree(
    tmp_path_factory: pytest.TempPathFactory, made: list[Call]
):
    with EventLog(tmp_path_factory.mktemp("any") / "log") as log:
        log.append(made)
        asked = log.sql("SELECT call_id, repriced_usd, unpriced_reason FROM call_costs").rows()
    assert {key: (usd, why) for key, usd, why in asked} == {
        each.call_id: cost(each)[:2] for each in made
    }
