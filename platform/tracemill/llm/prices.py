"""What a call costs: dated prices in decimal dollars, and what the same calls would cost elsewhere.

`prices.toml` is the only list of prices. Money is `Decimal` from the file to the event, so that a
sum over a million calls is exact.
"""

import tomllib
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tracemill.errors import UsageError
from tracemill.messages import Usage, Value

if TYPE_CHECKING:
    import polars as pl

_MILLION = Decimal(1_000_000)
_SUMS = ("calls", "input_tokens", "output_tokens")


class Price(Value):
    """What a model costs from a day on, in US dollars for a million tokens of each kind."""

    provider: str
    model: str
    effective_from: date
    """The first day, in UTC."""
    input: Decimal
    """Tokens read, neither from nor to a cache."""
    output: Decimal
    """Tokens written."""
    cache_read_input: Decimal | None = None
    """Tokens read from the provider's cache; None where no price is known."""
    cache_write_input: Decimal | None = None
    """Tokens written to the provider's cache; None where no price is known."""
    source: str
    """Where the figures come from."""
    checked_on: date
    """When they were last compared with the source."""


@cache
def all_prices() -> tuple[Price, ...]:
    """Every price, by provider, model and day."""
    text = files("tracemill.llm").joinpath("prices.toml").read_text(encoding="utf-8")
    read = tomllib.loads(text, parse_float=Decimal)["price"]
    prices = (Price.model_validate(fields) for fields in read)
    return tuple(sorted(prices, key=lambda p: (p.provider, p.model, p.effective_from)))


def price(provider: str, model: str, when: datetime) -> Price | None:
    """The price in force at a time (aware); None where none is known."""
    if when.tzinfo is None:
        raise UsageError(f"{when} has no time zone: a price begins at midnight UTC")
    return _price_on(when.astimezone(UTC).date(), provider, model)


def cost(provider: str, model: str, usage: Usage, when: datetime) -> Decimal | None:
    """What a call costs in US dollars, exactly; None where a price that it needs is not known."""
    known = price(provider, model, when)
    return None if known is None else _cost(known, usage)


def what_if(calls: "pl.DataFrame") -> "pl.DataFrame":
    """What these calls would have cost on each model with a known price, dearest first.

    Args:
        calls: rows of the view `calls`. Those that finished are priced, each as of its own day
            and without a cache. Their token counts are those of the model that answered; another
            would count somewhat more or fewer.

    Returns provider, request_model, calls, input_tokens, output_tokens, cost_usd (Decimal).
    """
    import polars as pl

    finished = calls.filter(pl.col("status") == "finished").with_columns(
        pl.col("ended_at").dt.convert_time_zone("UTC").dt.date().alias("day")
    )
    by_day = finished.group_by("day").agg(
        pl.len().alias("calls"),
        pl.col("input_tokens", "output_tokens").sum(),
    )
    days: list[dict[str, Any]] = by_day.to_dicts()
    models = dict.fromkeys((p.provider, p.model) for p in all_prices())
    columns = {
        "provider": pl.String,
        "request_model": pl.String,
        "calls": pl.Int64,
        "input_tokens": pl.Int64,
        "output_tokens": pl.Int64,
        "cost_usd": pl.Decimal(38, 9),
    }
    table = pl.DataFrame([_elsewhere(*model, days) for model in models], schema=columns)
    return table.sort("cost_usd", descending=True, nulls_last=True)


def _elsewhere(provider: str, model: str, days: list[dict[str, Any]]) -> dict[str, Any]:
    """What calls, added up by day, would have cost on one model."""
    total: Decimal | None = Decimal(0)
    for day in days:
        known = _price_on(day["day"], provider, model)
        usage = Usage(input_tokens=day["input_tokens"], output_tokens=day["output_tokens"])
        cost = _cost(known, usage) if known else None
        total = None if cost is None or total is None else total + cost
    sums = {name: sum(day[name] for day in days) for name in _SUMS}
    return {"provider": provider, "request_model": model, **sums, "cost_usd": total}


def _price_on(day: date, provider: str, model: str) -> Price | None:
    begun = [
        known
        for known in all_prices()
        if (known.provider, known.model) == (provider, model) and known.effective_from <= day
    ]
    return begun[-1] if begun else None


def _cost(price: Price, usage: Usage) -> Decimal | None:
    cached, written = usage.cache_read_input_tokens, usage.cache_write_input_tokens
    parts = (
        (price.input, usage.input_tokens - cached - written),
        (price.output, usage.output_tokens),
        (price.cache_read_input, cached),
        (price.cache_write_input, written),
    )
    total = Decimal(0)
    for unit_price, units in parts:
        if units and unit_price is None:
            return None
        total += (unit_price or 0) * units
    return total / _MILLION
