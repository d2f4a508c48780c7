"""Checks of every table against what it was the last time that it was made: rows, columns, shares.

The warehouse's records say what that was; a table that was made once passes, and says so.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from assets.checks.of_calls import result
from assets.checks.verdicts import Verdict, nothing_yet
from assets.warehouse import Warehouse

COUNTED = [
    *("sources/raw_records", "corpus/clean_records", "corpus/training_splits"),
    *("retrieval/documents", "retrieval/chunks", "log/calls"),
]
TABLES = [
    "sources/installed_records",
    *(f"corpus/{name}_records" for name in ("protected", "fitting", "unique", "distinct")),
    *("corpus/decontaminated_records", "corpus/quarantine", "retrieval/embeddings", "log/costs"),
    *COUNTED,
]
SIFTED = [
    *("corpus/clean_records", "corpus/fitting_records", "corpus/unique_records"),
    *("corpus/distinct_records", "corpus/decontaminated_records"),
]
LOST = 0.5
"""A table that keeps less than this share of its rows warns."""
MORE_DROPPED = 0.1
"""A step that drops so much more of its records than before warns."""


def row_count(name: str, rows: Sequence[int]) -> Verdict:
    """Whether a table lost more than half of its rows; `rows` of each time, the newest last."""
    if len(rows) < 2:
        return nothing_yet(f"{name} was made once")
    before, now = rows[-2], rows[-1]
    kept = now / before if before else 1.0
    return Verdict(
        kept >= LOST,
        f"{before:,} -> {now:,} rows",
        figures={"rows_before": before, "rows": now, "kept_share": kept},
    )


def schema(name: str, before: Mapping[str, str], now: Mapping[str, str]) -> Verdict:
    """Whether columns came, went or changed their type; both are name -> type."""
    if not now:
        return nothing_yet(f"{name} has no table yet")
    if not before:
        return nothing_yet(f"{name} was made once; {len(now)} columns")
    came, gone = [c for c in now if c not in before], [c for c in before if c not in now]
    other = [f"{c}: {before[c]} -> {now[c]}" for c in now if c in before and before[c] != now[c]]
    told = [
        f"{what} {', '.join(columns)}"
        for what, columns in (("new:", came), ("gone:", gone), ("other type:", other))
        if columns
    ]
    return Verdict(
        not told, "; ".join(told) or f"{len(now)} columns, as before", figures={"columns": len(now)}
    )


def dropped_share(shares: Sequence[float]) -> Verdict:
    """Whether a step drops more of its records than the last times; `shares`, the newest last."""
    from statistics import median

    if len(shares) < 2:
        return nothing_yet("this step was made once")
    usual, now = median(shares[:-1]), shares[-1]
    return Verdict(
        now - usual <= MORE_DROPPED,
        f"{now:.1%} dropped, usually {usual:.1%}",
        figures={"dropped_share": now, "usual_share": usual},
    )


def _rows(warehouse: Warehouse, key: dg.AssetKey) -> Verdict:
    """The table has not lost more than half of its rows since it was last made."""
    history = warehouse.history(key)
    return row_count(key.path[-1], [each["rows"] for each in history if each["rows"] is not None])


def _schema(warehouse: Warehouse, key: dg.AssetKey) -> Verdict:
    """The columns on disk, and their types, are those of the last time."""
    history = warehouse.history(key)
    before: Mapping[str, str] = history[-2:][0]["columns"] if history else {}
    return schema(key.path[-1], before, warehouse.columns(key))


def _dropped(warehouse: Warehouse, key: dg.AssetKey) -> Verdict:
    """The step drops no more of its records than the last times."""
    history: list[dict[str, Any]] = warehouse.history(key)
    counts = [
        (each["rows"], each["dropped"]) for each in history if each.get("dropped") is not None
    ]
    return dropped_share([dropped / (rows + dropped) for rows, dropped in counts if rows + dropped])


JUDGES = {"row_counts": _rows, "schema": _schema, "dropped_share": _dropped}
_OF = {"row_counts": COUNTED, "schema": TABLES, "dropped_share": SIFTED}


def _checks(name: str, groups: Collection[str]) -> dg.AssetChecksDefinition:
    """The checks of these groups' tables, as one step: a step for each takes longer than they do."""
    specs = [
        dg.AssetCheckSpec(kind, asset=asset.split("/"), description=judge.__doc__)
        for kind, judge in JUDGES.items()
        for asset in _OF[kind]
        if asset.split("/")[0] in groups
    ]

    @dg.multi_asset_check(name=name, specs=specs, can_subset=True)
    def check(
        context: dg.AssetCheckExecutionContext, warehouse: Warehouse
    ) -> Iterator[dg.AssetCheckResult]:
        for key in sorted(context.selected_asset_check_keys):
            verdict = JUDGES[key.name](warehouse, key.asset_key)
            yield result(verdict)._replace(asset_key=key.asset_key, check_name=key.name)

    return check


TABLE_CHECKS = [
    _checks("tables_of_records", {"sources", "corpus"}),
    _checks("tables_of_documents", {"retrieval"}),
    _checks("tables_of_the_log", {"log"}),
]
