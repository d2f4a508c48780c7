"""What a call costs: dated prices, frozen into the package, in exact decimal dollars.

`cost` prices one call; the view `call_costs` prices a whole log by the same table. What is unknown
costs None, with the reason, and never nothing.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from tracemill.errors import UsageError
from tracemill.messages import Usage
from tracemill.prices.rates import amount
from tracemill.prices.table import Table, load

if TYPE_CHECKING:
    import polars as pl

__all__ = ["WELL_KNOWN", "Cost", "Table", "cost", "load", "what_if"]

WELL_KNOWN = (
    ("anthropic", "claude-opus-5-5"),
    ("anthropic", "claude-sonnet-5-5"),
    ("cohere", "command-a"),
    ("gcp.gemini", "gemini-3.8-flash"),
    ("openai", "gpt-5.4-mini"),
    ("openai", "gpt-6-sol"),
)
"""Models that most people have heard of, to compare a bill with."""


class Cost(NamedTuple):
    """What a call costs."""

    usd: Decimal | None
    """US dollars, exactly; None where it cannot be told."""
    reason: str | None
    """Why it cannot: `unknown model`, `no price for output`, `contradictory usage` ..."""
    snapshot: str
    """The price table."""


def cost(
    provider: str,
    model: str | Sequence[str],
    usage: Usage,
    when: datetime,
    *,
    service_tier: str | None = None,
    table: Table | None = None,
) -> Cost:
    """What a call costs.

    Args:
        provider: `gen_ai.provider.name`, such as `openai` or `gcp.gemini`.
        model: its name, or several to be tried in turn: the model that answered, then the one that
            was asked for. A list of names may hold empty ones.
        usage: its tokens.
        when: when it was made; aware.
        service_tier: `batch`, `flex`, `priority` ... as the provider told. A tier that the model
            has no prices for costs what the standard tier does.
        table: the prices; by default those of `load()`.

    Raises `UsageError` for a time without a zone.
    """
    if when.tzinfo is None:
        raise UsageError(f"{when} has no time zone: a price begins at midnight UTC")
    prices = table or load()
    names = (model,) if isinstance(model, str) else [name for name in model if name]
    rates = prices.rates(provider, names, service_tier, when.astimezone(UTC), usage.input_tokens)
    usd = rates if isinstance(rates, str) else amount(rates, usage)
    if isinstance(usd, str):
        return Cost(None, usd, prices.snapshot)
    return Cost(usd or Decimal(0), None, prices.snapshot)  # not 0E-9


def what_if(
    calls: "pl.DataFrame",
    models: Sequence[tuple[str, str]] = WELL_KNOWN,
    *,
    table: Table | None = None,
) -> "pl.DataFrame":
    """What these calls would have cost on other models, dearest first.

    Args:
        calls: rows of the view `calls`. Those that finished are priced, each as of its own time, at
            the standard tier and without a cache. Their token counts are those of the model that
            answered; another would count somewhat more or fewer.
        models: provider and model.

    Returns provider, request_model, calls, input_tokens, output_tokens, cost_usd (Decimal; None
    where a price that is needed is not known).
    """
    import polars as pl

    finished = calls.filter(pl.col("status") == "finished")
    minute = pl.col("ended_at").dt.truncate("1m").alias("minute")
    alike = finished.group_by(minute, "input_tokens", "output_tokens").len().rows()
    prices = table or load()
    rows = [_elsewhere(provider, model, alike, prices) for provider, model in models]
    columns = {
        "provider": pl.String,
        "request_model": pl.String,
        "calls": pl.Int64,
        "input_tokens": pl.Int64,
        "output_tokens": pl.Int64,
        "cost_usd": pl.Decimal(38, 12),
    }
    answer = pl.DataFrame(rows, schema=columns, orient="row")
    return answer.sort("cost_usd", descending=True, nulls_last=True)


def _elsewhere(
    provider: str, model: str, alike: Sequence[tuple[datetime, int, int, int]], prices: Table
) -> tuple[str, str, int, int, int, Decimal | None]:
    """What calls, counted by minute and tokens, would have cost on one model."""
    total: Decimal | None = Decimal(0)
    for when, read, written, calls in alike:
        usage = Usage(input_tokens=read or 0, output_tokens=written or 0)
        usd = cost(provider, model, usage, when, table=prices).usd
        total = None if usd is None or total is None else total + usd * calls
    return (
        provider,
        model,
        sum(calls for *_, calls in alike),
        sum((read or 0) * calls for _, read, _, calls in alike),
        sum((written or 0) * calls for _, _, written, calls in alike),
        total,
    )
