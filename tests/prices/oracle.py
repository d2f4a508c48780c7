"""genai-prices, which the table is frozen from, asked the way `tracemill.prices` is."""

import importlib.util
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from genai_prices.data import providers
from genai_prices.types import ModelInfo

from tracemill.messages import Usage

BUILT_FROM, INSTALLED = "0.2.3", version("genai-prices")


def _build() -> ModuleType:
    path = Path(__file__).parents[2] / "docs" / "price_table.py"
    spec = importlib.util.spec_from_file_location("price_table", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = _build()
THEIR_NAMES = {ours: theirs for theirs, ours in build.OUR_NAMES.items()}
CONTEXTS = {
    (build.OUR_NAMES.get(provider.id, provider.id), tier): {key: tier}
    for provider in providers
    for model in provider.models
    for variant in model.price_variants or ()
    for key, tier in variant.when.items()
}
"""Provider and service tier to what genai-prices wants to be told."""
MODELS: list[tuple[str, ModelInfo]] = [
    (build.OUR_NAMES.get(provider.id, provider.id), model)
    for provider in providers
    for model in provider.models
]


def named_by(model: ModelInfo) -> list[str]:
    """Names that a model may be called by: one from each way in which it is matched."""

    def names(clause: Any) -> Iterator[str]:
        ((how, what),) = vars(clause).items()
        if isinstance(what, list):
            for each in what:
                yield from names(each)
        elif how in ("equals", "starts_with", "ends_with", "contains"):
            yield what
            if how != "equals":
                yield {"starts_with": f"{what}-x", "ends_with": f"x-{what}"}.get(how, f"x-{what}-x")

    return list(names(model.match)) or [model.id]


def their_usage(usage: Usage) -> TheirUsage:
    """Every count is given, as ours always are."""
    beside = {
        name: int(usage.billed.get(name, 0)) for name in ("citation_tokens", "reasoning_tokens")
    }
    return TheirUsage(
        input_tokens=int(usage.billed.get("input_tokens", usage.input_tokens)),
        output_tokens=int(usage.billed.get("output_tokens", usage.output_tokens))
        + sum(beside.values()),
        cache_read_tokens=usage.cache_read_input_tokens,
        cache_write_tokens=usage.cache_write_input_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_input_tokens,
        output_reasoning_tokens=usage.reasoning_output_tokens + beside["reasoning_tokens"],
        output_citation_tokens=beside["citation_tokens"],
        input_audio_tokens=usage.input_audio_tokens,
        cache_audio_read_tokens=usage.cache_read_audio_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        web_searches=int(usage.billed.get("web_search_requests", 0)),
    )


def their_cost(
    provider: str, model: str, usage: Usage, when: datetime, tier: str | None = None
) -> Decimal | None:
    """What genai-prices says; None where it raises: an unknown model, contradictory counts."""
    try:
        return calc_price(
            their_usage(usage),
            model,
            provider_id=THEIR_NAMES.get(provider, provider),
            genai_request_timestamp=when,
            price_context=CONTEXTS.get((provider, tier or "")),
        ).total_price
    except (LookupError, ValueError):
        return None
