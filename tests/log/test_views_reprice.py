"""What calls would cost elsewhere: the macro says what `prices.cost` says, to the last digit."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import pytest

from tracemill import prices
from tracemill.events import LlmCallFinished, new_id
from tracemill.log import EventLog
from tracemill.messages import Usage

FIRST = datetime(2026, 9, 1, tzinfo=UTC)
MODELS = (
    ("openai", "gpt-5.4"),
    ("anthropic", "claude-sonnet-5-5"),
    ("gcp.gemini", "gemini-2.5-pro"),
    ("deepseek", "deepseek-chat"),
    ("vllm", "nobody-knows"),
)


def calls() -> Iterator[LlmCallFinished]:
    draw = random.Random(7)
    for _ in range(400):
        provider, model = draw.choice(MODELS)
        read, written = int(10 ** draw.uniform(1, 5.6)), int(10 ** draw.uniform(0, 4))
        hit = int(read * draw.random()) if draw.random() < 0.5 else 0
        stored = int((read - hit) * draw.random()) if draw.random() < 0.3 else 0
        usage = Usage(
            input_tokens=read,
            output_tokens=written,
            cache_read_input_tokens=hit,
            cache_write_input_tokens=stored,
            cache_write_1h_input_tokens=stored // 3,
            reasoning_output_tokens=int(written * draw.random() * 1.02),
            input_audio_tokens=draw.choice((0, 0, 0, min(9, read - hit - stored))),
            billed=draw.choice(({}, {}, {}, {"web_search_requests": 2}, {"unheard_of": 1})),
        )
        yield LlmCallFinished(
            call_id=new_id(),
            provider=provider,
            request_model=model,
            response_model=draw.choice((model, "unheard-of")),
            service_tier=draw.choice((None, "batch", "priority")),
            content="",
            finish_reasons=("stop",),
            usage=usage,
            latency_ms=1,
            occurred_at=FIRST + timedelta(seconds=draw.randrange(40 * 86_400)),
        )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EventLog, list[Any]]]:
    with EventLog(tmp_path_factory.mktemp("reprice") / "log") as log:
        made = list(calls())
        log.append(made)
        log.fold()
        yield log, made


def elsewhere(
    call: LlmCallFinished, model: str | None, batch: bool, caching: Fraction | None
) -> Decimal | None:
    usage = call.usage.model_copy(update={"billed": {}})
    if caching is not None:
        read = int(usage.input_tokens * caching)
        usage = usage.model_copy(
            update={
                "cache_read_input_tokens": read,
                "cache_write_input_tokens": 0,
                "cache_write_1h_input_tokens": 0,
            }
        )
    provider, names = call.provider, [call.response_model, call.request_model]
    if model is not None:
        provider, _, name = model.partition("/")
        names = [name]
    tier = "batch" if batch else None
    return prices.cost(provider, names, usage, call.occurred_at, service_tier=tier).usd


@pytest.mark.parametrize("caching", [None, Fraction(9, 10)])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    "model", [None, "openai/gpt-6-sol", "anthropic/claude-haiku-5-5", "deepseek/deepseek-chat"]
)
def test_it_says_what_python_says(
    log: tuple[EventLog, list[Any]], model: str | None, batch: bool, caching: Fraction | None
) -> None:
    expected: dict[tuple[date, str, str], list[Any]] = {}
    for call in log[1]:
        now = prices.cost(
            call.provider,
            [call.response_model, call.request_model],
            call.usage,
            call.occurred_at,
            service_tier=call.service_tier,
        ).usd
        then = elsewhere(call, model, batch, caching)
        key = (call.occurred_at.date(), call.provider, call.request_model)
        row = expected.setdefault(key, [0, 0, 0, Decimal(0), Decimal(0), 0])
        row[0] += 1
        row[1] += call.usage.input_tokens
        row[2] += call.usage.output_tokens
        if now is None or then is None:
            row[5] += 1
        else:
            row[3] += now
            row[4] += then
    share = None if caching is None else float(caching)
    found = log[0].sql(
        "FROM reprice(model => $model, batch => $batch, caching => $caching)",
        {"model": model, "batch": batch, "caching": share},
    )
    assert {tuple(row[:3]): list(row[3:]) for row in found.rows()} == {
        key: [*row[:5], row[4] - row[3], row[5]] for key, row in expected.items()
    }
    assert any(row[4] for row in expected.values())


def test_a_period_and_a_relation_of_ones_own(log: tuple[EventLog, list[Any]]) -> None:
    question = """
        WITH mine AS (FROM call_costs WHERE provider = 'openai')
        SELECT min(day), max(day), sum(calls)::BIGINT, any_value(provider)
        FROM reprice('mine', model => 'anthropic/claude-haiku-5-5',
                     since => DATE '2026-09-11', until => DATE '2026-09-13')
    """
    days = [call.occurred_at.date() for call in log[1] if call.provider == "openai"]
    asked = [day for day in days if date(2026, 9, 11) <= day < date(2026, 9, 13)]
    assert log[0].sql(question).rows() == [(min(asked), max(asked), len(asked), "openai")]


def test_the_catalogue_reprices_too(log: tuple[EventLog, list[Any]]) -> None:
    ours = log[0].sql("SELECT sum(then_usd) FROM reprice(model => 'openai/gpt-6-sol')").rows()
    with duckdb.connect(str(log[0].folder.with_suffix(".duckdb")), read_only=True) as connection:
        query = "SELECT sum(then_usd) FROM reprice(model => 'openai/gpt-6-sol')"
        assert connection.sql(query).fetchall() == ours


def test_sums_of_costs_are_sums_of_what_each_call_costs(log: tuple[EventLog, list[Any]]) -> None:
    expected: dict[tuple[date, str, str], list[Any]] = {}
    for call in log[1]:
        usd = prices.cost(
            call.provider,
            [call.response_model, call.request_model],
            call.usage,
            call.occurred_at,
            service_tier=call.service_tier,
        ).usd
        key = (call.occurred_at.date(), call.provider, call.request_model)
        row = expected.setdefault(key, [0, Decimal(0), 0])
        row[0] += 1
        row[1] += usd or 0
        row[2] += usd is None
    query = "SELECT day, provider, request_model, calls, cost_usd, unpriced FROM costs_by_day"
    found = {tuple(row[:3]): list(row[3:]) for row in log[0].sql(query).rows()}
    # A sum is shown with twelve decimals; that of the parts is exact.
    assert found == {key: [n, round(usd, 12), lost] for key, (n, usd, lost) in expected.items()}
    assert sum(lost for *_, lost in expected.values()) > 50
    alone = "SELECT sum(repriced_usd) FROM call_costs"
    assert log[0].sql(alone).item() == sum(usd for _, usd, _ in expected.values())
