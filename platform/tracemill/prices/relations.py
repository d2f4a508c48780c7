"""The table of prices as relations, so that SQL finds the same price that Python finds.

`price_names` holds what names mean a model, one row per way of matching; `prices` what the model
costs, one row per unit; `price_units` what providers call the units that they bill.
"""
# pyarrow's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from tracemill.prices.rates import BILLED_AS
from tracemill.prices.table import SAME_AS, Model, Table, span

if TYPE_CHECKING:
    import pyarrow as pa

_Condition = tuple[str, str]


NAMES = ("price_names", "prices", "price_units")


@lru_cache(maxsize=4)
def relations(table: Table | None) -> "dict[str, pa.Table]":
    """Name to contents; without a table they are empty."""
    schemas = _schemas()
    if table is None:
        return {name: schema.empty_table() for name, schema in schemas.items()}
    models = [known.model for p in table.providers for known in table.known(p)]
    keys = {model: key for key, model in enumerate(dict.fromkeys(models))}
    rows = (_names(table, keys), _prices(table, keys), BILLED_AS.items())
    return {
        name: _relation(contents, schemas[name]) for name, contents in zip(NAMES, rows, strict=True)
    }


def _schemas() -> "dict[str, pa.Schema]":
    import pyarrow as pa

    names = {
        "provider": pa.string(),
        "rank": pa.int32(),
        "how": pa.string(),
        "text": pa.string(),
        "unless": pa.string(),
        "model_key": pa.int32(),
        "own": pa.bool_(),
    }
    prices = {
        "model_key": pa.int32(),
        "provider": pa.string(),
        "model": pa.string(),
        "service_tier": pa.string(),
        "effective_from": pa.timestamp("us"),
        "effective_until": pa.timestamp("us"),
        "from_second": pa.int32(),
        "until_second": pa.int32(),
        "tier_start": pa.int64(),
        "tier_end": pa.int64(),
        "unit": pa.string(),
        "usd_per_million": pa.decimal128(18, 12),
        "snapshot": pa.string(),
    }
    units = {"billed_as": pa.string(), "unit": pa.string()}
    return dict(zip(NAMES, map(pa.schema, (names, prices, units)), strict=True))


def _relation(rows: Any, schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    columns = list(zip(*rows, strict=True))
    arrays = [
        # From text in Arrow: the same through Python's own objects takes three times as long.
        pa.array(column).cast(kind) if pa.types.is_decimal(kind) else pa.array(column, kind)
        for column, kind in zip(columns, schema.types, strict=True)
    ]
    return pa.table(arrays, schema=schema)


def _names(table: Table, keys: Mapping[Model, int]) -> Iterator[tuple[Any, ...]]:
    further: dict[str, list[str]] = {}
    for other, provider in SAME_AS.items():
        further.setdefault(provider, []).append(other)
    for provider in table.providers:
        for rank, known in enumerate(table.known(provider)):
            key = keys[known.model]
            for how, text, unless in _alternatives(known.model):
                for name in (provider, *further.get(provider, ())):
                    yield name, rank, how, text, unless, key, known.own


def _alternatives(model: Model) -> Iterator[tuple[str, str, str | None]]:
    """The ways to match a name: how, which text, and a pattern that it must not hold."""
    for conditions in _cases(model.match):
        if len(conditions) == 1:
            yield *conditions[0], None
        else:
            [(how, text)] = [each for each in conditions if each[0] != "not_regex"]
            yield how, text, "|".join(text for how, text in conditions if how == "not_regex")


def _cases(clause: Mapping[str, Any]) -> list[list[_Condition]]:
    """A clause as a choice of cases, each of which is a list of conditions that hold together."""
    ((how, what),) = clause.items()
    if how == "or":
        return [case for each in what for case in _cases(each)]
    if how == "and":
        cases: list[list[_Condition]] = [[]]
        for each in what:
            cases = [[*one, *other] for one in cases for other in _cases(each)]
        return cases
    return [[(how, cast(str, what))]]


def _prices(table: Table, keys: Mapping[Model, int]) -> Iterator[tuple[Any, ...]]:
    for provider in table.providers:
        for known in table.known(provider):
            if known.own:
                for row in _model(known.model):
                    yield keys[known.model], provider, known.model.id, *row, table.snapshot


def _model(model: Model) -> Iterator[tuple[Any, ...]]:
    """A model without any price has a row for that, too: it is known."""
    thresholds: dict[tuple[Any, ...], list[int]] = {}
    spans = [span(entry) for entry in model.entries]
    for entry, over in zip(model.entries, spans, strict=True):
        thresholds.setdefault(over, []).append(entry.get("above", -1))
    for entry, over in zip(model.entries, spans, strict=True):
        above: int = entry.get("above", -1)
        end = min((t for t in thresholds[over] if t > above), default=2**63 - 1)
        for unit, usd in (entry["usd"] or {None: None}).items():
            yield (*over, above, end, unit, usd)
