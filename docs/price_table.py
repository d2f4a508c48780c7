"""Freeze the prices of the installed genai-prices into the package: `make prices`.

What holds when is asked of genai-prices itself, at a moment within each span between two changes,
so that its rules about dates, times of day and service tiers are not written a second time.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from genai_prices import types
from genai_prices.data import providers

TARGET = Path(__file__).parents[1] / "platform" / "tracemill" / "prices" / "table.json"

OUR_NAMES = {
    "google": "gcp.gemini",
    "azure": "azure.ai.openai",
    "aws": "aws.bedrock",
    "mistral": "mistral_ai",
    "x-ai": "x_ai",
    "moonshotai": "moonshot_ai",
}
"""Their names of providers to OpenTelemetry's; the others are the same."""

TOKENS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "input_audio",
    "cache_audio_read_mtok": "cache_read_audio",
    "output_audio_mtok": "output_audio",
    "output_citation_mtok": "citation",
}
THOUSANDS = {
    "web_searches_kcount": "web_searches",
    "social_searches_kcount": "social_searches",
    "storage_searches_kcount": "storage_searches",
    "code_executions_kcount": "code_executions",
    "rerank_searches_kcount": "rerank_searches",
    "requests_kcount": "requests",
}
"""Their units to ours. Others (images, seconds, pages, characters) are in no usage of ours."""

_DAY = timedelta(days=1)
_FIRST, _LAST = date(1970, 1, 1), date(2200, 1, 1)
_PLACES = Decimal(1).scaleb(-12)
_NOT_SO = ("^(?!.*", ")")  # the one form of look-ahead that they use; RE2 has none

Span = tuple[str | None, str | None, tuple[str, str] | None, types.ModelPrice]
"""From a day, until a day, between two times of day, these prices."""


def main() -> None:
    """Write the table, unless it would say the same."""
    known = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.exists() else {}
    table = build()
    if known.get("snapshot") == table["snapshot"]:
        print(f"{TARGET.name} is up to date: {table['snapshot']}")
        return
    TARGET.write_text(as_text(table), encoding="utf-8")
    print(f"wrote {TARGET.name}: {table['snapshot']}, {TARGET.stat().st_size:,} bytes")


def build() -> dict[str, Any]:
    """The table from what is installed."""
    source = f"genai-prices {version('genai-prices')}"
    frozen = {_name(provider.id): _provider(provider) for provider in providers}
    digest = hashlib.sha256(json.dumps(frozen, sort_keys=True).encode()).hexdigest()[:12]
    return {
        "snapshot": f"{source}, {digest}",
        "source": source,
        "licence": "MIT, see LICENSE-genai-prices",
        "written_on": f"{datetime.now(UTC):%Y-%m-%d}",
        "providers": frozen,
    }


def as_text(table: dict[str, Any]) -> str:
    """JSON with one line per model, so that a new price is a line in a diff."""
    head = json.dumps({k: v for k, v in table.items() if k != "providers"}, indent=1)[:-2]
    blocks = [
        f'"{name}": {{"fallback": {_line(provider["fallback"])}, "models": [\n'
        + ",\n".join(map(_line, provider["models"]))
        + "\n]}"
        for name, provider in table["providers"].items()
    ]
    return head + ',\n "providers": {\n' + ",\n".join(blocks) + "\n}}\n"


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _name(provider: str) -> str:
    return OUR_NAMES.get(provider, provider)


def _provider(provider: types.Provider) -> dict[str, Any]:
    return {
        "fallback": [_name(other) for other in provider.fallback_model_providers or ()],
        "models": [
            {"id": model.id, "match": _match(model.match), "prices": list(_prices(model))}
            for model in provider.models
        ],
    }


def _match(clause: Any) -> dict[str, Any]:
    """Their clause as JSON; texts in lower case, since it is names in lower case that are matched."""
    ((key, value),) = vars(clause).items()
    if key in ("or_", "and_"):
        return {key.rstrip("_"): [_match(each) for each in value]}
    if key != "regex":
        return {key: value.lower()}
    if value.startswith(_NOT_SO[0]) and value.endswith(_NOT_SO[1]):
        return {
            "not_regex": value[len(_NOT_SO[0]) : -len(_NOT_SO[1])].replace("[tT][tT][sS]", "tts")
        }
    if "(?" in value:
        raise SystemExit(f"RE2 cannot say {value!r}: teach docs/price_table.py how to")
    return {"regex": value}


def _prices(model: types.ModelInfo) -> Iterator[dict[str, Any]]:
    """Every price of a model: the standard tier, and the tiers that ever differ from it."""
    standard = _spans(model, {})
    variants = {v: k for variant in model.price_variants or () for k, v in variant.when.items()}
    if any(len(variant.when) > 1 for variant in model.price_variants or ()):
        raise SystemExit(f"{model.id} has a price for two conditions at once: it needs a place")
    for tier, key in {"standard": "", **variants}.items():
        spans = _spans(model, {key: tier} if key else {})
        if key and spans == standard:
            continue
        for since, until, hours, prices in spans:
            for above, usd in _brackets(model, prices):
                entry = {"tier": tier if key else None, "from": since, "until": until}
                entry |= {"hours": hours, "above": above, "usd": usd}
                yield {name: value for name, value in entry.items() if value or name == "usd"}


def _spans(model: types.ModelInfo, context: dict[str, str]) -> list[Span]:
    """Spans that do not overlap and leave no gap, in their order."""
    limits = [
        entry.constraint
        for entry in (
            *(model.prices if isinstance(model.prices, list) else ()),
            *(model.price_variants or ()),
        )
    ]
    days = sorted({c.start_date for c in limits if isinstance(c, types.StartDateConstraint)})
    clocks = sorted(
        {
            _second(moment)
            for c in limits
            if isinstance(c, types.TimeOfDateConstraint)
            for moment in (c.start_time, c.end_time)
        }
        - {0}
    )
    spans: list[Span] = []
    for since, until in pairwise((_FIRST, *days, _LAST)):
        hours = [
            (start, end, model.get_prices(_moment(since, start), context))
            for start, end in pairwise((0, *clocks, 86_400))
        ]
        for start, end, prices in _joined(hours):
            whole = (start, end) == (0, 86_400)
            spans.append((_iso(since), _iso(until), None if whole else (_clock(start), _clock(end)), prices))  # fmt: skip
    return _merged(spans)


def _joined(hours: Iterable[tuple[int, int, types.ModelPrice]]) -> list[Any]:
    """Neighbouring hours with the same prices as one."""
    joined: list[Any] = []
    for start, end, prices in hours:
        if joined and joined[-1][2] == prices:
            joined[-1] = (joined[-1][0], end, prices)
        else:
            joined.append((start, end, prices))
    return joined


def _merged(spans: list[Span]) -> list[Span]:
    """Whole days next to each other with the same prices as one."""
    merged: list[Span] = []
    for since, until, hours, prices in spans:
        if merged and hours is None and merged[-1][2:] == (None, prices):
            merged[-1] = (merged[-1][0], until, None, prices)
        else:
            merged.append((since, until, hours, prices))
    return merged


def _brackets(model: types.ModelInfo, prices: types.ModelPrice) -> Iterator[tuple[int, dict[str, str]]]:  # fmt: skip
    """For each threshold of the prompt's length, the price of every unit above it."""
    known = {key: value for key, value in vars(prices).items() if value is not None}
    if not known and model.id.endswith(":free"):  # free by its name, not for want of a price
        known = {"input_mtok": Decimal(0), "output_mtok": Decimal(0)}
    tiered = [price for price in known.values() if isinstance(price, types.TieredPrices)]
    for above in sorted({0, *(tier.start for price in tiered for tier in price.tiers)}):
        yield (
            above,
            {
                **{ours: _text(known[key], above) for key, ours in TOKENS.items() if key in known},
                **{
                    ours: _text(known[key], above, 1_000)
                    for key, ours in THOUSANDS.items()
                    if key in known
                },
            },
        )


def _text(price: Decimal | types.TieredPrices, above: int, times: int = 1) -> str:
    if isinstance(price, types.TieredPrices):
        starts = [tier for tier in price.tiers if tier.start <= above and above]
        price = starts[-1].price if starts else price.base
    # Some of theirs come from floats: 0.18000000000000002.
    return f"{(price * times).quantize(_PLACES).normalize():f}"


def _second(moment: time) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    utc = datetime.combine(_FIRST, moment).astimezone(UTC).time()
    return utc.hour * 3600 + utc.minute * 60 + utc.second


def _clock(second: int) -> str:
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def _moment(day: date, second: int) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(seconds=second)


def _iso(day: date) -> str | None:
    return None if day in (_FIRST, _LAST) else day.isoformat()


if __name__ == "__main__":
    main()
