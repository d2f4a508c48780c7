"""What is unknown costs None and never nothing, prices have dates, and a file of yours goes first."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from tests.prices.oracle import (
    BUILT_FROM,
    INSTALLED,
    MODELS,
    THEIR_NAMES,
    build,
    named_by,
    their_cost,
)
from tracemill import prices
from tracemill.errors import UsageError
from tracemill.events import LlmCallCached, LlmCallFailed, LlmCallFinished, new_id
from tracemill.log import EventLog
from tracemill.messages import Usage
from tracemill.prices.table import shipped
from tracemill.settings import Settings

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
tokens = st.integers(0, 10**10)
frozen = pytest.mark.skipif(
    INSTALLED != BUILT_FROM,
    reason=f"the table is frozen from genai-prices {BUILT_FROM}, and {INSTALLED} is installed",
)


@pytest.fixture(autouse=True)
def no_file_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACEMILL_PRICES", raising=False)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


def finished(provider: str, model: str, usage: Usage, **fields: object) -> LlmCallFinished:
    given = {"response_model": model, "occurred_at": NOW, "content": "", "latency_ms": 1.0}
    return LlmCallFinished.model_validate(
        {
            "call_id": new_id(),
            "provider": provider,
            "request_model": model,
            "finish_reasons": ("stop",),
            "usage": usage,
            **given,
            **fields,
        }
    )


def cost(
    provider: str, model: str, usage: Usage, when: datetime = NOW, **of: str
) -> Decimal | None:
    return prices.cost(provider, model, usage, when, service_tier=of.get("tier")).usd


def reason(provider: str, model: str, usage: Usage) -> str | None:
    return prices.cost(provider, model, usage, NOW).reason


# One call


def test_a_call_costs_its_tokens_times_their_prices():
    usage = Usage(
        input_tokens=1_000,
        output_tokens=200,
        cache_read_input_tokens=300,
        cache_write_input_tokens=100,
    )
    # 600 x 2 + 200 x 10 + 300 x 0.1 + 100 x 2.5, for a million each
    assert prices.cost("anthropic", "claude-sonnet-5-5", usage, NOW) == (
        Decimal("0.003480"),
        None,
        prices.load().snapshot,
    )


def test_a_batch_costs_half_and_a_tier_without_prices_costs_what_the_standard_does():
    usage = Usage(input_tokens=1_000_000)
    assert cost("anthropic", "claude-sonnet-5-5", usage) == 2
    assert cost("anthropic", "claude-sonnet-5-5", usage, tier="batch") == 1
    assert cost("anthropic", "claude-sonnet-5-5", usage, tier="BATCH") == 1
    assert cost("anthropic", "claude-sonnet-5-5", usage, tier="priority") == 2


def test_a_prompt_beyond_the_threshold_costs_more_and_one_at_it_does_not():
    at, beyond = Usage(input_tokens=200_000), Usage(input_tokens=200_001)
    assert cost("gcp.gemini", "gemini-2.5-pro", at) == Decimal("0.25")
    assert cost("gcp.gemini", "gemini-2.5-pro", beyond) == Decimal("0.5000025")


def test_a_price_holds_from_its_day_in_utc_on():
    usage = Usage(input_tokens=1_000_000)
    first = datetime(2027, 1, 1, tzinfo=UTC)
    last = first - timedelta(microseconds=1)
    assert cost("gcp.gemini", "gemini-3.8-flash", usage, last) == Decimal("0.75")
    assert cost("gcp.gemini", "gemini-3.8-flash", usage, first) == Decimal("1.5")
    in_tokyo = first.astimezone(timezone(timedelta(hours=9)))
    assert cost("gcp.gemini", "gemini-3.8-flash", usage, in_tokyo) == Decimal("1.5")


def test_a_price_may_depend_on_the_time_of_day():
    usage = Usage(input_tokens=1_000_000)
    assert cost("deepseek", "deepseek-v4-flash", usage, NOW.replace(hour=0)) == Decimal("0.15")
    assert cost("deepseek", "deepseek-v4-flash", usage, NOW.replace(hour=1)) == Decimal("0.3")
    assert cost("deepseek", "deepseek-v4-flash", usage, NOW.replace(hour=4)) == Decimal("0.15")


@given(tokens, tokens)
def test_costs_add_up_without_an_error_however_large(first: int, second: int):
    def of(count: int) -> Decimal:
        known = cost("local", "extract", Usage(input_tokens=count))
        assert known is not None
        return known

    assert of(first) + of(second) == of(first + second)


def test_searches_are_billed_apiece_by_whatever_name_the_provider_has_for_them():
    theirs = Usage(input_tokens=10, billed={"web_search_requests": 3, "web_fetch_requests": 9})
    ours = Usage(input_tokens=10, billed={"web_searches": 3})
    assert cost("anthropic", "claude-sonnet-5-5", theirs) == Decimal("0.03002")
    assert cost("anthropic", "claude-sonnet-5-5", ours) == Decimal("0.03002")


def test_the_first_known_of_several_names_is_priced():
    usage = Usage(input_tokens=1_000_000)
    found = prices.cost("openai", ["", "my-deployment", "gpt-4.1"], usage, NOW)
    assert found.usd == 2


def test_a_reseller_sells_the_models_of_others_at_their_standard_tier():
    usage = Usage(input_tokens=1_000_000)
    assert cost("azure.ai.openai", "gpt-5.4-mini", usage, tier="batch") == Decimal("0.75")
    assert cost("gcp.vertex_ai", "gemini-3.8-flash", usage) == Decimal("0.75")


@pytest.mark.parametrize(
    ("provider", "model", "usage", "why"),
    [
        ("openai", "poet", Usage(), "unknown model"),
        ("nobody", "gpt-4.1", Usage(), "unknown model"),
        ("cohere", "embed-v4.0", Usage(input_tokens=1, output_tokens=1), "no price for output"),
        ("openai", "whisper-1", Usage(input_tokens=1), "no price for input"),
        ("gcp.gemini", "gemma-3", Usage(), "no price for input"),
        ("cohere", "command-a", Usage(billed={"search_units": 1}), "no price for rerank_searches"),
        ("openai", "gpt-4.1", Usage(billed={"zeppelins": 1}), "no price for zeppelins"),
        (
            "anthropic",
            "claude-sonnet-5-5",
            Usage(input_tokens=5, cache_read_input_tokens=6),
            "contradictory usage",
        ),
        ("openai", "gpt-4.1", Usage(output_tokens=10**15), "implausible usage"),
    ],
)
def test_what_has_no_known_price_costs_none_and_says_why_in_the_view_too(
    log: EventLog, provider: str, model: str, usage: Usage, why: str
):
    assert prices.cost(provider, model, usage, NOW)[:2] == (None, why)
    log.append(finished(provider, model, usage))
    assert log.sql("SELECT repriced_usd, unpriced_reason FROM call_costs").rows() == [(None, why)]
    assert log.sql("SELECT cost_usd, unpriced FROM costs_by_day").rows() == [(0, 1)]


def test_what_is_free_by_its_name_costs_nothing():
    assert cost("openrouter", "google/gemma-3-27b-it:free", Usage(input_tokens=9)) == 0


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(UsageError, match="no time zone"):
        prices.cost("local", "extract", Usage(), datetime(2026, 1, 1))  # noqa: DTZ001


# The table


@frozen
def test_the_table_is_what_the_script_makes_of_the_installed_genai_prices():
    known = json.loads(build.TARGET.read_text(encoding="utf-8"))
    made = build.build() | {"written_on": known["written_on"]}
    assert json.loads(json.dumps(made)) == known
    assert build.as_text(made) == build.TARGET.read_text(encoding="utf-8")


@frozen
def test_every_name_means_the_model_that_it_means_to_genai_prices():
    snapshot, found, expected = get_snapshot(), [], []
    for provider, model in MODELS:
        for name in (*named_by(model), f"{model.id}-20261101", "no-such-model"):
            known = prices.load().find(provider, name)
            found.append((provider, name, known and known.model.id))
            try:
                their = snapshot.find_provider_model(
                    name, None, THEIR_NAMES.get(provider, provider), None
                )[1].id
            except LookupError:
                their = None
            expected.append((provider, name, their))
    assert found == expected
    assert len(found) > 8_000


def test_no_dependency_of_the_price_table_is_needed_to_price():
    code = (
        "import sys; from datetime import *; from tracemill import prices; "
        "from tracemill.messages import Usage; "
        "prices.cost('openai', 'gpt-4.1', Usage(), datetime.now(UTC)); "
        "print(*sorted({'genai_prices', 'duckdb', 'polars', 'pyarrow', 'httpx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# Prices of your own

MINE = """
[[price]]
provider = "openai"
model = "GPT-4.1"
input = 3
output = 4.5
source = "contract"

[[price]]
provider = "openai"
model = "gpt-4.1"
effective_from = 2026-11-22
input = 5
output = 6
cache_read = 0.5

[[price]]
provider = "openai"
model = "gpt-4.1"
effective_from = 2026-11-22
above_input_tokens = 1000
input = 7
output = 8

[[price]]
provider = "openai"
model = "gpt-4.1"
service_tier = "batch"
input = 1
output = 2

[[price]]
provider = "vllm"
starts_with = "llama-"
effective_from = 2026-01-01
input = 0.1
output = 0.2
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(MINE, encoding="utf-8")
    return path


BY_MINE = [
    ("openai", "gpt-4.1", NOW - timedelta(days=1), None, 1_000, "0.003"),
    ("openai", "gpt-4.1", NOW, None, 1_000, "0.005"),
    ("openai", "gpt-4.1", NOW, None, 1_001, "0.007007"),
    ("openai", "gpt-4.1", NOW, "batch", 1_001, "0.001001"),
    ("openai", "gpt-4.1-mini", NOW, None, 1_000, "0.0004"),
    ("vllm", "llama-4", NOW, None, 1_000, "0.0001"),
    ("vllm", "llama-4", datetime(2025, 12, 31, tzinfo=UTC), None, 1_000, None),
    ("vllm", "gemma", NOW, None, 1_000, None),
]


def test_a_file_of_yours_goes_before_the_table_for_calls_and_for_views(tmp_path: Path, mine: Path):
    table = prices.load(mine)
    assert table.snapshot.startswith(f"{shipped().snapshot}, file ")
    settings = Settings(warehouse=tmp_path / "warehouse", prices=mine)
    calls: dict[str, Decimal | None] = {}
    with EventLog.open(settings) as log:
        for provider, model, when, tier, read, usd in BY_MINE:
            usage = Usage(input_tokens=read)
            found = prices.cost(provider, model, usage, when, service_tier=tier, table=table)
            assert found.usd == (None if usd is None else Decimal(usd))
            event = finished(provider, model, usage, service_tier=tier, occurred_at=when)
            calls[event.call_id] = found.usd
            log.append(event)
        query = "SELECT call_id, repriced_usd FROM call_costs"
        assert dict(log.sql(query).rows()) == calls
        log.fold()
        with duckdb.connect(str(log.folder.with_suffix(".duckdb")), read_only=True) as catalogue:
            assert dict(catalogue.sql(query).fetchall()) == calls


def test_the_environment_names_such_a_file(monkeypatch: pytest.MonkeyPatch, mine: Path):
    monkeypatch.setenv("TRACEMILL_PRICES", str(mine))
    assert cost("openai", "gpt-4.1", Usage(input_tokens=1_000)) == Decimal("0.005")
    monkeypatch.setenv("TRACEMILL_PRICES", "")
    assert cost("openai", "gpt-4.1", Usage(input_tokens=1_000)) == Decimal("0.002")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("input = ", "is not TOML"),
        ("[price]\ninput = 1", r"begins with \[\[price\]\]"),
        ("[[price]]\nprovider = 'a'\ninput = 1", "price 1: name exactly one of model, starts_with"),
        ("[[price]]\nmodel = 'm'\ninput = 1", "price 1: provider: Field required"),
        ("[[price]]\nprovider = 'a'\nmodel = 'm'", "price 1: no unit has a price; units are input"),
        ("[[price]]\nprovider = 'a'\nmodel = 'm'\ninput = -1", "price 1: input: .*greater"),
        ("[[price]]\nprovider = 'a'\nmodel = 'm'\ninput = 1\nimput = 1", "price 1: imput: Extra"),
        ("[[price]]\nprovider = 'a'\nmodel = 'm'\ncache_read = 1", "cache_read is a part of input"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_told_where(tmp_path: Path, text: str, says: str):
    path = tmp_path / "prices.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=says) as told:
        prices.load(path)
    assert str(path) in str(told.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot read the prices in"):
        prices.load(tmp_path / "none.toml")


# The views


def test_history_is_repriced_and_what_was_recorded_stays(tmp_path: Path, mine: Path):
    call = finished("openai", "gpt-4.1", Usage(input_tokens=1_000), cost_usd=Decimal("0.002"))
    query = "SELECT cost_usd, recorded_usd FROM costs_by_day"
    with EventLog(tmp_path / "log") as log:
        log.append(call)
        assert log.sql(query).rows() == [(Decimal("0.002"), Decimal("0.002"))]
    with EventLog(tmp_path / "log", prices=mine) as log:
        assert log.sql(query).rows() == [(Decimal("0.005"), Decimal("0.002"))]


def test_the_model_that_answered_is_priced_before_the_one_that_was_asked_for(log: EventLog):
    usage = Usage(input_tokens=1_000_000)
    log.append(finished("openai", "gpt-4.1", usage, response_model="gpt-4.1-mini-2025-04-14"))
    log.append(finished("openai", "gpt-4.1", usage, response_model="ft:mine"))
    asked = log.sql("SELECT priced_as, repriced_usd FROM call_costs ORDER BY repriced_usd")
    assert asked.rows() == [("gpt-4.1-mini", Decimal("0.4")), ("gpt-4.1", Decimal(2))]


def test_searches_are_billed_in_the_view_too(log: EventLog):
    usages = [
        Usage(input_tokens=10, billed={"web_search_requests": 3, "web_fetch_requests": 9}),
        Usage(input_tokens=10, billed={"web_searches": 2, 'odd "name"\'s': 0}),
        Usage(input_tokens=10),
    ]
    made = [finished("anthropic", "claude-sonnet-5-5", usage) for usage in usages]
    log.append(made)
    asked = dict(log.sql("SELECT call_id, repriced_usd FROM call_costs").rows())
    assert asked == {
        each.call_id: cost("anthropic", "claude-sonnet-5-5", each.usage) for each in made
    }


@frozen
def test_tokens_that_are_billed_apart_are_what_is_paid_for(log: EventLog):
    usages: list[tuple[str, str, dict[str, float]]] = [
        # Perplexity writes citations and thoughts beside the output.
        ("perplexity", "sonar-deep-research", {"citation_tokens": 700, "reasoning_tokens": 900}),
        ("perplexity", "sonar-reasoning-pro", {"citation_tokens": 700, "reasoning_tokens": 900}),
        # Cohere reads more than it bills.
        ("cohere", "command-a", {"input_tokens": 20, "output_tokens": 3}),
    ]
    made = [
        finished(provider, model, Usage(input_tokens=500, output_tokens=40, billed=billed))
        for provider, model, billed in usages
    ]
    expected = {e.call_id: their_cost(e.provider, e.request_model, e.usage, NOW) for e in made}
    assert {e.call_id: cost(e.provider, e.request_model, e.usage) for e in made} == expected
    log.append(made)
    assert dict(log.sql("SELECT call_id, repriced_usd FROM call_costs").rows()) == expected
    assert log.sql("SELECT sum(input_tokens) FROM call_costs").item() == 1_500


def test_a_day_counts_what_failed_and_what_the_cache_saved(log: EventLog):
    shared = {"provider": "openai", "request_model": "gpt-4.1", "occurred_at": NOW}
    log.append(
        [
            finished("openai", "gpt-4.1", Usage(input_tokens=1_000)),
            LlmCallFailed.model_validate(
                {"call_id": new_id(), "error_type": "timeout", "error_message": "late"}
                | {"latency_ms": 1.0, **shared}
            ),
            LlmCallCached.model_validate(
                {"call_id": new_id(), "cached_call_id": new_id(), "saved_usd": Decimal("0.25")}
                | {"latency_ms": 0.1, **shared}
            ),
        ]
    )
    asked = log.sql("FROM costs_by_day").row(0, named=True)
    assert asked == {
        "day": NOW.date(),
        "provider": "openai",
        "request_model": "gpt-4.1",
        "calls": 3,
        "failed": 1,
        "aborted": 0,
        "cached": 1,
        "input_tokens": 1_000,
        "output_tokens": 0,
        "cost_usd": Decimal("0.002"),
        "recorded_usd": Decimal(0),
        "saved_usd": Decimal("0.25"),
        "unpriced": 0,
        "known_share": 1.0,
    }


def test_the_prices_themselves_can_be_asked_for(log: EventLog):
    query = (
        "SELECT unit, usd_per_million, snapshot FROM prices WHERE provider = 'openai' AND "
        "model = 'gpt-4.1-nano' AND service_tier = 'standard' ORDER BY unit"
    )
    snapshot = prices.load().snapshot
    assert log.sql(query).rows() == [
        ("cache_read", Decimal("0.025"), snapshot),
        ("input", Decimal("0.1"), snapshot),
        ("output", Decimal("0.4"), snapshot),
    ]


# Elsewhere


def test_what_the_same_calls_would_cost_elsewhere():
    calls = pl.DataFrame(
        {
            "status": ["finished", "finished", "failed"],
            "ended_at": [NOW, datetime(2027, 1, 2, tzinfo=UTC), NOW],
            "input_tokens": [1_000_000, 1_000_000, None],
            "output_tokens": [100_000, 0, None],
        }
    )
    models = [("openai", "gpt-4.1"), ("gcp.gemini", "gemini-3.8-flash"), ("openai", "poet")]
    assert prices.what_if(calls, models).rows() == [
        ("openai", "gpt-4.1", 2, 2_000_000, 100_000, Decimal("4.8")),
        ("gcp.gemini", "gemini-3.8-flash", 2, 2_000_000, 100_000, Decimal("2.625")),
        ("openai", "poet", 2, 2_000_000, 100_000, None),
    ]


def test_well_known_models_have_prices_and_no_calls_cost_nothing():
    schema = {"status": pl.String, "ended_at": pl.Datetime("us", "UTC")}
    schema |= {"input_tokens": pl.Int64, "output_tokens": pl.Int64}
    asked = prices.what_if(pl.DataFrame(schema=schema))
    assert set(asked["cost_usd"]) == {Decimal(0)}
    usage = Usage(input_tokens=1, output_tokens=1)
    assert None not in [cost(provider, model, usage) for provider, model in prices.WELL_KNOWN]
