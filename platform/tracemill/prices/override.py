"""Prices of your own: a TOML file whose entries go before the table's.

    [[price]]
    provider = "openai"             # as the log calls it
    model = "ft:gpt-6-luna:acme"    # or starts_with, ends_with, contains
    effective_from = 2026-11-01     # the first day, UTC; left out: always
    service_tier = "batch"          # left out: the standard tier
    above_input_tokens = 200_000    # for longer prompts only; left out: for all
    input = 0.2                     # US dollars for a million tokens
    output = 1.0
    source = "contract of October"  # left out, or any text

A model that the file names has the prices of the file alone. Further units are those of
`rates.UNITS`. A part without a price, such as `cache_read`, costs what the whole does.
"""

import tomllib
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Self, cast

from pydantic import Field, ValidationError, model_validator

from tracemill.errors import UsageError
from tracemill.messages import Value
from tracemill.prices.rates import PART_OF, UNITS

_Usd = Annotated[Decimal, Field(ge=0, lt=100_000, decimal_places=12)]
_Match = Annotated[str, Field(min_length=1)]


class _Entry(Value):
    provider: str
    model: _Match | None = None
    starts_with: _Match | None = None
    ends_with: _Match | None = None
    contains: _Match | None = None
    effective_from: date | None = None
    service_tier: str | None = None
    above_input_tokens: int = Field(default=-1, ge=-1)
    source: str | None = None
    usd: dict[str, _Usd]

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, fields: Any) -> Any:
        """Units stand beside the other fields."""
        if not isinstance(fields, dict):
            return fields
        given = cast(dict[str, Any], fields)
        rest = {name: value for name, value in given.items() if name not in UNITS}
        return rest | {"usd": {unit: given[unit] for unit in UNITS if unit in given}}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len(self.match) != 1:
            raise ValueError("name exactly one of model, starts_with, ends_with and contains")
        if not self.usd:
            raise ValueError(f"no unit has a price; units are {', '.join(UNITS)}")
        for unit, usd in self.usd.items():
            whole = PART_OF.get(unit)
            if unit in PART_OF and usd >= 10_000:
                raise ValueError(f"{unit}: {usd} US dollars for a million tokens is too much")
            if whole and whole not in self.usd:
                raise ValueError(f"{unit} is a part of {whole}, which needs a price too")
        if {"cache_read_audio"} & self.usd.keys() and "input_audio" not in self.usd:
            raise ValueError("cache_read_audio is a part of input_audio, which needs a price too")
        return self

    @property
    def match(self) -> dict[str, str]:
        how = {"equals": self.model, "starts_with": self.starts_with}
        how |= {"ends_with": self.ends_with, "contains": self.contains}
        return {name: text.lower() for name, text in how.items() if text is not None}


def read(text: str, where: str) -> dict[str, list[dict[str, Any]]]:
    """The models of such a file by provider, as `table.json` has them.

    Raises `UsageError` that names the file, the entry and the field.
    """
    try:
        found = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not TOML: {error}") from error
    listed = found.pop("price", [])
    if found or not isinstance(listed, list):
        raise UsageError(f"{where}: a price begins with [[price]], and nothing else is known")
    entries = [_entry(each, i, where) for i, each in enumerate(cast(list[Any], listed), 1)]
    models: dict[tuple[str, ...], list[_Entry]] = {}
    for entry in entries:
        models.setdefault((entry.provider, *next(iter(entry.match.items()))), []).append(entry)
    by_provider: dict[str, list[dict[str, Any]]] = {}
    for (provider, how, what), same in models.items():
        model = {"id": what, "match": {how: what}, "prices": _prices(same)}
        by_provider.setdefault(provider, []).append(model)
    return by_provider


def _entry(fields: Any, number: int, where: str) -> _Entry:
    try:
        return _Entry.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part != "usd")
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"{where}, price {number}: {f'{field}: ' if field else ''}{said}"
        ) from error


def _prices(entries: list[_Entry]) -> list[dict[str, Any]]:
    """Entries of one model: each holds until the next one of its tier begins.

    Where none holds, an entry without prices says so: every moment and every prompt has one.
    """
    prices: list[dict[str, Any]] = []
    for tier in dict.fromkeys((None, *(entry.service_tier for entry in entries))):
        mine = [entry for entry in entries if entry.service_tier == tier]
        days = sorted({date.min, *(entry.effective_from or date.min for entry in mine)})
        for since, until in pairwise((*days, None)):
            found = {e.above_input_tokens: e.usd for e in mine if (e.effective_from or date.min) == since}  # fmt: skip
            for above, usd in ({-1: {}} | found).items():
                fields = {
                    "tier": tier and tier.lower(),
                    "from": None if since == date.min else since and since.isoformat(),
                    "until": until and until.isoformat(),
                    "above": above if above >= 0 else None,
                }
                given = {name: value for name, value in fields.items() if value is not None}
                prices.append(given | {"usd": {unit: str(each) for unit, each in usd.items()}})
    return prices
