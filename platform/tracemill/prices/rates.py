"""From prices to a cost: whole numbers, and one multiplication for each count of a usage.

A cached token is an input token with another price, so each count is multiplied with what its price
adds to the price of the count that it is a part of. A part without a price costs what the whole does.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from tracemill.messages import Usage

ATTO = 18
"""Costs are counted in 10^-18 dollars: twelve decimals of a price for a million tokens."""

PART_OF = {
    "input": None,
    "output": None,
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "reasoning": "output",
    "input_audio": "input",
    "cache_read_audio": "cache_read",
    "output_audio": "output",
    "citation": "output",
}
"""The units that are tokens, each with the unit that it is counted within."""

SEARCHES = ("web_searches", "social_searches", "storage_searches", "code_executions", "rerank_searches")  # fmt: skip
PER_CALL = "requests"
UNITS = (*PART_OF, *SEARCHES, PER_CALL)
"""Everything that can have a price."""

COUNTED = (*SEARCHES, "citation_tokens", "reasoning_tokens")
"""What `Usage.billed` may count: searches, and tokens that are billed beside `output_tokens`. The
tokens cost what `citation` and `reasoning` do, or `output` where these have no price."""

INSTEAD = ("input_tokens", "output_tokens")
"""Where `Usage.billed` has these, they are what is paid for: Cohere reads more than it bills."""

BILLED_AS = {
    "search_units": "rerank_searches",
    "web_search_requests": "web_searches",
    "num_search_queries": "web_searches",
    "code_execution_requests": "code_executions",
    "web_fetch_requests": None,
}
"""The providers' names for what they bill to ours; None for what costs nothing by itself."""

NO_MODEL = "unknown model"
NO_PRICE = "no price for "
CONTRADICTORY = "contradictory usage"
IMPLAUSIBLE = "implausible usage"
_MOST_TOKENS, _MOST_BILLED = 10**11, 10**9  # beyond them a cost may pass what the log can hold


class Rates(NamedTuple):
    """What each count adds to a cost, in 10^-18 dollars apiece; zero where it has no price."""

    priced: frozenset[str]
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    reasoning: int
    input_audio: int
    cache_read_audio: int
    output_audio: int
    per_call: int
    counted: Mapping[str, int]
    has_read: int
    """1 where cache reads have a price of their own; so on for the others."""
    has_write: int
    has_write_1h: int
    has_input_audio: int
    has_read_audio: int
    has_reasoning: int
    has_output_audio: int


def rates(usd_per_million: Mapping[str, Decimal]) -> Rates:
    """From the prices of units in US dollars for a million."""
    price = {unit: int(usd.scaleb(ATTO - 6)) for unit, usd in usd_per_million.items()}

    def added(unit: str) -> int:
        whole = PART_OF[unit]
        return price[unit] - (price[whole] if whole else 0) if unit in price else 0

    def has(unit: str) -> int:
        return int(unit in price)

    return Rates(
        priced=frozenset(price),
        input=added("input"),
        output=added("output"),
        cache_read=added("cache_read"),
        cache_write=added("cache_write"),
        cache_write_1h=added("cache_write_1h"),
        reasoning=added("reasoning"),
        input_audio=added("input_audio"),
        # A part of two: what it adds to the one is taken off, or it would count twice.
        cache_read_audio=has("cache_read_audio")
        * (added("cache_read_audio") - added("input_audio")),
        output_audio=added("output_audio"),
        per_call=price.get(PER_CALL, 0),
        counted=_counted(price),
        has_read=has("cache_read"),
        has_write=has("cache_write"),
        has_write_1h=has("cache_write_1h"),
        has_input_audio=has("input_audio"),
        has_read_audio=has("cache_read_audio"),
        has_reasoning=has("reasoning"),
        has_output_audio=has("output_audio"),
    )


def _counted(price: Mapping[str, int]) -> dict[str, int]:
    apart = {
        f"{unit}_tokens": price.get(unit, price["output"])
        for unit in ("citation", "reasoning")
        if "output" in price
    }
    return {unit: price[unit] for unit in SEARCHES if unit in price} | apart


def amount(r: Rates, usage: Usage) -> Decimal | str:
    """What a usage costs in US dollars, exactly; in words why not, where that cannot be told."""
    read, written, billed = usage.input_tokens, usage.output_tokens, {}
    if usage.billed:
        billed = _billed(usage)
        read, written = (
            int(billed.pop(name, count))
            for name, count in zip(INSTEAD, (read, written), strict=True)
        )
    why = _no_price(r, read, written, billed) or _contradiction(r, usage, read, written)
    if why:
        return why
    if read + written > _MOST_TOKENS or any(count > _MOST_BILLED for count in billed.values()):
        return IMPLAUSIBLE
    total = (
        read * r.input
        + written * r.output
        + usage.cache_read_input_tokens * r.cache_read
        + usage.cache_write_input_tokens * r.cache_write
        + usage.cache_write_1h_input_tokens * r.cache_write_1h
        + usage.reasoning_output_tokens * r.reasoning
        + usage.input_audio_tokens * r.input_audio
        + usage.cache_read_audio_tokens * r.cache_read_audio
        + usage.output_audio_tokens * r.output_audio
        + r.per_call
        + sum(int(count * r.counted[unit]) for unit, count in billed.items())
    )
    return _dollars(total)


def _billed(usage: Usage) -> dict[str, Decimal]:
    """How often each unit was billed; what has a name that is not known keeps it."""
    counts: dict[str, Decimal] = {}
    for name, count in usage.billed.items():
        unit = BILLED_AS.get(name, name)
        if unit and count:
            counts[unit] = counts.get(unit, Decimal(0)) + round(Decimal(repr(count)), 6)
    return counts


def _no_price(r: Rates, read: int, written: int, billed: Mapping[str, Decimal]) -> str | None:
    if "input" not in r.priced and (read or not r.priced):
        return NO_PRICE + "input"
    if written and "output" not in r.priced:
        return NO_PRICE + "output"
    missing = [unit for unit in billed if unit not in r.counted]
    # Units without a known name first, then in their order: as the view `call_costs` tells it.
    unknown = sorted(unit for unit in missing if unit not in COUNTED)
    for unit in (*unknown, *COUNTED):
        if unit in missing:
            return NO_PRICE + unit
    return None


def _contradiction(r: Rates, usage: Usage, read: int, written: int) -> str | None:
    """Whether parts that have prices are more than their whole."""
    read_audio = usage.cache_read_audio_tokens * r.has_read_audio
    hit = usage.cache_read_input_tokens * r.has_read
    stored = usage.cache_write_input_tokens * r.has_write
    audio = usage.input_audio_tokens * r.has_input_audio
    spoken = usage.output_audio_tokens * r.has_output_audio
    if (
        read_audio > hit
        or read_audio > audio
        or usage.cache_write_1h_input_tokens * r.has_write_1h > stored
        or hit + stored + audio - read_audio > read
        or usage.reasoning_output_tokens * r.has_reasoning + spoken > written
    ):
        return CONTRADICTORY
    return None


def _dollars(attos: int) -> Decimal:
    """With nine decimals where they are enough: the log shows nano-dollars."""
    for places in (9, 12):
        less, rest = divmod(attos, 10 ** (ATTO - places))
        if not rest:
            return Decimal(less).scaleb(-places)
    return Decimal(attos).scaleb(-ATTO)
